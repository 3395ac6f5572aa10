package node

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

// Tried is a Kept whose methods are undone when they fail.
type Tried struct{ Kept }

// tried gives the node the type, with a durability.
func tried(d object.Durability) setup {
	return func(w *world, _ *Config) {
		w.must(w.types.Register((*Tried)(nil), object.Transactional(), object.WithDurability(d), object.ReadOnlyMethods("Read", "Look")))
	}
}

func TestAFailedMethodIsUndone(t *testing.T) {
	for name, d := range map[string]object.Durability{"durable": object.Durable, "periodic": object.Periodic(time.Second), "volatile": object.Volatile} {
		bubble(t, name, func(t *testing.T) {
			w := start(t, kept, tried(d))
			fails := func(ctx context.Context, o *Thing) error { o.N = 100; return errUser }
			_, err := w.call(bg, "Tried/x.Change", fails)
			isFault(t, err, fault.Failed, fault.Executed)
			if !errors.Is(err, errUser) {
				t.Error(err)
			}
			w.want(bg, "Tried/x.Read", 0)
			if r := w.stored("Tried/x"); r.Version != 0 {
				t.Error("an object came into being by a method that failed:", r)
			}
			w.want(bg, "Tried/x.Change", 1)
			for range 2 {
				_, err = w.call(bg, "Tried/x.Change", fails)
				isFault(t, err, fault.Failed, fault.Executed)
			}
			w.want(bg, "Tried/x.Read", 1)
			_, err = w.call(bg, "Tried/x.Change", func(ctx context.Context, o *Thing) error { panic("oh") })
			isFault(t, err, fault.Panicked, fault.Executed)
			if d == object.Durable {
				w.want(bg, "Tried/x.Change", 2) // loaded anew
				w.wantStored("Tried/x", 2, 2)
			}
		})
	}
}

// What a failed method has seen of others must be durable before its error leaves.
func TestAnUndoneMethodsErrorWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept, tried(object.Durable))
		let := w.hold()
		first := w.start(bg, "Tried/x.Change")
		synctest.Wait()
		second := w.start(bg, "Tried/x.Change", func(_ context.Context, o *Thing) error { o.N = 9; return errUser })
		if !second.running() {
			t.Error("an error told of a state that a crash would take back")
		}
		let()
		first.wait()
		second.wait()
		w.wantStored("Tried/x", 1, 1)
	})
}

func TestAnUndoneMethodPushesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept, tried(object.Durable))
		c := w.listen("g:1")
		push := func(ctx context.Context, text string) {
			rt, _ := object.RuntimeFrom(ctx)
			w.must(rt.Push(ctx, object.Push{ClientIDs: []string{"g:1/c"}, Message: wrapperspb.String(text)}))
		}
		_, err := w.call(bg, "Tried/x.Change", func(ctx context.Context, o *Thing) error {
			push(ctx, "before")
			w.call(ctx, "Tried/x.Other", func(ctx context.Context, o *Thing) error { push(ctx, "undone"); return errUser })
			w.call(ctx, "Tried/x.Other", func(ctx context.Context, o *Thing) error { o.N = 5; push(ctx, "inner"); return nil })
			push(ctx, "after")
			return nil
		})
		w.must(err)
		_, err = w.call(bg, "Tried/x.Change", func(ctx context.Context, o *Thing) error { push(ctx, "undone"); return errUser })
		isFault(t, err, fault.Failed, fault.Executed)
		synctest.Wait()
		if got := c.texts(); got != "before inner after" {
			t.Errorf("pushed: %s", got)
		}
		w.wantStored("Tried/x", 5, 1)
	})
}

// Methods that call back into the object are undone by themselves, and with the one
// that waits for them.
func TestUndoWithinAChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept, tried(object.Durable))
		add := func(n int64, err error) script {
			return func(_ context.Context, o *Thing) error { o.N += n; return err }
		}
		_, err := w.call(bg, "Tried/x.Change", func(ctx context.Context, o *Thing) error {
			o.N = 1
			if _, err := w.call(ctx, "Tried/x.Other", add(10, errUser)); err == nil {
				t.Error("no error")
			}
			if o.N != 1 {
				t.Error("the inner method was not undone:", o.N)
			}
			_, err := w.call(ctx, "Tried/x.Other", add(100, nil))
			return err
		})
		w.must(err)
		w.wantStored("Tried/x", 101, 1)
		_, err = w.call(bg, "Tried/x.Change", func(ctx context.Context, o *Thing) error {
			if _, err := w.call(ctx, "Tried/x.Other", add(1000, nil)); err != nil {
				return err
			}
			return errUser
		})
		isFault(t, err, fault.Failed, fault.Executed)
		w.want(bg, "Tried/x.Read", 101)
		w.wantStored("Tried/x", 101, 1)
	})
}

// Two branches of a fan-out that come back to the object side by side cannot be undone
// one by one: then the whole chain's work on it is dropped, and no half of it is kept.
func TestTangledMethodsAreDroppedTogether(t *testing.T) {
	for _, c := range []struct {
		name       string
		failsFirst bool // the method that fails began first
	}{{"the first fails", true}, {"the second fails", false}} {
		bubble(t, c.name, func(t *testing.T) {
			w := start(t, kept, tried(object.Durable))
			w.want(bg, "Tried/x.Change", 1)
			began := make(chan struct{}, 2)
			inner := func(n int64, second bool) script {
				return func(ctx context.Context, o *Thing) error {
					o.N += n
					began <- struct{}{}
					if !second { // lends its turn until the other has come and gone, or at least begun
						w.call(ctx, "Tried/far.Change", func(context.Context, *Thing) error { time.Sleep(time.Second); return nil })
					} else if !c.failsFirst {
						w.call(ctx, "Tried/farther.Change", func(context.Context, *Thing) error { time.Sleep(100 * time.Millisecond); return nil })
					}
					o.N += n
					if second != c.failsFirst {
						return errUser
					}
					return nil
				}
			}
			_, err := w.call(bg, "Tried/x.Change", func(ctx context.Context, o *Thing) error {
				o.N = 5
				var branches sync.WaitGroup
				for i, method := range []string{"Other", "Change"} {
					branches.Go(func() {
						// each comes back through an object of its own
						w.call(ctx, "Tried/via"+method+".Change", func(ctx context.Context, _ *Thing) error {
							time.Sleep(time.Duration(i) * 100 * time.Millisecond)
							_, err := w.call(ctx, "Tried/x."+method, inner(10, i == 1))
							return err
						})
					})
				}
				branches.Wait()
				return nil
			})
			isFault(t, err, fault.StoreFailed, fault.OutcomeUnknown)
			if len(began) != 2 {
				t.Fatal("the branches did not run side by side")
			}
			w.want(bg, "Tried/x.Read", 1)
			w.wantStored("Tried/x", 1, 1)
		})
	}
}

// The message of ToData may be the object's own memory.
func TestUndoOfSharedMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, own := start(t, kept, tried(object.Durable)), wrapperspb.Int64(7)
		w.set(func(h *hooks) {
			h.toData = func(*Thing) (proto.Message, error) { return own, nil }
			h.fromData = func(o *Thing, m proto.Message) error {
				if m != nil {
					o.N = m.(*wrapperspb.Int64Value).Value
				}
				return nil
			}
		})
		_, err := w.call(bg, "Tried/x.Change", func(_ context.Context, o *Thing) error { own.Value = 100; return errUser })
		isFault(t, err, fault.Failed, fault.Executed)
		w.want(bg, "Tried/x.Read", 7)
	})
}

func TestUndoThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept, tried(object.Durable))
		w.want(bg, "Tried/x.Change", 1)
		for _, refuse := range []func(*Thing, proto.Message) error{
			func(o *Thing, m proto.Message) error { return errors.New("no") },
			func(o *Thing, m proto.Message) error { panic("no") },
		} {
			_, err := w.call(bg, "Tried/x.Change", func(_ context.Context, o *Thing) error {
				o.N = 50
				w.set(func(h *hooks) { h.fromData = refuse })
				return errUser
			})
			if err == nil {
				t.Error("no error")
			}
			w.set(func(h *hooks) { h.fromData = nil })
			w.want(bg, "Tried/x.Read", 1)
		}
		w.set(func(h *hooks) { h.toData = func(*Thing) (proto.Message, error) { return nil, errUser } })
		_, err := w.call(bg, "Tried/x.Change", func(_ context.Context, o *Thing) error { t.Error("it ran"); return nil })
		isFault(t, err, fault.Failed, fault.NotExecuted)
		w.set(func(h *hooks) { h.toData = func(*Thing) (proto.Message, error) { return nil, nil } })
		_, err = w.call(bg, "Tried/x.Change", func(_ context.Context, o *Thing) error { t.Error("it ran"); return nil })
		isFault(t, err, fault.Failed, fault.NotExecuted)
		w.set(func(h *hooks) { h.toData = nil })
		w.want(bg, "Tried/x.Change", 2)
	})
}

func TestTransactionalIsRefused(t *testing.T) {
	types := object.NewTypes()
	for obj, opts := range map[object.Object][]object.TypeOption{
		(*Thing)(nil): {object.Transactional()},
		(*Kept)(nil):  {object.Transactional(), object.WithMode(object.Concurrent)},
	} {
		if err := types.Register(obj, opts...); err == nil {
			t.Errorf("%T was taken", obj)
		}
	}
}

func TestFlushIsRefusedInATransactionalType(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept, tried(object.Periodic(time.Second)))
		_, err := w.call(bg, "Tried/x.Change", func(ctx context.Context, o *Thing) error {
			isFault(t, inside(ctx).Flush(ctx), fault.Invalid, fault.NotExecuted)
			return nil
		})
		w.must(err)
	})
}

// ear is a gate's stream.
type ear struct {
	mu  sync.Mutex
	got []string
}

// listen opens a gate's stream on the node.
func (w *world) listen(gate string) *ear {
	e := new(ear)
	ctx, cancel := context.WithCancel(bg)
	done, open := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		w.ServePushes(ctx, peer.Hearing{Gate: gate}, func(peer.Opening) { close(open) }, func(f peer.PushFrame) error {
			m, err := f.Message.UnmarshalNew()
			if err != nil {
				return err
			}
			e.mu.Lock()
			defer e.mu.Unlock()
			e.got = append(e.got, m.(*wrapperspb.StringValue).Value)
			return nil
		})
	}()
	<-open
	w.t.Cleanup(func() { cancel(); <-done })
	return e
}

func (e *ear) texts() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := ""
	for i, s := range e.got {
		if i > 0 {
			all += " "
		}
		all += s
	}
	return all
}
