package node

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/memstore"
)

const (
	x5 = "Kept/shard#5/x"
	y5 = "Kept/shard#5/y"
	z6 = "Kept/shard#6/z"
)

// I12: however a type is kept, and however its calls run, a shard that moves under
// load costs no call and no state.
func TestAShardMovesUnderLoad(t *testing.T) {
	for _, c := range []struct {
		name   string
		setups []any
		do     func(f *fleet) script
	}{
		{"volatile", nil, func(f *fleet) script { return f.add(time.Millisecond) }},
		{"durable", []any{shared()}, func(f *fleet) script { return f.add(time.Millisecond) }},
		{"periodic", []any{shared(), object.WithDurability(object.Periodic(time.Hour))}, func(f *fleet) script { return f.add(time.Millisecond) }},
		{"volatile concurrent", []any{object.WithMode(object.Concurrent)}, func(*fleet) script { return addAtomic }},
		{"durable concurrent", []any{shared(), object.WithMode(object.Concurrent)}, func(*fleet) script { return addAtomic }},
	} {
		bubble(t, c.name, func(t *testing.T) {
			f := startFleet(t, 2, c.setups...)
			for _, w := range f.nodes {
				if strings.Contains(c.name, "concurrent") {
					w.set(atomically)
				}
			}
			var all sync.WaitGroup
			var counts [3]atomic.Int64
			stop := make(chan struct{})
			for i := range 12 {
				all.Go(func() {
					target := fmt.Sprintf("Kept/shard#5/o%d.Change", i%3)
					for !isClosed(stop) {
						ctx, cancel := within(10 * time.Second)
						if _, err := f.call(ctx, target, c.do(f)); err != nil {
							t.Error(err)
						}
						cancel()
						counts[i%3].Add(1)
						time.Sleep(time.Duration(i+1) * 100 * time.Microsecond)
					}
				})
			}
			for move := range 20 {
				time.Sleep(20 * time.Millisecond)
				f.move(5, (move+1)%2)
			}
			close(stop)
			all.Wait()
			for i := range counts {
				f.want(fmt.Sprintf("Kept/shard#5/o%d.Read", i), counts[i].Load())
				if counts[i].Load() < 40 {
					t.Errorf("only %d calls", counts[i].Load())
				}
			}
		})
	}
}

// Without a bubble, for the race detector.
func TestAShardMovesUnderRealLoad(t *testing.T) {
	f := startFleet(t, 3)
	var all sync.WaitGroup
	var count atomic.Int64
	stop := make(chan struct{})
	for i := range 8 {
		all.Go(func() {
			for !isClosed(stop) {
				if _, err := f.call(bg, x5+".Change"); err != nil {
					t.Error(err)
				}
				count.Add(1)
				if i%2 == 0 {
					if _, err := f.call(bg, fmt.Sprintf("Kept/shard#5/%d.Change", count.Load()%50)); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	for move := range 60 {
		f.move(5, (move+1)%3)
	}
	close(stop)
	all.Wait()
	f.want(x5+".Read", count.Load())
}

// A call that has passed the slot takes its turn before its activation is found at rest,
// or it is sent back: however the two meet, nobody is inside once the door is shut.
func TestTheDoorShutsOnNobody(t *testing.T) {
	f := startFleet(t, 1)
	f.want(x5+".Change", 1)
	f.want(y5+".Change", 1)
	s := &f.nodes[0].slots[5]
	x, y := s.acts.find(object.Ref{Type: "Kept", ID: "shard#5/x"}), s.acts.find(object.Ref{Type: "Kept", ID: "shard#5/y"})
	both := [2]int{}
	for range 100 {
		d, err := s.depart(Move{})
		f.nodes[0].must(err)
		d.laid[x.ref], d.laid[y.ref] = laid{x, x.turns.uses}, laid{y, y.turns.uses}
		y.mu.Lock() // it looks at x, or has to wait here
		shut := make(chan bool)
		go func() { shut <- d.shutDoor() }()
		for s.mu.TryLock() {
			s.mu.Unlock()
			runtime.Gosched()
		}
		for range 100 {
			runtime.Gosched()
		}
		h, _, err := x.take(bg, &call{chain: callctx.Chain{ID: callctx.NewChainID()}, own: true}, x.turnFor("Change"))
		y.mu.Unlock()
		switch isShut := <-shut; {
		case err == nil && isShut:
			t.Fatal("somebody is inside, and the door is shut")
		case err == nil:
			both[0]++
			x.leave(h, false)
		case !isShut || !errors.Is(err, errAside):
			t.Fatal("it was sent away:", err)
		default:
			both[1]++
		}
		f.nodes[0].Resume([]sharding.ID{5})
		f.want(x5+".Read", 1)
	}
	t.Logf("let in: %d, sent back: %d", both[0], both[1])
}

// While a shard moves its queue and its new callers wait; they run at the next
// holder. The other shards notice nothing.
func TestQueuedAndNewCallsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, 2)
		b := newBlock()
		inside := f.start(bg, x5+".Change", b.run)
		<-b.entered
		queued := f.start(bg, x5+".Change")
		reader := f.start(bg, x5+".Read")
		synctest.Wait()
		h := f.handover(5, 1)
		vacated := begin(func() (int64, error) { return 0, h.vacate(bg, 0) })
		synctest.Wait()
		late := f.start(bg, x5+".Change")
		fresh := f.start(bg, y5+".Change")
		for _, p := range []*pending{queued, reader, late, fresh, vacated} {
			if !p.running() {
				t.Error("it did not wait", p.err)
			}
		}
		f.want(z6+".Change", 1)
		if n := len(f.nodes[0].slots[5].lot.objects); n != 2 || f.nodes[0].slots[5].lot.calls != 4 {
			t.Error("parked:", f.nodes[0].slots[5].lot)
		}
		close(b.let)
		if n, err := inside.wait(); n != 1 || err != nil {
			t.Error(n, err)
		}
		if _, err := vacated.wait(); err != nil {
			t.Error(err)
		}
		if !late.running() {
			t.Error("a parked call ended with the drain", late.err)
		}
		h.commit()
		h.leave()
		h.open(h.id)
		for _, p := range []*pending{queued, late} {
			if n, err := p.wait(); err != nil || n < 2 || n > 3 {
				t.Error(n, err)
			}
		}
		for _, p := range []*pending{reader, fresh} {
			if _, err := p.wait(); err != nil {
				t.Error(err)
			}
		}
		f.want(x5+".Read", 3)
		if l := f.nodes[0].slots[5].lot; l.calls != 0 || l.bytes != 0 || l.objects != nil || f.nodes[0].parked.Load() != 0 {
			t.Error("what was parked is still counted:", l)
		}
	})
}

// An activation that was laid at the next holder is laid there again if a running
// chain uses it afterwards, and taken back if it ends.
func TestNestedCallsAfterStaging(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, 2)
		f.want(x5+".Change", 1)
		f.want(y5+".Change", 1)
		f.want("Kept/shard#5/z.Change", 1)
		step, stepped := make(chan func(context.Context)), make(chan struct{})
		chain := f.start(bg, "Kept/shard#5/w.Change", func(ctx context.Context, o *Thing) error {
			for do := range step {
				do(ctx)
				stepped <- struct{}{}
			}
			return nil
		})
		synctest.Wait()
		h := f.handover(5, 1)
		vacated := begin(func() (int64, error) { return 0, h.vacate(bg, 0) })
		synctest.Wait()
		if len(h.frames) != 3 {
			t.Fatalf("laid while another object of the shard runs: %v", h.frames)
		}
		// do lets the chain do work, and wants object's frames and no others: one, or
		// up to most.
		do := func(object string, most int, work func(context.Context)) {
			t.Helper()
			before := len(h.frames)
			step <- work
			<-stepped
			synctest.Wait()
			more := h.frames[before:]
			if len(more) < 1 || len(more) > most {
				t.Errorf("%d frames more; want 1 to %d", len(more), most)
			}
			for _, frame := range more {
				if frame.Ref.String() != object {
					t.Errorf("%s was laid; want %s", frame.Ref, object)
				}
			}
		}
		do(x5, 1, func(ctx context.Context) {
			if n, err := f.call(ctx, x5+".Change"); n != 2 || err != nil {
				t.Error(n, err)
			}
		})
		do(y5, 1, func(ctx context.Context) { f.nodes[0].must(f.nodes[0].delete(ctx, y5)) })
		do("Kept/shard#5/z", 1, func(ctx context.Context) { f.nodes[0].must(f.nodes[0].delete(ctx, "Kept/shard#5/z")) })
		// It begins anew, in place of the one that was laid there; between its creation
		// and its first call it is at rest, and may be laid as well.
		do("Kept/shard#5/z", 2, func(ctx context.Context) {
			if n, err := f.call(ctx, "Kept/shard#5/z.Change"); n != 1 || err != nil {
				t.Error(n, err)
			}
		})
		before := len(h.frames)
		step <- func(ctx context.Context) {
			if n, err := f.call(ctx, x5+".Read"); n != 2 || err != nil {
				t.Error(n, err)
			}
		}
		<-stepped
		synctest.Wait()
		if len(h.frames) != before {
			t.Error("what was only read was laid again")
		}
		close(step)
		if _, err := vacated.wait(); err != nil {
			t.Fatal(err)
		}
		if _, err := chain.wait(); err != nil {
			t.Error(err)
		}
		for i, o := range h.frames {
			if o.Seq != uint64(i+1) {
				t.Errorf("frame %d has number %d", i+1, o.Seq)
			}
		}
		// A copy of an early frame that was under way for long must change nothing.
		f.nodes[1].must(f.nodes[1].ServeStage(bg, h.staged(h.frames[0], h.frames[1], h.frames[2])))
		h.commit()
		h.leave()
		h.open(h.id)
		synctest.Wait()
		if n := f.nodes[1].NumObjects(); n != 3 {
			t.Errorf("%d objects live at the next holder; want x, z and w", n)
		}
		f.want(x5+".Read", 2)
		f.want(y5+".Read", 0)
		f.want("Kept/shard#5/z.Read", 1)
	})
}

// What is moved is alive at the next holder before anyone calls it, with its age.
func TestWhatMovesComesAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, 2, object.WithIdleTimeout(-1))
		var born time.Time
		_, err := f.call(bg, x5+".Change", func(_ context.Context, o *Thing) error { o.N, born = 7, o.CreationTime(); return nil })
		f.nodes[0].must(err)
		f.nodes[0].forgetEvents()
		time.Sleep(time.Hour)
		slow := make(chan struct{})
		f.nodes[1].set(func(h *hooks) {
			h.onCreated = func(o *Thing) {
				<-slow
				if o.N != 7 || !o.CreationTime().Equal(born) {
					t.Errorf("%d, created %v; want 7, created %v", o.N, o.CreationTime(), born)
				}
			}
		})
		f.move(5, 1)
		synctest.Wait()
		if all := f.nodes[0].said(); !strings.Contains(all, "-shard#5/x handed over to n:2") || !strings.Contains(all, "closed 5: handed over to n:2") {
			t.Error(all)
		}
		waiting := f.start(bg, x5+".Read")
		if !waiting.running() {
			t.Error("a call did not wait for the object", waiting.err)
		}
		close(slow)
		if n, err := waiting.wait(); n != 7 || err != nil {
			t.Error(n, err)
		}
		f.nodes[1].wantEvents("+shard#5/x stored=true")
		isFault(t, f.nodes[1].create(bg, x5), fault.Exists, fault.NotExecuted)
	})
}

// A type without ToData loses its state, which is said once.
func TestStatelessTypesMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, 2)
		for _, id := range []string{"a", "b"} {
			f.want("Thing/shard#5/"+id+".Change", 1)
			f.want("Thing/shard#6/"+id+".Change", 1)
		}
		f.nodes[0].forgetEvents()
		if h := f.move(5, 1); len(h.frames) > 0 {
			t.Error(h.frames)
		}
		f.move(6, 1)
		synctest.Wait()
		f.want("Thing/shard#5/a.Read", 0)
		if all := f.nodes[0].said(); strings.Count(all, "notice") != 1 || !strings.Contains(all, "type Thing lose") {
			t.Error(all)
		}
	})
}

// Durable state is in the store and is not carried; the version goes on.
func TestDurableStateIsNotCarried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, 2, shared())
		f.want(x5+".Change", 1)
		f.want(x5+".Change", 2)
		if h := f.move(5, 1); len(h.frames) > 0 {
			t.Error(h.frames)
		}
		f.want(x5+".Change", 3)
		f.nodes[0].wantStored(x5, 3, 3)
	})
}

// Running commits count as running: the door is shut behind them.
func TestACommitKeepsTheDoorOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, 2, shared())
		let := f.nodes[0].hold()
		saving := f.start(bg, x5+".Change")
		synctest.Wait()
		h := f.handover(5, 1)
		ctx, cancel := within(time.Second)
		defer cancel()
		err := h.vacate(ctx, 100*time.Millisecond)
		isFault(t, err, fault.Deadline, fault.NotExecuted)
		if !strings.Contains(fmt.Sprint(err), x5+" is being saved") {
			t.Error(err)
		}
		let()
		if _, err := saving.wait(); err != nil {
			t.Error(err)
		}
		f.nodes[0].must(h.vacate(bg, 0))
	})
}

// A periodic object whose changes the store does not take keeps its shard here.
func TestAFlushThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, 2, shared(), object.WithDurability(object.Periodic(time.Hour)))
		f.want(x5+".Change", 1)
		f.nodes[0].store.Fail(func(op memstore.Op) memstore.Fault {
			if op.Kind == memstore.Commit {
				return memstore.Fault{Err: object.ErrNotCommitted}
			}
			return memstore.Fault{}
		})
		h := f.handover(5, 1)
		isFault(t, h.vacate(bg, 0), fault.StoreFailed, fault.NotExecuted)
		f.nodes[0].Resume([]sharding.ID{5})
		f.want(x5+".Change", 2)
		f.nodes[0].store.Fail(nil)
		f.want(x5+".Change", 3)
		f.move(5, 1)
		f.nodes[0].wantStored(x5, 3, 1)
		f.want(x5+".Change", 4)
		f.nodes[1].must(f.nodes[1].SaveAllObjects(bg))
		f.nodes[1].wantStored(x5, 4, 2)
		_, err := f.call(bg, x5+".Change", func(context.Context, *Thing) error { return nil }) // changes nothing
		f.nodes[1].must(err)
		f.move(5, 0)
		f.want(x5+".Read", 4)
	})
}

// After its patience a drain cancels what runs, says why, and takes what it answers.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, 2)
		var why error
		long := f.start(bg, x5+".Change", func(ctx context.Context, o *Thing) error {
			<-ctx.Done()
			why = context.Cause(ctx)
			o.N++
			return nil
		})
		synctest.Wait()
		begun := time.Now()
		h := f.handover(5, 1)
		f.nodes[0].must(h.vacate(bg, 5*time.Second))
		if n, err := long.wait(); n != 1 || err != nil {
			t.Error("it was not answered with what it returned:", n, err)
		}
		if took := time.Since(begun); took != 5*time.Second || !strings.Contains(fmt.Sprint(why), "leaving this node") {
			t.Error(took, why)
		}
	})
}

// A method that ignores that is never overtaken: the move is given up.
func TestAMethodThatDoesNotEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, 2)
		f.want(y5+".Change", 1)
		b := newBlock()
		stuck := f.start(bg, x5+".Change", b.run)
		<-b.entered
		queued := f.start(bg, x5+".Change")
		synctest.Wait()
		h := f.handover(5, 1)
		ctx, cancel := within(2 * time.Second)
		defer cancel()
		err := h.vacate(ctx, time.Second)
		isFault(t, err, fault.Deadline, fault.NotExecuted)
		if !strings.Contains(fmt.Sprint(err), x5+".Change still runs") {
			t.Error("the error does not name the method:", err)
		}
		parked := f.start(bg, y5+".Change")
		if !parked.running() {
			t.Error("it does not go on draining", parked.err)
		}
		f.nodes[0].Resume([]sharding.ID{5, 6, 7})
		if n, err := parked.wait(); n != 2 || err != nil {
			t.Error(n, err)
		}
		if !queued.running() {
			t.Error("it overtook the running method", queued.err)
		}
		close(b.let)
		if n, err := stuck.wait(); n != 1 || err != nil {
			t.Error(n, err)
		}
		if n, err := queued.wait(); n != 2 || err != nil {
			t.Error(n, err)
		}
		f.move(5, 1)
		f.want(x5+".Read", 2)
		f.want(y5+".Read", 2)
	})
}

// Behind the shut door nothing runs, not even a nested call that was let in before
// and had not come to a turn yet. When the hand-over fails everything is as it was.
func TestResumeBehindTheShutDoor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, 2)
		a := f.nodes[0]
		f.want(x5+".Change", 1)
		a.forgetEvents()
		nested := make(chan struct{})
		chain := f.start(bg, z6+".Change", func(ctx context.Context, _ *Thing) error {
			<-nested
			n, err := f.call(ctx, x5+".Change")
			if n < 2 || n > 3 {
				t.Error(n)
			}
			return err
		})
		h := f.handover(5, 1)
		a.must(h.vacate(bg, 0))
		parked := f.start(bg, x5+".Change")
		close(nested)
		time.Sleep(time.Second)
		if !parked.running() || !chain.running() {
			t.Error("something ran behind the door", parked.err, chain.err)
		}
		ctx := chainOf("Kept", "shard#6/other", 6)
		_, err := a.ServeCall(ctx, &peer.Request{Call: object.Call{Ref: object.Ref{Type: "Kept", ID: "shard#5/x"}, Method: "Change"}, Epoch: 1})
		isFault(t, err, fault.WrongHolder, fault.NotExecuted)
		a.must(a.SaveAllObjects(bg))
		if err := h.vacate(bg, 0); err == nil {
			t.Error("it was vacated twice")
		}
		a.Resume([]sharding.ID{5})
		if n, err := parked.wait(); n < 2 || n > 3 || err != nil {
			t.Error(n, err)
		}
		if _, err := chain.wait(); err != nil {
			t.Error(err)
		}
		f.want(x5+".Read", 3)
		a.wantEvents("+shard#6/z stored=false") // x was not loaded anew
	})
}

// An object between two nodes is not idle.
func TestNothingEndsBehindTheShutDoor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, 2, object.WithIdleTimeout(time.Second))
		f.want(x5+".Change", 1)
		h := f.handover(5, 1)
		f.nodes[0].must(h.vacate(bg, 0))
		time.Sleep(time.Minute)
		if n := f.nodes[0].NumObjects(); n != 1 {
			t.Error("it ended")
		}
		f.nodes[0].Resume([]sharding.ID{5})
		time.Sleep(time.Minute)
		if n := f.nodes[0].NumObjects(); n != 0 {
			t.Error("it does not end any more")
		}
	})
}

func TestFanOutAndReentryDuringADrain(t *testing.T) {
	for _, mode := range []object.Mode{object.Sequential, object.Concurrent} {
		bubble(t, fmt.Sprint("mode=", mode), func(t *testing.T) {
			f := startFleet(t, 2, object.WithMode(mode))
			for _, w := range f.nodes {
				w.set(atomically)
			}
			draining := make(chan struct{})
			branch := func(ctx context.Context, o *Thing) error {
				atomic.AddInt64(&o.N, 1)
				_, err := f.call(ctx, x5+".Other", addAtomic) // back into the root's object
				return err
			}
			root := f.start(bg, x5+".Change", func(ctx context.Context, _ *Thing) error {
				<-draining
				var all sync.WaitGroup
				var errs [4]error
				for i := range errs {
					all.Go(func() { _, errs[i] = f.call(ctx, fmt.Sprintf("Kept/shard#%d/b%d.Change", 5+i%2, i/2), branch) })
				}
				all.Wait()
				return errors.Join(errs[:]...)
			})
			synctest.Wait()
			h, other := f.handover(5, 1), f.handover(6, 1)
			vacated := begin(func() (int64, error) { return 0, h.vacate(bg, 0) })
			f.nodes[0].must(other.vacate(bg, 0)) // one branch goes by the next holder
			other.commit()
			other.leave()
			other.open(other.id)
			close(draining)
			if _, err := root.wait(); err != nil {
				t.Error(err)
			}
			if _, err := vacated.wait(); err != nil {
				t.Error(err)
			}
			h.commit()
			h.leave()
			h.open(h.id)
			f.want(x5+".Read", 4)
			f.want("Kept/shard#5/b0.Read", 1)
			f.want("Kept/shard#6/b1.Read", 1)
		})
	}
}

// Chains of two shards call each other's while both drain, and change places.
func TestTwoDrainingShardsWhoseChainsMeet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, 2)
		f.move(6, 1)
		both := make(chan struct{})
		calling := func(target string) script {
			return func(ctx context.Context, o *Thing) error {
				<-both
				o.N++
				_, err := f.call(ctx, target)
				return err
			}
		}
		one := f.start(bg, x5+".Change", calling("Kept/shard#6/called.Change"))
		two := f.start(bg, z6+".Change", calling("Kept/shard#5/called.Change"))
		synctest.Wait()
		h5, h6 := f.handover(5, 1), f.handover(6, 0)
		var vacated []*pending
		for _, h := range []*handover{h5, h6} {
			vacated = append(vacated, begin(func() (int64, error) {
				defer func() { h.commit(); h.leave(); h.open(h.id) }()
				return 0, h.vacate(bg, 0)
			}))
		}
		synctest.Wait()
		begun := time.Now()
		close(both)
		for _, p := range append(vacated, one, two) {
			if _, err := p.wait(); err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(begun); took > 100*time.Millisecond {
			t.Error("it took", took)
		}
		for _, target := range []string{x5, z6, "Kept/shard#6/called", "Kept/shard#5/called"} {
			f.want(target+".Read", 1)
		}
	})
}

// Chains from elsewhere that never leave a shard alone do not keep it for ever.
func TestForeignChainsAreHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, 2)
		stop := make(chan struct{})
		var chains []*pending
		var calls atomic.Int64
		for i := range 6 {
			chains = append(chains, f.start(bg, fmt.Sprintf("Kept/shard#6/%d.Change", i), func(ctx context.Context, _ *Thing) error {
				for !isClosed(stop) {
					begun := time.Now()
					if _, err := f.call(ctx, fmt.Sprintf("Kept/shard#5/%d.Change", i/2), f.add(10*time.Millisecond)); err != nil {
						return err
					}
					calls.Add(1)
					if took := time.Since(begun); took > holdFor+50*time.Millisecond {
						t.Error("a chain was held back for", took)
					}
				}
				return nil
			}))
		}
		synctest.Wait()
		begun := time.Now()
		f.move(5, 1)
		if took := time.Since(begun); took < holdAfter || took > holdAfter+holdFor {
			t.Error("the drain took", took)
		}
		close(stop)
		for _, p := range chains {
			if _, err := p.wait(); err != nil {
				t.Error(err)
			}
		}
		var sum int64
		for i := range 3 {
			n, err := f.call(bg, fmt.Sprintf("Kept/shard#5/%d.Read", i))
			f.nodes[0].must(err)
			sum += n
		}
		if sum != calls.Load() {
			t.Errorf("%d counted, %d calls", sum, calls.Load())
		}
	})
}

// A stage that is refused gives the move up; nothing has happened then.
func TestARefusedStage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, 2)
		f.want(x5+".Change", 1)
		h := f.handover(5, 1)
		h.before = func([]peer.Staged) error { return errUser }
		if err := h.vacate(bg, 0); !errors.Is(err, errUser) {
			t.Error(err)
		}
		parked := f.start(bg, x5+".Change")
		if !parked.running() {
			t.Error("it does not go on draining", parked.err)
		}
		f.nodes[0].Resume([]sharding.ID{5})
		if n, err := parked.wait(); n != 2 || err != nil {
			t.Error(n, err)
		}
		f.move(5, 1)
		f.want(x5+".Read", 2)
	})
}

// Many and large objects go in parts of bounded size.
func TestStagesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, 2)
		text := strings.Repeat("x", 300<<10)
		f.nodes[0].set(func(h *hooks) {
			h.toData = func(*Thing) (proto.Message, error) { return wrapperspb.String(text), nil }
		})
		restored := map[string]bool{}
		var mu sync.Mutex
		f.nodes[1].set(func(h *hooks) {
			h.fromData = func(o *Thing, m proto.Message) error {
				mu.Lock()
				defer mu.Unlock()
				restored[o.Id()] = m.(*wrapperspb.StringValue).Value == text
				return nil
			}
		})
		for i := range 10 {
			f.want(fmt.Sprintf("Kept/shard#5/%d.Change", i), 1)
		}
		h := f.handover(5, 1)
		stages := 0
		h.before = func(objects []peer.Staged) error {
			size := 0
			for _, o := range objects {
				size += o.Size()
			}
			if stages++; size > peer.MaxStage || len(objects) == 0 {
				t.Errorf("a stage of %d objects with %d bytes", len(objects), size)
			}
			return nil
		}
		f.nodes[0].must(h.vacate(bg, 0))
		h.commit()
		h.leave()
		h.open(h.id)
		synctest.Wait()
		if stages != 4 || len(restored) != 10 {
			t.Error(stages, len(restored))
		}
	})
}

// What an object's ToData may do to a move.
func TestStateThatCannotBeTakenAlong(t *testing.T) {
	for name, toData := range map[string]func(*Thing) (proto.Message, error){
		"fails":   func(*Thing) (proto.Message, error) { return nil, errUser },
		"panics":  func(*Thing) (proto.Message, error) { panic("boom") },
		"exits":   func(*Thing) (proto.Message, error) { runtime.Goexit(); return nil, nil },
		"nothing": func(*Thing) (proto.Message, error) { return nil, nil },
		"giant":   func(*Thing) (proto.Message, error) { return wrapperspb.String(strings.Repeat("x", MaxStateBytes)), nil },
	} {
		bubble(t, name, func(t *testing.T) {
			f := startFleet(t, 2)
			f.want(x5+".Change", 1)
			f.nodes[0].set(func(h *hooks) { h.toData = toData })
			err := f.handover(5, 1).vacate(bg, 0)
			if err == nil || !strings.Contains(err.Error(), x5) {
				t.Error("the error does not name the object:", err)
			}
			f.nodes[0].Resume([]sharding.ID{5})
			f.want(x5+".Change", 2)
			f.nodes[0].set(func(h *hooks) { h.toData = nil })
			f.move(5, 1)
			f.want(x5+".Read", 2)
		})
	}
	bubble(t, "hangs", func(t *testing.T) {
		f := startFleet(t, 2)
		f.want(x5+".Change", 1)
		let := make(chan struct{})
		f.nodes[0].set(func(h *hooks) {
			h.toData = func(*Thing) (proto.Message, error) { <-let; return wrapperspb.Int64(1), nil }
		})
		ctx, cancel := within(time.Second)
		defer cancel()
		err := f.handover(5, 1).vacate(ctx, 0)
		isFault(t, err, fault.Deadline, fault.NotExecuted)
		f.nodes[0].Resume([]sharding.ID{5})
		next := f.start(bg, x5+".Change")
		if !next.running() {
			t.Error("a call ran beside ToData", next.err)
		}
		close(let)
		if n, err := next.wait(); n != 2 || err != nil {
			t.Error(n, err)
		}
	})
}

// State that the next holder's object refuses is lost; the other objects are not.
func TestStateThatIsRefused(t *testing.T) {
	for name, fromData := range map[string]func(*Thing, proto.Message) error{
		"error": func(*Thing, proto.Message) error { return errUser },
		"panic": func(*Thing, proto.Message) error { panic("boom") },
		"exit":  func(*Thing, proto.Message) error { runtime.Goexit(); return nil },
	} {
		bubble(t, name, func(t *testing.T) {
			f := startFleet(t, 2)
			f.want(x5+".Change", 1)
			f.want(y5+".Change", 1)
			entered, let := make(chan struct{}), make(chan struct{})
			f.nodes[1].set(func(h *hooks) {
				h.fromData = func(o *Thing, m proto.Message) error {
					if o.Id() == "shard#5/y" || m == nil {
						return o.restore(m)
					}
					close(entered)
					<-let
					return fromData(o, m)
				}
			})
			f.move(5, 1)
			<-entered
			caller := f.start(bg, x5+".Change")
			if !caller.running() {
				t.Error("it did not wait for the object")
			}
			close(let)
			_, err := caller.wait()
			if err == nil || fault.OutcomeOf(err) != fault.NotExecuted {
				t.Error(err)
			}
			synctest.Wait()
			f.want(y5+".Read", 1)
			f.want(x5+".Change", 1) // anew
			if all := f.nodes[1].said(); !strings.Contains(all, "notice the state of "+x5+" came with its shard") {
				t.Error(all)
			}
		})
	}
}

// A shard that comes back soon meets what is left of its previous stay.
func TestAShardComesBackSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, 2)
		f.want(x5+".Change", 1)
		let := make(chan struct{})
		f.nodes[0].set(func(h *hooks) {
			h.onDestroy = func(*Thing) { <-let }
		})
		f.move(5, 1)
		f.want(x5+".Change", 2)
		f.move(5, 0)
		waiting := f.start(bg, x5+".Change")
		h := f.handover(5, 1)
		vacated := begin(func() (int64, error) { return 0, h.vacate(bg, 0) })
		if !waiting.running() || !vacated.running() {
			t.Error("two activations at once:", waiting.err, vacated.err)
		}
		close(let)
		if _, err := vacated.wait(); err != nil {
			t.Error(err)
		}
		h.commit()
		h.leave()
		h.open(h.id)
		if n, err := waiting.wait(); n != 3 || err != nil {
			t.Error(n, err)
		}
	})
}

// The crash table of the protocol, as far as it is the nodes' part.
func TestCrashesDuringAHandOver(t *testing.T) {
	type scene struct {
		f      *fleet
		h      *handover
		parked *pending
	}
	lost := []sharding.ID{5}
	for _, c := range []struct {
		name string
		then func(scene)
		want int64 // of x, which was 1, after the parked call
	}{
		{"the holder dies before the hand-over", func(s scene) {
			s.f.nodes[0].Drop(lost, "crash")
			s.h.commit()
			s.h.open("") // a take-over
		}, 1},
		{"the answer is lost, and it took place", func(s scene) {
			s.h.commit()
			s.h.open(s.h.id)
			s.f.nodes[0].Drop(lost, "etcd names another holder")
		}, 2},
		{"the holder dies after it", func(s scene) {
			s.h.commit()
			s.f.nodes[0].Drop(lost, "crash")
			s.h.open(s.h.id)
		}, 2},
		{"the target dies before it", func(s scene) {
			s.f.nodes[0].Resume(lost)
		}, 2},
		{"the target dies after it", func(s scene) {
			s.h.commit()
			s.h.leave()
			again := s.f.handover(5, 2)
			again.commit()
			again.open("")
		}, 1},
		{"the target has lost the stage", func(s scene) {
			s.f.nodes[1].Unstage(s.f.nodes[1].Staged())
			s.h.commit()
			s.h.leave()
			s.h.open(s.h.id)
		}, 1},
		{"the store makes the target mint a later epoch", func(s scene) {
			s.h.epoch++
			s.h.commit()
			s.h.leave()
			s.h.open(s.h.id)
		}, 2},
		{"another hand-over took place", func(s scene) {
			s.f.nodes[0].Resume(lost)
			s.f.move(5, 1)
		}, 2},
		{"the holder opens again under the same claim", func(s scene) {
			w := s.f.nodes[0]
			_, err := w.Open(bg, w.owner, w.trusted.Load, []Claim{{Shard: 5, Epoch: 1}})
			w.must(err)
		}, 2},
		{"the holder's fence is lost", func(s scene) {
			s.f.nodes[0].slots[5].lostFence(s.f.nodes[0].Node, s.f.nodes[0].slots[5].life)
			s.h.leave()
			s.h.commit()
			s.h.open(s.h.id)
		}, 2},
	} {
		bubble(t, c.name, func(t *testing.T) {
			f := startFleet(t, 3)
			f.want(x5+".Change", 1)
			h := f.handover(5, 1)
			f.nodes[0].must(h.vacate(bg, 0))
			parked := f.start(bg, x5+".Change")
			if !parked.running() {
				t.Error(parked.err)
			}
			c.then(scene{f, h, parked})
			if n, err := parked.wait(); n != c.want || err != nil {
				t.Errorf("the parked call: %d, %v; want %d", n, err, c.want)
			}
			synctest.Wait()
			f.want(x5+".Read", c.want)
			holder, _ := f.look(5)
			for i, w := range f.nodes {
				if lives := w.NumObjects() == 1; lives != (i == holder) {
					t.Errorf("node %d has %d objects, node %d is the holder", i, w.NumObjects(), holder)
				}
			}
			if staged := f.nodes[1].Staged(); holder == 1 && len(staged) > 0 {
				t.Error("left behind:", staged)
			}
		})
	}
}

// A drop ends a Vacate that is under way, and a new tenure is not its business.
func TestDropDuringAVacate(t *testing.T) {
	for _, again := range []bool{false, true} {
		bubble(t, fmt.Sprint("again=", again), func(t *testing.T) {
			f := startFleet(t, 2)
			b := newBlock()
			stuck := f.start(bg, x5+".Change", b.run)
			<-b.entered
			h := f.handover(5, 1)
			vacated := begin(func() (int64, error) { return 0, h.vacate(bg, 0) })
			synctest.Wait()
			f.nodes[0].Drop([]sharding.ID{5}, "test")
			if again {
				_, err := f.nodes[0].Open(bg, "n:1#s", f.nodes[0].trusted.Load, []Claim{{Shard: 5, Epoch: 2}})
				f.nodes[0].must(err)
			}
			close(b.let)
			_, err := stuck.wait()
			isFault(t, err, fault.Fenced, fault.OutcomeUnknown)
			_, err = vacated.wait()
			isFault(t, err, fault.WrongHolder, fault.NotExecuted)
			if again {
				f.want(x5+".Change", 1)
			}
		})
	}
}

// A shard that is handed over without having been vacated is dropped: what runs in it
// may not answer.
func TestHandedOverWithoutVacate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, 2)
		b := newBlock()
		stuck := f.start(bg, x5+".Change", b.run)
		<-b.entered
		f.nodes[0].HandedOver(5, "n:2", 1) // of an epoch long past
		h := f.handover(5, 1)
		h.commit()
		h.leave()
		h.open("")
		f.want(x5+".Change", 1)
		close(b.let)
		_, err := stuck.wait()
		isFault(t, err, fault.Fenced, fault.OutcomeUnknown)
	})
}

// Callers that come late are told whom to ask.
func TestLateCallersAreSentOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, 2)
		f.move(5, 1)
		call := func(epoch uint64) error {
			_, err := f.nodes[0].ServeCall(bg, &peer.Request{Call: object.Call{Ref: object.Ref{Type: "Kept", ID: "shard#5/x"}, Method: "Change"}, Shard: 5, Epoch: epoch})
			return err
		}
		for epoch := range uint64(4) {
			begun := time.Now()
			err := call(epoch)
			isFault(t, err, fault.WrongHolder, fault.NotExecuted)
			if e := fault.Of(err); e.Holder != "n:2" || e.Epoch != 2 || e.Shard != 5 {
				t.Errorf("%+v", e)
			}
			want := time.Duration(0)
			if epoch == 3 { // the caller knows of a later holder: this node, it seems
				want = aheadWait
			}
			if took := time.Since(begun); took != want {
				t.Errorf("epoch %d: it waited %v; want %v", epoch, took, want)
			}
		}
	})
}

// A call that comes before the node has heard of its new shard waits for it.
func TestACallAheadOfTheView(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, 2)
		f.want(x5+".Change", 1)
		h := f.handover(5, 1)
		f.nodes[0].must(h.vacate(bg, 0))
		h.commit()
		h.leave()
		ahead := begin(func() (int64, error) {
			p, err := f.nodes[1].ServeCall(bg, &peer.Request{Call: object.Call{Ref: object.Ref{Type: "Kept", ID: "shard#5/x"}, Method: "Change"}, Shard: 5, Epoch: 2})
			if err != nil {
				return 0, err
			}
			return p.Message.(*wrapperspb.Int64Value).Value, nil
		})
		time.Sleep(150 * time.Millisecond)
		if !ahead.running() {
			t.Error("it did not wait", ahead.err)
		}
		h.open(h.id)
		if n, err := ahead.wait(); n != 2 || err != nil {
			t.Error(n, err)
		}
	})
}

func names(list []Staging) (s []string) {
	for _, k := range list {
		s = append(s, fmt.Sprintf("%d %s %s %d", k.Shard, k.Handover, k.Holder, k.Epoch))
	}
	return slices.Clip(s)
}

// A chain that has a turn in the shard is what the drain waits for: it is not held back.
func TestTheShardsOwnChainsAreNotHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, 2)
		chain := f.start(bg, x5+".Change", func(ctx context.Context, o *Thing) error {
			for range 300 {
				begun := time.Now()
				if _, err := f.call(ctx, y5+".Change", f.add(10*time.Millisecond)); err != nil {
					return err
				}
				if took := time.Since(begun); took > 10*time.Millisecond {
					t.Error("it was held back for", took)
				}
			}
			return nil
		})
		synctest.Wait()
		f.move(5, 1)
		if _, err := chain.wait(); err != nil {
			t.Error(err)
		}
		f.want(y5+".Read", 300)
	})
}

// The last moments before a turn and after one, which no caller can stop at.
func TestTheDoorIsShutInOneStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, 2)
		f.want(x5+".Change", 1)
		s := &f.nodes[0].slots[5]
		a := s.acts.find(object.Ref{Type: "Kept", ID: "shard#5/x"})
		a.mu.Lock()
		a.savingLocked().emptying = true // its pushes are on their way
		a.mu.Unlock()
		h := f.handover(5, 1)
		vacated := begin(func() (int64, error) { return 0, h.vacate(bg, 0) })
		if !vacated.running() {
			t.Error("the next holder's pushes could overtake this one's", vacated.err)
		}
		a.mu.Lock()
		a.save.emptying = false
		a.settleRest()
		a.mu.Unlock()
		if _, err := vacated.wait(); err != nil {
			t.Error(err)
		}
		// A nested call that the slot let in before comes to its turn now.
		_, _, err := a.take(bg, &call{chain: callctx.Chain{ID: callctx.NewChainID()}, own: true}, a.turnFor("Change"))
		if !errors.Is(err, errAside) {
			t.Error("it has a turn behind the shut door:", err)
		}
		if _, ok := a.tryTake(); ok {
			t.Error("somebody has a turn behind the shut door")
		}
		f.nodes[0].Resume([]sharding.ID{5})
		f.want(x5+".Change", 2)
	})
}
