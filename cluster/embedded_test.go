package cluster

import (
	"context"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/embedded"
	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/peer"
)

// One process over a real etcd: all 8192 shards from nothing to open, and again
// after a crash.
func TestEmbeddedEtcd(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a real etcd")
	}
	dir := t.TempDir()
	oneNode(t, dir, true, true)
	oneNode(t, dir, false, false) // a wait for the dead process's lease would be a Notice
}

// oneNode runs a node over the etcd in dir until it is ready and ends it, by a crash
// or in good order.
func oneNode(t *testing.T, dir string, fresh, crash bool) {
	begin := time.Now()
	server, err := embedded.Start(context.Background(), embedded.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	kv, err := etcdmanager.Dial(etcdmanager.Config{Endpoints: []string{server.Endpoint()}})
	if err != nil {
		t.Fatal(err)
	}
	up := time.Now()
	if server.Fresh() != fresh {
		t.Errorf("fresh: %v", server.Fresh())
	}
	w := &world{T: t, net: peer.NewNetwork(), fences: &fences{m: map[sharding.ID]fence{}}}
	c, err := New(Config{
		Address: "127.0.0.1:47000", KVs: []etcdmanager.KV{kv}, Dialer: w.net.Dialer("127.0.0.1:47000"), StoreID: "store-1",
		FreshCluster: server.Fresh(), PreviousLease: server.PreviousLease(), RecordLease: server.RecordLease,
		Listener: event.Listener{Notice: func(n event.Notice) {
			if !crash {
				t.Error(n)
			}
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	host := newHost(w, "127.0.0.1:47000")
	go func() { done <- c.Run(ctx, host) }()
	select {
	case <-c.Ready():
	case <-time.After(time.Minute):
		t.Fatalf("not ready: %q\n%v", c.Problems(), c.View())
	}
	t.Logf("fresh %v: etcd up in %v, cluster ready in another %v", fresh, up.Sub(begin).Round(time.Millisecond), time.Since(up).Round(time.Millisecond))
	if n := len(host.serving()); n != sharding.NumShards {
		t.Errorf("%d shards are open", n)
	}
	leaving := time.Now()
	if crash { // etcd is gone before the node can give anything back
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	t.Logf("left in %v", time.Since(leaving).Round(time.Millisecond))
	kv.Close()
	if err := server.Close(); err != nil {
		t.Error(err)
	}
}
