package model

// lifeSteps are a node's crash, the end of its lease, its restart as another
// registration, and its claims of shards whose holder is gone.
func (m *moving) lifeSteps(n node) {
	x, t := &m.s.nodes[n], *m.s
	switch {
	case x.up:
		for o := range object(2) {
			m.claim(n, o)
		}
		if m.s.crashes < m.Bounds.Crashes {
			m.crash(n)
		}
	case m.s.alive[n] != 0:
		t.alive[n] = 0
		m.step("etcd", "ends the lease of", n.String(), &t)
	default:
		t.registrations++
		t.alive[n] = t.registrations
		t.nodes[n] = host{up: true, registration: t.registrations, view: t.records}
		m.step(n.String(), "starts", "", &t)
	}
}

// crash loses what the node had in memory. Who asked it does not know whether the
// call ran; what it asked goes on without a caller.
func (m *moving) crash(n node) {
	t := *m.s
	t.crashes++
	t.nodes[n] = host{}
	for k := range m.Plan.Calls.all() {
		if m.s.calls[k].at[n] == elsewhere {
			continue
		}
		t.calls[k].at[n] = elsewhere
		t.giveUp(k)
		for _, i := range m.Plan.Calls.children(k) {
			t.giveUp(i)
		}
	}
	m.step(n.String(), "crashes", "", &t)
}

func (s *handover) giveUp(k int) {
	if s.calls[k].caller == asking {
		s.calls[k].caller = outcomeLost
	}
}

// claim takes over a shard whose holder is gone. Its volatile state is lost.
func (m *moving) claim(n node, o object) {
	r := &m.s.records[o]
	if m.s.alive[r.holder] == r.registration {
		return
	}
	t := *m.s
	t.effects[o] = 0
	t.records[o] = assignment{rev: r.rev + 1, epoch: r.epoch + 1, holder: n, registration: m.s.nodes[n].registration, target: n}
	m.step(n.String(), "claims the shard of", o.String(), &t)
}
