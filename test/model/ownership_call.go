package model

// callSteps are the calls on an active shard: writes and reads of the durable
// object, and of the volatile one. A reply waits until the save it saw is settled.
func (m *owning) callSteps(n node) {
	x := m.s.nodes[n]
	if x.phase != active {
		return
	}
	settled := x.loaded && !m.s.saveUnderWay(n)
	accepts := x.view.target == n
	if accepts && settled {
		m.write(n, "writes")
	}
	if settled && !m.AcksOnly && x.memory&m.s.acked != m.s.acked {
		m.breach(n.String(), "answers a read", FreshRead)
	}
	if accepts && m.s.issuedVolatile < m.Bounds.VolatileWrites {
		t := *m.s
		bit := uint8(1) << t.issuedVolatile
		t.issuedVolatile++
		t.nodes[n].volatile |= bit
		t.ackedVolatile |= bit
		m.step(n.String(), "writes the volatile object", &t)
	}
	if m.checksVolatile() && x.volatile&m.s.ackedVolatile != m.s.ackedVolatile {
		m.breach(n.String(), "answers a volatile read", NoLostEffect)
	}
}

// write changes the durable object in memory and sends its save.
func (m *owning) write(n node, what string) {
	if m.s.issued == m.Bounds.Writes {
		return
	}
	t := *m.s
	bit := uint8(1) << t.issued
	t.issued++
	t.nodes[n].memory |= bit
	if !t.sendSave(n, bit) {
		return
	}
	if m.Mutant == AckBeforeSave {
		t.acked |= bit
	}
	m.step(n.String(), what, &t)
}

// sendSave saves what is in memory; bit is the write that it is about.
func (s *ownership) sendSave(n node, bit uint8) bool {
	x := s.nodes[n]
	return s.db.send(request{kind: saveRequest, by: n, registration: x.registration,
		epoch: x.epoch, base: x.version, value: x.memory, bit: bit})
}

// repeatSave sends a save of unknown outcome again, unchanged: the version lets in
// at most one of its copies.
func (m *owning) repeatSave(n node) {
	x, t := m.s.nodes[n], *m.s
	if x.unknown == 0 || x.phase != active && x.phase != draining {
		return
	}
	t.nodes[n].unknown = 0
	if t.sendSave(n, x.unknown) {
		m.step(n.String(), "repeats its save", &t)
	}
}

// degradedSteps: past its deadline a node still answers what the database confirms
// under the fence.
func (m *owning) degradedSteps(n node) {
	x := m.s.nodes[n]
	if x.registration == 0 || x.trusted || x.phase != active || !x.loaded || m.s.saveUnderWay(n) {
		return
	}
	if m.s.db.admits(n, x.registration, x.epoch) && m.s.db.version == x.version && x.memory&m.s.acked != m.s.acked {
		m.breach(n.String(), "answers a read through the fence", FreshRead)
	}
	m.write(n, "writes through the fence")
}
