package node

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

// pushes are the ways to the gates of the clients that this node's objects push to.
type pushes struct {
	on   event.Listener
	made atomic.Uint64

	mu         sync.Mutex
	outlets    map[string]*outlet // by gate
	unheard    int                // of these, whose gate has not opened a stream yet
	everybody  bool               // there was a push to every client
	overlooked bool               // a push to a gate without an outlet was dropped
	ended      bool               // nothing more is pushed
}

// maxPushKey bounds the key by which pushes coalesce, in bytes.
const maxPushKey = 256

// encodedPush is a push as it was when the object sent it, split by gate.
type encodedPush struct {
	nth    uint64 // the order in which pushes were made
	frame  peer.PushFrame
	byGate map[string][]peer.PushFrame // nil to broadcast
	call   *object.Effect              // instead: a Send that no store keeps,
	change *change                     // or what is published
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
	if len(push.Key) > maxPushKey || !utf8.ValidString(push.Key) {
		return nil, fault.New(fault.Invalid, "a key by which pushes coalesce has at most %d bytes of UTF-8", maxPushKey).On("Push", "")
	}
	e := &encodedPush{nth: p.made.Add(1), frame: peer.PushFrame{Broadcast: push.Broadcast, Message: a, Key: push.Key, At: p.now()}}
	if push.Disconnect {
		e.frame.Slow = peer.Disconnect
	}
	// Without JSON a browser does not get the message, but other clients do.
	e.frame.JSON, _ = marshalJSON(push.Message)
	if push.Broadcast {
		_, err := peer.SplitPush(e.frame)
		return e, err
	}
	byGate := map[string][]string{}
	for _, id := range push.ClientIDs {
		gate, _, ok := strings.Cut(id, "/")
		if !ok || gate == "" {
			return nil, fault.New(fault.Invalid, "client id %q is not of the form gateAddress/uniqueId", id).On("Push", id)
		}
		byGate[gate] = append(byGate[gate], id)
	}
	return e, e.address(byGate)
}

// address splits a push by gate, and into frames.
func (e *encodedPush) address(byGate map[string][]string) (err error) {
	e.byGate = make(map[string][]peer.PushFrame, len(byGate))
	for gate, ids := range byGate {
		f := e.frame
		f.ClientIDs = ids
		if e.byGate[gate], err = peer.SplitPush(f); err != nil {
			return fault.Of(err).On("Push", "")
		}
	}
	return nil
}

// send queues a push for its gates and never blocks.
func (p *pushes) send(e *encodedPush) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.frame.Broadcast {
		p.everybody = true
		for _, o := range p.outlets {
			o.put(e.frame)
		}
		return
	}
	for gate, frames := range e.byGate {
		o := p.outletLocked(gate)
		for _, f := range frames {
			if o == nil {
				p.overlooked = true
				break
			}
			o.put(f)
		}
	}
}

// outletLocked is the way to a gate. A gate that the node has not heard of yet may be about
// to open its stream, so pushes wait for it too; nil: for too many such already.
func (p *pushes) outletLocked(gate string) *outlet {
	o := p.outlets[gate]
	if o == nil && p.unheard < maxUnheard {
		o = p.newOutletLocked(gate, maxUnheardBytes)
		p.unheard++
		o.expiry = time.AfterFunc(outletWindow, func() { p.expire(o) })
	}
	return o
}

func (p *pushes) newOutletLocked(gate string, limit int) *outlet {
	o := &outlet{gate: gate, on: p.on, name: object.NewID(), limit: limit, lost: (p.everybody || p.overlooked) && !p.ended}
	p.outlets[gate] = o
	return o
}

// expire lets go of an outlet whose gate did not come back.
func (p *pushes) expire(o *outlet) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.outlets[o.gate] == o && o.stream == nil {
		p.overlooked = p.overlooked || o.holds() // a gate that comes after all hears of it
		p.removeLocked(o)
	}
}

func (p *pushes) removeLocked(o *outlet) {
	delete(p.outlets, o.gate)
	if !o.heard {
		p.unheard--
	}
}

var errGateTwice = errors.New("the gate opened another stream")

// ServePushes serves the stream of one gate: in order, one frame at a time. A second
// stream of the same gate replaces the first. What a gate that resumes has not heard it
// gets again.
func (n *Node) ServePushes(ctx context.Context, h peer.Hearing, ready func(peer.Opening), deliver func(peer.PushFrame) error) error {
	o, s, opening := n.pushes.open(h)
	defer n.pushes.close(o, s, h.Resumable)
	ready(opening)
	for {
		f, more, err := o.next(s)
		switch {
		case err != nil || !more:
			return err
		case f != nil:
			if err := deliver(*f); err != nil {
				return err
			}
			n.pushes.left(f)
			continue
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// open begins a stream to a gate.
func (p *pushes) open(h peer.Hearing) (*outlet, *outletStream, peer.Opening) {
	p.mu.Lock()
	defer p.mu.Unlock()
	o := p.outlets[h.Gate]
	switch {
	case o == nil:
		o = p.newOutletLocked(h.Gate, maxOutletBytes)
	case !o.heard:
		p.unheard--
	}
	o.heard = true
	if o.expiry != nil {
		o.expiry.Stop()
	}
	s := &outletStream{wake: make(chan struct{}, 1)}
	if o.stream != nil {
		o.stream.rouse()
	}
	o.stream = s
	return o, s, o.attach(s, h, p.ended)
}

// close ends a stream. The queue of a gate that may resume waits for it.
func (p *pushes) close(o *outlet, s *outletStream, resumable bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if o.stream != s {
		return
	}
	o.stream = nil
	o.attach(nil, peer.Hearing{}, p.ended)
	if resumable && !p.ended {
		o.expiry = time.AfterFunc(outletWindow, func() { p.expire(o) })
	} else if p.outlets[o.gate] == o {
		p.removeLocked(o)
	}
}

// EndPushes ends the streams to the gates as soon as they have heard everything: this
// node's objects push nothing more.
func (n *Node) EndPushes() {
	p := &n.pushes
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	for _, o := range p.outlets {
		o.end()
	}
}

// gateOf is the gate that a client's id names.
func gateOf(clientID string) string {
	gate, _, _ := strings.Cut(clientID, "/")
	return gate
}
