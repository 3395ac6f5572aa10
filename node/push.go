package node

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

// maxOutletBytes bounds what waits for one gate.
const maxOutletBytes = 8 << 20

// pushes are the ways to the gates that have opened a stream to this node.
type pushes struct {
	on   event.Listener
	made atomic.Uint64

	mu      sync.Mutex
	outlets map[string]*outlet // by gate
}

// outlet is the bounded queue towards one gate. Whoever serves the gate's stream
// empties it.
type outlet struct {
	gate string
	wake chan struct{} // holds one token when the queue may not be empty

	mu    sync.Mutex
	queue []peer.PushFrame
	bytes int
	err   error // it overflowed: the stream must end
}

// encodedPush is a push as it was when the object sent it, split by gate.
type encodedPush struct {
	nth    uint64 // the order in which pushes were made
	frame  peer.PushFrame
	byGate map[string][]string // gate -> its client ids; nil to broadcast
	call   *object.Effect      // instead: a Send that no store keeps,
	change *change             // or what is published
}

// encode makes a push's message immune to later changes.
func (p *pushes) encode(push object.Push) (*encodedPush, error) {
	if push.Message == nil {
		return nil, fault.New(fault.Invalid, "a push needs a message").On("Push", "")
	}
	a, err := anypb.New(push.Message)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the message cannot be sent: %w", err).On("Push", "")
	}
	e := &encodedPush{nth: p.made.Add(1), frame: peer.PushFrame{Broadcast: push.Broadcast, Message: a}}
	// Without JSON a browser does not get the message, but other clients do.
	e.frame.JSON, _ = marshalJSON(push.Message)
	if push.Broadcast {
		return e, nil
	}
	e.byGate = map[string][]string{}
	for _, id := range push.ClientIDs {
		gate, _, ok := strings.Cut(id, "/")
		if !ok || gate == "" {
			return nil, fault.New(fault.Invalid, "client id %q is not of the form gateAddress/uniqueId", id).On("Push", id)
		}
		e.byGate[gate] = append(e.byGate[gate], id)
	}
	return e, nil
}

// send queues a push for its gates and never blocks. A client whose gate is not
// connected is gone.
func (p *pushes) send(e *encodedPush) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.frame.Broadcast {
		for _, o := range p.outlets {
			p.put(o, e.frame)
		}
		return
	}
	for gate, ids := range e.byGate {
		if o := p.outlets[gate]; o != nil {
			frame := e.frame
			frame.ClientIDs = ids
			p.put(o, frame)
		}
	}
}

func (p *pushes) put(o *outlet, frame peer.PushFrame) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.bytes += len(frame.Message.GetValue()) + len(frame.JSON) + 64*(1+len(frame.ClientIDs))
	if o.bytes > maxOutletBytes && o.err == nil {
		o.err = fault.New(fault.Overloaded, "gate %s is too slow: more than %d bytes wait for it", o.gate, maxOutletBytes)
		if p.on.PushDropped != nil {
			p.on.PushDropped(event.PushDropped{ClientID: o.gate, Count: len(o.queue) + 1, Reason: "the gate does not read"})
		}
		o.queue = nil
	}
	if o.err == nil {
		o.queue = append(o.queue, frame)
	}
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

var errGateTwice = errors.New("the gate opened another stream")

// ServePushes serves the stream of one gate: in order, one frame at a time. A second
// stream of the same gate replaces the first.
func (n *Node) ServePushes(ctx context.Context, gate string, ready func(), deliver func(peer.PushFrame) error) error {
	o := &outlet{gate: gate, wake: make(chan struct{}, 1)}
	n.pushes.add(o)
	defer n.pushes.remove(o)
	ready()
	for {
		frames, err := o.take()
		if err != nil {
			return err
		}
		for _, f := range frames {
			if err := deliver(f); err != nil {
				return err
			}
		}
		select {
		case <-o.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p *pushes) add(o *outlet) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if old := p.outlets[o.gate]; old != nil {
		old.fail(errGateTwice)
	}
	p.outlets[o.gate] = o
}

func (p *pushes) remove(o *outlet) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.outlets[o.gate] == o {
		delete(p.outlets, o.gate)
	}
}

func (o *outlet) fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.err, o.queue = err, nil
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

func (o *outlet) take() ([]peer.PushFrame, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	frames := o.queue
	o.queue, o.bytes = nil, 0
	return frames, o.err
}

// gateOf is the gate that a client's id names.
func gateOf(clientID string) string {
	gate, _, _ := strings.Cut(clientID, "/")
	return gate
}
