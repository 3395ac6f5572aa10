package gateserver

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	members "github.com/xiaonanln/goverse/cluster"
	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/embedded"
	"github.com/xiaonanln/goverse/cluster/sharding"
	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/internal/secure"
	"github.com/xiaonanln/goverse/object"
)

// host is a node that answers every call with its request, and pushes it to the caller.
type host struct {
	pushes chan peer.PushFrame
	object.Records
	object.Cataloger
	peer.Census
}

func (h *host) Confirm(context.Context, members.Tenure, []members.Claim) ([]members.Refusal, error) {
	return nil, nil
}
func (h *host) Open(context.Context, members.Tenure, []members.Claim) ([]members.Refusal, error) {
	return nil, nil
}
func (h *host) Drain(context.Context, sharding.ID) error                { return nil }
func (h *host) Vacate(context.Context, sharding.ID, members.Move) error { return nil }
func (h *host) HandedOver(sharding.ID, string, uint64)                  {}
func (h *host) Resume([]sharding.ID)                                    {}
func (h *host) Staged() []members.Staging                               { return nil }
func (h *host) Unstage([]members.Staging)                               {}
func (h *host) ServeStage(context.Context, *peer.Stage) error           { return nil }
func (h *host) Drop([]sharding.ID, string)                              {}
func (h *host) Interrupt(string)                                        {}
func (h *host) Lost() <-chan sharding.ID                                { return nil }
func (h *host) Rewound() <-chan struct{}                                { return nil }
func (h *host) Adopt(context.Context) error                             { return nil }

func (h *host) ServeCall(ctx context.Context, r *peer.Request) (object.Payload, error) {
	h.pushes <- peer.PushFrame{ClientIDs: []string{callctx.From(ctx).Caller.ClientID}, Message: r.Payload.Binary}
	return r.Payload, nil
}

// Report is what a gate sends each node now and then: nobody looks.
func (h *host) Report(context.Context, peer.GateSurvey) (bool, error) { return false, nil }

func (h *host) ServeProbe(context.Context, *peer.Probe) ([]string, error) { return nil, nil }

func (h *host) ServePushes(ctx context.Context, _ peer.Hearing, ready func(peer.Opening), deliver func(peer.PushFrame) error) error {
	ready(peer.Opening{})
	for {
		select {
		case f := <-h.pushes:
			if err := deliver(f); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// startNode runs a node over a real etcd and returns etcd's address.
func startNode(t *testing.T) (etcd string) {
	t.Helper()
	server, err := embedded.Start(t.Context(), embedded.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	kv, err := etcdmanager.Dial(etcdmanager.Config{Endpoints: []string{server.Endpoint()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kv.Close() })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &host{pushes: make(chan peer.PushFrame, 16)}
	var c *members.Cluster
	member := &peer.Membership{Address: l.Addr().String(), Secret: func(ctx context.Context) (secure.Secret, error) { return c.Secret(ctx) }}
	c, err = members.New(members.Config{
		Address: l.Addr().String(), KVs: []etcdmanager.KV{kv}, Dialer: member.Dialer(event.Listener{}), FreshCluster: true, NumShards: 16,
	})
	if err != nil {
		t.Fatal(err)
	}
	peers := grpc.NewServer(append(peer.ServerOptions(), member.ServerOptions()...)...)
	doors := member.Register(peers, h, event.Listener{})
	t.Cleanup(doors.Close)
	go peers.Serve(l)
	t.Cleanup(peers.Stop)
	ctx, end := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- c.Run(ctx, h) }()
	t.Cleanup(func() {
		end()
		if err := <-ran; err != nil {
			t.Errorf("the node: %v", err)
		}
	})
	return server.Endpoint()
}

func TestAGateOfItsOwnJoinsTheCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a real etcd")
	}
	etcd := startNode(t)
	s := start(t, nil, func(c *GateServerConfig) { c.EtcdAddress = etcd })
	select {
	case <-s.router.Ready():
	case <-time.After(20 * time.Second):
		t.Fatalf("not ready: %q", s.router.Problems())
	}
	c := dial(t, s)
	id, stream := register(t, t.Context(), c)
	reply, err := c.CallObject(t.Context(), &gate_pb.CallObjectRequest{ClientId: id, Type: "Room", Id: "a", Method: "Say", Request: text(t, "hello")})
	if err != nil || unpack(t, reply.Response) != "hello" {
		t.Fatalf("%v, %v", reply, err)
	}
	if m, err := stream.Recv(); err != nil || unpack(t, m) != "hello" {
		t.Fatalf("the push: %v, %v", m, err)
	}
	if err := s.Stop(); err != nil {
		t.Errorf("Stop: %v", err)
	}
	other, err := NewGateServer(&GateServerConfig{ListenAddress: "127.0.0.1:0", HTTPListenAddress: "off", EtcdAddress: etcd, NumShards: 17, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := other.Run(ctx); err == nil || !strings.Contains(err.Error(), "shards") {
		t.Errorf("a gate that disagrees on the shards: %v", err)
	}
}

func TestAGateWithoutItsEtcdSaysSo(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	s, err := NewGateServer(&GateServerConfig{ListenAddress: "127.0.0.1:0", HTTPListenAddress: "off", EtcdAddress: closed.Addr().String(), Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "--etcd") || !strings.Contains(err.Error(), closed.Addr().String()) {
		t.Errorf("%v", err)
	}
}

func TestEtcdAddresses(t *testing.T) {
	if got := etcdmanager.Endpoints(" a:1, b:2 ,"); len(got) != 2 || got[0] != "a:1" || got[1] != "b:2" {
		t.Errorf("%q", got)
	}
	if _, err := NewGateServer(&GateServerConfig{EtcdAddress: "nowhere"}); err == nil || !strings.Contains(err.Error(), "--etcd") {
		t.Errorf("%v", err)
	}
}
