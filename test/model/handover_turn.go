package model

// turnSteps are the life of a call on the node that took it in.
func (m *moving) turnSteps(k int, n node) {
	switch m.s.calls[k].at[n] {
	case parked:
		m.unpark(k, n)
	case queued:
		m.begin(k, n)
	case running:
		m.callOut(k, n)
	case lent:
		m.resume(k, n)
	}
}

// unpark: a shard that stays runs its parked calls, one that is gone answers them
// "not executed" with its next holder.
func (m *moving) unpark(k int, n node) {
	o := m.Plan.Calls[k].object
	t := *m.s
	switch slot := &m.s.nodes[n].slots[o]; {
	case slot.phase == open && m.Mutant != ParkedForgotten:
		t.calls[k].at[n] = queued
		m.step(n.String(), "unparks", m.Plan.Calls.name(k), &t)
	case slot.phase == closed:
		view := &m.s.nodes[n].view[o]
		t.calls[k].at[n] = elsewhere
		t.turnTo(k, view.holder, view.epoch)
		m.step(n.String(), "answers \"not executed\" to", m.Plan.Calls.name(k), &t)
	case slot.phase == handing && m.Mutant == ParkedRunsAfterAnswer:
		t.turnTo(k, n.other(), m.s.calls[k].hint)
		m.step(n.String(), "answers \"not executed\" too early to", m.Plan.Calls.name(k), &t)
	}
}

// begin takes the turn.
func (m *moving) begin(k int, n node) {
	o := m.Plan.Calls[k].object
	if !m.turnFree(k, n) {
		return
	}
	if c := &m.s.calls[k]; c.caller == refused || c.caller == asking && c.asks != n {
		m.breach(n.String(), "begins", m.Plan.Calls.name(k), NotExecuted)
		return
	}
	if m.strays(k, n) {
		m.refuseStray(k, n)
		return
	}
	t := *m.s
	t.calls[k].at[n], t.calls[k].epoch = running, m.s.nodes[n].view[o].epoch
	t.nodes[n].slots[o].changed = true
	m.step(n.String(), "begins", m.Plan.Calls.name(k), &t)
}

// strays says that a re-entrant call does not meet the turn that its chain has lent.
func (m *moving) strays(k int, n node) bool {
	for c := m.Plan.Calls[k]; !c.root; c = m.Plan.Calls[c.parent] {
		if m.Plan.Calls[c.parent].object == m.Plan.Calls[k].object && m.s.calls[c.parent].at[n] != lent {
			return true
		}
	}
	return false
}

// refuseStray: a node between the two turns died, so the lender went on, ended, and
// this call's chain is over.
func (m *moving) refuseStray(k int, n node) {
	if m.Mutant == StrayRuns {
		m.breach(n.String(), "begins", m.Plan.Calls.name(k), MeetsLender)
		return
	}
	t := *m.s
	if t.calls[k].at[n] = elsewhere; t.calls[k].caller == asking {
		t.calls[k].caller = refused
	}
	m.step(n.String(), "refuses the stray", m.Plan.Calls.name(k), &t)
}

// turnFree: nobody has the turn, or the chain itself has it and has lent it.
func (m *moving) turnFree(k int, n node) bool {
	for i := range m.Plan.Calls.all() {
		if m.Plan.Calls[i].object != m.Plan.Calls[k].object {
			continue
		}
		own := m.Plan.Calls[i].chain == m.Plan.Calls[k].chain && m.Mutant != ReentryWaitsForTurn
		if at := m.s.calls[i].at[n]; at == running || at == lent && !own {
			return false
		}
	}
	return true
}

// callOut makes all the calls of a call at once and lends them its turn; a call that
// makes none ends.
func (m *moving) callOut(k int, n node) {
	children := m.Plan.Calls.children(k)
	if len(children) == 0 {
		m.finish(k, n)
		return
	}
	t := *m.s
	t.calls[k].at[n] = lent
	for _, i := range children {
		view := &m.s.nodes[n].view[m.Plan.Calls[i].object]
		t.calls[i] = callState{caller: asking, asks: view.holder, hint: view.epoch}
	}
	m.step(n.String(), "lends the turn and calls out from", m.Plan.Calls.name(k), &t)
}

// resume: all calls below have ended, and no branch of the chain has the turn.
func (m *moving) resume(k int, n node) {
	for _, i := range m.Plan.Calls.children(k) {
		if m.s.calls[i].caller == asking {
			return
		}
	}
	for i := range m.Plan.Calls.all() {
		if m.Plan.Calls[i].object == m.Plan.Calls[k].object && m.s.calls[i].at[n] == running {
			return
		}
	}
	m.finish(k, n)
}

// finish leaves the call's effect, gives the turn back and answers.
func (m *moving) finish(k int, n node) {
	o, bit := m.Plan.Calls[k].object, uint8(1)<<k
	if m.s.ran&bit != 0 {
		m.breach(n.String(), "ends", m.Plan.Calls.name(k), OnceOnly)
		return
	}
	t := *m.s
	t.ran |= bit
	t.effects[o] |= bit
	t.nodes[n].slots[o].value |= bit
	t.calls[k].at[n] = elsewhere
	unheard := t
	if t.calls[k].caller == asking {
		t.calls[k].caller = answered
		if unheard.losses++; unheard.losses <= m.Bounds.Losses {
			unheard.giveUp(k)
			m.step(n.String(), "ends, answer lost,", m.Plan.Calls.name(k), &unheard)
		}
	}
	m.step(n.String(), "ends and answers", m.Plan.Calls.name(k), &t)
}

// findCycle: of two chains that wait for each other's turns, the younger one's call
// is answered "not executed".
func (m *moving) findCycle() {
	if m.Mutant == CycleNotFound {
		return
	}
	if _, waits := m.waitsFor(0, 1); !waits {
		return
	}
	if k, waits := m.waitsFor(1, 0); waits {
		t := *m.s
		t.calls[k].caller, t.calls[k].at = refused, [2]stay{}
		m.step("cluster", "finds a cycle and refuses", m.Plan.Calls.name(k), &t)
	}
}

// waitsFor finds a call of one chain that queues for a turn of another.
func (m *moving) waitsFor(chain, other uint8) (int, bool) {
	for k := range m.Plan.Calls.all() {
		for n := range node(2) {
			if m.Plan.Calls[k].chain == chain && m.s.calls[k].at[n] == queued && m.chainHas(other, n, m.Plan.Calls[k].object) {
				return k, true
			}
		}
	}
	return 0, false
}

func (m *moving) chainHas(chain uint8, n node, o object) bool {
	for i := range m.Plan.Calls.all() {
		if c := &m.Plan.Calls[i]; c.chain == chain && c.object == o && m.s.calls[i].at[n] >= running {
			return true
		}
	}
	return false
}

// turnTaken says that a call has the object's turn on a node, or has lent it.
func (h *Handover) turnTaken(s *handover, n node, o object) bool {
	for k := range h.Plan.Calls.all() {
		if h.Plan.Calls[k].object == o && s.calls[k].at[n] >= running {
			return true
		}
	}
	return false
}
