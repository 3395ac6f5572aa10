package node

import (
	"context"

	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/object"
)

// Open takes up shards for owner: it stamps their fences in the store, then lets
// calls in. Shards that the store refuses stay shut and are returned with the
// fence they have.
func (n *Node) Open(ctx context.Context, owner string, trusted func() bool, fences []object.Fence) (refused []object.Fence, err error) {
	n.Start()
	if n.commits != nil {
		if refused, err = n.commits.store.Stamp(ctx, owner, fences); err != nil {
			return nil, err
		}
	}
	no := make(map[int]bool, len(refused))
	for _, f := range refused {
		no[f.Shard] = true
	}
	for _, f := range fences {
		if no[f.Shard] {
			continue
		}
		n.slots[f.Shard].open(tenure{shard: f.Shard, epoch: f.Epoch, owner: owner, trusted: trusted})
		if on := n.on.ShardOpened; on != nil {
			on(event.ShardOpened{Shard: f.Shard, Epoch: f.Epoch})
		}
	}
	n.pinned().open(tenure{shard: n.cfg.NumShards, owner: owner, trusted: trusted})
	return refused, nil
}

// Drain empties a shard and shuts it: new root calls are refused, running chains
// finish, state is committed, activations end. With an error, because ctx ended,
// the shard goes on draining.
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
func (s *slot) lostFence(n *Node, life tenure) {
	if !s.dropIf(life, "the store knows another holder of the shard") {
		return
	}
	n.closedShard(s, "fence lost")
	select {
	case n.lost <- sharding.ID(s.shard):
	default: // full: each shard is in it already
	}
}
