package node

import (
	"time"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

// What is measured for who listens. Without a listener no clock is read for it.

// goOn notes that the call waits for nobody from now on.
func (n *Node) goOn(c *call) {
	if c.at > 0 {
		c.at = n.executions.now()
	}
}

// awaited tells of a call that stood in an object's queue.
func (n *Node) awaited(w *waiter, err error) {
	if on := n.on.TurnAwaited; on != nil {
		on(event.TurnAwaited{Type: w.act.typ.Name, Took: n.executions.now() - w.since, Err: err})
	}
}

// turned tells of a turn that was given up now.
func (n *Node) turned(t *object.Type, h *hold, now time.Duration) {
	n.on.TurnDone(event.TurnDone{Type: t.Name, Held: now - h.since})
}

// asked is what to call with the outcome of a request to the store that begins now.
func asked(on event.Listener, operation event.StoreOperation) func(error) {
	heard := on.StoreDone
	if heard == nil {
		return func(error) {}
	}
	began := time.Now()
	return func(err error) { heard(event.StoreDone{Operation: operation, Took: time.Since(began), Err: err}) }
}

// now is the time that a push is made at.
func (p *pushes) now() time.Time {
	if p.on.PushPassed == nil {
		return time.Time{}
	}
	return time.Now()
}

// left tells of a push that has gone to its gate.
func (p *pushes) left(f *peer.PushFrame) {
	if on := p.on.PushPassed; on != nil && !f.At.IsZero() {
		on(event.PushPassed{Leg: event.ToGate, Took: time.Since(f.At)})
	}
}
