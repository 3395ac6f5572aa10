package gateserver

import (
	"context"
	"slices"
	"testing"
	"time"

	members "github.com/xiaonanln/goverse/cluster"
	gate_pb "github.com/xiaonanln/goverse/gate/proto"
)

// neighbourhood is a cluster that has other gates.
type neighbourhood struct{ *cluster }

func (neighbourhood) OtherGates(http bool) []string {
	if http {
		return []string{"https://gate2:48000", "https://gate3:48000"}
	}
	return []string{"gate2:49000"}
}

// A gate that leaves tells each client where it can go by the door that it came by; one
// that cannot come back is told as ever.
func TestAGateThatLeavesSaysWhereToGo(t *testing.T) {
	s := start(t, neighbourhood{newCluster(echo)})
	resumable, _ := helloPage(t, s, `{"op":"hello"}`)
	plain := socketTo(t, s)
	events, _ := eventsFrom(t, t.Context(), s, "")
	stream, _ := talkOn(t, t.Context(), dial(t, s), &gate_pb.Hello{Resumable: true})
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	want := []string{"https://gate2:48000", "https://gate3:48000"}
	if g := resumable.web(); g.Op != "goodbye" || g.Code != "NOT_READY" || !slices.Equal(g.Gates, want) {
		t.Errorf("a WebSocket hears %+v", g)
	}
	if e := events.next(); e.Op != "closed" || e.Code != "NOT_READY" || !slices.Equal(e.Gates, want) {
		t.Errorf("a stream of events hears %+v", e)
	}
	if g := stream.next().GetGoodbye(); !slices.Equal(g.GetGates(), []string{"gate2:49000"}) {
		t.Errorf("a gRPC stream hears %v", g)
	}
	if e := plain.closed(); e.Code != 1001 {
		t.Errorf("a WebSocket without a hello closes with %v", e)
	}
}

// Two real gates of one cluster know each other's ports, and a client of the one that
// leaves can go to the other.
func TestGatesKnowEachOthersPorts(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a real etcd")
	}
	etcd := startNode(t)
	gate := func() *GateServer { return start(t, nil, func(c *GateServerConfig) { c.EtcdAddress = etcd }) }
	one, two := gate(), gate()
	awaitReady(t, one)
	awaitReady(t, two)
	want := "http://" + two.HTTPAddr()
	c := one.router.(*members.Cluster)
	late, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for v := c.View(); !slices.Equal(c.OtherGates(true), []string{want}); v = c.View() {
		select {
		case <-v.Superseded():
		case <-late.Done():
			t.Fatalf("the other gates are %q, want %s", c.OtherGates(true), want)
		}
	}
	p, _ := helloPage(t, one, `{"op":"hello"}`)
	e, _ := eventsFrom(t, t.Context(), one, "")
	if err := one.Stop(); err != nil {
		t.Fatal(err)
	}
	if g := p.web(); g.Op != "goodbye" || !slices.Equal(g.Gates, []string{want}) {
		t.Errorf("a WebSocket hears %+v, want %s", g, want)
	}
	if g := e.next(); g.Op != "closed" || !slices.Equal(g.Gates, []string{want}) {
		t.Errorf("a stream of events hears %+v, want %s", g, want)
	}
	helloPage(t, two, `{"op":"hello"}`)
}

func awaitReady(t *testing.T, s *GateServer) {
	t.Helper()
	select {
	case <-s.router.Ready():
	case <-time.After(20 * time.Second):
		t.Fatalf("not ready: %q", s.router.Problems())
	}
}
