package model

// Ownership is who holds a shard and whose write counts: two nodes, one shard with
// one durable object and one volatile one, an etcd and a database that answer late,
// twice or never.
type Ownership struct {
	Bounds OwnershipBounds
	Mutant Mutant

	ClocksLie  bool // a lease may end while its node still trusts it
	AcksOnly   bool // check acknowledged writes, not reads nor the volatile object
	Degraded   bool // a node past its deadline goes on through fenced statements
	NoVolatile bool // there is no volatile object
}

// OwnershipBounds says how often a thing may happen.
type OwnershipBounds struct {
	Writes, VolatileWrites   uint8
	Registrations            uint8 // of both nodes
	Crashes, Expiries, Wipes uint8
	Retargets                uint8
	Losses                   uint8 // of requests and answers, time-outs included
	Revision                 uint8 // of etcd
}

// Start has two nodes up and unregistered, and the shard targeted at the first.
func (o Ownership) Start() ownership {
	return ownership{
		etcd:  etcd{record: record{holder: nobody}},
		nodes: [2]member{{up: true, view: record{holder: nobody}}, {up: true, view: record{holder: nobody}}},
	}
}

// Next takes every step of both nodes, the leader, etcd and the database.
func (o Ownership) Next(s ownership, take func(Step, ownership)) {
	m := &owning{Ownership: o, s: &s, take: take}
	for n := range node(2) {
		m.nodeSteps(n)
	}
	m.leaderSteps()
	m.etcdSteps()
	m.databaseSteps()
}

// Broken checks what each state must show; the steps check what is read.
func (o Ownership) Broken(s *ownership) Invariant {
	if s.acked&^s.db.value != 0 {
		return NoLostWrite
	}
	if !o.ClocksLie && s.nodes[0].lives() && s.nodes[1].lives() {
		return OneHolder
	}
	return ""
}

// Waiting is empty: this space asks what may happen, never what must.
func (o Ownership) Waiting(*ownership) string { return "" }

// owning is one state and the steps out of it.
type owning struct {
	Ownership
	s    *ownership
	take func(Step, ownership)
}

// step takes a step that leads to t, unless it leads out of bounds.
func (m *owning) step(who, what string, t *ownership) { m.stepTo(who, what, "", t) }

func (m *owning) stepTo(who, what, whom string, t *ownership) {
	if t.etcd.record.rev <= m.Bounds.Revision {
		m.take(Step{Who: who, What: what, Whom: whom}, *t)
	}
}

// breach takes a step that changes nothing and must not be possible.
func (m *owning) breach(who, what string, broken Invariant) {
	m.take(Step{Who: who, What: what, Breach: broken}, *m.s)
}

func (m *owning) checksVolatile() bool { return !m.AcksOnly && !m.NoVolatile }

// nodeSteps are what one node may do or suffer.
func (m *owning) nodeSteps(n node) {
	if !m.s.nodes[n].up {
		m.restart(n)
		return
	}
	m.crash(n)
	m.leaseSteps(n)
	m.watch(n)
	if m.Degraded {
		m.degradedSteps(n)
	}
	m.repeatSave(n)
	if m.s.nodes[n].trusts() {
		m.claimSteps(n)
		m.activationSteps(n)
		m.callSteps(n)
		m.drainSteps(n)
	}
}
