package node

import (
	"context"
	"fmt"

	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/object"
)

// Claim is one shard that this node holds at Epoch.
type Claim struct {
	Shard    sharding.ID
	Epoch    uint64
	Handover string // the hand-over that made it so, whose stage counts; "" for none
}

// Open takes up shards for owner: it stamps their fences in the store, then lets
// calls in. Shards that the store refuses stay shut and are returned with the
// fence they have. Objects whose state was laid here for a claim's hand-over come
// alive with it; whatever else was laid here for the claims' shards is forgotten.
func (n *Node) Open(ctx context.Context, owner string, trusted func() bool, claims []Claim) (refused []object.Fence, err error) {
	n.Start()
	if n.commits != nil {
		if refused, err = n.stamp(ctx, owner, claims); err != nil {
			return nil, err
		}
	}
	no := make(map[sharding.ID]bool, len(refused))
	for _, f := range refused {
		no[sharding.ID(f.Shard)] = true
	}
	for _, c := range claims {
		if !no[c.Shard] {
			n.open(c, &tenure{shard: int(c.Shard), epoch: c.Epoch, owner: owner, trusted: trusted})
		}
	}
	n.pinned().open(&tenure{shard: n.cfg.NumShards, owner: owner, trusted: trusted}, nil)
	return refused, nil
}

// stamp writes the fences of claims into the store that this node goes by.
func (n *Node) stamp(ctx context.Context, owner string, claims []Claim) (refused []object.Fence, err error) {
	if err := n.past.begin(ctx); err != nil {
		return nil, err
	}
	if err := n.past.astray(); err != nil {
		return nil, err
	}
	done := asked(n.on, event.StoreStamp)
	refused, err = n.commits.store.Stamp(ctx, owner, fencesOf(owner, claims))
	done(err)
	n.past.heard(err)
	if err == nil {
		err = n.past.astray()
	}
	return refused, err
}

func (n *Node) open(c Claim, life *tenure) {
	staged, lost := n.stages.take(c)
	if on := n.on.Notice; lost && on != nil {
		on(event.Notice{Severity: event.Warn, From: "node",
			Text: fmt.Sprintf("shard %d came by hand-over %s, but the state that was laid here for it is not here any more: its volatile objects begin anew", c.Shard, c.Handover)})
	}
	n.slots[c.Shard].open(life, staged)
	if on := n.on.ShardOpened; on != nil {
		on(event.ShardOpened{Shard: life.shard, Epoch: life.epoch})
	}
}

// Drain empties a shard and shuts it: new root calls are parked, running chains
// finish, state is committed, activations end; then what is parked is sent away.
// With an error, because ctx ended, the shard goes on draining.
func (n *Node) Drain(ctx context.Context, shard sharding.ID) error {
	s := &n.slots[shard]
	if err := s.drain(ctx); err != nil {
		return err
	}
	n.closedShard(s, "drained")
	return nil
}

// Drop shuts shards at once, because the right to serve them has ended. Calls that
// run in them fail as Fenced. When no shard is left, what is pinned here ends too.
func (n *Node) Drop(shards []sharding.ID, reason string) {
	for _, id := range shards {
		s := &n.slots[id]
		s.drop(reason)
		n.closedShard(s, reason)
	}
	for i := range n.cfg.NumShards {
		if !n.slots[i].isShut() {
			return
		}
	}
	n.pinned().drop(reason)
}

// Lost tells shards whose fence somebody else took over in the store.
func (n *Node) Lost() <-chan sharding.ID { return n.lost }

// lostFence shuts a slot that the store gave to another holder, once for a tenure.
func (s *slot) lostFence(n *Node, life *tenure) {
	if !s.dropIf(life, "the store knows another holder of the shard") {
		return
	}
	n.closedShard(s, "fence lost")
	select {
	case n.lost <- sharding.ID(s.shard):
	default: // full: each shard is in it already
	}
}
