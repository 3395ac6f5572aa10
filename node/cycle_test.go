package node

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

// cause is the fault of a nested call, however many methods passed it on.
func cause(err error) *fault.Error {
	e := fault.Of(err)
	for e != nil && e.Kind == fault.Failed {
		var inner *fault.Error
		if !errors.As(e.Err, &inner) {
			break
		}
		e = inner
	}
	return e
}

// ring makes n chains, each of which holds one object and then calls the next one's
// holder's, all at once. It returns their errors.
func ring(w *world, n int, target func(i int) (hold, want string)) []error {
	var in sync.WaitGroup
	in.Add(n)
	var chains []*pending
	for i := range n {
		hold, want := target(i)
		chains = append(chains, w.start(bg, hold, func(ctx context.Context, o *Thing) error {
			in.Done()
			in.Wait()
			_, err := w.call(ctx, want)
			return err
		}))
	}
	var errs []error
	for _, p := range chains {
		if _, err := p.wait(); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

func TestCycleAcrossChains(t *testing.T) {
	for _, c := range []struct {
		name   string
		n      int
		target func(i int) (hold, want string)
	}{
		{"two", 2, func(i int) (string, string) { return fmt.Sprintf("o%d.Change", i), fmt.Sprintf("o%d.Other", (i+1)%2) }},
		{"three", 3, func(i int) (string, string) { return fmt.Sprintf("o%d.Change", i), fmt.Sprintf("o%d.Other", (i+1)%3) }},
		{"ten", 10, func(i int) (string, string) {
			return fmt.Sprintf("o%d.Change", i), fmt.Sprintf("o%d.Other", (i+1)%10)
		}},
		{"read-only turns held", 2, func(i int) (string, string) { return fmt.Sprintf("o%d.Read", i), fmt.Sprintf("o%d.Other", (i+1)%2) }},
		{"read-only turns wanted", 3, func(i int) (string, string) { return fmt.Sprintf("o%d.Change", i), fmt.Sprintf("o%d.Look", (i+1)%3) }},
	} {
		bubble(t, c.name, func(t *testing.T) {
			w := start(t)
			begun := time.Now()
			errs := ring(w, c.n, c.target)
			if took := time.Since(begun); took > 250*time.Millisecond {
				t.Errorf("found after %v", took)
			}
			if len(errs) != 1 {
				t.Fatalf("%d calls failed: %v", len(errs), errs)
			}
			e := cause(errs[0])
			if e.Kind != fault.Cycle || fault.OutcomeOf(e) != fault.NotExecuted {
				t.Fatal(errs[0])
			}
			isFault(t, errs[0], fault.Failed, fault.Executed)
			// The path names every object of the circle, and ends where it began.
			if len(e.Path) != c.n+1 {
				t.Errorf("path %v", e.Path)
			}
			objects := map[string]bool{}
			for _, call := range e.Path {
				name, _, _ := strings.Cut(call, ".")
				objects[name] = true
			}
			first, _, _ := strings.Cut(e.Path[0], ".")
			last, _, _ := strings.Cut(e.Path[c.n], ".")
			if len(objects) != c.n || first != last {
				t.Errorf("path %v", e.Path)
			}
			if len(w.waits.byChain) != 0 {
				t.Error("something is left in the wait graph")
			}
		})
	}
}

func TestTwoCyclesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		begun := time.Now()
		var both sync.WaitGroup
		for k := range 2 {
			both.Go(func() {
				errs := ring(w, 2, func(i int) (string, string) {
					return fmt.Sprintf("r%d-o%d.Change", k, i), fmt.Sprintf("r%d-o%d.Other", k, 1-i)
				})
				if len(errs) != 1 || cause(errs[0]).Kind != fault.Cycle {
					t.Error(errs)
				}
			})
		}
		both.Wait()
		if took := time.Since(begun); took > 250*time.Millisecond {
			t.Error(took)
		}
	})
}

// The waits of a circle may stand on several branches of one chain.
func TestCycleThroughAFanOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		held, in := newBlock(), make(chan struct{})
		second := w.start(bg, "z.Change", func(ctx context.Context, o *Thing) error {
			close(held.entered)
			<-in
			_, err := w.call(ctx, "y.Change") // y is held by a branch of the other chain
			return err
		})
		<-held.entered
		_, err := w.call(bg, "x.Change", func(ctx context.Context, o *Thing) error {
			free := w.start(ctx, "a.Change") // a branch that ends by itself
			stuck := w.start(ctx, "y.Other", func(ctx context.Context, o *Thing) error {
				close(in)
				synctest.Wait()
				_, err := w.call(ctx, "z.Other")
				return err
			})
			free.wait()
			_, err := stuck.wait()
			return err
		})
		if cause(err).Kind != fault.Cycle {
			t.Error(err)
		}
		if _, err := second.wait(); err != nil {
			t.Error(err)
		}
	})
}

// A reader that stands behind a writer waits for it, and so for whom that waits.
func TestCycleThroughAQueuedWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		go1, go3 := make(chan struct{}), make(chan struct{})
		one := w.start(bg, "r.Read", func(ctx context.Context, o *Thing) error {
			<-go1
			_, err := w.call(ctx, "q.Other")
			return err
		})
		three := w.start(bg, "q.Change", func(ctx context.Context, o *Thing) error {
			<-go3
			_, err := w.call(ctx, "r.Look")
			return err
		})
		synctest.Wait()
		writer := w.start(bg, "r.Change") // a root call: it holds nothing, and lets nobody past
		synctest.Wait()
		close(go3)
		synctest.Wait()
		close(go1)
		_, err1 := one.wait()
		_, err3 := three.wait()
		if cause(err1) == nil || cause(err1).Kind != fault.Cycle || err3 != nil {
			t.Error(err1, err3)
		}
		if _, err := writer.wait(); err != nil {
			t.Error(err)
		}
	})
}

// A call that waits for an activation to end waits for those inside, too.
func TestCycleThroughAnEndingActivation(t *testing.T) {
	for _, mode := range []object.Mode{object.Sequential, object.Concurrent} {
		bubble(t, fmt.Sprint("mode=", mode), func(t *testing.T) {
			w := start(t, object.WithMode(mode), object.WithIdleTimeout(-1))
			w.must(w.RegisterObjectType((*Thing)(nil), object.WithName("Plain"), object.WithIdleTimeout(-1)))
			in := make(chan struct{})
			first := w.start(bg, "x.Change", func(ctx context.Context, o *Thing) error {
				<-in
				_, err := w.call(ctx, "Plain/y.Change")
				return err
			})
			second := w.start(bg, "Plain/y.Change", func(ctx context.Context, o *Thing) error {
				<-in
				synctest.Wait()
				_, err := w.call(ctx, "x.Other")
				return err
			})
			synctest.Wait()
			drained := begin(func() (int64, error) { return 0, w.Drain(bg, allShards()[w.shardOf("x")]) })
			synctest.Wait()
			begun := time.Now()
			close(in)
			_, err1 := first.wait()
			_, err2 := second.wait()
			if took := time.Since(begun); took > 250*time.Millisecond {
				t.Error(took)
			}
			if (err1 == nil) == (err2 == nil) {
				t.Error(err1, err2)
			}
			if err := err1; err2 != nil {
				err = err2
				if cause(err).Kind != fault.Cycle {
					t.Error(err)
				}
			}
			drained.wait()
		})
	}
}

// plan is a random tree of calls over few objects.
type plan struct {
	object   int
	shared   bool
	parallel bool
	pause    time.Duration
	calls    []plan
}

func (p plan) String() string {
	method := "Change"
	if p.shared {
		method = "Read"
	}
	s := fmt.Sprintf("o%d.%s", p.object, method)
	if len(p.calls) > 0 {
		s += fmt.Sprint(p.calls)
	}
	return s
}

// run makes the calls of a plan. Failed nested calls do not stop it; their errors
// go to report.
func (p plan) run(w *world, ctx context.Context, report func(error)) {
	method := "Change"
	if p.shared {
		method = "Read"
	}
	_, err := w.call(ctx, fmt.Sprintf("o%d.%s", p.object, method), func(ctx context.Context, o *Thing) error {
		// Only the chain whose code runs may be here.
		if !p.shared && o.inside.Add(1) != 1 {
			report(fmt.Errorf("o%d: two at once", p.object))
		}
		time.Sleep(p.pause)
		if !p.shared {
			o.inside.Add(-1)
		}
		var all sync.WaitGroup
		for _, next := range p.calls {
			if p.parallel {
				all.Go(func() { next.run(w, ctx, report) })
			} else {
				next.run(w, ctx, report)
			}
		}
		all.Wait()
		return nil
	})
	if err != nil {
		report(err)
	}
}

// drawPlan draws a tree. ordered: a call goes only to a greater object, or back to
// one that its path holds and may be entered; then no circle is possible.
func drawPlan(r *rand.Rand, objects, depth int, path []plan, ordered bool) plan {
	p := plan{shared: r.IntN(3) == 0, parallel: r.IntN(2) == 0, pause: time.Duration(r.IntN(3)) * time.Millisecond}
	p.object = r.IntN(objects)
	if ordered && len(path) > 0 {
		highest := 0
		for _, q := range path {
			highest = max(highest, q.object)
		}
		if back := path[r.IntN(len(path))]; highest+1 >= objects || r.IntN(4) == 0 {
			p.object, p.shared = back.object, back.shared || r.IntN(2) == 0
			for _, q := range path { // the chain's hold of it is what its first entry asked for
				if q.object == p.object {
					p.shared = q.shared || p.shared
					break
				}
			}
		} else {
			p.object = highest + 1 + r.IntN(objects-highest-1)
		}
	}
	if depth > 0 {
		path = append(slices.Clip(path), p)
		for range r.IntN(4) {
			p.calls = append(p.calls, drawPlan(r, objects, depth-1, path, ordered))
		}
	}
	return p
}

// stress runs chains of a seed side by side and returns what failed. Each has an
// hour: whoever needs that long was stuck.
func stress(t testing.TB, w *world, seed uint64, ordered bool) (calls []plan, errs []error) {
	r := rand.New(rand.NewPCG(seed, 1))
	var mu sync.Mutex
	var all sync.WaitGroup
	begun := time.Now()
	for range 2 + r.IntN(6) {
		p := drawPlan(r, 2+r.IntN(4), 4, nil, ordered)
		calls = append(calls, p)
		all.Go(func() {
			ctx, cancel := within(time.Hour)
			defer cancel()
			p.run(w, ctx, func(err error) {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			})
		})
	}
	all.Wait()
	if took := time.Since(begun); took > time.Minute {
		t.Errorf("seed %d: stuck for %v", seed, took)
	}
	return calls, errs
}

// Chains that take objects in one order can never wait in a circle, whatever they
// read, change, re-enter and do in parallel: none may be reported.
func TestNoFalseCycle(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		t.Run("", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := start(t)
				calls, errs := stress(t, w, seed, true)
				if len(errs) > 0 {
					t.Errorf("seed %d: %v\n%v", seed, errs, calls)
				}
				if len(w.waits.byChain) != 0 {
					t.Error("something is left in the wait graph")
				}
			})
		})
		if t.Failed() {
			rt.FailNow()
		}
	})
}

// Whatever chains do, every one of them ends, and fails only by a circle.
func TestRandomChainsAlwaysEnd(t *testing.T) {
	cycles := 0
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		t.Run("", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := start(t)
				calls, errs := stress(t, w, seed, false)
				for _, err := range errs {
					if fault.KindOf(err) != fault.Cycle {
						t.Errorf("seed %d: %v\n%v", seed, err, calls)
					}
					cycles++
				}
				for i := range 6 { // every turn was given back
					if _, err := w.call(bg, fmt.Sprintf("o%d.Change", i)); err != nil {
						t.Error(err)
					}
				}
				if len(w.waits.byChain) != 0 {
					t.Error("something is left in the wait graph")
				}
			})
		})
		if t.Failed() {
			rt.FailNow()
		}
	})
	if cycles == 0 {
		t.Error("the test never made a circle")
	}
}

// pair is two nodes with a wire between them: an object lives on the one that the
// hash of its id says.
func pair(t *testing.T) (a, b *world) {
	var nodes [2]*world
	route := func(from *world) func(ctx context.Context, call object.Call) (object.Payload, error) {
		return func(ctx context.Context, call object.Call) (object.Payload, error) {
			h := fnv.New32a()
			h.Write([]byte(call.Ref.ID))
			to := nodes[h.Sum32()%2]
			if to != from { // the wire carries who calls and the chain, and nothing else of the caller's
				info := *callctx.From(ctx)
				info.Chain.Path = slices.Clone(info.Chain.Path)
				ctx = callctx.With(ctx, &info)
			}
			return to.ServeCall(ctx, &peer.Request{Call: call})
		}
	}
	for i := range nodes {
		nodes[i] = start(t, func(w *world, cfg *Config) {
			cfg.Address = fmt.Sprintf("n:%d", i)
			cfg.Call = route(w)
		})
	}
	return nodes[0], nodes[1]
}

func TestChainAcrossNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, other := pair(t)
		if _, err := w.call(bg, "e.Change"); err != nil {
			t.Fatal(err)
		}
		if w.NumObjects()+other.NumObjects() != 1 {
			t.Fatal("objects on both")
		}
		// a and b are on different nodes: out, back, and out again.
		depth := 0
		var down func(ctx context.Context, at string) error
		down = func(ctx context.Context, at string) error {
			if depth++; depth > 6 {
				return nil
			}
			next := map[string]string{"a": "b", "b": "a"}[at]
			_, err := w.call(ctx, next+".Change", func(ctx context.Context, o *Thing) error { o.N++; return down(ctx, next) })
			return err
		}
		ctx, cancel := within(time.Minute)
		defer cancel()
		_, err := w.call(ctx, "a.Change", func(ctx context.Context, o *Thing) error { o.N++; return down(ctx, "a") })
		w.must(err)
		w.want(bg, "a.Read", 4)
		w.want(bg, "b.Read", 3)
		if w.NumObjects() == 0 || other.NumObjects() == 0 {
			t.Fatal("the objects are on one node")
		}
		// A fan-out whose branches come back from the other node is serialised here.
		_, err = w.call(ctx, "a.Change", func(ctx context.Context, o *Thing) error {
			var all sync.WaitGroup
			for i := range 10 {
				all.Go(func() {
					_, err := w.call(ctx, fmt.Sprintf("%c.Change", 'b'+2*i), func(ctx context.Context, _ *Thing) error {
						_, err := w.call(ctx, "a.Other", occupy(t, false))
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
		w.want(bg, "a.Read", 14)
		// Shared to exclusive, across the wire.
		_, err = w.call(ctx, "a.Read", func(ctx context.Context, o *Thing) error {
			_, err := w.call(ctx, "b.Change", func(ctx context.Context, o *Thing) error {
				_, err := w.call(ctx, "a.Change")
				return err
			})
			return err
		})
		if e := cause(err); e == nil || !slices.Equal(e.Path, []string{"Thing/a.Read", "Thing/b.Change", "Thing/a.Change"}) {
			t.Error(err)
		}
	})
}
