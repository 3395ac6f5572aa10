package node

import (
	"context"
	"fmt"
	"math"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

func atMost(n int) setup { return func(_ *world, cfg *Config) { cfg.MaxActivations = n } }

// Many more objects than there is room for: all answer, the bound is kept, and nothing
// of a durable or periodic one is lost.
func TestManyObjectsLittleRoom(t *testing.T) {
	for _, keep := range []object.Durability{object.Durable, object.Periodic(time.Hour)} {
		t.Run(fmt.Sprint(keep), func(t *testing.T) {
			w := start(t, kept, atMost(100), object.WithDurability(keep))
			count := 10_000
			if keep != object.Durable {
				count = 1_000
			}
			var alive, most atomic.Int64
			w.set(func(h *hooks) {
				h.onCreated = func(*Thing) {
					for n := alive.Add(1); n > most.Load(); {
						most.Store(n)
					}
				}
				h.onDestroy = func(*Thing) { alive.Add(-1) }
			})
			var all sync.WaitGroup
			work := make(chan int)
			for range 20 {
				all.Go(func() {
					for i := range work {
						if n, err := w.call(bg, fmt.Sprintf("o%d.Change", i%count)); err != nil || n != int64(1+i/count) {
							t.Errorf("call %d: %d, %v", i, n, err)
						}
					}
				})
			}
			for i := range 2 * count {
				work <- i
			}
			close(work)
			all.Wait()
			if most.Load() > 100 || most.Load() < 90 {
				t.Errorf("%d objects were active at once", most.Load())
			}
			// The last ones to make room may still be ending: the count falls meanwhile.
			before, there, after := w.live.Load(), int64(w.NumObjects()), w.live.Load()
			if before > 100 || there > before || there < after {
				t.Errorf("%d are counted, then %d, of %d", before, after, there)
			}
		})
	}
}

// Who runs, or is waited for, is never ended; when nobody else is left, what is new is
// refused, and says why.
func TestAFullNodeRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept, atMost(3))
		var blocks []*block
		var calls []*pending
		for i := range 3 {
			b := newBlock()
			calls = append(calls, w.start(bg, fmt.Sprintf("o%d.Change", i), b.run), w.start(bg, fmt.Sprintf("o%d.Change", i)))
			<-b.entered
			blocks = append(blocks, b)
		}
		synctest.Wait()
		for range 2 { // also without looking
			_, err := w.call(bg, "new.Change")
			isFault(t, err, fault.Overloaded, fault.NotExecuted)
			if !strings.Contains(err.Error(), "3 objects are active on this node (MaxActivations)") || fault.Of(err).RetryAfter == 0 {
				t.Error(err)
			}
		}
		isFault(t, w.create(bg, "new"), fault.Overloaded, fault.NotExecuted)
		w.wantEvents("+o0 stored=false", "+o1 stored=false", "+o2 stored=false")
		for _, b := range blocks {
			close(b.let)
		}
		for _, p := range calls {
			if _, err := p.wait(); err != nil {
				t.Error(err)
			}
		}
		time.Sleep(fullFor)
		w.want(bg, "new.Change", 1)
		for i := range 3 {
			w.want(bg, fmt.Sprintf("o%d.Read", i), 2)
		}
	})
}

// Volatile state is nowhere else: it goes last, and only when its own time has come.
func TestVolatileStateIsEvictedLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, atMost(3), object.WithIdleTimeout(time.Hour))
		w.want(bg, "Kept/v.Change", 1)
		w.want(bg, "Thing/a.Change", 1)
		time.Sleep(time.Minute)
		w.want(bg, "Thing/b.Change", 1)
		for i := range 50 {
			time.Sleep(time.Second)
			w.want(bg, fmt.Sprintf("Thing/n%d.Change", i), 1)
		}
		w.want(bg, "Kept/v.Read", 1)
		w.want(bg, "Kept/v2.Change", 1)
		w.want(bg, "Kept/v3.Change", 1)
		_, err := w.call(bg, "Thing/c.Change")
		isFault(t, err, fault.Overloaded, fault.NotExecuted)
		w.want(bg, "Kept/v.Read", 1)
		w.want(bg, "Kept/v3.Read", 1)
	})
}

// Victims are about the eldest: of 1,000 objects of which the younger half is used
// again and again, hardly any of that half goes.
func TestEvictionPrefersTheEldest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, atMost(1000), object.WithIdleTimeout(-1))
		for i := range 1000 {
			time.Sleep(time.Millisecond)
			w.call(bg, fmt.Sprintf("o%d.Change", i))
		}
		w.forgetEvents()
		for i := range 150 {
			time.Sleep(time.Millisecond)
			w.call(bg, fmt.Sprintf("new%d.Change", i))
		}
		young, all := 0, 0
		for _, e := range strings.Split(w.said(), "; ") {
			var i int
			if _, err := fmt.Sscanf(e, "-o%d evicted", &i); err == nil {
				if all++; i >= 500 {
					young++
				}
			}
		}
		if all < 120 || young > all/10 {
			t.Errorf("%d were evicted, %d of them of the younger half", all, young)
		}
	})
}

// A heap that has outgrown its share of the memory limit makes objects go that can.
func TestTheHeapIsRelieved(t *testing.T) {
	var heard limitsHeard
	w := start(t, kept, object.WithIdleTimeout(-1), heard.setup)
	b := newBlock()
	busy := w.start(bg, "busy.Change", b.run)
	<-b.entered
	for i := range 100 {
		w.want(bg, fmt.Sprintf("o%d.Change", i), 1)
	}
	w.relieve()
	if n := w.NumObjects(); n != 101 {
		t.Errorf("without a limit %d objects are left", n)
	}
	defer debug.SetMemoryLimit(math.MaxInt64)
	debug.SetMemoryLimit(1 << 40)
	w.relieve()
	if n := w.NumObjects(); n != 101 || heard.String() != "" {
		t.Errorf("below the limit %d objects are left, and it told of %q", n, heard.String())
	}
	debug.SetMemoryLimit(1)
	w.SetPersistenceInterval(80 * time.Millisecond) // the sweep looks often
	ctx, cancel := context.WithTimeout(bg, time.Minute)
	defer cancel()
	for ctx.Err() == nil && w.NumObjects() > 1 {
		debug.FreeOSMemory() // collects
	}
	if n := w.NumObjects(); n != 1 {
		t.Errorf("%d objects are left", n)
	}
	if told := heard.String(); !strings.HasSuffix(told, " memory of ") {
		t.Errorf("it told of %q", told)
	}
	close(b.let)
	if n, err := busy.wait(); n != 1 || err != nil {
		t.Error(n, err)
	}
	debug.SetMemoryLimit(math.MaxInt64)
	for i := range 100 {
		w.want(bg, fmt.Sprintf("o%d.Read", i), 1)
	}
	if !slices.Contains(strings.Split(w.said(), "; "), "-o1 evicted") {
		t.Error("o1 was not evicted")
	}
}
