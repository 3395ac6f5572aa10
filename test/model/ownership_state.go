package model

import "fmt"

// node is one of the two nodes, or nobody.
type node uint8

const nobody node = 2

var names = [...]string{"X", "Y", "nobody"}

func (n node) String() string { return names[n] }
func (n node) other() node    { return 1 - n }

// ownership is one moment of the Ownership space. Sets of writes are bit masks.
type ownership struct {
	etcd  etcd
	db    database
	nodes [2]member

	acked, ackedVolatile   uint8 // writes that were acknowledged
	issued, issuedVolatile uint8 // how many writes there were

	registrations, crashes, expiries, retargets, losses uint8
}

// etcd is what etcd keeps, and the transactions on their way to it.
type etcd struct {
	alive  [2]uint8 // the live registration under a node's address, 0 if none
	record record
	life   uint8 // how often etcd was wiped
	txns   [2]txn
}

// record is the shard's record. Its revision stands for its bytes.
type record struct {
	rev, epoch   uint8
	holder       node
	registration uint8
	target       node
}

func (r record) names(n node, registration uint8) bool {
	return r.holder == n && r.registration == registration
}

type phase uint8

const (
	without     phase = iota // does not hold the shard
	claimed                  // named in etcd
	stamped                  // named in the database's fence
	active                   // executes
	draining                 // executes what runs
	claimUnsure              // a claim's outcome is unknown
	handUnsure               // a hand-over was sent, its outcome is unknown
)

var phases = [...]string{"", "claimed", "stamped", "active", "draining", "claiming", "handing over"}

// member is a node: what it believes and what it has in memory.
type member struct {
	up           bool
	trusted      bool  // the local end of the lease has not come
	registration uint8 // 0 if none
	life         uint8 // etcd's, in which it registered

	view     record
	viewLife uint8

	phase    phase
	epoch    uint8
	loaded   bool
	memory   uint8 // the durable object: which writes it has
	version  uint8 // of the durable object
	unknown  uint8 // the write whose save must be repeated, 0 if none
	volatile uint8 // the volatile object: which writes it has
	stage    stage
}

// stage is the volatile object as the holder sent it before a hand-over.
type stage struct {
	held         bool
	value, epoch uint8
}

func (x *member) trusts() bool { return x.registration != 0 && x.trusted }

// holds says that the node takes itself for the holder.
func (x *member) holds() bool { return x.phase >= claimed && x.phase <= draining }

// lives says that the node executes calls.
func (x *member) lives() bool { return x.up && x.trusted && x.phase == active }

// named says that a record names the node as it is: this registration, this epoch.
func (x *member) named(n node, r record) bool {
	return r.names(n, x.registration) && r.epoch == x.epoch
}

func (x *member) see(e *etcd) { x.view, x.viewLife = e.record, e.life }

// drop forgets the shard and what was in memory for it.
func (x *member) drop() {
	x.phase, x.epoch, x.loaded = without, 0, false
	x.memory, x.version, x.unknown, x.volatile = 0, 0, 0, 0
}

// forgiveVolatile: a crash or a lost lease of the holder may lose volatile writes.
func (s *ownership) forgiveVolatile(n node) {
	if s.etcd.record.holder == n || s.nodes[n].phase >= active {
		s.ackedVolatile = 0
	}
}

// String shows what etcd, the database and each node have.
func (s ownership) String() string {
	r := s.etcd.record
	return fmt.Sprintf("etcd{r%d e%d %s#%d>%s} db{e%d #%d v%d %02b} X{%s} Y{%s} acked %02b",
		r.rev, r.epoch, r.holder, r.registration, r.target,
		s.db.epoch, s.db.owner.registration, s.db.version, s.db.value, s.nodes[0], s.nodes[1], s.acked)
}

func (x member) String() string {
	if !x.up {
		return "down"
	}
	return fmt.Sprintf("#%d e%d %s %02b", x.registration, x.epoch, phases[x.phase], x.memory)
}
