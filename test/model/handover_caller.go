package model

// callerSteps: a client makes a root call, a node takes the call in or says who
// else should, and a client loses patience.
func (m *moving) callerSteps(k int) {
	c := &m.s.calls[k]
	switch {
	case c.caller == unborn && m.Plan.Calls[k].root:
		t := *m.s
		holder := m.Plan.Holders[m.Plan.Calls[k].object]
		t.calls[k] = callState{caller: asking, asks: holder, hint: 1}
		m.step("client", "makes", m.Plan.Calls.name(k), &t)
	case c.caller == asking && c.at[c.asks] == elsewhere:
		m.arrive(k)
	}
	if m.Plan.Calls[k].root {
		m.losePatience(k)
	}
}

// losePatience: a client that waits no longer does not know whether its call ran, and
// so must not make it again.
func (m *moving) losePatience(k int) {
	t, ok := m.lose()
	if c := &m.s.calls[k]; c.caller == asking && ok {
		t.calls[k].caller = outcomeLost
		m.step("client", "waits no longer for", m.Plan.Calls.name(k), &t)
	} else if c.caller == outcomeLost && m.Mutant == ResentAfterUnknown {
		t = *m.s
		t.calls[k].caller = asking
		m.step("client", "makes again", m.Plan.Calls.name(k), &t)
	}
}

// arrive is a call at the node that it asks. What is answered with "ask again" is
// not a step: the call still asks.
func (m *moving) arrive(k int) {
	c, o := &m.s.calls[k], m.Plan.Calls[k].object
	n := c.asks
	switch phase := m.s.nodes[n].slots[o].phase; {
	case !m.s.nodes[n].up:
		m.askHolder(k)
	case m.parks(k, phase):
		m.park(k)
	case phase == open || phase == emptying || phase == handing && m.Mutant == AdmitsBehindDoor:
		m.admit(k)
	case phase == closed:
		m.redirect(k, n)
	default:
		m.askPast(k)
	}
}

// parks: a shard that is about to go takes root calls aside, and nested ones never.
func (m *moving) parks(k int, phase slotPhase) bool {
	if m.Mutant == NestedParked && phase == emptying {
		return true
	}
	return m.Plan.Calls[k].root && phase > open
}

func (m *moving) park(k int) {
	n, o := m.s.calls[k].asks, m.Plan.Calls[k].object
	if m.parked(m.s, n, o) >= m.Bounds.Parked && m.Mutant != ParkedWithoutBound {
		return // MOVING: the call asks again
	}
	t := *m.s
	t.calls[k].at[n] = parked
	m.step(n.String(), "parks", m.Plan.Calls.name(k), &t)
}

func (m *moving) admit(k int) {
	n, o := m.s.calls[k].asks, m.Plan.Calls[k].object
	if m.Mutant == ParkedBlockNested && m.parked(m.s, n, o) > 0 {
		return
	}
	t := *m.s
	if m.stale(k, n) && m.Mutant != StaleCallerAdmitted {
		t.calls[k].caller = refused
		m.step(n.String(), "refuses the stale caller of", m.Plan.Calls.name(k), &t)
		return
	}
	t.calls[k].at[n] = queued
	m.step(n.String(), "admits", m.Plan.Calls.name(k), &t)
}

// stale says that a turn in the call's path belongs to an epoch that the node knows
// to have ended: whoever had that turn is gone.
func (m *moving) stale(k int, n node) bool {
	for c := m.Plan.Calls[k]; !c.root; c = m.Plan.Calls[c.parent] {
		if up := m.Plan.Calls[c.parent]; m.s.calls[c.parent].epoch < m.s.nodes[n].view[up.object].epoch {
			return true
		}
	}
	return false
}

// redirect answers "not executed" with what the node knows, if that is no less than
// what the caller was told; else the node waits for its watch.
func (m *moving) redirect(k int, by node) {
	o := m.Plan.Calls[k].object
	view := &m.s.nodes[by].view[o]
	if view.epoch < m.s.calls[k].hint || view.holder == by {
		return
	}
	t := *m.s
	t.turnTo(k, view.holder, view.epoch)
	m.step(by.String(), "answers \"not executed\" to", m.Plan.Calls.name(k), &t)
}

func (s *handover) turnTo(k int, n node, hint uint8) {
	s.calls[k].asks, s.calls[k].hint = n, hint
}

// askPast: behind a shut door nested calls are answered "not executed". The caller
// goes to the next holder as soon as its own view or that node's has the new epoch.
func (m *moving) askPast(k int) {
	o := m.Plan.Calls[k].object
	for n := range m.s.nodes {
		view := &m.s.nodes[n].view[o]
		if m.s.nodes[n].up && view.epoch > m.s.calls[k].hint && view.holder != m.s.calls[k].asks {
			t := *m.s
			t.turnTo(k, view.holder, view.epoch)
			m.step("caller", "turns to the next holder with", m.Plan.Calls.name(k), &t)
			return
		}
	}
}

// askHolder: nobody listens at the node, so nothing was executed.
func (m *moving) askHolder(k int) {
	r := &m.s.records[m.Plan.Calls[k].object]
	if r.holder == m.s.calls[k].asks || !m.s.nodes[r.holder].up {
		return
	}
	t := *m.s
	t.turnTo(k, r.holder, r.epoch)
	m.step("caller", "finds nobody, and turns to the holder with", m.Plan.Calls.name(k), &t)
}

// parked counts the calls that a node has parked for an object's shard.
func (h *Handover) parked(s *handover, n node, o object) (count uint8) {
	for k := range h.Plan.Calls.all() {
		if h.Plan.Calls[k].object == o && s.calls[k].at[n] == parked {
			count++
		}
	}
	return count
}
