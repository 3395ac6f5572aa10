package node

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// backend is what all methods of a node need: so many at a time, 10 ms each.
type backend chan struct{}

func (b backend) use(ctx context.Context, _ *Thing) error {
	if ctx.Err() != nil {
		return errors.New("begun too late")
	}
	select {
	case b <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	time.Sleep(10 * time.Millisecond)
	<-b
	return nil
}

// Ten times what a node can do, on whatever objects: its work stays bounded; a second
// or two later it does as much as it can, what it does it does soon, and it refuses
// the rest unrun. With the load the trouble ends.
func TestAnOverloadedNodeStaysUseful(t *testing.T) {
	for _, c := range []struct {
		name   string
		target func(i int) string
		setup  any
	}{
		{"many objects", func(i int) string { return fmt.Sprintf("o-%d.Change", i) }, object.WithIdleTimeout(time.Second)},
		{"readers of one object", func(int) string { return "one.Read" }, object.WithMaxQueue(10)},
		{"one concurrent object", func(int) string { return "one.Change" }, object.WithMode(object.Concurrent)},
	} {
		bubble(t, c.name, func(t *testing.T) {
			w := start(t, c.setup)
			all := make(backend, 2) // 200 in a second
			call := func(i int) error {
				ctx, cancel := within(2 * time.Second)
				defer cancel()
				_, err := w.call(ctx, c.target(i), all.use)
				if n := w.executions.inFlight(); n > DefaultMaxExecutions {
					t.Error("in flight:", n)
				}
				if fault.KindOf(err) == fault.Overloaded {
					isFault(t, err, fault.Overloaded, fault.NotExecuted)
					if fault.Of(err).RetryAfter <= 0 {
						t.Error("nobody is told when to come again")
					}
				}
				return err
			}
			calm := func(when string) {
				t.Helper()
				seconds, done := shower(5*time.Second, 8*time.Millisecond, call)
				done()
				for i, s := range seconds {
					if len(s.took) != 125 || s.worst() > 10*time.Millisecond {
						t.Errorf("%s, second %d: %v", when, i, s)
					}
				}
			}
			calm("before")
			w.forgetEvents()
			seconds, done := shower(7*time.Second, 500*time.Microsecond, call)
			done()
			late := 0
			for i, s := range seconds {
				t.Logf("second %d: %v", i, s)
				if i < 4 {
					continue
				}
				late += len(s.took)
				if len(s.took) < 160 || len(s.took)+s.ended[fault.Overloaded] != 2000 {
					t.Errorf("second %d", i)
				}
				if s.worst() > 750*time.Millisecond { // twice what 64 in flight take, and a bit
					t.Errorf("second %d: who was let in waited for long", i)
				}
			}
			if late < 560 { // of 600
				t.Error("the last three seconds did", late)
			}
			if n := strings.Count(w.said(), "notice overload"); n != 1 {
				t.Errorf("it was said %d times", n)
			}
			if n := w.executions.inFlight(); n != 0 {
				t.Error("still in flight:", n)
			}
			calm("afterwards")
			if n := w.executions.limit.Load(); n != DefaultMaxExecutions {
				t.Error("the limit is still", n)
			}
		})
	}
}

// crowd is a node of so many executions, all of them inside methods until let ends.
func crowd(w *world, executions int, then script) (all []*pending, let func()) {
	open, inside := make(chan struct{}), make(chan struct{})
	for i := range executions {
		all = append(all, w.start(bg, fmt.Sprintf("crowd-%d.Change", i), func(ctx context.Context, o *Thing) error {
			inside <- struct{}{}
			<-open
			return then(ctx, o)
		}))
	}
	for range executions {
		<-inside
	}
	return all, sync.OnceFunc(func() { close(open) })
}

// A full node lets the chains go on that are inside, however deep, and through whatever
// kind of object, and back; it refuses root calls only.
func TestChainsUnderAFullLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var refused []event.CallDone
		var mu sync.Mutex
		w := start(t, func(_ *world, cfg *Config) {
			cfg.MaxExecutions = 8
			cfg.Listener.CallDone = func(e event.CallDone) {
				mu.Lock()
				defer mu.Unlock()
				if fault.KindOf(e.Err) == fault.Overloaded {
					refused = append(refused, e)
				}
			}
		})
		leaf := func(ctx context.Context, o *Thing) error { time.Sleep(time.Millisecond); return nil }
		deep := func(ctx context.Context, o *Thing) error {
			_, err := w.call(ctx, "middle.Change", func(ctx context.Context, m *Thing) error {
				if _, err := w.call(ctx, "leaf.Read", leaf); err != nil {
					return err
				}
				if _, err := w.call(ctx, o.Id()+".Read", leaf); err != nil { // back
					return err
				}
				return w.create(ctx, fmt.Sprintf("Thing/new-%s", o.Id()))
			})
			return err
		}
		all, let := crowd(w, 8, deep)
		for _, late := range []func() error{
			func() error { _, err := w.call(bg, "x.Change"); return err },
			func() error { _, err := w.call(bg, "crowd-0.Change"); return err },
			func() error { return w.create(bg, "x") },
			func() error { return w.delete(bg, "crowd-0") },
		} {
			isFault(t, late(), fault.Overloaded, fault.NotExecuted)
		}
		w.must(w.SaveAllObjects(bg))
		let()
		for _, p := range all {
			if _, err := p.wait(); err != nil {
				t.Error(err)
			}
		}
		if len(refused) != 2 || refused[0].Method != "Change" {
			t.Error("events of refused calls:", refused)
		}
		if n := w.executions.inFlight(); n != 0 {
			t.Error("still in flight:", n)
		}
		w.want(bg, "x.Change", 1)
	})
}

// Who waits for a turn, for the end of an activation or for a shard holds no room.
func TestWaitersHoldNoRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, func(_ *world, cfg *Config) { cfg.MaxExecutions = 8 })
		inFlight := func(want int) {
			t.Helper()
			synctest.Wait()
			if n := w.executions.inFlight(); n != want {
				t.Errorf("%d are in flight, want %d", n, want)
			}
		}
		b := newBlock()
		first := w.start(bg, "x.Change", b.run)
		<-b.entered
		var all []*pending
		for range 100 {
			all = append(all, w.start(bg, "x.Change"))
			inFlight(1)
		}
		canceled, cancel := context.WithCancel(bg)
		gone := w.start(canceled, "x.Change")
		inFlight(1)
		cancel()
		_, err := gone.wait()
		isFault(t, err, fault.Canceled, fault.NotExecuted)
		inFlight(1)

		id, _ := w.slotOf("x")
		for _, s := range []func(){
			func() { id.beginDrain() },
			func() { w.Resume(allShards()) },
		} {
			s()
			inFlight(1)
		}
		deletion := begin(func() (int64, error) { return 0, w.delete(bg, "x") })
		inFlight(1)
		close(b.let)
		first.wait()
		for _, p := range all {
			if _, err := p.wait(); err != nil {
				t.Error(err)
			}
		}
		deletion.wait()
		inFlight(0)
	})
}

// A method that ends its goroutine, a panic, a call that is nonsense: all leave.
func TestEveryEndLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		for _, do := range []script{
			func(context.Context, *Thing) error { panic("p") },
			func(context.Context, *Thing) error { return errUser },
			func(ctx context.Context, o *Thing) error { time.Sleep(time.Minute); return nil },
		} {
			ctx, cancel := within(time.Second)
			w.call(ctx, "x.Change", do)
			cancel()
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			w.call(bg, "x.Change", func(context.Context, *Thing) error { runtime.Goexit(); return nil })
		}()
		<-done
		w.call(bg, "Nothing/x.Change")
		w.call(bg, "x.Nothing")
		w.send(bg, object.Call{Ref: object.Ref{Type: "Thing", ID: "x"}, Method: "Change", Payload: object.OfJSON([]byte("{"))})
		if n := w.executions.inFlight(); n != 0 {
			t.Error("still in flight:", n)
		}
	})
}
