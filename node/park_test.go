package node

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

// chainOf is the context of a call nested in an object's method.
func chainOf(typ, id string, shard int) context.Context {
	turn := callctx.Turn{Type: typ, ID: id, Method: "Change", Shard: shard, Epoch: 1}
	return callctx.With(bg, &callctx.Info{Chain: callctx.Chain{ID: callctx.NewChainID()}.Enter(turn)})
}

// send calls Change with a request of some size.
func (w *world) sendSized(ctx context.Context, id string, text *string) error {
	_, err := w.ServeCall(ctx, &peer.Request{Call: object.Call{Ref: object.Ref{Type: "Kept", ID: id}, Method: "Change",
		Payload: object.OfMessage(wrapperspb.String(*text))}})
	return err
}

// Overflow is told at once, as something that did not run and may come again.
func TestParkingIsBounded(t *testing.T) {
	large, small := strings.Repeat("x", 4<<20-100), "x"
	fourth := large[:1<<20-100]
	for _, c := range []struct {
		name string
		text *string
		fits int
		id   func(i int) string
		add  []any
	}{
		{"calls of a shard", &small, maxParked, func(i int) string { return fmt.Sprintf("shard#5/%d", i%3) }, nil},
		{"bytes of a shard", &large, 2, func(i int) string { return fmt.Sprintf("shard#5/%d", i) }, nil},
		{"bytes of the node", &large, 16, func(i int) string { return fmt.Sprintf("shard#%d/%d", i/2, i) }, nil},
		{"bytes of an object", &fourth, 4, func(int) string { return "shard#5/x" }, nil},
		{"calls of an object", &small, 10, func(int) string { return "shard#5/x" }, []any{object.WithMaxQueue(10)}},
	} {
		bubble(t, c.name, func(t *testing.T) {
			w := start(t, c.add...)
			for _, id := range allShards() {
				w.must(w.Vacate(bg, id, Move{}))
			}
			var parked []*pending
			for i := range c.fits {
				parked = append(parked, begin(func() (int64, error) { return 0, w.sendSized(bg, c.id(i), c.text) }))
			}
			synctest.Wait()
			err := w.sendSized(bg, c.id(c.fits), c.text)
			isFault(t, err, fault.Draining, fault.NotExecuted)
			if fault.Of(err).RetryAfter != parkRetry {
				t.Error(fault.Of(err).RetryAfter)
			}
			w.Resume(allShards())
			for _, p := range parked {
				if _, err := p.wait(); err != nil {
					t.Fatal(err)
				}
			}
			if n := w.parked.Load(); n != 0 {
				t.Errorf("%d bytes are still counted", n)
			}
			w.must(w.sendSized(bg, c.id(c.fits), c.text))
		})
	}
}

// 10,000 calls come at once while all shards are between two nodes.
func TestTenThousandAreLetGoAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		for _, id := range allShards() {
			w.must(w.Vacate(bg, id, Move{}))
		}
		var parked []*pending
		for i := range 10_000 {
			parked = append(parked, w.start(bg, fmt.Sprintf("Kept/shard#%d/%d.Change", i%shards, i%100)))
		}
		synctest.Wait()
		if n := w.NumObjects(); n != 0 {
			t.Errorf("%d objects began behind the door", n)
		}
		w.Resume(allShards())
		for _, p := range parked {
			if _, err := p.wait(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// A parked call waits no longer than its caller.
func TestAParkedCallHasADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		w.want(bg, "Kept/shard#5/x.Change", 1)
		w.must(w.Vacate(bg, 5, Move{Stage: func(context.Context, []peer.Staged) error { return nil }}))
		begun := time.Now()
		ctx, cancel := within(3 * time.Second)
		defer cancel()
		_, err := w.call(ctx, "Kept/shard#5/x.Change")
		isFault(t, err, fault.Deadline, fault.NotExecuted)
		if took := time.Since(begun); took != 3*time.Second {
			t.Error(took)
		}
		ctx, cancel = context.WithCancel(bg)
		given := w.start(ctx, "Kept/shard#5/x.Change")
		synctest.Wait()
		cancel()
		_, err = given.wait()
		isFault(t, err, fault.Canceled, fault.NotExecuted)
		w.Resume([]sharding.ID{5})
		w.want(bg, "Kept/shard#5/x.Read", 1)
		if l := w.slots[5].lot; l.calls != 0 || l.objects != nil {
			t.Error(l)
		}
	})
}

// What ends a wait at the slot, and what the caller is told.
func TestParkedCallsAreLetGo(t *testing.T) {
	for _, c := range []struct {
		name string
		how  func(*world)
		kind fault.Kind
	}{
		{"drop", func(w *world) { w.Drop([]sharding.ID{5}, "test") }, fault.WrongHolder},
		{"lost fence", func(w *world) { w.slots[5].lostFence(w.Node, w.slots[5].life) }, fault.WrongHolder},
		{"drain", func(w *world) { w.must(w.Drain(bg, 5)) }, fault.Draining},
		{"stop", func(w *world) { w.must(w.close()) }, fault.Draining},
		{"doubt", func(w *world) { w.trusted.Store(false); w.Resume([]sharding.ID{5}) }, fault.NotReady},
	} {
		for _, vacated := range []bool{true, false} {
			bubble(t, fmt.Sprintf("%s vacated=%v", c.name, vacated), func(t *testing.T) {
				w := start(t)
				b := newBlock()
				if vacated {
					w.must(w.Vacate(bg, 5, Move{}))
				} else {
					inside := w.start(bg, "Kept/shard#5/y.Change", b.run)
					<-b.entered
					ctx, cancel := within(time.Second)
					defer cancel()
					if err := w.Vacate(ctx, 5, Move{}); err == nil {
						t.Error("vacated around a running method")
					}
					time.AfterFunc(time.Second, func() { close(b.let) })
					defer inside.wait()
				}
				parked := w.start(bg, "Kept/shard#5/x.Change")
				if !parked.running() {
					t.Error(parked.err)
				}
				c.how(w)
				_, err := parked.wait()
				isFault(t, err, c.kind, fault.NotExecuted)
			})
		}
	}
}
