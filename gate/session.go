package gate

import (
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
)

// Message is one push in a session's outbox. Sessions share what it points to; nobody
// changes that.
type Message struct {
	Any   *anypb.Any
	JSON  []byte    // the same in protojson; empty where the node had none
	Seq   uint64    // its number in a resumable session; else 0
	At    time.Time // when it came to the gate; zero: nobody wants to know
	Reset *Reset    // instead of a push: some are lost. In resumable sessions only
}

// Reset stands for the pushes From to To, which are lost: the client is to read anew what
// they told of. To is 0 for those of another session, which nobody counts.
type Reset struct {
	From, To uint64
	Reason   string
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
// A resumable session goes on when its connection has ended (see Gate.OpenResumable):
// each of its connections has a Session of its own, with the same id.
//
// All methods may be called concurrently, except that Next and Ready have one user.
type Session struct {
	id    string
	gate  *Gate
	ready chan struct{} // holds a token while there may be something to take
	done  chan struct{}

	trail   *trail // of a resumable session, whose outbox it is; else nil
	token   string // with which it goes on after this connection
	resumed bool   // it has had a connection before

	identity *CallerIdentity // of who opened the connection; nil: nobody

	mu     sync.Mutex
	outbox []Message // in order; taken from the front
	bytes  int
	ended  bool
	why    error
	lapse  *time.Timer // ends it with its identity; nil: it does not
	door   event.Door  // by which the connection came
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

// Token resumes the session when its connection has ended, once; "" if it is not
// resumable.
func (s *Session) Token() string { return s.token }

// Resumed says that the session has had a connection before, and goes on.
func (s *Session) Resumed() bool { return s.resumed }

// Window is how long the session waits for its client to come back; 0 if it is not
// resumable.
func (s *Session) Window() time.Duration {
	if s.trail == nil {
		return 0
	}
	return s.gate.ResumeWindow
}

// Done is closed when the session has ended, or has but lost this connection: nothing is
// added to its outbox any more.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err says why Done is closed: nil while it is not, and nil when the client left.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.why
}

// Next takes the oldest message out of the outbox.
func (s *Session) Next() (m Message, ok bool) {
	if s.trail != nil {
		m, ok = s.nextOfTrail()
	} else {
		m, ok = s.nextOfOutbox()
	}
	if ok {
		s.gate.passed(m.At)
	}
	return m, ok
}

func (s *Session) nextOfOutbox() (Message, bool) {
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

// Close ends the session with why, nil if its client left for good. The first reason
// counts.
func (s *Session) Close(why error) {
	s.over(why)
	if s.trail == nil {
		why = s.Err() // it may have ended before, for another reason
	}
	s.gate.forget(s, why)
}

// over ends the session where the gate need not hear of it.
func (s *Session) over(why error) {
	if s.trail != nil {
		s.trail.finish(s)
	}
	s.fail(why)
}

// fail ends the connection's part in the session.
func (s *Session) fail(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.endLocked(why)
	}
}

// Disconnect ends this connection with why, nil if the client has hung up. A resumable
// session waits for its client from now on, any other ends.
func (s *Session) Disconnect(why error) {
	if s.trail == nil {
		s.Close(why)
		return
	}
	s.gate.setAdrift(s, why)
}

func (s *Session) endLocked(why error) {
	s.ended, s.why = true, why
	if s.lapse != nil {
		s.lapse.Stop()
	}
	close(s.done)
}

// offer puts m into the outbox. A message that does not fit ends the session at
// once, so that no later one is taken after the gap; lost is then how many were
// given up, and the caller tells the gate. One message alone always fits.
func (s *Session) offer(m Message, f *peer.PushFrame) (lost int) {
	if s.trail != nil {
		return s.offerToTrail(m, f)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || f.Gap {
		return 0
	}
	if n := len(s.outbox); n > 0 && (n >= s.gate.MaxMessages || s.bytes+m.size() > s.gate.MaxBytes) {
		s.outbox, s.bytes = nil, 0
		s.endLocked(errSlow)
		return n + 1
	}
	s.outbox = append(s.outbox, m)
	s.bytes += m.size()
	s.rouse()
	return 0
}

// rouse gives Ready its token.
func (s *Session) rouse() {
	select {
	case s.ready <- struct{}{}:
	default: // it has it
	}
}

// errSlow ends a session whose outbox is full.
var errSlow = fault.New(fault.Overloaded,
	"the client does not read its messages as fast as they come and its outbox is full; messages were lost: connect again and read the state anew")
