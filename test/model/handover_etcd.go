package model

// sendHand sends the transaction that names the next holder.
func (s *handover) sendHand(n node, b batch) bool {
	last := len(s.hands) - 1
	if s.hands[last].objects != (batch{}) {
		return false
	}
	x := &s.nodes[n]
	q := hand{objects: b, by: n, registration: x.registration}
	for o := range object(2) {
		if b[o] {
			q.to, q.toRegistration = x.view[o].target, x.slots[o].to
			q.rev[o], q.handover[o] = x.view[o].rev, x.slots[o].handover
		}
	}
	for i := range s.hands {
		if s.hands[i].objects == (batch{}) {
			s.hands[i] = q
			return true
		}
	}
	return false
}

// handSteps let each hand-over apply or fail, and lose its request or its answer.
func (m *moving) handSteps() {
	for i, q := range m.s.hands {
		if q.objects == (batch{}) {
			continue
		}
		t := *m.s
		t.takeHand(i)
		missed := t
		ok := m.handOver(&t, &q)
		unheard := t
		m.answer(&t, &q)
		m.step("etcd", handed[index(ok)][1], q.objects.String(), &t)
		if unheard.losses++; unheard.losses <= m.Bounds.Losses {
			m.miss(&unheard, &q, MoveLostAnswerIsFailure)
			m.step("etcd", handed[index(ok)][0], q.objects.String(), &unheard)
		}
		if missed.losses++; missed.losses <= m.Bounds.Losses {
			m.miss(&missed, &q, Intact)
			m.step("etcd", "never gets the hand-over of", q.objects.String(), &missed)
		}
	}
}

// handed names what etcd did: it refuses or applies, and the answer is lost or arrives.
var handed = [2][2]string{
	{"refuses, answer lost, the hand-over of", "refuses the hand-over of"},
	{"applies, answer lost, the hand-over of", "applies the hand-over of"},
}

func (s *handover) takeHand(i int) {
	copy(s.hands[i:], s.hands[i+1:])
	s.hands[len(s.hands)-1] = hand{}
}

// handOver is one step for the whole batch: no moment without a holder.
func (m *moving) handOver(t *handover, q *hand) bool {
	applies := batch{}
	for o := range object(2) {
		applies[o] = q.objects[o] && m.admits(q, o)
	}
	if applies != q.objects && m.Mutant != BatchAppliesInParts {
		return false
	}
	for o := range object(2) {
		if r := &t.records[o]; applies[o] {
			r.rev++
			r.epoch++
			r.holder, r.registration, r.target, r.handover = q.to, t.alive[q.to], q.to, q.handover[o]
		}
	}
	return applies == q.objects
}

func (m *moving) admits(q *hand, o object) bool {
	return m.s.records[o].rev == q.rev[o] && m.s.alive[q.by] == q.registration &&
		(m.s.alive[q.to] == q.toRegistration || m.Mutant == MoveTargetNotCompared && m.s.alive[q.to] != 0)
}

// answer tells the sender, if it still waits: a hand-over that surely failed leaves
// the shards where they were, at the same epoch.
func (m *moving) answer(t *handover, q *hand) {
	for o := range object(2) {
		if slot := t.waitsFor(q, o); slot != nil {
			t.see(q.by, o)
			if slot.phase != closed {
				slot.reopen()
			}
		}
	}
}

// miss: the outcome is unknown to the sender, which a mutant takes for failure.
func (m *moving) miss(t *handover, q *hand, mutant Mutant) {
	for o := range object(2) {
		if slot := t.waitsFor(q, o); slot != nil {
			m.unsure(t, q.by, o)
			if mutant != Intact && m.Mutant == mutant {
				slot.reopen()
			}
		}
	}
}

// waitsFor is the slot of the hand-over's sender, nil if it waits no more.
func (s *handover) waitsFor(q *hand, o object) *slot {
	x := &s.nodes[q.by]
	slot := &x.slots[o]
	if !q.objects[o] || !x.up || x.registration != q.registration || slot.phase != handing || slot.handover != q.handover[o] {
		return nil
	}
	return slot
}

// resolve poisons a hand-over of unknown outcome by a write that changes nothing but
// the revision that it compares. One success frees the whole batch, which applies
// whole or not at all.
func (m *moving) resolve(n node, o object) {
	t := *m.s
	x := &t.nodes[n]
	unchanged := t.records[o].rev == x.view[o].rev
	if unchanged && m.Mutant != MoveResolvedByRead {
		t.records[o].rev++
	}
	t.see(n, o)
	if x.slots[o].phase != closed && (unchanged || m.Mutant == MoveResolvedByRead) {
		if x.slots[o].batch && x.slots[1-o].batch {
			x.slots[1-o].reopen()
		}
		x.slots[o].reopen()
	}
	m.step(n.String(), "resolves the hand-over of", o.String(), &t)
}

// leaderSteps change the target: away from a node that is gone, or on second thoughts.
func (m *moving) leaderSteps(o object) {
	r := &m.s.records[o]
	to, away := r.target.other(), m.s.alive[r.target] == 0
	if m.s.alive[to] == 0 || m.s.alive[r.holder] != r.registration {
		return
	}
	t := *m.s
	if !away {
		t.retargets++
	}
	if t.retargets > m.Bounds.Retargets {
		return
	}
	t.records[o].target = to
	t.records[o].rev++
	m.step("leader", "targets the other node with", o.String(), &t)
}
