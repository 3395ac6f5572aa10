package gate

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// diary listens to a gate.
type diary struct {
	mu     sync.Mutex
	opened []string
	closed map[string]string
	lost   map[string]int
}

func (d *diary) listener() event.Listener {
	d.closed, d.lost = map[string]string{}, map[string]int{}
	return event.Listener{
		SessionOpened: func(e event.SessionOpened) { d.mu.Lock(); defer d.mu.Unlock(); d.opened = append(d.opened, e.ClientID) },
		SessionClosed: func(e event.SessionClosed) { d.mu.Lock(); defer d.mu.Unlock(); d.closed[e.ClientID] = e.Reason },
		PushDropped:   func(e event.PushDropped) { d.mu.Lock(); defer d.mu.Unlock(); d.lost[e.ClientID] += e.Count },
	}
}

func open(t *testing.T, g *Gate) *Session {
	t.Helper()
	s, err := g.Open()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func say(t *testing.T, text string) *anypb.Any {
	t.Helper()
	a, err := anypb.New(wrapperspb.String(text))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func heard(t *testing.T, m Message) string {
	t.Helper()
	v := new(wrapperspb.StringValue)
	if err := m.Any.UnmarshalTo(v); err != nil {
		t.Fatal(err)
	}
	return v.Value
}

func drain(t *testing.T, s *Session) (got []string) {
	t.Helper()
	for m, ok := s.Next(); ok; m, ok = s.Next() {
		got = append(got, heard(t, m))
	}
	return got
}

func TestClientIDsBeginWithTheGatesAddressAndAreUnique(t *testing.T) {
	g := New(Config{Address: "gate.example:49000"})
	seen := map[string]bool{}
	for range 1000 {
		s := open(t, g)
		unique, ok := strings.CutPrefix(s.ID(), "gate.example:49000/")
		if !ok || len(unique) != 26 || seen[unique] {
			t.Fatalf("client id %q", s.ID())
		}
		seen[unique] = true
	}
	if g.Len() != 1000 {
		t.Errorf("%d sessions, want 1000", g.Len())
	}
}

func TestDeliverToOneSeveralAndAllInOrder(t *testing.T) {
	g := New(Config{Address: "g:1"})
	a, b, c := open(t, g), open(t, g), open(t, g)
	g.Deliver(peer.PushFrame{ClientIDs: []string{a.ID()}, Message: say(t, "one")})
	g.Deliver(peer.PushFrame{ClientIDs: []string{a.ID(), "g:1/unknown", "", b.ID()}, Message: say(t, "two")})
	g.Deliver(peer.PushFrame{Broadcast: true, Message: say(t, "all")})
	g.Deliver(peer.PushFrame{Message: say(t, "nobody")})
	for _, want := range []struct {
		s    *Session
		text []string
	}{{a, []string{"one", "two", "all"}}, {b, []string{"two", "all"}}, {c, []string{"all"}}} {
		if got := drain(t, want.s); !slices.Equal(got, want.text) {
			t.Errorf("%s got %q, want %q", want.s.ID(), got, want.text)
		}
	}
}

func TestTheReaderIsWokenAndSleeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{})
		s := open(t, g)
		var got []string
		go func() {
			for {
				got = append(got, drain(t, s)...)
				select {
				case <-s.Ready():
				case <-s.Done():
					got = append(got, drain(t, s)...)
					return
				}
			}
		}()
		var want []string
		for i := range 100 {
			text := fmt.Sprint(i)
			want = append(want, text)
			g.Deliver(peer.PushFrame{ClientIDs: []string{s.ID()}, Message: say(t, text)})
			if i%10 == 0 {
				synctest.Wait()
				if len(got) != i+1 {
					t.Fatalf("after %d pushes the reader has %d", i+1, len(got))
				}
			}
		}
		s.Close(nil)
		synctest.Wait()
		if !slices.Equal(got, want) {
			t.Errorf("got %q", got)
		}
	})
}

func TestAFullOutboxEndsItsSessionAndNobodyElses(t *testing.T) {
	var d diary
	g := New(Config{Listener: d.listener()})
	stalled, fine := open(t, g), open(t, g)
	for i := range DefaultMaxMessages + 1 {
		g.Deliver(peer.PushFrame{Broadcast: true, Message: say(t, fmt.Sprint(i))})
		if _, ok := fine.Next(); !ok {
			t.Fatalf("push %d did not arrive", i)
		}
	}
	<-stalled.Done()
	if err := stalled.Err(); !errors.Is(err, &fault.Error{Kind: fault.Overloaded}) {
		t.Errorf("the stalled session ended with %v", err)
	}
	if m, ok := stalled.Next(); ok {
		t.Errorf("after its gap the stalled session still gives %v", m)
	}
	if g.Knows(stalled.ID()) || !g.Knows(fine.ID()) || fine.Err() != nil {
		t.Error("the wrong session ended")
	}
	if d.lost[stalled.ID()] != DefaultMaxMessages+1 || len(d.lost) != 1 {
		t.Errorf("lost %v", d.lost)
	}
	if !strings.Contains(d.closed[stalled.ID()], "does not read") || len(d.closed) != 1 {
		t.Errorf("closed %v", d.closed)
	}
	stalled.Close(nil) // the door's own close changes nothing any more
	if !strings.Contains(d.closed[stalled.ID()], "does not read") {
		t.Error("a second Close was heard")
	}
}

func TestTheOutboxIsBoundedInBytesToo(t *testing.T) {
	g := New(Config{MaxBytes: 1000})
	s := open(t, g)
	push := func(n int) {
		g.Deliver(peer.PushFrame{ClientIDs: []string{s.ID()}, Message: &anypb.Any{Value: make([]byte, n/2)}, JSON: make([]byte, n/2)})
	}
	push(5000) // alone, any message fits
	if m, ok := s.Next(); !ok || m.size() != 5000 {
		t.Fatal("the large message did not arrive")
	}
	push(600)
	push(400)
	if s.Err() != nil {
		t.Fatal("1000 bytes do not fit in 1000")
	}
	push(2)
	if s.Err() == nil {
		t.Fatal("1002 bytes fit in 1000")
	}
}

func TestAFullGateRefuses(t *testing.T) {
	var told []event.LimitReached
	g := New(Config{MaxSessions: 2, Listener: event.Listener{LimitReached: func(e event.LimitReached) { told = append(told, e) }}})
	a, _ := open(t, g), open(t, g)
	if _, err := g.Open(); fault.KindOf(err) != fault.Overloaded {
		t.Fatalf("the third client of two: %v", err)
	}
	a.Close(nil)
	open(t, g)
	g.Close(fault.New(fault.NotReady, "stopping"))
	if _, err := g.Open(); fault.KindOf(err) != fault.NotReady {
		t.Error(err)
	}
	if len(told) != 1 || told[0] != (event.LimitReached{Limit: event.Sessions}) {
		t.Errorf("it told of %v", told)
	}
}

func TestCloseEndsAllAndRefusesNewButKeepsWhatWaits(t *testing.T) {
	var d diary
	g := New(Config{Listener: d.listener()})
	a, b := open(t, g), open(t, g)
	g.Deliver(peer.PushFrame{Broadcast: true, Message: say(t, "last words")})
	why := fault.New(fault.NotReady, "the gate is stopping")
	g.Close(why)
	g.Close(errors.New("a second reason"))
	g.Deliver(peer.PushFrame{Broadcast: true, Message: say(t, "too late")})
	for _, s := range []*Session{a, b} {
		<-s.Done()
		if s.Err() != why {
			t.Errorf("ended with %v", s.Err())
		}
		if got := drain(t, s); !slices.Equal(got, []string{"last words"}) {
			t.Errorf("what waited: %q", got)
		}
	}
	if _, err := g.Open(); !errors.Is(err, why) {
		t.Errorf("Open after Close: %v", err)
	}
	if g.Len() != 0 || len(d.closed) != 2 {
		t.Errorf("%d sessions are left, %d were closed", g.Len(), len(d.closed))
	}
}

// One of 10,000 clients never reads. In the bubble any wait of Deliver would
// advance its clock.
func TestTenThousandSessionsAndOneThatNeverReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const clients, pushes = 10_000, 6
		g := New(Config{MaxMessages: pushes - 1})
		never := open(t, g)
		counts := make([]int, clients)
		var readers sync.WaitGroup
		for i := range clients {
			s := open(t, g)
			readers.Go(func() {
				for {
					for _, ok := s.Next(); ok; _, ok = s.Next() {
						counts[i]++
					}
					select {
					case <-s.Ready():
					case <-s.Done():
						for _, ok := s.Next(); ok; _, ok = s.Next() {
							counts[i]++
						}
						return
					}
				}
			})
		}
		begin := time.Now()
		for range pushes {
			g.Deliver(peer.PushFrame{Broadcast: true, Message: say(t, "x")})
			synctest.Wait()
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("Deliver waited %v", took)
		}
		if never.Err() == nil {
			t.Error("the client that never reads is still there")
		}
		g.Close(errors.New("enough"))
		readers.Wait()
		for i, n := range counts {
			if n != pushes {
				t.Fatalf("client %d got %d of %d", i, n, pushes)
			}
		}
	})
}

// Sessions come and go while pushes fly. What a session got is a gap-free piece of
// what was sent.
func TestRacesOfComingGoingAndPushing(t *testing.T) {
	g := New(Config{})
	var pushers, clients sync.WaitGroup
	stop := make(chan struct{})
	pushers.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				g.Deliver(peer.PushFrame{Broadcast: true, JSON: fmt.Append(nil, i)})
			}
		}
	})
	for range 8 {
		clients.Go(func() {
			for range 125 {
				s, err := g.Open()
				if err != nil {
					t.Error(err)
					return
				}
				checkGapFree(t, s, 5)
				s.Close(nil)
			}
		})
	}
	clients.Wait()
	close(stop)
	pushers.Wait()
	if g.Len() != 0 {
		t.Errorf("%d sessions are left", g.Len())
	}
}

func checkGapFree(t *testing.T, s *Session, n int) {
	last := -1
	for got := 0; got < n; {
		select {
		case <-s.Ready():
		case <-s.Done():
			return // overflowed: that is announced
		}
		for m, ok := s.Next(); ok; m, ok = s.Next() {
			var i int
			fmt.Sscan(string(m.JSON), &i)
			if last >= 0 && i != last+1 {
				t.Errorf("after %d came %d", last, i)
			}
			last, got = i, got+1
		}
	}
}

func BenchmarkBroadcastTo10000(b *testing.B) {
	g := New(Config{})
	sessions := make([]*Session, 10_000)
	for i := range sessions {
		sessions[i], _ = g.Open()
	}
	frame := peer.PushFrame{Broadcast: true, Message: &anypb.Any{Value: make([]byte, 62)}}
	for b.Loop() {
		g.Deliver(frame)
		for _, s := range sessions {
			s.Next()
		}
	}
}

// A session's end is told with its first reason, though its door closes it before the gate
// has told.
func TestAnEndHasItsFirstReason(t *testing.T) {
	var d diary
	g := New(Config{Address: "g", Listener: d.listener(), MaxMessages: 1})
	s := open(t, g)
	f := &peer.PushFrame{}
	for range 2 {
		s.offer(Message{Any: say(t, "more")}, f)
	}
	s.Close(nil)
	if why := d.closed[s.ID()]; why != errSlow.Error() {
		t.Errorf("told: %q", why)
	}
}
