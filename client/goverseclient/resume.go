package goverseclient

import (
	"context"
	"errors"
	"fmt"
	"time"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
)

// Reset tells of pushes that are lost: the program reads anew what they told of.
type Reset struct {
	// From and To are the numbers of the lost pushes in their session. To is 0 when the
	// session itself is gone, and nobody knows how many are lost.
	From, To uint64
	Reason   string
}

// standpoint is where a session stands when its connection has ended.
type standpoint struct {
	address string // of its gate
	token   string // that resumes it; "" when it cannot be
	last    uint64 // the number of the last push or reset
}

// hello asks the gate at address for a session, or for the one that was there. A token is
// shown to no other gate.
func (p *standpoint) hello(address string, cfg *config) *gate_pb.Hello {
	h := &gate_pb.Hello{Resumable: !cfg.passing}
	if p != nil && p.token != "" && p.address == address {
		h.Token, h.Last = p.token, p.last
	}
	return h
}

// standpoint is where the session of a link that has ended stands.
func (l *link) standpoint() *standpoint {
	p := &standpoint{address: l.address}
	if s := l.stream; s != nil {
		s.pushing.Lock()
		defer s.pushing.Unlock()
		p.last = s.last
		if !s.leaving && !l.deserted.Load() {
			p.token = s.token
		}
	}
	return p
}

// tellConnected tells the program of a connection, and before that of what is lost since
// the one before, if the session does not go on.
func (c *Client) tellConnected(l *link, before *standpoint) {
	if before != nil && !l.resumed() {
		c.tellReset(Reset{From: before.last + 1, Reason: fmt.Sprintf("the session at the gate %s has ended", before.address)})
	}
	if f, id := c.cfg.onConnect, l.id; f != nil {
		c.tell(func() { f(id) })
	}
}

func (c *Client) tellReset(r Reset) {
	if f := c.cfg.onReset; f != nil {
		c.tell(func() { f(r) })
	}
}

func (l *link) resumed() bool { return l.stream != nil && l.stream.resumed }

// comeBack is how long a client tries first to go on with its session, before it tries
// other gates.
const comeBack = 2 * time.Second

// back is a new connection to the gate where the session waits; nil: there is none.
func (c *Client) back() *link {
	if c.stand == nil || c.stand.token == "" || len(c.addresses) == 1 {
		return nil // with one gate the usual way leads there
	}
	ctx, cancel := context.WithTimeoutCause(c.life, comeBack, errors.New("no answer"))
	defer cancel()
	l, err := c.openAt(ctx, c.stand.address)
	if err != nil {
		return nil
	}
	return l
}

// Acknowledgements go together: so many pushes, or so long after the first of them.
const (
	ackAfter = 64
	ackDelay = 100 * time.Millisecond
)

// note takes the number of a push that was delivered. The stream's pushing is held.
func (s *stream) note(seq uint64) {
	s.last = seq
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ack = seq
	switch {
	case s.ack-s.acked >= ackAfter:
		s.rouse()
	case !s.ackSoon:
		s.ackSoon = true
		time.AfterFunc(ackDelay, s.ackNow)
	}
}

// ackNow has everything acknowledged that has come.
func (s *stream) ackNow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ackSoon = false
	if s.ack > s.acked {
		s.ackDue = true
		s.rouse()
	}
}

// ackLocked is the acknowledgement that is to be sent; nil when it can wait.
func (s *stream) ackLocked() *gate_pb.ClientFrame {
	if s.ack == s.acked || !s.ackDue && !s.parting && s.ack-s.acked < ackAfter {
		return nil
	}
	s.acked, s.ackDue = s.ack, false
	return &gate_pb.ClientFrame{Kind: &gate_pb.ClientFrame_Ack{Ack: &gate_pb.Ack{Seq: s.ack}}}
}

// part ends the session for good: it does not wait at the gate. Behind what is to be sent
// the stream is half-closed.
func (s *stream) part() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parting = true
	s.rouse()
}

// parted waits a moment for the gate to end a stream that part has half-closed.
func (s *stream) parted() {
	s.mu.Lock()
	parting := s.parting
	s.mu.Unlock()
	if !parting {
		return
	}
	late := time.AfterFunc(lastWait, s.cut)
	defer late.Stop()
	s.parts.Wait()
}

// lastWait is how long Close waits for a gate to hear that the session is over.
const lastWait = 250 * time.Millisecond
