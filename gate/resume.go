package gate

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"time"

	"github.com/xiaonanln/goverse/internal/fault"
)

// OpenResumable is Open for a client that may come back: the session outlives its
// connection for the resume window, its pushes are numbered from 1, and are kept until they
// are acknowledged, as many as MaxMessages and MaxBytes allow. What does not fit costs the
// oldest, and a Reset tells so, unless the push says otherwise.
//
// With the token of such a session that session goes on behind the push last, over the new
// connection alone: an old one that still lives is ended. The token is used up by that. A
// token that is no session's here (it is another gate's, forged, used up, or too late) opens
// a new session, which begins with a Reset. The error of a client that claims to have pushes
// which were not sent is Invalid; its session waits on.
func (g *Gate) OpenResumable(token string, last uint64) (*Session, error) {
	return g.OpenResumableAs(nil, token, last)
}

// OpenResumableAs is OpenResumable for a client that has proved to be who; nil: nobody. A
// session goes on only for the user who opened it.
func (g *Gate) OpenResumableAs(who *CallerIdentity, token string, last uint64) (*Session, error) {
	s := newSession(g)
	s.identity = who
	g.mu.Lock()
	old, err := g.resumeLocked(s, token, last)
	var displaced *Session
	if old == nil && err == nil {
		s.trail = newTrail(g, lostBefore(token, last))
		s.trail.connect(s, 0)
		s.token = g.token(s.id, 0)
		displaced, err = g.admitLocked(s)
	}
	g.mu.Unlock()
	if old != nil {
		old.fail(errTakenOver)
	}
	if err = g.opened(s, displaced, err); err != nil {
		return nil, err
	}
	return s, nil
}

// lostBefore is what a client has lost whose session does not go on.
func lostBefore(token string, last uint64) *Reset {
	if token == "" {
		return nil
	}
	return &Reset{From: last + 1, Reason: lostSession}
}

// resumeLocked makes s the connection of the token's session in place of old.
func (g *Gate) resumeLocked(s *Session, token string, last uint64) (old *Session, err error) {
	if old = g.holderLocked(token); old == nil || g.stopped != nil || !old.mayResume(s.identity) {
		return nil, g.stopped
	}
	switch ok, here := old.trail.connect(s, last); {
	case !here: // it ends in this moment
		return nil, nil
	case !ok:
		return nil, fault.New(fault.Invalid, "the client resumes a session behind message %d, which it was never sent", last)
	}
	s.id, s.trail, s.resumed = old.id, old.trail, true
	s.trail.rotation++
	s.token = g.token(s.id, s.trail.rotation)
	g.moorLocked(old)
	g.sessions[s.id] = s
	return old, nil
}

// holderLocked is the session whose next connection may be opened with the token.
func (g *Gate) holderLocked(token string) *Session {
	unique, _, ok := strings.Cut(token, ".")
	if !ok {
		return nil
	}
	s := g.sessions[g.Address+"/"+unique]
	if s == nil || s.trail == nil || !hmac.Equal([]byte(token), []byte(g.token(s.id, s.trail.rotation))) {
		return nil
	}
	return s
}

// token is "<the id's unique part>.<HMAC of the id and the rotation>". Whoever has it has
// the session; an id does not help to make one.
func (g *Gate) token(id string, rotation uint64) string {
	mac := hmac.New(sha256.New, g.key[:])
	mac.Write(binary.BigEndian.AppendUint64([]byte(id), rotation)) // its length tells where the id ends
	return id[len(g.Address)+1:] + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// setAdrift ends the connection of a session, which waits for its client from now on,
// unless the session is over or goes on over another connection.
func (g *Gate) setAdrift(s *Session, why error) {
	defer s.fail(why)
	g.mu.Lock()
	defer g.mu.Unlock()
	if t := s.trail; g.sessions[s.id] == s && t.berth == nil && !t.isOver() {
		t.berth = g.adrift.PushBack(s)
		t.expiry = time.AfterFunc(g.ResumeWindow, func() { g.expire(s) })
	}
}

// Awaits is for how long the session waits for its client once s has ended; 0 if it is over,
// or goes on over another connection.
func (s *Session) Awaits() time.Duration {
	s.gate.mu.RLock()
	defer s.gate.mu.RUnlock()
	if s.trail == nil || s.gate.sessions[s.id] != s || s.trail.berth == nil {
		return 0
	}
	return s.gate.ResumeWindow
}

// moorLocked takes a session out of those that wait for their clients.
func (g *Gate) moorLocked(s *Session) {
	if t := s.trail; t != nil && t.berth != nil {
		t.expiry.Stop() // a late one finds that the session goes on over another connection
		g.adrift.Remove(t.berth)
		t.berth, t.expiry = nil, nil
	}
}

// expire gives up a session whose client did not come back after s.
func (g *Gate) expire(s *Session) {
	g.mu.Lock()
	late := g.sessions[s.id] == s
	if late {
		g.dropLocked(s)
	}
	g.mu.Unlock()
	if late {
		s.over(errLate)
		g.tellClosed(s, errLate)
	}
}

var (
	errTakenOver = fault.New(fault.Canceled, "the client has resumed its session over another connection")
	errDisplaced = fault.New(fault.Overloaded, "its client had not come back when the gate needed the place")
	errLate      = fault.New(fault.Deadline, "its client did not come back in time")
)
