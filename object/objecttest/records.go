package objecttest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/xiaonanln/goverse/object"
)

// recordChecks are for an object.ExactlyOnceProvider.
func recordChecks() []check {
	list := []check{
		{name: "Records", keeps: "results and effects are kept if their save counts, and not if it does not", run: records},
		{name: "RecordsCopy", keeps: "a copy of a save that has landed keeps nothing again", run: recordsCopy},
		{name: "CallRecorded", keeps: "a second record of a call is Rejected, alone", run: callRecorded},
		{name: "EffectIDs", keeps: "a second effect of one id is Rejected, alone", run: effectIDs},
		{name: "RecordsOutlive", keeps: "the records of an object outlive it", run: recordsOutlive},
		{name: "RecordsOfNothing", keeps: "the deletion of what does not exist keeps no records and says so", run: recordsOfNothing},
		{name: "RecordData", keeps: "results, payloads and times come back as they were", run: recordData},
		{name: "BadRecords", keeps: "what is no record of a call and no effect is Rejected alone", run: badRecords},
		{name: "RecentCalls", keeps: "the newest calls of an object are told, and whether these are all", run: recentCalls},
		{name: "EffectOrder", keeps: "pending effects of a shard come in the order of their keys, page by page", run: effectOrder},
		{name: "EndEffects", keeps: "effects end under their shard's fence only, once and for all", run: endEffects},
		{name: "CollectCalls", keeps: "expired records of the own shard are collected, and no others", run: collectCalls},
	}
	for i := range list {
		list[i].needs = exactlyOnce
	}
	return append(list, check{
		name: "CollectOwing", keeps: "a deleted object stays as long as an effect of it was not ended", run: collectOwing,
		needs: func(p object.PersistenceProvider) bool { return exactlyOnce(p) && collects(p) },
	})
}

func exactlyOnce(p object.PersistenceProvider) bool {
	_, ok := p.(object.ExactlyOnceProvider)
	return ok
}

// id names something of this check's own: a call, an effect, a client.
func (k *kit) id(name string) string { return name + "-" + k.tag }

func (k *kit) call(name string) object.CallRecord {
	return object.CallRecord{ID: k.id(name), Status: object.CallDone, Result: []byte("result of " + name), Keep: time.Hour}
}

func (k *kit) send(name string) object.Effect {
	return object.Effect{ID: k.id(name), Kind: object.EffectSend, Target: k.ref("target"), Payload: []byte("payload of " + name)}
}

// with adds records to a save.
func with(s object.Save, calls []object.CallRecord, effects ...object.Effect) object.Save {
	s.Calls, s.Effects = calls, effects
	return s
}

// wantCall demands the record of a call; version 0: none.
func (k *kit) wantCall(ctx context.Context, ref object.Ref, c object.CallRecord, version uint64) error {
	got, err := k.eo.FindCall(ctx, ref, c.ID)
	if version == 0 {
		if !errors.Is(err, object.ErrNotStored) {
			return fmt.Errorf("call %q of %s: found %+v, error %v, want ErrNotStored", c.ID, ref, got, err)
		}
		return nil
	}
	switch {
	case err != nil:
		return fmt.Errorf("find call %q of %s: %w", c.ID, ref, err)
	case got.ID != c.ID || got.Status != c.Status || got.Version != version:
		return fmt.Errorf("call %q of %s is %q with status %d at version %d, want status %d at version %d", c.ID, ref, got.ID, got.Status, got.Version, c.Status, version)
	case !bytes.Equal(got.Result, c.Result):
		return fmt.Errorf("the result of call %q is %s, want %s", c.ID, short(got.Result), short(c.Result))
	}
	return nil
}

// pending reads all effects of a shard, page by page.
func (k *kit) pending(ctx context.Context, shard, page int) (all []object.PendingEffect, err error) {
	var after object.EffectKey
	for {
		list, err := k.eo.PendingEffects(ctx, shard, after, page)
		switch {
		case err != nil:
			return nil, fmt.Errorf("pending effects: %w", err)
		case len(list) > page:
			return nil, fmt.Errorf("asked for %d effects and got %d", page, len(list))
		case len(list) == 0:
			return all, nil
		case list[0].Key == after:
			return nil, fmt.Errorf("the effect %+v comes after itself", after)
		}
		all = append(all, list...)
		after = list[len(list)-1].Key
	}
}

// wantEffects demands which effects a shard has, by their ids, in order. Effects that
// are not of this check do not count.
func (k *kit) wantEffects(ctx context.Context, shard int, want ...object.Effect) error {
	got, err := k.pending(ctx, shard, 100)
	if err != nil {
		return err
	}
	got = slices.DeleteFunc(got, func(e object.PendingEffect) bool { return !strings.HasSuffix(e.Key.Source.ID, k.tag) })
	ids := make([]string, len(got))
	for i, e := range got {
		ids[i] = strings.TrimSuffix(e.ID, "-"+k.tag)
	}
	if len(got) != len(want) {
		return fmt.Errorf("pending are the effects %q, want %d", ids, len(want))
	}
	for i, e := range got {
		if err := sameEffect(e.Effect, want[i]); err != nil {
			return fmt.Errorf("effect %d of %q: %w", i, ids, err)
		}
	}
	return nil
}

func sameEffect(got, want object.Effect) error {
	switch {
	case got.ID != want.ID || got.Kind != want.Kind || got.Target != want.Target:
		return fmt.Errorf("it is %q, kind %d, to %s, want %q, kind %d, to %s", got.ID, got.Kind, got.Target, want.ID, want.Kind, want.Target)
	case !bytes.Equal(got.Payload, want.Payload):
		return fmt.Errorf("its payload is %s, want %s", short(got.Payload), short(want.Payload))
	case got.NotAfter.IsZero() != want.NotAfter.IsZero() || !got.NotAfter.Equal(want.NotAfter.Truncate(time.Microsecond)):
		return fmt.Errorf("it ends at %v, want %v", got.NotAfter, want.NotAfter)
	}
	return nil
}

// records commits a batch in which one save of each verdict carries records.
func records(ctx context.Context, k *kit) error {
	h, err := k.hold(ctx, "a")
	if err != nil {
		return err
	}
	lost, err := k.hold(ctx, "a")
	if err != nil {
		return err
	}
	if _, err := k.take(ctx, "b", lost.Shard); err != nil {
		return err
	}
	if err := steps(
		func() error { return h.wrote(ctx, k.ref("updated"), doc(1), 0) },
		func() error { return h.wrote(ctx, k.ref("deleted"), doc(1), 0) },
	); err != nil {
		return err
	}
	batch := []struct {
		save    object.Save
		kind    object.VerdictKind
		version uint64
	}{
		{h.save(k.ref("created"), doc(1), 0), object.Committed, 1},
		{lost.save(k.ref("zombie"), doc(1), 0), object.FenceLost, 0},
		{h.save(k.ref("updated"), doc(2), 1), object.Committed, 2},
		{h.save(k.ref("future"), doc(1), 9), object.Conflict, 0},
		{h.save(k.ref("bad"), []byte(`{`), 0), object.Rejected, 0},
		{h.save(k.ref("deleted"), nil, 1), object.Committed, 2},
		{h.save(k.ref("plain"), doc(1), 0), object.Committed, 1},
	}
	saves := make([]object.Save, len(batch))
	for i, b := range batch {
		name := b.save.Ref.ID[:3]
		saves[i] = with(b.save, []object.CallRecord{k.call(name), k.call(name + "2")}, k.send(name), k.send(name+"2"))
		if b.save.Ref == k.ref("plain") {
			saves[i] = b.save
		}
	}
	vs, err := h.commit(ctx, saves...)
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	for i, b := range batch {
		if err := wantVerdict(vs[i], b.kind, b.version); err != nil {
			return fmt.Errorf("save %q: %w", b.save.Ref, err)
		}
		version := vs[i].Version
		if b.kind != object.Committed {
			version = 0
		}
		for _, c := range saves[i].Calls {
			if err := k.wantCall(ctx, b.save.Ref, c, version); err != nil {
				return fmt.Errorf("save %q: %w", b.save.Ref, err)
			}
		}
	}
	return steps(
		func() error { return k.wantCall(ctx, k.ref("other"), k.call("cre"), 0) },
		func() error {
			return k.wantEffects(ctx, h.Shard, k.send("cre"), k.send("cre2"), k.send("del"), k.send("del2"), k.send("upd"), k.send("upd2"))
		},
		func() error { return k.wantEffects(ctx, lost.Shard) },
	)
}

func recordsCopy(ctx context.Context, k *kit) error {
	h, err := k.hold(ctx, "a")
	if err != nil {
		return err
	}
	ref := k.ref("a")
	save := with(h.save(ref, doc(1), 0), []object.CallRecord{k.call("c")}, k.send("e"))
	for range 3 {
		if err := steps(
			func() error { return h.want(ctx, save, object.Committed, 1) },
			func() error { return k.wantCall(ctx, ref, save.Calls[0], 1) },
			func() error { return k.wantEffects(ctx, h.Shard, save.Effects...) },
		); err != nil {
			return err
		}
	}
	key := object.EffectKey{Shard: h.Shard, Source: ref, Version: 1}
	return steps(
		func() error { return k.ends(ctx, h.Fence, true, key) },
		func() error { return h.want(ctx, save, object.Committed, 1) },
		func() error { return k.wantEffects(ctx, h.Shard) }, // an effect that was delivered does not come back
		func() error { return h.wrote(ctx, ref, doc(2), 1) },
		func() error { return h.want(ctx, save, object.Conflict, 0) },
		func() error { return k.wantEffects(ctx, h.Shard) },
	)
}

// ends ends effects and demands whether the store agrees.
func (k *kit) ends(ctx context.Context, f object.Fence, want bool, keys ...object.EffectKey) error {
	ok, err := k.eo.EndEffects(ctx, f, keys)
	if err != nil || ok != want {
		return fmt.Errorf("end effects under %+v: %v, error %v, want %v", f, ok, err, want)
	}
	return nil
}

// wantRejected demands that one save of a batch is Rejected with an error that is
// good, that nothing of it is kept, and that its neighbours are.
func (k *kit) wantRejected(ctx context.Context, h *holder, bad object.Save, good func(error) bool) error {
	before, after := h.save(k.ref("before"+object.NewID()), doc(1), 0), h.save(k.ref("after"+object.NewID()), doc(2), 0)
	was, err := k.fp.Load(ctx, bad.Ref)
	if err != nil {
		return err
	}
	vs, err := h.commit(ctx, before, bad, after)
	if err != nil {
		return fmt.Errorf("the whole commit failed: %w", err)
	}
	return steps(
		func() error { return wantVerdict(vs[0], object.Committed, 1) },
		func() error { return wantVerdict(vs[1], object.Rejected, 0) },
		func() error { return wantVerdict(vs[2], object.Committed, 1) },
		func() error { return k.wantRecord(ctx, bad.Ref, was.Data, was.Version) },
		func() error {
			if !good(vs[1].Err) {
				return fmt.Errorf("rejected with another error than it should be: %w", vs[1].Err)
			}
			return nil
		},
	)
}

func isRecorded(err error) bool  { return errors.Is(err, object.ErrCallRecorded) }
func notRecorded(err error) bool { return !errors.Is(err, object.ErrCallRecorded) }

func callRecorded(ctx context.Context, k *kit) error {
	h, err := k.hold(ctx, "a")
	if err != nil {
		return err
	}
	ref, c := k.ref("a"), k.call("c")
	again := c
	again.Result, again.Status = []byte("another"), object.CallFailed
	if err := h.want(ctx, with(h.save(ref, doc(1), 0), []object.CallRecord{c}), object.Committed, 1); err != nil {
		return err
	}
	bad := with(h.save(ref, doc(2), 1), []object.CallRecord{k.call("new"), again}, k.send("e"))
	stale := with(h.save(ref, doc(2), 0), []object.CallRecord{again})
	return steps(
		func() error { return k.wantRejected(ctx, h, bad, isRecorded) },
		func() error { return k.wantCall(ctx, ref, c, 1) },
		func() error { return k.wantCall(ctx, ref, k.call("new"), 0) },
		func() error { return k.wantEffects(ctx, h.Shard) },
		func() error { return h.want(ctx, stale, object.Conflict, 0) }, // its base comes first
		// The id is one object's own.
		func() error {
			return h.want(ctx, with(h.save(k.ref("b"), doc(1), 0), []object.CallRecord{again}), object.Committed, 1)
		},
		func() error { return k.wantCall(ctx, k.ref("b"), again, 1) },
		func() error { return k.wantCall(ctx, ref, c, 1) },
		func() error { return h.wrote(ctx, ref, doc(2), 1) },
	)
}

func effectIDs(ctx context.Context, k *kit) error {
	h, err := k.hold(ctx, "a")
	if err != nil {
		return err
	}
	far, err := k.hold(ctx, "a")
	if err != nil {
		return err
	}
	e := k.send("e")
	if err := h.want(ctx, with(h.save(k.ref("a"), doc(1), 0), nil, e), object.Committed, 1); err != nil {
		return err
	}
	twice := with(h.save(k.ref("twice"), doc(1), 0), []object.CallRecord{k.call("twice")}, k.send("f"), k.send("f"))
	return steps(
		func() error {
			return k.wantRejected(ctx, h, with(h.save(k.ref("a"), doc(2), 1), []object.CallRecord{k.call("c")}, k.send("new"), e), notRecorded)
		},
		func() error {
			return k.wantRejected(ctx, far, with(far.save(k.ref("b"), doc(1), 0), []object.CallRecord{k.call("c")}, e), notRecorded)
		},
		func() error { return k.wantRejected(ctx, h, twice, notRecorded) },
		func() error { return k.wantCall(ctx, k.ref("a"), k.call("c"), 0) },
		func() error { return k.wantCall(ctx, k.ref("b"), k.call("c"), 0) },
		func() error { return k.wantCall(ctx, k.ref("twice"), k.call("twice"), 0) },
		func() error { return k.wantEffects(ctx, h.Shard, e) },
		func() error { return k.wantEffects(ctx, far.Shard) },
	)
}

func recordsOutlive(ctx context.Context, k *kit) error {
	h, err := k.hold(ctx, "a")
	if err != nil {
		return err
	}
	ref, born, died := k.ref("a"), k.call("born"), k.call("died")
	if err := steps(
		func() error {
			return h.want(ctx, with(h.save(ref, doc(1), 0), []object.CallRecord{born}), object.Committed, 1)
		},
		func() error {
			return h.want(ctx, with(h.save(ref, nil, 1), []object.CallRecord{died}, k.send("e")), object.Committed, 2)
		},
		func() error { return k.wantCall(ctx, ref, born, 1) },
		func() error { return k.wantCall(ctx, ref, died, 2) },
		func() error { return k.wantEffects(ctx, h.Shard, k.send("e")) },
		func() error { return h.wrote(ctx, ref, doc(3), 2) },
		func() error {
			return k.wantRejected(ctx, h, with(h.save(ref, doc(4), 3), []object.CallRecord{born}), isRecorded)
		},
		func() error { return h.wrote(ctx, ref, nil, 3) },
		func() error {
			return k.ends(ctx, h.Fence, true, object.EffectKey{Shard: h.Shard, Source: ref, Version: 2})
		},
	); err != nil {
		return err
	}
	if c, ok := k.fp.(Collector); ok {
		if err := pause(ctx, 2*time.Millisecond); err != nil {
			return err
		}
		if _, err := c.CollectTombstones(ctx, h.Fence, 0, nil); err != nil {
			return err
		}
	}
	return steps(
		func() error { return k.wantCall(ctx, ref, born, 1) },
		func() error { return k.wantCall(ctx, ref, died, 2) },
	)
}

func recordsOfNothing(ctx context.Context, k *kit) error {
	h, err := k.hold(ctx, "a")
	if err != nil {
		return err
	}
	calls := []object.CallRecord{k.call("c")}
	return steps(
		func() error { return k.wantRejected(ctx, h, with(h.save(k.ref("a"), nil, 0), calls), notRecorded) },
		func() error {
			return k.wantRejected(ctx, h, with(h.save(k.ref("a"), nil, 0), nil, k.send("e")), notRecorded)
		},
		func() error { return h.wrote(ctx, k.ref("b"), doc(1), 0) },
		func() error { return h.wrote(ctx, k.ref("b"), nil, 1) },
		func() error { return k.wantRejected(ctx, h, with(h.save(k.ref("b"), nil, 2), calls), notRecorded) },
		func() error { return h.want(ctx, with(h.save(k.ref("b"), nil, 9), calls), object.Conflict, 0) },
		func() error { return k.wantCall(ctx, k.ref("a"), calls[0], 0) },
		func() error { return k.wantCall(ctx, k.ref("b"), calls[0], 0) },
		func() error { return k.wantEffects(ctx, h.Shard) },
	)
}

// oddBytes are buffers that a careless store changes.
func oddBytes() [][]byte {
	return [][]byte{
		nil, {}, {0}, []byte("a\x00b\x00"), {0xff, 0xfe, 0x80}, []byte(`\x6869`), []byte("NULL"), []byte(`{"a": 1.0}`),
		bytes.Repeat([]byte{0, 1, 2, 0xff}, mib/4),
	}
}

func recordData(ctx context.Context, k *kit) error {
	h, err := k.hold(ctx, "a")
	if err != nil {
		return err
	}
	var calls []object.CallRecord
	var effects []object.Effect
	for i, b := range oddBytes() {
		calls = append(calls, object.CallRecord{
			ID: k.id(fmt.Sprint(i)), Status: object.CallStatus(1 + i%3), Result: b, Keep: time.Hour,
		})
		e := object.Effect{ID: k.id(fmt.Sprint(i)), Kind: object.EffectSend, Target: k.ref("é'\"\\%_"), Payload: b}
		if i%2 == 1 {
			e.Kind, e.Target = object.EffectPush, object.Ref{ID: "127.0.0.1:1/" + k.tag}
		}
		effects = append(effects, e)
	}
	calls[1].ID = k.id("é 漢字 😀 '\"\\%_" + strings.Repeat("x", 400))
	effects[2].ID = calls[1].ID
	effects[2].NotAfter = time.Date(2031, 5, 6, 7, 8, 9, 123456789, time.FixedZone("", 3600))
	effects[3].NotAfter = time.UnixMicro(1)
	effects[4].NotAfter = time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC)
	save := with(h.save(k.ref("a"), doc(1), 0), calls, effects...)
	given := with(save, slices.Clone(calls), slices.Clone(effects)...)
	mine := []byte("the caller's")
	given.Calls[0].Result, given.Effects[0].Payload = mine, mine
	calls[0].Result, effects[0].Payload = bytes.Clone(mine), bytes.Clone(mine)
	if err := h.want(ctx, given, object.Committed, 1); err != nil {
		return err
	}
	clear(mine)
	for range 2 { // and what is handed out is the caller's, too
		for _, c := range calls {
			if err := k.wantCall(ctx, save.Ref, c, 1); err != nil {
				return err
			}
		}
		if err := k.wantEffects(ctx, h.Shard, effects...); err != nil {
			return err
		}
		if err := k.scribble(ctx, save.Ref, calls[0].ID, h.Shard); err != nil {
			return err
		}
	}
	return nil
}

// scribble writes into what the store hands out.
func (k *kit) scribble(ctx context.Context, ref object.Ref, call string, shard int) error {
	c, err := k.eo.FindCall(ctx, ref, call)
	if err != nil {
		return err
	}
	clear(c.Result)
	list, err := k.pending(ctx, shard, 100)
	for _, e := range list {
		clear(e.Payload)
	}
	return err
}

func badRecords(ctx context.Context, k *kit) error {
	h, err := k.hold(ctx, "a")
	if err != nil {
		return err
	}
	call := func(change func(*object.CallRecord)) object.Save {
		c := k.call("c")
		change(&c)
		return with(h.save(k.ref("a"), doc(1), 0), []object.CallRecord{c}, k.send("e"))
	}
	effect := func(change func(*object.Effect)) object.Save {
		e := k.send("e")
		change(&e)
		return with(h.save(k.ref("a"), doc(1), 0), []object.CallRecord{k.call("c")}, e)
	}
	both := func(id string) []object.Save {
		return []object.Save{call(func(c *object.CallRecord) { c.ID = id }), effect(func(e *object.Effect) { e.ID = id })}
	}
	bad := slices.Concat(both(""), both("a\x00"+k.tag), both(k.tag+"\xff"), both(strings.Repeat("x", 513)), []object.Save{
		call(func(c *object.CallRecord) { c.Status = 0 }),
		call(func(c *object.CallRecord) { c.Status = 9 }),
		call(func(c *object.CallRecord) { c.Keep = -time.Second }),
		with(h.save(k.ref("a"), doc(1), 0), []object.CallRecord{k.call("c"), k.call("c")}),
		effect(func(e *object.Effect) { e.Kind = 0 }),
		effect(func(e *object.Effect) { e.Kind = 9 }),
		effect(func(e *object.Effect) { e.Target = object.Ref{} }),
		effect(func(e *object.Effect) { e.Target.ID = "a\x00" }),
		effect(func(e *object.Effect) { e.Kind = object.EffectPush }), // at an object
		effect(func(e *object.Effect) { e.Payload = make([]byte, 16*mib) }),
		effect(func(e *object.Effect) { e.NotAfter = time.Date(12345, 1, 1, 0, 0, 0, 0, time.UTC) }),
	})
	for i, save := range bad {
		if err := k.wantRejected(ctx, h, save, notRecorded); err != nil {
			return fmt.Errorf("bad save %d: %w", i, err)
		}
	}
	return steps(
		func() error { return k.wantCall(ctx, k.ref("a"), k.call("c"), 0) },
		func() error { return k.wantEffects(ctx, h.Shard) },
	)
}

func recentCalls(ctx context.Context, k *kit) error {
	h, err := k.hold(ctx, "a")
	if err != nil {
		return err
	}
	const n = 12 // more than 9, for a store that sorts versions as text
	var ids []string
	for v := range uint64(n) {
		c := k.call(fmt.Sprint((v * 7) % n)) // in no order of their own
		if err := h.want(ctx, with(h.save(k.ref("a"), doc(1), v), []object.CallRecord{c}), object.Committed, v+1); err != nil {
			return err
		}
		ids = append(ids, c.ID)
	}
	other := with(h.save(k.ref("b"), doc(1), 0), []object.CallRecord{k.call("other")})
	if err := h.want(ctx, other, object.Committed, 1); err != nil {
		return err
	}
	for _, limit := range []int{0, 1, 5, n - 1, n, n + 1, 1000} {
		got, all, err := k.eo.RecentCalls(ctx, k.ref("a"), limit)
		if err != nil {
			return fmt.Errorf("recent calls: %w", err)
		}
		want := slices.Sorted(slices.Values(ids[max(0, n-limit):]))
		if slices.Sort(got); !slices.Equal(got, want) || all != (limit >= n) {
			return fmt.Errorf("the newest %d of %d calls are %q, all %v, want %q, all %v", limit, n, got, all, want, limit >= n)
		}
	}
	if got, all, err := k.eo.RecentCalls(ctx, k.ref("nobody"), 5); err != nil || len(got) > 0 || !all {
		return fmt.Errorf("of an object without calls: %q, all %v, error %v", got, all, err)
	}
	return nil
}

func effectOrder(ctx context.Context, k *kit) error {
	h, err := k.hold(ctx, "a")
	if err != nil {
		return err
	}
	far, err := k.hold(ctx, "a")
	if err != nil {
		return err
	}
	var refs []object.Ref
	for _, typ := range []string{"Kit", "KitB", "Kita", "kit"} {
		for _, id := range []string{"A", "B", "_", "a", "ab", "b", "é", "～", "😀"} {
			refs = append(refs, object.Ref{Type: typ, ID: id + k.tag})
		}
	}
	// As bytes, in which capitals come before small letters and U+FF5E before U+1F600.
	slices.SortFunc(refs, func(a, b object.Ref) int { return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.ID, b.ID)) })
	var want []object.EffectKey
	for i, ref := range refs {
		save := with(h.save(ref, doc(1), 0), nil, k.send(fmt.Sprint(i, "/0")), k.send(fmt.Sprint(i, "/1")))
		if err := h.want(ctx, save, object.Committed, 1); err != nil {
			return err
		}
		for ord := range save.Effects {
			want = append(want, object.EffectKey{Shard: h.Shard, Source: ref, Version: 1, Ord: ord})
		}
	}
	// Versions and places beyond 9 come after 9.
	last := object.Ref{Type: "zKit", ID: k.tag}
	for v := range uint64(11) {
		save := h.save(last, doc(1), v)
		for ord := range 11 {
			save.Effects = append(save.Effects, k.send(fmt.Sprint("last", v, "/", ord)))
			want = append(want, object.EffectKey{Shard: h.Shard, Source: last, Version: v + 1, Ord: ord})
		}
		if err := h.want(ctx, save, object.Committed, v+1); err != nil {
			return err
		}
	}
	if err := far.want(ctx, with(far.save(k.ref("far"), doc(1), 0), nil, k.send("far")), object.Committed, 1); err != nil {
		return err
	}
	for _, page := range []int{1, 7, 1000} {
		got, err := k.pending(ctx, h.Shard, page)
		if err != nil {
			return err
		}
		var keys []object.EffectKey
		for _, e := range got {
			if strings.HasSuffix(e.Key.Source.ID, k.tag) {
				keys = append(keys, e.Key)
			}
		}
		if err := sameKeys(keys, want); err != nil {
			return fmt.Errorf("in pages of %d: %w", page, err)
		}
	}
	return nil
}

func sameKeys(got, want []object.EffectKey) error {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Errorf("effect %d is %+v, want %+v", i, got[i], want[i])
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d effects are pending, want %d", len(got), len(want))
	}
	return nil
}

func endEffects(ctx context.Context, k *kit) error {
	h, err := k.hold(ctx, "a")
	if err != nil {
		return err
	}
	far, err := k.hold(ctx, "a")
	if err != nil {
		return err
	}
	ref, a, b, c := k.ref("a"), k.send("a"), k.send("b"), k.send("c")
	if err := steps(
		func() error { return h.want(ctx, with(h.save(ref, doc(1), 0), nil, a, b, c), object.Committed, 1) },
		func() error {
			return far.want(ctx, with(far.save(k.ref("far"), doc(1), 0), nil, k.send("far")), object.Committed, 1)
		},
	); err != nil {
		return err
	}
	key := func(ord int) object.EffectKey {
		return object.EffectKey{Shard: h.Shard, Source: ref, Version: 1, Ord: ord}
	}
	elsewhere := object.EffectKey{Shard: far.Shard, Source: k.ref("far"), Version: 1}
	for name, f := range map[string]object.Fence{
		"a lower epoch":  {Shard: h.Shard, Epoch: h.Epoch - 1, Owner: h.Owner},
		"a higher epoch": {Shard: h.Shard, Epoch: h.Epoch + 1, Owner: h.Owner},
		"another owner":  {Shard: h.Shard, Epoch: h.Epoch, Owner: h.Owner + "x"},
		"no fence":       {Shard: h.Shard},
		"a fresh shard":  {Shard: k.shard(), Epoch: 1, Owner: h.Owner + "nobody"},
	} {
		if err := k.ends(ctx, f, false, key(0), key(1)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	heir := *h
	return steps(
		func() error { return k.wantEffects(ctx, h.Shard, a, b, c) },
		func() error { return k.ends(ctx, h.Fence, true) },
		func() error { return k.ends(ctx, h.Fence, true, key(1), key(9), elsewhere) },
		func() error { return k.wantEffects(ctx, h.Shard, a, c) },
		func() error { return k.wantEffects(ctx, far.Shard, k.send("far")) },
		func() error { return k.ends(ctx, h.Fence, true, key(1)) },
		func() error { // the next holder ends what its predecessor left, who cannot any more
			next, err := k.take(ctx, "b", h.Shard)
			if err == nil {
				heir = *next
			}
			return err
		},
		func() error { return k.ends(ctx, h.Fence, false, key(0)) },
		func() error { return k.wantEffects(ctx, h.Shard, a, c) },
		func() error { return k.ends(ctx, heir.Fence, true, key(0), key(2)) },
		func() error { return k.wantEffects(ctx, h.Shard) },
	)
}

func collectCalls(ctx context.Context, k *kit) error {
	const many = 1100 // more than one collection takes
	h, err := k.hold(ctx, "a")
	if err != nil {
		return err
	}
	far, err := k.hold(ctx, "a")
	if err != nil {
		return err
	}
	brief := func(n int) (calls []object.CallRecord) {
		for i := range n {
			c := k.call(fmt.Sprint("brief", i))
			c.Keep = time.Millisecond
			calls = append(calls, c)
		}
		return calls
	}
	ref, long := k.ref("a"), k.call("long")
	if err := steps(
		func() error {
			return h.want(ctx, with(h.save(ref, doc(1), 0), append(brief(many), long)), object.Committed, 1)
		},
		func() error {
			return far.want(ctx, with(far.save(k.ref("far"), doc(1), 0), brief(1)), object.Committed, 1)
		},
		func() error { return pause(ctx, 5*time.Millisecond) },
	); err != nil {
		return err
	}
	collects := func(f object.Fence, want int) func() error {
		return func() error {
			n, err := k.eo.CollectCalls(ctx, f)
			if err != nil || n != want {
				return fmt.Errorf("collected %d calls under %+v, error %v, want %d", n, f, err, want)
			}
			return nil
		}
	}
	stale := h.Fence
	stale.Owner += "x"
	return steps(
		collects(stale, 0),
		collects(object.Fence{Shard: h.Shard}, 0),
		func() error { _, err := k.eo.FindCall(ctx, k.ref("far"), k.id("brief0")); return err },
		collects(h.Fence, 1000),
		collects(h.Fence, many-1000),
		collects(h.Fence, 0),
		func() error { return k.wantCall(ctx, ref, k.call("brief0"), 0) },
		func() error { return k.wantCall(ctx, ref, k.call("brief1099"), 0) },
		func() error { return k.wantCall(ctx, ref, long, 1) },
		func() error { _, err := k.eo.FindCall(ctx, k.ref("far"), k.id("brief0")); return err },
		// What was collected may be recorded anew: whoever asks so late is refused before.
		func() error {
			return h.want(ctx, with(h.save(ref, doc(2), 1), []object.CallRecord{k.call("brief0")}), object.Committed, 2)
		},
		func() error { return k.wantCall(ctx, ref, k.call("brief0"), 2) },
		collects(h.Fence, 0),
	)
}

// collectOwing deletes an object that has an effect to deliver. Were it forgotten, a
// new object of its name would begin its versions again, and with them the keys.
func collectOwing(ctx context.Context, k *kit) error {
	h, err := k.hold(ctx, "a")
	if err != nil {
		return err
	}
	ref, c := k.ref("a"), k.fp.(Collector)
	collect := func(want int) func() error {
		return func() error {
			n, err := c.CollectTombstones(ctx, h.Fence, 0, nil)
			if err != nil || n != want {
				return fmt.Errorf("collected %d deleted objects, error %v, want %d", n, err, want)
			}
			return nil
		}
	}
	return steps(
		func() error { return h.want(ctx, with(h.save(ref, doc(1), 0), nil, k.send("e")), object.Committed, 1) },
		func() error { return h.wrote(ctx, ref, nil, 1) },
		func() error { return pause(ctx, 2*time.Millisecond) },
		collect(0),
		func() error { return k.wantRecord(ctx, ref, nil, 2) },
		func() error {
			return k.ends(ctx, h.Fence, true, object.EffectKey{Shard: h.Shard, Source: ref, Version: 1})
		},
		collect(1),
	)
}
