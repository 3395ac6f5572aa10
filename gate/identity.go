package gate

import (
	"context"
	"time"

	"github.com/xiaonanln/goverse/internal/fault"
)

// CallerIdentity is who a client has proved to be. Nobody changes one that was handed out.
type CallerIdentity struct {
	UserID string
	Roles  []string
	// Expires ends what was opened with it: a session then, and each call that comes over
	// its connection later. Zero: it does not expire.
	Expires time.Time
}

// expired says that it holds no longer.
func (i *CallerIdentity) expired(now time.Time) bool {
	return i != nil && !i.Expires.IsZero() && !now.Before(i.Expires)
}

// Check returns why what it has opened is over; nil while it holds. A nil identity is
// nobody's, and does not expire.
func (i *CallerIdentity) Check() error {
	if i.expired(time.Now()) {
		return errExpired
	}
	return nil
}

// Is says that both are one user's. Who is nobody is nobody else either.
func (i *CallerIdentity) Is(other *CallerIdentity) bool {
	return i != nil && other != nil && i.UserID != "" && i.UserID == other.UserID
}

// EventHandler is a program's say in who its gate's clients are. Its methods are called
// concurrently. A panic in one of them is told, and refuses the client.
type EventHandler interface {
	// OnClientAuthorise says who comes with headers, whose names are in lower case: at each
	// HTTP request and unary gRPC call, and once for each connection that a session is on.
	// nil, nil is a client without an identity, which may go on as such. An error refuses
	// it: as Unauthenticated, unless the error says another of its kinds, or is a gRPC
	// status. It has 5 seconds, after which its context ends and the client is refused.
	OnClientAuthorise(ctx context.Context, headers map[string][]string) (*CallerIdentity, error)
	// OnClientDisconnect is called once for each session that OnClientAuthorise has let
	// in, some time after its end, with the identity of its last connection. The gate does
	// not wait for it.
	OnClientDisconnect(ctx context.Context, clientID string, identity *CallerIdentity)
}

// Identity is who opened the session's connection; nil: nobody who said so.
func (s *Session) Identity() *CallerIdentity { return s.identity }

// Owner is who opened the session clientID, if there is one.
func (g *Gate) Owner(clientID string) (who *CallerIdentity, known bool) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	s, known := g.sessions[clientID]
	if !known {
		return nil, false
	}
	return s.identity, true
}

// mayResume says that a session may go on over a connection of who: a token is not enough
// where a user has opened it.
func (s *Session) mayResume(who *CallerIdentity) bool {
	return s.identity == nil && who == nil || s.identity.Is(who)
}

// expireWithIdentity ends the session with its identity. It is called once, when the
// session is open.
func (s *Session) expireWithIdentity() {
	if s.identity == nil || s.identity.Expires.IsZero() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.lapse = time.AfterFunc(time.Until(s.identity.Expires), func() {
			if s.Err() == nil { // else it goes on over another connection, or nowhere
				s.Close(errExpired)
			}
		})
	}
}

var errExpired = fault.New(fault.Unauthenticated, "the client's identity has expired; authenticate anew, and connect again")
