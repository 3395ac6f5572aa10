package model

// restart and crash: memory is lost, the lease goes on until etcd ends it.

func (m *owning) restart(n node) {
	t := *m.s
	t.nodes[n].up = true
	m.step(n.String(), "starts", &t)
	m.leaseEnds(n)
}

func (m *owning) crash(n node) {
	if m.s.crashes == m.Bounds.Crashes {
		return
	}
	t := *m.s
	t.forgiveVolatile(n)
	t.crashes++
	t.nodes[n] = member{view: record{holder: nobody, target: nobody}}
	m.step(n.String(), "crashes", &t)
}

// leaseSteps are the life of a registration: made, trusted until its local end,
// renewed, ended by etcd, missed.
func (m *owning) leaseSteps(n node) {
	x, alive := m.s.nodes[n], m.s.etcd.alive[n]
	if x.registration == 0 && alive == 0 && m.s.registrations < m.Bounds.Registrations {
		m.register(n)
	}
	if x.trusts() {
		t := *m.s
		t.nodes[n].trusted = false
		m.step(n.String(), "passes its deadline", &t)
	}
	if x.registration != 0 && !x.trusted && alive == x.registration {
		m.renew(n)
	}
	if alive != x.registration || !x.trusted || m.ClocksLie {
		m.leaseEnds(n)
	}
	if x.registration != 0 && alive != x.registration {
		m.learnLeaseGone(n)
	}
}

func (m *owning) register(n node) {
	t := *m.s
	t.registrations++
	t.etcd.alive[n] = t.registrations
	x := &t.nodes[n]
	x.registration, x.trusted, x.life = t.registrations, true, t.etcd.life
	m.step(n.String(), "registers", &t)
}

// renew comes after a gap: the node looks again whether the shard is still its own.
func (m *owning) renew(n node) {
	t := *m.s
	x := &t.nodes[n]
	x.trusted = true
	x.see(&t.etcd)
	if x.holds() && !x.named(n, t.etcd.record) {
		x.drop()
	}
	m.step(n.String(), "renews its lease", &t)
}

func (m *owning) leaseEnds(n node) {
	if m.s.etcd.alive[n] == 0 || m.s.expiries == m.Bounds.Expiries {
		return
	}
	t := *m.s
	t.etcd.alive[n] = 0
	t.expiries++
	t.forgiveVolatile(n)
	m.stepTo("etcd", "ends the lease of", n.String(), &t)
}

func (m *owning) learnLeaseGone(n node) {
	t := *m.s
	t.forgiveVolatile(n)
	x := &t.nodes[n]
	x.drop()
	x.registration, x.trusted, x.stage = 0, false, stage{}
	m.step(n.String(), "learns that its lease is gone", &t)
}

// watch brings a node's view up to date; a holder that is told it is not drops all.
func (m *owning) watch(n node) {
	x := m.s.nodes[n]
	if x.view == m.s.etcd.record && x.viewLife == m.s.etcd.life {
		return
	}
	t := *m.s
	y := &t.nodes[n]
	y.see(&t.etcd)
	told := x.holds() || x.phase == handUnsure && m.Mutant != ResolveLatestRevision
	if told && !x.named(n, t.etcd.record) {
		y.drop()
	}
	m.step(n.String(), "sees the record", &t)
}
