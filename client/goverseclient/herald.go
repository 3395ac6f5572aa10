package goverseclient

import "sync"

// backlog is how many pushed messages wait for the program, in the channel and for
// the callbacks each.
const backlog = 1024

// herald runs the program's callbacks one after the other and in order, apart from
// the client's work: a slow one holds up neither calls nor the connection. Its
// goroutine lives while there is something to tell.
type herald struct {
	telling sync.WaitGroup

	mu      sync.Mutex
	queue   []func() // oldest first
	running bool     // there is a goroutine
	calling bool     // it is inside a callback
	closed  bool
}

// tell puts f in the queue. If that is full, its oldest entry is dropped.
func (h *herald) tell(f func()) (dropped bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	if dropped = len(h.queue) >= backlog; dropped {
		h.queue[0] = nil
		h.queue = h.queue[1:]
	}
	h.queue = append(h.queue, f)
	if !h.running {
		h.running = true
		h.telling.Go(h.run)
	}
	return dropped
}

func (h *herald) run() {
	for f := h.next(); f != nil; f = h.next() {
		f()
	}
}

// next ends the callback before and begins another; nil when there is none.
func (h *herald) next() func() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calling = false
	if h.closed || len(h.queue) == 0 {
		h.queue, h.running = nil, false
		return nil
	}
	f := h.queue[0]
	h.queue[0] = nil
	h.queue, h.calling = h.queue[1:], true
	return f
}

// close begins no callback any more. It does not wait for one that runs, which may
// be what called it.
func (h *herald) close() {
	h.mu.Lock()
	h.closed, h.queue = true, nil
	calling := h.calling
	h.mu.Unlock()
	if !calling {
		h.telling.Wait()
	}
}
