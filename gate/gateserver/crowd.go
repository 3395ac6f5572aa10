package gateserver

import "sync"

// crowd counts those who work for clients on goroutines of others: gRPC's and
// net/http's. Unlike a WaitGroup it may be entered while it is waited for, until it
// is closed.
type crowd struct {
	mu     sync.Mutex
	inside int
	closed bool
	empty  chan struct{} // closed when closed and nobody is inside
}

func newCrowd() *crowd { return &crowd{empty: make(chan struct{})} }

func (c *crowd) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.inside++
	return true
}

func (c *crowd) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inside--
	c.announceLocked()
}

// close lets nobody in any more; the channel closes when the last has left.
func (c *crowd) close() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.closed = true
		c.announceLocked()
	}
	return c.empty
}

func (c *crowd) announceLocked() {
	if c.closed && c.inside == 0 {
		close(c.empty)
	}
}
