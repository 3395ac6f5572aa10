package node

import "github.com/xiaonanln/goverse/internal/fault"

// Interrupt cancels the contexts of all methods that run now, those of pinned objects
// among them, because this node's lease is not trusted any more: reason says so, and is
// the cause, Fenced. What such a method answers is not passed on, unless its own save
// has proved that it counts; its caller gets Fenced, outcome unknown. Calls that still
// wait, for a turn or for their shard, are looked at anew and sent away unrun. Shards
// stay open and activations live as they are: once the lease is trusted again, calls
// are served on. Where durable objects outlive the lease (see DegradedMode), they are
// left alone.
func (n *Node) Interrupt(reason string) {
	why := fault.New(fault.Fenced, "%s", reason).With(fault.OutcomeUnknown)
	for i := range n.slots {
		s := &n.slots[i]
		s.mu.Lock()
		all := s.list()
		s.stir()
		s.mu.Unlock()
		for _, a := range all {
			if !n.outlives(a.keep) { // the store says whether the others' answers count
				a.interrupt(why)
			}
		}
	}
}

var errInterrupted = fault.New(fault.Fenced, "this node's lease ended while the call ran").With(fault.OutcomeUnknown)

// interrupt cancels what runs and sends away who waits for a turn. Calls back of the
// chains that are inside stay in their lines: their methods end first.
func (a *activation) interrupt(why error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for f := a.frames.head; f != nil; f = f.next {
		f.stopped = true
		f.ctx.cancel(why)
	}
	a.turns.sendAway(errAside)
	a.settleRest()
}
