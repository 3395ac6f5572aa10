package server

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/xiaonanln/goverse/cluster"
	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/embedded"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/internal/secure"
)

// assembly is one Run of a server: it builds the parts, runs them and takes them
// down in the opposite order.
type assembly struct {
	*Server
	closers closers
	stops   closers
	failed  chan error // the first part that ended by itself
	keys    keys
}

func (r *assembly) serve(ctx context.Context) (err error) {
	r.failed = make(chan error, 1)
	defer func() {
		if err = errors.Join(err, r.stops.close(), r.closers.close()); err == nil {
			r.notice(event.Info, nil, "stopped")
		}
	}()
	if err := r.start(ctx); err != nil {
		return ignoreStop(ctx, err)
	}
	select {
	case <-ctx.Done():
		r.notice(event.Info, nil, "stopping: draining this node")
		return nil
	case err := <-r.failed:
		return err
	}
}

// ignoreStop is nil where the start failed only because a stop came first.
func ignoreStop(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

func (r *assembly) start(ctx context.Context) error {
	var err error
	if r.keys, err = r.openKeys(); err != nil {
		return err
	}
	tracer, err := r.trace()
	if err != nil {
		return err
	}
	etcd, err := r.coordinate(ctx)
	if err != nil {
		return err
	}
	st, err := r.openStore(ctx)
	if err != nil {
		return err
	}
	l, err := listen(r.cfg)
	if err != nil {
		return err
	}
	var c *cluster.Cluster // which knows the secret that the connections to its members begin with
	member := r.membership(func(ctx context.Context) (secure.Secret, error) { return c.Secret(ctx) })
	cfg := r.clusterConfig(etcd, st, member)
	cfg.Tracer = tracer
	c, err = cluster.New(cfg)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	host := HostOf(r.Node)
	g, serving, doors := grpcServer(c.Serve(host), member, r.events)
	r.run("node", r.Node.Run)
	r.run("peer listener", func(ctx context.Context) error {
		stopped := context.AfterFunc(ctx, func() { stopGRPC(g, doors) })
		defer doors.Close()
		defer stopped()
		return g.Serve(l)
	})

	r.cluster.Store(c)
	close(r.joined)
	r.run("cluster", func(ctx context.Context) error {
		err := c.Run(ctx, host)
		if err == nil { // everything is handed over, and the gates need not fear for what they did not hear
			r.Node.EndPushes()
		}
		return err
	})
	for _, companion := range r.cfg.Companions {
		r.run("companion", func(ctx context.Context) error { return companion(ctx, c) })
	}
	if r.cfg.MetricsListenAddress != "" {
		if err := r.operate(c); err != nil {
			return err
		}
	}
	r.run("health", func(ctx context.Context) error {
		select {
		case <-c.Ready():
			serving.SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
			r.readiness.set()
			r.notice(event.Info, nil, "node %s is ready", r.cfg.AdvertiseAddress)
		case <-ctx.Done():
		}
		<-ctx.Done()
		serving.Shutdown()
		return nil
	})
	return nil
}

// run starts a part. It ends when the server takes it down; if it ends before, the
// server stops.
func (r *assembly) run(name string, part func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	var end error
	done.Go(func() {
		end = part(ctx)
		if ctx.Err() != nil {
			return
		}
		if end == nil {
			end = fmt.Errorf("the %s ended by itself", name)
		}
		select {
		case r.failed <- end:
			end = nil
		default:
		}
	})
	r.stops.add(func() error {
		cancel()
		done.Wait()
		return end
	})
}

// coordination is the way to etcd, and what an embedded one knows of its last run.
type coordination struct {
	kvs      []etcdmanager.KV
	embedded *embedded.Server // nil for an etcd elsewhere
}

func (r *assembly) coordinate(ctx context.Context) (coordination, error) {
	var c coordination
	endpoints := etcdmanager.Endpoints(r.cfg.EtcdAddress)
	if len(endpoints) == 0 {
		var err error
		if c.embedded, err = embedded.Start(ctx, embedded.Config{Dir: r.cfg.DataDir}); err != nil {
			return c, err
		}
		r.closers.add(c.embedded.Close)
		r.run("embedded etcd", func(ctx context.Context) error {
			select {
			case <-c.embedded.Failed():
				return c.embedded.Err()
			case <-ctx.Done():
				return nil
			}
		})
		endpoints = []string{c.embedded.Endpoint()}
	}
	var err error
	if c.kvs, err = etcdmanager.DialAll(etcdmanager.Config{Endpoints: endpoints, Credentials: r.keys.etcdCredentials()}); err != nil {
		return c, err
	}
	for i, kv := range c.kvs {
		r.closers.add(kv.Close)
		c.kvs[i] = etcdmanager.Told(kv, r.events)
	}
	return c, nil
}

func (r *assembly) clusterConfig(etcd coordination, st store, member *peer.Membership) cluster.Config {
	cfg := cluster.Config{
		Address:        r.cfg.AdvertiseAddress,
		KVs:            etcd.kvs,
		Prefix:         r.cfg.EtcdPrefix,
		NumShards:      r.cfg.NumShards,
		MinQuorum:      r.cfg.MinQuorum,
		QuorumLoss:     consensusmanager.QuorumLoss(r.cfg.QuorumLoss),
		StabilityDelay: r.cfg.NodeStabilityDuration,
		ReloadInterval: r.cfg.ShardMappingCheckInterval,
		StoreID:        st.id,
		StoreCluster:   st.cluster,
		BindStore:      st.bind,
		DegradedMode:   r.Node.Degrades(),
		CallTimeout:    r.cfg.DefaultCallTimeout,
		DrainBudget:    r.cfg.DrainTimeout,
		Types:          r.cfg.Types.Names(),
		Version:        version(),
		Dialer:         member.Dialer(r.events),
		Listener:       r.events,
	}
	if e := etcd.embedded; e != nil {
		cfg.FreshCluster = e.Fresh()
		cfg.PreviousLease = e.PreviousLease()
		cfg.RecordLease = e.RecordLease
	}
	return cfg
}

// version is the program's, for operators: what its module says, or the commit that it
// was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value[:min(len(s.Value), 12)]
		}
	}
	return "devel"
}

// stopGRPC lets calls that are answered soon end well.
func stopGRPC(g *grpc.Server, doors *peer.Doors) {
	doors.Leave()
	done := make(chan struct{})
	go func() {
		doors.Wait()
		g.GracefulStop()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(time.Second):
		g.Stop()
		doors.Close()
		<-done
	}
}
