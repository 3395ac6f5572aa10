package node

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

func isStray(t testing.TB, err error) {
	t.Helper()
	isFault(t, err, fault.StaleCaller, fault.NotExecuted)
}

// mail is calls that come off the wire late: nobody who made them need be there any
// more.
type mail struct {
	w    *world
	info callctx.Info // of the method that called
	ran  atomic.Int32
}

// post keeps what a call out of the method with ctx would carry.
func (m *mail) post(ctx context.Context) {
	m.info = *callctx.From(ctx)
	m.info.Chain.Path = slices.Clone(m.info.Chain.Path)
}

func (m *mail) deliver(op object.Op, target string) error {
	ref, method := m.w.parse(target)
	do := script(func(context.Context, *Thing) error { m.ran.Add(1); return nil })
	ctx := callctx.With(context.WithValue(bg, scriptKey{ref.Type, ref.ID, method}, do), &m.info)
	_, err := m.w.ServeCall(ctx, &peer.Request{Call: object.Call{Op: op, Ref: ref, Method: method}})
	return err
}

func (m *mail) start(target string) *pending {
	return begin(func() (int64, error) { return 0, m.deliver(object.OpCall, target) })
}

// dies is a method whose node dies after it has called back: its caller gets an error,
// the call back is still under way.
func (m *mail) dies(ctx context.Context, _ *Thing) error {
	m.post(ctx)
	return errUser
}

// A on x calls B on y, which calls back. y's node dies; A does not hear of it, goes on
// and is answered. Nothing of its chain runs after that, whatever has become of x.
func TestACallBackAfterItsChain(t *testing.T) {
	for _, m := range []struct {
		name, first, back string
		mode              object.Mode
	}{
		{"changing", "x.Change", "x.Other", object.Sequential},
		{"a read called back by a change", "x.Change", "x.Look", object.Sequential},
		{"read-only", "x.Read", "x.Look", object.Sequential},
		{"concurrent", "x.Change", "x.Other", object.Concurrent},
	} {
		for _, c := range []struct {
			name   string
			became func(w *world) (over func())
		}{
			{"at rest", func(*world) func() { return func() {} }},
			{"in another chain's call", func(w *world) func() {
				b := newBlock()
				p := w.start(bg, "x.Change", b.run)
				<-b.entered
				return func() { close(b.let); p.wait() }
			}},
			{"not active", func(w *world) func() {
				w.must(w.Drain(bg, w.shard("x")))
				w.open()
				return func() {}
			}},
			{"taken up anew", func(w *world) func() {
				w.Drop(allShards(), "test")
				w.epoch++
				w.open()
				w.call(bg, "x.Read")
				return func() {}
			}},
			{"deleted", func(w *world) func() { w.must(w.delete(bg, "x")); return func() {} }},
			{"being destroyed", func(w *world) func() {
				dying := newBlock()
				w.set(func(h *hooks) { h.onDestroy = func(*Thing) { close(dying.entered); <-dying.let } })
				gone := begin(func() (int64, error) { return 0, w.delete(bg, "x") })
				<-dying.entered
				w.set(func(h *hooks) { h.onDestroy = nil })
				return func() { close(dying.let); gone.wait() }
			}},
		} {
			bubble(t, m.name+", "+c.name, func(t *testing.T) {
				w := start(t, kept, object.WithMode(m.mode))
				late := &mail{w: w}
				_, err := w.call(bg, m.first, func(ctx context.Context, _ *Thing) error {
					w.call(ctx, "y.Change", late.dies)
					return nil
				})
				w.must(err)
				over := c.became(w)
				before := w.stored("x")
				call := late.start(m.back)
				if call.running() {
					t.Error("it waits")
				} else {
					isStray(t, call.err)
				}
				isStray(t, late.deliver(object.OpDelete, "x"))
				isStray(t, late.deliver(object.OpCreate, "x"))
				over()
				if late.ran.Load() != 0 {
					t.Error("it ran after its chain had ended")
				}
				if after := w.stored("x"); c.name != "in another chain's call" && after.Version != before.Version {
					t.Errorf("version %d became %d", before.Version, after.Version)
				}
				if _, err := w.call(bg, "x.Change"); err != nil { // nobody has it
					t.Error(err)
				}
			})
		}
	}
}

// The call back has come already and stands in the line of its chain when the method
// ends that it is a part of.
func TestACallBackInLineWhenItsMethodEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		late := &mail{w: w}
		var stray, deleted, stranger *pending
		_, err := w.call(bg, "x.Change", func(ctx context.Context, o *Thing) error {
			if _, err := w.call(ctx, "y.Change", late.dies); err == nil {
				t.Error("y's node did not die")
			}
			stray = late.start("x.Other")
			deleted = begin(func() (int64, error) { return 0, late.deliver(object.OpDelete, "x") })
			stranger = w.start(bg, "x.Change")
			if !stray.running() || !deleted.running() {
				t.Error("it ran beside the method")
			}
			o.N = 7
			return nil
		})
		w.must(err)
		_, err = stray.wait()
		isStray(t, err)
		_, err = deleted.wait()
		isStray(t, err)
		if n, err := stranger.wait(); n != 8 || err != nil || late.ran.Load() != 0 {
			t.Error("the object went on at", n, err)
		}
	})
}

// A method that goes on and calls out once more lends its turn: what came late still
// meets its lender, and runs.
func TestACallBackThatMeetsItsLender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		late := &mail{w: w}
		_, err := w.call(bg, "x.Change", func(ctx context.Context, o *Thing) error {
			w.call(ctx, "y.Change", late.dies)
			back := late.start("x.Other")
			synctest.Wait()
			_, err := w.call(ctx, "z.Change", func(context.Context, *Thing) error { _, err := back.wait(); return err })
			return err
		})
		w.must(err)
		if late.ran.Load() != 1 {
			t.Error("it did not run")
		}
	})
}

// A method that returns without waiting for a branch: what runs of it goes on, what
// stands in line does not begin.
func TestACallBackOfABranchThatIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		b, begun := newBlock(), make(chan struct{})
		var runs, waits *pending
		root := w.start(bg, "x.Change", func(ctx context.Context, o *Thing) error {
			runs = w.start(context.WithoutCancel(ctx), "x.Other", b.run)
			<-b.entered
			waits = w.start(context.WithoutCancel(ctx), "x.Look", func(context.Context, *Thing) error { t.Error("it ran"); return nil })
			<-begun
			return nil
		})
		synctest.Wait()
		if !waits.running() {
			t.Error("it does not stand in line")
		}
		close(begun)
		synctest.Wait()
		if waits.running() {
			t.Error("it waits for a turn that its chain will not lend any more")
		} else {
			isStray(t, waits.err)
		}
		if !root.running() || !runs.running() {
			t.Error("the call back that had begun did not go on")
		}
		close(b.let)
		root.wait()
		if n, err := runs.wait(); n != 1 || err != nil {
			t.Error(n, err)
		}
		w.want(bg, "x.Read", 1)
	})
}

// A chain that is inside an object by another turn than the one in the call's path.
func TestACallBackToAnotherTurnOfItsChain(t *testing.T) {
	for _, mode := range []object.Mode{object.Sequential, object.Concurrent} {
		bubble(t, fmt.Sprint(mode), func(t *testing.T) {
			w := start(t, object.WithMode(mode))
			late := &mail{w: w}
			_, err := w.call(bg, "z.Change", func(ctx context.Context, _ *Thing) error {
				if _, err := w.call(ctx, "x.Change", func(ctx context.Context, _ *Thing) error {
					w.call(ctx, "y.Change", late.dies)
					return nil
				}); err != nil {
					return err
				}
				_, err := w.call(ctx, "x.Other", func(ctx context.Context, _ *Thing) error {
					_, err := w.call(ctx, "y.Other", func(context.Context, *Thing) error {
						isStray(t, late.deliver(object.OpCall, "x.Look"))
						return nil
					})
					return err
				})
				return err
			})
			w.must(err)
			if late.ran.Load() != 0 {
				t.Error("it ran within another call of its chain")
			}
		})
	}
}

// Each of an object's turns in the path must stand, of a self-call the inner one, too.
func TestACallBackOfASelfCall(t *testing.T) {
	for _, mode := range []object.Mode{object.Sequential, object.Concurrent} {
		for _, methods := range [][2]string{{"x.Change", "x.Other"}, {"x.Read", "x.Look"}} {
			bubble(t, fmt.Sprint(mode)+" "+methods[0], func(t *testing.T) {
				w := start(t, object.WithMode(mode))
				late := &mail{w: w}
				_, err := w.call(bg, methods[0], func(ctx context.Context, _ *Thing) error {
					if _, err := w.call(ctx, methods[1], func(ctx context.Context, _ *Thing) error {
						_, err := w.call(ctx, "y.Change", func(ctx context.Context, _ *Thing) error {
							late.post(ctx)
							return late.deliver(object.OpCall, "x.Look") // both are inside
						})
						return err
					}); err != nil {
						return err
					}
					_, err := w.call(ctx, "y.Change", func(context.Context, *Thing) error {
						isStray(t, late.deliver(object.OpCall, "x.Look")) // the outer one is
						return nil
					})
					return err
				})
				w.must(err)
				if n := late.ran.Load(); n != 1 {
					t.Errorf("it ran %d times", n)
				}
			})
		}
	}
}

// A turn of another epoch is void, whoever is inside.
func TestACallBackOfAnotherEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		late := &mail{w: w}
		_, err := w.call(bg, "x.Change", func(ctx context.Context, _ *Thing) error {
			_, err := w.call(ctx, "y.Change", func(ctx context.Context, _ *Thing) error {
				late.post(ctx)
				w.must(late.deliver(object.OpCall, "x.Look"))
				late.info.Chain.Path[0].Epoch++
				isStray(t, late.deliver(object.OpCall, "x.Look"))
				late.info.Chain.Path[0].Epoch--
				late.info.Chain.ID = callctx.NewChainID()
				isStray(t, late.deliver(object.OpCall, "x.Look"))
				return nil
			})
			return err
		})
		w.must(err)
		if n := late.ran.Load(); n != 1 {
			t.Errorf("it ran %d times", n)
		}
	})
}

// Across nodes: the branch's own node goes on beside a method that does not wait.
func TestACallBackFromAnotherNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := pair(t)
		away := newBlock()
		var left *pending
		_, err := w.call(bg, "a.Change", func(ctx context.Context, _ *Thing) error {
			left = w.start(context.WithoutCancel(ctx), "b.Change", func(ctx context.Context, _ *Thing) error {
				if _, err := w.call(ctx, "a.Look"); err != nil {
					t.Error("its caller still waits:", err)
				}
				close(away.entered)
				<-away.let
				_, err := w.call(context.WithoutCancel(ctx), "a.Other")
				return err
			})
			<-away.entered
			return nil
		})
		w.must(err)
		close(away.let)
		_, err = left.wait()
		isStray(t, cause(err))
		w.want(bg, "a.Read", 0)
	})
}
