package gate

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
)

func openResumable(t *testing.T, g *Gate, token string, last uint64) *Session {
	t.Helper()
	s, err := g.OpenResumable(token, last)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func push(t *testing.T, g *Gate, s *Session, texts ...string) {
	t.Helper()
	for _, text := range texts {
		g.Deliver(peer.PushFrame{ClientIDs: []string{s.ID()}, Message: say(t, text)})
	}
}

func (d *diary) why(id string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.closed[id]
}

// story is what a session is told, in words: "1:a 2:b [3-5]".
func story(t *testing.T, s *Session) string {
	t.Helper()
	var words []string
	for m, ok := s.Next(); ok; m, ok = s.Next() {
		if m.Reset != nil {
			words = append(words, fmt.Sprintf("[%d-%d]", m.Reset.From, m.Reset.To))
		} else {
			words = append(words, fmt.Sprintf("%d:%s", m.Seq, heard(t, m)))
		}
	}
	return strings.Join(words, " ")
}

func tells(t *testing.T, s *Session, want string) {
	t.Helper()
	if got := story(t, s); got != want {
		t.Errorf("the client hears %q, want %q", got, want)
	}
}

func acknowledge(t *testing.T, s *Session, seq uint64) {
	t.Helper()
	if err := s.Ack(seq); err != nil {
		t.Error(err)
	}
}

func breaches(t *testing.T, err error, words string) {
	t.Helper()
	if fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), words) {
		t.Errorf("%v, want Invalid with %q", err, words)
	}
}

func TestASessionOutlivesItsConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := new(diary)
		g := New(Config{Address: "g:1", Listener: d.listener()})
		a := openResumable(t, g, "", 0)
		if a.Token() == "" || a.Resumed() || a.Window() != time.Minute || a.Awaits() != 0 {
			t.Errorf("token %q, resumed %v, window %v, awaits %v", a.Token(), a.Resumed(), a.Window(), a.Awaits())
		}
		push(t, g, a, "a", "b", "c")
		tells(t, a, "1:a 2:b 3:c")
		acknowledge(t, a, 1)
		a.Disconnect(nil)
		a.Disconnect(nil) // a door may say it twice
		if a.Awaits() != time.Minute {
			t.Errorf("a session whose client is away awaits it for %v", a.Awaits())
		}
		push(t, g, a, "d")
		time.Sleep(59 * time.Second)
		b := openResumable(t, g, a.Token(), 2)
		if !b.Resumed() || b.ID() != a.ID() || b.Token() == a.Token() {
			t.Errorf("resumed %v as %s with %s, was %s with %s", b.Resumed(), b.ID(), b.Token(), a.ID(), a.Token())
		}
		tells(t, b, "3:c 4:d")
		if a.Awaits() != 0 {
			t.Error("a connection awaits its client although that is here")
		}
		time.Sleep(time.Hour) // the end of the first wait is not the session's
		synctest.Wait()
		push(t, g, b, "e")
		tells(t, b, "5:e")
		if len(d.opened) != 1 || len(d.closed) != 0 || g.Len() != 1 {
			t.Errorf("opened %v, closed %v", d.opened, d.closed)
		}
		b.Disconnect(nil)
		time.Sleep(61 * time.Second)
		synctest.Wait()
		if g.Knows(b.ID()) || !strings.Contains(d.why(b.ID()), "did not come back") {
			t.Errorf("the session is here after its window; closed %v", d.closed)
		}
		c := openResumable(t, g, b.Token(), 5)
		if c.Resumed() || c.ID() == b.ID() {
			t.Error("a session was resumed after its window")
		}
		push(t, g, c, "f")
		tells(t, c, "[6-0] 1:f")
		c.Close(nil)
		if g.Len() != 0 {
			t.Error("a session that its client has left is still here")
		}
	})
}

func TestATokenIsGoodOnce(t *testing.T) {
	g, other := New(Config{Address: "g:1"}), New(Config{Address: "g:1"})
	a := openResumable(t, g, "", 0)
	push(t, g, a, "a")
	a.Disconnect(nil)
	b := openResumable(t, g, a.Token(), 0)
	foreign := openResumable(t, other, "", 0)
	unique, mac, _ := strings.Cut(b.Token(), ".")
	for name, token := range map[string]string{
		"used up": a.Token(), "another gate's": foreign.Token(), "no token": "x", "without its end": unique + ".",
		"cut": b.Token()[:len(b.Token())-1], "longer": b.Token() + "A", "another's mac": unique + "." + strings.Repeat("A", len(mac)),
		"the id": b.ID(), "of a plain session": strings.TrimPrefix(open(t, g).ID(), "g:1/") + "." + mac, "long": strings.Repeat("x", 1<<20) + ".",
	} {
		s := openResumable(t, g, token, 7)
		if s.Resumed() || s.ID() == b.ID() {
			t.Fatalf("a token that is %s resumes a session", name)
		}
		tells(t, s, "[8-0]")
	}
	tells(t, b, "1:a") // and it has not noticed
	if b.Err() != nil {
		t.Error(b.Err())
	}
	if s := openResumable(t, g, b.Token(), 0); !s.Resumed() {
		t.Error("the right token is refused")
	}
}

func TestAResumeTakesOver(t *testing.T) {
	g := New(Config{Address: "g:1"})
	a := openResumable(t, g, "", 0)
	push(t, g, a, "a", "b", "c")
	a.Next()
	b := openResumable(t, g, a.Token(), 0)
	<-a.Done()
	if fault.KindOf(a.Err()) != fault.Canceled {
		t.Errorf("the old connection ends with %v", a.Err())
	}
	tells(t, a, "") // what it does not say any more cannot come twice
	acknowledge(t, a, 99)
	a.Disconnect(nil)
	a.Close(nil)
	push(t, g, a, "d")
	tells(t, b, "1:a 2:b 3:c 4:d")
	select {
	case <-b.Done():
		t.Error("the end of the old connection ended the new one", b.Err())
	default:
	}
}

func TestHostileAcknowledgements(t *testing.T) {
	g := New(Config{Address: "g:1"})
	a := openResumable(t, g, "", 0)
	push(t, g, a, "a", "b", "c")
	a.Next()
	a.Next()
	breaches(t, a.Ack(3), "it was sent 2") // it is here, but was not sent
	acknowledge(t, a, 2)
	acknowledge(t, a, 2)
	breaches(t, a.Ack(1), "after message 2")
	breaches(t, open(t, g).Ack(1), "does not number")
	a.Disconnect(nil)
	_, err := g.OpenResumable(a.Token(), 4)
	breaches(t, err, "never sent")
	b := openResumable(t, g, a.Token(), 2)
	if !b.Resumed() {
		t.Fatal("a client that lied has lost its session")
	}
	breaches(t, b.Ack(3), "it was sent 2")
	tells(t, b, "3:c")
	acknowledge(t, b, 3)
}

// A client that forgot what it had acknowledged is told what it cannot get again.
func TestAResumeBehindTheAcknowledged(t *testing.T) {
	g := New(Config{Address: "g:1"})
	a := openResumable(t, g, "", 0)
	push(t, g, a, "a", "b", "c", "d")
	tells(t, a, "1:a 2:b 3:c 4:d")
	acknowledge(t, a, 3)
	b := openResumable(t, g, a.Token(), 1)
	tells(t, b, "[2-3] 4:d")
	acknowledge(t, b, 4)
	tells(t, openResumable(t, g, b.Token(), 1), "[2-4]")
}

func TestASlowClientLosesTheOldestAndIsTold(t *testing.T) {
	d := new(diary)
	g := New(Config{Address: "g:1", MaxMessages: 3, Listener: d.listener()})
	a := openResumable(t, g, "", 0)
	push(t, g, a, "a", "b")
	tells(t, a, "1:a 2:b")
	push(t, g, a, "c", "d", "e") // what it was sent is kept for no longer, but lost is nothing
	tells(t, a, "3:c 4:d 5:e")
	b := openResumable(t, g, a.Token(), 1) // unless it does not come
	tells(t, b, "[2-2] 3:c 4:d 5:e")
	push(t, g, b, "f", "g", "h", "i", "j")
	tells(t, b, "[6-7] 8:h 9:i 10:j")
	b.Disconnect(nil)
	push(t, g, b, "k", "l", "m", "n")
	tells(t, openResumable(t, g, b.Token(), 10), "[11-11] 12:l 13:m 14:n")
	if d.lost[a.ID()] != 1+2+1 {
		t.Errorf("the gate tells of %d lost messages", d.lost[a.ID()])
	}
}

func TestAGapFromTheNodes(t *testing.T) {
	g := New(Config{Address: "g:1", MaxMessages: 2})
	a, plain := openResumable(t, g, "", 0), open(t, g)
	gap := peer.PushFrame{Broadcast: true, Gap: true}
	push(t, g, a, "a")
	g.Deliver(gap)
	g.Deliver(gap)
	push(t, g, a, "b")
	tells(t, a, "1:a [2-2] 3:b")
	g.Deliver(peer.PushFrame{ClientIDs: []string{"g:1/other"}, Gap: true})
	push(t, g, a, "c")
	g.Deliver(gap)
	push(t, g, a, "d", "e") // the gap grows together with what is dropped before it
	tells(t, a, "[4-5] 6:d 7:e")
	if got := drain(t, plain); len(got) != 0 || plain.Err() != nil {
		t.Errorf("a plain session hears %q, %v", got, plain.Err())
	}
}

func TestALaterPushTakesThePlaceOfOneWithItsKey(t *testing.T) {
	g := New(Config{Address: "g:1", MaxMessages: 3})
	a := openResumable(t, g, "", 0)
	at := func(key, text string) {
		g.Deliver(peer.PushFrame{ClientIDs: []string{a.ID()}, Message: say(t, text), Key: key})
	}
	at("x", "x1")
	tells(t, a, "1:x1")
	acknowledge(t, a, 1)
	at("x", "x2")
	at("y", "y1")
	at("x", "x3")
	push(t, g, a, "a")
	for i := range 10 {
		at("x", fmt.Sprint("x", 4+i))
	}
	tells(t, a, "2:y1 3:a 4:x13")
	at("x", "x14")
	push(t, g, a, "b", "c", "d") // it is dropped as any other, with its key
	at("x", "x15")
	tells(t, a, "[5-6] 7:c 8:d 9:x15")
}

func TestAPushThatEndsTheSessionOfASlowClient(t *testing.T) {
	d := new(diary)
	g := New(Config{Address: "g:1", MaxMessages: 2, Listener: d.listener()})
	a := openResumable(t, g, "", 0)
	strict := func(text string) {
		g.Deliver(peer.PushFrame{ClientIDs: []string{a.ID()}, Message: say(t, text), Slow: peer.Disconnect})
	}
	strict("a")
	tells(t, a, "1:a")
	strict("b")
	strict("c") // a client that reads and does not acknowledge is not slow
	if a.Err() != nil {
		t.Fatal(a.Err())
	}
	strict("d")
	<-a.Done()
	if fault.KindOf(a.Err()) != fault.Overloaded || g.Knows(a.ID()) || d.lost[a.ID()] != 3 {
		t.Errorf("%v; lost %d", a.Err(), d.lost[a.ID()])
	}
	tells(t, a, "") // nothing comes after the gap
	a.Disconnect(nil)
	if s := openResumable(t, g, a.Token(), 1); s.Resumed() {
		t.Error("the session goes on")
	}
}

func TestAFullGateGivesUpWhoIsAwayTheLongest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := new(diary)
		limits := 0
		listener := d.listener()
		listener.LimitReached = func(event.LimitReached) { limits++ }
		g := New(Config{Address: "g:1", MaxSessions: 3, Listener: listener})
		a, b, c := openResumable(t, g, "", 0), openResumable(t, g, "", 0), openResumable(t, g, "", 0)
		if _, err := g.OpenResumable("", 0); fault.KindOf(err) != fault.Overloaded {
			t.Errorf("a full gate: %v", err)
		}
		b.Disconnect(nil)
		a.Disconnect(nil)
		c.Disconnect(nil)
		b2 := openResumable(t, g, b.Token(), 0) // who comes back needs no place
		if g.Len() != 3 || !b2.Resumed() {
			t.Errorf("%d sessions, resumed %v", g.Len(), b2.Resumed())
		}
		plain := open(t, g)
		if g.Knows(a.ID()) || !g.Knows(b.ID()) || !g.Knows(c.ID()) || !strings.Contains(d.why(a.ID()), "needed the place") || limits != 2 {
			t.Errorf("closed %v, %d limits", d.closed, limits)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if !g.Knows(b.ID()) || !g.Knows(plain.ID()) || g.Knows(c.ID()) || g.adrift.Len() != 0 {
			t.Errorf("%d sessions and %d away", g.Len(), g.adrift.Len())
		}
	})
}

func TestAGateThatClosesEndsSessionsThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{Address: "g:1"})
		a, b := openResumable(t, g, "", 0), openResumable(t, g, "", 0)
		push(t, g, a, "a")
		b.Disconnect(nil)
		why := fault.New(fault.NotReady, "the gate is stopping")
		g.Close(why)
		push(t, g, a, "b")
		tells(t, a, "1:a") // what waits can still be taken
		a.Disconnect(nil)
		if a.Err() != error(why) || g.Len() != 0 {
			t.Errorf("%v, %d sessions", a.Err(), g.Len())
		}
		if _, err := g.OpenResumable(a.Token(), 1); err != error(why) {
			t.Errorf("a gate that is closed: %v", err)
		}
		time.Sleep(2 * time.Minute) // and nothing happens then
	})
}

// A token that comes while its session ends opens another session, and says so.
func TestAResumeOfASessionThatEnds(t *testing.T) {
	g := New(Config{Address: "g:1"})
	defer g.Close(errLate)
	s := openResumable(t, g, "", 0)
	s.over(errSlow) // the gate has yet to forget it
	next := openResumable(t, g, s.Token(), 0)
	if next.Resumed() || next.ID() == s.ID() {
		t.Errorf("resumed %v as %s", next.Resumed(), next.ID())
	}
	push(t, g, next, "a")
	tells(t, next, "[1-0] 1:a")
}

// Losses beside each other are one, however keyed pushes come and go between them.
func TestGapsBesideEachOther(t *testing.T) {
	g := New(Config{Address: "g:1"})
	defer g.Close(errLate)
	s := openResumable(t, g, "", 0)
	for range 100 {
		g.Deliver(peer.PushFrame{ClientIDs: []string{s.ID()}, Message: say(t, "k"), Key: "k"})
		g.Deliver(peer.PushFrame{ClientIDs: []string{s.ID()}, Gap: true})
	}
	if n := s.trail.waiting.Len(); n > 3 {
		t.Errorf("%d parcels wait for one push", n)
	}
}
