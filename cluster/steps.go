package cluster

import (
	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/sharding"
)

// phase is how a shard stands on this node.
//
//	closed → busy (claiming) → closed → busy (opening) → open → closed
//	open → moving (vacating, handing over) → closed, or open again
//	closed → busy (raising) → closed, where the store was put back: see rewind
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
	stale    string          // the hand-over by which it was held then: what came with it is not the newest
	returns  int             // how often it was to leave in vain
	void     uint64          // up to this epoch it was held under a history of the store that is no more
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
	StepRaise                     // it is this node's, at an epoch that is void: mint another
)

// String is the step's name.
func (k StepKind) String() string {
	return [...]string{"", "claim", "open", "drop", "move", "raise"}[k]
}

// limits is what must not be done now.
type limits struct {
	still  bool // nothing may be taken up: etcd does not answer
	frozen bool // nothing may be taken over from the dead: the quorum is lost
}

// outlook is what the steps of all shards depend on at one view.
type outlook struct {
	members  sharding.Members
	revision int64
	self     consensusmanager.Self
	claims   bool // this node may take shards up
	limits
}

func newOutlook(v *consensusmanager.View, self consensusmanager.Self, limits limits) outlook {
	members := v.Members()
	me, _ := members.Find(self.Address)
	return outlook{
		members: members, revision: v.Revision, self: self, limits: limits,
		claims: me.Registration == self.Registration && !me.Draining && !v.Hold && !limits.still,
	}
}

// need is how much a shard asks of a walk.
type need uint8

const (
	atRest  need = iota // nothing but another record, or a touch of its slot, calls for a step
	watched             // members, limits, a later view or an outcome may
	absent              // so they may, and the shard is to be this node's and is not open
)

// step says what brings a shard to where its record wants it; 0 is nothing. It is pure.
func (o *outlook) step(s *sharding.Shard, h *slot) (StepKind, need) {
	mine, wanted := s.HeldBy(o.self.Address, o.self.Registration), s.Target == o.self.Address
	stale := h.held() && (!mine || s.Epoch != h.record.Epoch)
	is := watched
	switch {
	case stale && h.leaving.made(s):
		return 0, watched // as was to be: the outcome will be posted
	case (mine || wanted) && (!h.held() || stale):
		is = absent
	case h.phase == closed, h.phase == open && !stale && s.Target == s.Current:
		is = atRest
	}
	switch {
	case stale:
		return StepDrop, is
	case h.phase == open && s.State(o.members) == sharding.Moving && !s.Damaged:
		return StepMove, is
	case h.phase != closed || o.revision < h.after:
	case mine && s.Epoch <= h.void:
		if !o.still {
			return StepRaise, is
		}
	case mine:
		return StepOpen, is
	case wanted && o.claims && !s.Damaged && claimable(s.State(o.members), o.frozen):
		return StepClaim, is
	}
	return 0, is
}

// claimable: the shard has no holder, or a dead one.
func claimable(s sharding.State, frozen bool) bool {
	return s == sharding.Assigned || s == sharding.Orphaned && !frozen
}
