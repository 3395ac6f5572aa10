package gate

import (
	"time"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/peer"
)

// Deliver puts a push into the outbox of each session it is for, or of every one.
// It never waits for a client. Each client gets the frames of one caller in the
// order of its calls. Ids that name no session are passed over: their clients have left.
// A gap is announced to the resumable sessions that it is for.
func (g *Gate) Deliver(f peer.PushFrame) {
	for _, o := range g.spread(f) {
		if heard := g.Listener.PushDropped; heard != nil {
			heard(event.PushDropped{ClientID: o.session.id, Count: o.lost, Reason: errSlow.Error()})
		}
		g.forget(o.session, errSlow)
	}
}

// overflow is a session that a push ended.
type overflow struct {
	session *Session
	lost    int
}

func (g *Gate) spread(f peer.PushFrame) (ended []overflow) {
	m := Message{Any: f.Message, JSON: f.JSON, At: f.At}
	offered := uint64(0)
	defer func() { g.pushed.Add(offered) }()
	offer := func(s *Session) {
		offered++
		if lost := s.offer(m, &f); lost > 0 {
			ended = append(ended, overflow{s, lost})
		}
	}
	g.mu.RLock()
	defer g.mu.RUnlock()
	if f.Broadcast {
		for _, s := range g.sessions {
			offer(s)
		}
		return ended
	}
	for _, id := range f.ClientIDs {
		if s := g.sessions[id]; s != nil {
			offer(s)
		}
	}
	return ended
}

// passed tells of a push that came at some time and that a client's connection takes now.
func (g *Gate) passed(came time.Time) {
	if on := g.Listener.PushPassed; on != nil && !came.IsZero() {
		on(event.PushPassed{Leg: event.ToClient, Took: time.Since(came)})
	}
}
