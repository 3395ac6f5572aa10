package objecttest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/memstore"
)

func (m *mutant) FindCall(ctx context.Context, ref object.Ref, id string) (object.CallRecord, error) {
	if m.findCall != nil {
		return m.findCall(ctx, ref, id)
	}
	return m.Store.FindCall(ctx, ref, id)
}

func (m *mutant) RecentCalls(ctx context.Context, ref object.Ref, limit int) ([]string, bool, error) {
	if m.recentCalls != nil {
		return m.recentCalls(ctx, ref, limit)
	}
	return m.Store.RecentCalls(ctx, ref, limit)
}

func (m *mutant) PendingEffects(ctx context.Context, shard int, after object.EffectKey, limit int) ([]object.PendingEffect, error) {
	if m.pending != nil {
		return m.pending(ctx, shard, after, limit)
	}
	return m.Store.PendingEffects(ctx, shard, after, limit)
}

func (m *mutant) EndEffects(ctx context.Context, f object.Fence, keys []object.EffectKey) (bool, error) {
	if m.endEffects != nil {
		return m.endEffects(ctx, f, keys)
	}
	return m.Store.EndEffects(ctx, f, keys)
}

func (m *mutant) CollectCalls(ctx context.Context, f object.Fence) (int, error) {
	if m.collectCalls != nil {
		return m.collectCalls(ctx, f)
	}
	return m.Store.CollectCalls(ctx, f)
}

func (m *mutant) List(ctx context.Context, typ, after string, limit int) ([]object.Listed, error) {
	if m.list != nil {
		return m.list(ctx, typ, after, limit)
	}
	return m.Store.List(ctx, typ, after, limit)
}

func (m *mutant) Confirm(ctx context.Context, owner string, fences []object.Fence) ([]object.Fence, error) {
	if m.confirm != nil {
		return m.confirm(ctx, owner, fences)
	}
	return m.Store.Confirm(ctx, owner, fences)
}

func (m *mutant) BindCluster(ctx context.Context, cluster string) (string, error) {
	if m.bind != nil {
		return m.bind(ctx, cluster)
	}
	return m.Store.BindCluster(ctx, cluster)
}

// CommitWith gives the hook a transaction that understands the kit's own SQL.
func (m *mutant) CommitWith(ctx context.Context, owner string, s object.Save, f hook) (object.Verdict, error) {
	if m.commitWith != nil {
		return m.commitWith(ctx, owner, s, f)
	}
	return m.Store.CommitWith(ctx, owner, s, m.table.hook(f))
}

// table stands for kit_rows.
type table struct {
	mu     sync.Mutex
	rows   map[string]int64
	atOnce bool // a mutant: nothing is undone
	open   bool // a mutant: transactions do not end with their hooks
}

func (t *table) hook(f hook) hook {
	return func(ctx context.Context, tx object.Tx) error {
		mine := &tableTx{table: t, tx: tx}
		defer func() { mine.over = true }()
		return f(ctx, mine)
	}
}

type tableTx struct {
	*table
	tx   object.Tx
	over bool
}

var quoted = regexp.MustCompile(`'([^']*)'(?:, (\d+)\))?`)

func (t *tableTx) Exec(_ context.Context, sql string, _ ...any) (n int64, err error) {
	switch {
	case t.over && !t.open:
		return 0, errors.New("the transaction is over")
	case strings.HasPrefix(sql, "CREATE"), strings.HasPrefix(sql, "DELETE"):
		return 0, nil
	case !strings.HasPrefix(sql, "INSERT"):
		return 0, errors.New("no SQL")
	}
	values := quoted.FindAllStringSubmatch(sql, -1)
	write := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.rows == nil {
			t.rows = map[string]int64{}
		}
		for _, v := range values {
			t.rows[v[1]] += int64(v[2][0] - '0')
		}
	}
	if t.atOnce || len(values) > 1 { // the kit reads the two in the same transaction
		write()
	} else {
		memstore.Then(t.tx, write)
	}
	return int64(len(values)), nil
}

func (t *tableTx) Query(_ context.Context, f func([]any) error, sql string, _ ...any) error {
	if t.over && !t.open {
		return errors.New("the transaction is over")
	}
	for _, v := range quoted.FindAllStringSubmatch(sql, -1) {
		t.mu.Lock()
		n, ok := t.rows[v[1]]
		t.mu.Unlock()
		row := []any{v[1], n}
		if strings.HasPrefix(sql, "SELECT n") {
			row = row[1:]
		}
		if !ok {
			continue
		}
		if err := f(row); err != nil {
			return err
		}
	}
	return nil
}

// keepsApart makes a mutant that keeps records beside the commit: keep says whether,
// going by the verdict.
func (m *mutant) keepsApart(keep func(v object.Verdict) bool) {
	kept := map[string]object.CallRecord{}
	m.eachSave(func(ctx context.Context, owner string, s object.Save) object.Verdict {
		v := m.one(ctx, owner, s)
		for _, c := range s.Calls {
			if keep(v) {
				c.Version = v.Version
				kept[s.Ref.String()+c.ID] = c
			}
		}
		return v
	})
	m.findCall = func(ctx context.Context, ref object.Ref, id string) (object.CallRecord, error) {
		if c, ok := kept[ref.String()+id]; ok {
			return c, nil
		}
		return m.Store.FindCall(ctx, ref, id)
	}
}

// found changes what FindCall returns.
func (m *mutant) found(change func(*object.CallRecord)) {
	m.findCall = func(ctx context.Context, ref object.Ref, id string) (object.CallRecord, error) {
		c, err := m.Store.FindCall(ctx, ref, id)
		if err == nil {
			change(&c)
		}
		return c, err
	}
}

// effects changes what PendingEffects returns.
func (m *mutant) effects(change func(list []object.PendingEffect, limit int) []object.PendingEffect) {
	m.pending = func(ctx context.Context, shard int, after object.EffectKey, limit int) ([]object.PendingEffect, error) {
		list, err := m.Store.PendingEffects(ctx, shard, after, limit)
		return change(list, limit), err
	}
}

// saves changes each save on its way in.
func (m *mutant) saves(change func(*object.Save)) {
	m.eachSave(func(ctx context.Context, owner string, s object.Save) object.Verdict {
		change(&s)
		return m.one(ctx, owner, s)
	})
}

// recordMutants break what is kept beside the state.
var recordMutants = []brokenStore{
	{"Records", "keeps those of a save that was refused", func(m *mutant) { m.keepsApart(func(object.Verdict) bool { return true }) }},
	{"Records", "keeps no calls", func(m *mutant) { m.saves(func(s *object.Save) { s.Calls = nil }) }},
	{"Records", "keeps no effects", func(m *mutant) { m.saves(func(s *object.Save) { s.Effects = nil }) }},
	{"Records", "keeps one of each", func(m *mutant) {
		m.saves(func(s *object.Save) {
			s.Calls, s.Effects = s.Calls[:min(1, len(s.Calls))], s.Effects[:min(1, len(s.Effects))]
		})
	}},
	{"Records", "keeps none of a deletion", func(m *mutant) {
		m.saves(func(s *object.Save) {
			if s.Data == nil {
				s.Calls, s.Effects = nil, nil
			}
		})
	}},
	{"Records", "tells another version", func(m *mutant) { m.found(func(c *object.CallRecord) { c.Version = 1 }) }},
	{"Records", "finds calls of any object", func(m *mutant) {
		calls := map[string]object.Ref{}
		m.eachSave(func(ctx context.Context, owner string, s object.Save) object.Verdict {
			v := m.one(ctx, owner, s)
			for _, c := range s.Calls {
				if v.Kind == object.Committed {
					calls[c.ID] = s.Ref
				}
			}
			return v
		})
		m.findCall = func(ctx context.Context, _ object.Ref, id string) (object.CallRecord, error) {
			return m.Store.FindCall(ctx, calls[id], id)
		}
	}},
	{"RecordsCopy", "rejects a copy for its call", func(m *mutant) {
		m.eachSave(func(ctx context.Context, owner string, s object.Save) object.Verdict {
			for _, c := range s.Calls {
				if _, err := m.Store.FindCall(ctx, s.Ref, c.ID); err == nil {
					return object.Verdict{Kind: object.Rejected, Err: object.ErrCallRecorded}
				}
			}
			return m.one(ctx, owner, s)
		})
	}},
	{"RecordsCopy", "brings delivered effects back", func(m *mutant) {
		m.endEffects = func(ctx context.Context, f object.Fence, _ []object.EffectKey) (bool, error) {
			return m.Store.EndEffects(ctx, f, nil)
		}
	}},
	{"CallRecorded", "takes a call again", func(m *mutant) {
		m.saves(func(s *object.Save) {
			s.Calls = slices.DeleteFunc(slices.Clone(s.Calls), func(c object.CallRecord) bool {
				_, err := m.Store.FindCall(context.Background(), s.Ref, c.ID)
				return err == nil && s.Base > 0
			})
		})
	}},
	{"CallRecorded", "rejects for another reason", func(m *mutant) {
		m.eachSave(func(ctx context.Context, owner string, s object.Save) object.Verdict {
			v := m.one(ctx, owner, s)
			if v.Kind == object.Rejected {
				v.Err = errors.New("no")
			}
			return v
		})
	}},
	{"CallRecorded", "fails the whole commit", failsWhole},
	{"CallRecorded", "has one call id for all objects", func(m *mutant) {
		seen := map[string]object.Ref{}
		m.eachSave(func(ctx context.Context, owner string, s object.Save) object.Verdict {
			for _, c := range s.Calls {
				if ref, ok := seen[c.ID]; ok && ref != s.Ref {
					return object.Verdict{Kind: object.Rejected, Err: object.ErrCallRecorded}
				}
			}
			v := m.one(ctx, owner, s)
			for _, c := range s.Calls {
				if v.Kind == object.Committed {
					seen[c.ID] = s.Ref
				}
			}
			return v
		})
	}},
	{"EffectIDs", "takes an effect again", func(m *mutant) {
		m.saves(func(s *object.Save) {
			s.Effects = slices.Clone(s.Effects)
			for i := range s.Effects {
				s.Effects[i].ID += saveIDText()
			}
		})
	}},
	{"EffectIDs", "calls it a recorded call", func(m *mutant) {
		m.eachSave(func(ctx context.Context, owner string, s object.Save) object.Verdict {
			v := m.one(ctx, owner, s)
			if v.Kind == object.Rejected {
				v.Err = object.ErrCallRecorded
			}
			return v
		})
	}},
	{"RecordsOutlive", "forgets the calls of a deleted object", func(m *mutant) {
		m.findCall = func(ctx context.Context, ref object.Ref, id string) (object.CallRecord, error) {
			if r, err := m.Store.Load(ctx, ref); err == nil && r.Data == nil {
				return object.CallRecord{}, object.ErrNotStored
			}
			return m.Store.FindCall(ctx, ref, id)
		}
	}},
	{"RecordsOutlive", "forgets the calls with the tombstone", func(m *mutant) {
		m.findCall = func(ctx context.Context, ref object.Ref, id string) (object.CallRecord, error) {
			if r, err := m.Store.Load(ctx, ref); err == nil && r.Version == 0 {
				return object.CallRecord{}, object.ErrNotStored
			}
			return m.Store.FindCall(ctx, ref, id)
		}
	}},
	{"RecordsOfNothing", "says Committed and forgets them", func(m *mutant) {
		m.saves(func(s *object.Save) {
			if r, _ := m.Store.Load(context.Background(), s.Ref); s.Data == nil && r.Data == nil {
				s.Calls, s.Effects = nil, nil
			}
		})
	}},
	{"RecordData", "cuts results at NUL", func(m *mutant) {
		m.found(func(c *object.CallRecord) { c.Result, _, _ = bytes.Cut(c.Result, []byte{0}) })
	}},
	{"RecordData", "has one status", func(m *mutant) { m.found(func(c *object.CallRecord) { c.Status = object.CallDone }) }},
	{"RecordData", "repairs payloads", func(m *mutant) {
		m.effects(func(list []object.PendingEffect, _ int) []object.PendingEffect {
			for i := range list {
				list[i].Payload = bytes.ToValidUTF8(list[i].Payload, []byte("?"))
			}
			return list
		})
	}},
	{"RecordData", "counts in milliseconds", func(m *mutant) {
		m.effects(func(list []object.PendingEffect, _ int) []object.PendingEffect {
			for i := range list {
				list[i].NotAfter = list[i].NotAfter.Truncate(time.Millisecond)
			}
			return list
		})
	}},
	{"RecordData", "ends what has no end", func(m *mutant) {
		m.effects(func(list []object.PendingEffect, _ int) []object.PendingEffect {
			for i := range list {
				if list[i].NotAfter.IsZero() {
					list[i].NotAfter = time.UnixMicro(0)
				}
			}
			return list
		})
	}},
	{"RecordData", "takes pushes for sends", func(m *mutant) {
		m.effects(func(list []object.PendingEffect, _ int) []object.PendingEffect {
			for i := range list {
				list[i].Kind = object.EffectSend
			}
			return list
		})
	}},
	{"RecordData", "hands out its own buffer", func(m *mutant) {
		kept := map[string]object.CallRecord{}
		m.findCall = func(ctx context.Context, ref object.Ref, id string) (object.CallRecord, error) {
			if c, ok := kept[id]; ok {
				return c, nil
			}
			c, err := m.Store.FindCall(ctx, ref, id)
			kept[id] = c
			return c, err
		}
	}},
	{"BadRecords", "repairs what is bad", func(m *mutant) {
		m.saves(func(s *object.Save) {
			s.Calls = slices.Clone(s.Calls)
			for i := range s.Calls {
				s.Calls[i].Status = max(1, min(3, s.Calls[i].Status))
			}
		})
	}},
	{"BadRecords", "cuts long payloads", func(m *mutant) {
		m.saves(func(s *object.Save) {
			s.Effects = slices.Clone(s.Effects)
			for i := range s.Effects {
				s.Effects[i].Payload = s.Effects[i].Payload[:min(mib, len(s.Effects[i].Payload))]
			}
		})
	}},
	{"RecentCalls", "tells the oldest", func(m *mutant) {
		m.recentCalls = func(ctx context.Context, ref object.Ref, limit int) ([]string, bool, error) {
			ids, _, err := m.Store.RecentCalls(ctx, ref, 1<<20)
			slices.Reverse(ids)
			return ids[:min(limit, len(ids))], limit >= len(ids), err
		}
	}},
	{"RecentCalls", "always says that these are all", func(m *mutant) {
		m.recentCalls = func(ctx context.Context, ref object.Ref, limit int) ([]string, bool, error) {
			ids, _, err := m.Store.RecentCalls(ctx, ref, limit)
			return ids, true, err
		}
	}},
	{"RecentCalls", "never says that these are all", func(m *mutant) {
		m.recentCalls = func(ctx context.Context, ref object.Ref, limit int) ([]string, bool, error) {
			ids, _, err := m.Store.RecentCalls(ctx, ref, limit)
			return ids, len(ids) < limit, err
		}
	}},
	{"EffectOrder", "sorts without regard to case", func(m *mutant) {
		m.pending = m.sorted(func(a, b object.PendingEffect) int {
			return strings.Compare(strings.ToLower(a.Key.Source.Type), strings.ToLower(b.Key.Source.Type))
		})
	}},
	{"EffectOrder", "sorts versions as text", func(m *mutant) {
		m.pending = m.sorted(func(a, b object.PendingEffect) int { return strings.Compare(keyText(a), keyText(b)) })
	}},
	{"EffectOrder", "forgets the place in the page", func(m *mutant) {
		m.pending = func(ctx context.Context, shard int, after object.EffectKey, limit int) ([]object.PendingEffect, error) {
			after.Ord = 1 << 30
			return m.Store.PendingEffects(ctx, shard, after, limit)
		}
	}},
	{"EffectOrder", "gives more than was asked for", func(m *mutant) {
		m.pending = func(ctx context.Context, shard int, after object.EffectKey, _ int) ([]object.PendingEffect, error) {
			return m.Store.PendingEffects(ctx, shard, after, 1<<20)
		}
	}},
	{"EndEffects", "looks at no fence", func(m *mutant) {
		m.endEffects = func(ctx context.Context, f object.Fence, keys []object.EffectKey) (bool, error) {
			return m.Store.EndEffects(ctx, m.Fence(f.Shard), keys)
		}
	}},
	{"EndEffects", "says false and ends them", func(m *mutant) {
		m.endEffects = func(ctx context.Context, f object.Fence, keys []object.EffectKey) (bool, error) {
			_, err := m.Store.EndEffects(ctx, m.Fence(f.Shard), keys)
			return f == m.Fence(f.Shard), err
		}
	}},
	{"EndEffects", "ends those of other shards", func(m *mutant) {
		m.endEffects = func(ctx context.Context, f object.Fence, keys []object.EffectKey) (bool, error) {
			ok, err := m.Store.EndEffects(ctx, f, keys)
			for _, key := range keys {
				if ok {
					_, _ = m.Store.EndEffects(ctx, m.Fence(key.Shard), []object.EffectKey{key})
				}
			}
			return ok, err
		}
	}},
	{"EndEffects", "ends all of an object", func(m *mutant) {
		m.endEffects = func(ctx context.Context, f object.Fence, keys []object.EffectKey) (bool, error) {
			for _, key := range keys {
				for ord := range 10 {
					key.Ord = ord
					keys = append(keys, key)
				}
			}
			return m.Store.EndEffects(ctx, f, keys)
		}
	}},
	{"EndEffects", "fails on what has ended", func(m *mutant) {
		m.endEffects = func(ctx context.Context, f object.Fence, keys []object.EffectKey) (bool, error) {
			list, _ := m.Store.PendingEffects(ctx, f.Shard, object.EffectKey{}, 1000)
			for _, key := range keys {
				if !slices.ContainsFunc(list, func(e object.PendingEffect) bool { return e.Key == key }) {
					return false, nil
				}
			}
			return m.Store.EndEffects(ctx, f, keys)
		}
	}},
	{"CollectCalls", "looks at no fence", func(m *mutant) {
		m.collectCalls = func(ctx context.Context, f object.Fence) (int, error) {
			return m.Store.CollectCalls(ctx, m.Fence(f.Shard))
		}
	}},
	{"CollectCalls", "collects nothing", func(m *mutant) {
		m.collectCalls = func(context.Context, object.Fence) (int, error) { return 0, nil }
	}},
	{"CollectCalls", "keeps all for a blink", func(m *mutant) {
		m.saves(func(s *object.Save) {
			s.Calls = slices.Clone(s.Calls)
			for i := range s.Calls {
				s.Calls[i].Keep = time.Microsecond
			}
		})
	}},
	{"CollectCalls", "collects other shards", func(m *mutant) {
		shards := map[int]bool{}
		m.eachSave(func(ctx context.Context, owner string, s object.Save) object.Verdict {
			shards[s.Shard] = true
			return m.one(ctx, owner, s)
		})
		m.collectCalls = func(ctx context.Context, f object.Fence) (int, error) {
			n, err := m.Store.CollectCalls(ctx, f)
			for shard := range shards {
				if shard != f.Shard && n > 0 {
					_, _ = m.Store.CollectCalls(ctx, m.Fence(shard))
				}
			}
			return n, err
		}
	}},
	{"CollectOwing", "collects them", func(m *mutant) {
		m.collect = func(ctx context.Context, f object.Fence, age time.Duration, live []object.Ref) (int, error) {
			list, _ := m.Store.PendingEffects(ctx, f.Shard, object.EffectKey{}, 1000)
			for _, e := range list {
				_, _ = m.Store.EndEffects(ctx, f, []object.EffectKey{e.Key})
			}
			return m.Store.CollectTombstones(ctx, f, age, live)
		}
	}},
	{"Hook", "runs no hook", func(m *mutant) {
		m.commitWith = func(ctx context.Context, owner string, s object.Save, _ hook) (object.Verdict, error) {
			return m.one(ctx, owner, s), nil
		}
	}},
	{"Hook", "saves nothing", func(m *mutant) {
		m.commitWith = func(ctx context.Context, owner string, s object.Save, f hook) (object.Verdict, error) {
			kept := s
			kept.Ref.ID += "x"
			v, err := m.Store.CommitWith(ctx, owner, kept, m.table.hook(f))
			v.Version = s.Base + 1
			return v, err
		}
	}},
	{"Hook", "runs it twice in one", func(m *mutant) {
		m.commitWith = func(ctx context.Context, owner string, s object.Save, f hook) (object.Verdict, error) {
			return m.Store.CommitWith(ctx, owner, s, m.table.hook(func(ctx context.Context, tx object.Tx) error {
				return errors.Join(f(ctx, tx), f(ctx, tx))
			}))
		}
	}},
	{"HookFails", "undoes nothing", func(m *mutant) { m.table.atOnce = true }},
	{"HookFails", "saves before", func(m *mutant) {
		m.commitWith = func(ctx context.Context, owner string, s object.Save, f hook) (object.Verdict, error) {
			if v := m.one(ctx, owner, s); v.Kind != object.Committed {
				return v, nil
			}
			return m.Store.CommitWith(ctx, owner, s, m.table.hook(f))
		}
	}},
	{"HookFails", "returns the bare error", func(m *mutant) {
		m.commitWith = func(ctx context.Context, owner string, s object.Save, f hook) (object.Verdict, error) {
			v, err := m.Store.CommitWith(ctx, owner, s, m.table.hook(f))
			var failed *object.HookError
			if errors.As(err, &failed) {
				err = failed.Err
			}
			return v, err
		}
	}},
	{"HookRefused", "commits the hook's work alone", func(m *mutant) {
		m.commitWith = func(ctx context.Context, owner string, s object.Save, f hook) (object.Verdict, error) {
			v, err := m.Store.CommitWith(ctx, owner, s, m.table.hook(f))
			if err == nil && v.Kind == object.Conflict {
				own := m.spare()
				_, err = m.Store.CommitWith(ctx, own.Owner, own.save(object.Ref{Type: "Kit", ID: object.NewID()}, doc(1), 0), m.table.hook(f))
			}
			return v, err
		}
	}},
	{"HookCopy", "does it for each copy", func(m *mutant) {
		m.commitWith = func(ctx context.Context, owner string, s object.Save, f hook) (object.Verdict, error) {
			if v := m.one(ctx, owner, s); v.Kind == object.Committed && s.Data != nil {
				own := m.spare()
				_, err := m.Store.CommitWith(ctx, own.Owner, own.save(object.Ref{Type: "Kit", ID: object.NewID()}, doc(1), 0), m.table.hook(f))
				return v, err
			}
			return m.Store.CommitWith(ctx, owner, s, m.table.hook(f))
		}
	}},
	{"HookDelete", "commits the deletion of nothing", func(m *mutant) {
		m.commitWith = func(ctx context.Context, owner string, s object.Save, f hook) (object.Verdict, error) {
			if r, _ := m.Store.Load(ctx, s.Ref); r.Data == nil && s.Data == nil {
				return m.one(ctx, owner, s), nil
			}
			return m.Store.CommitWith(ctx, owner, s, m.table.hook(f))
		}
	}},
	{"HookTx", "stays open", func(m *mutant) { m.table.open = true }},
	{"HookBounded", "gives the hook no deadline", func(m *mutant) {
		m.commitWith = func(ctx context.Context, owner string, s object.Save, f hook) (object.Verdict, error) {
			slow, cancel := context.WithTimeout(context.WithoutCancel(ctx), 6*time.Second)
			defer cancel()
			return m.Store.CommitWith(ctx, owner, s, m.table.hook(func(_ context.Context, tx object.Tx) error { return f(slow, tx) }))
		}
	}},
	{"List", "lists deleted objects", func(m *mutant) {
		gone := map[string]bool{}
		m.del = func(ctx context.Context, typ, id string) error {
			gone[typ+"/"+id] = true
			return nil
		}
	}},
	{"List", "sorts without regard to case", func(m *mutant) {
		m.list = func(ctx context.Context, typ, after string, limit int) ([]object.Listed, error) {
			list, err := m.Store.List(ctx, typ, "", 1000)
			list = slices.DeleteFunc(list, func(l object.Listed) bool { return strings.ToLower(l.Ref.ID) <= strings.ToLower(after) })
			slices.SortFunc(list, func(a, b object.Listed) int {
				return strings.Compare(strings.ToLower(a.Ref.ID), strings.ToLower(b.Ref.ID))
			})
			return list[:min(limit, len(list))], err
		}
	}},
	{"List", "lists every type", func(m *mutant) {
		m.list = func(ctx context.Context, typ, after string, limit int) ([]object.Listed, error) {
			list, err := m.Store.List(ctx, typ, after, limit)
			if len(list) < limit {
				more, _ := m.Store.List(ctx, typ+"x", after, limit-len(list))
				list = append(list, more...)
			}
			return list, err
		}
	}},
	{"List", "repeats the last of a page", func(m *mutant) {
		m.list = func(ctx context.Context, typ, after string, limit int) ([]object.Listed, error) {
			list, err := m.Store.List(ctx, typ, after, limit)
			if after == "B" && len(list) > 0 {
				list = append([]object.Listed{{Ref: object.Ref{Type: typ, ID: "B"}}}, list[:len(list)-1]...)
			}
			return list, err
		}
	}},
	{"List", "knows no time of update", func(m *mutant) {
		m.list = func(ctx context.Context, typ, after string, limit int) ([]object.Listed, error) {
			list, err := m.Store.List(ctx, typ, after, limit)
			for i := range list {
				list[i].Updated = list[i].Created
			}
			return list, err
		}
	}},
	{"Confirm", "compares epochs only", func(m *mutant) {
		m.confirm = func(_ context.Context, _ string, fences []object.Fence) (lost []object.Fence, _ error) {
			for _, f := range fences {
				if m.Fence(f.Shard).Epoch != f.Epoch {
					lost = append(lost, f)
				}
			}
			return lost, nil
		}
	}},
	{"Confirm", "takes a lower epoch", func(m *mutant) {
		m.confirm = func(_ context.Context, owner string, fences []object.Fence) (lost []object.Fence, _ error) {
			for _, f := range fences {
				if has := m.Fence(f.Shard); has.Owner != owner || has.Epoch < f.Epoch {
					lost = append(lost, f)
				}
			}
			return lost, nil
		}
	}},
	{"Confirm", "loses all for one", func(m *mutant) {
		m.confirm = func(ctx context.Context, owner string, fences []object.Fence) ([]object.Fence, error) {
			if lost, err := m.Store.Confirm(ctx, owner, fences); len(lost) == 0 || err != nil {
				return lost, err
			}
			return fences, nil
		}
	}},
	{"BindCluster", "belongs to the last", func(m *mutant) {
		var mu sync.Mutex
		var has string
		m.bind = func(_ context.Context, cluster string) (string, error) {
			mu.Lock()
			defer mu.Unlock()
			if cluster != "" {
				has = cluster
			}
			return has, nil
		}
	}},
	{"BindCluster", "tells everyone what they said", func(m *mutant) {
		m.bind = func(ctx context.Context, cluster string) (string, error) {
			has, err := m.Store.BindCluster(ctx, cluster)
			return cmp.Or(cluster, has), err
		}
	}},
}

func saveIDText() string { return fmt.Sprintf("-%x", saveID()) }

// spare is a holder of a shard that no check uses.
func (m *mutant) spare() *holder {
	f := m.Fence(0)
	f.Owner, f.Epoch = "spare", f.Epoch+1
	_, _ = m.Store.Stamp(context.Background(), f.Owner, []object.Fence{f})
	return &holder{fp: m.Store, Fence: f}
}

func keyText(e object.PendingEffect) string {
	return fmt.Sprint(e.Key.Source, "/", e.Key.Version, "/", e.Key.Ord)
}

// sorted is a PendingEffects in another order.
func (m *mutant) sorted(compare func(a, b object.PendingEffect) int) func(context.Context, int, object.EffectKey, int) ([]object.PendingEffect, error) {
	return func(ctx context.Context, shard int, after object.EffectKey, limit int) ([]object.PendingEffect, error) {
		list, err := m.Store.PendingEffects(ctx, shard, object.EffectKey{}, 1<<20)
		slices.SortStableFunc(list, compare)
		i := slices.IndexFunc(list, func(e object.PendingEffect) bool { return e.Key == after })
		list = list[i+1:]
		return list[:min(limit, len(list))], err
	}
}
