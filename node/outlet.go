package node

import (
	"cmp"
	"sync"
	"time"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

// The bounds of what is kept for a gate.
const (
	maxOutletBytes  = 8 << 20     // that wait for it
	maxSentBytes    = 2 << 20     // that it was sent: more than is on its way at any time
	maxUnheard      = 64          // gates that pushes name and that have not opened a stream
	maxUnheardBytes = 256 << 10   // that wait for one of these
	outletWindow    = time.Minute // for a gate without a stream
)

// outlet is the bounded queue towards one gate, which outlives the gate's streams: first
// what was sent, in case the stream breaks and the gate has not heard it, then what waits.
// A gate that resumes says what it has heard; what the gate has missed and is no longer here is
// a gap that the gate sees by the numbers.
type outlet struct {
	gate   string
	on     event.Listener
	heard  bool          // it has had a stream; the pushes' mutex protects this and the next two
	stream *outletStream // that it has
	expiry *time.Timer   // while it has none

	mu      sync.Mutex // protects following fields
	current *outletStream
	name    string // where numbers count
	queue   []peer.PushFrame
	sent    int // of queue
	sentB   int // bytes of these
	waitB   int // bytes of the others
	limit   int // of waitB
	last    uint64
	lost    bool  // pushes were lost before the queue began
	ended   bool  // nothing is added any more
	older   bool  // current is a gate's that does not know gaps
	failed  error // why current ends, then
}

// outletStream is one stream to the gate.
type outletStream struct {
	wake chan struct{} // has a token when there may be something to send
}

func (s *outletStream) rouse() {
	if s == nil {
		return
	}
	select {
	case s.wake <- struct{}{}:
	default: // it has it
	}
}

// attach makes s the stream to send over; nil: none.
func (o *outlet) attach(s *outletStream, h peer.Hearing, ended bool) peer.Opening {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.current, o.ended = s, o.ended || ended
	o.older, o.failed = s != nil && !h.Resumable, nil
	if s == nil {
		return peer.Opening{}
	}
	o.limit = maxOutletBytes
	if h.Queue == o.name {
		o.waitB, o.sent, o.sentB = o.waitB+o.sentB, 0, 0
		o.lost = false // who names the queue has heard how it was opened
		o.forgetLocked(h.Last)
	} else {
		o.beginLocked()
	}
	opening := peer.Opening{Queue: o.name, Last: o.last, Lost: o.lost}
	if len(o.queue) > 0 {
		opening.Last = o.queue[0].Seq - 1
	}
	return opening
}

// holds says whether anything is here that the gate may not have heard.
func (o *outlet) holds() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.lost || len(o.queue) > 0
}

// forgetLocked lets go of what the gate has heard.
func (o *outlet) forgetLocked(heard uint64) {
	for len(o.queue) > 0 && o.queue[0].Seq <= heard {
		o.waitB -= frameSize(&o.queue[0])
		o.queue = o.queue[1:]
	}
}

// beginLocked numbers what waits anew, for a gate that knows nothing of this queue. What was
// pushed to everybody before there was such a gate is not for the clients that it will have,
// and what was sent already went to another one.
func (o *outlet) beginLocked() {
	queue := o.queue[o.sent:]
	o.lost = o.lost || o.sent > 0
	o.name, o.queue, o.sent, o.sentB, o.waitB, o.last = object.NewID(), nil, 0, 0, 0, 0
	for _, f := range queue {
		if f.Broadcast {
			o.lost = true
			continue
		}
		o.appendLocked(f)
	}
}

// put queues a frame. Of those that do not fit the greediest clients' go.
func (o *outlet) put(f peer.PushFrame) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended || o.failed != nil {
		return
	}
	if f.Change != nil && len(f.Message.GetValue())+len(f.JSON) > peer.MaxPayload {
		f = peer.PushFrame{Gap: true} // no frame takes it: who follows asks for a snapshot
	}
	o.appendLocked(f)
	gap := f.Gap
	if o.waitB > o.limit {
		o.overflowLocked()
		gap = true
	}
	if gap && o.older { // it would not understand
		o.dropLocked()
		o.failed = fault.New(fault.Overloaded, "gate %s is too slow: more than %d bytes wait for it", o.gate, maxOutletBytes)
	}
	o.current.rouse()
}

func (o *outlet) appendLocked(f peer.PushFrame) {
	o.last++
	f.Seq = o.last
	o.queue = append(o.queue, f)
	o.waitB += frameSize(&f)
}

// overflowLocked puts a word to those whose pushes are given up in front of the pushes that
// are kept, and numbers these anew: no gate has seen them.
func (o *outlet) overflowLocked() {
	waiting := o.queue[o.sent:]
	o.last = waiting[0].Seq - 1
	kept, gaps, lost := giveUp(waiting, o.limit/2)
	if o.older { // nothing of it goes that way
		lost = map[addressee]int{{}: messages(waiting)}
	}
	if o.on.PushDropped != nil {
		for to, count := range lost {
			if count > 0 { // else it was told before
				o.on.PushDropped(event.PushDropped{ClientID: cmp.Or(to.client, o.gate), Count: count, Reason: "the gate does not read"})
			}
		}
	}
	o.dropLocked()
	for _, f := range append(gaps, kept...) {
		o.appendLocked(f)
	}
}

// dropLocked lets go of all that waits.
func (o *outlet) dropLocked() {
	clear(o.queue[o.sent:])
	o.queue, o.waitB = o.queue[:o.sent], 0
}

// next is what is to be sent over s now: nil while there is nothing; no more: the gate has
// heard everything, and nothing follows.
func (o *outlet) next(s *outletStream) (f *peer.PushFrame, more bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.current != s:
		return nil, false, errGateTwice
	case o.failed != nil:
		return nil, false, o.failed
	case o.sent == len(o.queue):
		return nil, !o.ended, nil
	}
	one := o.queue[o.sent]
	o.sent++
	o.sentB += frameSize(&one)
	o.waitB -= frameSize(&one)
	for o.sentB > maxSentBytes && o.sent > 1 {
		o.sentB -= frameSize(&o.queue[0])
		o.queue[0] = peer.PushFrame{}
		o.queue = o.queue[1:]
		o.sent--
	}
	return &one, true, nil
}

func (o *outlet) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	o.current.rouse()
}

// frameSize is about what a frame takes.
func frameSize(f *peer.PushFrame) int {
	size := len(f.Message.GetValue()) + len(f.JSON) + 64
	for _, id := range f.ClientIDs {
		size += len(id) + 24
	}
	return size
}
