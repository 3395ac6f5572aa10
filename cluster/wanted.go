package cluster

import (
	"slices"
	"sync"

	"github.com/xiaonanln/goverse/cluster/sharding"
)

// wanted is the shards that calls of this process wait for, so that they are claimed
// before the thousands that nobody has asked for yet.
type wanted struct {
	mu    sync.Mutex // protects following field
	calls map[sharding.ID]int
}

func newWanted() *wanted { return &wanted{calls: map[sharding.ID]int{}} }

// add notes a call that waits for a shard, until done.
func (w *wanted) add(id sharding.ID) (done func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls[id]++
	return func() { w.remove(id) }
}

func (w *wanted) remove(id sharding.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.calls[id]--; w.calls[id] == 0 {
		delete(w.calls, id)
	}
}

// first is the shards with the wanted ones in front.
func (w *wanted) first(shards []*sharding.Shard) []*sharding.Shard {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.calls) == 0 {
		return shards
	}
	sorted := slices.Clone(shards)
	slices.SortStableFunc(sorted, func(a, b *sharding.Shard) int { return min(w.calls[b.ID], 1) - min(w.calls[a.ID], 1) })
	return sorted
}
