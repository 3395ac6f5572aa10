package gate

import (
	"container/list"
	"crypto/rand"
	"sync"
	"sync/atomic"
	"time"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
)

// Config is how a Gate keeps its sessions. Zero means default.
type Config struct {
	Address     string // the gate's advertised address: the prefix of its client ids
	MaxSessions int    // DefaultMaxSessions
	MaxMessages int    // messages in one session's outbox; DefaultMaxMessages
	MaxBytes    int    // their bytes; DefaultMaxBytes
	// ResumeWindow is how long a resumable session waits for its client to come back;
	// DefaultResumeWindow.
	ResumeWindow time.Duration
	Listener     event.Listener
	// Ended hears of each session that has ended, once, and may not wait. Optional.
	Ended func(s *Session)
}

// Defaults of Config.
const (
	DefaultMaxSessions  = 50_000
	DefaultMaxMessages  = 1024
	DefaultMaxBytes     = 1 << 20
	DefaultResumeWindow = time.Minute
)

func (c Config) withDefaults() Config {
	def := func(n *int, value int) {
		if *n <= 0 {
			*n = value
		}
	}
	def(&c.MaxSessions, DefaultMaxSessions)
	def(&c.MaxMessages, DefaultMaxMessages)
	def(&c.MaxBytes, DefaultMaxBytes)
	if c.ResumeWindow <= 0 {
		c.ResumeWindow = DefaultResumeWindow
	}
	return c
}

// Gate owns the sessions of one gate process. All methods may be called
// concurrently. Locks are taken in the order Gate.mu, trail.mu, Session.mu.
type Gate struct {
	Config
	key [32]byte // of the tokens; it ends with the process

	pushed atomic.Uint64 // to sessions

	mu       sync.RWMutex
	sessions map[string]*Session // a resumable one's last connection, also when that has ended
	adrift   list.List           // of those whose connection has ended, the longest first
	stopped  error               // set by Close: why no session opens any more
}

// New returns a gate without sessions. Its doors close the sessions they open.
func New(cfg Config) *Gate {
	g := &Gate{Config: cfg.withDefaults(), sessions: map[string]*Session{}}
	_, _ = rand.Read(g.key[:]) // it cannot fail
	return g
}

// SetMaxSessions changes how many sessions there are at most, for those that are yet to be
// opened. n is positive.
func (g *Gate) SetMaxSessions(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.MaxSessions = n
}

// Open begins a session for a new connection, with whose end it ends. It is refused as
// Overloaded when the gate is full and with Close's reason after Close. A full gate gives
// up the session that waits for its client for the longest, if there is one.
func (g *Gate) Open() (*Session, error) { return g.OpenAs(nil) }

// OpenAs is Open for a client that has proved to be who; nil: nobody.
func (g *Gate) OpenAs(who *CallerIdentity) (*Session, error) {
	s := newSession(g)
	s.identity = who
	g.mu.Lock()
	displaced, err := g.admitLocked(s)
	g.mu.Unlock()
	return s, g.opened(s, displaced, err)
}

// admitLocked lets s in. The session that had to go for it is yet to be ended.
func (g *Gate) admitLocked(s *Session) (displaced *Session, err error) {
	if g.stopped != nil {
		return nil, g.stopped
	}
	if len(g.sessions) >= g.MaxSessions {
		longest := g.adrift.Front()
		if longest == nil {
			return nil, fault.New(fault.Overloaded, "the gate has its %d clients; connect to another gate, or come again later", g.MaxSessions)
		}
		displaced = longest.Value.(*Session)
		g.dropLocked(displaced)
	}
	g.sessions[s.id] = s
	return displaced, nil
}

// opened tells what came of an attempt to open s.
func (g *Gate) opened(s, displaced *Session, err error) error {
	on := &g.Listener
	if (fault.KindOf(err) == fault.Overloaded || displaced != nil) && on.LimitReached != nil {
		on.LimitReached(event.LimitReached{Limit: event.Sessions})
	}
	if displaced != nil {
		displaced.over(errDisplaced)
		g.tellClosed(displaced, errDisplaced)
	}
	if err == nil && !s.resumed && on.SessionOpened != nil {
		on.SessionOpened(event.SessionOpened{ClientID: s.id})
	}
	if err == nil {
		s.expireWithIdentity()
	}
	return err
}

// Knows reports whether clientID names a session of this gate, also one that waits for
// its client.
func (g *Gate) Knows(clientID string) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	_, ok := g.sessions[clientID]
	return ok
}

// Len is the number of sessions, with those that wait for their clients.
func (g *Gate) Len() int {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return len(g.sessions)
}

// Pushed is how many pushes were handed to sessions so far: one to three of them counts
// three times.
func (g *Gate) Pushed() uint64 { return g.pushed.Load() }

// Close ends every session with why, which is not nil, and refuses new ones with it. What is in the
// outboxes can still be taken.
func (g *Gate) Close(why error) {
	for _, s := range g.stop(why) {
		s.Close(why)
	}
}

func (g *Gate) stop(why error) []*Session {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped == nil {
		g.stopped = why
	}
	open := make([]*Session, 0, len(g.sessions))
	for _, s := range g.sessions {
		open = append(open, s)
	}
	return open
}

// forget takes an ended session out and says so, unless it goes on over another
// connection.
func (g *Gate) forget(s *Session, why error) {
	g.mu.Lock()
	ours := g.sessions[s.id] == s
	if ours {
		g.dropLocked(s)
	}
	g.mu.Unlock()
	if ours {
		g.tellClosed(s, why)
	}
}

// dropLocked takes a session out.
func (g *Gate) dropLocked(s *Session) {
	delete(g.sessions, s.id)
	g.moorLocked(s)
}

func (g *Gate) tellClosed(s *Session, why error) {
	if g.Ended != nil {
		g.Ended(s)
	}
	if heard := g.Listener.SessionClosed; heard != nil {
		heard(event.SessionClosed{ClientID: s.id, Reason: reason(why)})
	}
}

func reason(why error) string {
	if why == nil {
		return "the client left"
	}
	return why.Error()
}
