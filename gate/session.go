package gate

import (
	"sync"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/xiaonanln/goverse/internal/fault"
)

// Message is one push in a session's outbox. Sessions share it; nobody changes it.
type Message struct {
	Any  *anypb.Any
	JSON []byte // the same in protojson; empty where the node had none
}

func (m Message) size() int { return len(m.Any.GetValue()) + len(m.JSON) }

// Session is one client's connection to the gate: its id and its outbox. The door
// that opened it has one goroutine that drains the outbox:
//
//	for {
//		for m, ok := s.Next(); ok; m, ok = s.Next() { send(m) }
//		select {
//		case <-s.Ready():
//		case <-s.Done(): // drain once more, then say s.Err() to the client
//		}
//	}
//
// All methods may be called concurrently, except that Next and Ready have one user.
type Session struct {
	id    string
	gate  *Gate
	ready chan struct{} // holds a token while there may be something to take
	done  chan struct{}

	mu     sync.Mutex
	outbox []Message // in order; taken from the front
	bytes  int
	ended  bool
	why    error
}

func newSession(g *Gate) *Session {
	return &Session{
		id:    newClientID(g.Address),
		gate:  g,
		ready: make(chan struct{}, 1),
		done:  make(chan struct{}),
	}
}

// ID is the client id: gateAddress/uniqueId.
func (s *Session) ID() string { return s.id }

// Ready has a token when messages arrived since Next last found none.
func (s *Session) Ready() <-chan struct{} { return s.ready }

// Done is closed when the session has ended: nothing is added to its outbox any more.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err says why the session ended: nil while it has not, and nil when its client left.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.why
}

// Next takes the oldest message out of the outbox.
func (s *Session) Next() (Message, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.outbox) == 0 {
		s.outbox = nil // an idle session keeps no buffer
		return Message{}, false
	}
	m := s.outbox[0]
	s.outbox[0] = Message{}
	s.outbox = s.outbox[1:]
	s.bytes -= m.size()
	return m, true
}

// Close ends the session with why, nil if its client left. The first reason counts.
func (s *Session) Close(why error) {
	s.mu.Lock()
	first := s.endLocked(why)
	s.mu.Unlock()
	if first {
		s.gate.forget(s, why)
	}
}

func (s *Session) endLocked(why error) (first bool) {
	if s.ended {
		return false
	}
	s.ended, s.why = true, why
	close(s.done)
	return true
}

// offer puts m into the outbox. A message that does not fit ends the session at
// once, so that no later one is taken after the gap; lost is then how many were
// given up, and the caller tells the gate. One message alone always fits.
func (s *Session) offer(m Message) (lost int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return 0
	}
	if n := len(s.outbox); n > 0 && (n >= s.gate.MaxMessages || s.bytes+m.size() > s.gate.MaxBytes) {
		s.outbox, s.bytes = nil, 0
		s.endLocked(errSlow)
		return n + 1
	}
	s.outbox = append(s.outbox, m)
	s.bytes += m.size()
	select {
	case s.ready <- struct{}{}:
	default: // it has its token
	}
	return 0
}

// errSlow ends a session whose outbox is full.
var errSlow = fault.New(fault.Overloaded,
	"the client does not read its messages as fast as they come and its outbox is full; messages were lost: connect again and read the state anew")
