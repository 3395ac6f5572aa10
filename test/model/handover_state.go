package model

import (
	"fmt"
	"strings"
)

// handover is one moment of the Handover space. Sets of calls are bit masks.
type handover struct {
	calls   [maxCalls]callState
	nodes   [2]host
	alive   [2]uint8 // registrations that etcd keeps, 0 if none
	records [2]assignment
	frames  [3]frame // on the network
	hands   [2]hand  // on the way to etcd

	ran     uint8    // calls that were executed
	effects [2]uint8 // what each object must show: less only after a crash of its holder
	attempt [2]uint8 // hand-overs begun, of each shard

	registrations, losses, crashes, retargets, deadlines uint8
}

// caller is what a call is to the one who makes it.
type caller uint8

const (
	unborn      caller = iota
	asking             // made, and not answered for good
	answered           // executed, and the caller knows
	refused            // not executed, and the caller knows
	outcomeLost        // the caller does not know
)

// stay is what a call is to a node.
type stay uint8

const (
	elsewhere stay = iota
	parked
	queued
	running // has the turn
	lent    // has lent its turn to the calls that it made
)

// callState is a call in both eyes: of its caller, who asks one node at a time, and
// of each node.
type callState struct {
	caller caller
	asks   node
	hint   uint8 // the highest epoch that the caller was told
	at     [2]stay
	epoch  uint8 // of the shard, when the call took its turn
}

// assignment is a shard's record; its revision stands for its bytes.
type assignment struct {
	rev, epoch   uint8
	holder       node
	registration uint8
	target       node
	handover     uint8 // the hand-over's id, 0 if it was a claim
}

// host is a node.
type host struct {
	up           bool
	registration uint8
	view         [2]assignment
	slots        [2]slot
	kept         [2][2]kept // stages of each shard, by hand-over
}

type slotPhase uint8

const (
	closed   slotPhase = iota
	open               // executes
	emptying           // draining: executes what runs and what nested calls bring
	handing            // the door is shut, the hand-over is sent
	unsure             // the hand-over's outcome is unknown
)

// slot is a node's place for one shard, with the shard's one object in it.
type slot struct {
	phase slotPhase
	value uint8 // which calls the object has seen

	handover uint8 // of the drain under way
	to       uint8 // the registration that is sent the stage
	batch    bool  // it was handed over together with the other shard
	late     bool  // DoorWaitsForBatch: the door is shut, the transaction is not sent
	changed  bool  // a turn was taken since the snapshot
	staged   uint8 // the snapshot
	seq      uint8 // its number
	acked    uint8 // the latest number that was acknowledged
}

func (s *slot) executes() bool { return s.phase == open || s.phase == emptying }

// reopen ends a drain that did not come about.
func (s *slot) reopen() { *s = slot{phase: open, value: s.value} }

// kept is a stage at its target: aside, unreachable.
type kept struct{ handover, seq, value uint8 }

// frame is a stage on its way.
type frame struct {
	there                bool
	object               object
	to                   node
	registration         uint8
	handover, seq, value uint8
}

// hand is a hand-over transaction on its way, of one shard or of both: what it
// compares and what it writes. It applies whole or not at all.
type hand struct {
	objects        batch // none: there is no transaction
	by, to         node
	registration   uint8
	toRegistration uint8
	rev            [2]uint8
	handover       [2]uint8
}

// batch is the shards of a hand-over.
type batch [2]bool

func only(o object) (b batch) { b[o] = true; return b }

func (a assignment) names(n node, registration uint8) bool {
	return a.holder == n && a.registration == registration
}

// String shows each shard's record and holder, the calls under way and the effects.
func (s handover) String() string {
	var b strings.Builder
	for o := range object(2) {
		r := s.records[o]
		fmt.Fprintf(&b, "%s{r%d e%d %s>%s", o, r.rev, r.epoch, r.holder, r.target)
		for n := range node(2) {
			if slot := s.nodes[n].slots[o]; slot.phase != closed {
				fmt.Fprintf(&b, " %s:%s %06b", n, slotPhases[slot.phase], slot.value)
			}
		}
		b.WriteString("} ")
	}
	for k, c := range s.calls {
		if c.caller == asking || c.at != [2]stay{} {
			fmt.Fprintf(&b, "call%d?%s[%s%s] ", k+1, c.asks, stays[c.at[0]], stays[c.at[1]])
		}
	}
	fmt.Fprintf(&b, "ran %06b", s.ran)
	return b.String()
}

var slotPhases = [...]string{"closed", "open", "draining", "shut", "unsure"}
var stays = [...]string{"-", "p", "q", "R", "L"}
