package model

import "cmp"

// snapshot sends the object's state to the target: under its turn, when nothing runs.
func (m *moving) snapshot(n node, o object) {
	x := &m.s.nodes[n].slots[o]
	target := m.s.nodes[n].view[o].target
	if !x.changed || m.s.alive[target] == 0 || !m.atRest(n, o) && m.Mutant != SnapshotWithoutTurn {
		return
	}
	t := *m.s
	y := &t.nodes[n].slots[o]
	y.changed, y.staged = false, y.value
	y.seq++
	if y.to == 0 {
		y.to = m.s.alive[target]
	}
	if t.sendStage(n, o) {
		m.step(n.String(), "stages", o.String(), &t)
	}
}

// resend: the latest frame was not acknowledged in time. With a copy still on its
// way, that is a loss of patience.
func (m *moving) resend(n node, o object) {
	x := &m.s.nodes[n].slots[o]
	if x.changed || x.acked == x.seq {
		return
	}
	t := *m.s
	if m.s.onTheWay(o, x) {
		t.losses++
	}
	if t.losses <= m.Bounds.Losses && t.sendStage(n, o) {
		m.step(n.String(), "stages again", o.String(), &t)
	}
}

func (s *handover) onTheWay(o object, x *slot) bool {
	for _, f := range s.frames {
		if f.there && f.object == o && f.handover == x.handover && f.seq == x.seq {
			return true
		}
	}
	return false
}

// sendStage puts a frame on the network. The frames are kept in order: they are a set.
func (s *handover) sendStage(n node, o object) bool {
	last := &s.frames[len(s.frames)-1]
	if last.there {
		return false
	}
	x := &s.nodes[n].slots[o]
	*last = frame{there: true, object: o, to: s.nodes[n].view[o].target, registration: x.to,
		handover: x.handover, seq: x.seq, value: x.staged}
	s.sortFrames()
	return true
}

func (s *handover) arrived(i int) {
	s.frames[i] = frame{}
	s.sortFrames()
}

func (s *handover) sortFrames() {
	f := &s.frames
	for i := 1; i < len(f); i++ {
		for j := i; j > 0 && f[j].before(&f[j-1]); j-- {
			f[j-1], f[j] = f[j], f[j-1]
		}
	}
}

func (f *frame) before(g *frame) bool {
	if f.there != g.there {
		return f.there
	}
	return cmp.Or(cmp.Compare(f.object, g.object), cmp.Compare(f.handover, g.handover),
		cmp.Compare(f.seq, g.seq), cmp.Compare(f.value, g.value)) < 0
}

// stageSteps deliver each frame on the network, or lose it or its acknowledgement.
func (m *moving) stageSteps() {
	for i, f := range m.s.frames {
		if !f.there || i > 0 && f == m.s.frames[i-1] {
			continue
		}
		t := *m.s
		t.arrived(i)
		lost := t
		if m.keep(&t, &f) {
			unheard := t
			t.acknowledge(&f)
			m.step(f.to.String(), "keeps and acknowledges a stage of", f.object.String(), &t)
			if unheard.losses++; unheard.losses <= m.Bounds.Losses {
				m.step(f.to.String(), "keeps, answer lost, a stage of", f.object.String(), &unheard)
			}
		} else {
			m.step(f.to.String(), "refuses a stage of", f.object.String(), &t)
		}
		if lost.losses++; lost.losses <= m.Bounds.Losses {
			m.step("network", "loses a stage of", f.object.String(), &lost)
		}
	}
}

// keep puts a stage aside at its target: a higher seq replaces the one before it,
// another hand-over has its own place.
func (m *moving) keep(t *handover, f *frame) bool {
	x := &t.nodes[f.to]
	if !x.up || x.registration != f.registration {
		return false
	}
	place := x.place(f)
	if m.Mutant == HandoverIDIgnored {
		place = &x.kept[f.object][0]
	}
	if place.handover > f.handover && m.Mutant != HandoverIDIgnored {
		return false // both places are taken by later hand-overs
	}
	if same := place.handover == f.handover || m.Mutant == HandoverIDIgnored; !same || f.seq > place.seq || m.Mutant == SeqIgnored {
		*place = kept{f.handover, f.seq, f.value}
	}
	return true
}

// place is where stages of a frame's hand-over are kept; failing that an empty place
// or the earlier hand-over's.
func (x *host) place(f *frame) *kept {
	places := &x.kept[f.object]
	for i := range places {
		if places[i].handover == f.handover {
			return &places[i]
		}
	}
	if places[0].handover <= places[1].handover {
		return &places[0]
	}
	return &places[1]
}

func (s *handover) acknowledge(f *frame) {
	x := &s.nodes[f.to.other()].slots[f.object]
	if x.phase == emptying && x.handover == f.handover {
		x.acked = max(x.acked, f.seq)
	}
}
