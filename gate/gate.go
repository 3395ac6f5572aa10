package gate

import (
	"sync"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
)

// Config is how a Gate keeps its sessions. Zero means default.
type Config struct {
	Address     string // the gate's advertised address: the prefix of its client ids
	MaxSessions int    // DefaultMaxSessions
	MaxMessages int    // messages in one session's outbox; DefaultMaxMessages
	MaxBytes    int    // their bytes; DefaultMaxBytes
	Listener    event.Listener
}

// Defaults of Config.
const (
	DefaultMaxSessions = 50_000
	DefaultMaxMessages = 1024
	DefaultMaxBytes    = 1 << 20
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
	return c
}

// Gate owns the sessions of one gate process. All methods may be called
// concurrently. Locks are taken in the order Gate.mu, Session.mu.
type Gate struct {
	Config

	mu       sync.RWMutex
	sessions map[string]*Session
	stopped  error // set by Close: why no session opens any more
}

// New returns a gate without sessions. Its doors close the sessions they open.
func New(cfg Config) *Gate {
	return &Gate{Config: cfg.withDefaults(), sessions: map[string]*Session{}}
}

// Open begins a session for a new connection. It is refused as Overloaded when the
// gate is full and with Close's reason after Close.
func (g *Gate) Open() (*Session, error) {
	s := newSession(g)
	if err := g.admit(s); err != nil {
		if heard := g.Listener.LimitReached; heard != nil && fault.KindOf(err) == fault.Overloaded {
			heard(event.LimitReached{Limit: event.Sessions})
		}
		return nil, err
	}
	if heard := g.Listener.SessionOpened; heard != nil {
		heard(event.SessionOpened{ClientID: s.id})
	}
	return s, nil
}

func (g *Gate) admit(s *Session) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.stopped != nil:
		return g.stopped
	case len(g.sessions) >= g.MaxSessions:
		return fault.New(fault.Overloaded, "the gate has its %d clients; connect to another gate, or come again later", g.MaxSessions)
	}
	g.sessions[s.id] = s
	return nil
}

// Knows reports whether clientID names an open session of this gate.
func (g *Gate) Knows(clientID string) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	_, ok := g.sessions[clientID]
	return ok
}

// Len is the number of open sessions.
func (g *Gate) Len() int {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return len(g.sessions)
}

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

// forget takes an ended session out and says so.
func (g *Gate) forget(s *Session, why error) {
	g.mu.Lock()
	delete(g.sessions, s.id)
	g.mu.Unlock()
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
