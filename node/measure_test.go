package node

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/memstore"
)

// ledgerOfTimes keeps what a node measures.
type ledgerOfTimes struct {
	mu   sync.Mutex
	list []string
}

func (l *ledgerOfTimes) note(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, fmt.Sprintf(format, args...))
}

// take is what was measured since it was last asked, of one kind, in order.
func (l *ledgerOfTimes) take() (list []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	list, l.list = l.list, nil
	slices.Sort(list)
	return list
}

func (l *ledgerOfTimes) listener() event.Listener {
	ended := func(err error) string {
		if err != nil {
			return fault.KindOf(err).String()
		}
		return "ok"
	}
	return event.Listener{
		TurnDone:    func(e event.TurnDone) { l.note("held %s %v", e.Type, e.Held) },
		TurnAwaited: func(e event.TurnAwaited) { l.note("waited %s %v %s", e.Type, e.Took, ended(e.Err)) },
		StoreDone: func(e event.StoreDone) {
			if e.Operation != event.StoreHistory { // which is asked all the time
				l.note("store %v %v failed=%v", e.Operation, e.Took, e.Err != nil)
			}
		},
		PushPassed: func(e event.PushPassed) { l.note("push %v %v", e.Leg, e.Took) },
	}
}

func (l *ledgerOfTimes) want(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	slices.Sort(want)
	if got := l.take(); !slices.Equal(got, want) {
		t.Errorf("measured %q, want %q", got, want)
	}
}

// measured is a world with a ledger.
func measured(t *testing.T, setups ...any) (*world, *ledgerOfTimes) {
	l := new(ledgerOfTimes)
	w := start(t, append(setups, func(_ *world, c *Config) { c.Listener = event.Tee(c.Listener, l.listener()) })...)
	w.forgetTimes(l)
	return w, l
}

func (w *world) forgetTimes(l *ledgerOfTimes) {
	synctest.Wait()
	l.take()
}

func takes(d time.Duration) script {
	return func(context.Context, *Thing) error { time.Sleep(d); return nil }
}

// A turn is held from when it is given to its last frame's end, and who waits for it is
// measured once, whether it comes to its turn or not.
func TestTurnsAreMeasured(t *testing.T) {
	bubble(t, "one after the other", func(t *testing.T) {
		w, l := measured(t)
		w.call(bg, "x.Change", takes(3*time.Second))
		l.want(t, "held Thing 3s")
	})
	bubble(t, "in a queue", func(t *testing.T) {
		w, l := measured(t)
		a := w.start(bg, "x.Change", takes(3*time.Second))
		synctest.Wait()
		b := w.start(bg, "x.Change", takes(2*time.Second))
		synctest.Wait()
		ctx, cancel := within(time.Second)
		defer cancel()
		_, err := w.call(ctx, "x.Change")
		isFault(t, err, fault.Deadline, fault.NotExecuted)
		a.wait()
		b.wait()
		l.want(t, "held Thing 3s", "held Thing 2s", "waited Thing 3s ok", "waited Thing 1s deadline exceeded")
	})
	bubble(t, "readers, and a chain that comes back", func(t *testing.T) {
		w, l := measured(t)
		a, b := w.start(bg, "x.Read", takes(time.Second)), w.start(bg, "x.Read", takes(2*time.Second))
		a.wait()
		b.wait()
		l.want(t, "held Thing 1s", "held Thing 2s")
		w.call(bg, "x.Change", func(ctx context.Context, _ *Thing) error {
			time.Sleep(time.Second)
			_, err := w.call(ctx, "x.Other", takes(time.Second))
			return err
		})
		l.want(t, "held Thing 2s")
	})
	bubble(t, "behind a load and a panic", func(t *testing.T) {
		w, l := measured(t)
		w.set(func(h *hooks) { h.onCreated = func(*Thing) { time.Sleep(5 * time.Second) } })
		w.call(bg, "y.Change", func(context.Context, *Thing) error { time.Sleep(time.Second); panic("no") })
		l.want(t, "held Thing 1s")
	})
	bubble(t, "none in Concurrent mode", func(t *testing.T) {
		w, l := measured(t, object.WithMode(object.Concurrent))
		w.call(bg, "x.Change", takes(time.Second))
		l.want(t)
	})
}

// What a node asks of its store is measured by what it asks.
func TestTheStoreIsMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, l := measured(t, kept)
		let := w.hold()
		a := w.start(bg, "x.Change")
		time.Sleep(2 * time.Second)
		let()
		a.wait()
		l.want(t, "store load 0s failed=false", "store commit 2s failed=false", "held Kept 0s")
		w.store.Fail(func(op memstore.Op) memstore.Fault {
			if op.Kind == memstore.Load {
				return memstore.Fault{Err: errUser}
			}
			return memstore.Fault{}
		})
		w.call(bg, "y.Change")
		l.want(t, "store load 0s failed=true")
	})
}

// A push's time on its node begins with the method and has its commit and the wait for the
// gate in it.
func TestPushesAreMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, l := measured(t, kept)
		let := w.hold()
		a := w.start(bg, "x.Change", func(ctx context.Context, _ *Thing) error { return push(ctx, "g:1/c", "hello") })
		time.Sleep(2 * time.Second)
		let()
		a.wait()
		time.Sleep(time.Second)
		w.forgetTimes(l)
		w.gate("g:1").want("hello")
		l.want(t, "push node 3s")
	})
}
