package gate

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
)

// Whatever clients, the cluster and time do, each resumable session is heard without a gap
// that is not announced, nothing twice and nothing out of order; nobody has a session that
// is not its own; and the gate keeps no more than it may. The model knows what was pushed to
// whom and what each client heard, and nothing of how sessions are kept.
func TestStoriesOfSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(struct{ testing.TB }{t}, func(t *rapid.T) { // without a Deadline, which a bubble does not have
			s := newStory(t)
			defer s.gate.Close(errLate)
			t.Repeat(map[string]func(*rapid.T){
				"":               s.check,
				"open":           s.open,
				"push":           s.push,
				"gap":            s.gap,
				"hear":           s.hear,
				"acknowledge":    s.acknowledge,
				"claim":          s.claim,
				"drop":           s.drop,
				"leave":          s.leave,
				"resume":         s.resume,
				"resume ahead":   s.resumeAhead,
				"resume wrongly": s.resumeWrongly,
				"wait":           s.wait,
			})
			s.end(t)
		})
	})
}

// few is how many messages a session of a story keeps, and how many sessions there are.
const few = 4

// storyGate is a gate, and what is known of its clients.
type storyGate struct {
	gate, other *Gate
	clients     []*storyClient // whose sessions live
	away        []*storyClient // of these, without a connection; the longest first
	gone        []string       // tokens that are good no more
	pushed      int            // the last message
}

// storyClient is a client, and what it heard in its session.
type storyClient struct {
	id    string
	token string
	line  *Session // nil while it is away
	since time.Time

	told    uint64 // the number up to which it was told, by any connection
	seq     uint64 // up to which this connection has told
	acked   uint64
	before  uint64 // what it has lost in a session before begins here, until it acknowledges a push; 0: none
	opening bool   // its connection has yet to begin with that
	heard   []storyWord
	sent    []storyPush // in order
	loose   bool        // some may be lost: a gap came, or more than the gate keeps
}

// storyWord is what a client has heard under a number; a reset has several.
type storyWord struct {
	seq  uint64
	push int // 0: it is lost
}

// storyPush is what came for a session.
type storyPush struct {
	number int  // 0: a gap
	keyed  bool // a later one may take its place
}

func newStory(t *rapid.T) *storyGate {
	s := &storyGate{gate: New(Config{Address: "g:1", MaxSessions: few, MaxMessages: few}), other: New(Config{Address: "g:1"})}
	s.open(t)
	return s
}

// draw is one of the clients with a connection or without, if there is one.
func (s *storyGate) draw(t *rapid.T, connected bool) *storyClient {
	var list []*storyClient
	for _, c := range s.clients {
		if (c.line != nil) == connected {
			list = append(list, c)
		}
	}
	if len(list) == 0 {
		t.Skip("there is no such client")
	}
	return rapid.SampledFrom(list).Draw(t, "client")
}

func (s *storyGate) open(t *rapid.T) { s.enter(t, "", 0) }

// enter opens a session that is a new one, whatever the token says.
func (s *storyGate) enter(t *rapid.T, token string, last uint64) {
	line, err := s.gate.OpenResumable(token, last)
	if len(s.clients) >= few && len(s.away) == 0 {
		if fault.KindOf(err) != fault.Overloaded {
			t.Fatalf("a full gate lets another in: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(s.clients) >= few {
		s.forget(s.away[0])
	}
	c := &storyClient{id: line.ID(), token: line.Token(), line: line}
	if token != "" {
		c.before, c.opening = last+1, true
	}
	if line.Resumed() || slices.ContainsFunc(s.clients, func(o *storyClient) bool { return o.id == c.id }) {
		t.Fatalf("a new client has the session of another")
	}
	s.clients = append(s.clients, c)
}

// forget is the end of a session.
func (s *storyGate) forget(c *storyClient) {
	is := func(o *storyClient) bool { return o == c }
	s.clients, s.away = slices.DeleteFunc(s.clients, is), slices.DeleteFunc(s.away, is)
	s.gone = append(s.gone, c.token)
}

// push sends a few messages, each to some of the clients or to all.
func (s *storyGate) push(t *rapid.T) {
	for range rapid.IntRange(1, few).Draw(t, "messages") {
		s.pushOne(t)
	}
}

func (s *storyGate) pushOne(t *rapid.T) {
	s.pushed++
	f := peer.PushFrame{Message: &anypb.Any{Value: []byte(strconv.Itoa(s.pushed))}, Key: rapid.SampledFrom([]string{"", "", "x", "y"}).Draw(t, "key")}
	if rapid.IntRange(0, 9).Draw(t, "policy") == 9 {
		f.Slow = peer.Disconnect
	}
	for _, c := range s.address(t, &f) {
		c.sent = append(c.sent, storyPush{s.pushed, f.Key != ""})
		c.loose = c.loose || len(c.sent)-c.released() > few
	}
	s.gate.Deliver(f)
	s.findSlow(t, f.Slow)
}

// released is how many messages the client has acknowledged.
func (c *storyClient) released() (n int) {
	for _, w := range c.heard {
		if w.seq <= c.acked {
			n++
		}
	}
	return n
}

// address has a frame go to some, and returns whom.
func (s *storyGate) address(t *rapid.T, f *peer.PushFrame) (list []*storyClient) {
	if f.Broadcast = rapid.IntRange(0, 4).Draw(t, "to all") == 0; f.Broadcast {
		return s.clients
	}
	for _, c := range s.clients {
		if rapid.Bool().Draw(t, "to this one") {
			list, f.ClientIDs = append(list, c), append(f.ClientIDs, c.id)
		}
	}
	f.ClientIDs = append(f.ClientIDs, "g:1/nobody")
	return list
}

// findSlow takes note of sessions that a push has ended, which it may only if it says so.
func (s *storyGate) findSlow(t *rapid.T, policy peer.Slow) {
	for _, c := range slices.Clone(s.clients) {
		if s.gate.Knows(c.id) {
			continue
		}
		if policy != peer.Disconnect || !c.loose {
			t.Fatalf("a push has ended the session of %s", c.id)
		}
		s.forget(c)
	}
}

func (s *storyGate) gap(t *rapid.T) {
	f := peer.PushFrame{Gap: true}
	for _, c := range s.address(t, &f) {
		c.sent, c.loose = append(c.sent, storyPush{}), true
	}
	s.gate.Deliver(f)
}

func (s *storyGate) hear(t *rapid.T) {
	c := s.draw(t, true)
	for range rapid.IntRange(1, 2*few).Draw(t, "words") {
		if !c.next(t) {
			return
		}
	}
}

// next hears one word, and checks its number.
func (c *storyClient) next(t *rapid.T) bool {
	m, ok := c.line.Next()
	switch {
	case !ok:
		return false
	case c.opening:
		if m.Reset == nil || m.Reset.From != c.before || m.Reset.To != 0 || m.Reset.Reason == "" {
			t.Fatalf("%s begins with %+v, want a reset from %d", c.id, m, c.before)
		}
		c.opening = false
		return true
	case m.Reset != nil:
		if m.Reset.From != c.seq+1 || m.Reset.To < m.Reset.From || m.Reset.Reason == "" {
			t.Fatalf("behind %d %s hears the reset %+v", c.seq, c.id, m.Reset)
		}
		for c.seq < m.Reset.To {
			c.seq++
			c.heard = append(c.heard, storyWord{c.seq, 0})
		}
	default:
		if m.Seq != c.seq+1 {
			t.Fatalf("behind %d %s hears %d", c.seq, c.id, m.Seq)
		}
		number, err := strconv.Atoi(string(m.Any.Value))
		if err != nil {
			t.Fatal(err)
		}
		c.seq++
		c.heard = append(c.heard, storyWord{c.seq, number})
	}
	c.told = max(c.told, c.seq)
	c.judge(t)
	return true
}

// judge compares what was heard with what was pushed: between two messages are as many lost
// numbers as there are messages that nobody could replace, and no more than there are at
// all; and at least one where a gap was among them.
func (c *storyClient) judge(t *rapid.T) {
	at, lost := 0, 0
	for _, w := range c.heard {
		if w.push == 0 {
			lost++
			continue
		}
		i := slices.IndexFunc(c.sent[at:], func(p storyPush) bool { return p.number == w.push })
		if i < 0 {
			t.Fatalf("%s hears message %d twice, out of order, or without being meant: %v of %v", c.id, w.push, c.heard, c.sent)
		}
		c.balance(t, c.sent[at:at+i], lost)
		at, lost = at+i+1, 0
	}
}

func (c *storyClient) balance(t *rapid.T, between []storyPush, lost int) {
	least, gaps := 0, 0
	for _, p := range between {
		switch {
		case p.number == 0:
			gaps = 1 // several may be told as one
		case !p.keyed:
			least++
		}
	}
	if least = max(least, gaps); lost < least || lost > len(between) {
		t.Fatalf("%s is told of %d lost messages between two, and these came: %v; it heard %v", c.id, lost, between, c.heard)
	}
	if lost > 0 && !c.loose {
		t.Fatalf("%s lost messages although there was room: %v of %v", c.id, c.heard, c.sent)
	}
}

func (s *storyGate) acknowledge(t *rapid.T) {
	c := s.draw(t, true)
	seq := rapid.Uint64Range(c.acked, c.seq).Draw(t, "seq")
	if err := c.line.Ack(seq); err != nil {
		t.Fatalf("an acknowledgement of %d: %v", seq, err)
	}
	if c.acked = seq; seq > 0 {
		c.before = 0
	}
}

// claim acknowledges what was not sent, or less than before.
func (s *storyGate) claim(t *rapid.T) {
	c := s.draw(t, true)
	seq := c.seq + rapid.Uint64Range(1, 3).Draw(t, "ahead")
	if c.acked > 0 && rapid.Bool().Draw(t, "backwards") {
		seq = c.acked - 1
	}
	if err := c.line.Ack(seq); fault.KindOf(err) != fault.Invalid {
		t.Fatalf("an acknowledgement of %d behind %d of %d: %v", seq, c.acked, c.seq, err)
	}
}

func (s *storyGate) drop(t *rapid.T) {
	c := s.draw(t, true)
	c.line.Disconnect(nil)
	c.line, c.since = nil, time.Now()
	s.away = append(s.away, c)
}

func (s *storyGate) leave(t *rapid.T) {
	c := s.draw(t, true)
	c.line.Close(nil)
	s.forget(c)
}

// resume goes on with a session, over a new connection or in place of one that lives, behind
// anything that the client has not acknowledged.
func (s *storyGate) resume(t *rapid.T) {
	c := s.draw(t, rapid.Bool().Draw(t, "connected"))
	last := rapid.Uint64Range(c.acked, c.seq).Draw(t, "last")
	line, err := s.gate.OpenResumable(c.token, last)
	if err != nil || !line.Resumed() || line.ID() != c.id || line.Token() == c.token {
		t.Fatalf("resumed %v as %s, %v", line.Resumed(), line.ID(), err)
	}
	if c.line != nil {
		if _, more := c.line.Next(); more || c.line.Err() == nil {
			t.Fatal("the connection before goes on")
		}
		c.line.Disconnect(nil) // its door says so, later
	}
	s.gone = append(s.gone, c.token)
	s.away = slices.DeleteFunc(s.away, func(o *storyClient) bool { return o == c })
	c.line, c.token, c.seq, c.acked = line, line.Token(), last, last
	c.heard = slices.DeleteFunc(c.heard, func(w storyWord) bool { return w.seq > last })
	c.opening = last == 0 && c.before > 0
}

// resumeAhead claims to have what was not sent.
func (s *storyGate) resumeAhead(t *rapid.T) {
	c := s.draw(t, rapid.Bool().Draw(t, "connected"))
	last := c.told + rapid.Uint64Range(1, 3).Draw(t, "ahead")
	if _, err := s.gate.OpenResumable(c.token, last); fault.KindOf(err) != fault.Invalid {
		t.Fatalf("resumed behind %d, told %d: %v", last, c.told, err)
	}
}

// resumeWrongly shows a token that is nobody's here.
func (s *storyGate) resumeWrongly(t *rapid.T) {
	foreign, err := s.other.OpenResumable("", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer foreign.Close(nil)
	wrong := append([]string{foreign.Token(), "x", "."}, s.gone...)
	for _, c := range s.clients {
		unique, mac, _ := strings.Cut(c.token, ".")
		wrong = append(wrong, unique+".", unique+"."+mac[1:], c.id)
	}
	s.enter(t, rapid.SampledFrom(wrong).Draw(t, "token"), rapid.Uint64Range(0, 3).Draw(t, "last"))
}

// wait lets time pass: who was away for longer than the window has lost its session.
func (s *storyGate) wait(t *rapid.T) {
	time.Sleep(time.Duration(rapid.IntRange(1, 90).Draw(t, "seconds")) * time.Second)
	synctest.Wait()
	for _, c := range slices.Clone(s.away) {
		if time.Since(c.since) >= DefaultResumeWindow {
			s.forget(c)
		}
	}
}

// check looks at what the gate keeps.
func (s *storyGate) check(t *rapid.T) {
	s.gate.mu.RLock()
	defer s.gate.mu.RUnlock()
	if len(s.gate.sessions) != len(s.clients) || s.gate.adrift.Len() != len(s.away) {
		t.Fatalf("the gate has %d sessions and waits for %d; there are %d and %d", len(s.gate.sessions), s.gate.adrift.Len(), len(s.clients), len(s.away))
	}
	for _, c := range s.clients {
		session := s.gate.sessions[c.id]
		if session == nil {
			t.Fatalf("the session of %s is gone", c.id)
		}
		if c.line != nil && (c.line != session || c.line.Err() != nil) {
			t.Fatalf("the connection of %s has ended: %v", c.id, c.line.Err())
		}
		checkSize(t, session.trail)
	}
}

func checkSize(t *rapid.T, trail *trail) {
	trail.mu.Lock()
	defer trail.mu.Unlock()
	if n := len(trail.kept) + trail.messages; n > few || trail.waiting.Len() > 2*few+1 {
		t.Fatalf("%d messages are kept, in %d parcels", n, trail.waiting.Len())
	}
}

// end lets everybody come back and hear the rest: then nothing is missing.
func (s *storyGate) end(t *rapid.T) {
	for _, c := range slices.Clone(s.clients) {
		if c.line == nil {
			line, err := s.gate.OpenResumable(c.token, c.seq)
			if err != nil || !line.Resumed() {
				t.Fatalf("%s does not come back: %v", c.id, err)
			}
			c.line, c.opening = line, c.seq == 0 && c.before > 0
		}
		for c.next(t) {
		}
		at, lost := 0, 0
		for i, p := range c.sent {
			if slices.ContainsFunc(c.heard, func(w storyWord) bool { return w.push > 0 && w.push == p.number }) {
				at = i + 1
			}
		}
		for i := len(c.heard) - 1; i >= 0 && c.heard[i].push == 0; i-- {
			lost++
		}
		c.balance(t, c.sent[at:], lost)
	}
}
