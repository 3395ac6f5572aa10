package cluster

import (
	"iter"
	"math/bits"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/sharding"
)

// survey is which shards a walk has to look at: those whose records have changed since
// the walk before, and those that were not at rest then. A shard at rest asks for
// nothing, whatever becomes of members and limits, until its record changes or its slot
// is touched. So a node's work at a view grows with what changed and with what it has
// to do, not with the shards that there are.
type survey struct {
	table *sharding.Table // at the walk before; nil: there was none
	watch []uint64        // a bit for each shard that is not known to be at rest
}

func newSurvey(shards int) survey { return survey{watch: make([]uint64, (shards+63)/64)} }

// touch has the next walk look at a shard: its slot has changed other than by a step.
func (w *survey) touch(id sharding.ID) { w.watch[id/64] |= 1 << (id % 64) }

// all is the shards that are not known to be at rest, in order. Those that are touched
// meanwhile may be left out.
func (w *survey) all() iter.Seq[sharding.ID] {
	return func(yield func(sharding.ID) bool) {
		for i, word := range w.watch {
			for ; word != 0; word &= word - 1 {
				if !yield(sharding.ID(i*64 + bits.TrailingZeros64(word))) {
					return
				}
			}
		}
	}
}

// steps says what brings the node's shards to where v wants them, and how many that are
// to be this node's are not open. It names no shard that is busy. held is all slots;
// their number is that of v's shards.
func (w *survey) steps(v *consensusmanager.View, self consensusmanager.Self, held []slot, limits limits) (list []Step, missing int) {
	for id := range v.Table.Changed(w.table) {
		w.touch(id)
	}
	w.table = v.Table
	o := newOutlook(v, self, limits)
	for id := range w.all() {
		s := v.Table.Shard(id)
		switch kind, is := o.step(s, &held[id]); is {
		case absent:
			missing++
			fallthrough
		case watched:
			if kind != 0 {
				list = append(list, Step{kind, s})
			}
		case atRest:
			w.watch[id/64] &^= 1 << (id % 64)
		}
	}
	return list, missing
}
