package goversetest

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/xiaonanln/goverse/cluster"
	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/embedded"
	"github.com/xiaonanln/goverse/gate/gateserver"
	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/node"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/server"
	"github.com/xiaonanln/goverse/util/sqlite"
)

// network is a cluster of real parts: etcd, SQLite, and gRPC between its members.
type network struct {
	t         testing.TB
	types     *object.Types
	mode      node.DegradedMode
	of        Cluster
	dir       string
	addresses map[string]string // of nodes, across their restarts
	etcd      *embedded.Server
	db        *sqlite.DB
	nodes     map[string]*netNode
	gates     map[string]*gateserver.GateServer

	mu      sync.Mutex // clients may come from several goroutines
	clients []*netSession
}

// netNode is a node that runs.
type netNode struct {
	*server.Server
	stop func()
}

func newNet(t testing.TB, c Cluster) *network {
	w := &network{
		t: t, types: c.types(t), mode: c.degradedMode(), of: c, dir: t.TempDir(),
		addresses: map[string]string{}, nodes: map[string]*netNode{}, gates: map[string]*gateserver.GateServer{},
	}
	var err error
	if w.etcd, err = embedded.Start(t.Context(), embedded.Config{Dir: w.dir}); err != nil {
		t.Fatal(err)
	}
	if w.db, err = sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(w.dir, "goverse.db")}); err != nil {
		t.Fatal(err)
	}
	if err = w.db.InitSchema(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *network) address(node string) string { return w.addresses[node] }

func (w *network) startNode(name string) {
	address := w.addresses[name]
	if address == "" {
		address = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		w.t.Fatal(err)
	}
	w.addresses[name] = l.Addr().String()
	srv, err := server.New(server.ServerConfig{
		Listener:              l,
		EtcdAddress:           w.etcd.Endpoint(),
		NumShards:             numShards,
		NodeStabilityDuration: netStability,
		Types:                 w.types,
		DegradedMode:          string(w.mode),
		CopyMessages:          w.of.CopyMessages,
		Interceptors:          w.of.Interceptors,
		AutoLoadObjects:       w.of.AutoLoad,
		Events:                event.Listener{MessageChanged: complain(w.t)},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	srv.Node.SetPersistenceProvider(sqlite.NewSQLitePersistenceProvider(w.db))
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := srv.Run(ctx); err != nil {
			w.t.Errorf("%s ended: %v", name, err)
		}
	})
	w.nodes[name] = &netNode{Server: srv, stop: func() { cancel(); running.Wait() }}
}

// netStability is short: real time passes in this world.
const netStability = 50 * time.Millisecond

func (w *network) stopNode(name string) {
	n := w.nodes[name]
	delete(w.nodes, name)
	n.stop()
}

func (w *network) killNode(string) { panic("a real kill needs a process of its own") }

func (w *network) startGate(name string) {
	g, err := gateserver.NewGateServer(&gateserver.GateServerConfig{
		ListenAddress: "127.0.0.1:0", HTTPListenAddress: "127.0.0.1:0", EtcdAddress: w.etcd.Endpoint(),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := g.Start(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.gates[name] = g
}

func (w *network) stopGate(name string) {
	g := w.gates[name]
	delete(w.gates, name)
	if err := g.Stop(); err != nil {
		w.t.Error(err)
	}
}

func (w *network) unsettled() string {
	members := map[string]member{}
	for name, n := range w.nodes {
		if n.Cluster() == nil {
			return name + " has not joined"
		}
		members[name] = n.Cluster()
	}
	for name, g := range w.gates {
		members[name] = g
	}
	if why := unready(maps.All(members)); why != "" {
		return why
	}
	for name, g := range w.gates {
		if !g.PushesUp() {
			return name + " does not hear every node"
		}
	}
	return lackOf(w.view(), len(w.nodes))
}

func (w *network) view() *consensusmanager.View {
	if c := w.first(); c != nil {
		return c.View()
	}
	return new(consensusmanager.View)
}

func (w *network) desk() etcdmanager.KV { return w.first().KV() }

// first is the first node's cluster that there is, by name.
func (w *network) first() *cluster.Cluster {
	for _, name := range slices.Sorted(maps.Keys(w.nodes)) {
		if c := w.nodes[name].Cluster(); c != nil {
			return c
		}
	}
	return nil
}

func (w *network) runtime(node string) object.Runtime { return w.nodes[node] }
func (w *network) simulated() bool                    { return false }

func (w *network) connect(gate string) (session, error) {
	conn, err := grpc.NewClient(w.gates[gate].GRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &netSession{conn: conn, client: gate_pb.NewGateServiceClient(conn), cancel: cancel, pushes: make(chan *anypb.Any, 1024)}
	if err := s.register(ctx); err != nil {
		s.close()
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clients = append(w.clients, s)
	return s, nil
}

func (w *network) close() {
	for _, c := range w.clients {
		c.close()
	}
	for name := range w.gates {
		w.stopGate(name)
	}
	var stopping sync.WaitGroup
	for _, n := range w.nodes {
		stopping.Go(n.stop)
	}
	stopping.Wait()
	if err := errors.Join(w.db.Close(), w.etcd.Close()); err != nil {
		w.t.Error(err)
	}
}

// netSession is a gRPC client of the gate.
type netSession struct {
	conn   *grpc.ClientConn
	client gate_pb.GateServiceClient
	cancel context.CancelFunc
	reader sync.WaitGroup
	name   string
	pushes chan *anypb.Any // closed when the stream has ended
	over   atomic.Bool
}

func (s *netSession) register(ctx context.Context) error {
	stream, err := s.client.Register(ctx, &emptypb.Empty{})
	if err != nil {
		return err
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	var hello gate_pb.RegisterResponse
	if err := first.UnmarshalTo(&hello); err != nil {
		return err
	}
	s.name = hello.GetClientId()
	s.reader.Go(func() {
		defer close(s.pushes)
		defer s.over.Store(true)
		for {
			m, err := stream.Recv()
			if err != nil {
				return
			}
			select {
			case s.pushes <- m:
			case <-ctx.Done():
				return
			}
		}
	})
	return nil
}

func (s *netSession) id() string { return s.name }

func (s *netSession) call(ctx context.Context, c object.Call) (object.Payload, error) {
	req, err := anypb.New(c.Payload.Message)
	if err != nil {
		return object.Payload{}, err
	}
	if c.ID != "" {
		return s.callOnce(ctx, c, req)
	}
	reply, err := s.client.CallObject(ctx, &gate_pb.CallObjectRequest{
		ClientId: s.name, Type: c.Ref.Type, Id: c.Ref.ID, Method: c.Method, Request: req,
	})
	if err != nil {
		return object.Payload{}, fault.FromStatus(err)
	}
	m, err := reply.GetResponse().UnmarshalNew()
	return object.Payload{Message: m, Unsaved: reply.Durable != nil && !*reply.Durable}, err
}

func (s *netSession) callOnce(ctx context.Context, c object.Call, req *anypb.Any) (object.Payload, error) {
	reply, err := s.client.ReliableCallObject(ctx, &gate_pb.ReliableCallObjectRequest{
		CallId: c.ID, Type: c.Ref.Type, Id: c.Ref.ID, Method: c.Method, Request: req,
	})
	kinds := map[string]fault.Kind{"FAILED": fault.Failed, "SKIPPED": fault.CallSettled}
	switch {
	case err != nil:
		return object.Payload{}, fault.FromStatus(err)
	case reply.Status == "SUCCESS":
		m, err := reply.GetResponse().UnmarshalNew()
		return object.OfMessage(m), err
	}
	return object.Payload{}, fault.New(cmp.Or(kinds[reply.Status], fault.Indeterminate), "%s", reply.Error)
}

func (s *netSession) next(ctx context.Context) (*anypb.Any, error) {
	select {
	case m, ok := <-s.pushes:
		if !ok {
			return nil, errors.New("the push stream has ended")
		}
		return m, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *netSession) ended() bool { return s.over.Load() }

func (s *netSession) close() {
	s.cancel()
	s.conn.Close()
	s.reader.Wait()
}
