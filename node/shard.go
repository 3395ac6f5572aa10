package node

import (
	"context"
	"errors"
	"sync"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// A slot is the node's place for one shard. It outlives the times that the shard is
// held here, so that a new tenure meets what is left of the old one: an activation
// whose code has not ended yet.
type slot struct {
	shard int

	mu    sync.Mutex
	state slotState
	life  tenure
	acts  map[object.Ref]*activation
	moved chan struct{} // closed when state or life changes; nil while nobody watches
}

type slotState uint8

const (
	shut slotState = iota
	open
	draining // nested calls only
)

// tenure is the right by which a shard is held.
type tenure struct {
	shard   int
	epoch   uint64
	owner   string      // in the store's fence
	trusted func() bool // whether the lease still lets this node speak
}

// enter finds the activation of a call's object or begins it: fenced, and exactly
// once. begun tells who is to load it.
func (s *slot) enter(n *Node, c *call) (a *activation, begun bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.admit(c); err != nil {
		return nil, false, err
	}
	if a = s.acts[c.ref]; a != nil {
		return a, false, nil
	}
	if n.stopping.Load() {
		return nil, false, fault.New(fault.Draining, "this node is leaving")
	}
	if err := n.canKeep(c.typ); err != nil {
		return nil, false, err
	}
	if s.acts == nil {
		s.acts = map[object.Ref]*activation{}
	}
	a = newActivation(n, s, c.ref, c.typ)
	s.acts[c.ref] = a
	return a, true, nil
}

// admit is the fence: is the shard held here, at an epoch that is not older than
// the sender's, and is the lease trusted?
func (s *slot) admit(c *call) error {
	switch {
	case s.state == shut, c.epoch > s.life.epoch:
		return &fault.Error{Kind: fault.WrongHolder, Shard: s.shard, Epoch: s.life.epoch,
			Err: errNotHeld}
	case !s.life.trusted():
		return fault.New(fault.NotReady, "this node's lease is in doubt")
	case s.state == draining && len(c.chain.Path) == 0:
		return fault.New(fault.Draining, "shard %d is leaving this node", s.shard)
	}
	return nil
}

var errNotHeld = errors.New("this node does not hold the shard")

// watch tells when the slot changes. It fails where the call is not admitted now.
func (s *slot) watch(c *call) (changed <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.moved == nil {
		s.moved = make(chan struct{})
	}
	return s.moved, s.admit(c)
}

// become changes the slot's state. s.mu is held.
func (s *slot) become(state slotState) {
	s.state = state
	if s.moved != nil {
		close(s.moved)
		s.moved = nil
	}
}

func (s *slot) remove(a *activation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.acts[a.ref] == a {
		delete(s.acts, a.ref)
	}
}

// is says whether two tenures are the same.
func (t tenure) is(other tenure) bool { return t.epoch == other.epoch && t.owner == other.owner }

// open lets calls in. What is left of another tenure may not answer any more.
func (s *slot) open(life tenure) {
	s.mu.Lock()
	var old []*activation
	if !s.life.is(life) {
		old = s.list()
	}
	s.life = life
	s.become(open)
	s.mu.Unlock()
	fence(old, "the shard was taken up anew")
}

// beginDrain refuses root calls and ends what is at rest.
func (s *slot) beginDrain() (left []*activation) {
	s.mu.Lock()
	if s.state == open {
		s.become(draining)
	}
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
			case <-a.gone:
			case <-ctx.Done():
				return fault.Waited(ctx, "%s still runs", a.ref)
			}
		}
	}
}

// endAll ends every activation; once none is left it shuts the slot, in the same step.
func (s *slot) endAll(reason string) []*activation {
	s.mu.Lock()
	left := s.list()
	if len(left) == 0 && s.state != shut {
		s.become(shut)
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
	s.become(shut)
	left := s.list()
	s.mu.Unlock()
	fence(left, reason)
}

// dropIf drops the slot if it is still held under life.
func (s *slot) dropIf(life tenure, reason string) bool {
	s.mu.Lock()
	if s.state == shut || !s.life.is(life) {
		s.mu.Unlock()
		return false
	}
	s.become(shut)
	left := s.list()
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
	if len(s.acts) == 0 {
		return nil
	}
	all := make([]*activation, 0, len(s.acts))
	for _, a := range s.acts {
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
