package node

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
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
