package objecttest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/xiaonanln/goverse/object"
)

func fencedChecks() []check {
	list := []check{
		{name: "Identity", keeps: "a store has an identity, and at least one lane", run: identity},
		{name: "StampTable", keeps: "a fence gives way to a higher epoch only, and at an equal one to its owner only", run: stampTable},
		{name: "StampBatch", keeps: "the shards of one stamp are judged one by one", run: stampBatch},
		{name: "FenceEquality", keeps: "a save counts only under exactly the shard's epoch and owner", run: fenceEquality},
		{name: "FenceOverRead", keeps: "a deposed holder's save does not count, however often it is sent", run: deposed},
		{name: "Versions", keeps: "each committed save makes the next version, without gaps", run: versions},
		{name: "CompareAndSet", keeps: "a save from another version than the stored one is a Conflict", run: compareAndSet},
		{name: "MixedBatch", keeps: "the saves of one commit are judged one by one, in their order", run: mixedBatch},
		{name: "LargeBatch", keeps: "a thousand saves in one commit", run: largeBatch},
		{name: "EmptyCommit", keeps: "an empty commit is no error", run: emptyCommit},
		{name: "Tombstone", keeps: "a deletion is a version, and a re-creation continues the count", run: tombstone},
		{name: "LateSave", keeps: "a late save never brings a deleted object back", run: lateSave},
		{name: "DeleteNothing", keeps: "to delete what does not exist is Committed and writes nothing", run: deleteNothing},
		{name: "Repeat", keeps: "a save that is repeated counts once and is Committed each time", run: repeat},
		{name: "Created", keeps: "the time of creation stays until the object is created anew", run: created},
		{name: "Unfenced", keeps: "a save without a fence makes the holder's next one a Conflict", run: unfencedSave},
		{name: "CommitCanceled", keeps: "a cancelled commit tells the truth", run: commitCanceled},
	}
	for i := range list {
		list[i].needs = fenced
	}
	return append(list, check{
		name: "Collect", keeps: "only old tombstones of the own shard are collected, and no live object's", run: collect, needs: collects,
	})
}

func identity(ctx context.Context, k *kit) error {
	a, err := k.fp.StoreID(ctx)
	if err != nil {
		return err
	}
	b, err := k.fp.StoreID(ctx)
	switch {
	case err != nil:
		return err
	case a == "" || a != b:
		return fmt.Errorf("the store id is %q, then %q", a, b)
	case k.fp.Lanes() < 1:
		return fmt.Errorf("lanes is %d", k.fp.Lanes())
	}
	return nil
}

// stampTable is the table of protocol.md's STAMP.
func stampTable(ctx context.Context, k *kit) error {
	first, err := k.hold(ctx, "a")
	if err != nil {
		return err
	}
	shard, e, a, b := first.Shard, first.Epoch, first.Owner, first.Owner+"-b"
	for _, row := range []struct {
		owner string
		epoch uint64
		has   object.Fence // the fence afterwards; the stamp is accepted if it is the stamp's own
	}{
		{a, e, object.Fence{Shard: shard, Epoch: e, Owner: a}},
		{b, e, object.Fence{Shard: shard, Epoch: e, Owner: a}},
		{a, e + 1, object.Fence{Shard: shard, Epoch: e + 1, Owner: a}},
		{b, e + 2, object.Fence{Shard: shard, Epoch: e + 2, Owner: b}},
		{a, e, object.Fence{Shard: shard, Epoch: e + 2, Owner: b}},
		{a, e + 2, object.Fence{Shard: shard, Epoch: e + 2, Owner: b}},
		{b, e + 1, object.Fence{Shard: shard, Epoch: e + 2, Owner: b}},
		{b, e + 2, object.Fence{Shard: shard, Epoch: e + 2, Owner: b}},
		{a, e + 9, object.Fence{Shard: shard, Epoch: e + 9, Owner: a}},
	} {
		if err := k.stamps(ctx, row.owner, object.Fence{Shard: shard, Epoch: row.epoch}, row.has); err != nil {
			return err
		}
	}
	return nil
}

// stamps stamps one shard and demands the fence that it has afterwards.
func (k *kit) stamps(ctx context.Context, owner string, f, has object.Fence) error {
	refused, err := k.fp.Stamp(ctx, owner, []object.Fence{f})
	if err != nil {
		return fmt.Errorf("stamp: %w", err)
	}
	accepted := has.Owner == owner && has.Epoch == f.Epoch
	switch {
	case accepted && len(refused) != 0:
		return fmt.Errorf("stamp %d/%s was refused by %+v", f.Epoch, owner, refused)
	case !accepted && !slices.Equal(refused, []object.Fence{has}):
		return fmt.Errorf("stamp %d/%s was refused as %+v, want %+v", f.Epoch, owner, refused, has)
	}
	// What Stamp says is what Commit does: only the fence's own save gets through.
	h := &holder{fp: k.fp, Fence: has}
	return h.wrote(ctx, k.ref(object.NewID()), doc(1), 0)
}

func stampBatch(ctx context.Context, k *kit) error {
	const n, taken = 300, 7
	other, err := k.hold(ctx, "other")
	if err != nil {
		return err
	}
	// Lift all to one epoch, which also tells the highest that they have.
	fences := make([]object.Fence, n)
	top := other.Epoch
	for i := range fences {
		f, err := k.take(ctx, "first", k.shard())
		if err != nil {
			return err
		}
		fences[i], top = f.Fence, max(top, f.Epoch)
	}
	for i := range fences {
		fences[i].Epoch = top + 1
	}
	if _, err := k.fp.Stamp(ctx, other.Owner, []object.Fence{{Shard: fences[taken].Shard, Epoch: top + 2}}); err != nil {
		return err
	}
	me := "kit:1#batch-" + k.tag
	refused, err := k.fp.Stamp(ctx, me, fences)
	want := []object.Fence{{Shard: fences[taken].Shard, Epoch: top + 2, Owner: other.Owner}}
	if err != nil || !slices.Equal(refused, want) {
		return fmt.Errorf("refused is %+v, error %v, want %+v", refused, err, want)
	}
	for i, f := range fences {
		h := &holder{fp: k.fp, Fence: object.Fence{Shard: f.Shard, Epoch: f.Epoch, Owner: me}}
		save := h.save(k.ref(fmt.Sprint(i)), doc(i), 0)
		kind := object.Committed
		if i == taken {
			kind = object.FenceLost
		}
		if err := h.want(ctx, save, kind, 1); err != nil {
			return fmt.Errorf("shard %d of the batch: %w", i, err)
		}
	}
	return nil
}

func fenceEquality(ctx context.Context, k *kit) error {
	ref := k.ref("a")
	h, err := k.hold(ctx, "a")
	if err != nil {
		return err
	}
	// Two epochs up, so that there is a lower one that was never stamped.
	h.Epoch += 2
	if refused, err := h.fp.Stamp(ctx, h.Owner, []object.Fence{h.Fence}); err != nil || len(refused) > 0 {
		return fmt.Errorf("stamp: %+v, %w", refused, err)
	}
	if err := h.wrote(ctx, ref, doc(1), 0); err != nil {
		return err
	}
	for name, f := range map[string]object.Fence{
		"a lower epoch":         {Shard: h.Shard, Epoch: h.Epoch - 1, Owner: h.Owner},
		"a higher epoch":        {Shard: h.Shard, Epoch: h.Epoch + 1, Owner: h.Owner},
		"another owner":         {Shard: h.Shard, Epoch: h.Epoch, Owner: h.Owner + "x"},
		"no owner":              {Shard: h.Shard, Epoch: h.Epoch},
		"epoch 0":               {Shard: h.Shard, Owner: h.Owner},
		"an epoch beyond int64": {Shard: h.Shard, Epoch: 1<<63 + h.Epoch, Owner: h.Owner},
		"a shard never stamped": {Shard: k.shard(), Epoch: 1, Owner: h.Owner + "nobody"},
		"a shard out of range":  {Shard: -1, Epoch: h.Epoch, Owner: h.Owner},
	} {
		z := &holder{fp: k.fp, Fence: f}
		for _, save := range []object.Save{z.save(ref, doc(2), 1), z.save(ref, nil, 1), z.save(k.ref("new"), doc(2), 0)} {
			if err := z.want(ctx, save, object.FenceLost, 0); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return steps(
		func() error { return k.wantRecord(ctx, ref, doc(1), 1) },
		func() error { return k.wantRecord(ctx, k.ref("new"), nil, 0) },
		func() error { return h.wrote(ctx, ref, doc(3), 1) },
	)
}

func deposed(ctx context.Context, k *kit) error {
	ref := k.ref("a")
	old, err := k.hold(ctx, "old")
	if err != nil {
		return err
	}
	if err := old.wrote(ctx, ref, doc(1), 0); err != nil {
		return err
	}
	late := old.save(ref, doc(2), 1)
	heir, err := k.take(ctx, "new", old.Shard)
	if err != nil {
		return err
	}
	for range 3 {
		if err := old.want(ctx, late, object.FenceLost, 0); err != nil {
			return err
		}
		if err := k.wantRecord(ctx, ref, doc(1), 1); err != nil {
			return err
		}
	}
	return heir.wrote(ctx, ref, doc(3), 1)
}

func versions(ctx context.Context, k *kit) error {
	h, err := k.hold(ctx, "a")
	if err != nil {
		return err
	}
	for n := range uint64(20) {
		if err := h.wrote(ctx, k.ref("a"), doc(int(n)), n); err != nil {
			return err
		}
	}
	return k.wantRecord(ctx, k.ref("a"), doc(19), 20)
}

func compareAndSet(ctx context.Context, k *kit) error {
	ref := k.ref("a")
	h, err := k.hold(ctx, "a")
	if err != nil {
		return err
	}
	for n := range uint64(3) {
		if err := h.wrote(ctx, ref, doc(int(n)), n); err != nil {
			return err
		}
	}
	for _, base := range []uint64{0, 1, 2, 4, 99, 1<<63 + 3} {
		for _, data := range [][]byte{doc(9), nil} {
			if err := h.want(ctx, h.save(ref, data, base), object.Conflict, 0); err != nil {
				return fmt.Errorf("base %d over version 3: %w", base, err)
			}
		}
	}
	for _, data := range [][]byte{doc(9), nil} {
		if err := h.want(ctx, h.save(k.ref("new"), data, 1), object.Conflict, 0); err != nil {
			return fmt.Errorf("base 1 over nothing: %w", err)
		}
	}
	return steps(
		func() error { return k.wantRecord(ctx, ref, doc(2), 3) },
		func() error { return k.wantRecord(ctx, k.ref("new"), nil, 0) },
	)
}

func mixedBatch(ctx context.Context, k *kit) error {
	mine, err := k.hold(ctx, "a")
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
	for _, name := range []string{"updated", "deleted", "stale"} {
		if err := mine.wrote(ctx, k.ref(name), doc(1), 0); err != nil {
			return err
		}
	}
	batch := []struct {
		save    object.Save
		kind    object.VerdictKind
		data    []byte // stored afterwards
		version uint64
	}{
		{mine.save(k.ref("created"), doc(2), 0), object.Committed, doc(2), 1},
		{lost.save(k.ref("zombie"), doc(2), 0), object.FenceLost, nil, 0},
		{mine.save(k.ref("updated"), doc(2), 1), object.Committed, doc(2), 2},
		{mine.save(k.ref("stale"), doc(2), 0), object.Conflict, doc(1), 1},
		{mine.save(k.ref("bad"), []byte(`{`), 0), object.Rejected, nil, 0},
		{mine.save(k.ref("deleted"), nil, 1), object.Committed, nil, 2},
		{mine.save(k.ref("future"), doc(2), 5), object.Conflict, nil, 0},
		{mine.save(k.ref("last"), doc(2), 0), object.Committed, doc(2), 1},
	}
	saves := make([]object.Save, len(batch))
	for i, b := range batch {
		saves[i] = b.save
	}
	vs, err := mine.commit(ctx, saves...)
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	for i, b := range batch {
		if err := wantVerdict(vs[i], b.kind, b.version); err != nil {
			return fmt.Errorf("save %q: %w", b.save.Ref, err)
		}
		if err := k.wantRecord(ctx, b.save.Ref, b.data, b.version); err != nil {
			return err
		}
	}
	return nil
}

func largeBatch(ctx context.Context, k *kit) error {
	h, err := k.hold(ctx, "a")
	if err != nil {
		return err
	}
	saves := make([]object.Save, 1000)
	for base := range uint64(2) {
		for i := range saves {
			saves[i] = h.save(k.ref(fmt.Sprint(i)), doc(i), base)
		}
		vs, err := h.commit(ctx, saves...)
		if err != nil {
			return fmt.Errorf("commit: %w", err)
		}
		for i, v := range vs {
			if err := wantVerdict(v, object.Committed, base+1); err != nil {
				return fmt.Errorf("save %d: %w", i, err)
			}
		}
	}
	return k.wantRecord(ctx, k.ref("999"), doc(999), 2)
}

func emptyCommit(ctx context.Context, k *kit) error {
	h, err := k.hold(ctx, "a")
	if err != nil {
		return err
	}
	if _, err := h.commit(ctx); err != nil {
		return fmt.Errorf("commit of nothing: %w", err)
	}
	if refused, err := k.fp.Stamp(ctx, h.Owner, nil); err != nil || len(refused) > 0 {
		return fmt.Errorf("stamp of nothing: %+v, %w", refused, err)
	}
	return nil
}

func tombstone(ctx context.Context, k *kit) error {
	ref := k.ref("a")
	h, err := k.hold(ctx, "a")
	if err != nil {
		return err
	}
	return steps(
		func() error { return h.wrote(ctx, ref, doc(1), 0) },
		func() error { return h.wrote(ctx, ref, nil, 1) },
		func() error { return k.wantRecord(ctx, ref, nil, 2) },
		func() error { return k.wantState(ctx, ref, nil) },
		func() error { return h.wrote(ctx, ref, doc(3), 2) },
		func() error { return k.wantRecord(ctx, ref, doc(3), 3) },
		func() error { return k.wantState(ctx, ref, doc(3)) },
		func() error { return h.wrote(ctx, ref, nil, 3) },
		func() error { return k.wantRecord(ctx, ref, nil, 4) },
	)
}

// lateSave sends, after a deletion, saves that were made before it.
func lateSave(ctx context.Context, k *kit) error {
	ref := k.ref("a")
	h, err := k.hold(ctx, "a")
	if err != nil {
		return err
	}
	first, late := h.save(ref, doc(1), 0), h.save(ref, doc(2), 1)
	if err := steps(
		func() error { return h.want(ctx, first, object.Committed, 1) },
		func() error { return h.wrote(ctx, ref, nil, 1) },
	); err != nil {
		return err
	}
	for _, save := range []object.Save{late, first, h.save(ref, doc(3), 0)} {
		if err := h.want(ctx, save, object.Conflict, 0); err != nil {
			return fmt.Errorf("save from version %d: %w", save.Base, err)
		}
		if err := k.wantRecord(ctx, ref, nil, 2); err != nil {
			return err
		}
	}
	return nil
}

func deleteNothing(ctx context.Context, k *kit) error {
	ref := k.ref("a")
	h, err := k.hold(ctx, "a")
	if err != nil {
		return err
	}
	gone := func(base uint64) func() error {
		return func() error { return h.want(ctx, h.save(ref, nil, base), object.Committed, base) }
	}
	return steps(
		gone(0),
		func() error { return k.wantRecord(ctx, ref, nil, 0) },
		func() error { return h.wrote(ctx, ref, doc(1), 0) },
		func() error { return h.wrote(ctx, ref, nil, 1) },
		gone(2),
		func() error { return k.wantRecord(ctx, ref, nil, 2) },
		func() error { return h.want(ctx, h.save(ref, nil, 0), object.Conflict, 0) },
	)
}

func repeat(ctx context.Context, k *kit) error {
	ref := k.ref("a")
	h, err := k.hold(ctx, "a")
	if err != nil {
		return err
	}
	saves := []object.Save{h.save(ref, doc(1), 0), h.save(ref, doc(2), 1), h.save(ref, nil, 2), h.save(ref, doc(4), 3)}
	for i, save := range saves {
		for range 3 {
			if err := h.want(ctx, save, object.Committed, uint64(i)+1); err != nil {
				return fmt.Errorf("save %d: %w", i+1, err)
			}
		}
		if err := k.wantRecord(ctx, ref, save.Data, uint64(i)+1); err != nil {
			return err
		}
		// The same base under another id is another save.
		other := save
		other.SaveID = saveID()
		if err := h.want(ctx, other, object.Conflict, 0); err != nil {
			return fmt.Errorf("another save from version %d: %w", i, err)
		}
	}
	heir, err := k.take(ctx, "b", h.Shard)
	if err != nil {
		return err
	}
	return steps(
		func() error { return h.want(ctx, saves[3], object.FenceLost, 0) },
		func() error { return heir.wrote(ctx, ref, doc(5), 4) },
	)
}

func created(ctx context.Context, k *kit) error {
	ref := k.ref("a")
	h, err := k.hold(ctx, "a")
	if err != nil {
		return err
	}
	var first, again, anew object.Record
	load := func(r *object.Record) func() error {
		return func() (err error) { *r, err = k.fp.Load(ctx, ref); return err }
	}
	err = steps(
		func() error { return h.wrote(ctx, ref, doc(1), 0) }, load(&first),
		func() error { return h.wrote(ctx, ref, doc(2), 1) }, load(&again),
		func() error { return h.wrote(ctx, ref, nil, 2) },
		func() error { return pause(ctx, 2*time.Millisecond) }, // for a store that counts in milliseconds
		func() error { return h.wrote(ctx, ref, doc(3), 3) }, load(&anew),
	)
	switch {
	case err != nil:
		return err
	case first.Created.IsZero() || !again.Created.Equal(first.Created):
		return fmt.Errorf("created at %v, after an update at %v", first.Created, again.Created)
	case !anew.Created.After(first.Created):
		return fmt.Errorf("created anew at %v, first at %v", anew.Created, first.Created)
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func unfencedSave(ctx context.Context, k *kit) error {
	ref := k.ref("a")
	h, err := k.hold(ctx, "a")
	if err != nil {
		return err
	}
	return steps(
		func() error { return h.wrote(ctx, ref, doc(1), 0) },
		func() error { return k.wantState(ctx, ref, doc(1)) },
		func() error { return k.SaveObject(ctx, ref.Type, ref.ID, doc(2)) },
		func() error { return h.want(ctx, h.save(ref, doc(3), 1), object.Conflict, 0) },
		func() error { return k.wantRecord(ctx, ref, doc(2), 2) },
		func() error { return k.DeleteObject(ctx, ref.Type, ref.ID) },
		func() error { return h.want(ctx, h.save(ref, doc(3), 2), object.Conflict, 0) },
		func() error { return k.wantRecord(ctx, ref, nil, 3) },
		func() error { return h.wrote(ctx, ref, doc(4), 3) },
	)
}

func commitCanceled(ctx context.Context, k *kit) error {
	ref := k.ref("a")
	h, err := k.hold(ctx, "a")
	if err != nil {
		return err
	}
	if err := h.wrote(ctx, ref, doc(1), 0); err != nil {
		return err
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	save := h.save(ref, doc(2), 1)
	vs, err := h.commit(gone, save)
	switch {
	case err == nil:
		if err := wantVerdict(vs[0], object.Committed, 2); err != nil {
			return err
		}
		return k.wantRecord(ctx, ref, doc(2), 2)
	case errors.Is(err, object.ErrNotCommitted):
		if err := k.wantRecord(ctx, ref, doc(1), 1); err != nil {
			return fmt.Errorf("after ErrNotCommitted: %w", err)
		}
	}
	// Whatever became of it, repeating it settles it.
	return steps(
		func() error { return h.want(ctx, save, object.Committed, 2) },
		func() error { return k.wantRecord(ctx, ref, doc(2), 2) },
	)
}

func collect(ctx context.Context, k *kit) error {
	h, err := k.hold(ctx, "a")
	if err != nil {
		return err
	}
	other, err := k.hold(ctx, "a")
	if err != nil {
		return err
	}
	for _, o := range []struct {
		h    *holder
		name string
		dies bool
	}{{h, "dead", true}, {h, "skipped", true}, {h, "living", false}, {other, "elsewhere", true}} {
		if err := o.h.wrote(ctx, k.ref(o.name), doc(1), 0); err != nil {
			return err
		}
		if !o.dies {
			continue
		}
		if err := o.h.wrote(ctx, k.ref(o.name), nil, 1); err != nil {
			return err
		}
	}
	if err := pause(ctx, 2*time.Millisecond); err != nil {
		return err
	}
	c, live := k.fp.(Collector), []object.Ref{k.ref("skipped")}
	count := func(f object.Fence, age time.Duration, want int) func() error {
		return func() error {
			n, err := c.CollectTombstones(ctx, f, age, live)
			if err != nil || n != want {
				return fmt.Errorf("collected %d older than %v under %+v, error %v, want %d", n, age, f, err, want)
			}
			return nil
		}
	}
	stale := h.Fence
	stale.Owner += "x"
	return steps(
		count(h.Fence, time.Hour, 0),
		count(stale, 0, 0),
		func() error { return k.wantRecord(ctx, k.ref("dead"), nil, 2) },
		count(h.Fence, 0, 1),
		func() error { return k.wantRecord(ctx, k.ref("dead"), nil, 0) },
		func() error { return k.wantRecord(ctx, k.ref("skipped"), nil, 2) },
		func() error { return k.wantRecord(ctx, k.ref("living"), doc(1), 1) },
		func() error { return k.wantRecord(ctx, k.ref("elsewhere"), nil, 2) },
		count(h.Fence, 0, 0),
	)
}
