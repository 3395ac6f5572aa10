package node

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/memstore"
)

// degrading lets the node go on without its lease.
func degrading(_ *world, cfg *Config) { cfg.DegradedMode = DegradedOn }

// silence is what a node sees of an etcd that is gone.
func (w *world) silence() {
	w.trusted.Store(false)
	w.Interrupt("this node's lease ended")
}

// takeOver lets another node take up an object's shard and store n, as one that is not
// cut off would.
func (w *world) takeOver(id string, n int64) {
	w.t.Helper()
	w.depose(id)
	r := w.stored(id)
	ref, _ := w.parse(id)
	vs, err := w.store.Commit(bg, "m:1#z", []object.Save{{Ref: ref, Base: r.Version, Shard: w.shardOf(id), Epoch: w.epoch + 1, SaveID: [16]byte{1},
		Data: fmt.Appendf(nil, `{"@type":"type.googleapis.com/google.protobuf.Int64Value","value":"%d"}`, n)}})
	if err != nil || vs[0].Kind != object.Committed {
		w.t.Fatal(vs, err)
	}
}

// confirms counts the questions that the store gets.
func (w *world) confirms() *atomic.Int64 {
	asked := new(atomic.Int64)
	w.store.Fail(func(op memstore.Op) memstore.Fault {
		if op.Kind == memstore.Confirm {
			asked.Add(1)
		}
		return memstore.Fault{}
	})
	return asked
}

func TestDurableObjectsOutliveTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept, setup(degrading), object.MustCreate())
		w.must(w.create(bg, "x"))
		w.want(bg, "x.Change", 1)
		w.must(w.create(bg, "Thing/v"))
		running := w.start(bg, "x.Change", func(ctx context.Context, o *Thing) error {
			time.Sleep(time.Second)
			o.N++
			return ctx.Err()
		})
		synctest.Wait()
		asked := w.confirms()
		w.silence()
		if n, err := running.wait(); n != 2 || err != nil {
			t.Error("a method was interrupted:", n, err)
		}
		for _, target := range []string{"Thing/v.Read", "Thing/v.Change", "Kept/n:1/pinned.Change"} {
			_, err := w.call(bg, target)
			isFault(t, err, fault.NotReady, fault.NotExecuted)
		}
		if n := asked.Load(); n != 0 {
			t.Errorf("%d questions for a call that its own commit vouched for", n)
		}
		w.want(bg, "x.Read", 2)
		w.want(bg, "x.Change", 3)
		w.want(bg, "x.Other", 3) // changes nothing, so that no commit vouches for it
		w.must(w.create(bg, "y"))
		isFault(t, w.create(bg, "y"), fault.Exists, fault.NotExecuted)
		w.want(bg, "y.Change", 1)
		_, err := w.call(bg, "z.Read")
		isFault(t, err, fault.NotFound, fault.NotExecuted)
		w.must(w.delete(bg, "y"))
		w.must(w.delete(bg, "y"))
		if n := asked.Load(); n != 6 { // two reads, Exists, NotFound, and two deletions
			t.Errorf("%d questions", n)
		}
		_, err = w.call(bg, "x.Change", func(ctx context.Context, o *Thing) error { // and it may call others
			_, err := w.call(ctx, "x.Read")
			return err
		})
		w.must(err)
		w.trusted.Store(true)
		before := asked.Load()
		w.want(bg, "x.Read", 3)
		if asked.Load() != before {
			t.Error("asked although the lease is trusted")
		}
	})
}

// Whatever a deposed holder is asked, it says nothing that has become old.
func TestADeposedHolderSaysNothingOld(t *testing.T) {
	for name, ask := range map[string]func(w *world) error{
		"read":   func(w *world) error { _, err := w.call(bg, "x.Read"); return err },
		"other":  func(w *world) error { _, err := w.call(bg, "x.Other"); return err },
		"change": func(w *world) error { _, err := w.call(bg, "x.Change"); return err },
		"create": func(w *world) error { return w.create(bg, "x") },
		"delete": func(w *world) error { return w.delete(bg, "x") },
		"absent": func(w *world) error { _, err := w.call(bg, "gone.Read"); return err },
		"erase":  func(w *world) error { return w.delete(bg, "gone") },
		"call out": func(w *world) error {
			_, err := w.call(bg, "x.Change", func(ctx context.Context, o *Thing) error {
				_, err := w.call(ctx, "y.Change")
				isFault(w.t, err, fault.Fenced, fault.NotExecuted)
				return err
			})
			return err
		},
	} {
		bubble(t, name, func(t *testing.T) {
			w := start(t, kept, setup(degrading), object.MustCreate())
			for _, id := range []string{"x", "y"} {
				w.must(w.create(bg, id))
			}
			w.want(bg, "x.Change", 1)
			w.silence()
			w.want(bg, "x.Read", 1)
			w.takeOver("x", 50)
			if w.shardOf("gone") != w.shardOf("x") {
				w.depose("gone")
			}
			err := ask(w)
			if k := fault.KindOf(err); k != fault.Fenced {
				t.Error(err)
			}
			_, err = w.call(bg, "x.Read")
			if name != "absent" && name != "erase" {
				isFault(t, err, fault.WrongHolder, fault.NotExecuted) // and its shard is shut
			}
			if r := w.stored("x"); r.Version != 3 {
				t.Error("the deposed holder wrote:", r)
			}
			w.want(context.Background(), "y.Read", 0)
		})
	}
}

// lateKeeper answers, but its answers are long on their way.
type lateKeeper struct {
	*memstore.Store
	gates chan chan struct{}
}

func (k *lateKeeper) Confirm(ctx context.Context, owner string, fences []object.Fence) ([]object.Fence, error) {
	lost, err := k.Store.Confirm(ctx, owner, fences)
	gate := make(chan struct{})
	k.gates <- gate
	<-gate
	return lost, err
}

// A call that comes while the store is being asked has to ask anew: what the store said
// may be older than what the call has read.
func TestAQuestionUnderWayIsNotJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keeper := &lateKeeper{gates: make(chan chan struct{}, 10)}
		w := start(t, kept, setup(degrading), setup(func(w *world, _ *Config) {
			keeper.Store = w.store
			w.provider = keeper
		}))
		w.want(bg, "x.Change", 1)
		w.silence()
		first := w.start(bg, "x.Read")
		gate := <-keeper.gates
		w.takeOver("x", 50)
		second := w.start(bg, "x.Read")
		if !first.running() || !second.running() {
			t.Error("answered without the store's word")
		}
		close(gate)
		if n, err := first.wait(); n != 1 || err != nil {
			t.Error("it was the newest when the store was asked, but", n, err)
		}
		close(<-keeper.gates)
		_, err := second.wait()
		isFault(t, err, fault.Fenced, fault.OutcomeUnknown)
	})
}

// Thousands of calls cost few questions.
func TestQuestionsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept, setup(degrading))
		const objects, each = 200, 20
		for i := range objects {
			w.want(bg, fmt.Sprintf("o%d.Change", i), 1)
		}
		w.silence()
		asked, open := new(atomic.Int64), make(chan struct{})
		w.store.Fail(func(op memstore.Op) memstore.Fault {
			if op.Kind != memstore.Confirm {
				return memstore.Fault{}
			}
			asked.Add(1)
			return memstore.Fault{Wait: open}
		})
		var calls []*pending
		for i := range objects {
			for range each {
				calls = append(calls, w.start(bg, fmt.Sprintf("o%d.Read", i)))
			}
		}
		synctest.Wait()
		close(open)
		for _, p := range calls {
			if n, err := p.wait(); n != 1 || err != nil {
				t.Fatal(n, err)
			}
		}
		if n := asked.Load(); n > 2 {
			t.Errorf("%d questions for %d calls", n, len(calls))
		}
	})
}

func TestTheStoreDoesNotSay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept, setup(degrading))
		w.want(bg, "x.Change", 1)
		w.silence()
		down := errors.New("no store")
		f := memstore.Fault{Err: down}
		w.store.Fail(func(op memstore.Op) memstore.Fault {
			if op.Kind == memstore.Confirm {
				return f
			}
			return memstore.Fault{}
		})
		_, err := w.call(bg, "x.Read")
		isFault(t, err, fault.StoreFailed, fault.OutcomeUnknown)
		if !errors.Is(err, down) {
			t.Error(err)
		}
		never := make(chan struct{})
		defer close(never)
		f = memstore.Fault{Wait: never}
		ctx, cancel := within(time.Second)
		defer cancel()
		_, err = w.call(ctx, "x.Read")
		isFault(t, err, fault.Deadline, fault.OutcomeUnknown)
		_, err = w.call(bg, "x.Read") // it does not ask for ever
		isFault(t, err, fault.StoreFailed, fault.OutcomeUnknown)
		last := w.start(bg, "x.Read")
		synctest.Wait()
		w.must(w.close())
		if _, err := last.wait(); err == nil {
			t.Error("an answer without the store's word")
		}
	})
}

// Without the mode durable objects are fenced as before.
func TestDegradedModeIsAChoice(t *testing.T) {
	plain := memstore.New
	ours := func() ownServer { return ownServer{plain(), true} }
	for _, c := range []struct {
		mode  DegradedMode
		store object.PersistenceProvider
		on    bool
	}{
		{DegradedAuto, plain(), false}, {DegradedAuto, ours(), true}, {DegradedAuto, ownServer{plain(), false}, false},
		{DegradedOn, plain(), true}, {DegradedOn, basicStore{plain()}, false}, {DegradedOff, ours(), false}, {DegradedAuto, nil, false},
	} {
		bubble(t, fmt.Sprintf("%q %T", c.mode, c.store), func(t *testing.T) {
			w := start(t, setup(func(w *world, cfg *Config) { w.provider, cfg.DegradedMode = c.store, c.mode }))
			if w.Degrades() != c.on {
				t.Error(w.Degrades())
			}
			w.want(bg, "Kept/x.Change", 1)
			w.silence()
			if _, err := w.call(bg, "Kept/x.Read"); (err == nil) != c.on {
				t.Error(err)
			}
		})
	}
}

type ownServer struct {
	*memstore.Store
	own bool
}

func (s ownServer) OwnServer() bool { return s.own }
