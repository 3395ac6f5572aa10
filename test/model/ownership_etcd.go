package model

type txnKind uint8

const (
	noTxn txnKind = iota
	claimTxn
	handTxn
)

var txnNames = [...][2]string{claimTxn: {"the claim of X", "the claim of Y"}, handTxn: {"the hand-over of X", "the hand-over of Y"}}

// txn is a transaction on its way to etcd: what it compares and who sent it.
type txn struct {
	kind             txnKind
	by               node
	registration     uint8
	rev, life        uint8 // of the record it was made for
	dead             node  // a claim's previous holder
	deadRegistration uint8
	to               node // a hand-over's target
	toRegistration   uint8
}

func (q *txn) String() string { return txnNames[q.kind][q.by] }

func (e *etcd) send(q txn) bool {
	for i := range e.txns {
		if e.txns[i].kind == noTxn {
			e.txns[i] = q
			return true
		}
	}
	return false
}

func (e *etcd) arrived(i int) {
	copy(e.txns[i:], e.txns[i+1:])
	e.txns[len(e.txns)-1] = txn{}
}

// leaderSteps give the shard another live target.
func (m *owning) leaderSteps() {
	for n := range node(2) {
		if m.s.retargets < m.Bounds.Retargets && n != m.s.etcd.record.target && m.s.etcd.alive[n] != 0 {
			t := *m.s
			t.retargets++
			t.etcd.record.target = n
			t.etcd.record.rev++
			m.stepTo("leader", "targets", n.String(), &t)
		}
	}
}

// etcdSteps let each transaction apply or fail, and lose its request or its answer.
func (m *owning) etcdSteps() {
	for i, q := range m.s.etcd.txns {
		if q.kind == noTxn || m.locked() {
			continue
		}
		m.applyTxn(i, q, true)
		if m.s.losses < m.Bounds.Losses {
			m.applyTxn(i, q, false)
			t := *m.s
			t.etcd.arrived(i)
			t.losses++
			m.stepTo("etcd", "never gets", q.String(), &t)
		}
	}
	if m.s.etcd.life < m.Bounds.Wipes {
		t := *m.s
		t.etcd.life++
		t.etcd.alive = [2]uint8{}
		t.etcd.record = record{holder: nobody}
		m.step("etcd", "is wiped", &t)
	}
}

// locked is the lock-delay: a wiped etcd accepts nothing about shards while a node
// may still trust its lease of the life before.
func (m *owning) locked() bool {
	for _, x := range m.s.nodes {
		if x.up && x.trusted && x.life != m.s.etcd.life && m.Mutant != NoLockDelay {
			return true
		}
	}
	return false
}

func (m *owning) applyTxn(i int, q txn, delivered bool) {
	t := *m.s
	t.etcd.arrived(i)
	ok := m.admits(&q)
	if ok {
		m.commit(&t.etcd.record, &q)
	}
	if delivered {
		t.answerTxn(&q, ok)
	} else {
		t.losses++
		m.missAnswer(&t, &q)
	}
	m.stepTo("etcd", decisions[index(ok)][index(delivered)], q.String(), &t)
}

// decisions name what etcd did: it refuses or applies, and the answer is lost or
// arrives.
var decisions = [2][2]string{{"refuses, answer lost,", "refuses"}, {"applies, answer lost,", "applies"}}

func index(b bool) int {
	if b {
		return 1
	}
	return 0
}

// admits evaluates the transaction's compares.
func (m *owning) admits(q *txn) bool {
	e := &m.s.etcd
	ok := e.record.rev == q.rev || m.Mutant == NoContentCompare
	ok = ok && (e.life == q.life || m.Mutant == NoIncarnationGuard)
	ok = ok && (e.alive[q.by] == q.registration || m.Mutant == NoRegistrationGuard)
	if q.kind == handTxn {
		return ok && (e.alive[q.to] == q.toRegistration || m.Mutant == NoTargetGuard)
	}
	return ok && (q.dead == nobody || e.alive[q.dead] != q.deadRegistration || m.Mutant == NoDeadHolderCompare)
}

func (m *owning) commit(r *record, q *txn) {
	if m.Mutant != NoEpochBump || r.epoch == 0 {
		r.epoch++
	}
	r.rev++
	r.holder, r.registration = q.by, q.registration
	if q.kind == handTxn {
		r.holder, r.registration = q.to, q.toRegistration
	}
}

// answerTxn tells the sender, if it still waits.
func (s *ownership) answerTxn(q *txn, ok bool) {
	x := &s.nodes[q.by]
	if !x.up || x.registration != q.registration {
		return
	}
	switch {
	case q.kind == claimTxn && x.phase == claimUnsure:
		x.see(&s.etcd)
		x.phase = without
		if ok {
			x.phase, x.epoch = claimed, s.etcd.record.epoch
		}
	case q.kind == handTxn && x.phase == handUnsure:
		x.see(&s.etcd)
		if !ok && x.named(q.by, s.etcd.record) {
			x.phase = draining
		} else {
			x.drop()
		}
	}
}

func (m *owning) missAnswer(t *ownership, q *txn) {
	x := &t.nodes[q.by]
	if m.Mutant == LostAnswerIsFailure && q.kind == handTxn && x.up && x.registration == q.registration && x.phase == handUnsure {
		x.phase = active
	}
}
