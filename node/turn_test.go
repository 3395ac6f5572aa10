package node

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// occupy counts who is inside and finds what must not be there at the same time.
func occupy(t *testing.T, shared bool) script {
	return func(ctx context.Context, o *Thing) error {
		if shared {
			o.readers.Add(1)
			defer o.readers.Add(-1)
			if o.inside.Load() != 0 {
				t.Error("a reader beside a writer")
			}
		} else {
			if o.inside.Add(1) != 1 || o.readers.Load() != 0 {
				t.Error("a writer beside somebody")
			}
			defer o.inside.Add(-1)
			o.N++
		}
		time.Sleep(time.Millisecond)
		if shared && o.inside.Load() != 0 || !shared && o.readers.Load() != 0 {
			t.Error("somebody came in")
		}
		return nil
	}
}

// I18: nothing beside a writer, whatever the mix; the race detector watches N too.
func TestSequentialNeverOverlaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		var all sync.WaitGroup
		for i := range 600 {
			all.Go(func() {
				target, shared := "x.Change", i%3 > 0
				if shared {
					target = "x.Read"
				}
				if _, err := w.call(bg, target, occupy(t, shared)); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		w.want(bg, "x.Read", 200)
	})
}

func TestReadOnlyRunTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		begun := time.Now()
		read := func(ctx context.Context, o *Thing) error { time.Sleep(time.Second); return nil }
		var readers []*pending
		for i := range 50 {
			readers = append(readers, w.start(bg, []string{"x.Read", "x.Look"}[i%2], read))
		}
		for _, p := range readers {
			p.wait()
		}
		if took := time.Since(begun); took != time.Second {
			t.Errorf("50 reads of 1s took %v", took)
		}
	})
}

// A writer that waits is not overtaken by readers that come later.
func TestQueueIsFIFO(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		b := newBlock()
		first := w.start(bg, "x.Change", b.run)
		<-b.entered
		var mu sync.Mutex
		var order []int
		var all []*pending
		for i := range 100 {
			target := "x.Change"
			if i%4 == 3 {
				target = "x.Read"
			}
			all = append(all, w.start(bg, target, func(context.Context, *Thing) error {
				mu.Lock()
				defer mu.Unlock()
				order = append(order, i)
				return nil
			}))
			synctest.Wait() // it stands in the queue
		}
		close(b.let)
		first.wait()
		for _, p := range all {
			p.wait()
		}
		if !slices.IsSorted(order) || len(order) != 100 {
			t.Error(order)
		}

		reading := newBlock()
		reader := w.start(bg, "x.Read", func(ctx context.Context, o *Thing) error { close(reading.entered); <-reading.let; return nil })
		<-reading.entered
		writer := w.start(bg, "x.Change")
		synctest.Wait()
		late := w.start(bg, "x.Read")
		if !writer.running() || !late.running() {
			t.Error("somebody overtook the reader")
		}
		close(reading.let)
		reader.wait()
		if n, _ := late.wait(); n != 2 {
			t.Errorf("the late reader saw %d: it overtook the writer", n)
		}
	})
}

func TestContextWhileQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		b := newBlock()
		first := w.start(bg, "x.Change", b.run)
		<-b.entered
		ctx, cancel := within(time.Second)
		defer cancel()
		begun := time.Now()
		late := w.start(ctx, "x.Change")
		canceled, cancelNow := context.WithCancel(bg)
		gone := w.start(canceled, "x.Read")
		behind := w.start(bg, "x.Change")
		synctest.Wait()
		cancelNow()
		_, err := gone.wait()
		isFault(t, err, fault.Canceled, fault.NotExecuted)
		_, err = late.wait()
		isFault(t, err, fault.Deadline, fault.NotExecuted)
		if took := time.Since(begun); took != time.Second {
			t.Error("the deadline was honoured after", took)
		}
		close(b.let)
		first.wait()
		if n, err := behind.wait(); n != 2 || err != nil {
			t.Error(n, err)
		}
	})
}

// When the writer ahead gives up, the readers behind it go in at once.
func TestWithdrawnWriterLetsReadersIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		let := make(chan struct{})
		hold := func(context.Context, *Thing) error { <-let; return nil }
		reader := w.start(bg, "x.Read", hold)
		synctest.Wait()
		ctx, cancel := context.WithCancel(bg)
		writer := w.start(ctx, "x.Change")
		synctest.Wait()
		late := w.start(bg, "x.Read")
		if !late.running() {
			t.Fatal("overtook the writer")
		}
		cancel()
		writer.wait()
		late.wait()
		close(let)
		reader.wait()
	})
}

func TestOverloaded(t *testing.T) {
	for _, max := range []int{0, 3} {
		bubble(t, fmt.Sprint(max), func(t *testing.T) {
			w := start(t, object.WithMaxQueue(max))
			if max == 0 {
				max = object.DefaultMaxQueue
			}
			b := newBlock()
			first := w.start(bg, "x.Change", b.run)
			<-b.entered
			var queued []*pending
			for range max {
				queued = append(queued, w.start(bg, "x.Change"))
			}
			synctest.Wait()
			ran := false
			_, err := w.call(bg, "x.Read", func(context.Context, *Thing) error { ran = true; return nil })
			isFault(t, err, fault.Overloaded, fault.NotExecuted)
			if ran {
				t.Error("it ran")
			}
			w.want(bg, "y.Read", 0) // others are not concerned
			close(b.let)
			first.wait()
			for _, p := range queued {
				if _, err := p.wait(); err != nil {
					t.Error(err)
				}
			}
			w.want(bg, "x.Read", int64(max)+1)
		})
	}
}

func TestConcurrentMode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, object.WithMode(object.Concurrent), object.WithMaxQueue(1))
		begun := time.Now()
		var all []*pending
		for range 100 {
			all = append(all, w.start(bg, "x.Change", func(context.Context, *Thing) error { time.Sleep(time.Second); return nil }))
		}
		for _, p := range all {
			if _, err := p.wait(); err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(begun); took != time.Second {
			t.Error("they waited for each other:", took)
		}
		// A chain may come back, and also find itself.
		_, err := w.call(bg, "x.Change", func(ctx context.Context, o *Thing) error {
			_, err := w.call(ctx, "y.Change", func(ctx context.Context, o *Thing) error {
				_, err := w.call(ctx, "x.Read")
				return err
			})
			return err
		})
		w.must(err)
	})
}

// In Concurrent mode a deletion waits for nobody, and those inside end in peace.
func TestConcurrentDelete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept, object.WithMode(object.Concurrent))
		w.want(bg, "x.Change", 1)
		b := newBlock()
		inside := w.start(bg, "x.Change", b.run)
		<-b.entered
		gone := begin(func() (int64, error) { return 0, w.delete(bg, "x") })
		synctest.Wait()
		if r := w.stored("x"); r.Data != nil {
			t.Error("not deleted yet")
		}
		next := w.start(bg, "x.Read")
		if !next.running() {
			t.Error("a second activation beside the first")
		}
		close(b.let)
		if _, err := inside.wait(); err != nil {
			t.Error(err)
		}
		gone.wait()
		if n, err := next.wait(); n != 0 || err != nil {
			t.Error(n, err)
		}
		if r := w.stored("x"); r.Data != nil {
			t.Error("the late save undid the deletion")
		}
	})
}

func TestSelfCallAndReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		_, err := w.call(bg, "x.Change", func(ctx context.Context, o *Thing) error {
			o.N = 1
			if n, err := w.call(ctx, "x.Other", func(ctx context.Context, o *Thing) error { // a self-call
				o.N *= 10
				_, err := w.call(ctx, "y.Change", func(ctx context.Context, o *Thing) error { // out and back
					n, err := w.call(ctx, "x.Look")
					if n != 10 {
						t.Error("came back to", n)
					}
					return err
				})
				return err
			}); n != 10 || err != nil {
				t.Error(n, err)
			}
			o.N++
			return nil
		})
		w.must(err)
		w.want(bg, "x.Read", 11)
	})
}

// Others stay out while a chain is away from its object.
func TestLentTurnIsTheChainsOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		b := newBlock()
		chain := w.start(bg, "x.Change", func(ctx context.Context, o *Thing) error {
			_, err := w.call(ctx, "y.Change", b.run)
			o.N++
			return err
		})
		<-b.entered
		stranger := w.start(bg, "x.Change")
		synctest.Wait()
		reader := w.start(bg, "x.Read")
		if !stranger.running() || !reader.running() {
			t.Error("a stranger came in")
		}
		close(b.let)
		if n, _ := chain.wait(); n != 1 {
			t.Error(n)
		}
		if n, _ := stranger.wait(); n != 2 {
			t.Error(n)
		}
		if n, _ := reader.wait(); n != 2 {
			t.Error(n)
		}
	})
}

func TestFanOutReentrantsAreSerialised(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		begun := time.Now()
		_, err := w.call(bg, "x.Change", func(ctx context.Context, o *Thing) error {
			var all sync.WaitGroup
			for i := range 20 {
				all.Go(func() {
					_, err := w.call(ctx, fmt.Sprintf("b%d.Change", i), func(ctx context.Context, _ *Thing) error {
						_, err := w.call(ctx, "x.Other", func(ctx context.Context, o *Thing) error { return occupy(t, false)(ctx, o) })
						return err
					})
					if err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			return nil
		})
		w.must(err)
		if took := time.Since(begun); took != 20*time.Millisecond {
			t.Error("20 re-entrants of 1ms took", took)
		}
		w.want(bg, "x.Read", 20)
	})
}

// A branch that has returned does not run beside the re-entrant of another branch.
func TestReturningBranchWaitsForTheReentrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		slow := newBlock()
		_, err := w.call(bg, "x.Change", func(ctx context.Context, o *Thing) error {
			other := w.start(ctx, "b.Change", func(ctx context.Context, _ *Thing) error {
				_, err := w.call(ctx, "x.Other", slow.run)
				return err
			})
			<-slow.entered // the chain's turn is with the re-entrant
			quick := w.start(ctx, "c.Change")
			if !quick.running() {
				t.Error("its code goes on beside the re-entrant's")
			}
			close(slow.let)
			if n, err := quick.wait(); n != 1 || err != nil {
				t.Error(n, err)
			}
			_, err := other.wait()
			return err
		})
		w.must(err)
		w.want(bg, "x.Read", 1)
	})
}

// A fan-out whose first branch is back lends on for the second.
func TestBranchReturnsWhileTheOtherIsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		_, err := w.call(bg, "x.Change", func(ctx context.Context, o *Thing) error {
			back := make(chan struct{})
			other := w.start(ctx, "b.Change", func(ctx context.Context, _ *Thing) error {
				<-back
				_, err := w.call(ctx, "x.Other", func(_ context.Context, o *Thing) error { o.N += 5; return nil })
				return err
			})
			synctest.Wait()
			if _, err := w.call(ctx, "c.Change"); err != nil {
				t.Error(err)
			}
			close(back) // nothing between here and the wait touches o
			_, err := other.wait()
			return err
		})
		w.must(err)
		w.want(bg, "x.Read", 5)
	})
}

func TestSharedReentersShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		writer := make(chan *pending, 1)
		_, err := w.call(bg, "x.Read", func(ctx context.Context, o *Thing) error {
			writer <- w.start(bg, "x.Change") // it waits outside, and nobody waits behind it
			synctest.Wait()
			_, err := w.call(ctx, "y.Change", func(ctx context.Context, o *Thing) error {
				_, err := w.call(ctx, "x.Look")
				return err
			})
			return err
		})
		w.must(err)
		if n, err := (<-writer).wait(); n != 1 || err != nil {
			t.Error(n, err)
		}
	})
}

func TestSharedToExclusiveFailsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		begun := time.Now()
		_, err := w.call(bg, "x.Read", func(ctx context.Context, o *Thing) error {
			_, err := w.call(ctx, "y.Change", func(ctx context.Context, o *Thing) error {
				_, err := w.call(ctx, "x.Change")
				isFault(t, err, fault.Cycle, fault.NotExecuted)
				if got, want := fault.Of(err).Path, []string{"Thing/x.Read", "Thing/y.Change", "Thing/x.Change"}; !slices.Equal(got, want) {
					t.Errorf("path %v, want %v", got, want)
				}
				return err
			})
			return err
		})
		isFault(t, err, fault.Failed, fault.Executed)
		if took := time.Since(begun); took != 0 {
			t.Error("it took", took)
		}
		w.want(bg, "x.Change", 1)
	})
}

// A fan-out that reads and changes the same object is no re-entrance: the change
// waits for the read.
func TestFanOutReadsAndChangesTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		_, err := w.call(bg, "a.Change", func(ctx context.Context, o *Thing) error {
			b := newBlock()
			read := w.start(ctx, "x.Read", func(context.Context, *Thing) error { close(b.entered); <-b.let; return nil })
			<-b.entered
			change := w.start(ctx, "x.Change")
			if !change.running() {
				t.Error("the change ran beside the read:", change.err)
			}
			close(b.let)
			if n, err := change.wait(); n != 1 || err != nil {
				t.Error(n, err)
			}
			_, err := read.wait()
			return err
		})
		w.must(err)
	})
}

// The same with both branches crossed is a true circle, within one chain.
func TestFanOutCrossedReadsAndChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		ctx, cancel := within(time.Minute)
		defer cancel()
		var errs []error
		_, err := w.call(ctx, "a.Change", func(ctx context.Context, o *Thing) error {
			var in sync.WaitGroup
			in.Add(2)
			branch := func(mine, other string) *pending {
				return w.start(ctx, mine+".Read", func(ctx context.Context, o *Thing) error {
					in.Done()
					in.Wait()
					_, err := w.call(ctx, other+".Change")
					return err
				})
			}
			for _, p := range []*pending{branch("x", "y"), branch("y", "x")} {
				if _, err := p.wait(); err != nil {
					errs = append(errs, err)
				}
			}
			return nil
		})
		w.must(err)
		if len(errs) != 1 || fault.KindOf(fault.Of(errs[0]).Err) != fault.Cycle {
			t.Error(errs)
		}
	})
}

// A method that returns while a goroutine of its own still calls out with its context.
func TestGoroutineLeftBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		b := newBlock()
		var left, later *pending
		var inside context.Context
		_, err := w.call(bg, "x.Change", func(ctx context.Context, o *Thing) error {
			inside = ctx
			left = w.start(ctx, "y.Change", func(ctx context.Context, o *Thing) error {
				close(b.entered)
				<-b.let
				if ctx.Err() == nil {
					t.Error("its caller is gone and its context goes on")
				}
				return nil
			})
			<-b.entered
			return nil
		})
		w.must(err)
		w.want(bg, "x.Change", 1) // nobody holds x any more
		kept := context.WithoutCancel(inside)
		later = w.start(kept, "x.Other") // a chain of its own
		if n, err := later.wait(); n != 1 || err != nil {
			t.Error(n, err)
		}
		hold := newBlock()
		first := w.start(bg, "x.Change", hold.run)
		<-hold.entered
		later = w.start(kept, "x.Other")
		if !later.running() {
			t.Error("it re-entered a turn that its chain no longer has")
		}
		close(hold.let)
		first.wait()
		later.wait()
		close(b.let)
		left.wait()
	})
}

// A goroutine left behind that comes back to the object while its chain is gone.
func TestLeftBehindBranchReentersLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept)
		b := newBlock()
		var left *pending
		_, err := w.call(bg, "x.Change", func(ctx context.Context, o *Thing) error {
			left = w.start(context.WithoutCancel(ctx), "y.Change", func(ctx context.Context, _ *Thing) error {
				close(b.entered)
				<-b.let
				_, err := w.call(context.WithoutCancel(ctx), "x.Other", func(_ context.Context, o *Thing) error { o.N += 10; return nil })
				return err
			})
			<-b.entered
			o.N++
			return nil
		})
		w.must(err)
		w.wantStored("x", 1, 1)
		close(b.let)
		_, err = left.wait()
		isStray(t, cause(err))
		w.wantStored("x", 1, 1)
	})
}

// A method that returns while a re-entrant of a branch that it left behind runs is
// saved when that has ended: ToData never runs beside a method.
func TestOutermostReturnsBesideAReentrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept)
		b := newBlock()
		var left *pending
		outer := w.start(bg, "x.Change", func(ctx context.Context, o *Thing) error {
			o.N = 10
			left = w.start(context.WithoutCancel(ctx), "x.Other", b.run)
			<-b.entered
			return nil
		})
		if !outer.running() {
			t.Error("its state was taken while other code had the turn")
		}
		close(b.let)
		if n, err := outer.wait(); n != 10 || err != nil {
			t.Error(n, err)
		}
		left.wait()
		w.wantStored("x", 11, 1)
	})
}

// A re-entrant that is away when its outermost returns saves for itself.
func TestReentrantOutlivesItsOutermost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept)
		g := w.gate("g:1")
		away := newBlock()
		var left *pending
		_, err := w.call(bg, "x.Change", func(ctx context.Context, o *Thing) error {
			left = w.start(context.WithoutCancel(ctx), "x.Other", func(ctx context.Context, o *Thing) error {
				_, err := w.call(context.WithoutCancel(ctx), "Thing/y.Change", away.run)
				o.N += 10
				push(ctx, "*", "late")
				return err
			})
			<-away.entered
			o.N++
			return nil
		})
		w.must(err)
		w.wantStored("x", 1, 1)
		stranger := w.start(bg, "x.Change")
		if !stranger.running() {
			t.Error("somebody else came in")
		}
		let := w.hold()
		close(away.let)
		if !left.running() {
			t.Error("answered before its own commit")
		}
		g.want()
		let()
		if _, err := left.wait(); err != nil {
			t.Error(err)
		}
		g.want("late")
		if n, err := stranger.wait(); n != 12 || err != nil {
			t.Error(n, err)
		}
	})
}

// Many branches that come and go at random never overlap in their object's code.
func TestFanOutStress(t *testing.T) {
	w := start(t)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 50 {
				_, err := w.call(bg, "x.Change", func(ctx context.Context, o *Thing) error {
					var branches sync.WaitGroup
					for i := range 8 {
						branches.Go(func() {
							target := fmt.Sprintf("b%d.Change", i)
							if i%4 == 0 {
								target = "x.Other"
							}
							_, err := w.call(ctx, target, func(ctx context.Context, b *Thing) error {
								_, err := w.call(ctx, "x.Look", func(_ context.Context, o *Thing) error {
									if o.inside.Add(1) != 1 {
										t.Error("two at once")
									}
									o.N++ // the race detector watches
									o.inside.Add(-1)
									return nil
								})
								return err
							})
							if err != nil {
								t.Error(err)
							}
						})
					}
					branches.Wait()
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	w.want(bg, "x.Read", 4*50*8)
	if n := len(w.waits.byChain); n != 0 {
		t.Errorf("%d chains are left in the wait graph", n)
	}
}

func TestCallerAndCallID(t *testing.T) {
	w := start(t)
	who := callctx.Caller{ClientID: "g:1/c", UserID: "u", Roles: []string{"r"}, Client: true}
	ctx := callctx.With(bg, &callctx.Info{Caller: who})
	ref := object.Ref{Type: "Thing", ID: "x"}
	ctx = context.WithValue(ctx, scriptKey{"Thing", "x", "Change"}, script(func(ctx context.Context, o *Thing) error {
		info := callctx.From(ctx)
		if info.CallID != "the-id" || info.Caller.UserID != "u" || len(info.Chain.Path) != 1 || info.Chain.ID == (callctx.ChainID{}) {
			t.Errorf("%+v", info)
		}
		_, err := w.call(ctx, "y.Change", func(ctx context.Context, o *Thing) error {
			inner := callctx.From(ctx)
			if want := object.ChildCallID("the-id", 0, object.Ref{Type: "Thing", ID: "y"}, "Change"); inner.CallID != want {
				t.Errorf("the nested call has the id %q, want %q", inner.CallID, want)
			}
			if inner.Caller.UserID != "u" || inner.Chain.ID != info.Chain.ID || len(inner.Chain.Path) != 2 {
				t.Errorf("%+v", inner)
			}
			return nil
		})
		return err
	}))
	_, err := w.Call(ctx, object.Call{Ref: ref, Method: "Change", ID: "the-id", IDIfKept: true})
	w.must(err)
}
