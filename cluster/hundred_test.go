package cluster

import (
	"context"
	"flag"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/embedded"
	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/peer"
)

var manyNodes = flag.Int("cluster.nodes", 0, "run TestManyNodes with so many nodes on one etcd, all shards and the shortest lease; the goal is 100")

// What a busy machine carries under the race detector. Leases are so long that none ends
// by itself, and those of nodes that are lost are revoked.
const (
	fewNodes  = 12
	fewShards = 1024
	farLease  = time.Minute
)

// hangs is far above what anything here takes: past it something stands still.
const hangs = 2 * time.Minute

// Many nodes over one real etcd form a cluster with even shares, lose a tenth of
// themselves at once and get it back; then a tenth leaves. No shard moves that need not,
// and etcd is written to as often as the law of budget says. The figures are in the log.
func TestManyNodes(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a real etcd and many nodes")
	}
	nodes, shards, ttl := fewNodes, fewShards, farLease
	if *manyNodes > 0 {
		nodes, shards, ttl = *manyNodes, sharding.NumShards, etcdmanager.DefaultTTL
	}
	f := newFlock(t, nodes, shards, ttl)
	defer f.end()
	f.Logf("%d nodes, %d shards, leases of %v; the goal is 100 nodes: -cluster.nodes 100", f.size, f.shards, f.ttl)

	n := max(1, f.size/10)
	f.phase("form", func() change { return f.start(f.size) })
	f.phase(fmt.Sprintf("lose %d", n), func() change { return f.cut(n) })
	f.phase(fmt.Sprintf("regain %d", n), func() change { return f.start(n) })
	f.phase(fmt.Sprintf("%d leave", n), func() change { return f.leave(n) })
}

// change is the addresses of the nodes that came or went.
type change struct{ came, gone map[string]bool }

// allows says whether a shard may move between two nodes: from one that goes, or to one
// that comes.
func (c change) allows(from, to string) bool { return c.gone[from] || c.came[to] }

// budget is how many writes a change may cost: a few for each node, which hands on and
// takes up in transactions of its own, and one for each 16 shards that move.
func (f *flock) budget(moved int) int64 { return int64(10 + 3*f.size + moved/16) }

// flock is nodes over one etcd, in the order in which they were started.
type flock struct {
	*testing.T
	size   int
	shards int
	ttl    time.Duration
	w      *world
	etcd   *embedded.Server
	nodes  []*bird
	ended  sync.WaitGroup
}

// bird is one node with its own connection to etcd.
type bird struct {
	c     *Cluster
	host  *host
	kv    etcdmanager.KV
	lease etcdmanager.LeaseID // the last; to be read after done, or once it is a member
	stop  context.CancelFunc
	done  chan struct{}
}

func newFlock(t *testing.T, size, shards int, ttl time.Duration) *flock {
	server, err := embedded.Start(context.Background(), embedded.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	return &flock{
		T: t, size: size, shards: shards, ttl: ttl, etcd: server,
		w: &world{T: t, net: peer.NewNetwork(), fences: &fences{m: map[sharding.ID]fence{}}},
	}
}

// start starts n nodes at the lowest addresses that are free.
func (f *flock) start(n int) change {
	taken := addresses(f.nodes)
	before := len(f.nodes)
	for i := 0; n > 0; i++ {
		if address := fmt.Sprintf("node%03d:47000", i); !taken[address] {
			f.nodes = append(f.nodes, f.hatch(address))
			n--
		}
	}
	return change{came: addresses(f.nodes[before:])}
}

func addresses(list []*bird) map[string]bool {
	set := map[string]bool{}
	for _, b := range list {
		set[b.host.address] = true
	}
	return set
}

func (f *flock) hatch(address string) *bird {
	kv, err := etcdmanager.Dial(etcdmanager.Config{Endpoints: []string{f.etcd.Endpoint()}})
	if err != nil {
		f.Fatal(err)
	}
	b := &bird{host: newHost(f.w, address), kv: kv, done: make(chan struct{})}
	c, err := New(Config{
		RecordLease: func(id etcdmanager.LeaseID) error { b.lease = id; return nil },
		Address:     address, KVs: []etcdmanager.KV{kv}, Dialer: f.w.net.Dialer(address), StoreID: "store-1",
		NumShards: f.shards, LeaseTTL: f.ttl, MinQuorum: f.size, StabilityDelay: 500 * time.Millisecond, JoinTimeout: hangs,
	})
	if err != nil {
		f.Fatal(err)
	}
	b.c = c
	unlisten := f.w.net.Listen(address, c.Serve(b.host))
	var ctx context.Context
	ctx, b.stop = context.WithCancel(context.Background())
	f.ended.Go(func() {
		defer close(b.done)
		defer kv.Close()
		defer unlisten()
		if err := c.Run(ctx, b.host); err != nil {
			f.Errorf("%s: %v", address, err)
		}
	})
	return b
}

// cut ends the n nodes that lead or are next to without a word to the others: it takes
// their connections to etcd from them or, where leases would not end soon, their leases.
func (f *flock) cut(n int) change {
	gone := f.nodes[:n]
	f.nodes = f.nodes[n:]
	for _, b := range gone {
		var err error
		if f.ttl == farLease {
			err = f.nodes[0].kv.Revoke(context.Background(), b.lease)
		} else {
			err = b.kv.Close()
		}
		if err != nil {
			f.Fatal(err)
		}
		b.stop()
	}
	for _, b := range gone {
		<-b.done
	}
	return change{gone: addresses(gone)}
}

// leave stops the last n nodes as SIGTERM does.
func (f *flock) leave(n int) change {
	gone := f.nodes[len(f.nodes)-n:]
	f.nodes = f.nodes[:len(f.nodes)-n]
	for _, b := range gone {
		b.stop()
	}
	for _, b := range gone {
		<-b.done
	}
	return change{gone: addresses(gone)}
}

// phase does something to the cluster, waits until it is even again, holds what moved and
// what was written against what had to be, and logs what it took.
func (f *flock) phase(name string, do func() change) {
	f.Helper()
	revision, before := f.picture()
	began := time.Now()
	c := do()
	acted := time.Since(began)
	even := f.settle(name)
	took := time.Since(began)
	after, now := f.picture()
	writes, moved := after-revision, 0
	for id, holder := range now {
		switch was := before[id]; {
		case holder != was:
			if moved++; !c.allows(was, holder) {
				f.Errorf("%s: shard %d moved from %s to %s without need", name, id, was, holder)
			}
		case c.gone[was]:
			f.Errorf("%s: shard %d is still at %s", name, id, was)
		}
	}
	f.Logf("%-10s %6v (act %v, then even), %d shards of %d changed hands, %d etcd writes, %.2f a shard, shares %s",
		name, took.Round(time.Millisecond), acted.Round(time.Millisecond), moved, len(now), writes, float64(writes)/float64(moved), even)
	if allowed := f.budget(moved); writes > allowed {
		f.Errorf("%s: %d writes for %d shards of %d nodes; %d are allowed", name, writes, moved, f.size, allowed)
	}
}

// picture is the newest revision and who holds each shard.
func (f *flock) picture() (revision int64, holders map[sharding.ID]string) {
	holders = map[sharding.ID]string{}
	if len(f.nodes) == 0 {
		return 0, holders
	}
	v := f.nodes[0].c.View()
	for _, s := range v.Table.All() {
		holders[s.ID] = s.Current
	}
	return v.Revision, holders
}

// settle waits until the nodes serve every shard once, and equally many each.
func (f *flock) settle(name string) (even string) {
	f.Helper()
	for deadline := time.Now().Add(hangs); ; time.Sleep(50 * time.Millisecond) {
		even, why := f.uneven()
		if why == "" {
			return even
		}
		if time.Now().After(deadline) {
			f.Fatalf("%s: %s\n%v", name, why, f.nodes[0].c.View())
		}
	}
}

func (f *flock) uneven() (even, why string) {
	v := f.nodes[0].c.View()
	if n := len(v.Members()); n != len(f.nodes) {
		return "", fmt.Sprintf("%d of %d nodes are there", n, len(f.nodes))
	}
	if served := v.Census().Served(); served != f.shards {
		return "", fmt.Sprintf("%d shards are between holders", f.shards-served)
	}
	seen := map[sharding.ID]string{}
	least, most := f.shards, 0
	_, told := f.picture() // what the next phase begins with
	for _, b := range f.nodes {
		open := b.host.serving()
		least, most = min(least, len(open)), max(most, len(open))
		for id := range open {
			if seen[id] != "" {
				return "", fmt.Sprintf("shard %d is at %s and %s", id, seen[id], b.host.address)
			}
			if seen[id] = b.host.address; told[id] != b.host.address {
				return "", fmt.Sprintf("shard %d is at %s, and %s does not know it yet", id, b.host.address, f.nodes[0].host.address)
			}
		}
	}
	if len(seen) != f.shards || most-least > 1 {
		return "", fmt.Sprintf("%d shards are open, %d to %d at a node", len(seen), least, most)
	}
	return fmt.Sprintf("%d to %d", least, most), ""
}

func (f *flock) end() {
	for _, b := range f.nodes {
		if err := b.kv.Revoke(context.Background(), b.lease); err != nil { // nobody is to hand over to nobody
			f.Error(err)
		}
		b.stop()
	}
	f.ended.Wait()
	if err := f.etcd.Close(); err != nil {
		f.Error(err)
	}
}
