package census

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// after is a survey of a node so many seconds after it began to count.
func after(seconds int, calls uint64) *peer.Survey {
	return &peer.Survey{
		Since: 1, Age: time.Duration(seconds) * time.Second, Objects: 9, Commits: calls / 2,
		Types: []peer.TypeSurvey{{Type: "Room", Objects: 9, Queued: 1, Calls: calls, Errors: calls / 10, Latency: []peer.Bucket{{UpTo: time.Millisecond, Calls: calls}}}},
		Edges: []peer.EdgeSurvey{{From: peer.FromClient, To: "Room", Calls: calls}},
		Top:   []peer.ObjectSurvey{{Ref: object.Ref{Type: "Room", ID: "x"}, Calls: calls + 5, Excess: 5}},
		Gates: []peer.GateSurvey{{Address: "g:1", Since: 2, Age: time.Duration(seconds) * time.Second, Clients: 3, Calls: calls, Pushes: 2 * calls}},
	}
}

func said(r *Rates) string { return fmt.Sprint(r.Nodes, r.Types, r.Edges, r.Top, r.Gates) }

// Rates are what happened between two surveys of one counting, and of nothing else.
func TestRates(t *testing.T) {
	var m Meter
	rates := func(answers ...Answer) string { return said(m.Rates(time.UnixMilli(1), answers, []string{"g:1"})) }
	node := func(s *peer.Survey) Answer { return Answer{Address: "a:1", Survey: s} }
	for _, c := range []struct {
		what string
		is   Answer
		want string
	}{
		{"the first", node(after(10, 1000)), "[{a:1  9 0 0 0 0 1 0}] [{Room a:1 9 0 0}] [] [] [{g:1  3 0 0}]"},
		{"two seconds later", node(after(12, 1400)), "[{a:1  9 200 20 1000 1000 1 100}] [{Room a:1 9 200 20}] [{client Room 200}] [{Room x a:1 200}] [{g:1  3 200 400}]"},
		{"the same again", node(after(12, 1400)), "[{a:1  9 0 0 0 0 1 0}] [{Room a:1 9 0 0}] [] [] [{g:1  3 200 400}]"},
		{"it hangs", Answer{Address: "a:1", Err: errors.New("late")}, "[{a:1 late 0 0 0 0 0 0 0}] [] [] [] [{g:1 it has reported to no node that answers 0 0 0}]"},
		{"it is back", node(after(16, 1800)), "[{a:1  9 100 10 1000 1000 1 50}] [{Room a:1 9 100 10}] [{client Room 100}] [{Room x a:1 100}] [{g:1  3 0 0}]"},
	} {
		if got := rates(c.is); got != c.want {
			t.Errorf("%s:\n%s, want\n%s", c.what, got, c.want)
		}
	}
	anew := after(20, 9000)
	anew.Since, anew.Gates = 99, nil
	if got := rates(node(anew)); got != "[{a:1  9 0 0 0 0 1 0}] [{Room a:1 9 0 0}] [] [] [{g:1 it has reported to no node that answers 0 0 0}]" {
		t.Errorf("it counts anew: %s", got)
	}
	if got := rates(); got != "[] [] [] [] [{g:1 it has reported to no node that answers 0 0 0}]" {
		t.Errorf("it has left: %s", got)
	}
}

// An object that came among the busiest meanwhile is not said to have had the calls of
// whom it displaced.
func TestRatesOfANewcomer(t *testing.T) {
	var m Meter
	first, then := after(1, 100), after(2, 200)
	then.Top = []peer.ObjectSurvey{{Ref: object.Ref{Type: "Room", ID: "new"}, Calls: 90, Excess: 80}}
	m.Rates(time.Now(), []Answer{{Address: "a:1", Survey: first}}, nil)
	if got := m.Rates(time.Now(), []Answer{{Address: "a:1", Survey: then}}, nil).Top; len(got) != 1 || got[0].Calls != 10 {
		t.Errorf("%+v", got)
	}
}

func TestPercentile(t *testing.T) {
	calls := map[time.Duration]uint64{}
	if p := percentile(calls, 99); p != 0 {
		t.Errorf("of none: %d", p)
	}
	addUp(calls, []peer.Bucket{{UpTo: 10 * time.Microsecond, Calls: 98}, {UpTo: time.Millisecond, Calls: 1}, {UpTo: time.Second, Calls: 1}}, 1)
	for p, want := range map[uint64]int64{50: 10, 98: 10, 99: 1000, 100: 1_000_000} {
		if got := percentile(calls, p); got != want {
			t.Errorf("%d of 100: %d, want %d", p, got, want)
		}
	}
	addUp(calls, []peer.Bucket{{UpTo: time.Second, Calls: 1}}, ^uint64(0))
	if got := percentile(calls, 100); got != 1000 {
		t.Errorf("without the longest: %d", got)
	}
}

// asked is a node that answers, or hangs.
type asked struct {
	peer.Service
	hangs bool
}

func (n *asked) Survey(ctx context.Context) (*peer.Survey, error) {
	if n.hangs {
		<-ctx.Done()
		return nil, fault.Waited(ctx, "hanging")
	}
	return after(1, 1), nil
}

// Who hangs, and who is not there, holds up nobody.
func TestPeersThatHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := peer.NewNetwork()
		defer network.Listen("a:1", &asked{})()
		defer network.Listen("b:1", &asked{hangs: true})()
		p := NewPeers(network.Dialer("me"))
		defer p.Close()
		began := time.Now()
		answers := p.Survey(t.Context(), []string{"b:1", "a:1", "gone:1"})
		if took := time.Since(began); took > Patience {
			t.Errorf("it took %v", took)
		}
		if answers[0].Err == nil || answers[1].Survey == nil || answers[1].Err != nil || answers[2].Err == nil || answers[2].Address != "gone:1" {
			t.Errorf("%+v", answers)
		}
		p.Keep([]string{"a:1"})
		if len(p.conns) != 1 {
			t.Errorf("%d connections are kept", len(p.conns))
		}
		p.Close()
		if answers := p.Survey(t.Context(), []string{"a:1"}); answers[0].Err == nil {
			t.Error("it asks after its end")
		}
		time.Sleep(time.Minute) // what was given up ends
	})
}
