package cluster

import (
	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/sharding"
)

// phase is how a shard stands on this node.
//
//	closed → busy (claiming) → closed → busy (opening) → open → closed
//	open → moving (vacating, handing over) → closed, or open again
//
// What a claim achieved is read from the view, never remembered, so a claim whose
// answer was lost needs no care of its own.
type phase uint8

const (
	closed phase = iota
	busy         // a transaction or the host is working on it; its outcome will be posted
	open
	moving // on its way to another node: see departure
)

// slot is what the reconciler knows of one shard.
type slot struct {
	phase    phase
	record   *sharding.Shard // open and moving: by which record
	leaving  *departure      // moving
	after    int64           // closed: the view counts from this revision on
	refusals int             // how often the store refused the shard, each time at a higher epoch
	refused  uint64          // the epoch at which it last did
	returns  int             // how often it was to leave in vain
}

// held: the host has it.
func (h *slot) held() bool { return h.phase == open || h.phase == moving }

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
	StepMove                      // hand it over to its target
)

// String is the step's name.
func (k StepKind) String() string { return [...]string{"", "claim", "open", "drop", "move"}[k] }

// limits is what must not be done now.
type limits struct {
	still  bool // nothing may be taken up: etcd does not answer
	frozen bool // nothing may be taken over from the dead: the quorum is lost
}

// steps says what brings the node's shards to where v wants them, and how many that
// are to be this node's are not open. It is pure, and names no shard that is busy.
func steps(v *consensusmanager.View, self consensusmanager.Self, held []slot, limits limits) (list []Step, missing int) {
	members := v.Members()
	me, _ := members.Find(self.Address)
	claims := me.Registration == self.Registration && !me.Draining && !v.Hold && !limits.still
	for i, s := range v.Table.All() {
		h := &held[i]
		if h.record == s && s.Target == s.Current {
			continue // open, and nothing has happened since
		}
		mine, wanted := s.HeldBy(self.Address, self.Registration), s.Target == self.Address
		stale := h.held() && (!mine || s.Epoch != h.record.Epoch)
		if stale && h.leaving.made(s) {
			continue // as was to be: the outcome will be posted
		}
		if (mine || wanted) && (!h.held() || stale) {
			missing++
		}
		switch {
		case stale:
			list = append(list, Step{StepDrop, s})
		case h.phase == open && s.State(members) == sharding.Moving && !s.Damaged:
			list = append(list, Step{StepMove, s})
		case h.phase != closed || v.Revision < h.after:
		case mine:
			list = append(list, Step{StepOpen, s})
		case wanted && claims && !s.Damaged && claimable(s.State(members), limits.frozen):
			list = append(list, Step{StepClaim, s})
		}
	}
	return list, missing
}

// claimable: the shard has no holder, or a dead one.
func claimable(s sharding.State, frozen bool) bool {
	return s == sharding.Assigned || s == sharding.Orphaned && !frozen
}
