package model

import "cmp"

// database is the fence row, the object's row, and the requests on their way.
type database struct {
	epoch    uint8
	owner    owner
	version  uint8
	value    uint8 // which writes the row has
	last     uint8 // the write that the row's last save was about: its save_id
	requests [3]request
}

// owner is who stamped the fence.
type owner struct {
	by           node
	registration uint8 // 0: nobody has
}

type requestKind uint8

const (
	noRequest requestKind = iota
	saveRequest
	stampRequest
)

var requestNames = [...][2]string{saveRequest: {"the save of X", "the save of Y"}, stampRequest: {"the stamp of X", "the stamp of Y"}}

type verdict uint8

const (
	underWay verdict = iota
	accepted
	fenceLost
	versionConflict
)

var verdicts = [...]string{"", "accepts", "fences off", "finds another version for"}

// request is a statement on its way to the database, or its answer on the way back.
type request struct {
	kind             requestKind
	by               node
	registration     uint8
	epoch            uint8
	base, value, bit uint8
	verdict          verdict
	abandoned        bool // the node has given up waiting for it
}

func (r *request) String() string { return requestNames[r.kind][r.by] }

// from says that the node that sent a request still is what it was.
func (r *request) from(x *member) bool {
	return x.up && !r.abandoned && x.registration == r.registration && x.epoch == r.epoch
}

// send keeps the requests in order: they are a set.
func (d *database) send(r request) bool {
	if d.requests[len(d.requests)-1].kind != noRequest {
		return false
	}
	d.requests[len(d.requests)-1] = r
	d.sort()
	return true
}

func (d *database) settle(i int) {
	d.requests[i] = request{}
	d.sort()
}

func (d *database) sort() {
	r := &d.requests
	for i := 1; i < len(r); i++ {
		for j := i; j > 0 && less(&r[j-1], &r[j]); j-- {
			r[j-1], r[j] = r[j], r[j-1]
		}
	}
}

func less(a, b *request) bool { return cmp.Compare(a.key(), b.key()) < 0 }

func (r *request) key() uint64 {
	k := uint64(0)
	for _, b := range [...]uint8{uint8(r.kind), uint8(r.by), r.registration, r.epoch, r.base, r.value, r.bit} {
		k = k<<8 | uint64(b)
	}
	k = k<<2 | uint64(r.verdict)
	k <<= 1
	if r.abandoned {
		k |= 1
	}
	return k
}

// admits is the fence: this epoch, stamped by this registration.
func (d *database) admits(n node, registration, epoch uint8) bool {
	return d.epoch == epoch && d.owner == owner{n, registration}
}

// saveUnderWay says that the node waits for a save, or must repeat one.
func (s *ownership) saveUnderWay(n node) bool {
	x := &s.nodes[n]
	for i := range s.db.requests {
		r := &s.db.requests[i]
		if r.kind == saveRequest && r.by == n && r.from(x) {
			return true
		}
	}
	return x.unknown != 0
}

func (s *ownership) stampUnderWay(n node) bool {
	for i := range s.db.requests {
		r := &s.db.requests[i]
		if r.kind == stampRequest && r.by == n && r.registration == s.nodes[n].registration {
			return true
		}
	}
	return false
}

// databaseSteps decide each request, deliver its answer, or lose one of the two.
func (m *owning) databaseSteps() {
	for i, r := range m.s.db.requests {
		switch {
		case r.kind == noRequest:
		case r.verdict == underWay:
			m.decide(i)
			m.loseRequest(i)
			m.abandon(i)
		default:
			m.deliver(i)
			if r.kind == saveRequest && !r.abandoned {
				m.loseAnswer(i)
			}
		}
	}
}

func (m *owning) decide(i int) {
	t := *m.s
	r := &t.db.requests[i]
	if r.kind == stampRequest {
		r.verdict = m.decideStamp(&t.db, r)
	} else {
		r.verdict = m.decideSave(&t.db, r)
	}
	what, whom := verdicts[r.verdict], r.String()
	t.db.sort()
	m.stepTo("database", what, whom, &t)
}

func (m *owning) decideStamp(d *database, r *request) verdict {
	me := owner{r.by, r.registration}
	if d.epoch < r.epoch || d.epoch == r.epoch && (d.owner == me || m.Mutant == NumberOnlyFence) {
		d.epoch, d.owner = r.epoch, me
		return accepted
	}
	return fenceLost
}

// decideSave is one statement: fence, version and effect together.
func (m *owning) decideSave(d *database, r *request) verdict {
	switch {
	case !m.fenceAdmits(d, r):
		return fenceLost
	case d.version == r.base || m.Mutant == NoVersionCompare:
		d.value, d.version, d.last = r.value, d.version+1, r.bit
		return accepted
	case d.last == r.bit && m.Mutant != ReloadAfterUnknownSave:
		return accepted // an earlier copy of this save: its save_id is in the row
	}
	return versionConflict
}

func (m *owning) fenceAdmits(d *database, r *request) bool {
	switch m.Mutant {
	case NoFence, NoStamp:
		return true
	case NumberOnlyFence:
		return d.epoch == r.epoch
	case FenceAtMost:
		return d.epoch <= r.epoch
	}
	return d.admits(r.by, r.registration, r.epoch)
}

// loseRequest: a request vanishes, or the network ends and nobody knows.
func (m *owning) loseRequest(i int) {
	if m.s.losses == m.Bounds.Losses {
		return
	}
	t := *m.s
	r := t.db.requests[i]
	t.db.settle(i)
	t.losses++
	m.leaveUnknown(&t, &r)
	m.stepTo("database", "never gets", r.String(), &t)
}

// abandon: the node stops waiting for a save that is still on its way.
func (m *owning) abandon(i int) {
	t := *m.s
	r := &t.db.requests[i]
	if t.losses == m.Bounds.Losses || r.kind != saveRequest || !r.from(&t.nodes[r.by]) {
		return
	}
	was := *r
	r.abandoned = true
	t.db.sort()
	t.losses++
	m.leaveUnknown(&t, &was)
	m.step(was.by.String(), "times out waiting for its save", &t)
}

func (m *owning) loseAnswer(i int) {
	if m.s.losses == m.Bounds.Losses {
		return
	}
	t := *m.s
	r := t.db.requests[i]
	t.db.settle(i)
	t.losses++
	m.leaveUnknown(&t, &r)
	m.stepTo("database", "answers in vain", r.String(), &t)
}

// leaveUnknown: a save's outcome is unknown to its node, which must repeat it.
func (m *owning) leaveUnknown(t *ownership, r *request) {
	x := &t.nodes[r.by]
	if r.kind != saveRequest || !r.from(x) || x.phase < active {
		return
	}
	if m.Mutant == ReloadAfterUnknownSave {
		x.loaded = false
		return
	}
	x.unknown = r.bit
}

func (m *owning) deliver(i int) {
	t := *m.s
	r := t.db.requests[i]
	t.db.settle(i)
	x := &t.nodes[r.by]
	switch {
	case !r.from(x):
	case r.kind == stampRequest && x.phase == claimed:
		t.learnStamp(&r)
	case r.kind == saveRequest && x.phase >= active:
		t.learnSave(&r)
	}
	m.stepTo("database", "answers", r.String(), &t)
}

// learnStamp: a refused stamp is followed by an epoch past the database's.
func (s *ownership) learnStamp(r *request) {
	x, e := &s.nodes[r.by], &s.etcd
	switch {
	case r.verdict == accepted:
		x.phase = stamped
	case e.record.names(r.by, x.registration) && e.record.rev == x.view.rev && e.alive[r.by] == x.registration:
		e.record.epoch = s.db.epoch + 1
		e.record.rev++
		x.see(e)
		x.epoch = e.record.epoch
	default:
		x.drop()
	}
}

func (s *ownership) learnSave(r *request) {
	x := &s.nodes[r.by]
	switch r.verdict {
	case accepted:
		s.acked |= r.bit
		x.version = r.base + 1
	case fenceLost:
		x.drop()
		x.phase = claimUnsure
	case versionConflict:
		x.loaded = false
	}
}
