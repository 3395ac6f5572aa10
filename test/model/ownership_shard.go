package model

// claimSteps take up a shard that is targeted here: by a transaction, or because the
// record names this registration already.
func (m *owning) claimSteps(n node) {
	x := m.s.nodes[n]
	mine := x.view.names(n, x.registration)
	switch {
	case x.phase == without && mine:
		m.adopt(n)
	case x.phase == without && x.view.target == n:
		m.sendClaim(n)
	case x.phase == claimUnsure:
		m.resolveClaim(n)
	case x.phase == handUnsure:
		m.resolveHandover(n)
	}
}

func (m *owning) adopt(n node) {
	t := *m.s
	t.nodes[n].phase, t.nodes[n].epoch = claimed, t.nodes[n].view.epoch
	m.step(n.String(), "finds itself the holder", &t)
}

func (m *owning) sendClaim(n node) {
	x, t := m.s.nodes[n], *m.s
	claim := txn{kind: claimTxn, by: n, registration: x.registration,
		rev: x.view.rev, life: x.viewLife, dead: x.view.holder, deadRegistration: x.view.registration}
	if t.etcd.send(claim) {
		t.nodes[n].phase = claimUnsure
		m.step(n.String(), "sends a claim", &t)
	}
}

// resolveClaim reads: an unknown claim is harmless, for if it lands later the node
// finds itself the holder.
func (m *owning) resolveClaim(n node) {
	t := *m.s
	x := &t.nodes[n]
	x.see(&t.etcd)
	x.phase = without
	if t.etcd.record.names(n, x.registration) {
		x.phase, x.epoch = claimed, t.etcd.record.epoch
	}
	m.step(n.String(), "reads how its claim ended", &t)
}

// activationSteps lead from named in etcd to able to execute.
func (m *owning) activationSteps(n node) {
	x := m.s.nodes[n]
	if x.phase == claimed {
		m.stamp(n)
		if m.Mutant == LoadBeforeStamp && !x.loaded {
			t := *m.s
			t.load(n)
			m.step(n.String(), "loads before the stamp", &t)
		}
	}
	if x.phase == stamped {
		m.activate(n)
	}
	if x.phase == active && !x.loaded {
		t := *m.s
		t.load(n)
		m.step(n.String(), "loads anew", &t)
	}
}

func (m *owning) stamp(n node) {
	x, t := m.s.nodes[n], *m.s
	if m.Mutant == NoStamp {
		t.nodes[n].phase = stamped
		m.step(n.String(), "skips the stamp", &t)
		return
	}
	if !m.s.stampUnderWay(n) && t.db.send(request{kind: stampRequest, by: n, registration: x.registration, epoch: x.epoch}) {
		m.step(n.String(), "sends the stamp", &t)
	}
}

// activate loads the durable object, and the volatile one from its stage.
func (m *owning) activate(n node) {
	t := *m.s
	x := &t.nodes[n]
	if !(m.Mutant == LoadBeforeStamp && x.loaded) {
		t.load(n)
	}
	x.phase, x.volatile = active, 0
	if x.stage.held && x.stage.epoch == x.epoch {
		x.volatile = x.stage.value
	}
	x.stage = stage{}
	step := Step{Who: n.String(), What: "loads and activates"}
	if m.checksVolatile() && x.volatile&m.s.ackedVolatile != m.s.ackedVolatile {
		step.Breach = NoLostEffect
	}
	m.take(step, t)
}

func (s *ownership) load(n node) {
	x := &s.nodes[n]
	x.memory, x.version, x.loaded = s.db.value, s.db.version, true
}

// drainSteps empty a shard whose target is another node, and hand it over.
func (m *owning) drainSteps(n node) {
	x, t := m.s.nodes[n], *m.s
	switch {
	case x.phase == active && x.view.target != n:
		t.nodes[n].phase = draining
		m.step(n.String(), "drains", &t)
	case x.phase == draining && x.view.target == n:
		t.nodes[n].phase = active
		m.step(n.String(), "is the target again", &t)
	case x.phase == draining && x.view.target == n.other():
		m.handOver(n)
	}
}

// handOver stages the volatile object at the target and sends the transaction.
func (m *owning) handOver(n node) {
	x, to := m.s.nodes[n], m.s.nodes[n.other()]
	flushed := !m.s.saveUnderWay(n) || m.Mutant == NoFlush
	if !flushed || !to.up || to.registration == 0 || to.registration != m.s.etcd.alive[n.other()] {
		return
	}
	t := *m.s
	t.nodes[n.other()].stage = stage{held: true, value: x.volatile, epoch: x.epoch + 1}
	hand := txn{kind: handTxn, by: n, registration: x.registration,
		rev: x.view.rev, life: x.viewLife, to: n.other(), toRegistration: to.registration}
	if t.etcd.send(hand) {
		t.nodes[n].phase = handUnsure
		m.step(n.String(), "stages and sends the hand-over", &t)
	}
}

// resolveHandover ends an unknown hand-over by a write that changes nothing but the
// record's revision, so that the transaction can apply no more.
func (m *owning) resolveHandover(n node) {
	if m.Mutant == ResolveByRead {
		m.resolveHandoverByRead(n)
		return
	}
	x, t := m.s.nodes[n], *m.s
	same := t.etcd.alive[n] == x.registration && t.etcd.record.rev == x.view.rev && x.viewLife == t.etcd.life
	if m.Mutant != ResolveLatestRevision {
		same = same && x.named(n, x.view)
	}
	y := &t.nodes[n]
	switch {
	case same:
		t.etcd.record.rev++
		y.see(&t.etcd)
		y.phase = active
	default: // the leader's write came between: the node tries again; or the shard is gone
		y.see(&t.etcd)
		if !x.named(n, t.etcd.record) {
			y.drop()
		}
	}
	m.step(n.String(), "poisons its hand-over", &t)
}

func (m *owning) resolveHandoverByRead(n node) {
	t := *m.s
	x := &t.nodes[n]
	x.see(&t.etcd)
	if x.named(n, t.etcd.record) {
		x.phase = active
	} else {
		x.drop()
	}
	m.step(n.String(), "reads how its hand-over ended", &t)
}
