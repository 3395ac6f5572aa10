package node

import (
	"context"
	"errors"
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

func TestCodel(t *testing.T) {
	type look struct {
		at, waited time.Duration
		queued     int
		standing   bool
	}
	ms, s := time.Millisecond, time.Second
	for _, c := range []struct {
		name  string
		looks []look
	}{
		{"a burst", []look{{s, 90 * ms, 900, false}, {2 * s, s, 800, false}, {2900 * ms, 2 * s, 300, false}, {3 * s, 100 * ms, 17, false}, {4 * s, s, 800, false}}},
		{"it stands", []look{{s, 101 * ms, 17, false}, {1999 * ms, s, 17, false}, {2 * s, s, 17, true}, {3 * s, s, 17, true}}},
		{"few", []look{{s, s, 16, false}, {9 * s, 9 * s, 16, false}}},
		{"few for a moment", []look{{s, s, 17, false}, {1900 * ms, s, 16, false}, {2 * s, s, 17, false}, {2900 * ms, s, 17, false}, {3 * s, s, 17, true}}},
		{"it stands no more", []look{{s, s, 17, false}, {2 * s, s, 17, true}, {3 * s, 0, 17, true}, {3900 * ms, 0, 17, true}, {4 * s, 0, 17, false}, {5 * s, s, 17, false}}},
		{"it stands on", []look{{s, s, 17, false}, {2 * s, s, 17, true}, {3 * s, 0, 17, true}, {3900 * ms, s, 17, true}, {4 * s, 0, 17, true}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var codel codel
			for _, l := range c.looks {
				if codel.observe(l.at, l.at-l.waited, l.queued); codel.standing != l.standing {
					t.Fatalf("at %v with %d waiting for %v: standing is %v", l.at, l.queued, l.waited, codel.standing)
				}
			}
		})
	}
}

// tallies counts how calls ended.
type tallies struct {
	mu    sync.Mutex
	ended map[fault.Kind]int // 0: well
	took  []time.Duration    // of those that ended well
}

func (c *tallies) note(err error, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended == nil {
		c.ended = map[fault.Kind]int{}
	}
	c.ended[fault.KindOf(err)]++
	if err == nil {
		c.took = append(c.took, took)
	}
}

func (c *tallies) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	text := fmt.Sprintf("%d well", len(c.took))
	for _, row := range fault.Table() {
		if n := c.ended[row.Kind]; n > 0 {
			text += fmt.Sprintf(", %d %v", n, row.Kind)
		}
	}
	if len(c.took) == 0 {
		return text
	}
	slices.Sort(c.took)
	return fmt.Sprintf("%s; half within %v, 99 of 100 within %v, all within %v", text, c.took[len(c.took)/2], c.took[len(c.took)*99/100], c.worst())
}

func (c *tallies) worst() time.Duration {
	if len(c.took) == 0 {
		return 0
	}
	return slices.Max(c.took)
}

// shower lets calls rain for d, one every pause, and counts by the second in which
// they came. None is waited for; done ends with the last.
func shower(d, pause time.Duration, call func(i int) error) (seconds []*tallies, done func()) {
	var all sync.WaitGroup
	for range d / time.Second {
		seconds = append(seconds, &tallies{})
	}
	began := time.Now()
	for i := 0; time.Since(began) < d; i++ {
		all.Go(func() {
			came := time.Now()
			err := call(i)
			seconds[came.Sub(began)/time.Second].note(err, time.Since(came))
		})
		time.Sleep(pause)
	}
	return seconds, all.Wait
}

// work is a script that takes d.
func work(t testing.TB, d time.Duration) script {
	return func(ctx context.Context, o *Thing) error {
		if ctx.Err() != nil {
			t.Error("a call began whose time was up")
		}
		time.Sleep(d)
		return nil
	}
}

// Ten times what an object can do: from the second on after which its queue is known to
// stand, it does as much as it can, what it does it does soon, and who is refused has
// not run. Others notice nothing, and with the load the trouble ends.
func TestAHotObjectStaysUseful(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		hot := func(int) error {
			ctx, cancel := within(2 * time.Second)
			defer cancel()
			_, err := w.call(ctx, "hot.Change", work(t, 10*time.Millisecond)) // 100 in a second
			if fault.KindOf(err) == fault.Overloaded {
				isFault(t, err, fault.Overloaded, fault.NotExecuted)
				if fault.Of(err).RetryAfter <= 0 {
					t.Error("nobody is told when to come again")
				}
			}
			return err
		}
		quiet := begin(func() (n int64, err error) {
			for range 80 {
				time.Sleep(100 * time.Millisecond)
				came := time.Now()
				if _, err := w.call(bg, "quiet.Change"); err != nil || time.Since(came) > 0 {
					return 0, fmt.Errorf("after %v: %w", time.Since(came), err)
				}
			}
			return 0, nil
		})
		chains := &tallies{}
		chained := begin(func() (int64, error) {
			_, done := shower(8*time.Second, 50*time.Millisecond, func(i int) error {
				came := time.Now()
				_, err := w.call(bg, fmt.Sprintf("outer-%d.Change", i), func(ctx context.Context, o *Thing) error {
					_, err := w.call(ctx, "hot.Change", work(t, 10*time.Millisecond))
					return err
				})
				chains.note(err, time.Since(came))
				return err
			})
			done()
			return 0, nil
		})
		seconds, done := shower(8*time.Second, time.Millisecond, hot)
		done()
		for i, s := range seconds {
			t.Logf("second %2d: %v", i, s)
			if i < 3 {
				continue
			}
			if s.ended[0] < 75 || s.ended[fault.Overloaded]+s.ended[0] != 1000 { // 20 in a second are the chains'
				t.Errorf("second %d", i)
			}
			if s.worst() > 200*time.Millisecond || s.took[len(s.took)/2] > 50*time.Millisecond {
				t.Errorf("second %d: who was served waited for long", i)
			}
		}
		if _, err := quiet.wait(); err != nil {
			t.Error("another object:", err)
		}
		chained.wait()
		if chains.ended[0] != 160 {
			t.Error("chains that were inside already:", chains)
		}
		t.Log("chains:", chains)
		time.Sleep(time.Second)
		after, done := shower(3*time.Second, 12*time.Millisecond, hot)
		done()
		for i, s := range after {
			if s.ended[0] != len(s.took) || len(s.ended) != 1 || s.worst() > 20*time.Millisecond {
				t.Errorf("afterwards, second %d: %v", i, s)
			}
		}
		if n := w.executions.inFlight(); n != 0 {
			t.Error("still in flight:", n)
		}
	})
}

// While a queue stands the writers are not starved by the readers that come later, nor
// the readers by the writers.
func TestReadersAndWritersShareAHotObject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		reads, writes := &tallies{}, &tallies{}
		_, done := shower(6*time.Second, time.Millisecond, func(i int) error {
			ctx, cancel := within(2 * time.Second)
			defer cancel()
			if i%5 == 0 { // 200 in a second, and 100 can be done
				_, err := w.call(ctx, "x.Change", work(t, 10*time.Millisecond))
				writes.note(err, 0)
				return err
			}
			_, err := w.call(ctx, "x.Read", work(t, 10*time.Millisecond))
			reads.note(err, 0)
			return err
		})
		done()
		t.Log("reads:", reads, "writes:", writes)
		if writes.ended[0] < 180 || reads.ended[0] < 600 {
			t.Error("somebody starved")
		}
	})
}

// A burst that the object can work off is no overload: nobody is refused, and the
// first goes first.
func TestABurstIsServedInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		var mu sync.Mutex
		var order []int
		var all sync.WaitGroup
		for i := range 1000 {
			all.Go(func() {
				if _, err := w.call(bg, "x.Change", func(context.Context, *Thing) error {
					mu.Lock()
					order = append(order, i)
					mu.Unlock()
					time.Sleep(time.Millisecond)
					return nil
				}); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		all.Wait()
		if !slices.IsSorted(order) || len(order) != 1000 {
			t.Error("out of order")
		}
	})
}

// Sixteen patient callers of a slow object wait for as long as it takes.
func TestASlowObjectsFewCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		var all sync.WaitGroup
		for range 17 {
			all.Go(func() {
				for range 20 {
					if _, err := w.call(bg, "x.Change", work(t, 2*time.Second)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
	})
}

// A call of a chain that is inside finds room in a full queue as long as root calls
// stand there: the last of them makes it.
func TestNestedCallsFindRoomInAFullQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, object.WithMaxQueue(3))
		b := newBlock()
		first := w.start(bg, "x.Change", b.run)
		<-b.entered
		var roots, nested []*pending
		for range 3 {
			roots = append(roots, w.start(bg, "x.Change"))
			synctest.Wait()
		}
		for i := range 4 {
			nested = append(nested, w.start(bg, fmt.Sprintf("outer-%d.Change", i), func(ctx context.Context, _ *Thing) error {
				_, err := w.call(ctx, "x.Change")
				return err
			}))
			synctest.Wait()
			if i < 3 && (roots[2-i].running() || !nested[i].running()) {
				t.Fatal("the wrong one had to go")
			}
		}
		_, err := nested[3].wait()
		isFault(t, errors.Unwrap(fault.Of(err)), fault.Overloaded, fault.NotExecuted)
		close(b.let)
		first.wait()
		for _, p := range nested[:3] {
			if _, err := p.wait(); err != nil {
				t.Error(err)
			}
		}
		for _, p := range roots {
			_, err := p.wait()
			isFault(t, err, fault.Overloaded, fault.NotExecuted)
		}
		w.want(bg, "x.Read", 4)
	})
}

// Who was let go while he waited does not get a turn that somebody else could use.
func TestTheQueueSkipsWhoseTimeIsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		w.want(bg, "x.Read", 0)
		a := w.activationOf(object.Ref{Type: "Thing", ID: "x"})
		late, cancel := context.WithCancel(bg)
		a.mu.Lock()
		h := a.turns.enter(callctx.NewChainID(), false, nil, 0)
		for i, ctx := range []context.Context{late, late, bg} { // nobody stands behind them to withdraw
			a.turns.add(&waiter{act: a, ctx: ctx, chain: callctx.ChainID{byte(i)}, done: make(chan struct{})})
		}
		queue := slices.Clone(a.turns.queue)
		a.mu.Unlock()
		cancel()
		a.leave(h, false)
		for _, gone := range queue[:2] {
			if !gone.settled || gone.hold != nil {
				t.Fatal("a call whose time is up got the turn")
			}
			isFault(t, gone.err, fault.Canceled, fault.NotExecuted)
		}
		if queue[2].hold == nil {
			t.Fatal("the call behind them did not get the turn")
		}
		a.leave(queue[2].hold, false)
	})
}
