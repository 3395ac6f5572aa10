package node

import (
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
)

// maxQueueBytes bounds the requests of the calls that wait for the turn of one object.
// How many may wait is its type's to say.
const maxQueueBytes = 4 << 20

// weigh looks how large the request is, once. No call weighs nothing.
func (c *call) weigh() {
	if c.weight == 0 {
		c.weight = max(1, proto.Size(c.message))
	}
}

// waiting is the queue.
func (t *turnstile) waiting() []*waiter {
	if t.backlog == nil {
		return nil
	}
	return t.queue
}

// add puts w behind the others.
func (t *turnstile) add(w *waiter) {
	if t.backlog == nil {
		t.backlog = new(backlog)
	}
	t.queue = append(t.queue, w)
	t.bytes += w.weight
}

// remove takes one out of the queue: mostly the first.
func (b *backlog) remove(i int) {
	b.bytes -= b.queue[i].weight
	if i > 0 {
		b.queue = slices.Delete(b.queue, i, i+1)
		return
	}
	b.queue[0] = nil
	b.queue = b.queue[1:]
}

// weed takes those among the first n out for whom gone says so. They are settled by then.
func (b *backlog) weed(n int, gone func(w *waiter) bool) {
	kept := 0
	for _, w := range b.queue[:n] {
		if gone(w) {
			b.bytes -= w.weight
			continue
		}
		b.queue[kept] = w
		kept++
	}
	b.queue = slices.Delete(b.queue, kept, n)
}

// sendAway empties the queue. Frames that are inside, and re-entrants of their chains,
// go on.
func (t *turnstile) sendAway(why error) {
	if t.backlog == nil {
		return
	}
	for _, w := range t.queue {
		w.settle(nil, why)
	}
	t.queue, t.bytes = nil, 0
}

// crowded says why a call that weighs so much finds no room in the queue, or nil. Where
// nobody waits there is room for any.
func (t *turnstile) crowded(most, weight int) error {
	n := len(t.waiting())
	var e beyond
	switch {
	case n == 0 || n < most && t.bytes+weight <= maxQueueBytes:
		return nil
	case n >= most:
		e = beyond{event.QueueCalls, fault.New(fault.Overloaded, "%d calls already wait for this object", n)}
	default:
		e = beyond{event.QueueBytes, fault.New(fault.Overloaded, "%d bytes of requests already wait for this object; at most %d may, with this one's %d", t.bytes, maxQueueBytes, weight)}
	}
	e.fault.RetryAfter = overloadRetry
	return &e
}

// displace sends the newest root calls away, as many as it takes to make room for a call
// of a chain that is inside already. It sends nobody away if that does not help.
func (t *turnstile) displace(most, weight int, why error) bool {
	calls, bytes, from := len(t.queue), t.bytes, len(t.queue)
	for calls > 0 && (calls >= most || bytes+weight > maxQueueBytes) {
		if from--; from < 0 {
			return false
		}
		if w := t.queue[from]; w.parks {
			calls, bytes = calls-1, bytes-w.weight
		}
	}
	for i := len(t.queue) - 1; i >= from; i-- {
		if w := t.queue[i]; w.parks {
			t.remove(i)
			w.settle(nil, why)
		}
	}
	return true
}
