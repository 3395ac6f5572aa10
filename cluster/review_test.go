package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

// A call that may run more than once, and perhaps has run already, is never said not to
// have run, whatever ends its later attempts.
func TestARepeatedCallMayHaveRun(t *testing.T) {
	for name, then := range map[string]func(w *world, p *process) error{
		"the deadline comes": func(*world, *process) error { return fault.New(fault.Draining, "later") },
		"a refusal":          func(*world, *process) error { return fault.New(fault.UnknownMethod, "gone") },
		"the process leaves": func(w *world, p *process) error { p.stop(); return fault.New(fault.NotReady, "later") },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				a := w.node("a:1")
				w.ready(a)
				ran := false
				a.host.set(func() {
					a.host.answer = func(*peer.Request) error {
						if !ran {
							ran = true
							return fault.New(fault.Indeterminate, "the answer was lost")
						}
						return then(w, a)
					}
				})
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				_, err := a.c.Call(ctx, object.Call{Ref: object.Ref{Type: "Room", ID: "x"}, Method: "Who", AtLeastOnce: true})
				if fault.OutcomeOf(err) == fault.NotExecuted {
					t.Errorf("it ran, and the caller is told that it did not: %v", err)
				}
			})
		})
	}
}

// Who is to take a shard dies while the state is being laid there: the shard goes to
// somebody else within the budget, with its state.
func TestTheNextHolderDiesWhileItIsStagedTo(t *testing.T) {
	bubble(t, func(w *world) {
		budget := func(cfg *Config) { cfg.DrainBudget = 20 * time.Second }
		a, b, c := w.node("a:1", budget), w.node("b:1", budget), w.node("c:1", budget)
		w.ready(a, b, c)
		w.split(a, b, c)
		w.net.Partition("a:1", "b:1") // what is staged hangs,
		w.net.Partition("c:1", "b:1") // and there is no way round
		began, before := time.Now(), c.host.arrived()
		a.stop()
		w.settle(func() string {
			for _, s := range a.c.View().Table.All() {
				if s.Current == "a:1" && s.Target == "b:1" {
					return ""
				}
			}
			return "nothing is to go to b"
		})
		b.conn.Close()
		b.stop()
		<-b.done
		<-a.done
		if len(a.host.dropped) > 0 || len(a.host.open) > 0 {
			t.Errorf("a dropped %q and kept %v\n%v", a.host.dropped, a.host.open, w.notes.all())
		}
		if took, n := time.Since(began), c.host.arrived()-before; took > 12*time.Second || n < 5 {
			t.Errorf("after %v, c has got the state of %d shards", took, n)
		}
		w.holds(c)
	})
}

// A shard that is left in peace because it could not leave earlier, leaves at once when
// its node does.
func TestLeavingWhileAShardIsLeftInPeace(t *testing.T) {
	for _, alone := range []bool{false, true} {
		t.Run(fmt.Sprintf("alone=%v", alone), func(t *testing.T) {
			bubble(t, func(w *world) {
				a := w.node("a:1", func(cfg *Config) { cfg.DrainBudget = 10 * time.Second })
				w.ready(a)
				a.host.set(func() { a.host.unfit = errors.New("the state is not to be had") })
				b := w.node("b:1")
				w.ready(b)
				time.Sleep(5 * time.Minute) // of attempts in vain
				a.host.set(func() { a.host.unfit = nil })
				if alone {
					b.conn.Close()
					b.stop()
					<-b.done
					w.settle(func() string {
						if len(a.c.View().Members()) > 1 {
							return "b still counts"
						}
						return ""
					})
				}
				began := time.Now()
				a.leave()
				if took := time.Since(began); took > 2*time.Second || len(a.host.dropped) > 0 {
					t.Errorf("leaving took %v, dropped: %q\n%v", took, a.host.dropped, w.notes.all())
				}
			})
		})
	}
}

// Two nodes leave one after the other: what the first has handed to the second, and that
// has not opened yet when it begins to leave, is handed on, not forgotten with its state.
func TestAHandOverToANodeThatBeginsToLeave(t *testing.T) {
	bubble(t, func(w *world) {
		a := w.node("a:1")
		w.ready(a)
		b, c := w.node("b:1"), w.node("c:1")
		w.ready(b, c)
		w.split(a, b, c)
		b.host.set(func() { b.host.fail = errStore })
		a.leave()
		laid := len(b.host.Staged())
		if laid == 0 {
			t.Fatal("nothing was handed to b")
		}
		before := c.host.arrived()
		b.stop()
		time.Sleep(100 * time.Millisecond)
		b.host.set(func() { b.host.fail = nil })
		<-b.done
		w.holds(c)
		if left := len(b.host.Staged()); left > 0 || c.host.arrived()-before < laid {
			t.Errorf("b left with the state of %d of %d shards that had been handed to it; c got %d", left, laid, c.host.arrived()-before)
		}
	})
}

// Shards that cannot be emptied keep no others, however many they are.
func TestManyShardsThatDoNotEmpty(t *testing.T) {
	bubble(t, func(w *world) {
		many := func(cfg *Config) { cfg.NumShards = 256; cfg.DrainBudget = 20 * time.Second }
		a := w.node("a:1", many)
		w.ready(a)
		for id := range sharding.ID(maxMoving + 10) {
			a.host.set(func() { a.host.refuse[id] = true })
		}
		b := w.node("b:1", many)
		w.ready(b)
		a.stop()
		<-a.done
		if want := 256 - maxMoving - 10; b.host.arrived() < want {
			t.Errorf("%d shards went to b with their state, of %d that could", b.host.arrived(), want)
		}
	})
}

// The answers of a node that has just left still arrive.
func TestAnswersOfANodeThatHasLeft(t *testing.T) {
	bubble(t, func(w *world) {
		a, b := w.node("a:1"), w.node("b:1")
		w.ready(a, b)
		w.split(a, b)
		g := w.gate("g:1")
		w.ready(g)
		a.lingers = time.Second
		w.net.Delay(50 * time.Millisecond)
		var calls sync.WaitGroup
		for i := range 200 {
			calls.Go(func() {
				time.Sleep(time.Duration(i) * 5 * time.Millisecond)
				if _, err := g.ask(fmt.Sprint("x", i)); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(300 * time.Millisecond)
		a.leave()
		calls.Wait()
	})
}

// arrived is how many shards have come with their state.
func (h *host) arrived() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.moved
}

// The store knows a higher epoch and etcd takes no writes for a moment: that is not
// another cluster on the same store.
func TestRefusalsThatCouldNotBeAnswered(t *testing.T) {
	bubble(t, func(w *world) {
		a := w.node("a:1")
		w.ready(a)
		w.fences.set(3, 50, "z:1#dead")
		w.etcd.SetFull(true)
		a.host.set(func() { delete(a.host.open, 3) })
		a.host.lost <- 3 // as a host does whose fence was given away
		select {
		case <-a.done:
			t.Fatalf("the node ended: %v", a.err)
		case <-time.After(3 * time.Second):
		}
		w.etcd.SetFull(false)
		w.holds(a)
	})
}
