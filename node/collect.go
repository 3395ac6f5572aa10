package node

import (
	"context"
	"time"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/object"
)

// What is over in the store is forgotten by who holds the shard: records of calls whose
// retention has ended, and deleted objects that no late save and no late call can still
// be meant for.
const (
	collectEvery  = time.Hour
	collectBatch  = 1000 // a store forgets at most so many records at once
	tombstonesFor = resultRetention + time.Hour
)

// gravedigger is a store that keeps deleted objects for a while.
type gravedigger interface {
	CollectTombstones(ctx context.Context, fence object.Fence, olderThan time.Duration, live []object.Ref) (int, error)
}

// collect goes over the shards until ctx ends, each once in collectEvery.
func (n *Node) collect(ctx context.Context) {
	graves, _ := n.commits.store.(gravedigger)
	if graves == nil && n.exactly == nil {
		return
	}
	rest := collectEvery
	for pause(ctx, rest) {
		held := n.tenures()
		rest = collectEvery / time.Duration(max(1, len(held)))
		for _, life := range held {
			if err := n.collectShard(ctx, graves, life); err != nil && ctx.Err() == nil {
				if on := n.on.Notice; on != nil {
					on(event.Notice{Severity: event.Warn, From: "node", Text: "the store could not forget what is over; it is tried again in an hour", Err: err})
				}
				rest = collectEvery
				break
			}
			if !pause(ctx, rest) {
				return
			}
		}
	}
}

// tenures is those of the shards that are held here.
func (n *Node) tenures() (held []*tenure) {
	for i := range n.cfg.NumShards {
		s := &n.slots[i]
		s.mu.Lock()
		if s.state != shut {
			held = append(held, s.life)
		}
		s.mu.Unlock()
	}
	return held
}

func (n *Node) collectShard(ctx context.Context, graves gravedigger, life *tenure) error {
	fence := object.Fence{Shard: life.shard, Epoch: life.epoch, Owner: life.owner}
	for n.exactly != nil {
		done := asked(n.on, event.StoreCollect)
		gone, err := n.exactly.CollectCalls(ctx, fence)
		done(err)
		if err != nil {
			return err
		}
		if gone < collectBatch {
			break
		}
	}
	if graves == nil {
		return nil
	}
	s := &n.slots[life.shard]
	s.mu.Lock()
	var live []object.Ref
	for a := range s.acts.all() {
		live = append(live, a.ref)
	}
	s.mu.Unlock()
	done := asked(n.on, event.StoreCollect)
	_, err := graves.CollectTombstones(ctx, fence, tombstonesFor, live)
	done(err)
	return err
}
