package node

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

// A slot is the node's place for one shard. It outlives the times that the shard is
// held here, so that a new tenure meets what is left of the old one: an activation
// whose code has not ended yet.
//
//	state      root calls   nested calls   left by
//	shut       no           no             Open
//	open       yes          yes            Drain, Vacate, Drop
//	draining   parked       yes            Drain (shut), Vacate (leaving), Resume (open), Drop
//	leaving    parked       no             HandedOver (shut), Resume (open), Drop
type slot struct {
	node  *Node
	shard int

	mu     sync.Mutex
	state  slotState
	life   *tenure   // never changed in place
	next   successor // shut: who holds the shard now, if that is known
	since  time.Time // draining and leaving: since when
	acts   acts
	staged map[object.Ref]*peer.Staged // objects that begin once their previous activation here has ended
	lot    lot                         // calls that wait for the slot to change
	parted error                       // shut by a drain: what its parked calls are told
	moved  chan struct{}               // closed when the slot changes; nil while nobody watches

	nudge atomic.Pointer[chan struct{}] // draining: for whoever vacates the slot; holds one token
}

type slotState uint8

const (
	shut slotState = iota
	open
	draining
	leaving
)

// tenure is the right by which a shard is held.
type tenure struct {
	shard   int
	epoch   uint64
	owner   string      // in the store's fence
	trusted func() bool // whether the lease still lets this node speak
}

// noTenure is that of a slot that was never open.
var noTenure = new(tenure)

// successor is who holds a shard after this node.
type successor struct {
	address string
	epoch   uint64
}

// enter finds the activation of a call's object or begins it: fenced, and exactly
// once. begun tells who is to load it. errAside says that the call has to wait,
// errFull that others have to end first.
func (s *slot) enter(c *call) (a *activation, begun bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.admit(c, 0); v.err != nil {
		return nil, false, v.now()
	}
	a = s.acts.find(c.ref)
	if err := s.refusesStray(c, a); err != nil {
		return nil, false, err
	}
	if a != nil {
		c.early, c.stood = a.origin.Load() == unborn, c.stood && a.life == s.life
		return a, false, nil
	}
	if s.node.stopping.Load() {
		return nil, false, errNodeLeaves
	}
	if err := s.node.canKeep(c.typ); err != nil {
		return nil, false, err
	}
	if s.node.live.Add(1) > int64(s.node.cfg.MaxActivations) {
		s.node.live.Add(-1)
		return nil, false, errFull
	}
	c.early = true
	return s.add(c.ref, c.typ), true, nil
}

// add makes a new activation, which is counted already; s.mu is held.
func (s *slot) add(ref object.Ref, typ *object.Type) *activation {
	a := newActivation(s.node, s, ref, typ)
	a.door = doorOf[s.state]
	s.acts.add(a)
	heads := s.node.headsOf(typ)
	heads.live.Add(1)
	heads.activations.Add(1)
	return a
}

// admit is the fence: is the shard held here, at an epoch that is not older than
// the sender's, is the lease trusted, and is the shard on its way to another node?
// The call has waited here for some time already. s.mu is held.
func (s *slot) admit(c *call, waited time.Duration) verdict {
	switch {
	case c.epoch > max(s.life.epoch, s.next.epoch):
		return verdict{s.wrongHolder(), max(0, aheadWait-waited)}
	case s.state == shut:
		return verdict{err: s.wrongHolder()}
	case !s.trusts(c) && !s.node.outlives(s.node.durability(c.typ, s)):
		return verdict{err: fault.New(fault.NotReady, "this node's lease is in doubt")}
	case s.state == open:
		return verdict{}
	case !c.parks() && s.state == leaving:
		return verdict{err: s.wrongHolder()}
	case !c.parks():
		return s.hold(c, time.Since(s.since))
	case s.node.stopping.Load():
		return verdict{err: errNodeLeaves}
	}
	return verdict{fault.New(fault.Draining, "shard %d is leaving this node", s.shard), untilDeadline}
}

// trusts says whether the lease still lets this node speak, and notes it for the call.
func (s *slot) trusts(c *call) bool {
	c.stood = s.life.trusted()
	return c.stood
}

// wrongHolder sends a caller to the shard's holder, as far as that is known.
func (s *slot) wrongHolder() error {
	e := &fault.Error{Kind: fault.WrongHolder, Shard: s.shard, Epoch: s.life.epoch, Err: errNotHeld}
	if s.state == shut && s.next.epoch > e.Epoch {
		e.Epoch, e.Holder = s.next.epoch, s.next.address
	}
	return e
}

var (
	errNotHeld    = errors.New("this node does not hold the shard")
	errNodeLeaves = fault.New(fault.Draining, "this node is leaving")
)

// watch tells when the slot changes. It fails where the call is not admitted now.
func (s *slot) watch(c *call) (changed <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.admit(c, 0); v.err != nil {
		return nil, v.now()
	}
	return s.watched(), nil
}

func (s *slot) watched() <-chan struct{} {
	if s.moved == nil {
		s.moved = make(chan struct{})
	}
	return s.moved
}

// become changes the slot's state, and with it whom its activations let in. s.mu is
// held.
func (s *slot) become(state slotState) {
	if state == draining && s.state == open {
		s.since = time.Now()
	}
	if state != draining {
		s.poke() // whoever vacates it sees that it is no more
		s.nudge.Store(nil)
	}
	s.state, s.parted = state, nil
	if state == open {
		s.node.loads.opened()
	}
	if state == shut {
		s.node.outbox.close(s.shard)
	}
	s.setDoors()
	s.stir()
}

// setDoors tells the activations whom the slot lets in. s.mu is held.
func (s *slot) setDoors() {
	for a := range s.acts.all() {
		a.setDoor(doorOf[s.state])
	}
}

// stir lets everyone who waits look again.
func (s *slot) stir() {
	if s.moved != nil {
		close(s.moved)
		s.moved = nil
	}
}

// remove makes room for the next activation of a's object.
func (s *slot) remove(a *activation) {
	s.mu.Lock()
	if s.acts.remove(a) {
		s.node.live.Add(-1)
		s.node.headsOf(a.typ).live.Add(-1)
	}
	arrivals := s.revive()
	s.mu.Unlock()
	s.poke()
	bringUp(arrivals)
}

// poke tells whoever vacates the slot that something may have come to rest.
func (s *slot) poke() {
	if nudge := s.nudge.Load(); nudge != nil {
		poke(*nudge)
	}
}

// is says whether two tenures are the same.
func (t *tenure) is(other *tenure) bool { return t.epoch == other.epoch && t.owner == other.owner }

// open lets calls in. What is left of another tenure may not answer any more;
// objects whose state came with the shard come alive.
func (s *slot) open(life *tenure, staged map[object.Ref]*peer.Staged) {
	s.mu.Lock()
	var old []*activation
	if !s.life.is(life) {
		old = s.list()
	}
	s.life, s.next, s.staged = life, successor{}, staged
	s.become(open)
	s.node.outbox.open(life)
	arrivals := s.revive()
	s.mu.Unlock()
	fence(old, "the shard was taken up anew")
	bringUp(arrivals)
}

// beginDrain parks root calls and ends what is at rest.
func (s *slot) beginDrain() (left []*activation) {
	s.mu.Lock()
	if s.state == open {
		s.become(draining)
	}
	s.stir() // a node that stops lets go what is parked
	s.mu.Unlock()
	return s.endAll("drained")
}

// drain empties the slot and shuts it, or leaves it draining when ctx ends.
func (s *slot) drain(ctx context.Context) error {
	for left := s.beginDrain(); ; left = s.endAll("drained") {
		if len(left) == 0 {
			return nil
		}
		for _, a := range left {
			select {
			case <-a.gone():
			case <-ctx.Done():
				return fault.Waited(ctx, "%s", s.unfinished())
			}
		}
	}
}

// endAll ends every activation; once none is left it shuts the slot, in the same step.
func (s *slot) endAll(reason string) []*activation {
	s.mu.Lock()
	s.staged = nil
	left := s.list()
	if len(left) == 0 && s.state != shut {
		s.become(shut)
		s.parted = fault.New(fault.Draining, "shard %d has left this node", s.shard)
	}
	s.mu.Unlock()
	for _, a := range left {
		a.end(reason)
	}
	return left
}

// drop shuts the slot at once. What runs inside may not answer any more.
func (s *slot) drop(reason string) {
	s.mu.Lock()
	left := s.shutLocked()
	s.mu.Unlock()
	fence(left, reason)
}

// shutLocked shuts the slot and returns what lives in it. s.mu is held.
func (s *slot) shutLocked() []*activation {
	s.staged = nil
	if s.state != shut {
		s.become(shut)
	}
	return s.list()
}

// dropIf drops the slot if it is still held under life.
func (s *slot) dropIf(life *tenure, reason string) bool {
	s.mu.Lock()
	if s.state == shut || !s.life.is(life) {
		s.mu.Unlock()
		return false
	}
	left := s.shutLocked()
	s.mu.Unlock()
	fence(left, reason)
	return true
}

func fence(acts []*activation, reason string) {
	for _, a := range acts {
		a.void(reason, fault.New(fault.Fenced, "%s while the call ran", reason))
	}
}

func (s *slot) isShut() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state == shut
}

func (s *slot) list() []*activation {
	if s.acts.count == 0 {
		return nil
	}
	all := make([]*activation, 0, s.acts.count)
	for a := range s.acts.all() {
		all = append(all, a)
	}
	return all
}

func (n *Node) closedShard(s *slot, reason string) {
	if on := n.on.ShardClosed; on != nil {
		s.mu.Lock()
		epoch := s.life.epoch
		s.mu.Unlock()
		on(event.ShardClosed{Shard: s.shard, Epoch: epoch, Reason: reason})
	}
}
