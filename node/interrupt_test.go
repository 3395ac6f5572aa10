package node

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/memstore"
)

// distrusted interrupts the node as coordination does.
func (w *world) distrusted() {
	w.trusted.Store(false)
	w.Interrupt("this node's lease ended")
}

// untilCancelled is a method that changes its object by half and stops when it is told to.
func untilCancelled(t *testing.T, kind fault.Kind) script {
	return func(ctx context.Context, o *Thing) error {
		o.N += 10
		<-ctx.Done()
		isFault(t, context.Cause(ctx), kind, fault.OutcomeUnknown)
		return ctx.Err()
	}
}

// Whatever runs is told to stop, pinned or not; it is answered as Fenced, also if this
// node is trusted again before it ends; activations stay.
func TestInterrupt(t *testing.T) {
	for _, mode := range []object.Mode{object.Sequential, object.Concurrent} {
		for _, again := range []string{"soon", "after the methods"} {
			bubble(t, again, func(t *testing.T) {
				w := start(t, object.WithMode(mode))
				ctx, cancel := within(time.Minute)
				defer cancel()
				calls := []*pending{
					w.start(ctx, "x.Change", untilCancelled(t, fault.Fenced)),
					w.start(ctx, "Thing/n:1/pinned.Change", untilCancelled(t, fault.Fenced)),
					w.start(ctx, "r.Read", untilCancelled(t, fault.Fenced)),
					w.start(ctx, "nested.Change", func(ctx context.Context, _ *Thing) error {
						_, err := w.call(ctx, "inner.Change", untilCancelled(t, fault.Fenced))
						isFault(t, err, fault.Fenced, fault.OutcomeUnknown)
						return err
					}),
				}
				synctest.Wait()
				if again == "soon" {
					calls = append(calls, w.start(ctx, "deaf.Change", func(ctx context.Context, o *Thing) error {
						time.Sleep(time.Second)
						if ctx.Err() == nil {
							t.Error("its context goes on")
						}
						o.N++
						return nil // it has not listened, and claims success
					}))
				}
				synctest.Wait()
				w.forgetEvents()
				begun := time.Now()
				w.distrusted()
				if again == "soon" {
					w.trusted.Store(true)
				}
				for _, p := range calls {
					_, err := p.wait()
					isFault(t, err, fault.Fenced, fault.OutcomeUnknown)
				}
				if took := time.Since(begun); took > time.Second {
					t.Error("they ended after", took)
				}
				w.wantEvents() // nothing has ended
				w.trusted.Store(true)
				w.want(ctx, "x.Change", 11)
				w.want(ctx, "Thing/n:1/pinned.Change", 11)
				w.want(ctx, "r.Read", 10)
			})
		}
	}
}

// Who waits, for a turn or for a shard, gets in no more and is told that it did not run.
func TestInterruptSendsAwayWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		const x, y, p = "Thing/shard#6/x", "Thing/shard#7/y", "Thing/shard#5/p"
		deaf, leaves := newBlock(), newBlock()
		runs := []*pending{w.start(bg, x+".Change", deaf.run), w.start(bg, p+".Change", leaves.run)}
		<-deaf.entered
		<-leaves.entered
		drained := begin(func() (int64, error) { return 0, w.Drain(bg, 5) })
		synctest.Wait()
		nested := w.start(bg, y+".Change", func(ctx context.Context, _ *Thing) error {
			_, err := w.call(context.WithoutCancel(ctx), x+".Other")
			isFault(t, err, fault.NotReady, fault.NotExecuted)
			return nil
		})
		waits := []*pending{w.start(bg, x+".Change"), w.start(bg, x+".Read"), w.start(bg, p+".Change")}
		for _, c := range append(waits, nested) {
			if !c.running() {
				t.Error("it does not wait:", c.err)
			}
		}
		w.distrusted()
		for _, c := range waits {
			if c.running() {
				t.Error("it waits on")
			} else {
				isFault(t, c.err, fault.NotReady, fault.NotExecuted)
			}
		}
		if nested.running() {
			t.Error("its nested call waits on")
		}
		close(deaf.let)
		close(leaves.let)
		for _, c := range append(runs, nested) {
			_, err := c.wait()
			isFault(t, err, fault.Fenced, fault.OutcomeUnknown)
		}
		drained.wait()
		if n := len(w.waits.byChain); n != 0 {
			t.Errorf("%d chains are left in the wait graph", n)
		}
	})
}

// Trusted again before anyone has looked: who waited runs after all.
func TestInterruptThatIsOverSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		b := newBlock()
		first := w.start(bg, "x.Change", b.run)
		<-b.entered
		waits := w.start(bg, "x.Change")
		synctest.Wait()
		w.Interrupt("this node's lease ended")
		if !waits.running() {
			t.Error(waits.err)
		}
		close(b.let)
		first.wait()
		if n, err := waits.wait(); n != 2 || err != nil {
			t.Error(n, err)
		}
	})
}

// A durable object's own save proves that this node still counted: its answer may go.
func TestInterruptOfADurableCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept)
		saves := w.start(bg, "x.Change", func(ctx context.Context, o *Thing) error { <-ctx.Done(); o.N = 3; return nil })
		looks := w.start(bg, "y.Read", func(ctx context.Context, _ *Thing) error { <-ctx.Done(); return nil })
		synctest.Wait()
		w.distrusted()
		if n, err := saves.wait(); n != 3 || err != nil {
			t.Error(n, err)
		}
		w.wantStored("x", 3, 1)
		_, err := looks.wait()
		isFault(t, err, fault.Fenced, fault.OutcomeUnknown)
	})
}

// An answer counts if this node was trusted when the method gave its turn up, whatever
// became of the lease on the way out: where a node leaves, the shard is handed over in
// that very moment, and the lease is released.
func TestLeaseEndsBehindTheTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept)
		let := w.hold()
		ctx, cancel := within(time.Minute)
		defer cancel()
		change := w.start(ctx, "x.Change")
		synctest.Wait()
		read := w.start(ctx, "x.Read") // of what is not durable yet
		synctest.Wait()
		w.distrusted()
		late := w.start(ctx, "x.Read")
		let()
		if n, err := change.wait(); err != nil || n != 1 {
			t.Errorf("the change: %d, %v", n, err)
		}
		if n, err := read.wait(); err != nil || n != 1 {
			t.Errorf("the read: %d, %v", n, err)
		}
		if _, err := late.wait(); fault.OutcomeOf(err) != fault.NotExecuted {
			t.Errorf("a read that came after: %v", err)
		}
		w.trusted.Store(true)
		w.want(ctx, "x.Read", 1)
	})
}

// lasting is a lease that ends when it has been asked so often.
func lasting(asks int64) func() bool {
	var left atomic.Int64
	left.Store(asks)
	return func() bool { return left.Add(-1) >= 0 }
}

// reopen takes every shard up anew under another lease.
func (w *world) reopen(trusted func() bool) {
	w.t.Helper()
	w.epoch++
	var claims []Claim
	for _, id := range allShards() {
		claims = append(claims, Claim{Shard: id, Epoch: w.epoch})
	}
	if refused, err := w.Open(bg, w.owner, trusted, claims); err != nil || len(refused) > 0 {
		w.t.Fatal(refused, err)
	}
}

// The same for a deletion: it counts once it is handed over.
func TestLeaseEndsBehindADeletion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept)
		w.want(bg, "x.Change", 1)
		let := w.hold()
		deletion := begin(func() (int64, error) { return 0, w.delete(bg, "x") })
		synctest.Wait()
		w.distrusted()
		late := begin(func() (int64, error) { return 0, w.delete(bg, "x") })
		synctest.Wait()
		let()
		if _, err := deletion.wait(); err != nil {
			t.Error(err)
		}
		_, err := late.wait()
		isFault(t, err, fault.NotReady, fault.NotExecuted)
		if r := w.stored("x"); r.Data != nil {
			t.Error("it is still there")
		}
		w.trusted.Store(true)
		w.want(bg, "x.Read", 0)
	})
}

// The same for what a call learns from Loading: it counts if this node was trusted when
// Loading was over.
func TestLeaseEndsBehindLoading(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(*world) error
		want fault.Kind
	}{
		{"a creation of what is stored", func(w *world) error { return w.create(bg, "there") }, fault.Exists},
		{"a call to nobody", func(w *world) error { _, err := w.call(bg, "nobody.Read"); return err }, fault.NotFound},
	} {
		for _, stands := range []bool{true, false} { // until Loading is over
			bubble(t, fmt.Sprintf("%s stands=%v", c.name, stands), func(t *testing.T) {
				w := start(t, kept, object.MustCreate())
				w.must(w.create(bg, "there"))
				const calls = 3 // each asks once, to be let in, and the end of Loading once
				asks, want := int64(calls), fault.Fenced
				if stands {
					asks, want = calls+1, c.want
				}
				w.reopen(lasting(asks))
				synctest.Wait()
				let := make(chan struct{})
				w.store.Fail(func(op memstore.Op) memstore.Fault {
					if op.Kind == memstore.Load {
						return memstore.Fault{Wait: let}
					}
					return memstore.Fault{}
				})
				var all []*pending
				for range calls {
					all = append(all, begin(func() (int64, error) { return 0, c.do(w) }))
				}
				synctest.Wait()
				close(let)
				for _, p := range all {
					_, err := p.wait()
					isFault(t, err, want, fault.NotExecuted)
				}
				isFault(t, c.do(w), fault.NotReady, fault.NotExecuted)
			})
		}
	}
}

// An object that lives exists, for who found it here while this node was trusted.
func TestLeaseEndsBehindTheDoor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept)
		w.want(bg, "x.Change", 1)
		const calls = 3
		w.reopen(lasting(calls + 1))
		synctest.Wait()
		for range calls { // the first one loads it
			isFault(t, w.create(bg, "x"), fault.Exists, fault.NotExecuted)
		}
		isFault(t, w.create(bg, "x"), fault.NotReady, fault.NotExecuted)
	})
}

// A volatile object is created when it has come to life.
func TestLeaseEndsBehindACreation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, func(w *world, cfg *Config) {
			cfg.Listener.ObjectCreated = func(event.ObjectCreated) { w.trusted.Store(false) }
		})
		w.must(w.create(bg, "x"))
		isFault(t, w.create(bg, "y"), fault.NotReady, fault.NotExecuted)
		w.trusted.Store(true)
		w.set(func(h *hooks) { h.onCreated = func(*Thing) { w.trusted.Store(false) } })
		isFault(t, w.create(bg, "y"), fault.Fenced, fault.OutcomeUnknown)
	})
}
