package gate

import (
	"cmp"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/most"
)

// maxToldSessions bounds how many sessions a Condition names.
const maxToldSessions = 32

// Condition is what goes on in a gate's sessions, for those who look for what is wrong with
// it. Sessions are looked at one after the other, while the gate works.
type Condition struct {
	Sessions int            `json:"sessions"` // with those that wait for their clients
	Max      int            `json:"max"`
	Doors    map[string]int `json:"doors"` // the connected ones by the door they came by
	// Resumable sessions can go on over another connection, and of these so many wait for
	// their clients now.
	Resumable int    `json:"resumable"`
	Away      int    `json:"away"`
	Messages  int    `json:"messages"` // that wait for clients to take them
	Kept      int    `json:"kept"`     // that were sent and are not acknowledged
	Bytes     int    `json:"bytes"`    // of both
	Pushed    uint64 `json:"pushed"`   // to sessions, so far
	// Fullest are the sessions whose outboxes have the most bytes.
	Fullest []SessionCondition `json:"fullest"`
}

// SessionCondition is one session's outbox.
type SessionCondition struct {
	Client    string `json:"client"`
	Door      string `json:"door"` // of its last connection
	Resumable bool   `json:"resumable"`
	Away      bool   `json:"away"`
	Messages  int    `json:"messages"`
	Kept      int    `json:"kept"`
	Bytes     int    `json:"bytes"`
}

func (g *Gate) maxSessions() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.MaxSessions
}

// Condition looks at all sessions.
func (g *Gate) Condition() Condition {
	sessions, away := g.all()
	c := Condition{Sessions: len(sessions), Max: g.maxSessions(), Doors: map[string]int{}, Pushed: g.pushed.Load()}
	fullest := most.New(maxToldSessions, func(a, b SessionCondition) int {
		return cmp.Or(cmp.Compare(a.Bytes, b.Bytes), cmp.Compare(b.Client, a.Client))
	})
	for i, s := range sessions {
		one := s.condition()
		one.Away = away[i]
		c.Messages, c.Kept, c.Bytes = c.Messages+one.Messages, c.Kept+one.Kept, c.Bytes+one.Bytes
		if one.Resumable {
			c.Resumable++
		}
		if one.Away {
			c.Away++
		} else {
			c.Doors[one.Door]++
		}
		if one.Bytes > 0 {
			fullest.Add(one)
		}
	}
	c.Fullest = fullest.List()
	return c
}

// all is every session, and whether it waits for its client.
func (g *Gate) all() (sessions []*Session, away []bool) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	for _, s := range g.sessions {
		sessions, away = append(sessions, s), append(away, s.trail != nil && s.trail.berth != nil)
	}
	return sessions, away
}

// Through says by which door the session came, for its Condition.
func (s *Session) Through(door event.Door) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.door = door
}

func (s *Session) condition() SessionCondition {
	c := SessionCondition{Client: s.id, Resumable: s.trail != nil}
	if t := s.trail; t != nil {
		t.mu.Lock()
		c.Messages, c.Kept, c.Bytes = t.messages, len(t.kept), t.bytes
		t.mu.Unlock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.Door = s.door.String(); s.door == event.AtNode { // which is none of a gate's
		c.Door = "opening"
	}
	if s.trail == nil {
		c.Messages, c.Bytes = len(s.outbox), s.bytes
	}
	return c
}
