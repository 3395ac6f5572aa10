package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/memstore"
)

func (w *world) shard(id string) sharding.ID { return sharding.ID(w.shardOf(id)) }

func TestAdmission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept)
		ref := object.Ref{Type: "Kept", ID: "x"}
		call := func(epoch uint64) error {
			_, err := w.ServeCall(bg, &peer.Request{Call: object.Call{Ref: ref, Method: "Change"}, Epoch: epoch})
			return err
		}
		w.must(call(0))
		w.must(call(1))
		err := call(2) // the sender knows of a newer holder
		isFault(t, err, fault.WrongHolder, fault.NotExecuted)
		if e := fault.Of(err); e.Shard != w.shardOf("x") || e.Epoch != 1 {
			t.Errorf("%+v", e)
		}
		w.trusted.Store(false)
		isFault(t, call(1), fault.NotReady, fault.NotExecuted)
		isFault(t, w.create(bg, "y"), fault.NotReady, fault.NotExecuted)
		isFault(t, w.delete(bg, "x"), fault.NotReady, fault.NotExecuted)
		w.trusted.Store(true)
		w.want(bg, "x.Read", 2)
		w.Drop([]sharding.ID{w.shard("x")}, "test")
		isFault(t, call(1), fault.WrongHolder, fault.NotExecuted)
		w.want(bg, "other.Read", 0)
	})
}

func TestNeverOpened(t *testing.T) {
	n := New(Config{Types: object.NewTypes()})
	(&world{t: t}).must(n.RegisterObjectType((*Thing)(nil)))
	_, err := n.ServeCall(bg, &peer.Request{Call: object.Call{Ref: object.Ref{Type: "Thing", ID: "x"}, Method: "Change"}})
	isFault(t, err, fault.WrongHolder, fault.NotExecuted)
}

// The lease ends while a method runs: what is volatile may not answer, what is
// durable is decided by the store's fence.
func TestTrustEndsInsideTheMethod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept)
		g := w.gate("g:1")
		end := func(ctx context.Context, o *Thing) error {
			w.trusted.Store(false)
			o.N++
			_, err := w.call(ctx, "other.Change")
			isFault(t, err, fault.Fenced, fault.NotExecuted)
			if err := push(ctx, "g:1/c", o.Type()); o.Type() == "Thing" {
				isFault(t, err, fault.Fenced, fault.NotExecuted)
			}
			return nil
		}
		_, err := w.call(bg, "Thing/x.Change", end)
		isFault(t, err, fault.Fenced, fault.OutcomeUnknown)
		w.trusted.Store(true)
		_, err = w.call(bg, "Kept/x.Read", end) // a read is not fenced by the store
		isFault(t, err, fault.Fenced, fault.OutcomeUnknown)
		w.trusted.Store(true)
		if n, err := w.call(bg, "Kept/x.Change", end); n != 2 || err != nil {
			t.Error(n, err)
		}
		g.want("Kept", "Kept")
		w.trusted.Store(true)
		_, err = w.call(bg, "Thing/y.Change", func(context.Context, *Thing) error { w.trusted.Store(false); return errUser })
		isFault(t, err, fault.Fenced, fault.OutcomeUnknown)
	})
}

func TestOpenIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept)
		w.Drop(allShards(), "test")
		if _, err := w.store.Stamp(bg, "m:1#z", []object.Fence{{Shard: 2, Epoch: 9}}); err != nil {
			t.Fatal(err)
		}
		refused, err := w.Open(bg, "n:1#b", w.trusted.Load, []Claim{{Shard: 1, Epoch: 5}, {Shard: 2, Epoch: 5}})
		if err != nil || len(refused) != 1 || refused[0] != (object.Fence{Shard: 2, Epoch: 9, Owner: "m:1#z"}) {
			t.Error(refused, err)
		}
		call := func(id string) error {
			_, err := w.Call(bg, object.Call{Ref: object.Ref{Type: "Kept", ID: id}, Method: "Change"})
			return err
		}
		w.must(call("shard#1/x"))
		isFault(t, call("shard#2/x"), fault.WrongHolder, fault.NotExecuted)
		w.store.Fail(func(memstore.Op) memstore.Fault { return memstore.Fault{Err: errUser} })
		if _, err := w.Open(bg, "n:1#b", w.trusted.Load, []Claim{{Shard: 3, Epoch: 5}}); !errors.Is(err, errUser) {
			t.Error(err)
		}
		isFault(t, call("shard#3/x"), fault.WrongHolder, fault.NotExecuted)
	})
}

func TestDropWhileCallsRun(t *testing.T) {
	for _, typ := range []string{"Thing", "Kept"} {
		bubble(t, typ, func(t *testing.T) {
			w := start(t, kept)
			var born atomic.Int32
			w.set(func(h *hooks) { h.onCreated = func(*Thing) { born.Add(1) } })
			entered, let := make(chan struct{}), make(chan struct{})
			running := w.start(bg, typ+"/x.Change", func(ctx context.Context, o *Thing) error {
				o.N = 99
				close(entered)
				<-ctx.Done()
				if cause := context.Cause(ctx); fault.KindOf(cause) != fault.Fenced {
					t.Error("cancelled because of", cause)
				}
				if o.Context().Err() == nil {
					t.Error("the object's own context goes on")
				}
				_, err := w.call(context.WithoutCancel(ctx), "Thing/other.Change")
				isFault(t, err, fault.Fenced, fault.NotExecuted)
				<-let // it takes its time
				return nil
			})
			<-entered
			queued := w.start(bg, typ+"/x.Change")
			synctest.Wait()
			w.Drop([]sharding.ID{w.shard("x")}, "etcd says so")
			_, err := queued.wait()
			isFault(t, err, fault.WrongHolder, fault.NotExecuted)
			// A new tenure meets the old code, and waits for its end.
			w.epoch, w.owner = 2, "n:1#b"
			w.open()
			next := w.start(bg, typ+"/x.Change")
			short, cancel := within(time.Second)
			defer cancel()
			_, err = w.call(short, typ+"/x.Change")
			isFault(t, err, fault.Deadline, fault.NotExecuted)
			if !next.running() || born.Load() != 1 {
				t.Error("a second activation beside old code that still runs")
			}
			close(let)
			_, err = running.wait()
			isFault(t, err, fault.Fenced, fault.OutcomeUnknown)
			if n, err := next.wait(); n != 1 || err != nil {
				t.Error(n, err)
			}
			if born.Load() != 2 {
				t.Error("activations:", born.Load())
			}
		})
	}
}

// A save that was on its way when the shard was dropped fails its call, and the next
// tenure begins only when it has landed.
func TestDropWhileSaving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept)
		let := w.hold()
		saving := w.start(bg, "x.Change")
		synctest.Wait()
		w.Drop([]sharding.ID{w.shard("x")}, "test")
		_, err := saving.wait()
		isFault(t, err, fault.Fenced, fault.OutcomeUnknown)
		w.open() // the same epoch: the lease was only in doubt
		next := w.start(bg, "x.Change")
		if !next.running() {
			t.Error("it read the store while an older save was on its way")
		}
		let()
		if n, err := next.wait(); n != 2 || err != nil {
			t.Error(n, err)
		}
		w.wantStored("x", 2, 2)
	})
}

func TestDropWhileLoading(t *testing.T) {
	for _, op := range []string{"call", "create", "delete"} {
		bubble(t, op, func(t *testing.T) {
			w := start(t, kept)
			w.want(bg, "x.Change", 1)
			w.Drop(allShards(), "test")
			w.open()
			let := make(chan struct{})
			w.store.Fail(func(op memstore.Op) memstore.Fault { return memstore.Fault{Wait: let} })
			p := begin(func() (int64, error) {
				switch op {
				case "create":
					return 0, w.create(bg, "new")
				case "delete":
					return 0, w.delete(bg, "x")
				default:
					return w.call(bg, "x.Change")
				}
			})
			synctest.Wait()
			w.Drop(allShards(), "test")
			w.store.Fail(nil)
			close(let)
			_, err := p.wait()
			if err == nil || fault.KindOf(err) != fault.WrongHolder && fault.KindOf(err) != fault.Fenced {
				t.Error(err)
			}
			w.epoch++
			w.open()
			w.want(bg, "x.Read", 1)
		})
	}
}

// Opening a shard anew without having dropped it leaves nothing of the old tenure.
func TestOpenOverAnOldTenure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept)
		b := newBlock()
		running := w.start(bg, "Thing/x.Change", b.run)
		<-b.entered
		w.open() // the same tenure: nothing happens
		w.want(bg, "Thing/y.Change", 1)
		w.epoch++
		w.open()
		w.want(bg, "Thing/y.Change", 1)
		close(b.let)
		_, err := running.wait()
		isFault(t, err, fault.Fenced, fault.OutcomeUnknown)
		w.want(bg, "Thing/x.Change", 1)
	})
}

func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const x, alive = "Kept/shard#5/x", "Kept/shard#5/alive"
		w := start(t, kept)
		w.want(bg, x+".Change", 1)
		entered, let := make(chan struct{}), make(chan struct{})
		chain := w.start(bg, x+".Change", func(ctx context.Context, o *Thing) error {
			o.N++
			close(entered)
			<-let
			// Nested calls are let in: back to itself, to a new object of a draining
			// shard, and to one that was alive there.
			if n, err := w.call(ctx, x+".Look"); n != 2 || err != nil {
				t.Error(n, err)
			}
			if n, err := w.call(ctx, "Kept/shard#5/new.Change"); err != nil {
				t.Error(n, err)
			}
			n, err := w.call(ctx, alive+".Change")
			if n != 2 || err != nil {
				t.Error(n, err)
			}
			return nil
		})
		<-entered
		w.want(bg, alive+".Change", 1)
		queued := w.start(bg, x+".Change")
		synctest.Wait()
		var drains []*pending
		for _, id := range allShards() {
			drains = append(drains, begin(func() (int64, error) { return 0, w.Drain(bg, id) }))
		}
		synctest.Wait()
		parked := []*pending{queued, w.start(bg, x+".Change"), begin(func() (int64, error) { return 0, w.create(bg, x) })}
		for _, p := range parked {
			if !p.running() {
				t.Error("a root call was not parked", p.err)
			}
		}
		if !drains[5].running() {
			t.Error("drained under a running chain")
		}
		ctx, cancel := within(time.Second)
		defer cancel()
		if err := w.Drain(ctx, 5); fault.KindOf(err) != fault.Deadline || !strings.Contains(err.Error(), x) {
			t.Error("the error does not say what still runs:", err)
		}
		if late := w.start(bg, x+".Change"); late.running() { // it goes on draining
			parked = append(parked, late)
		}
		close(let)
		if n, err := chain.wait(); n != 2 || err != nil {
			t.Error(n, err)
		}
		for _, d := range drains {
			if _, err := d.wait(); err != nil {
				t.Error(err)
			}
		}
		if n := w.NumObjects(); n != 0 {
			t.Errorf("%d objects are left", n)
		}
		if len(parked) != 4 {
			t.Error("a drain that was given up lets calls in")
		}
		for _, p := range parked {
			_, err := p.wait()
			isFault(t, err, fault.Draining, fault.NotExecuted)
		}
		_, err := w.call(bg, x+".Change")
		isFault(t, err, fault.WrongHolder, fault.NotExecuted)
		w.epoch++
		w.open()
		w.want(bg, x+".Read", 2)
		w.want(bg, alive+".Read", 2)
	})
}

// A call that a drain finds at its end is answered like any other.
func TestDrainRacesCalls(t *testing.T) {
	w := start(t, kept)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 200 {
				_, err := w.call(bg, fmt.Sprintf("o%d.Change", i%4))
				switch fault.KindOf(err) {
				case 0, fault.Draining, fault.WrongHolder:
				default:
					t.Error(err)
				}
			}
		})
	}
	for range 20 {
		for _, id := range allShards() {
			if err := w.Drain(bg, id); err != nil {
				t.Error(err)
			}
		}
		w.epoch++
		w.open()
	}
	all.Wait()
}

// I22, I6: whatever happens to shards, each call that was acknowledged happened once,
// and none that was answered "not executed" did.
func TestOwnershipStress(t *testing.T) {
	for seed := range 9 {
		bubble(t, fmt.Sprint(seed), func(t *testing.T) {
			w := start(t, kept, object.WithIdleTimeout(5*time.Millisecond))
			w.store.Fail(func(memstore.Op) memstore.Fault {
				wait := make(chan struct{})
				time.AfterFunc(time.Millisecond, func() { close(wait) })
				return memstore.Fault{Wait: wait}
			})
			var all sync.WaitGroup
			var acknowledged, unknown [4]atomic.Int64
			stop := make(chan struct{})
			for i := range 16 {
				all.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
						}
						_, err := w.call(bg, fmt.Sprintf("o%d.Change", i%4))
						switch {
						case err == nil:
							acknowledged[i%4].Add(1)
						case fault.OutcomeOf(err) == fault.OutcomeUnknown:
							unknown[i%4].Add(1)
						default:
							time.Sleep(time.Millisecond)
						}
					}
				})
			}
			for round := range 60 {
				time.Sleep(time.Duration(round%7) * time.Millisecond)
				switch seed % 3 {
				case 0:
					w.Drop(allShards(), "test")
				case 1:
					for _, id := range allShards() {
						if err := w.Drain(bg, id); err != nil {
							t.Error(err)
						}
					}
				} // else taken up anew as it is
				w.epoch++
				w.open()
				w.want(bg, "calm.Read", 0)
			}
			close(stop)
			all.Wait()
			for i := range 4 {
				n, err := w.call(bg, fmt.Sprintf("o%d.Read", i))
				w.must(err)
				a, u := acknowledged[i].Load(), unknown[i].Load()
				if n < a || n > a+u {
					t.Errorf("o%d is %d after %d acknowledged and %d unknown calls", i, n, a, u)
				}
				if seed%3 == 1 && u > 0 {
					t.Errorf("%d calls ended unknown in drains", u)
				}
			}
		})
	}
}

func TestRunEndsWithActivationsLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept)
		var destroyed atomic.Int32
		w.set(func(h *hooks) { h.onDestroy = func(*Thing) { destroyed.Add(1) } })
		for i := range 50 {
			w.want(bg, fmt.Sprintf("o%d.Change", i), 1)
		}
		_, err := w.Call(bg, object.Call{Ref: object.Ref{Type: "Thing", ID: "n:1/pinned"}, Method: "Change"})
		w.must(err)
		let := w.hold()
		saving := w.start(bg, "o1.Change")
		synctest.Wait()
		b := newBlock()
		inside := w.start(bg, "o2.Change", b.run)
		<-b.entered
		begun := time.Now()
		ended := begin(func() (int64, error) { return 0, w.close() })
		synctest.Wait()
		_, err = w.call(bg, "o3.Change")
		isFault(t, err, fault.Draining, fault.NotExecuted)
		if _, err = w.call(bg, "new.Change"); fault.KindOf(err) != fault.WrongHolder && fault.KindOf(err) != fault.Draining {
			t.Error(err)
		}
		let()
		close(b.let)
		if _, err := ended.wait(); err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took != 0 {
			t.Error("it took", took)
		}
		if n, err := saving.wait(); n != 2 || err != nil {
			t.Error("a call that ran in peace:", n, err)
		}
		if n, err := inside.wait(); n != 2 || err != nil {
			t.Error("a call that ran in peace:", n, err)
		}
		if destroyed.Load() != 51 || w.NumObjects() != 0 {
			t.Errorf("%d destroyed, %d left", destroyed.Load(), w.NumObjects())
		}
		_, err = w.call(bg, "o1.Change")
		isFault(t, err, fault.WrongHolder, fault.NotExecuted)
	})
}

func TestRunCancelsWhatDoesNotEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		p := w.start(bg, "x.Change", func(ctx context.Context, o *Thing) error { <-ctx.Done(); return nil })
		synctest.Wait()
		begun := time.Now()
		w.must(w.close())
		if took := time.Since(begun); took > 3*time.Second {
			t.Error(took)
		}
		_, err := p.wait()
		isFault(t, err, fault.Fenced, fault.OutcomeUnknown)
	})
}

func TestRunNamesWhatIgnoresItsCancellation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept, func(w *world, cfg *Config) { cfg.StopTimeout = 2 * time.Second })
		b := newBlock()
		p := w.start(bg, "x.Change", b.run)
		w.want(bg, "y.Change", 1)
		<-b.entered
		begun := time.Now()
		err := w.close()
		if took := time.Since(begun); took != 2*time.Second {
			t.Error(took)
		}
		if err == nil || !strings.Contains(err.Error(), "Kept/x") || strings.Contains(err.Error(), "Kept/y") {
			t.Error(err)
		}
		close(b.let) // it ends after all, and does no harm
		_, err = p.wait()
		if err == nil {
			t.Error("a stopped node answered")
		}
		synctest.Wait()
		if w.NumObjects() != 0 || len(w.store.Refs()) != 1 {
			t.Error("something is left")
		}
	})
}

func TestRunEndsUnderAStoreThatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept, object.WithDurability(object.Periodic(time.Second)))
		w.want(bg, "x.Change", 1)
		w.hold() // for ever
		begun := time.Now()
		err := w.close()
		if took := time.Since(begun); took > 6*time.Second {
			t.Error(took)
		}
		_ = err // that a state was lost is told by a notice
		synctest.Wait()
		w.mu.Lock()
		defer w.mu.Unlock()
		if !strings.Contains(fmt.Sprint(w.events), "were not saved") {
			t.Error(w.events)
		}
	})
}

func TestLongestID(t *testing.T) {
	w := start(t)
	p, err := w.Call(bg, object.Call{Ref: object.Ref{Type: "Thing", ID: strings.Repeat("é", 256)}, Method: "Change"})
	w.must(err)
	if p.Message.(*wrapperspb.Int64Value).Value != 1 {
		t.Error(p)
	}
	_, err = w.Call(bg, object.Call{Ref: object.Ref{Type: "Thing", ID: strings.Repeat("é", 256) + "x"}, Method: "Change"})
	isFault(t, err, fault.Invalid, fault.NotExecuted)
}

// The old code may also be the object's first: its successor waits for that, too.
func TestDropWhileTheFirstCodeRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept)
		b := newBlock()
		var destroyed atomic.Int32
		w.set(func(h *hooks) {
			h.onCreated = func(o *Thing) {
				close(b.entered)
				<-b.let
				if o.Context().Err() == nil {
					t.Error("the shard is gone, and its context goes on")
				}
			}
			h.onDestroy = func(*Thing) { destroyed.Add(1) }
		})
		first := w.start(bg, "x.Change")
		<-b.entered
		w.set(func(h *hooks) { h.onCreated = nil })
		w.Drop(allShards(), "test")
		w.epoch++
		w.open()
		next := w.start(bg, "x.Change")
		if !next.running() || destroyed.Load() != 0 {
			t.Error("a second activation beside the first one's code")
		}
		close(b.let)
		// The first call did not run on the old activation, so it runs on the new one.
		n, err := next.wait()
		m, err1 := first.wait()
		if n+m != 3 || err != nil || err1 != nil {
			t.Error(n, err, m, err1)
		}
		synctest.Wait()
		if destroyed.Load() != 1 {
			t.Error("OnDestroy ran", destroyed.Load(), "times")
		}
	})
}

// Who waits for the end of an activation is told at once when the shard goes.
func TestDropWhileSomebodyWaitsForTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, object.WithMode(object.Concurrent))
		b := newBlock()
		inside := w.start(bg, "x.Change", b.run)
		<-b.entered
		gone := begin(func() (int64, error) { return 0, w.delete(bg, "x") })
		synctest.Wait()
		waiting := w.start(bg, "x.Change")
		if !waiting.running() {
			t.Fatal("a second activation beside the first")
		}
		w.Drop(allShards(), "test")
		if waiting.running() {
			t.Error("it waits for code that may never end")
		} else {
			isFault(t, waiting.err, fault.WrongHolder, fault.NotExecuted)
		}
		close(b.let)
		_, err := inside.wait()
		isFault(t, err, fault.Fenced, fault.OutcomeUnknown)
		gone.wait()
	})
}

// A branch left behind comes back while its object is being destroyed. It is not kept
// waiting for that: its chain is over.
func TestLateBranchAndOnDestroy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, object.WithMode(object.Concurrent))
		w.must(w.RegisterObjectType((*Thing)(nil), object.WithName("Plain")))
		away, dying := newBlock(), newBlock()
		var left *pending
		_, err := w.call(bg, "x.Change", func(ctx context.Context, o *Thing) error {
			left = w.start(context.WithoutCancel(ctx), "Plain/y.Change", func(ctx context.Context, _ *Thing) error {
				close(away.entered)
				<-away.let
				_, err := w.call(context.WithoutCancel(ctx), "x.Look")
				return err
			})
			<-away.entered
			return nil
		})
		w.must(err)
		w.set(func(h *hooks) { h.onDestroy = func(*Thing) { close(dying.entered); <-dying.let } })
		gone := begin(func() (int64, error) { return 0, w.delete(bg, "x") })
		<-dying.entered
		w.set(func(h *hooks) { h.onDestroy = nil })
		close(away.let)
		if left.running() {
			t.Error("it waits for the end of OnDestroy")
		}
		isStray(t, cause(left.err))
		close(dying.let)
		gone.wait()
	})
}
