package node

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/memstore"
)

// fleet is some nodes, a picture of who holds which shard, and a router that follows
// what nodes say.
type fleet struct {
	t     testing.TB
	nodes []*world
	turns tally // that run now, of all nodes' methods that count

	mu     sync.Mutex
	holder [shards]int
	epoch  [shards]uint64
	moves  int
}

// startFleet runs nodes of which the first holds all shards.
func startFleet(t testing.TB, size int, setups ...any) *fleet {
	t.Helper()
	f := &fleet{t: t}
	for i := range size {
		own := setup(func(w *world, c *Config) {
			c.Address, w.owner = f.address(i), f.address(i)+"#r"
			c.Call = f.route
			if i > 0 {
				w.epoch = 0
			}
		})
		w := start(t, append([]any{own}, setups...)...)
		w.Start()
		f.nodes = append(f.nodes, w)
	}
	for id := range f.epoch {
		f.epoch[id] = 1
	}
	return f
}

// shared gives all nodes of a fleet one store.
func shared() setup {
	store := memstore.New()
	return func(w *world, _ *Config) { w.store = store }
}

func (f *fleet) address(i int) string { return fmt.Sprintf("n:%d", i+1) }

func (f *fleet) look(shard int) (holder int, epoch uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.holder[shard], f.epoch[shard]
}

// route is a router's work: ask the holder, follow a hint that is newer, come again
// where the call surely did not run.
func (f *fleet) route(ctx context.Context, call object.Call) (object.Payload, error) {
	shard := sharding.GetShardID(call.Ref.ID, shards)
	var hinted int
	var hint uint64
	for {
		to, epoch := f.look(shard)
		if hint > epoch {
			to, epoch = hinted, hint
		}
		reply, err := f.nodes[to].ServeCall(ctx, &peer.Request{Call: call, Shard: shard, Epoch: epoch})
		if err == nil || !fault.KindOf(err).Row().Reroutes || fault.OutcomeOf(err) != fault.NotExecuted {
			return reply, err
		}
		if e := fault.Of(err); e.Holder != "" && e.Epoch > epoch {
			hint = e.Epoch
			fmt.Sscanf(e.Holder, "n:%d", &hinted)
			hinted--
			continue
		}
		hint = 0
		pause, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
		<-pause.Done()
		cancel()
		if ctx.Err() != nil {
			return object.Payload{}, fault.Waited(ctx, "%w", err)
		}
	}
}

func (f *fleet) call(ctx context.Context, target string, do ...script) (int64, error) {
	return f.nodes[0].call(ctx, target, do...)
}

func (f *fleet) start(ctx context.Context, target string, do ...script) *pending {
	return begin(func() (int64, error) { return f.call(ctx, target, do...) })
}

func (f *fleet) want(target string, want int64) {
	f.t.Helper()
	if got, err := f.call(bg, target); err != nil || got != want {
		f.t.Errorf("%s is %d, %v; want %d", target, got, err, want)
	}
}

// handover is one attempt to move a shard.
type handover struct {
	f        *fleet
	shard    sharding.ID
	from, to int
	id       string
	epoch    uint64 // under which from holds the shard
	frames   []peer.Staged
	before   func([]peer.Staged) error // each stage
}

func (f *fleet) handover(shard sharding.ID, to int) *handover {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.moves++
	return &handover{f: f, shard: shard, from: f.holder[shard], to: to, id: fmt.Sprint("hid-", f.moves), epoch: f.epoch[shard]}
}

// stage carries objects as the wire would.
func (h *handover) stage(ctx context.Context, objects []peer.Staged) error {
	if h.before != nil {
		if err := h.before(objects); err != nil {
			return err
		}
	}
	h.frames = append(h.frames, objects...)
	return h.f.nodes[h.to].ServeStage(ctx, h.staged(objects...))
}

func (h *handover) staged(objects ...peer.Staged) *peer.Stage {
	return &peer.Stage{Shard: int(h.shard), Handover: h.id, Holder: h.f.nodes[h.from].owner, Epoch: h.epoch, Objects: objects}
}

func (h *handover) vacate(ctx context.Context, patience time.Duration) error {
	return h.f.nodes[h.from].Vacate(ctx, h.shard, Move{Stage: h.stage, Patience: patience})
}

// commit is etcd's part: from now on the other node is the holder.
func (h *handover) commit() {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	h.f.holder[h.shard], h.f.epoch[h.shard] = h.to, h.epoch+1
}

func (h *handover) open(handover string) {
	h.f.t.Helper()
	w := h.f.nodes[h.to]
	refused, err := w.Open(bg, w.owner, w.trusted.Load, []Claim{{h.shard, h.epoch + 1, handover}})
	if err != nil || len(refused) > 0 {
		h.f.t.Error("Open:", refused, err)
	}
}

func (h *handover) leave() {
	h.f.nodes[h.from].HandedOver(h.shard, h.f.address(h.to), h.epoch+1)
}

// move hands a shard over, to its end.
func (f *fleet) move(shard sharding.ID, to int) *handover {
	f.t.Helper()
	h := f.handover(shard, to)
	if err := h.vacate(bg, 0); err != nil {
		f.t.Fatal("Vacate:", err)
	}
	h.commit()
	if h.epoch%2 == 0 { // the next holder may hear of it before this one does
		h.open(h.id)
		h.leave()
	} else {
		h.leave()
		h.open(h.id)
	}
	return h
}

// tally finds executions that overlap.
type tally struct {
	mu     sync.Mutex
	inside map[string]int
}

func (c *tally) enter(t testing.TB, o *Thing) (leave func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inside == nil {
		c.inside = map[string]int{}
	}
	if c.inside[o.Id()]++; c.inside[o.Id()] > 1 {
		t.Errorf("%s runs twice at once", o)
	}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.inside[o.Id()]--
	}
}

// add is a method that counts, and takes some time.
func (f *fleet) add(took time.Duration) script {
	return func(_ context.Context, o *Thing) error {
		defer f.turns.enter(f.t, o)()
		n := o.N
		time.Sleep(took)
		o.N = n + 1
		return nil
	}
}

// addAtomic is add for objects whose methods run at once.
func addAtomic(_ context.Context, o *Thing) error {
	atomic.AddInt64(&o.N, 1)
	return nil
}

func atomically(h *hooks) {
	h.toData = func(o *Thing) (proto.Message, error) {
		return wrapperspb.Int64(atomic.LoadInt64(&o.N)), nil
	}
}
