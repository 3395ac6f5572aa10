//go:build unix

package e2e

import (
	"net"
	"sync"
	"testing"
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
	conns map[net.Conn]bool
}

func newRoad(t *testing.T, target string) *road {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &road{target: target, listener: l, open: make(chan struct{}), conns: map[net.Conn]bool{}}
	close(r.open)
	r.running.Go(r.serve)
	t.Cleanup(r.close)
	return r
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
	r.keep(near)
	<-r.passable()
	far, err := net.Dial("tcp", r.target)
	if err != nil {
		r.drop(near)
		return
	}
	r.keep(far)
	var both sync.WaitGroup
	both.Go(func() { r.carry(far, near) })
	both.Go(func() { r.carry(near, far) })
	both.Wait()
	r.drop(near)
	r.drop(far)
}

// carry copies what comes, while the road is open. The end of one direction ends both.
func (r *road) carry(to, from net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		<-r.passable()
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	to.Close()
	from.Close()
}

func (r *road) passable() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.open
}

func (r *road) keep(c net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns[c] = true
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
	for c := range r.conns {
		c.Close()
	}
	r.mu.Unlock()
	r.running.Wait()
}
