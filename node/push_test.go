package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/memstore"
)

// gateSide is a gate's end of a push stream.
type gateSide struct {
	t      testing.TB
	mu     sync.Mutex
	frames []peer.PushFrame
	end    context.CancelFunc
	err    error
	ended  chan struct{}
}

func (w *world) gate(name string) *gateSide {
	ctx, cancel := context.WithCancel(bg)
	g := &gateSide{t: w.t, end: cancel, ended: make(chan struct{})}
	ready := make(chan struct{})
	go func() {
		defer close(g.ended)
		g.err = w.ServePushes(ctx, peer.Hearing{Gate: name}, func(peer.Opening) { close(ready) }, func(f peer.PushFrame) error {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.frames = append(g.frames, f)
			return nil
		})
	}()
	<-ready
	w.t.Cleanup(func() { cancel(); <-g.ended })
	return g
}

// want demands exactly these messages, in this order, and forgets them.
func (g *gateSide) want(texts ...string) {
	g.t.Helper()
	synctest.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	var got []string
	for _, f := range g.frames {
		m, err := f.Message.UnmarshalNew()
		if err != nil {
			g.t.Fatal(err)
		}
		text := m.(*wrapperspb.StringValue).Value
		if string(f.JSON) != fmt.Sprintf("%q", text) {
			g.t.Errorf("in JSON it is %s", f.JSON)
		}
		got = append(got, text)
	}
	if !slices.Equal(got, texts) {
		g.t.Errorf("pushed %q, want %q", got, texts)
	}
	g.frames = nil
}

// push sends from inside a method.
func push(ctx context.Context, to, text string) error {
	rt, _ := object.RuntimeFrom(ctx)
	p := object.Push{Message: wrapperspb.String(text)}
	if p.Broadcast = to == "*"; !p.Broadcast {
		p.ClientIDs = strings.Split(to, ",")
	}
	return rt.Push(ctx, p)
}

func pushes1(to, text string) script {
	return func(ctx context.Context, o *Thing) error { o.N++; return push(ctx, to, text) }
}

func TestPushLeavesWithTheCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept)
		g := w.gate("g:1")
		let := w.hold()
		var calls []*pending
		for i := range 4 {
			calls = append(calls, w.start(bg, "x.Change", pushes1("g:1/c", fmt.Sprint(i))))
			synctest.Wait()
		}
		calls = append(calls, w.start(bg, "x.Read", func(ctx context.Context, o *Thing) error { return push(ctx, "g:1/c", "read") }))
		g.want()
		let()
		for _, p := range calls {
			if _, err := p.wait(); err != nil {
				t.Error(err)
			}
		}
		g.want("0", "1", "2", "3", "read")
		_, err := w.call(bg, "x.Other", func(ctx context.Context, o *Thing) error { return push(ctx, "g:1/c", "nothing to save") })
		w.must(err)
		g.want("nothing to save")
	})
}

func TestPushOfAFailedCommitNeverLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept)
		g := w.gate("g:1")
		let := w.holdAs(memstore.Fault{Err: object.ErrNotCommitted})
		first := w.start(bg, "x.Change", pushes1("g:1/c", "lost"))
		synctest.Wait()
		second := w.start(bg, "x.Change", pushes1("g:1/c", "lost too"))
		synctest.Wait()
		let()
		first.wait()
		second.wait()
		_, err := w.call(bg, "x.Change", func(ctx context.Context, o *Thing) error {
			push(ctx, "g:1/c", "of a panic")
			panic("boom")
		})
		isFault(t, err, fault.Panicked, fault.Executed)
		w.set(func(h *hooks) { h.onDestroy = nil })
		_, err = w.call(bg, "x.Change", pushes1("g:1/c", "good"))
		w.must(err)
		g.want("good")
	})
}

// A panic does not take back what earlier calls had earned.
func TestPushBeforeAPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept)
		g := w.gate("g:1")
		let := w.hold()
		first := w.start(bg, "x.Change", pushes1("g:1/c", "first"))
		synctest.Wait()
		second := w.start(bg, "x.Change", pushes1("g:1/c", "second"))
		synctest.Wait()
		w.call(bg, "x.Change", func(ctx context.Context, o *Thing) error { panic("boom") })
		let()
		first.wait()
		second.wait()
		g.want("first", "second")
	})
}

// The pushes of a call that re-enters stand where they were made, and go with the
// outermost call's commit.
func TestPushOfAReentrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept)
		g := w.gate("g:1")
		let := w.hold()
		p := w.start(bg, "x.Change", func(ctx context.Context, o *Thing) error {
			push(ctx, "g:1/c", "1")
			_, err := w.call(ctx, "x.Other", func(ctx context.Context, o *Thing) error {
				o.N++
				push(ctx, "g:1/c", "2")
				_, err := w.call(ctx, "x.Look", pushes1("g:1/c", "3"))
				push(ctx, "g:1/c", "4")
				return err
			})
			push(ctx, "g:1/c", "5")
			return err
		})
		synctest.Wait()
		g.want()
		let()
		_, err := p.wait()
		w.must(err)
		g.want("1", "2", "3", "4", "5")
	})
}

func TestPushAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		one, two := w.gate("g:1"), w.gate("g:2")
		_, err := w.call(bg, "x.Change", func(ctx context.Context, o *Thing) error {
			return errors.Join(
				push(ctx, "g:1/a", "to a"),
				push(ctx, "g:1/a,g:2/b,g:1/c,g:9/nobody", "to some"),
				push(ctx, "*", "to all"))
		})
		w.must(err)
		synctest.Wait()
		one.mu.Lock()
		if ids := fmt.Sprint(one.frames[1].ClientIDs, one.frames[2].Broadcast); ids != "[g:1/a g:1/c] true" {
			t.Error(ids)
		}
		one.mu.Unlock()
		one.want("to a", "to some", "to all")
		two.want("to some", "to all")
		for _, bad := range []string{"", "nogate", "/x"} {
			isFault(t, push(object.WithRuntime(bg, w.Node), bad, "x"), fault.Invalid, fault.NotExecuted)
		}
		isFault(t, w.Push(bg, object.Push{Broadcast: true}), fault.Invalid, fault.NotExecuted)
		isFault(t, w.Push(bg, object.Push{Broadcast: true, Message: wrapperspb.String("\xff")}), fault.Invalid, fault.NotExecuted)
		one.end()
		<-one.ended
		if !errors.Is(one.err, context.Canceled) {
			t.Error(one.err)
		}
		w.must(push(object.WithRuntime(bg, w.Node), "*", "later"))
		one.want()
		two.want("later")
	})
}

func TestPushIsASnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		g := w.gate("g:1")
		m := wrapperspb.String("as it was")
		w.must(w.Push(bg, object.Push{Broadcast: true, Message: m}))
		m.Value = "changed"
		g.want("as it was")
	})
}

func TestGateThatConnectsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		old := w.gate("g:1")
		again := w.gate("g:1")
		<-old.ended
		if !errors.Is(old.err, errGateTwice) {
			t.Error(old.err)
		}
		w.must(push(object.WithRuntime(bg, w.Node), "g:1/a", "hello"))
		again.want("hello")
		old.want()
	})
}

func TestSlowGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dropped int
		w := start(t, func(w *world, cfg *Config) {
			cfg.Listener.PushDropped = func(e event.PushDropped) { dropped += e.Count }
		})
		healthy := w.gate("g:2")
		stuck, ended := make(chan struct{}), make(chan error, 1)
		ready := make(chan struct{})
		go func() {
			ended <- w.ServePushes(bg, peer.Hearing{Gate: "g:1"}, func(peer.Opening) { close(ready) }, func(peer.PushFrame) error { <-stuck; return nil })
		}()
		<-ready
		big := wrapperspb.String(strings.Repeat("x", 1<<20))
		for range 12 {
			w.must(w.Push(bg, object.Push{Broadcast: true, Message: big})) // never blocks
			synctest.Wait()
		}
		healthy.mu.Lock()
		if len(healthy.frames) != 12 {
			t.Errorf("the other gate got %d", len(healthy.frames))
		}
		healthy.mu.Unlock()
		close(stuck)
		isFault(t, <-ended, fault.Overloaded, fault.NotExecuted)
		if dropped == 0 {
			t.Error("nobody is told")
		}
	})
}

func TestDeliverFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		ended := begin(func() (int64, error) {
			return 0, w.ServePushes(bg, peer.Hearing{Gate: "g:1"}, func(peer.Opening) {}, func(peer.PushFrame) error { return errUser })
		})
		synctest.Wait()
		w.must(push(object.WithRuntime(bg, w.Node), "*", "x"))
		if _, err := ended.wait(); err != errUser {
			t.Error(err)
		}
		if len(w.pushes.outlets) != 0 {
			t.Error("the outlet is left")
		}
	})
}

// What a method pushes after it has returned goes at once: no commit is to come.
func TestPushFromAGoroutineLeftBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept)
		g := w.gate("g:1")
		var inside context.Context
		_, err := w.call(bg, "x.Change", func(ctx context.Context, o *Thing) error { inside = ctx; return nil })
		w.must(err)
		w.must(push(inside, "*", "late"))
		g.want("late")
	})
}
