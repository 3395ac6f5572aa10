package model

// Handover is a planned move: two nodes, two shards with one volatile object each, A
// and B, and chains of calls that go on while the shards drain, are staged and
// change hands.
type Handover struct {
	Plan   Plan
	Bounds HandoverBounds
	Mutant Mutant
}

// Plan is what is to happen: who holds the two shards, who shall, and who calls.
type Plan struct {
	Holders, Targets [2]node // of A's shard and B's
	Calls            Calls
}

// HandoverBounds says how many calls a shard may park, and how often a fault may
// happen. The zero value but for Parked is a run without faults.
type HandoverBounds struct {
	Parked    uint8
	Losses    uint8 // of frames, acknowledgements, transactions and their answers, and of a client's patience
	Crashes   uint8
	Retargets uint8 // a change of the leader's mind
	Deadlines uint8 // drains given up
}

// Start has the shards held and targeted as planned, and no call made.
func (h Handover) Start() handover {
	s := handover{registrations: 2}
	for n := range node(2) {
		s.nodes[n].up = true
		s.nodes[n].registration, s.alive[n] = uint8(n)+1, uint8(n)+1
	}
	for o := range object(2) {
		holder := h.Plan.Holders[o]
		s.records[o] = assignment{rev: 1, epoch: 1, holder: holder, registration: s.alive[holder], target: h.Plan.Targets[o]}
		s.nodes[holder].slots[o].phase = open
		for n := range s.nodes {
			s.nodes[n].view[o] = s.records[o]
		}
	}
	return s
}

// Next takes every step of callers, turns, nodes, the network and etcd.
func (h Handover) Next(s handover, take func(Step, handover)) {
	m := &moving{Handover: h, s: &s, take: take}
	for k := range h.Plan.Calls.all() {
		m.callerSteps(k)
		for n := range node(2) {
			m.turnSteps(k, n)
		}
	}
	m.findCycle()
	for n := range node(2) {
		m.lifeSteps(n)
		for o := range object(2) {
			m.slotSteps(n, o)
		}
		m.shutBoth(n)
	}
	m.stageSteps()
	m.handSteps()
	for o := range object(2) {
		m.leaderSteps(o)
	}
}

// Broken checks that an object lives on one node, with every effect, and that no
// shard parks more than it may.
func (h Handover) Broken(s *handover) Invariant {
	for o := range object(2) {
		if h.twice(s, o) {
			return OneHolder
		}
		for n := range node(2) {
			if slot := &s.nodes[n].slots[o]; slot.executes() && slot.value != s.effects[o] {
				return NoLostEffect
			}
			if h.parked(s, n, o) > h.Bounds.Parked {
				return Bounded
			}
		}
	}
	return ""
}

// twice says that both nodes execute the object, or could.
func (h Handover) twice(s *handover, o object) bool {
	live := [2]bool{}
	for n := range node(2) {
		live[n] = s.nodes[n].slots[o].executes() || h.turnTaken(s, n, o)
	}
	return live[0] && live[1]
}

// Waiting says which call has not ended, or which shard is not where it should be.
func (h Handover) Waiting(s *handover) string {
	for k := range h.Plan.Calls.all() {
		if c := &s.calls[k]; c.caller == asking || c.caller == unborn && h.Plan.Calls[k].root || c.at != [2]stay{} {
			return "a call"
		}
	}
	for _, r := range s.records {
		if r.holder != r.target || s.alive[r.holder] != r.registration {
			return "a drain"
		}
	}
	for o := range object(2) {
		if s.nodes[s.records[o].holder].slots[o].phase != open {
			return "a holder"
		}
	}
	return ""
}

// moving is one state and the steps out of it.
type moving struct {
	Handover
	s    *handover
	take func(Step, handover)
}

func (m *moving) step(who, what, whom string, t *handover) {
	m.take(Step{Who: who, What: what, Whom: whom}, *t)
}

func (m *moving) breach(who, what, whom string, broken Invariant) {
	m.take(Step{Who: who, What: what, Whom: whom, Breach: broken}, *m.s)
}

// lose spends one of the losses that the bounds allow.
func (m *moving) lose() (handover, bool) {
	t := *m.s
	t.losses++
	return t, t.losses <= m.Bounds.Losses
}
