package model

// slotSteps are what a node does with one shard: open it, empty it, hand it over.
func (m *moving) slotSteps(n node, o object) {
	if !m.s.nodes[n].up {
		return
	}
	m.see(n, o)
	switch m.s.nodes[n].slots[o].phase {
	case closed:
		m.open(n, o)
	case open:
		m.drain(n, o)
	case emptying:
		if m.s.nodes[n].view[o].target != n {
			m.snapshot(n, o)
			m.resend(n, o)
			m.shut(n, only(o))
		}
		m.giveUp(n, o)
	case handing:
		m.sendLate(n, o)
		m.giveUpWaiting(n, o)
	case unsure:
		m.resolve(n, o)
	}
}

// see is the watch: a holder that is told it is not closes the slot.
func (m *moving) see(n node, o object) {
	if m.s.nodes[n].view[o] == m.s.records[o] {
		return
	}
	t := *m.s
	t.see(n, o)
	m.step(n.String(), "sees the record of", o.String(), &t)
}

func (s *handover) see(n node, o object) {
	x := &s.nodes[n]
	before := x.view[o].epoch
	x.view[o] = s.records[o]
	if !x.view[o].names(n, x.registration) || x.view[o].epoch != before {
		x.slots[o] = slot{}
	}
}

// open takes up a shard that the record gives to this node, with the stage of
// exactly that hand-over.
func (m *moving) open(n node, o object) {
	x := &m.s.nodes[n]
	if !x.view[o].names(n, x.registration) {
		return
	}
	t := *m.s
	y := &t.nodes[n]
	y.slots[o] = slot{phase: open, value: m.stageOf(x, o)}
	y.kept[o] = [2]kept{}
	m.step(n.String(), "opens the shard of", o.String(), &t)
}

func (m *moving) stageOf(x *host, o object) uint8 {
	for _, k := range x.kept[o] {
		if k.seq != 0 && (k.handover == x.view[o].handover || m.Mutant == HandoverIDIgnored) {
			return k.value
		}
	}
	return 0
}

// drain begins a hand-over under a fresh id: root calls that still queue are parked.
func (m *moving) drain(n node, o object) {
	if m.s.nodes[n].view[o].target == n {
		return
	}
	t := *m.s
	if m.Mutant != HandoverIDReused || t.attempt[o] == 0 {
		t.attempt[o]++
	}
	slot := &t.nodes[n].slots[o]
	slot.phase, slot.handover, slot.changed = emptying, t.attempt[o], true
	for k := range m.Plan.Calls.all() {
		if c := &m.Plan.Calls[k]; c.object == o && c.root && t.calls[k].at[n] == queued {
			t.calls[k].at[n] = parked
			if m.parked(&t, n, o) > m.Bounds.Parked && m.Mutant != ParkedWithoutBound {
				t.calls[k].at[n] = elsewhere
			}
		}
	}
	m.step(n.String(), "drains the shard of", o.String(), &t)
}

// giveUp: the drain took too long, the target is gone, or the leader thinks again.
func (m *moving) giveUp(n node, o object) {
	x, t := &m.s.nodes[n], *m.s
	gone := x.slots[o].to != 0 && m.s.alive[n.other()] != x.slots[o].to
	if x.view[o].target != n && !gone {
		t.deadlines++
	}
	if t.deadlines > m.Bounds.Deadlines {
		return
	}
	t.nodes[n].slots[o].reopen()
	m.step(n.String(), "gives up draining the shard of", o.String(), &t)
}

// atRest: no turn of the object is taken or lent, and no call queues for it.
func (m *moving) atRest(n node, o object) bool {
	for k := range m.Plan.Calls.all() {
		at := m.s.calls[k].at[n]
		if m.Plan.Calls[k].object == o && at >= queued && (at != lent || m.Mutant != LentTurnAtRest) {
			return false
		}
	}
	return true
}

// ready says that a shard may go: its object is at rest and the target has its
// latest state.
func (m *moving) ready(n node, o object) bool {
	x := &m.s.nodes[n].slots[o]
	rests := !x.changed && m.atRest(n, o) || m.Mutant == DoorShutsOnRunningCall
	return x.phase == emptying && x.seq > 0 && rests && (x.acked == x.seq || m.Mutant == ShutWithoutAck)
}

// shut closes the doors of a batch and sends its hand-over, in one step.
func (m *moving) shut(n node, b batch) {
	t := *m.s
	for o := range object(2) {
		if !b[o] {
			continue
		}
		if !m.ready(n, o) {
			return
		}
		slot := &t.nodes[n].slots[o]
		slot.phase, slot.batch, slot.late = handing, b[1-o], m.Mutant == DoorWaitsForBatch
	}
	if m.Mutant == DoorWaitsForBatch || t.sendHand(n, b) {
		m.step(n.String(), "shuts the door and hands over", b.String(), &t)
	}
}

// shutBoth hands both shards over in one transaction.
func (m *moving) shutBoth(n node) {
	if view := &m.s.nodes[n].view; m.s.nodes[n].up && view[0].target != n && view[1].target != n && m.sameTarget(n) {
		m.shut(n, batch{true, true})
	}
}

func (m *moving) sameTarget(n node) bool {
	slots := &m.s.nodes[n].slots
	return slots[0].to == slots[1].to
}

// sendLate is the second half of a shut that was torn in two.
func (m *moving) sendLate(n node, o object) {
	if !m.s.nodes[n].slots[o].late || m.s.nodes[n].slots[1-o].phase == emptying {
		return
	}
	t := *m.s
	if t.nodes[n].slots[o].late = false; t.sendHand(n, only(o)) {
		m.step(n.String(), "hands over", o.String(), &t)
	}
}

// giveUpWaiting: the hand-over is still on its way.
func (m *moving) giveUpWaiting(n node, o object) {
	if t, ok := m.lose(); ok {
		m.unsure(&t, n, o)
		m.step(n.String(), "waits no longer for the hand-over of", o.String(), &t)
	}
}

func (m *moving) unsure(t *handover, n node, o object) {
	slot := &t.nodes[n].slots[o]
	slot.phase = unsure
	if m.Mutant == ReopenUnsure {
		slot.reopen()
	}
}
