package goverseclient

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/gate/gateserver"
	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
	goverse_pb "github.com/xiaonanln/goverse/proto"
	"github.com/xiaonanln/goverse/util/logger"
)

// cluster is a gateserver.Router in memory: every object echoes, and "WhoAmI" answers
// with the caller's client id.
type cluster struct {
	gateserver.Router // whatever else a gate may ask
	tally             *tally

	mu       sync.Mutex
	delivers map[string]func(peer.PushFrame) error // by gate
	ready    chan struct{}
}

func newCluster() *cluster {
	c := &cluster{delivers: map[string]func(peer.PushFrame) error{}, ready: make(chan struct{})}
	close(c.ready)
	return c
}

func (c *cluster) Call(ctx context.Context, call object.Call) (object.Payload, error) {
	switch call.Method {
	case object.SubscribeMethod:
		return c.tally.show(call)
	case "WhoAmI":
		me, err := anypb.New(wrapperspb.String(callctx.From(ctx).Caller.ClientID))
		return object.OfBinary(me), err
	case "Refuse":
		return object.Payload{}, fault.New(fault.Forbidden, "not for you")
	}
	return call.Payload, nil
}

func (c *cluster) FollowPushes(ctx context.Context, gate string, deliver func(peer.PushFrame) error) error {
	c.mu.Lock()
	c.delivers[gate] = deliver
	c.mu.Unlock()
	<-ctx.Done()
	return nil
}

func (c *cluster) PushesReady() <-chan struct{} { return c.ready }
func (c *cluster) PushesUp() bool               { return true }
func (c *cluster) Ready() <-chan struct{}       { return c.ready }
func (c *cluster) Problems() []string           { return nil }

// push sends a text to a client of a gate, once the gate listens.
func (c *cluster) push(t *testing.T, gate, clientID, text string) {
	t.Helper()
	var deliver func(peer.PushFrame) error
	until(t, "the gate to follow pushes", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		deliver = c.delivers[gate]
		return deliver != nil
	})
	if err := deliver(peer.PushFrame{ClientIDs: []string{clientID}, Message: pack(t, wrapperspb.String(text))}); err != nil {
		t.Error(err)
	}
}

// startGate runs a real gate at address.
func startGate(t *testing.T, c *cluster, address string, change ...func(*gateserver.GateServerConfig)) *gateserver.GateServer {
	t.Helper()
	cfg := &gateserver.GateServerConfig{
		ListenAddress: address, HTTPListenAddress: "off", Router: c, Logger: logger.New(slog.New(slog.DiscardHandler)),
	}
	for _, f := range change {
		f(cfg)
	}
	s, err := gateserver.NewGateServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop() })
	return s
}

// Real gates are restarted in turn, three times each, under 50 callers who notice
// nothing, and the client's session goes on.
func TestRealGatesAreRestarted(t *testing.T) { bothWays(t, testRealGatesAreRestarted) }

func testRealGatesAreRestarted(t *testing.T) {
	world := newCluster()
	gates := []*gateserver.GateServer{startGate(t, world, "127.0.0.1:0"), startGate(t, world, "127.0.0.1:0")}
	addresses := []string{gates[0].GRPCAddr(), gates[1].GRPCAddr()}
	c := connect(t, addresses, way(t))
	others := gather(soon(t), c, 50)
	for i := range 6 {
		others.more(t, 300)
		if err := gates[i%2].Stop(); err != nil {
			t.Fatal(err)
		}
		others.more(t, 100)
		until(t, "a session", func() bool {
			id := c.ClientID()
			who, err := c.CallObject(soon(t), "Echo", "a", "WhoAmI", nil)
			if err != nil {
				t.Fatal(err)
			}
			return id != "" && who.(*wrapperspb.StringValue).Value == id
		})
		world.push(t, c.CurrentAddress(), c.ClientID(), "still there")
		if m := receive(t, "a push", c.MessageChan()).(*wrapperspb.StringValue); m.Value != "still there" {
			t.Errorf("got %v", m)
		}
		gates[i%2] = startGate(t, world, addresses[i%2])
	}
	others.end()
	for text, err := range others.bad {
		t.Errorf("%s: %v", text, err)
	}
	slices.Sort(others.took)
	t.Logf("%d calls, the worst took %v", len(others.took), others.took[len(others.took)-1].Round(time.Millisecond))
}

// The only gate is restarted: calls wait for it.
func TestTheOnlyGateIsRestarted(t *testing.T) { bothWays(t, testTheOnlyGateIsRestarted) }

func testTheOnlyGateIsRestarted(t *testing.T) {
	world := newCluster()
	g := startGate(t, world, "127.0.0.1:0")
	address := g.GRPCAddr()
	c := connect(t, []string{address}, way(t))
	others := gather(soon(t), c, 20)
	for range 3 {
		others.more(t, 100)
		if err := g.Stop(); err != nil {
			t.Fatal(err)
		}
		g = startGate(t, world, address)
		others.more(t, 100)
	}
	others.end()
	for text, err := range others.bad {
		t.Errorf("%s: %v", text, err)
	}
}

func TestARealGatesErrors(t *testing.T) { bothWays(t, testARealGatesErrors) }

func testARealGatesErrors(t *testing.T) {
	world := newCluster()
	c := connect(t, []string{startGate(t, world, "127.0.0.1:0").GRPCAddr()}, way(t))
	_, err := c.CallObject(soon(t), "Echo", "a", "Refuse", nil)
	want(t, err, ErrForbidden, NotExecuted, "CallObject Echo/a.Refuse: forbidden: not for you")
	_, err = c.CallObject(soon(t), "Echo", "", "Say", nil)
	want(t, err, ErrInvalid, NotExecuted, "")
	if _, status, err := c.ReliableCallObject(soon(t), "id", "Echo", "a", "Say", nil); status != goverse_pb.ReliableCallStatus_SUCCESS || err != nil {
		t.Errorf("%v, %v", status, err)
	}
	_, _, err = c.ReliableCallObject(soon(t), "another", "Echo", "a", "Refuse", nil)
	want(t, err, ErrForbidden, NotExecuted, "not for you")
	id, err := c.CreateObject(soon(t), "Echo", "")
	if id == "" || err != nil {
		t.Error(id, err)
	}
}
