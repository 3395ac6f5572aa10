package gateserver

import (
	"errors"
	"math"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
)

// door is a listener that counts its visitors, and whose connections end when their other
// end takes nothing of what is sent for the time of patience.
type door struct {
	net.Listener
	visitors *guests // nil: they are not counted
	patience time.Duration
}

// Connections that are refused get toldWithin to hear why, maxTold of them at once.
const (
	toldWithin = 4 * time.Second
	maxTold    = 256
)

// counted counts those who come by l.
func (c *calls) counted(l net.Listener, patience time.Duration) net.Listener {
	return &door{Listener: l, visitors: c.visitors, patience: patience}
}

// uncounted does not.
func uncounted(l net.Listener, patience time.Duration) net.Listener {
	return &door{Listener: l, patience: patience}
}

func (d *door) Accept() (net.Conn, error) {
	for {
		conn, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &doorConn{Conn: conn, patience: d.patience, remote: remote{Addr: conn.RemoteAddr()}}
		keepLittleUnsent(conn)
		if d.visitors == nil || d.visitors.receive(c) {
			return c, nil
		}
		_ = conn.Close() // nobody was told of it
	}
}

// receive counts a connection. It says whether anybody is to talk to it.
func (t *guests) receive(c *doorConn) bool {
	c.visitors = t
	c.remote.unsent = &unsent{each: 2 * c.patience, rate: t.now().AnswerRate, cut: func() {
		t.tell(event.SlowReaders)
		_ = c.Close() // gRPC hears of it
	}}
	c.remote.guest, c.remote.refusal = t.connect(remoteIP(c.remote.Addr))
	c.remote.unsent.all = t.untaken.ofConnection(c.remote.guest, c.remote.unsent.giveUp)
	if c.remote.refusal == nil {
		return true
	}
	if !t.mayHear() {
		t.disconnect(c.remote.guest)
		return false
	}
	_ = c.Conn.SetDeadline(time.Now().Add(toldWithin)) // one that is closed fails later too
	return true
}

func (t *guests) mayHear() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cut >= maxTold {
		return false
	}
	t.cut++
	return true
}

// remote is the address of a connection's other end, and whose it is. It is how those who
// get only the address find the guest.
type remote struct {
	net.Addr
	guest   *guest
	refusal *fault.Error
	unsent  *unsent // of who is counted
}

// doorConn is one connection.
type doorConn struct {
	net.Conn
	visitors *guests
	remote   remote
	patience time.Duration
	until    atomic.Int64 // the write deadline, in Unix nanoseconds
	taken    atomic.Pointer[func()]
	closed   sync.Once
}

func (c *doorConn) RemoteAddr() net.Addr { return c.remote }

// part is how much of a long write is given to the other end at once, in bytes.
const part = 32 << 10

// Write fails when nothing is taken for twice the patience at most. A stream that
// knows better who is slow is patient for once.
func (c *doorConn) Write(b []byte) (n int, err error) {
	for {
		if err = c.extend(); err != nil {
			return n, err
		}
		some, err := c.Conn.Write(b[n:min(len(b), n+part)])
		n += some
		if f := c.taken.Load(); f != nil && some > 0 {
			(*f)()
		}
		if err != nil {
			c.failed(err)
			return n, err
		}
		if n == len(b) {
			return n, nil
		}
	}
}

// failed tells of an other end that takes nothing.
func (c *doorConn) failed(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) && c.remote.refusal == nil && c.visitors != nil {
		c.visitors.tell(event.SlowReaders)
	}
}

// extend sees to it that the deadline is between one and two patiences away.
func (c *doorConn) extend() error {
	now := time.Now()
	if c.remote.refusal != nil || c.until.Load() > now.Add(c.patience+c.patience/4).UnixNano() {
		return nil
	}
	until := now.Add(2 * c.patience)
	c.until.Store(until.UnixNano())
	return c.Conn.SetWriteDeadline(until)
}

// SetWriteDeadline takes the place of the patience, until it is set to none.
func (c *doorConn) SetWriteDeadline(t time.Time) error {
	if t.IsZero() {
		c.until.Store(0) // the next Write looks to it
		return nil
	}
	c.until.Store(math.MaxInt64)
	if c.remote.refusal != nil {
		return nil
	}
	return c.Conn.SetWriteDeadline(t)
}

// SetReadDeadline changes nothing for who was refused.
func (c *doorConn) SetReadDeadline(t time.Time) error {
	if c.remote.refusal != nil {
		return nil
	}
	return c.Conn.SetReadDeadline(t)
}

// SetDeadline is both.
func (c *doorConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *doorConn) Close() error {
	c.closed.Do(func() {
		t := c.visitors
		if t == nil {
			return
		}
		c.remote.unsent.end()
		t.disconnect(c.remote.guest)
		if c.remote.refusal != nil {
			t.mu.Lock()
			t.cut--
			t.mu.Unlock()
		}
	})
	return c.Conn.Close()
}

// watch has f called when the other end of conn has taken something.
func watch(conn net.Conn, f func()) {
	for {
		switch c := conn.(type) {
		case *doorConn:
			c.taken.Store(&f)
			return
		case interface{ NetConn() net.Conn }: // TLS
			conn = c.NetConn()
		default:
			return
		}
	}
}
