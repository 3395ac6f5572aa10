package cluster

import (
	"errors"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
)

// conns is the connections to the nodes of the cluster, made when first needed and
// kept while the node lives. The process's own node is one of them.
type conns struct {
	dialer peer.Dialer
	known  atomic.Pointer[map[string]peer.Conn] // for look-ups without the lock; never changed in place

	mu      sync.Mutex // protects following fields and the writes of known
	own     string
	done    bool
	leaving map[string]bool           // nodes that said that they leave
	parted  map[peer.Conn]*time.Timer // connections to those that have left, and when to close them
}

// lastAnswers is for how long a connection outlives a node that left in good order: what
// it has answered may still be on its way.
const lastAnswers = 2 * time.Second

func newConns(dialer peer.Dialer) *conns {
	c := &conns{dialer: dialer, leaving: map[string]bool{}, parted: map[peer.Conn]*time.Timer{}}
	c.known.Store(&map[string]peer.Conn{})
	return c
}

// serve makes conn the way to the process's own node.
func (c *conns) serve(address string, conn peer.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.own = address
	c.put(address, conn)
}

// to is the way to a node.
func (c *conns) to(address string) (peer.Conn, error) {
	if conn, ok := (*c.known.Load())[address]; ok {
		return conn, nil
	}
	return c.dial(address)
}

func (c *conns) dial(address string) (peer.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if conn, ok := (*c.known.Load())[address]; ok {
		return conn, nil
	}
	if c.done {
		return nil, errStopped
	}
	conn, err := c.dialer.Dial(address)
	if err != nil {
		return nil, fault.New(fault.NotReady, "connect to %s: %w", address, err)
	}
	c.put(address, conn)
	return conn, nil
}

func (c *conns) put(address string, conn peer.Conn) {
	next := maps.Clone(*c.known.Load())
	next[address] = conn
	c.known.Store(&next)
}

// keep closes the connections to nodes that are no longer alive. Their calls end as
// Indeterminate; those of a node that has left may first end well.
func (c *conns) keep(alive sharding.Members) {
	c.mu.Lock()
	var gone []peer.Conn
	next := maps.Clone(*c.known.Load())
	for address, conn := range next {
		switch {
		case address == c.own || alive.Has(address):
			continue
		case c.leaving[address] && !c.done:
			c.part(conn)
		default:
			gone = append(gone, conn)
		}
		delete(next, address)
	}
	c.known.Store(&next)
	clear(c.leaving)
	for _, m := range alive {
		if m.Draining {
			c.leaving[m.Address] = true
		}
	}
	c.mu.Unlock()
	closeAll(gone)
}

// part closes a connection a little later. c.mu is held.
func (c *conns) part(conn peer.Conn) {
	c.parted[conn] = time.AfterFunc(lastAnswers, func() {
		c.mu.Lock()
		delete(c.parted, conn)
		c.mu.Unlock()
		closeAll([]peer.Conn{conn})
	})
}

// close closes all; there are none afterwards.
func (c *conns) close() {
	c.mu.Lock()
	c.done = true
	var all []peer.Conn
	for _, conn := range *c.known.Load() {
		all = append(all, conn)
	}
	for conn, timer := range c.parted {
		timer.Stop()
		all = append(all, conn)
	}
	clear(c.parted)
	c.known.Store(&map[string]peer.Conn{})
	c.mu.Unlock()
	closeAll(all)
}

func closeAll(list []peer.Conn) {
	for _, conn := range list {
		_ = conn.Close() // nothing more is expected of it
	}
}

var (
	errStopped = errors.New("this process has left the cluster")
	errRefused = errors.New("the cluster has moved on")
)
