package main

import (
	"net"
	"sync"
)

// road is a way to an address that can be cut: what is sent is then held back, in both
// directions, and goes on when the road is healed, as over a network that loses every
// packet for a while.
type road struct {
	target   string
	listener net.Listener
	running  sync.WaitGroup

	mu    sync.Mutex // protects following fields
	open  chan struct{}
	cut   bool
	ended bool
	conns map[net.Conn]bool
}

func newRoad(target string) (*road, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &road{target: target, listener: l, open: make(chan struct{}), conns: map[net.Conn]bool{}}
	close(r.open)
	r.running.Go(r.serve)
	return r, nil
}

func (r *road) address() string { return r.listener.Addr().String() }

func (r *road) serve() {
	for {
		near, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.running.Go(func() { r.connect(near) })
	}
}

func (r *road) connect(near net.Conn) {
	defer r.drop(near)
	if !r.keep(near) {
		return
	}
	<-r.passable()
	far, err := net.Dial("tcp", r.target)
	if err != nil {
		return
	}
	defer r.drop(far)
	if !r.keep(far) {
		return
	}
	var back sync.WaitGroup
	back.Go(func() { r.carry(near, far) })
	r.carry(far, near)
	back.Wait()
}

// carry copies what comes, while the road is open. The end of one direction ends both.
func (r *road) carry(to, from net.Conn) {
	defer from.Close()
	defer to.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		<-r.passable()
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (r *road) passable() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.open
}

// keep notes a connection, unless the road has ended.
func (r *road) keep(c net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ended {
		r.conns[c] = true
	}
	return !r.ended
}

func (r *road) drop(c net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.Close()
	delete(r.conns, c)
}

// sever lets nothing through until heal.
func (r *road) sever() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.cut {
		r.cut, r.open = true, make(chan struct{})
	}
}

func (r *road) heal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cut {
		r.cut = false
		close(r.open)
	}
}

func (r *road) close() {
	r.heal()
	r.listener.Close()
	r.mu.Lock()
	r.ended = true
	for c := range r.conns {
		c.Close()
	}
	r.mu.Unlock()
	r.running.Wait()
}
