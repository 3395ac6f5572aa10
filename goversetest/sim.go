package goversetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/xiaonanln/goverse/cluster"
	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/memkv"
	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/gate"
	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/node"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/memstore"
	"github.com/xiaonanln/goverse/server"
)

// sim is a cluster in memory, inside one bubble.
type sim struct {
	t     testing.TB
	types *object.Types
	etcd  *memkv.Store
	net   *peer.Network
	store *memstore.Store
	fresh bool // no node has run yet
	alone bool // there is to be one node
	mode  node.DegradedMode
	of    Cluster

	// Written by the test's own goroutine only, which reads them without mu.
	nodes, gates map[string]*simProcess
	seen         picture

	mu     sync.Mutex // protects following field and the writes of nodes and gates
	alarms []string
}

func newSim(t testing.TB, c Cluster) *sim {
	return &sim{
		t: t, types: c.types(t), etcd: memkv.NewStore(), net: peer.NewNetwork(), store: memstore.New(),
		nodes: map[string]*simProcess{}, gates: map[string]*simProcess{}, fresh: true, alone: c.Nodes < 2, mode: c.degradedMode(), of: c,
	}
}

// simProcess is what would be a process: it has a connection to etcd, an address,
// and goroutines that end with it.
type simProcess struct {
	cluster *cluster.Cluster
	node    *node.Node  // nil in a gate
	doors   *gate.Gate  // nil in a node
	feeds   *gate.Feeds // likewise
	conn    *straggler
	hangUp  func() // the address answers no more
	cancel  context.CancelFunc
	running sync.WaitGroup
}

func (s *sim) process(cfg cluster.Config) *simProcess {
	p := &simProcess{conn: &straggler{Conn: s.etcd.Connect()}, hangUp: func() {}}
	cfg.NumShards, cfg.Listener = numShards, s.listener(cfg.Address)
	cfg.JoinTimeout = patience // nobody is here to start a process again that gave up
	cfg.KVs, cfg.Dialer = []etcdmanager.KV{p.conn}, s.net.Dialer(cfg.Address)
	c, err := cluster.New(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	p.cluster = c
	return p
}

// listener keeps what alarms a person.
func (s *sim) listener(who string) event.Listener {
	return event.Listener{
		MessageChanged: complain(s.t),
		Notice: func(n event.Notice) {
			if n.Severity == event.Alarm {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.alarms = append(s.alarms, who+": "+n.Text)
			}
		},
	}
}

// complain fails the test when an object changes a message that others share.
func complain(t testing.TB) func(event.MessageChanged) {
	return func(e event.MessageChanged) { t.Error(e) }
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

func (s *sim) address(node string) string { return node + ":47000" }
func gateAddress(name string) string      { return name + ":49000" }

func (s *sim) startNode(name string) {
	at := s.address(name)
	var p *simProcess
	bind := func(ctx context.Context, cluster string) (string, error) {
		return server.BindStore(ctx, p.node, cluster)
	}
	p = s.process(cluster.Config{Address: at, BindStore: bind, StoreID: storeID(s.t, s.store), StoreCluster: s.storeCluster(), FreshCluster: s.fresh && s.alone, DegradedMode: s.mode == node.DegradedOn})
	s.fresh = false
	p.node = node.New(node.Config{Address: at, NumShards: numShards, Types: s.types, Call: p.cluster.Call, Probe: p.cluster.Probe, DegradedMode: s.mode, CopyMessages: s.of.CopyMessages, Interceptors: s.of.Interceptors, AutoLoad: s.of.AutoLoad, Listener: s.listener(at)})
	p.node.SetPersistenceProvider(s.store)
	d := &door{Service: p.cluster.Serve(server.HostOf(p.node))}
	p.hangUp = s.net.Listen(at, d)
	p.run(s.t, func(ctx context.Context) error { return runNode(ctx, p.cluster, p.node, d) })
	s.put(s.nodes, name, p)
}

// put makes members[name] p, or nobody.
func (s *sim) put(members map[string]*simProcess, name string, p *simProcess) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p == nil {
		delete(members, name)
	} else {
		members[name] = p
	}
}

// runNode runs a node and its cluster; the node outlives the cluster's drain and the
// last answers.
func runNode(ctx context.Context, c *cluster.Cluster, n *node.Node, d *door) error {
	inner, stop := context.WithCancel(context.WithoutCancel(ctx))
	var end error
	var running sync.WaitGroup
	running.Go(func() { end = n.Run(inner) })
	err := c.Run(ctx, server.HostOf(n))
	if err == nil {
		n.EndPushes() // as a server does: everything is handed over
	}
	d.leave()
	stop()
	running.Wait()
	return errors.Join(err, end)
}

// door is a node's listener, which lets calls that are inside end before it closes, as
// a gRPC server does.
type door struct {
	peer.Service
	inside atomic.Int64
}

// ServeCall implements peer.Service.
func (d *door) ServeCall(ctx context.Context, req *peer.Request) (object.Payload, error) {
	d.inside.Add(1)
	defer d.inside.Add(-1)
	return d.Service.ServeCall(ctx, req)
}

// leave waits until nobody is inside, and has the answer; a second at the longest.
func (d *door) leave() {
	for end := time.Now().Add(time.Second); d.inside.Load() > 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond) // of the bubble
	}
	time.Sleep(time.Millisecond)
}

func storeID(t testing.TB, s *memstore.Store) string {
	id, err := s.StoreID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// storeCluster is the cluster that the store belongs to, as a process reads it when it
// starts; "" where it does not say.
func (s *sim) storeCluster() string {
	owner, err := s.store.BindCluster(s.t.Context(), "")
	if err != nil && !errors.Is(err, object.ErrOtherHistory) {
		s.t.Fatal(err)
	}
	return owner
}

func (s *sim) stopNode(name string) {
	s.nodes[name].end()
	s.put(s.nodes, name, nil)
}

// killNode lets nothing more of the node reach etcd or a caller. What it had sent to
// the store may still arrive there, as from a real process.
func (s *sim) killNode(name string) {
	p := s.nodes[name]
	s.put(s.nodes, name, nil)
	p.conn.Close()
	p.hangUp()
	all := make([]sharding.ID, numShards)
	for i := range all {
		all[i] = sharding.ID(i)
	}
	p.node.Drop(all, "killed")
	p.end()
}

func (s *sim) startGate(name string) {
	at := gateAddress(name)
	p := s.process(cluster.Config{Address: at, Gate: true})
	p.doors = gate.New(gate.Config{Address: at})
	p.feeds = gate.NewFeeds(gate.FeedsConfig{Address: at, Ask: func(ctx context.Context, clientID string, call object.Call) (object.Payload, error) {
		return p.cluster.Call(callctx.With(ctx, &callctx.Info{Caller: callctx.Caller{ClientID: clientID, Client: clientID != ""}}), call)
	}})
	p.run(s.t,
		func(ctx context.Context) error { return p.cluster.Run(ctx, nil) },
		func(ctx context.Context) error {
			return p.cluster.FollowPushes(ctx, at, func(f peer.PushFrame) error {
				if !p.feeds.Deliver(f) {
					p.doors.Deliver(f)
				}
				return nil
			})
		},
		p.feeds.Run)
	s.put(s.gates, name, p)
}

func (s *sim) stopGate(name string) {
	p := s.gates[name]
	s.put(s.gates, name, nil)
	p.doors.Close(errors.New("the gate is leaving"))
	p.end()
}

func (s *sim) unsettled() string {
	v := s.view()
	for _, p := range s.all {
		if p.cluster.View().Revision != v.Revision {
			return "the pictures differ"
		}
	}
	if lack := s.seen.unsettled(v, len(s.nodes)); lack != "" {
		return lack
	}
	for name, p := range s.gates {
		if !p.cluster.PushesUp() {
			return name + " does not hear every node"
		}
	}
	return unready(s.members)
}

// all is every node and gate.
func (s *sim) all(yield func(string, *simProcess) bool) {
	for _, kind := range []map[string]*simProcess{s.nodes, s.gates} {
		for name, p := range kind {
			if !yield(name, p) {
				return
			}
		}
	}
}

func (s *sim) members(yield func(string, member) bool) {
	s.all(func(name string, p *simProcess) bool { return yield(name, p.cluster) })
}

// view is the first node's, or a gate's where no node runs.
func (s *sim) view() *consensusmanager.View {
	if p := s.first(); p != nil {
		return p.cluster.View()
	}
	return new(consensusmanager.View)
}

func (s *sim) desk() etcdmanager.KV { return s.first().cluster.KV() }

// first is the first of the nodes, or of the gates where there is none, by name.
func (s *sim) first() *simProcess {
	for _, members := range []map[string]*simProcess{s.nodes, s.gates} {
		first := ""
		for name := range members {
			if first == "" || name < first {
				first = name
			}
		}
		if first != "" {
			return members[first]
		}
	}
	return nil
}

func (s *sim) runtime(node string) object.Runtime { return s.nodes[node].node }
func (s *sim) simulated() bool                    { return true }

func (s *sim) connect(gate string) (session, error) {
	s.mu.Lock()
	p := s.gates[gate]
	s.mu.Unlock()
	if p == nil {
		return nil, fmt.Errorf("%s does not run", gate)
	}
	session, err := p.doors.Open()
	return &simSession{Session: session, gate: p}, err
}

func (s *sim) close() {
	for name := range s.gates {
		s.stopGate(name)
	}
	var ending sync.WaitGroup
	for _, p := range s.nodes {
		p.conn.Set(memkv.Healthy)
		ending.Go(p.end) // all at once: a move from one to the next would gain nothing
	}
	ending.Wait()
	s.etcd.Close()
}

// simSession is a client right behind the gate's door.
type simSession struct {
	*gate.Session
	gate *simProcess
}

func (s *simSession) id() string { return s.ID() }

func (s *simSession) call(ctx context.Context, c object.Call) (object.Payload, error) {
	ctx = callctx.With(ctx, &callctx.Info{Caller: callctx.Caller{ClientID: s.ID(), Client: true}})
	return s.gate.cluster.Call(ctx, c)
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

func (s *simSession) ended() bool {
	select {
	case <-s.Done():
		return true
	default:
		return false
	}
}

func (s *simSession) close() { s.Session.Close(nil) }
