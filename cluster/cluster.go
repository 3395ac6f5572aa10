// Package cluster is one process's place among the others. Run registers it, takes
// up and gives up shards on its Host, and leads where it should; Call finds the
// holder of an object, wherever that is.
package cluster

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/internal/secure"
)

// Cluster is one process in a cluster, a node or a gate. Run once; all other methods
// may be called concurrently, before and during Run and after it.
type Cluster struct {
	cfg    Config
	m      *consensusmanager.Manager
	conns  *conns
	pushes pushes
	wanted *wanted
	budget *budget

	catalogs catalogs

	ready   chan struct{}
	once    sync.Once // closes ready
	stopped chan struct{}

	registration atomic.Pointer[consensusmanager.Registration] // nil: not registered
	shards       atomic.Pointer[progress]                      // written by the reconciler
}

// New makes a Cluster. An error names everything that is wrong with cfg.
func New(cfg Config) (*Cluster, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	m, err := consensusmanager.New(cfg.membership())
	if err != nil {
		return nil, err
	}
	return &Cluster{
		cfg: cfg, m: m, conns: newConns(cfg.Dialer), pushes: newPushes(), wanted: newWanted(), budget: newBudget(), catalogs: newCatalogs(),
		ready: make(chan struct{}), stopped: make(chan struct{}),
	}, nil
}

// Run makes the process a member for as long as ctx lives. It registers, and again
// whenever the registration is lost; a node opens the shards that it holds on host,
// and drops them when it may no longer hold them. When ctx ends it drains host, gives
// its shards and its address back, and returns nil. An error says why the process
// cannot be a member. A gate's host is nil.
func (c *Cluster) Run(ctx context.Context, host Host) error {
	if (host == nil) != c.cfg.Gate {
		return errors.New("cluster: a node runs with a host and a gate without one")
	}
	defer c.conns.close()
	defer close(c.stopped)
	if host != nil {
		c.conns.serve(c.cfg.Address, peer.Loopback(host))
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var watching sync.WaitGroup
	watching.Go(func() { c.watch(background) })
	defer watching.Wait()
	defer stop()
	return c.m.Run(ctx, func(ctx context.Context, r *consensusmanager.Registration) error {
		c.registration.Store(r)
		defer c.registration.Store(nil)
		if host == nil {
			return c.belong(ctx, r)
		}
		return newReconciler(c, host, r).run(ctx)
	})
}

// belong is a gate's membership: it holds nothing.
func (c *Cluster) belong(ctx context.Context, r *consensusmanager.Registration) error {
	confirmed := r.Confirmed()
	for {
		c.checkReady()
		select {
		case <-confirmed:
			confirmed = nil
		case <-r.Lost():
			return consensusmanager.ErrLost
		case <-ctx.Done():
			return nil
		}
	}
}

// watch does what every new view calls for, whoever this process is.
func (c *Cluster) watch(ctx context.Context) {
	for {
		v := c.View()
		c.conns.keep(v.Members())
		c.checkReady()
		select {
		case <-v.Superseded():
		case <-ctx.Done():
			return
		}
	}
}

// KV is the way to the cluster's etcd that also carries the watch, for those who look at
// the cluster, or give it an operator's orders. It is not theirs to close.
func (c *Cluster) KV() etcdmanager.KV { return c.cfg.KVs[0] }

// Dialer makes connections to the nodes, as this process, for those who look at the
// cluster.
func (c *Cluster) Dialer() peer.Dialer { return c.cfg.Dialer }

// View is the newest picture of the cluster. It is never nil.
func (c *Cluster) View() *consensusmanager.View { return c.m.View() }

// Secret waits, within ctx, for what the processes of the cluster prove to each other
// that they know.
func (c *Cluster) Secret(ctx context.Context) (secure.Secret, error) { return c.m.Secret(ctx) }

// Self is the process's address and, while it is registered, its registration.
func (c *Cluster) Self() consensusmanager.Self {
	if r := c.registration.Load(); r != nil {
		return r.Self
	}
	return consensusmanager.Self{Address: c.cfg.Address}
}

// Ready is closed once the process may take calls for the first time: Problems was
// empty.
func (c *Cluster) Ready() <-chan struct{} { return c.ready }

func (c *Cluster) notice(s event.Severity, text string, err error) {
	if c.cfg.Listener.Notice != nil {
		c.cfg.Listener.Notice(event.Notice{Severity: s, From: "cluster", Text: text, Err: err})
	}
}

func (c *Cluster) step(name, detail string, err error) {
	if c.cfg.Listener.Coordination != nil {
		c.cfg.Listener.Coordination(event.Coordination{Step: name, Detail: detail, Err: err})
	}
}
