package goversetest

import (
	"context"
	"errors"
	"sync"
	"testing"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/xiaonanln/goverse/cluster"
	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/memkv"
	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/gate"
	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/node"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/memstore"
	"github.com/xiaonanln/goverse/server"
)

const (
	simNode = "node:47000"
	simGate = "gate:49000"
)

// sim is a cluster in memory, inside one bubble.
type sim struct {
	t     testing.TB
	types *object.Types
	etcd  *memkv.Store
	net   *peer.Network
	store *memstore.Store
	node  *simProcess
	gate  *simProcess
	doors *gate.Gate
	fresh bool // no node has run yet
}

func newSim(t testing.TB, c Cluster) *sim {
	return &sim{t: t, types: c.types(t), etcd: memkv.NewStore(), net: peer.NewNetwork(), store: memstore.New(), fresh: true}
}

// simProcess is what would be a process: it has a connection to etcd, an address,
// and goroutines that end with it.
type simProcess struct {
	cluster *cluster.Cluster
	node    *node.Node // nil in a gate
	conn    *memkv.Conn
	hangUp  func() // the address answers no more
	cancel  context.CancelFunc
	running sync.WaitGroup
}

func (s *sim) process(cfg cluster.Config) *simProcess {
	p := &simProcess{conn: s.etcd.Connect(), hangUp: func() {}}
	cfg.NumShards = numShards
	cfg.KVs, cfg.Dialer = []etcdmanager.KV{p.conn}, s.net.Dialer(cfg.Address)
	c, err := cluster.New(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	p.cluster = c
	return p
}

func (p *simProcess) run(t testing.TB, parts ...func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	for _, part := range parts {
		p.running.Go(func() {
			if err := part(ctx); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		})
	}
}

// end stops the process and waits until nothing of it runs.
func (p *simProcess) end() {
	p.cancel()
	p.running.Wait()
	p.hangUp()
	p.conn.Close()
}

func (s *sim) startNode() {
	p := s.process(cluster.Config{Address: simNode, StoreID: storeID(s.t, s.store), FreshCluster: s.fresh})
	s.fresh = false
	p.node = node.New(node.Config{Address: simNode, NumShards: numShards, Types: s.types, Call: p.cluster.Call})
	p.node.SetPersistenceProvider(s.store)
	host := server.HostOf(p.node)
	p.hangUp = s.net.Listen(simNode, host)
	p.run(s.t, func(ctx context.Context) error { return runNode(ctx, p.cluster, p.node) })
	s.node = p
}

// runNode runs a node and its cluster; the node outlives the cluster's drain.
func runNode(ctx context.Context, c *cluster.Cluster, n *node.Node) error {
	inner, stop := context.WithCancel(context.WithoutCancel(ctx))
	var end error
	var running sync.WaitGroup
	running.Go(func() { end = n.Run(inner) })
	err := c.Run(ctx, server.HostOf(n))
	stop()
	running.Wait()
	return errors.Join(err, end)
}

func storeID(t testing.TB, s *memstore.Store) string {
	id, err := s.StoreID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (s *sim) stopNode() { s.node.end() }

// killNode lets nothing more of the node reach etcd or a caller. What it had sent to
// the store may still arrive there, as from a real process.
func (s *sim) killNode() {
	p := s.node
	p.conn.Close()
	p.hangUp()
	all := make([]sharding.ID, numShards)
	for i := range all {
		all[i] = sharding.ID(i)
	}
	p.node.Drop(all, "killed")
	p.end()
}

func (s *sim) startGate() {
	p := s.process(cluster.Config{Address: simGate, Gate: true})
	s.doors = gate.New(gate.Config{Address: simGate})
	p.run(s.t,
		func(ctx context.Context) error { return p.cluster.Run(ctx, nil) },
		func(ctx context.Context) error {
			return p.cluster.FollowPushes(ctx, simGate, func(f peer.PushFrame) error { s.doors.Deliver(f); return nil })
		})
	s.gate = p
}

func (s *sim) settle(ctx context.Context) error {
	for _, ready := range []<-chan struct{}{s.node.cluster.Ready(), s.gate.cluster.Ready(), s.gate.cluster.PushesReady()} {
		select {
		case <-ready:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), errors.New("node: "+join(s.node.cluster.Problems())+"; gate: "+join(s.gate.cluster.Problems())))
		}
	}
	return nil
}

func (s *sim) runtime() object.Runtime { return s.node.node }
func (s *sim) simulated() bool         { return true }

func (s *sim) connect() (session, error) {
	session, err := s.doors.Open()
	return &simSession{Session: session, world: s}, err
}

func (s *sim) close() {
	s.doors.Close(errors.New("the test is over"))
	s.gate.end()
	s.node.end()
	s.etcd.Close()
}

// simSession is a client right behind the gate's door.
type simSession struct {
	*gate.Session
	world *sim
}

func (s *simSession) id() string { return s.ID() }

func (s *simSession) call(ctx context.Context, c object.Call) (object.Payload, error) {
	ctx = callctx.With(ctx, &callctx.Info{Caller: callctx.Caller{ClientID: s.ID(), Client: true}})
	return s.world.gate.cluster.Call(ctx, c)
}

func (s *simSession) next(ctx context.Context) (*anypb.Any, error) {
	for {
		if m, ok := s.Next(); ok {
			return m.Any, nil
		}
		select {
		case <-s.Ready():
		case <-s.Done():
			return nil, errors.Join(errors.New("the session has ended"), s.Err())
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (s *simSession) close() { s.Session.Close(nil) }
