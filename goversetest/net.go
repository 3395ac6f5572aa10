package goversetest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/xiaonanln/goverse/cluster/etcdmanager/embedded"
	"github.com/xiaonanln/goverse/gate/gateserver"
	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/server"
	"github.com/xiaonanln/goverse/util/sqlite"
)

// network is a cluster of real parts: etcd, SQLite, and gRPC between node and gate.
type network struct {
	t       testing.TB
	types   *object.Types
	dir     string
	address string // of the node, across its restarts
	etcd    *embedded.Server
	db      *sqlite.DB
	node    *server.Server
	stop    func()
	gate    *gateserver.GateServer
	clients []*netSession
}

func newNet(t testing.TB, c Cluster) *network {
	w := &network{t: t, types: c.types(t), dir: t.TempDir()}
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

func (w *network) startNode() {
	address := w.address
	if address == "" {
		address = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		w.t.Fatal(err)
	}
	w.address = l.Addr().String()
	w.node, err = server.New(server.ServerConfig{
		Listener:              l,
		EtcdAddress:           w.etcd.Endpoint(),
		NumShards:             numShards,
		NodeStabilityDuration: time.Millisecond, // one node: nothing to wait for
		Types:                 w.types,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.node.Node.SetPersistenceProvider(sqlite.NewSQLitePersistenceProvider(w.db))
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := w.node.Run(ctx); err != nil {
			w.t.Errorf("the node ended: %v", err)
		}
	})
	w.stop = func() { cancel(); running.Wait() }
}

func (w *network) stopNode() { w.stop() }
func (w *network) killNode() { panic("a real kill needs a process of its own") }

func (w *network) startGate() {
	var err error
	w.gate, err = gateserver.NewGateServer(&gateserver.GateServerConfig{
		ListenAddress: "127.0.0.1:0", HTTPListenAddress: "127.0.0.1:0", EtcdAddress: w.etcd.Endpoint(),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.gate.Start(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *network) settle(ctx context.Context) error {
	select {
	case <-w.node.Joined():
	case <-ctx.Done():
		return errors.New("the node has not joined")
	}
	for _, ready := range []<-chan struct{}{w.node.Cluster().Ready(), w.gate.Ready()} {
		select {
		case <-ready:
		case <-ctx.Done():
			return fmt.Errorf("node: %s; gate: %s", join(w.node.Cluster().Problems()), join(w.gate.Problems()))
		}
	}
	return nil
}

func join(problems []string) string {
	if len(problems) == 0 {
		return "ready"
	}
	return strings.Join(problems, ", ")
}

func (w *network) runtime() object.Runtime { return w.node }
func (w *network) simulated() bool         { return false }

func (w *network) connect() (session, error) {
	conn, err := grpc.NewClient(w.gate.GRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &netSession{conn: conn, client: gate_pb.NewGateServiceClient(conn), cancel: cancel, pushes: make(chan *anypb.Any, 1024)}
	if err := s.register(ctx); err != nil {
		s.close()
		return nil, err
	}
	w.clients = append(w.clients, s)
	return s, nil
}

func (w *network) close() {
	for _, c := range w.clients {
		c.close()
	}
	if w.gate != nil {
		w.gate.Stop()
	}
	w.stop()
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
	reply, err := s.client.CallObject(ctx, &gate_pb.CallObjectRequest{
		ClientId: s.name, Type: c.Ref.Type, Id: c.Ref.ID, Method: c.Method, Request: req,
	})
	if err != nil {
		return object.Payload{}, fault.FromStatus(err)
	}
	m, err := reply.GetResponse().UnmarshalNew()
	return object.OfMessage(m), err
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

func (s *netSession) close() {
	s.cancel()
	s.conn.Close()
	s.reader.Wait()
}
