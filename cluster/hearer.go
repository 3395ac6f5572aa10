package cluster

import (
	"context"
	"sync"
	"time"

	"github.com/xiaonanln/goverse/internal/peer"
)

// How long a gate waits before it holds what it has not heard to be lost.
const (
	// brokenFor is after a stream broke off: a node that is dead is not succeeded as soon.
	brokenFor = time.Second
	// lastFrames is after the node is no member any more, if its stream still stands.
	lastFrames = 250 * time.Millisecond
)

// hearer keeps the stream of one node's pushes to this gate.
type hearer struct {
	c          *Cluster
	node, gate string
	deliver    func(peer.PushFrame) error

	mu     sync.Mutex // protects following fields, and orders what is delivered
	queue  string     // of the node, in which the gate has heard up to last; "": none
	last   uint64
	broken *time.Timer // while it has no stream
	ended  bool        // the node has said everything
	old    bool        // the node is of a version without queues
}

func newHearer(c *Cluster, node, gate string, deliver func(peer.PushFrame) error) *hearer {
	return &hearer{c: c, node: node, gate: gate, deliver: deliver}
}

// run hears the node while it is a member, and a moment longer, until ctx ends.
func (h *hearer) run(ctx, member context.Context) {
	stream, cut := context.WithCancel(ctx)
	defer cut()
	defer context.AfterFunc(member, func() { time.AfterFunc(lastFrames, cut) })()
	for attempt := 0; member.Err() == nil; attempt++ {
		opened := time.Now()
		err := h.hear(stream)
		h.c.pushes.set(h.node, false)
		h.mu.Lock()
		h.tellLocked(false) // there is no stream any more that could end
		h.mu.Unlock()
		if ctx.Err() != nil {
			break
		}
		h.broke(err)
		h.c.step("pushes", h.node, err)
		if time.Since(opened) > pushBackoff.Max {
			attempt = 0
		}
		pushBackoff.Wait(member, attempt)
	}
	h.end(ctx.Err() == nil)
}

// hear is one stream.
func (h *hearer) hear(ctx context.Context) error {
	conn, err := h.c.conns.to(h.node)
	if err != nil {
		return err
	}
	h.mu.Lock()
	from := peer.Hearing{Gate: h.gate, Resumable: true, Queue: h.queue, Last: h.last}
	h.mu.Unlock()
	return conn.ServePushes(ctx, from, h.open, h.take)
}

func (h *hearer) open(o peer.Opening) {
	h.begin(o)
	h.mu.Lock()
	h.tellLocked(true)
	h.mu.Unlock()
	h.c.pushes.set(h.node, true)
	h.c.checkPushes(h.c.View())
}

// begin compares where the node goes on with what this gate has heard.
func (h *hearer) begin(o peer.Opening) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stopLocked()
	h.ended, h.old = false, o.Queue == ""
	goesOn := o.Queue == h.queue && o.Last <= h.last
	if o.Lost || h.queue != "" && !goesOn {
		h.loseLocked()
	}
	if !goesOn {
		h.queue, h.last = o.Queue, o.Last
	}
}

// take delivers a frame, unless it was here before.
func (h *hearer) take(f peer.PushFrame) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f.Seq == 0 { // a node of an older version, which has no numbers
		return h.deliver(f)
	}
	if f.Seq <= h.last {
		return nil
	}
	if f.Seq > h.last+1 && !f.Gap {
		h.loseLocked()
	}
	if f.Gap {
		h.tellLocked(true) // who follows objects of this node asks what is missing
	}
	if err := h.deliver(f); err != nil {
		return err
	}
	h.last = f.Seq
	return nil
}

// broke waits a moment for the node to come back, unless it has said everything.
func (h *hearer) broke(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err == nil:
		h.stopLocked()
		h.queue, h.last, h.ended = "", 0, true
	case !h.ended && !h.old && h.broken == nil: // also before the first stream: the node may push for its clients
		h.broken = time.AfterFunc(brokenFor, func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			if h.broken != nil {
				h.loseLocked()
			}
		})
	}
}

func (h *hearer) stopLocked() {
	if h.broken != nil {
		h.broken.Stop()
		h.broken = nil
	}
}

// loseLocked tells every client that pushes may be lost.
func (h *hearer) loseLocked() {
	_ = h.deliver(peer.PushFrame{Broadcast: true, Gap: true}) // a gate takes every frame
	h.tellLocked(true)
}

// tellLocked tells how the stream stands, in its place among the frames.
func (h *hearer) tellLocked(up bool) {
	_ = h.deliver(peer.PushFrame{Stream: &peer.Stream{Node: h.node, Up: up}}) // it fails again with the next frame
}

// end is that of a node that is no member any more, or that of the gate. A node that the
// gate could not hear may have pushed until now, so it is told again.
func (h *hearer) end(gone bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stopLocked()
	if gone && !h.ended && !h.old {
		h.loseLocked()
	}
}
