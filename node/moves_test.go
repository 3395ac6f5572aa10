package node

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/object"
)

// voyage is a random history: chains of calls over few objects, on three nodes
// between which their shards move, or try to.
type voyage struct {
	f      *fleet
	seed   uint64
	atomic bool
	acks   [4][2]atomic.Int64 // by shard and object
	moved  atomic.Int64
	failed atomic.Int64
	stop   chan struct{}
	all    sync.WaitGroup
}

func (v *voyage) rand(stream int) *rand.Rand { return rand.New(rand.NewPCG(v.seed, uint64(stream))) }

func (v *voyage) target(shard, object int) string {
	return fmt.Sprintf("Kept/shard#%d/%d", shard, object)
}

// call is one call with calls below it; it counts if it was answered. Chains go from
// lower objects to higher ones, or back into their own, so no two wait for each other.
func (v *voyage) call(ctx context.Context, r *rand.Rand, path []int) {
	low := 0
	if len(path) > 0 {
		low = slices.Max(path) + 1
	}
	var next int
	switch {
	case len(path) > 0 && r.IntN(4) == 0:
		next = path[r.IntN(len(path))]
	case low < 2*len(v.acks):
		next = low + r.IntN(2*len(v.acks)-low)
	default:
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if r.IntN(4) == 0 {
		if _, err := v.f.call(ctx, v.target(next/2, next%2)+".Read"); err != nil {
			v.f.t.Error(err)
		}
		return
	}
	work := v.method(rand.New(rand.NewPCG(r.Uint64(), 0)), append(slices.Clip(path), next))
	if _, err := v.f.call(ctx, v.target(next/2, next%2)+".Change", work); err != nil {
		v.f.t.Error(err)
		return
	}
	v.acks[next/2][next%2].Add(1)
}

// method counts and calls out, once or as a fan-out.
func (v *voyage) method(r *rand.Rand, path []int) script {
	return func(ctx context.Context, o *Thing) error {
		took := time.Duration(r.IntN(3)) * time.Millisecond
		if v.atomic {
			atomic.AddInt64(&o.N, 1)
			time.Sleep(took)
		} else if err := v.f.add(took)(ctx, o); err != nil {
			return err
		}
		if len(path) > 4 {
			return nil
		}
		var branches sync.WaitGroup
		for range r.IntN(3) {
			own := rand.New(rand.NewPCG(r.Uint64(), 0))
			branches.Go(func() { v.call(ctx, own, path) })
		}
		branches.Wait()
		return nil
	}
}

// sail moves one shard about until the voyage ends.
func (v *voyage) sail(shard int) {
	r := v.rand(100 + shard)
	pause := func(most int) { time.Sleep(time.Duration(r.IntN(most)+1) * time.Millisecond) }
	for !isClosed(v.stop) {
		pause(60)
		from, _ := v.f.look(shard)
		h := v.f.handover(sharding.ID(shard), (from+1+r.IntN(2))%3)
		ctx, cancel := within(time.Duration(r.IntN(400)+1) * time.Millisecond)
		err := h.vacate(ctx, 0)
		cancel()
		pause(10)
		if err != nil || r.IntN(4) == 0 {
			v.failed.Add(1)
			v.f.nodes[from].Resume([]sharding.ID{h.shard})
			continue
		}
		v.moved.Add(1)
		h.commit()
		steps := []func(){h.leave, func() { h.open(h.id) }}
		r.Shuffle(2, func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
		for _, step := range steps {
			pause(10)
			step()
		}
	}
}

// I12, I18, I22 over random histories: what was acknowledged is what happened, and
// nothing of one object happened twice at once.
func TestRandomMoves(t *testing.T) {
	kinds := []struct {
		name   string
		setups func() []any
	}{
		{"volatile", func() []any { return nil }},
		{"durable", func() []any { return []any{shared()} }},
		{"periodic", func() []any { return []any{shared(), object.WithDurability(object.Periodic(50 * time.Millisecond))} }},
		{"concurrent", func() []any { return []any{object.WithMode(object.Concurrent)} }},
	}
	for seed := range 16 {
		kind := kinds[seed%len(kinds)]
		bubble(t, fmt.Sprintf("%s/%d", kind.name, seed), func(t *testing.T) {
			v := &voyage{f: startFleet(t, 3, append(kind.setups(), object.WithIdleTimeout(-1))...), seed: uint64(seed), stop: make(chan struct{}), atomic: kind.name == "concurrent"}
			if v.atomic {
				for _, w := range v.f.nodes {
					w.set(atomically)
				}
			}
			for i := range 6 {
				v.all.Go(func() {
					for r := v.rand(i); !isClosed(v.stop); {
						v.call(bg, r, nil)
						time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
					}
				})
			}
			for shard := range v.acks {
				v.all.Go(func() { v.sail(shard) })
			}
			time.Sleep(2 * time.Second)
			close(v.stop)
			v.all.Wait()
			for shard := range v.acks {
				for o := range v.acks[shard] {
					v.f.want(v.target(shard, o)+".Read", v.acks[shard][o].Load())
				}
			}
			if v.moved.Load() < 5 || v.acks[0][0].Load() < 5 {
				t.Errorf("little happened: %d moves, %d given up", v.moved.Load(), v.failed.Load())
			}
			t.Logf("%d moves, %d given up", v.moved.Load(), v.failed.Load())
		})
	}
}
