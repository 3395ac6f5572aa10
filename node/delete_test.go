package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/memstore"
)

func TestDeleteIsIdempotent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept, object.WithIdleTimeout(time.Minute))
		w.must(w.delete(bg, "x")) // never was
		if len(w.store.Refs()) != 0 {
			t.Error("something was written")
		}
		w.want(bg, "x.Change", 1)
		w.must(w.delete(bg, "x")) // active
		w.must(w.delete(bg, "x"))
		w.want(bg, "x.Change", 1)
		w.wantStored("x", 1, 3)
		w.idle()
		w.forgetEvents()
		w.must(w.delete(bg, "x")) // inactive
		w.must(w.delete(bg, "x"))
		if r := w.stored("x"); r.Data != nil || r.Version != 4 {
			t.Error(r)
		}
		w.wantEvents("deleted x", "deleted x") // without bringing it to life
		w.want(bg, "x.Read", 0)                // alive, and not stored
		w.must(w.delete(bg, "x"))
		if r := w.stored("x"); r.Version != 4 {
			t.Error(r)
		}
	})
}

// The deletion of an object that nothing was ever saved of lets its effects go, too.
func TestDeleteWhatWasNeverSaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept)
		g := w.gate("g:1")
		_, err := w.call(bg, "x.Change", func(ctx context.Context, o *Thing) error {
			o.N = 9
			push(ctx, "g:1/a", "before")
			return w.delete(ctx, "x")
		})
		w.must(err)
		synctest.Wait()
		if len(w.store.Refs()) != 0 {
			t.Error("a deleted object was stored")
		}
		g.want("before")
		w.want(bg, "x.Read", 0)
	})
}

func TestSelfDelete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept)
		w.want(bg, "x.Change", 1)
		_, err := w.call(bg, "x.Change", func(ctx context.Context, o *Thing) error {
			if err := w.delete(ctx, "x"); err != nil {
				return err
			}
			o.N = 99 // what it does behind its deletion is lost
			if n, err := w.call(ctx, "x.Look"); n != 99 || err != nil {
				t.Error("its own chain came back to something else:", n, err)
			}
			isFault(t, w.create(ctx, "x"), fault.Exists, fault.NotExecuted)
			return nil
		})
		w.must(err)
		w.want(bg, "x.Read", 0)
		if r := w.stored("x"); r.Data != nil || r.Version != 2 {
			t.Error(r)
		}
	})
}

// I20: whatever was under way when an object was deleted, it stays deleted.
func TestDeleteIsNeverUndone(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault memstore.Fault
	}{
		{"a save is on its way", memstore.Fault{}},
		{"its answer is lost", memstore.Fault{Err: errors.New("lost"), Applied: true}},
		{"it lands late", memstore.Fault{Err: errors.New("lost"), Held: true}},
	} {
		bubble(t, c.name, func(t *testing.T) {
			w := start(t, kept)
			w.want(bg, "x.Change", 1)
			let := w.holdAs(c.fault)
			var saves []*pending
			for range 3 {
				saves = append(saves, w.start(bg, "x.Change"))
				synctest.Wait()
			}
			gone := begin(func() (int64, error) { return 0, w.delete(bg, "x") })
			if !gone.running() {
				t.Error("deleted before it was stored")
			}
			let()
			for _, p := range saves {
				if _, err := p.wait(); err != nil {
					t.Error(err)
				}
			}
			_, err := gone.wait()
			w.must(err)
			w.store.Land()
			if r := w.stored("x"); r.Data != nil {
				t.Error("it is back:", string(r.Data))
			}
			w.want(bg, "x.Read", 0)
		})
	}
}

func TestDeleteFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept, object.WithIdleTimeout(time.Minute))
		w.want(bg, "x.Change", 1)
		for range 2 { // active, inactive
			w.store.Fail(func(op memstore.Op) memstore.Fault {
				if op.Kind == memstore.Commit {
					return memstore.Fault{Err: object.ErrNotCommitted}
				}
				return memstore.Fault{}
			})
			isFault(t, w.delete(bg, "x"), fault.StoreFailed, fault.NotExecuted)
			w.store.Fail(nil)
			w.want(bg, "x.Read", 1)
			w.idle()
		}
		let := w.hold()
		ctx, cancel := within(time.Second)
		defer cancel()
		isFault(t, w.delete(ctx, "x"), fault.Deadline, fault.OutcomeUnknown)
		let()
		w.want(bg, "x.Read", 0)
	})
}

func TestDeleteRacesCalls(t *testing.T) {
	for _, mode := range []object.Mode{object.Sequential, object.Concurrent} {
		bubble(t, fmt.Sprint("mode=", mode), func(t *testing.T) {
			w := start(t, kept, object.WithMode(mode))
			var all sync.WaitGroup
			for i := range 200 {
				all.Go(func() {
					switch i % 5 {
					case 0:
						if err := w.delete(bg, "x"); err != nil {
							t.Error(err)
						}
					case 1:
						if err := w.create(bg, "x"); err != nil && fault.KindOf(err) != fault.Exists {
							t.Error(err)
						}
					default:
						if _, err := w.call(bg, "x.Change", func(_ context.Context, o *Thing) error {
							o.inside.Add(1)
							return nil
						}); err != nil {
							t.Error(err)
						}
					}
				})
			}
			all.Wait()
			w.must(w.delete(bg, "x"))
			if r := w.stored("x"); r.Data != nil {
				t.Error("it is still stored")
			}
			synctest.Wait()
			if w.NumObjects() != 0 {
				t.Error("it still lives")
			}
		})
	}
}

// A chain that deletes an object in which somebody waits for that chain.
func TestDeleteDoesNotWaitInACircle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept, object.WithMode(object.Concurrent))
		w.must(w.RegisterObjectType((*Kept)(nil), object.WithName("Plain")))
		begun := time.Now()
		inside, deleting := newBlock(), make(chan struct{})
		other := w.start(bg, "x.Change", func(ctx context.Context, o *Thing) error {
			close(inside.entered)
			<-deleting
			_, err := w.call(ctx, "Plain/y.Change")
			return err
		})
		<-inside.entered
		_, err := w.call(bg, "Plain/y.Other", func(ctx context.Context, o *Thing) error {
			close(deleting)
			synctest.Wait() // the other stands in this object's queue
			return w.delete(ctx, "x")
		})
		w.must(err)
		if _, err := other.wait(); err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took > 250*time.Millisecond {
			t.Error(took)
		}
	})
}

func TestPeriodicFlushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept, object.WithDurability(object.Periodic(time.Second)))
		stored := func() int64 {
			synctest.Wait()
			r := w.stored("x")
			if r.Data == nil {
				return 0
			}
			state, err := decodeState(r.Data)
			w.must(err)
			return state.(*wrapperspb.Int64Value).Value
		}
		w.want(bg, "x.Change", 1)
		w.want(bg, "x.Change", 2)
		if stored() != 0 {
			t.Error("saved before its time")
		}
		time.Sleep(1200 * time.Millisecond)
		if stored() != 2 {
			t.Error("not saved by the interval")
		}
		version := w.stored("x").Version
		w.want(bg, "x.Read", 2)
		time.Sleep(10 * time.Second)
		if w.stored("x").Version != version {
			t.Error("saved without a change")
		}
		w.want(bg, "x.Change", 3)
		w.must(w.SaveAllObjects(bg))
		if stored() != 3 {
			t.Error("SaveAllObjects returned before the state was saved")
		}
		w.SetPersistenceInterval(time.Minute)
		w.want(bg, "x.Change", 4)
		time.Sleep(50 * time.Second)
		if stored() != 3 {
			t.Error("saved before the new interval")
		}
		w.SetPersistenceInterval(100 * time.Millisecond)
		time.Sleep(150 * time.Millisecond)
		if stored() != 4 {
			t.Error("the shorter interval is not heeded")
		}
		w.want(bg, "x.Change", 5)
		w.must(w.Drain(bg, allShards()[w.shardOf("x")]))
		if stored() != 5 {
			t.Error("drained without saving")
		}
	})
}

func TestPeriodicIsSavedWhenItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept, object.WithDurability(object.Periodic(time.Hour)), object.WithIdleTimeout(time.Minute))
		w.want(bg, "x.Change", 1)
		w.idle()
		w.wantStored("x", 1, 1)
		w.want(bg, "x.Change", 2)
		w.must(w.close())
		w.wantStored("x", 2, 2)
	})
}

// A Concurrent object changes while its state is being read: what was answered behind that is
// still to be saved, by whatever saves next.
func TestPeriodicChangesWhileItIsSaved(t *testing.T) {
	for name, save := range map[string]func(w *world) error{
		"the interval":   func(*world) error { time.Sleep(2 * time.Second); synctest.Wait(); return nil },
		"SaveAllObjects": func(w *world) error { return w.SaveAllObjects(bg) },
		"Drain":          func(w *world) error { return w.Drain(bg, allShards()[w.shardOf("x")]) },
		"the node's end": func(w *world) error { return w.close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := start(t, kept, object.WithMode(object.Concurrent), object.WithDurability(object.Periodic(time.Second)))
				w.want(bg, "x.Change", 1)
				reads := 0
				w.set(func(h *hooks) {
					h.toData = func(o *Thing) (proto.Message, error) {
						state := wrapperspb.Int64(o.N)
						if reads++; reads == 1 {
							w.want(bg, "x.Change", 2)
						}
						return state, nil
					}
				})
				w.must(w.SaveAllObjects(bg))
				w.wantStored("x", 1, 1)
				w.must(save(w))
				w.wantStored("x", 2, 2)
			})
		})
	}
}

// An object that is never at rest saves itself at the end of its calls, and one whose
// method runs for long keeps nobody else from being saved.
func TestPeriodicUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept, object.WithDurability(object.Periodic(time.Second)))
		ctx, cancel := within(10 * time.Second)
		defer cancel()
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for ctx.Err() == nil {
					w.call(ctx, "busy.Change", func(_ context.Context, o *Thing) error { time.Sleep(300 * time.Millisecond); o.N++; return nil })
				}
			})
		}
		var stuck []*pending
		for i := range 2 * maxFlushes { // changed, and then in a call for long
			id := fmt.Sprintf("stuck%d", i)
			w.want(bg, id+".Change", 1)
			stuck = append(stuck, w.start(bg, id+".Change", func(ctx context.Context, o *Thing) error { time.Sleep(5 * time.Second); return nil }))
		}
		w.want(bg, "x.Change", 1)
		time.Sleep(1500 * time.Millisecond)
		w.wantStored("x", 1, 1)
		all.Wait()
		for _, p := range stuck {
			p.wait()
		}
		if v := w.stored("busy").Version; v < 7 || v > 10 {
			t.Errorf("the busy object was saved %d times in 10s", v)
		}
	})
}

// Nobody waits for a periodic save, and a store that is away for a while costs
// nothing: the object lives ahead of it and tries again.
func TestPeriodicAndAStoreThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept, object.WithDurability(object.Periodic(time.Second)))
		w.want(bg, "x.Change", 1)
		w.store.Fail(func(op memstore.Op) memstore.Fault {
			if op.Kind == memstore.Commit {
				return memstore.Fault{Err: object.ErrNotCommitted}
			}
			return memstore.Fault{}
		})
		isFault(t, w.SaveAllObjects(bg), fault.StoreFailed, fault.NotExecuted)
		for n := range int64(20) {
			w.want(bg, "x.Change", n+2)
			time.Sleep(time.Second)
		}
		let := w.hold()
		time.Sleep(3 * time.Second)
		w.want(bg, "x.Change", 22) // a save is on its way for ever, and nobody waits
		let()
		time.Sleep(3 * time.Second)
		w.wantStored("x", 22, 2)
		w.must(w.SaveAllObjects(bg))

		// The last save of an object that ends is tried again for a while, too.
		w.want(bg, "x.Change", 23)
		attempts := 0
		w.store.Fail(func(op memstore.Op) memstore.Fault {
			if attempts++; op.Kind == memstore.Commit && attempts < 5 {
				return memstore.Fault{Err: object.ErrNotCommitted}
			}
			return memstore.Fault{}
		})
		w.must(w.Drain(bg, allShards()[w.shardOf("x")]))
		w.wantStored("x", 23, 3)
		w.open()
		w.want(bg, "x.Change", 24)
		w.holdAs(memstore.Fault{Err: object.ErrNotCommitted})
		w.forgetEvents()
		begun := time.Now()
		w.must(w.Drain(bg, allShards()[w.shardOf("x")]))
		if took := time.Since(begun); took > 11*time.Second {
			t.Error("a store that does not answer held the end up for", took)
		}
		w.wantEvents("notice the last changes of periodic object Kept/x were not saved", "-x drained")
	})
}

// Who comes to the gate after the save was put off must not wait for it.
func TestLateAtTheGate(t *testing.T) {
	a := &activation{save: new(saving)}
	a.save.seq, a.save.flying = 3, 3
	a.save.postpone(errUser)
	for seq := uint64(1); seq <= 3; seq++ {
		if err := a.awaitDurable(bg, seq); err != errUser {
			t.Error(seq, err)
		}
	}
	a.save.flying = 4
	a.save.landed(1)
	if err := a.awaitDurable(bg, 3); err != nil {
		t.Error("durable by a later save, but", err)
	}
}

func TestPeriodicFenceLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept, object.WithDurability(object.Periodic(time.Second)))
		w.want(bg, "x.Change", 1)
		w.depose("x")
		time.Sleep(2 * time.Second)
		_, err := w.call(bg, "x.Change")
		isFault(t, err, fault.WrongHolder, fault.NotExecuted)
	})
}

func TestPeriodicDelete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept, object.WithDurability(object.Periodic(time.Second)))
		w.want(bg, "x.Change", 1)
		w.must(w.SaveAllObjects(bg))
		w.want(bg, "x.Change", 2)
		w.must(w.delete(bg, "x"))
		time.Sleep(10 * time.Second)
		if r := w.stored("x"); r.Data != nil {
			t.Error("it is back")
		}
		w.want(bg, "x.Change", 1)
		w.store.Fail(func(op memstore.Op) memstore.Fault {
			if op.Kind == memstore.Commit {
				return memstore.Fault{Err: object.ErrNotCommitted}
			}
			return memstore.Fault{}
		})
		w.must(w.delete(bg, "y"))
		w.want(bg, "z.Change", 1)
		w.store.Fail(nil)
		w.must(w.SaveAllObjects(bg))
		w.store.Fail(func(op memstore.Op) memstore.Fault { return memstore.Fault{Err: object.ErrNotCommitted} })
		isFault(t, w.delete(bg, "z"), fault.StoreFailed, fault.NotExecuted)
		w.store.Fail(nil)
		w.want(bg, "z.Read", 1)
	})
}
