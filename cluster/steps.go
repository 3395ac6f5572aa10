package cluster

import (
	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/sharding"
)

// phase is how a shard stands on this node.
//
//	closed → busy (claiming) → closed → busy (opening) → open → closed
//
// What a claim achieved is read from the view, never remembered, so a claim whose
// answer was lost needs no care of its own.
type phase uint8

const (
	closed phase = iota
	busy         // a transaction or the host is working on it; its outcome will be posted
	open
)

// slot is what the reconciler knows of one shard.
type slot struct {
	phase    phase
	epoch    uint64 // open: at which epoch
	after    int64  // closed: the view counts from this revision on
	refusals int    // how often the store refused the shard in a row
}

// Step is one thing to do about one shard.
type Step struct {
	Kind  StepKind
	Shard *sharding.Shard
}

// StepKind is what a Step does.
type StepKind uint8

const (
	StepClaim StepKind = iota + 1 // take it up in etcd
	StepOpen                      // it is this node's: let calls in
	StepDrop                      // it is no longer this node's, or not at that epoch
)

// String is the step's name.
func (k StepKind) String() string { return [...]string{"", "claim", "open", "drop"}[k] }

// steps says what brings the node's shards to where v wants them, and how many that
// are to be this node's are not open. It is pure, and names no shard that is busy.
func steps(v *consensusmanager.View, self consensusmanager.Self, held []slot) (list []Step, missing int) {
	members := v.Members()
	me, registered := members.Find(self.Address)
	registered = registered && me.Registration == self.Registration
	claims := registered && !me.Draining && !v.Hold
	for i, s := range v.Table.All() {
		h := &held[i]
		mine := s.HeldBy(self.Address, self.Registration)
		if (mine || s.Target == self.Address) && !(h.phase == open && mine) {
			missing++
		}
		switch {
		case h.phase == open && (!mine || s.Epoch != h.epoch) && v.Revision >= h.after:
			list = append(list, Step{StepDrop, s})
		case h.phase != closed || v.Revision < h.after:
		case mine:
			list = append(list, Step{StepOpen, s})
		case claims && s.Target == self.Address && !s.Damaged && claimable(s.State(members)):
			list = append(list, Step{StepClaim, s})
		}
	}
	return list, missing
}

// claimable: the shard has no holder, or a dead one.
func claimable(s sharding.State) bool { return s == sharding.Assigned || s == sharding.Orphaned }
