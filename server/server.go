package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/xiaonanln/goverse/cluster"
	"github.com/xiaonanln/goverse/internal/access"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/internal/telemetry"
	"github.com/xiaonanln/goverse/node"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/util/logger"
)

// Server is one node in this process. Make it with New, run it with Run.
type Server struct {
	// Node hosts the objects. Give it a store with SetPersistenceProvider before Run.
	Node *node.Node

	cfg     ServerConfig
	events  event.Listener
	counted *telemetry.Metrics
	cluster atomic.Pointer[cluster.Cluster]
	joined  chan struct{} // closed when cluster is set
	ended   chan struct{} // closed when Run returns
	begun   atomic.Bool

	readiness readiness
}

// New makes a server that is not running yet. The error tells everything that is
// wrong with the configuration.
func New(cfg ServerConfig) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("server configuration: %w", err)
	}
	cfg = cfg.withDefaults()
	if cfg.Logger == nil {
		cfg.Logger = logger.NewLogger("goverse")
	}
	s := &Server{cfg: cfg, counted: telemetry.NewMetrics(cfg.MetricsRegistry), joined: make(chan struct{}), ended: make(chan struct{})}
	s.events = event.Tee(telemetry.Log(cfg.Logger, telemetry.LogOptions{Operations: cfg.LogOperations}), s.counted.Listener(), cfg.Events)
	rules, err := access.Compile(cfg.ObjectAccessRules, cfg.ObjectLifecycleRules)
	if err != nil {
		return nil, err // Validate would have said so
	}
	s.Node = node.New(node.Config{
		Address:        cfg.AdvertiseAddress,
		NumShards:      cfg.NumShards,
		Types:          cfg.Types,
		MaxActivations: cfg.MaxActivations,
		MaxExecutions:  cfg.MaxExecutions,
		DegradedMode:   node.DegradedMode(cfg.DegradedMode),
		CopyMessages:   cfg.CopyMessages,
		Access:         rules,
		AutoLoad:       cfg.AutoLoadObjects,
		Interceptors:   cfg.Interceptors,
		Call:           s.Call,
		Probe:          s.probe,
		Listener:       s.events,
		Logger:         cfg.Logger,
	})
	return s, nil
}

// Run serves until ctx ends or the process gets SIGINT or SIGTERM, then drains and
// returns nil. A second signal ends the process at once. An error says why the
// server could not start or go on. A server runs once.
//
// What runs, in the order of its start: the coordinator's connection (and the
// embedded etcd), the store, the node, the gRPC listener, the cluster, the
// companions, the operations port. It stops in the opposite order.
func (s *Server) Run(ctx context.Context) error {
	if s.begun.Swap(true) {
		return errors.New("a server runs only once; make a new one")
	}
	defer close(s.ended)
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // gives a second signal its default meaning
	return (&assembly{Server: s}).serve(ctx)
}

// Do implements object.Caller, so that typed references call through the server: it is
// Call, or the method's own Call with the context of a method of an object here.
func (s *Server) Do(ctx context.Context, call object.Call) (object.Payload, error) {
	if rt, ok := s.Node.Within(ctx); ok {
		return rt.Call(ctx, call)
	}
	return s.Call(ctx, call)
}

// Call implements object.Runtime: it runs a call wherever its object lives. Before
// the server has joined its cluster the call waits, within its deadline.
func (s *Server) Call(ctx context.Context, call object.Call) (object.Payload, error) {
	if call.OneWay {
		return s.Node.Call(ctx, call)
	}
	if d := s.timeout(call.Op); d != s.cfg.DefaultCallTimeout {
		if _, ok := ctx.Deadline(); !ok {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, d)
			defer cancel()
		}
	}
	c := s.cluster.Load()
	if c == nil {
		var err error
		if c, err = s.awaitCluster(ctx); err != nil {
			return object.Payload{}, fault.Of(err).On(call.Op.String(), call.Subject())
		}
	}
	return c.Call(ctx, call)
}

// probe asks another node about a circle of calls.
func (s *Server) probe(ctx context.Context, p *peer.Probe) ([]string, error) {
	if c := s.cluster.Load(); c != nil {
		return c.Probe(ctx, p)
	}
	return nil, nil
}

// timeout is how long an operation may take whose context does not say. The cluster
// itself knows DefaultCallTimeout, at no cost for each call.
func (s *Server) timeout(op object.Op) time.Duration {
	switch op {
	case object.OpCreate:
		return s.cfg.DefaultCreateTimeout
	case object.OpDelete:
		return s.cfg.DefaultDeleteTimeout
	default:
		return s.cfg.DefaultCallTimeout
	}
}

func (s *Server) awaitCluster(ctx context.Context) (*cluster.Cluster, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.DefaultCallTimeout)
	defer cancel()
	select {
	case <-s.joined:
		return s.cluster.Load(), nil
	case <-s.ended:
		return nil, fault.New(fault.NotReady, "this server has stopped")
	case <-ctx.Done():
		return nil, fault.Waited(ctx, "this server has not joined a cluster yet; is Run called")
	}
}

// Push implements object.Runtime.
func (s *Server) Push(ctx context.Context, push object.Push) error { return s.Node.Push(ctx, push) }

// Cluster is this node's view of its cluster: nil until the server has joined it.
func (s *Server) Cluster() *cluster.Cluster { return s.cluster.Load() }

// Joined is closed when Cluster is there.
func (s *Server) Joined() <-chan struct{} { return s.joined }

// Address is what other nodes reach this one by.
func (s *Server) Address() string { return s.cfg.AdvertiseAddress }

func (s *Server) notice(severity event.Severity, err error, format string, args ...any) {
	if s.events.Notice != nil {
		s.events.Notice(event.Notice{Severity: severity, From: "server", Text: fmt.Sprintf(format, args...), Err: err})
	}
}

// grpcServer answers this node's peers and whoever asks for its health. doors are
// where their calls come in.
func grpcServer(svc peer.Service, m *peer.Membership, on event.Listener) (g *grpc.Server, h *health.Server, doors *peer.Doors) {
	g = grpc.NewServer(append(peer.ServerOptions(), m.ServerOptions()...)...)
	h = health.NewServer()
	doors = m.Register(g, svc, on)
	healthpb.RegisterHealthServer(g, h)
	return g, h, doors
}

// listen opens the node's port, or says what to do about it.
func listen(cfg ServerConfig) (net.Listener, error) {
	if cfg.Listener != nil {
		return cfg.Listener, nil
	}
	l, err := net.Listen("tcp", cfg.ListenAddress)
	if err != nil {
		return nil, fmt.Errorf("the node cannot listen on %s; is another node running there? Choose another address with --listen: %w", cfg.ListenAddress, err)
	}
	return l, nil
}

// closers are closed last in, first out.
type closers []func() error

func (c *closers) add(f func() error) { *c = append(*c, f) }

func (c closers) close() error {
	var errs []error
	for i := len(c) - 1; i >= 0; i-- {
		errs = append(errs, c[i]())
	}
	return errors.Join(errs...)
}
