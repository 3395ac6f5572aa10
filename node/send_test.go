package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/memstore"
)

// sendTo sends from within a method, or from outside.
func (w *world) sendTo(ctx context.Context, target string) error {
	ref, method := w.parse(target)
	_, err := w.send(ctx, object.Call{Ref: ref, Method: method, OneWay: true})
	return err
}

// sends is a script that adds one and sends to targets.
func (w *world) sends(targets ...string) script {
	return func(ctx context.Context, o *Thing) error {
		o.N++
		for _, to := range targets {
			if err := w.sendTo(ctx, to); err != nil {
				return err
			}
		}
		return nil
	}
}

func (w *world) pendingEffects() (n int) {
	for shard := range shards {
		list, err := w.store.PendingEffects(bg, shard, object.EffectKey{}, 1000)
		w.must(err)
		n += len(list)
	}
	return n
}

// settleSends waits until nothing is on its way.
func (w *world) settleSends() {
	w.t.Helper()
	synctest.Wait()
	if n := w.pendingEffects(); n != 0 {
		w.t.Errorf("%d effects are pending", n)
	}
	w.outbox.mu.Lock()
	defer w.outbox.mu.Unlock()
	if w.outbox.held != 0 || len(w.outbox.lines) != 0 {
		w.t.Errorf("%d are held in %d lines", w.outbox.held, len(w.outbox.lines))
	}
	for _, b := range w.outbox.boxes {
		if len(b.known)+len(b.forgotten)+len(b.later)+len(b.waiting)+len(b.ended) != 0 || b.again || b.reading {
			w.t.Errorf("box %d: %+v", b.life.shard, b)
		}
	}
}

func TestSend(t *testing.T) {
	bubble(t, "after the commit", func(t *testing.T) {
		w := start(t, kept)
		let := w.hold()
		p := w.start(bg, "a.Change", w.sends("b.Change", "b.Change", "c.Change"))
		if !p.running() {
			t.Error("the call did not wait")
		}
		if r := w.stored("b"); r.Version != 0 {
			t.Error("it was delivered before its commit")
		}
		let()
		w.must(second(p.wait()))
		synctest.Wait()
		w.wantStored("b", 2, 2)
		w.wantStored("c", 1, 1)
		w.settleSends()
	})
	bubble(t, "not without the commit", func(t *testing.T) {
		w := start(t, kept)
		let := w.holdAs(memstore.Fault{Err: object.ErrNotCommitted})
		p := w.start(bg, "a.Change", w.sends("b.Change"))
		synctest.Wait()
		let()
		_, err := p.wait()
		isFault(t, err, fault.StoreFailed, fault.NotExecuted)
		w.settleSends()
		if r := w.stored("b"); r.Version != 0 {
			t.Error("it was delivered")
		}
	})
	bubble(t, "by the next holder", func(t *testing.T) {
		w := start(t, kept)
		w.onRoad(deadEnd("b"))
		_, err := w.call(bg, "a.Change", w.sends("b.Change"))
		w.must(err)
		synctest.Wait()
		if w.pendingEffects() != 1 {
			t.Error("it is not in the store")
		}
		w.Drop(allShards(), "test")
		w.onRoad(nil)
		w.epoch++
		w.open()
		time.Sleep(time.Minute)
		w.wantStored("b", 1, 1)
		w.settleSends()
	})
	bubble(t, "once, though its end was not noted", func(t *testing.T) {
		w := start(t, kept)
		w.store.Fail(func(op memstore.Op) memstore.Fault {
			if op.Kind == memstore.EndEffects {
				return memstore.Fault{Err: errors.New("no")}
			}
			return memstore.Fault{}
		})
		_, err := w.call(bg, "a.Change", w.sends("b.Change"))
		w.must(err)
		synctest.Wait()
		w.wantStored("b", 1, 1)
		w.Drop(allShards(), "test")
		w.store.Fail(nil)
		w.epoch++
		w.open()
		time.Sleep(time.Minute)
		w.wantStored("b", 1, 1)
		w.settleSends()
	})
	bubble(t, "from outside", func(t *testing.T) {
		w := start(t, kept)
		w.must(w.sendTo(bg, "b.Change"))
		synctest.Wait()
		w.wantStored("b", 1, 1)
		w.settleSends()
	})
}

func second(_ int64, err error) error { return err }

// onRoad decides what becomes of calls on their way.
func (w *world) onRoad(f func(object.Call) error) {
	if f == nil {
		w.road.Store(nil)
		return
	}
	w.road.Store(&f)
}

func deadEnd(id string) func(object.Call) error {
	return func(call object.Call) error {
		if call.Ref.ID == id {
			return fault.New(fault.NotReady, "a dead end")
		}
		return nil
	}
}

func TestAFailingTargetHoldsUpNobodyElse(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		w := start(t, kept)
		w.onRoad(deadEnd("b"))
		const n = 3 * maxLine
		for range n {
			w.must(second(w.call(bg, "a.Change", w.sends("b.Change", "c.Change"))))
		}
		synctest.Wait()
		w.wantStored("c", n, n)
		w.outbox.mu.Lock()
		if w.outbox.held > maxLine {
			t.Errorf("%d are held", w.outbox.held)
		}
		w.outbox.mu.Unlock()
		w.onRoad(nil)
		time.Sleep(time.Minute)
		w.wantStored("b", n, n)
		w.settleSends()
	})
}

// Also what was not in memory comes in order, while more is being sent.
func TestSendsAreInOrder(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		w := start(t, kept)
		w.onRoad(deadEnd("b"))
		methods := []string{"Change", "Other"}
		const n = 2*maxLine + 11
		send := func(i int) {
			w.must(second(w.call(bg, "a.Change", w.sends("b."+methods[i*i/3%2]))))
		}
		for i := range n {
			send(i)
		}
		var mu sync.Mutex
		var got []string
		w.onRoad(func(call object.Call) error {
			if call.Ref.ID == "b" {
				time.Sleep(10 * time.Millisecond)
				mu.Lock()
				defer mu.Unlock()
				got = append(got, call.Method)
			}
			return nil
		})
		for i := range n {
			time.Sleep(15 * time.Millisecond)
			send(n + i)
		}
		time.Sleep(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		for i, m := range got {
			if m != methods[i*i/3%2] {
				t.Fatalf("delivery %d of %d is %s", i, len(got), m)
			}
		}
		if len(got) != 2*n {
			t.Errorf("%d deliveries of %d", len(got), 2*n)
		}
		w.settleSends()
	})
}

// A push of a call with an id is recorded: if its node dies between the commit and the
// push, the next holder sends it.
func TestAPushOfACallWithAnIDSurvives(t *testing.T) {
	pushes := func(ctx context.Context, o *Thing) error {
		rt, _ := object.RuntimeFrom(ctx)
		o.N++
		return rt.Push(ctx, object.Push{ClientIDs: []string{"g:1/x"}, Message: wrapperspb.String("hello")})
	}
	bubble(t, "as always", func(t *testing.T) {
		w := start(t, kept)
		got := w.counts(t, "g:1")
		w.must(second(w.once(bg, "one", "a.Change", pushes)))
		w.must(second(w.once(bg, "one", "a.Change", pushes)))
		time.Sleep(time.Second)
		if got.Load() != 1 {
			t.Errorf("%d pushes", got.Load())
		}
		w.settleSends()
	})
	bubble(t, "after a crash", func(t *testing.T) {
		w := start(t, kept)
		w.store.Fail(func(op memstore.Op) memstore.Fault {
			if op.Kind != memstore.Commit {
				return memstore.Fault{}
			}
			return memstore.Fault{Err: errors.New("lost"), Applied: true}
		})
		ctx, cancel := within(time.Second)
		defer cancel()
		_, err := w.once(ctx, "one", "a.Change", pushes)
		isFault(t, err, fault.Deadline, fault.OutcomeUnknown)
		w.Drop(allShards(), "a crash")
		w.store.Fail(nil)
		time.Sleep(time.Minute)
		got := w.counts(t, "g:1")
		w.epoch++
		w.open()
		time.Sleep(time.Second)
		if got.Load() != 1 {
			t.Errorf("%d pushes", got.Load())
		}
		w.wantOnce("one", "a.Change", 1)
		w.settleSends()
	})
}

// counts tells how much is pushed to a gate.
func (w *world) counts(t *testing.T, address string) *atomic.Int32 {
	ctx, cancel := context.WithCancel(bg)
	t.Cleanup(cancel)
	var got atomic.Int32
	go func() {
		_ = w.ServePushes(ctx, peer.Hearing{Gate: address}, func(peer.Opening) {}, func(peer.PushFrame) error { got.Add(1); return nil })
	}()
	synctest.Wait()
	return &got
}

// What cannot be delivered for its whole time is given up, with an alarm.
func TestASendIsGivenUp(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		w := start(t, kept)
		w.onRoad(deadEnd("b"))
		w.must(second(w.call(bg, "a.Change", w.sends("b.Change", "c.Change"))))
		time.Sleep(maxSendAge - time.Minute)
		if w.pendingEffects() != 1 {
			t.Error("it was given up before its time")
		}
		w.forgetEvents()
		time.Sleep(2 * time.Minute)
		w.settleSends()
		w.wantEvents("notice a Send of Kept/a is given up")
		w.wantStored("c", 1, 1)
	})
}

// What there is no room for at all waits in the store, in order.
func TestAFullOutbox(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		w := start(t, kept)
		w.onRoad(func(call object.Call) error {
			if call.IDIfKept {
				return fault.New(fault.NotReady, "every Send ends here")
			}
			return nil
		})
		w.outbox.mu.Lock()
		w.outbox.held = maxHeld - 3 // as if there were others
		w.outbox.mu.Unlock()
		const n = 20
		for i := range n {
			w.must(second(w.call(bg, "a.Change", w.sends(fmt.Sprint("b", i, ".Change"), "c.Change"))))
		}
		synctest.Wait()
		if n := w.pendingEffects(); n != 2*20 {
			t.Errorf("%d effects are pending", n)
		}
		w.isOverloaded(w.sendTo(bg, "d.Change"))
		w.outbox.mu.Lock()
		if w.outbox.held > maxHeld {
			t.Errorf("%d are held", w.outbox.held)
		}
		w.outbox.held -= maxHeld - 3
		w.outbox.mu.Unlock()
		w.onRoad(nil)
		time.Sleep(2 * time.Minute)
		for i := range n {
			w.wantStored(fmt.Sprint("b", i), 1, 1)
		}
		w.wantStored("c", n, n)
		w.settleSends()
	})
}

func (w *world) isOverloaded(err error) {
	w.t.Helper()
	isFault(w.t, err, fault.Overloaded, fault.NotExecuted)
}

// What is committed while the store is being read comes behind what was there before.
func TestSendsOfANewHolderAreInOrder(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		w := start(t, kept)
		w.onRoad(deadEnd("b"))
		w.must(second(w.call(bg, "a.Change", w.sends("b.Change", "b.Change"))))
		synctest.Wait() // the old holder has tried
		w.Drop(allShards(), "test")
		let := make(chan struct{})
		w.store.Fail(func(op memstore.Op) memstore.Fault {
			if op.Kind == memstore.PendingEffects {
				return memstore.Fault{Wait: let}
			}
			return memstore.Fault{}
		})
		var got []string
		w.onRoad(func(call object.Call) error {
			if call.Ref.ID == "b" {
				got = append(got, call.Method)
			}
			return nil
		})
		w.epoch++
		w.open()
		w.must(second(w.call(bg, "a.Change", w.sends("b.Other"))))
		synctest.Wait()
		if len(got) > 0 {
			t.Errorf("%v came before the store was read", got)
		}
		close(let)
		time.Sleep(2 * time.Minute) // beyond what is left of the old holder
		synctest.Wait()
		if fmt.Sprint(got) != "[Change Change Other]" {
			t.Error(got)
		}
		w.settleSends()
	})
}

// slowPages answers with a page of effects only when it is let.
type slowPages struct {
	*memstore.Store
	let chan struct{}
}

func (s *slowPages) PendingEffects(ctx context.Context, shard int, after object.EffectKey, limit int) ([]object.PendingEffect, error) {
	page, err := s.Store.PendingEffects(ctx, shard, after, limit)
	if len(page) > 0 {
		<-s.let
	}
	return page, err
}

// What ended while the store answered is not delivered again.
func TestAnOldPage(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		slow := &slowPages{memstore.New(), make(chan struct{})}
		w := start(t, func(w *world, _ *Config) { w.store, w.provider = slow.Store, slow })
		synctest.Wait()
		var delivered atomic.Int32
		w.onRoad(func(call object.Call) error {
			if call.Ref.ID == "b" {
				delivered.Add(1)
				time.Sleep(time.Second)
			}
			return nil
		})
		w.must(second(w.call(bg, "a.Change", w.sends("b.Change"))))
		synctest.Wait()
		s, _ := w.slotOf("a")
		w.outbox.mu.Lock()
		w.outbox.askLocked(w.outbox.boxes[s.shard])
		w.outbox.mu.Unlock()
		time.Sleep(time.Minute)
		close(slow.let)
		time.Sleep(time.Minute)
		if delivered.Load() != 1 {
			t.Errorf("it was delivered %d times", delivered.Load())
		}
		w.settleSends()
	})
}

// A deletion does not overtake what was to be kept with the state before it.
func TestSendThenDelete(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		w := start(t, kept)
		let := w.hold()
		other := w.start(bg, "x.Change") // keeps the lane busy
		synctest.Wait()
		p := w.start(bg, "a.Change", w.sends("b.Change"))
		synctest.Wait()
		d := begin(func() (int64, error) { return 0, w.delete(bg, "a") })
		if !d.running() {
			t.Error("deleted before its commit")
		}
		let()
		for _, p := range []*pending{other, p, d} {
			w.must(second(p.wait()))
		}
		synctest.Wait()
		w.wantStored("b", 1, 1)
		if r := w.stored("a"); r.Data != nil || r.Version != 2 {
			t.Errorf("a is at version %d", r.Version)
		}
		w.settleSends()
	})
}
