package objecttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/memstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// mutant is a provider that breaks one promise: each field that is set replaces a
// method of the store beneath.
type mutant struct {
	*memstore.Store
	save    func(ctx context.Context, typ, id string, data []byte) error
	load    func(ctx context.Context, typ, id string) ([]byte, error)
	del     func(ctx context.Context, typ, id string) error
	storeID func() string
	stamp   func(ctx context.Context, owner string, fences []object.Fence) ([]object.Fence, error)
	record  func(ctx context.Context, ref object.Ref) (object.Record, error)
	commit  func(ctx context.Context, owner string, saves []object.Save) ([]object.Verdict, error)
	collect func(ctx context.Context, f object.Fence, age time.Duration, live []object.Ref) (int, error)

	findCall     func(ctx context.Context, ref object.Ref, id string) (object.CallRecord, error)
	recentCalls  func(ctx context.Context, ref object.Ref, limit int) ([]string, bool, error)
	pending      func(ctx context.Context, shard int, after object.EffectKey, limit int) ([]object.PendingEffect, error)
	endEffects   func(ctx context.Context, f object.Fence, keys []object.EffectKey) (bool, error)
	collectCalls func(ctx context.Context, f object.Fence) (int, error)
	commitWith   func(ctx context.Context, owner string, s object.Save, f hook) (object.Verdict, error)
	list         func(ctx context.Context, typ, after string, limit int) ([]object.Listed, error)
	confirm      func(ctx context.Context, owner string, fences []object.Fence) ([]object.Fence, error)
	bind         func(ctx context.Context, cluster string) (string, error)
	history      func(ctx context.Context) (string, error)
	adopt        func(ctx context.Context, history string) error
	table        table // what hooks write to
}

func (m *mutant) SaveObject(ctx context.Context, typ, id string, data []byte) error {
	if m.save != nil {
		return m.save(ctx, typ, id, data)
	}
	return m.Store.SaveObject(ctx, typ, id, data)
}

func (m *mutant) LoadObject(ctx context.Context, typ, id string) ([]byte, error) {
	if m.load != nil {
		return m.load(ctx, typ, id)
	}
	return m.Store.LoadObject(ctx, typ, id)
}

func (m *mutant) DeleteObject(ctx context.Context, typ, id string) error {
	if m.del != nil {
		return m.del(ctx, typ, id)
	}
	return m.Store.DeleteObject(ctx, typ, id)
}

func (m *mutant) StoreID(ctx context.Context) (string, error) {
	if m.storeID != nil {
		return m.storeID(), nil
	}
	return m.Store.StoreID(ctx)
}

func (m *mutant) Stamp(ctx context.Context, owner string, fences []object.Fence) ([]object.Fence, error) {
	if m.stamp != nil {
		return m.stamp(ctx, owner, fences)
	}
	return m.Store.Stamp(ctx, owner, fences)
}

func (m *mutant) Load(ctx context.Context, ref object.Ref) (object.Record, error) {
	if m.record != nil {
		return m.record(ctx, ref)
	}
	return m.Store.Load(ctx, ref)
}

func (m *mutant) Commit(ctx context.Context, owner string, saves []object.Save) ([]object.Verdict, error) {
	if m.commit != nil {
		return m.commit(ctx, owner, saves)
	}
	return m.Store.Commit(ctx, owner, saves)
}

func (m *mutant) CollectTombstones(ctx context.Context, f object.Fence, age time.Duration, live []object.Ref) (int, error) {
	if m.collect != nil {
		return m.collect(ctx, f, age, live)
	}
	return m.Store.CollectTombstones(ctx, f, age, live)
}

// one commits a single save to the store beneath.
func (m *mutant) one(ctx context.Context, owner string, s object.Save) object.Verdict {
	vs, err := m.Store.Commit(ctx, owner, []object.Save{s})
	if err != nil {
		return object.Verdict{Kind: object.Rejected, Err: err}
	}
	return vs[0]
}

// eachSave makes a mutant's Commit from a judge of one save.
func (m *mutant) eachSave(judge func(ctx context.Context, owner string, s object.Save) object.Verdict) {
	m.commit = func(ctx context.Context, owner string, saves []object.Save) ([]object.Verdict, error) {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%w: %w", object.ErrNotCommitted, ctx.Err())
		}
		vs := make([]object.Verdict, len(saves))
		for i, s := range saves {
			vs[i] = judge(ctx, owner, s)
		}
		return vs, nil
	}
}

// asHolder gives a save whatever fence its shard has: the fence is not looked at.
func (m *mutant) asHolder(s object.Save) (string, object.Save) {
	f := m.Fence(s.Shard)
	s.Epoch = f.Epoch
	return f.Owner, s
}

// brokenStore is a mutant of one check.
type brokenStore struct {
	check, name string
	breaks      func(m *mutant)
}

// mutants lists, for each check, providers that it must catch.
var mutants = append(slices.Concat(recordMutants, historyMutants), []brokenStore{
	{"SaveLoad", "forgets updates", func(m *mutant) {
		m.save = func(ctx context.Context, typ, id string, data []byte) error {
			if _, err := m.Store.LoadObject(ctx, typ, id); err == nil {
				return nil
			}
			return m.Store.SaveObject(ctx, typ, id, data)
		}
	}},
	{"NotStored", "answers nothing for nothing", func(m *mutant) {
		m.load = func(ctx context.Context, typ, id string) ([]byte, error) {
			data, err := m.Store.LoadObject(ctx, typ, id)
			if errors.Is(err, object.ErrNotStored) {
				err = nil
			}
			return data, err
		}
	}},
	{"Delete", "fails on the second deletion", func(m *mutant) {
		m.del = func(ctx context.Context, typ, id string) error {
			if _, err := m.Store.LoadObject(ctx, typ, id); err != nil {
				return err
			}
			return m.Store.DeleteObject(ctx, typ, id)
		}
	}},
	{"Delete", "deletes nothing", func(m *mutant) {
		m.del = func(context.Context, string, string) error { return nil }
	}},
	{"Names", "joins type and id", func(m *mutant) { m.rename(func(typ, id string) (string, string) { return "all", typ + "/" + id }) }},
	{"Names", "folds case", func(m *mutant) { m.rename(func(typ, id string) (string, string) { return typ, strings.ToLower(id) }) }},
	{"Names", "trims", func(m *mutant) { m.rename(func(typ, id string) (string, string) { return typ, strings.TrimSpace(id) }) }},
	{"Names", "forgets the type", func(m *mutant) { m.rename(func(typ, id string) (string, string) { return "all", id }) }},
	{"Names", "cuts long ids", func(m *mutant) {
		m.rename(func(typ, id string) (string, string) { return typ, id[:min(len(id), 255)] })
	}},
	{"Buffers", "keeps the caller's buffer", func(m *mutant) {
		kept := map[string][]byte{}
		m.save = func(_ context.Context, typ, id string, data []byte) error { kept[typ+id] = data; return nil }
		m.load = func(_ context.Context, typ, id string) ([]byte, error) { return bytes.Clone(kept[typ+id]), nil }
	}},
	{"Buffers", "hands out its own buffer", func(m *mutant) {
		kept := map[string][]byte{}
		m.save = func(_ context.Context, typ, id string, data []byte) error {
			kept[typ+id] = bytes.Clone(data)
			return nil
		}
		m.load = func(_ context.Context, typ, id string) ([]byte, error) { return kept[typ+id], nil }
	}},
	{"Buffers", "hands out its own record", func(m *mutant) {
		var mu sync.Mutex
		kept := map[object.Ref]object.Record{}
		m.record = func(ctx context.Context, ref object.Ref) (object.Record, error) {
			mu.Lock()
			defer mu.Unlock()
			if r, ok := kept[ref]; ok {
				return r, nil
			}
			r, err := m.Store.Load(ctx, ref)
			kept[ref] = r
			return r, err
		}
	}},
	{"Parallel", "loses a save now and then", func(m *mutant) {
		var mu sync.Mutex
		n := 0
		m.save = func(ctx context.Context, typ, id string, data []byte) error {
			mu.Lock()
			n++
			lost := n > 5 && n%5 == 0
			mu.Unlock()
			if lost {
				return nil
			}
			return m.Store.SaveObject(ctx, typ, id, data)
		}
	}},
	{"Canceled", "says nil and does nothing", func(m *mutant) {
		m.save = func(ctx context.Context, typ, id string, data []byte) error {
			if ctx.Err() != nil {
				return nil
			}
			return m.Store.SaveObject(ctx, typ, id, data)
		}
	}},
	{"Canceled", "says ErrNotStored", func(m *mutant) {
		m.load = func(ctx context.Context, typ, id string) ([]byte, error) {
			if ctx.Err() != nil {
				return nil, object.ErrNotStored
			}
			return m.Store.LoadObject(ctx, typ, id)
		}
	}},
	{"Honest", "cuts at NUL", func(m *mutant) {
		m.rewrite(func(b []byte) []byte { return bytes.ReplaceAll(b, []byte(`\u0000`), nil) })
	}},
	{"Honest", "repairs UTF-8", func(m *mutant) { m.rewrite(func(b []byte) []byte { return bytes.ToValidUTF8(b, []byte("\ufffd")) }) }},
	{"Honest", "stores what it refused", func(m *mutant) {
		m.save = func(ctx context.Context, typ, id string, data []byte) error {
			err := m.Store.SaveObject(ctx, typ, id, data)
			if err != nil {
				_ = m.Store.SaveObject(ctx, typ, id, []byte(`{}`))
			}
			return err
		}
	}},
	{"Identity", "has none", func(m *mutant) { m.storeID = func() string { return "" } }},
	{"Identity", "has a new one each time", func(m *mutant) { m.storeID = object.NewID }},
	{"StampTable", "accepts another owner at an equal epoch", func(m *mutant) {
		m.stamp = func(ctx context.Context, owner string, fences []object.Fence) ([]object.Fence, error) {
			refused, err := m.Store.Stamp(ctx, owner, fences)
			return slices.DeleteFunc(refused, func(f object.Fence) bool { return f.Epoch == fences[0].Epoch }), err
		}
	}},
	{"StampTable", "refuses a repeated stamp", func(m *mutant) {
		m.stamp = func(ctx context.Context, owner string, fences []object.Fence) ([]object.Fence, error) {
			if f := m.Fence(fences[0].Shard); f.Epoch == fences[0].Epoch {
				return []object.Fence{f}, nil
			}
			return m.Store.Stamp(ctx, owner, fences)
		}
	}},
	{"StampTable", "does not say which fence it has", func(m *mutant) {
		m.stamp = func(ctx context.Context, owner string, fences []object.Fence) ([]object.Fence, error) {
			refused, err := m.Store.Stamp(ctx, owner, fences)
			for i := range refused {
				refused[i].Owner = ""
			}
			return refused, err
		}
	}},
	{"StampBatch", "refuses all for one", func(m *mutant) {
		m.stamp = func(ctx context.Context, owner string, fences []object.Fence) ([]object.Fence, error) {
			for _, f := range fences {
				if has := m.Fence(f.Shard); has.Epoch > f.Epoch {
					return []object.Fence{has}, nil
				}
			}
			return m.Store.Stamp(ctx, owner, fences)
		}
	}},
	{"FenceEquality", "compares the epoch only", func(m *mutant) {
		m.eachSave(func(ctx context.Context, _ string, s object.Save) object.Verdict {
			return m.one(ctx, m.Fence(s.Shard).Owner, s)
		})
	}},
	{"FenceEquality", "compares the owner only", func(m *mutant) {
		m.eachSave(func(ctx context.Context, owner string, s object.Save) object.Verdict {
			_, s = m.asHolder(s)
			return m.one(ctx, owner, s)
		})
	}},
	{"FenceEquality", "takes a higher epoch", func(m *mutant) {
		m.eachSave(func(ctx context.Context, owner string, s object.Save) object.Verdict {
			s.Epoch = min(s.Epoch, m.Fence(s.Shard).Epoch)
			return m.one(ctx, owner, s)
		})
	}},
	{"FenceOverRead", "has no fence", func(m *mutant) {
		m.eachSave(func(ctx context.Context, _ string, s object.Save) object.Verdict {
			owner, s := m.asHolder(s)
			return m.one(ctx, owner, s)
		})
	}},
	{"FenceOverRead", "refuses the first time only", func(m *mutant) {
		seen := map[[16]byte]bool{}
		m.eachSave(func(ctx context.Context, owner string, s object.Save) object.Verdict {
			if seen[s.SaveID] {
				owner, s = m.asHolder(s)
			}
			seen[s.SaveID] = true
			return m.one(ctx, owner, s)
		})
	}},
	{"Versions", "writes twice", func(m *mutant) {
		m.eachSave(func(ctx context.Context, owner string, s object.Save) object.Verdict {
			v := m.one(ctx, owner, s)
			s.Base, s.SaveID = v.Version, saveID()
			return m.one(ctx, owner, s)
		})
	}},
	{"CompareAndSet", "takes every base", func(m *mutant) {
		m.eachSave(func(ctx context.Context, owner string, s object.Save) object.Verdict {
			r, _ := m.Store.Load(ctx, s.Ref)
			s.Base = r.Version
			return m.one(ctx, owner, s)
		})
	}},
	{"CompareAndSet", "takes a higher base", func(m *mutant) {
		m.eachSave(func(ctx context.Context, owner string, s object.Save) object.Verdict {
			r, _ := m.Store.Load(ctx, s.Ref)
			s.Base = min(s.Base, r.Version)
			return m.one(ctx, owner, s)
		})
	}},
	{"MixedBatch", "takes all or nothing", func(m *mutant) {
		m.commit = func(ctx context.Context, owner string, saves []object.Save) ([]object.Verdict, error) {
			for _, s := range saves {
				if f := m.Fence(s.Shard); f.Owner != owner || f.Epoch != s.Epoch {
					return slices.Repeat([]object.Verdict{{Kind: object.FenceLost}}, len(saves)), nil
				}
			}
			return m.Store.Commit(ctx, owner, saves)
		}
	}},
	{"MixedBatch", "answers in another order", func(m *mutant) {
		m.commit = func(ctx context.Context, owner string, saves []object.Save) ([]object.Verdict, error) {
			vs, err := m.Store.Commit(ctx, owner, saves)
			slices.Reverse(vs)
			return vs, err
		}
	}},
	{"MixedBatch", "answers the good ones only", func(m *mutant) {
		m.commit = func(ctx context.Context, owner string, saves []object.Save) ([]object.Verdict, error) {
			vs, err := m.Store.Commit(ctx, owner, saves)
			return slices.DeleteFunc(vs, func(v object.Verdict) bool { return v.Kind != object.Committed }), err
		}
	}},
	{"LargeBatch", "applies the first 256", func(m *mutant) {
		m.commit = func(ctx context.Context, owner string, saves []object.Save) ([]object.Verdict, error) {
			vs, err := m.Store.Commit(ctx, owner, saves[:min(len(saves), 256)])
			for i := len(vs); i < len(saves); i++ {
				vs = append(vs, vs[0])
			}
			return vs, err
		}
	}},
	{"EmptyCommit", "fails on nothing", func(m *mutant) {
		m.commit = func(ctx context.Context, owner string, saves []object.Save) ([]object.Verdict, error) {
			if len(saves) == 0 {
				return nil, errors.New("nothing to do")
			}
			return m.Store.Commit(ctx, owner, saves)
		}
	}},
	{"Tombstone", "forgets deleted objects", (*mutant).hardDelete},
	{"LateSave", "forgets deleted objects", (*mutant).hardDelete},
	{"LateSave", "creates over a tombstone", func(m *mutant) {
		m.eachSave(func(ctx context.Context, owner string, s object.Save) object.Verdict {
			if r, _ := m.Store.Load(ctx, s.Ref); s.Base == 0 && s.Data != nil && r.Data == nil {
				s.Base = r.Version
			}
			return m.one(ctx, owner, s)
		})
	}},
	{"DeleteNothing", "writes a tombstone over a tombstone", func(m *mutant) {
		m.eachSave(func(ctx context.Context, owner string, s object.Save) object.Verdict {
			if r, _ := m.Store.Load(ctx, s.Ref); s.Data == nil && r.Data == nil && r.Version == s.Base {
				live := s
				live.Data, live.SaveID = doc(0), saveID()
				m.one(ctx, owner, live)
				s.Base++
			}
			return m.one(ctx, owner, s)
		})
	}},
	{"DeleteNothing", "is in conflict with nothing", func(m *mutant) {
		m.eachSave(func(ctx context.Context, owner string, s object.Save) object.Verdict {
			if s.Data == nil && s.Base == 0 {
				return object.Verdict{Kind: object.Conflict}
			}
			return m.one(ctx, owner, s)
		})
	}},
	{"Repeat", "forgets save ids", func(m *mutant) {
		m.eachSave(func(ctx context.Context, owner string, s object.Save) object.Verdict {
			s.SaveID = saveID()
			return m.one(ctx, owner, s)
		})
	}},
	{"Repeat", "has one save id for all", func(m *mutant) {
		m.eachSave(func(ctx context.Context, owner string, s object.Save) object.Verdict {
			s.SaveID = [16]byte{1}
			return m.one(ctx, owner, s)
		})
	}},
	{"Repeat", "remembers a save after the fence is lost", func(m *mutant) {
		seen := map[[16]byte]object.Verdict{}
		m.eachSave(func(ctx context.Context, owner string, s object.Save) object.Verdict {
			if v := seen[s.SaveID]; v.Kind == object.Committed {
				return v
			}
			seen[s.SaveID] = m.one(ctx, owner, s)
			return seen[s.SaveID]
		})
	}},
	{"Created", "is the time of the load", func(m *mutant) {
		m.record = func(ctx context.Context, ref object.Ref) (object.Record, error) {
			r, err := m.Store.Load(ctx, ref)
			r.Created = time.Now()
			return r, err
		}
	}},
	{"Created", "never changes", func(m *mutant) {
		m.record = func(ctx context.Context, ref object.Ref) (object.Record, error) {
			r, err := m.Store.Load(ctx, ref)
			r.Created = time.Unix(1, 0)
			return r, err
		}
	}},
	{"Unfenced", "keeps two states, one with and one without a fence", func(m *mutant) {
		m.rename(func(typ, id string) (string, string) { return typ + "-unfenced", id })
	}},
	{"CommitCanceled", "says ErrNotCommitted and commits", func(m *mutant) {
		m.commit = func(ctx context.Context, owner string, saves []object.Save) ([]object.Verdict, error) {
			vs, err := m.Store.Commit(context.WithoutCancel(ctx), owner, saves)
			if ctx.Err() != nil {
				return nil, fmt.Errorf("%w: %w", object.ErrNotCommitted, ctx.Err())
			}
			return vs, err
		}
	}},
	{"CommitCanceled", "says Committed and does nothing", func(m *mutant) {
		m.commit = func(ctx context.Context, owner string, saves []object.Save) ([]object.Verdict, error) {
			if ctx.Err() != nil {
				return []object.Verdict{{Kind: object.Committed, Version: saves[0].Base + 1}}, nil
			}
			return m.Store.Commit(ctx, owner, saves)
		}
	}},
	{"Collect", "collects the young", func(m *mutant) {
		m.collect = func(ctx context.Context, f object.Fence, _ time.Duration, live []object.Ref) (int, error) {
			return m.Store.CollectTombstones(ctx, f, 0, live)
		}
	}},
	{"Collect", "collects under a lost fence", func(m *mutant) {
		m.collect = func(ctx context.Context, f object.Fence, age time.Duration, live []object.Ref) (int, error) {
			return m.Store.CollectTombstones(ctx, m.Fence(f.Shard), age, live)
		}
	}},
	{"Collect", "collects what is live", func(m *mutant) {
		m.collect = func(ctx context.Context, f object.Fence, age time.Duration, _ []object.Ref) (int, error) {
			return m.Store.CollectTombstones(ctx, f, age, nil)
		}
	}},
	{"Collect", "collects nothing", func(m *mutant) {
		m.collect = func(context.Context, object.Fence, time.Duration, []object.Ref) (int, error) { return 0, nil }
	}},
	{"Fidelity", "reads numbers as float64", func(m *mutant) {
		m.record = func(ctx context.Context, ref object.Ref) (object.Record, error) {
			r, err := m.Store.Load(ctx, ref)
			r.Data = bytes.ReplaceAll(r.Data, []byte("9007199254740993"), []byte("9007199254740992"))
			return r, err
		}
	}},
	{"Fidelity", "keeps three bytes of UTF-8", func(m *mutant) {
		m.record = func(ctx context.Context, ref object.Ref) (object.Record, error) {
			r, err := m.Store.Load(ctx, ref)
			r.Data = bytes.ReplaceAll(r.Data, []byte("😀"), []byte("?"))
			return r, err
		}
	}},
	{"BadData", "takes everything", func(m *mutant) {
		m.eachSave(func(ctx context.Context, owner string, s object.Save) object.Verdict {
			v := m.one(ctx, owner, s)
			if v.Kind == object.Rejected {
				s.Data = []byte(`"repaired"`)
				v = m.one(ctx, owner, s)
			}
			return v
		})
	}},
	{"BadData", "fails the whole commit", failsWhole},
	{"BadNames", "fails the whole commit", failsWhole},
	{"BadNames", "takes every name", func(m *mutant) {
		m.eachSave(func(ctx context.Context, owner string, s object.Save) object.Verdict {
			v := m.one(ctx, owner, s)
			if v.Kind == object.Rejected {
				v = object.Verdict{Kind: object.Committed, Version: s.Base + 1}
			}
			return v
		})
	}},
	{"Oversize", "has a limit of 1 MiB", func(m *mutant) {
		m.eachSave(func(ctx context.Context, owner string, s object.Save) object.Verdict {
			if len(s.Data) > mib {
				return object.Verdict{Kind: object.Rejected, Err: errors.New("too large")}
			}
			return m.one(ctx, owner, s)
		})
	}},
	{"Oversize", "rejects without a reason", func(m *mutant) {
		m.eachSave(func(ctx context.Context, owner string, s object.Save) object.Verdict {
			v := m.one(ctx, owner, s)
			v.Err = nil
			return v
		})
	}},
	{"Committers", "compares, then sets", func(m *mutant) {
		m.eachSave(func(ctx context.Context, owner string, s object.Save) object.Verdict {
			if r, _ := m.Store.Load(ctx, s.Ref); r.Version != s.Base {
				return object.Verdict{Kind: object.Conflict}
			}
			runtime.Gosched()
			m.Store.SaveObject(ctx, s.Ref.Type, s.Ref.ID, s.Data)
			return object.Verdict{Kind: object.Committed, Version: s.Base + 1}
		})
	}},
	{"HandOvers", "reads the fence, then saves", func(m *mutant) {
		m.eachSave(func(ctx context.Context, owner string, s object.Save) object.Verdict {
			if f := m.Fence(s.Shard); f.Owner != owner || f.Epoch != s.Epoch {
				return object.Verdict{Kind: object.FenceLost}
			}
			time.Sleep(20 * time.Microsecond) // the gap that a lock closes
			owner, s = m.asHolder(s)
			return m.one(ctx, owner, s)
		})
	}},
	{"HandOvers", "acknowledges before it saves", func(m *mutant) {
		m.eachSave(func(ctx context.Context, owner string, s object.Save) object.Verdict {
			if v := m.one(ctx, owner, s); v.Kind != object.FenceLost {
				return v
			}
			return object.Verdict{Kind: object.Committed, Version: s.Base + 1}
		})
	}},
}...)

// rename gives every object of the basic part another name.
func (m *mutant) rename(f func(typ, id string) (string, string)) {
	m.save = func(ctx context.Context, typ, id string, data []byte) error {
		typ, id = f(typ, id)
		if len(id) > 512 {
			typ, id = typ+id[512:], id[:512]
		}
		return m.Store.SaveObject(ctx, typ, id, data)
	}
	m.load = func(ctx context.Context, typ, id string) ([]byte, error) {
		typ, id = f(typ, id)
		if len(id) > 512 {
			typ, id = typ+id[512:], id[:512]
		}
		return m.Store.LoadObject(ctx, typ, id)
	}
	m.del = func(ctx context.Context, typ, id string) error {
		typ, id = f(typ, id)
		return m.Store.DeleteObject(ctx, typ, id)
	}
}

// rewrite changes data on its way in.
func (m *mutant) rewrite(f func([]byte) []byte) {
	m.save = func(ctx context.Context, typ, id string, data []byte) error {
		return m.Store.SaveObject(ctx, typ, id, f(data))
	}
}

// hardDelete removes the record of a deleted object at once.
func (m *mutant) hardDelete() {
	m.eachSave(func(ctx context.Context, owner string, s object.Save) object.Verdict {
		v := m.one(ctx, owner, s)
		if s.Data == nil {
			_, _ = m.Store.CollectTombstones(ctx, m.Fence(s.Shard), -time.Hour, nil)
		}
		return v
	})
}

func failsWhole(m *mutant) {
	m.commit = func(ctx context.Context, owner string, saves []object.Save) ([]object.Verdict, error) {
		vs, err := m.Store.Commit(ctx, owner, saves)
		for _, v := range vs {
			if v.Kind == object.Rejected {
				return nil, v.Err
			}
		}
		return vs, err
	}
}

// Every check must catch its mutants, and every check must have one.
func TestMutants(t *testing.T) {
	byName := map[string]check{}
	for _, c := range checks() {
		byName[c.name] = c
		if !slices.ContainsFunc(mutants, func(m brokenStore) bool { return m.check == c.name }) {
			t.Errorf("no mutant breaks %s: nobody knows whether it can fail", c.name)
		}
	}
	for _, mu := range mutants {
		t.Run(mu.check+"/"+mu.name, func(t *testing.T) {
			t.Parallel() // some wait
			m := &mutant{Store: memstore.New()}
			mu.breaks(m)
			c, ok := byName[mu.check]
			if !ok {
				t.Fatalf("there is no check %s", mu.check)
			}
			err := c.examine(t.Context(), m)
			if err == nil || err == errNotOffered {
				t.Fatalf("not caught: %v", err)
			}
			t.Log(err)
		})
	}
}

// The unbroken store passes every check, through the same wrapper.
func TestNoMutant(t *testing.T) {
	for _, c := range checks() {
		m := &mutant{Store: memstore.New()}
		m.eachSave(m.one)
		if err := c.examine(t.Context(), m); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// basic is a provider without fences.
type basic struct{ object.PersistenceProvider }

func TestBasicProvider(t *testing.T) {
	var s summary
	for _, c := range checks() {
		err := c.examine(t.Context(), basic{memstore.New()})
		if err != nil && err != errNotOffered {
			t.Errorf("%s: %v", c.name, err)
		}
		s.add(c, err)
	}
	s.offers = offers(basic{memstore.New()})
	out := s.String()
	if all := "PersistenceProvider, FencedProvider, ExactlyOnceProvider, TxProvider, Lister, FenceKeeper, ClusterBinder, HistoryKeeper, Collector"; offers(memstore.New()) != all {
		t.Errorf("a memstore is %s, want %s", offers(memstore.New()), all)
	}
	for _, line := range []string{
		"\nis: PersistenceProvider\n",
		"\nkeeps: the last saved state is loaded",
		"\ndoes not keep: a late save never brings a deleted object back",
	} {
		if !strings.Contains(out, line) {
			t.Errorf("%q is not in the summary:%s", line, out)
		}
	}
	t.Run("Run", func(t *testing.T) {
		Run(t, func(testing.TB) object.PersistenceProvider { return basic{memstore.New()} })
	})
}

// A provider that hangs fails, once the check's time is over.
func TestHangs(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	m := &mutant{Store: memstore.New()}
	m.load = func(ctx context.Context, _, _ string) ([]byte, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if err := checks()[0].examine(ctx, m); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
}
