package sharding

import (
	"fmt"
	"slices"
	"strings"
)

// Shard is one shard's record as it stands in etcd. A Shard that is in a Table is
// never changed.
type Shard struct {
	ID           ID
	Epoch        uint64 // counts the hand-overs; the fence
	Current      string // the holder's address; "" is none
	Registration string // the holder's registration
	Target       string // the address of the node that should hold it; "" is none
	Handover     string // the hand-over that made Current the holder; "" for a claim

	// Damaged: the key is gone or unreadable. The fields are the last that were read,
	// and only the leader acts, by writing the record anew.
	Damaged bool

	raw   []byte // the exact value in etcd; nil while the key does not exist
	extra string // members of other versions, as `,"name":value…`
}

// Raw is the exact value in etcd, to be compared by guards, or nil while the shard
// has no key. It must not be changed.
func (s *Shard) Raw() []byte { return s.raw }

// HeldBy says whether the record names this registration as the holder.
func (s *Shard) HeldBy(address, registration string) bool {
	return s.Current == address && s.Registration == registration && s.Current != ""
}

// Targeted is the record with another target; all else stays.
func (s *Shard) Targeted(to string) Shard {
	next := *s
	next.Target = to
	return next
}

// Claimed is the record after its target took it up.
func (s *Shard) Claimed(address, registration string) Shard {
	next := *s
	next.Epoch++
	next.Current, next.Registration, next.Target, next.Handover = address, registration, address, ""
	return next
}

// HandedTo is the record after its holder passed it to another registration, by the
// hand-over of that name.
func (s *Shard) HandedTo(address, registration, handover string) Shard {
	next := s.Claimed(address, registration)
	next.Handover = handover
	return next
}

// Released is the record after its holder gave it up with no one to follow. The
// epoch stays: the next claim counts on.
func (s *Shard) Released() Shard {
	next := *s
	next.Current, next.Registration, next.Handover = "", "", ""
	return next
}

// Bumped is the record after its holder minted an epoch above floor, which a store
// knows. floor must be below MaxEpoch.
func (s *Shard) Bumped(floor uint64) Shard {
	next := *s
	next.Epoch = max(s.Epoch, floor) + 1
	return next
}

// MaxEpoch bounds epochs: stores keep them as signed 64-bit numbers.
const MaxEpoch = 1<<63 - 2

// State is what a record means, given who is alive. It is derived, never stored:
//
//	Target  Current  alive?  state        who acts
//	-       -                Unassigned   leader: set Target
//	n       -        n       Assigned     n: claim
//	n       n        n       Held         nobody
//	b       a        a, b    Moving       a: drain and hand over to b
//	n       a        not a   Orphaned     n: claim over a
//	n       any      not n   Adrift       leader: new Target
//
// A holder is alive while its registration is; a target while its address has any.
type State uint8

const (
	Unassigned State = iota
	Assigned
	Held
	Moving
	Orphaned
	Adrift
	numStates
)

// String is the state's name in every output.
func (s State) String() string {
	return [...]string{"unassigned", "assigned", "held", "moving", "orphaned", "adrift"}[s]
}

// State derives the shard's state from who is alive.
func (s *Shard) State(alive Members) State {
	return s.derive(s.Target != "" && alive.Has(s.Target), s.Current != "" && alive.Registered(s.Current, s.Registration))
}

// derive is the state if the target, and the holder, are alive.
func (s *Shard) derive(target, holder bool) State {
	switch {
	case s.Target == "" && s.Current == "":
		return Unassigned
	case !target:
		return Adrift
	case s.Current == "":
		return Assigned
	case !holder:
		return Orphaned
	case s.Current == s.Target:
		return Held
	default:
		return Moving
	}
}

// String is the record in one line.
func (s *Shard) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%04d e%d target=%s current=%s", s.ID, s.Epoch, or(s.Target, "-"), or(s.Current, "-"))
	if s.Registration != "" {
		fmt.Fprintf(&b, "#%s", s.Registration)
	}
	if s.Damaged {
		b.WriteString(" damaged")
	}
	return b.String()
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// Follows checks that next may come after s in one life of etcd: an epoch never
// falls, and belongs to one holder, who may only give it up.
func (s *Shard) Follows(next *Shard) error {
	switch {
	case next.Epoch < s.Epoch:
		return fmt.Errorf("shard %d: the epoch fell from %d to %d", s.ID, s.Epoch, next.Epoch)
	case next.Epoch == s.Epoch && next.Current != "" && s.Epoch > 0 && !next.HeldBy(s.Current, s.Registration):
		return fmt.Errorf("shard %d: epoch %d had the holder %s#%s and has now %s#%s",
			s.ID, s.Epoch, s.Current, s.Registration, next.Current, next.Registration)
	}
	return nil
}

// Member is a live node as shards see it.
type Member struct {
	Address      string
	Registration string
	Draining     bool // it is leaving and takes no more shards
	Age          Age
}

// Age says how far a node is trusted to stay.
type Age uint8

const (
	Steady   Age = iota // here for the stability delay
	Young               // not yet: nothing moves to it that runs elsewhere
	Flapping            // young, as it was when its address was last lost: nothing is given to it while others are there
)

// Members are the live nodes, sorted by address.
type Members []Member

// Has says whether a node lives at address.
func (ms Members) Has(address string) bool {
	_, ok := ms.Find(address)
	return ok
}

// Registered says whether the registration lives, at that address.
func (ms Members) Registered(address, registration string) bool {
	m, ok := ms.Find(address)
	return ok && m.Registration == registration
}

// Find returns the node at address.
func (ms Members) Find(address string) (Member, bool) {
	if len(ms) == 1 {
		return ms[0], ms[0].Address == address
	}
	i, ok := slices.BinarySearchFunc(ms, address, func(m Member, a string) int { return strings.Compare(m.Address, a) })
	if !ok {
		return Member{}, false
	}
	return ms[i], true
}
