package node

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/memstore"
)

func TestActivatedOnceUnderManyCallers(t *testing.T) {
	for _, store := range []bool{false, true} {
		bubble(t, fmt.Sprint("store=", store), func(t *testing.T) {
			var setups []any
			if store {
				setups = append(setups, kept)
			}
			w := start(t, append(setups, object.WithMaxQueue(1000))...)
			var born atomic.Int32
			w.set(func(h *hooks) { h.onCreated = func(*Thing) { born.Add(1) } })
			var all sync.WaitGroup
			for range 1000 {
				all.Go(func() {
					if _, err := w.call(bg, "x.Change"); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			w.want(bg, "x.Read", 1000)
			if born.Load() != 1 || w.NumObjects() != 1 {
				t.Errorf("%d activations, %d objects", born.Load(), w.NumObjects())
			}
		})
	}
}

func TestFirstCodeInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept)
		var log []string
		w.set(func(h *hooks) {
			h.fromData = func(o *Thing, data proto.Message) error {
				log = append(log, fmt.Sprintf("FromData(%v)", data))
				if o.Id() != "x" || o.Type() != "Kept" || o.String() != "Kept/x" || o.CreationTime().IsZero() || o.Context().Err() != nil {
					t.Error("no identity in FromData")
				}
				return o.restore(data)
			}
		})
		w.set(func(h *hooks) { h.onCreated = func(*Thing) { log = append(log, "OnCreated") } })
		w.set(func(h *hooks) {
			h.onDestroy = func(o *Thing) {
				log = append(log, "OnDestroy")
				if o.Context().Err() == nil {
					t.Error("its context has not ended")
				}
			}
		})
		_, err := w.call(bg, "x.Change", func(_ context.Context, o *Thing) error { log = append(log, "call"); o.N = 7; return nil })
		w.must(err)
		time.Sleep(object.DefaultIdleTimeout + time.Minute)
		w.want(bg, "x.Read", 7)
		w.wantEvents("+x stored=false", "-x idle", "+x stored=true")
		w.must(w.delete(bg, "x"))
		w.forgetEvents()
		w.want(bg, "x.Read", 0)
		w.must(w.Drain(bg, allShards()[w.shardOf("x")]))
		want := []string{"FromData(<nil>)", "OnCreated", "call", "OnDestroy", "FromData(value:7)", "OnCreated", "OnDestroy", "FromData(<nil>)", "OnCreated", "OnDestroy"}
		if fmt.Sprint(log) != fmt.Sprint(want) {
			t.Errorf("got  %v\nwant %v", log, want)
		}
		w.wantEvents("+x stored=false", "-x drained")
	})
}

func (w *world) shardOf(id string) int {
	s, err := w.slotOf(id)
	w.must(err)
	return s.shard
}

func TestCreationTimeSurvives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept, object.WithIdleTimeout(time.Minute))
		begun := time.Now()
		w.want(bg, "x.Change", 1)
		time.Sleep(time.Hour)
		if _, err := w.call(bg, "x.Read", func(_ context.Context, o *Thing) error {
			if !o.CreationTime().Equal(begun) {
				t.Errorf("created %v, not %v", o.CreationTime(), begun)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	})
}

func TestIdle(t *testing.T) {
	for _, c := range []struct {
		name    string
		timeout time.Duration // 0 = default
		alive   time.Duration
		dead    time.Duration // 0 = never
	}{
		{"default", 0, 10*time.Minute - time.Second, 10*time.Minute + 2*maxSweep},
		{"short", time.Second, 900 * time.Millisecond, 1300 * time.Millisecond},
		{"tiny", time.Millisecond, 0, 30 * time.Millisecond},
		{"never", -1, 24 * time.Hour, 0},
	} {
		bubble(t, c.name, func(t *testing.T) {
			w := start(t, object.WithIdleTimeout(c.timeout))
			w.want(bg, "x.Change", 1)
			time.Sleep(c.alive)
			synctest.Wait()
			if n := w.NumObjects(); n != 1 {
				t.Fatalf("%d objects after %v", n, c.alive)
			}
			if c.dead == 0 {
				return
			}
			w.call(bg, "x.Change") // begins anew
			time.Sleep(c.dead)
			synctest.Wait()
			if n := w.NumObjects(); n != 0 {
				t.Fatalf("%d objects %v after the last call", n, c.dead)
			}
			w.want(bg, "x.Read", 0)
		})
	}
}

func TestNotIdleWhileACallRunsOrWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, object.WithIdleTimeout(time.Second))
		b := newBlock()
		first := w.start(bg, "x.Change", b.run)
		<-b.entered
		second := w.start(bg, "x.Change")
		time.Sleep(time.Hour)
		close(b.let)
		if n, err := first.wait(); n != 1 || err != nil {
			t.Error(n, err)
		}
		if n, err := second.wait(); n != 2 || err != nil {
			t.Error(n, err)
		}
		time.Sleep(500 * time.Millisecond)
		w.want(bg, "x.Read", 2)
	})
}

func TestIdleTypeRegisteredLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		time.Sleep(time.Second) // the sweep has fallen asleep for long
		w.must(w.RegisterObjectType((*Thing)(nil), object.WithName("Late"), object.WithIdleTimeout(100*time.Millisecond)))
		_, err := w.call(bg, "Late/x.Change")
		w.must(err)
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		if n := w.NumObjects(); n != 0 {
			t.Errorf("%d objects", n)
		}
	})
}

// A load that takes longer than the idle timeout must not be ended by it.
func TestSlowLoadIsNotIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept, object.WithIdleTimeout(time.Second))
		w.store.Fail(func(op memstore.Op) memstore.Fault {
			wait := make(chan struct{})
			time.AfterFunc(10*time.Second, func() { close(wait) })
			return memstore.Fault{Wait: wait}
		})
		p := begin(func() (int64, error) { return 0, w.create(bg, "x") })
		time.Sleep(20*time.Second + 500*time.Millisecond) // a load and a commit
		if p.running() {
			t.Fatal("not answered")
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if fmt.Sprint(w.events) != "[+x stored=false created x]" {
			t.Error(w.events)
		}
	})
}

func TestCreateObject(t *testing.T) {
	for _, store := range []bool{false, true} {
		bubble(t, fmt.Sprint("store=", store), func(t *testing.T) {
			var setups []any
			if store {
				setups = append(setups, kept)
			}
			w := start(t, setups...)
			var born int
			w.set(func(h *hooks) { h.onCreated = func(o *Thing) { born++; o.N = 42 } })
			w.must(w.create(bg, "x"))
			if born != 1 {
				t.Error("OnCreated has not run yet")
			}
			if store {
				w.wantStored("x", 42, 1)
			}
			isFault(t, w.create(bg, "x"), fault.Exists, fault.NotExecuted)
			w.want(bg, "x.Read", 42)
			w.wantEvents("+x stored=false", "created x")
			w.must(w.delete(bg, "x"))
			w.must(w.create(bg, "x"))
			if store {
				w.wantStored("x", 42, 3)
			}
		})
	}
}

func TestCreateReportsItsError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept)
		w.set(func(h *hooks) { h.onCreated = func(*Thing) { panic("no") } })
		isFault(t, w.create(bg, "x"), fault.Panicked, fault.NotExecuted)
		w.set(func(h *hooks) { h.onCreated = nil })
		w.set(func(h *hooks) { h.fromData = func(*Thing, proto.Message) error { return errUser } })
		if err := w.create(bg, "x"); !errors.Is(err, errUser) {
			t.Error(err)
		}
		w.set(func(h *hooks) { h.fromData = nil })
		w.set(func(h *hooks) { h.toData = func(*Thing) (proto.Message, error) { return nil, errUser } })
		if err := w.create(bg, "x"); !errors.Is(err, errUser) {
			t.Error(err)
		}
		w.set(func(h *hooks) { h.toData = nil })
		down := errors.New("down")
		w.store.Fail(func(op memstore.Op) memstore.Fault {
			return memstore.Fault{Err: fmt.Errorf("%w: %w", object.ErrNotCommitted, down)}
		})
		err := w.create(bg, "x")
		isFault(t, err, fault.StoreFailed, fault.NotExecuted)
		if !errors.Is(err, down) {
			t.Error(err)
		}
		w.store.Fail(func(op memstore.Op) memstore.Fault {
			if op.Kind == memstore.Commit {
				return memstore.Fault{Err: object.ErrNotCommitted}
			}
			return memstore.Fault{}
		})
		isFault(t, w.create(bg, "x"), fault.StoreFailed, fault.NotExecuted)
		w.store.Fail(nil)
		w.must(w.create(bg, "x"))
		w.wantStored("x", 0, 1)
	})
}

// Nobody learns of an object whose creation is not durable.
func TestCreateIsSeenOnceDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept)
		let := make(chan struct{})
		w.store.Fail(func(op memstore.Op) memstore.Fault {
			if op.Kind == memstore.Commit {
				return memstore.Fault{Wait: let, Err: object.ErrNotCommitted}
			}
			return memstore.Fault{}
		})
		first := begin(func() (int64, error) { return 0, w.create(bg, "x") })
		synctest.Wait()
		second := begin(func() (int64, error) { return 0, w.create(bg, "x") })
		caller := w.start(bg, "x.Read")
		short, cancel := within(time.Second)
		defer cancel()
		isFault(t, w.create(short, "x"), fault.Deadline, fault.OutcomeUnknown)
		if !first.running() || !second.running() || !caller.running() {
			t.Fatal("somebody was answered before the commit")
		}
		w.store.Fail(nil)
		close(let)
		_, err := first.wait()
		isFault(t, err, fault.StoreFailed, fault.NotExecuted)
		if _, err := second.wait(); err == nil || fault.KindOf(err) == fault.Exists {
			t.Error("second creator:", err)
		}
		if n, err := caller.wait(); n != 0 || err != nil {
			t.Error(n, err)
		}
	})
}

func TestMustCreate(t *testing.T) {
	for _, store := range []bool{false, true} {
		bubble(t, fmt.Sprint("store=", store), func(t *testing.T) {
			setups := []any{object.MustCreate()}
			if store {
				setups = append(setups, kept)
			}
			w := start(t, setups...)
			_, err := w.call(bg, "x.Change")
			isFault(t, err, fault.NotFound, fault.NotExecuted)
			synctest.Wait()
			if w.NumObjects() != 0 {
				t.Error("something is left of it")
			}
			w.must(w.create(bg, "x"))
			w.want(bg, "x.Change", 1)
			w.must(w.delete(bg, "x"))
			_, err = w.call(bg, "x.Change")
			isFault(t, err, fault.NotFound, fault.NotExecuted)
			w.must(w.delete(bg, "x"))
			w.must(w.create(bg, "x"))
			w.want(bg, "x.Read", 0)
		})
	}
}

func TestCreateAndCallsRace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept, object.MustCreate())
		var created, existed atomic.Int32
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				switch err := w.create(bg, "x"); fault.KindOf(err) {
				case 0:
					created.Add(1)
				case fault.Exists:
					existed.Add(1)
				default:
					t.Error(err)
				}
				if _, err := w.call(bg, "x.Change"); err != nil {
					t.Error("a call after the creation:", err)
				}
			})
		}
		all.Wait()
		if created.Load() != 1 || existed.Load() != 99 {
			t.Errorf("created %d times", created.Load())
		}
		w.want(bg, "x.Read", 100)
	})
}

func TestPanics(t *testing.T) {
	fresh := func(w *world) {
		w.t.Helper()
		w.set(func(h *hooks) { *h = hooks{} })
		w.want(bg, "x.Change", 6) // the stored 5, and nothing of what panicked
	}
	for _, c := range []struct {
		name string
		do   func(w *world) error
		want fault.Outcome
	}{
		{"method", func(w *world) error {
			_, err := w.call(bg, "x.Change", func(_ context.Context, o *Thing) error { o.N = 99; panic("boom") })
			return err
		}, fault.Executed},
		{"read-only method", func(w *world) error {
			_, err := w.call(bg, "x.Read", func(_ context.Context, o *Thing) error { panic(errUser) })
			return err
		}, fault.Executed},
		{"nil pointer", func(w *world) error {
			_, err := w.call(bg, "x.Change", func(_ context.Context, o *Thing) error { o.N = 99; var p *Thing; p.N++; return nil })
			return err
		}, fault.Executed},
		{"panic(nil)", func(w *world) error {
			_, err := w.call(bg, "x.Change", func(_ context.Context, o *Thing) error { o.N = 99; panic(nil) })
			return err
		}, fault.Executed},
		{"ToData", func(w *world) error {
			w.set(func(h *hooks) { h.toData = func(*Thing) (proto.Message, error) { panic("boom") } })
			_, err := w.call(bg, "x.Change")
			return err
		}, fault.NotExecuted},
		{"FromData", func(w *world) error {
			w.idle()
			w.set(func(h *hooks) { h.fromData = func(*Thing, proto.Message) error { panic("boom") } })
			_, err := w.call(bg, "x.Change")
			return err
		}, fault.NotExecuted},
		{"OnCreated", func(w *world) error {
			w.idle()
			w.set(func(h *hooks) { h.onCreated = func(*Thing) { panic("boom") } })
			_, err := w.call(bg, "x.Change")
			return err
		}, fault.NotExecuted},
	} {
		bubble(t, c.name, func(t *testing.T) {
			w := start(t, kept, object.WithIdleTimeout(time.Minute))
			_, err := w.call(bg, "x.Change", func(_ context.Context, o *Thing) error { o.N = 5; return nil })
			w.must(err)
			isFault(t, c.do(w), fault.Panicked, c.want)
			w.wantStored("x", 5, 1)
			fresh(w)
			w.wantStored("x", 6, 2)
		})
	}
	bubble(t, "OnDestroy", func(t *testing.T) {
		w := start(t, kept, object.WithIdleTimeout(time.Minute))
		_, err := w.call(bg, "x.Change", func(_ context.Context, o *Thing) error { o.N = 5; return nil })
		w.must(err)
		w.set(func(h *hooks) { h.onDestroy = func(*Thing) { panic("boom") } })
		w.idle()
		fresh(w)
		w.wantEvents("+x stored=false", "panic x.OnDestroy: boom", "-x idle", "+x stored=true")
	})
}

func (w *world) idle() {
	time.Sleep(time.Hour)
	synctest.Wait()
	if w.NumObjects() != 0 {
		w.t.Fatal("not idle")
	}
}

// A panic fails its own call, those that were inside with it, and nobody else: what
// earlier calls left behind is saved and answered.
func TestPanicSparesEarlierCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept)
		let := make(chan struct{})
		w.store.Fail(func(op memstore.Op) memstore.Fault {
			if op.Kind == memstore.Commit {
				return memstore.Fault{Wait: let}
			}
			return memstore.Fault{}
		})
		var earlier []*pending
		for range 3 { // the first is on its way, the others wait
			earlier = append(earlier, w.start(bg, "x.Change"))
			synctest.Wait()
		}
		_, err := w.call(bg, "x.Change", func(_ context.Context, o *Thing) error { o.N = 99; panic("boom") })
		isFault(t, err, fault.Panicked, fault.Executed)
		for i, p := range earlier {
			if !p.running() {
				t.Fatal("answered before the commit", i, p.err)
			}
		}
		next := w.start(bg, "x.Change")
		synctest.Wait()
		close(let)
		for i, p := range earlier {
			if n, err := p.wait(); n != int64(i+1) || err != nil {
				t.Error(i, n, err)
			}
		}
		if n, err := next.wait(); n != 4 || err != nil {
			t.Error(n, err)
		}
		w.wantStored("x", 4, 3)
	})
}

func TestGoexitInAMethod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		var all sync.WaitGroup
		all.Go(func() {
			w.call(bg, "x.Change", func(context.Context, *Thing) error { runtime.Goexit(); return nil })
			t.Error("came back")
		})
		all.Wait()
		w.want(bg, "x.Change", 1)
		w.set(func(h *hooks) { h.onCreated = func(*Thing) { runtime.Goexit() } })
		all.Go(func() { w.call(bg, "y.Change") })
		all.Wait()
		w.set(func(h *hooks) { h.onCreated = nil })
		w.want(bg, "y.Change", 1)
		w.set(func(h *hooks) { h.onDestroy = func(*Thing) { runtime.Goexit() } })
		w.must(w.delete(bg, "y"))
	})
}

func TestDeadlines(t *testing.T) {
	bubble(t, "already passed", func(t *testing.T) {
		w := start(t)
		ctx, cancel := context.WithDeadline(bg, time.Now())
		defer cancel()
		_, err := w.call(ctx, "x.Change")
		isFault(t, err, fault.Deadline, fault.NotExecuted)
		canceled, cancel := context.WithCancel(bg)
		cancel()
		_, err = w.call(canceled, "x.Change")
		isFault(t, err, fault.Canceled, fault.NotExecuted)
		if w.NumObjects() != 0 {
			t.Error("it was activated")
		}
	})
	bubble(t, "while loading", func(t *testing.T) {
		w := start(t, kept)
		let := make(chan struct{})
		w.store.Fail(func(memstore.Op) memstore.Fault { return memstore.Fault{Wait: let} })
		ctx, cancel := within(time.Second)
		defer cancel()
		begun := time.Now()
		_, err := w.call(ctx, "x.Change")
		isFault(t, err, fault.Deadline, fault.NotExecuted)
		if took := time.Since(begun); took != time.Second {
			t.Error(took)
		}
		close(let)
		w.want(bg, "x.Change", 1)
	})
	bubble(t, "inside the method", func(t *testing.T) {
		w := start(t)
		ctx, cancel := within(time.Second)
		defer cancel()
		_, err := w.call(ctx, "x.Change", func(ctx context.Context, o *Thing) error {
			if d, ok := ctx.Deadline(); !ok || time.Until(d) != time.Second {
				t.Error("no deadline")
			}
			<-ctx.Done()
			return ctx.Err()
		})
		isFault(t, err, fault.Failed, fault.Executed)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
	bubble(t, "cancellation reaches the method", func(t *testing.T) {
		w := start(t)
		ctx, cancel := context.WithCancel(bg)
		p := w.start(ctx, "x.Change", func(ctx context.Context, o *Thing) error {
			_, err := w.call(ctx, "y.Change", func(ctx context.Context, o *Thing) error {
				<-ctx.Done()
				return context.Cause(ctx)
			})
			return err
		})
		if !p.running() {
			t.Fatal("not running")
		}
		cancel()
		_, err := p.wait()
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	bubble(t, "at the reply gate", func(t *testing.T) {
		w := start(t, kept)
		let := make(chan struct{})
		w.store.Fail(func(op memstore.Op) memstore.Fault {
			if op.Kind == memstore.Commit {
				return memstore.Fault{Wait: let}
			}
			return memstore.Fault{}
		})
		ctx, cancel := within(time.Second)
		defer cancel()
		begun := time.Now()
		_, err := w.call(ctx, "x.Change")
		isFault(t, err, fault.Deadline, fault.OutcomeUnknown)
		if took := time.Since(begun); took != time.Second {
			t.Error(took)
		}
		close(let)
		synctest.Wait()
		w.wantStored("x", 1, 1)
	})
}

func TestContextOfTheObject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		var own context.Context
		_, err := w.call(bg, "x.Change", func(ctx context.Context, o *Thing) error { own = o.Context(); return nil })
		w.must(err)
		if n, err := w.call(own, "x.Change"); n != 1 || err != nil { // a root call of its own
			t.Error(n, err)
		}
		w.must(w.delete(bg, "x"))
		if own.Err() == nil {
			t.Error("it has not ended with the activation")
		}
	})
}

func TestUnknownsAndInvalids(t *testing.T) {
	w := start(t)
	for _, c := range []struct {
		target string
		kind   fault.Kind
	}{
		{"Nobody/x.Change", fault.UnknownType},
		{"Thing/x.Nothing", fault.UnknownMethod},
		{"Thing/x.OnCreated", fault.UnknownMethod},
		{"Thing/x.run", fault.UnknownMethod},
		{"Thing/.Change", fault.Invalid},
		{"Thing/a\x00b.Change", fault.Invalid},
		{"Thing/\xff.Change", fault.Invalid},
	} {
		_, err := w.call(bg, c.target)
		isFault(t, err, c.kind, fault.NotExecuted)
	}
	if w.NumObjects() != 0 {
		t.Error("something was activated")
	}
}

func TestReadOnlyDemanded(t *testing.T) {
	w := start(t)
	_, err := w.Call(bg, object.Call{Ref: object.Ref{Type: "Thing", ID: "x"}, Method: "Change", ReadOnly: true})
	isFault(t, err, fault.NotReadOnly, fault.NotExecuted)
	_, err = w.Call(bg, object.Call{Ref: object.Ref{Type: "Thing", ID: "x"}, Method: "Read", ReadOnly: true, Payload: object.OfMessage(wrapperspb.String(""))})
	w.must(err)
}

func TestPinnedIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept)
		pinned := object.Ref{Type: "Kept", ID: "n:1/mine"}
		call := func(ref object.Ref) (int64, error) {
			p, err := w.Call(bg, object.Call{Ref: ref, Method: "Change"})
			if err != nil {
				return 0, err
			}
			return p.Message.(*wrapperspb.Int64Value).Value, nil
		}
		if n, err := call(pinned); n != 1 || err != nil {
			t.Error(n, err)
		}
		if len(w.store.Refs()) != 0 {
			t.Error("a pinned object was stored")
		}
		_, err := call(object.Ref{Type: "Kept", ID: "m:1/theirs"})
		isFault(t, err, fault.WrongHolder, fault.NotExecuted)
		if fault.Of(err).Holder != "m:1" {
			t.Error("the error does not name the holder")
		}
		if n, err := call(object.Ref{Type: "Kept", ID: "just/a/slash"}); n != 1 || err != nil {
			t.Error(n, err)
		}
		// A new registration begins with new pinned objects; without shards there are none.
		w.owner, w.epoch = "n:1#b", 2
		w.open()
		if n, err := call(pinned); n != 1 || err != nil {
			t.Error(n, err)
		}
		w.Drop(allShards(), "test")
		_, err = call(pinned)
		isFault(t, err, fault.WrongHolder, fault.NotExecuted)
	})
}
