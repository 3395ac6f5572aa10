package gate

import (
	"container/list"
	"sort"
	"sync"
	"time"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
)

// trail is the outbox of a resumable session, which outlives its connections: first what
// was sent and is not acknowledged, with its numbers, then what waits.
//
//	acknowledged | kept: … 17 18 19 | waiting: … …
//	                     ↑ cursor: sent over this connection
//
// A push gets its number when it is first sent. So one whose place a later one took, by
// its key, leaves no hole, and a hole can only be what is lost: Next announces it.
type trail struct {
	maxMessages, maxBytes int
	rotation              uint64        // of the token; the gate's mu protects it
	berth                 *list.Element // in the gate's adrift, while it waits for its client; likewise
	expiry                *time.Timer   // then; likewise

	mu       sync.Mutex // protects following fields
	opening  *Reset     // what the client has lost before the session began, until it acknowledges a push
	current  *Session   // the last connection
	kept     []Message  // sent, by number
	waiting  list.List  // of *parcel
	messages int        // in waiting, without gaps
	bytes    int        // of kept and waiting
	byKey    map[string]*list.Element
	last     uint64 // the highest number given
	cursor   uint64 // the number up to which current was told
	floor    uint64 // the number up to which the client of current has acknowledged
	greet    bool   // current is yet to be told opening
	ended    bool   // nothing is added any more
}

// parcel is a push that waits, or a gap.
type parcel struct {
	Message
	key  string
	lost uint64 // of a gap: how many
	why  string
}

// Why pushes are lost.
const (
	lostUnread   = "the client does not read its messages as fast as they come, and the oldest were dropped"
	lostUnkept   = "the gate keeps a limited number of messages that are not acknowledged, and these were dropped"
	lostElsehow  = "messages were lost between the cluster's nodes and the gate"
	lostSession  = "the session that the client wants to resume is not here any more"
	errUnasked   = "the client acknowledges message %d; it was sent %d"
	errBackwards = "the client acknowledges message %d after message %d"
)

func newTrail(g *Gate, opening *Reset) *trail {
	return &trail{maxMessages: g.MaxMessages, maxBytes: g.MaxBytes, opening: opening}
}

// connect gives s the pushes after last, which its client has. ok: the client does not
// claim to have what was not sent; here: the session is not over.
func (t *trail) connect(s *Session, last uint64) (ok, here bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.ended:
		return false, false
	case last > t.last:
		return false, true
	}
	t.current, t.cursor, t.floor = s, last, last
	t.greet = last == 0 && t.opening != nil
	t.forgetLocked(last)
	s.rouse()
	return true, true
}

// forgetLocked lets go of what was acknowledged.
func (t *trail) forgetLocked(upTo uint64) {
	for len(t.kept) > 0 && t.kept[0].Seq <= upTo {
		t.unkeepLocked()
	}
}

func (t *trail) unkeepLocked() {
	t.bytes -= t.kept[0].size()
	t.kept[0] = Message{}
	if t.kept = t.kept[1:]; len(t.kept) == 0 {
		t.kept = nil // an idle session keeps no buffer
	}
}

// Ack says that the client has every push up to seq. An error is the client's breach, and
// is for the door to end the session with.
func (s *Session) Ack(seq uint64) error {
	t := s.trail
	if t == nil {
		return fault.New(fault.Invalid, "the client acknowledges message %d of a session that does not number them", seq)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.current != s:
		return nil // the session goes on elsewhere
	case seq > t.cursor:
		return fault.New(fault.Invalid, errUnasked, seq, t.cursor)
	case seq < t.floor:
		return fault.New(fault.Invalid, errBackwards, seq, t.floor)
	}
	if t.floor = seq; seq > 0 {
		t.opening = nil
	}
	t.forgetLocked(seq)
	return nil
}

// nextOfTrail takes what the client is to be told next, and tells of losses.
func (s *Session) nextOfTrail() (Message, bool) {
	m, ok := s.trail.next(s)
	if heard := s.gate.Listener.PushDropped; heard != nil && m.Reset != nil && m.Reset.To > 0 {
		heard(event.PushDropped{ClientID: s.id, Count: int(m.Reset.To - m.Reset.From + 1), Reason: m.Reset.Reason})
	}
	return m, ok
}

func (t *trail) next(s *Session) (Message, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.current != s:
		return Message{}, false
	case t.greet:
		t.greet = false
		return Message{Reset: t.opening}, true
	case t.cursor < t.last:
		return t.againLocked(), true
	}
	return t.firstLocked()
}

// againLocked is the next of what another connection was told.
func (t *trail) againLocked() Message {
	next := t.cursor + 1
	i := sort.Search(len(t.kept), func(i int) bool { return t.kept[i].Seq >= next })
	switch {
	case i == len(t.kept):
		return t.gapLocked(t.last, lostUnkept)
	case t.kept[i].Seq > next:
		return t.gapLocked(t.kept[i].Seq-1, lostUnkept)
	}
	t.cursor = next
	return t.kept[i]
}

func (t *trail) gapLocked(to uint64, why string) Message {
	m := Message{Reset: &Reset{From: t.cursor + 1, To: to, Reason: why}}
	t.cursor = to
	return m
}

// firstLocked is the next of what nobody was told yet.
func (t *trail) firstLocked() (Message, bool) {
	e := t.waiting.Front()
	if e == nil {
		return Message{}, false
	}
	p := t.takeLocked(e)
	if p.lost > 0 {
		t.last += p.lost
		return t.gapLocked(t.last, p.why), true
	}
	t.last++
	t.cursor, p.Seq = t.last, t.last
	t.bytes += p.size()
	m := p.Message
	p.At = time.Time{} // over another connection it only comes again
	t.kept = append(t.kept, p.Message)
	return m, true
}

// takeLocked takes a parcel out of those that wait.
func (t *trail) takeLocked(e *list.Element) *parcel {
	p := t.waiting.Remove(e).(*parcel)
	if p.lost == 0 {
		t.messages--
		t.bytes -= p.size()
	}
	if p.key != "" {
		delete(t.byKey, p.key)
	}
	return p
}

// offerToTrail puts a push, or the gap that f tells of, behind what waits. lost is how many
// were given up when that ended the session.
func (s *Session) offerToTrail(m Message, f *peer.PushFrame) (lost int) {
	t := s.trail
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return 0
	}
	t.current.rouse()
	if f.Gap {
		t.addGapLocked()
		return 0
	}
	if e := t.byKey[f.Key]; e != nil && f.Key != "" {
		before := e.Prev()
		t.takeLocked(e)
		if before != nil && before.Value.(*parcel).lost > 0 {
			t.mergeLocked(before)
		}
	}
	if !t.makeRoomLocked(m.size(), f.Slow == peer.Disconnect) {
		lost = t.messages + 1
		t.ended, t.kept, t.messages, t.bytes, t.byKey = true, nil, 0, 0, nil
		t.waiting.Init()
		t.current.fail(errSlow)
		return lost
	}
	t.addLocked(&parcel{Message: m, key: f.Key})
	return 0
}

func (t *trail) addLocked(p *parcel) {
	e := t.waiting.PushBack(p)
	t.messages++
	t.bytes += p.size()
	if p.key == "" {
		return
	}
	if t.byKey == nil {
		t.byKey = map[string]*list.Element{}
	}
	t.byKey[p.key] = e
}

// makeRoomLocked gives up the oldest until a push of so many bytes fits; one alone always
// does. What was sent goes first: it is lost only to a client that has yet to come back
// for it. The rest the client is too slow for, and if that is to end its session: false.
func (t *trail) makeRoomLocked(size int, orEnd bool) bool {
	for n := len(t.kept) + t.messages; n > 0 && (n >= t.maxMessages || t.bytes+size > t.maxBytes); n-- {
		switch {
		case len(t.kept) > 0:
			t.unkeepLocked()
		case orEnd:
			return false
		default:
			t.dropLocked()
		}
	}
	return true
}

// dropLocked makes a gap of the oldest push that waits.
func (t *trail) dropLocked() {
	front := t.waiting.Front()
	gap := front.Value.(*parcel)
	if gap.lost == 0 {
		gap = &parcel{lost: 1, why: lostUnread}
		t.takeLocked(front)
		t.waiting.PushFront(gap)
	} else {
		t.takeLocked(front.Next())
		gap.lost++
		gap.why = lostUnread
	}
	t.mergeLocked(t.waiting.Front())
}

// mergeLocked adds to a gap the one behind it.
func (t *trail) mergeLocked(e *list.Element) {
	if behind := e.Next(); behind != nil && behind.Value.(*parcel).lost > 0 {
		e.Value.(*parcel).lost += behind.Value.(*parcel).lost
		t.waiting.Remove(behind)
	}
}

// addGapLocked announces pushes that never came here: nobody knows how many, and one number
// stands for them.
func (t *trail) addGapLocked() {
	if e := t.waiting.Back(); e != nil && e.Value.(*parcel).lost > 0 {
		return
	}
	t.waiting.PushBack(&parcel{lost: 1, why: lostElsehow})
}

// finish takes nothing any more, if s is the session's connection.
func (t *trail) finish(s *Session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current == s {
		t.ended = true
	}
}

func (t *trail) isOver() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ended
}
