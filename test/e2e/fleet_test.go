//go:build unix

package e2e

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/embedded"
	"github.com/xiaonanln/goverse/cluster/sharding"
)

var (
	logNode    = sync.OnceValues(func() (string, error) { return buildAt("test/logbook/node", "lognode", false) })
	gateBinary = sync.OnceValues(func() (string, error) { return buildAt("cmd/gate", "gate", false) })
)

// fleet is a cluster of processes on this machine: nodes that share a SQLite file,
// gates, and an etcd that outlives all of them.
type fleet struct {
	t    *testing.T
	dir  string
	etcd *embedded.Server
	kv   etcdmanager.KV

	nodes, gates map[string]*program // by advertised address
	roads        map[string]*road    // a node's way to etcd
	inbound      map[string]*road    // everybody's way to a node
	listen       map[string]string   // a node's own address
}

// stability is short, so that a test does not wait for what it is not about.
const stability = 300 * time.Millisecond

func newFleet(t *testing.T) *fleet {
	t.Helper()
	if testing.Short() {
		t.Skip("builds and runs real processes: not with -short")
	}
	f := &fleet{t: t, dir: t.TempDir(), nodes: map[string]*program{}, gates: map[string]*program{},
		roads: map[string]*road{}, inbound: map[string]*road{}, listen: map[string]string{}}
	var err error
	if f.etcd, err = embedded.Start(t.Context(), embedded.Config{Dir: filepath.Join(f.dir, "coordination")}); err != nil {
		t.Fatal(err)
	}
	if f.kv, err = etcdmanager.Dial(etcdmanager.Config{Endpoints: []string{f.etcd.Endpoint()}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, programs := range []map[string]*program{f.gates, f.nodes} {
			for _, p := range programs {
				p.kill()
			}
		}
		f.kv.Close()
		f.etcd.Close()
	})
	return f
}

// begin starts nodes and gates, waits until they have settled, and returns the gates.
func (f *fleet) begin(nodes, gates int) []string {
	f.t.Helper()
	for range nodes {
		f.node("")
	}
	for range gates {
		f.gate("")
	}
	f.settle()
	return slices.Sorted(maps.Keys(f.gates))
}

func (f *fleet) launch(binary func() (string, error), etcd string, args ...string) *program {
	f.t.Helper()
	path, err := binary()
	if err != nil {
		f.t.Fatal(err)
	}
	return (&site{binary: path, dir: f.dir}).launch(f.t, append(args, "--etcd", etcd)...)
}

// node starts a node at an address, a new one if it is "", and returns the address.
func (f *fleet) node(address string) string {
	f.t.Helper()
	if address == "" {
		own := freeAddress(f.t)
		in := newRoad(f.t, own)
		address = in.address()
		f.inbound[address], f.listen[address], f.roads[address] = in, own, newRoad(f.t, f.etcd.Endpoint())
	}
	f.nodes[address] = f.launch(logNode, f.roads[address].address(), "--listen", f.listen[address], "--advertise", address,
		"--data-dir", filepath.Join(f.dir, "data"), "--stability", stability.String())
	return address
}

func (f *fleet) gate(address string) string {
	f.t.Helper()
	if address == "" {
		address = freeAddress(f.t)
	}
	f.gates[address] = f.launch(gateBinary, f.etcd.Endpoint(), "--listen", address, "--http-listen", "127.0.0.1:0")
	return address
}

// stop ends a process as a deployment does, and returns how long that took.
func (f *fleet) stop(programs map[string]*program, address string) time.Duration {
	f.t.Helper()
	p := programs[address]
	delete(programs, address)
	p.signal(syscall.SIGTERM)
	code, took := p.exit(40 * time.Second)
	if code != 0 {
		f.t.Errorf("%s ended with %d:\n%s", address, code, p.output())
	}
	return took
}

func (f *fleet) kill(address string) {
	f.nodes[address].kill()
	delete(f.nodes, address)
}

func (f *fleet) view() *consensusmanager.View {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	v, err := consensusmanager.Read(ctx, f.kv, consensusmanager.DefaultPrefix)
	if err != nil {
		f.t.Fatal(err)
	}
	return v
}

// settle waits until every node has its share and every gate is there, and returns how
// long that took.
func (f *fleet) settle() time.Duration {
	f.t.Helper()
	began := time.Now()
	for {
		why := f.unsettled(f.view())
		if why == "" {
			return time.Since(began)
		}
		if time.Since(began) > time.Minute {
			f.t.Fatalf("the cluster did not settle: %s\n%v", why, f.view())
		}
		time.Sleep(50 * time.Millisecond) // between two looks at real processes
	}
}

func (f *fleet) unsettled(v *consensusmanager.View) string {
	if v.Ready() != len(f.nodes) || len(v.Gates()) != len(f.gates) {
		return fmt.Sprintf("%d of %d nodes, %d of %d gates", v.Ready(), len(f.nodes), len(v.Gates()), len(f.gates))
	}
	share := map[string]int{}
	for _, s := range v.Table.All() {
		if s.State(v.Members()) != sharding.Held {
			return s.String()
		}
		share[s.Current]++
	}
	for address := range f.nodes {
		if n := share[address] * len(f.nodes); n < sharding.NumShards-len(f.nodes) || n > sharding.NumShards+len(f.nodes) {
			return fmt.Sprintf("%s has %d shards", address, share[address])
		}
	}
	return ""
}
