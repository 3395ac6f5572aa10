//go:build unix

package e2e

import (
	"context"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/embedded"
	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/test/logbook"
	"github.com/xiaonanln/goverse/test/spawn"
)

var (
	logNode    = sync.OnceValues(func() (string, error) { return buildAt("test/logbook/node", "lognode", false) })
	gateBinary = sync.OnceValues(func() (string, error) { return buildAt("cmd/gate", "gate", false) })
)

// fleet is a cluster of processes on this machine: nodes that share a store,
// gates, and an etcd that outlives all of them. On loopback, ways that can be cut lead
// to the nodes and from them to etcd; in a world each process has a host.
type fleet struct {
	t       *testing.T
	dir     string
	w       *world   // nil on loopback
	etcd    string   // its endpoints
	store   string   // PostgreSQL's URL; "" is SQLite
	keys    []string // flags for TLS that each process gets
	members []*member
	kv      etcdmanager.KV

	nodes, gates map[string]*program // by advertised address
	roads        map[string]*road    // a node's or a gate's way to etcd
	inbound      map[string]*road    // everybody's way to a node
	listen       map[string]string   // a node's own address
	hosts        map[string]*host    // where a node or a gate is

	all    []*program // that ever was a node
	pauses []logbook.Pause
}

// stability is short, so that a test does not wait for what it is not about.
const stability = 300 * time.Millisecond

// newFleet is a fleet on loopback, whose etcd is in this process.
func newFleet(t *testing.T) *fleet {
	t.Helper()
	if testing.Short() {
		t.Skip("builds and runs real processes: not with -short")
	}
	etcd, err := embedded.Start(t.Context(), embedded.Config{Dir: filepath.Join(t.TempDir(), "coordination")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { etcd.Close() })
	return newFleetOn(t, nil, etcd.Endpoint())
}

// newFleetWith is a fleet in a world, or on loopback, with an etcd of three members.
func newFleetWith(t *testing.T, w *world) *fleet {
	t.Helper()
	members := startMembers(t, w, 3)
	var endpoints []string
	for _, m := range members {
		endpoints = append(endpoints, m.client)
	}
	f := newFleetOn(t, w, endpoints...)
	f.members = members
	return f
}

func newFleetOn(t *testing.T, w *world, endpoints ...string) *fleet {
	t.Helper()
	return newFleetBy(t, w, etcdmanager.Config{Endpoints: endpoints})
}

// newFleetBy is a fleet that has no process yet; cfg is the test's own way to its etcd.
func newFleetBy(t *testing.T, w *world, cfg etcdmanager.Config) *fleet {
	t.Helper()
	f := &fleet{t: t, dir: t.TempDir(), w: w, etcd: strings.Join(cfg.Endpoints, ","), nodes: map[string]*program{}, gates: map[string]*program{},
		roads: map[string]*road{}, inbound: map[string]*road{}, listen: map[string]string{}, hosts: map[string]*host{}}
	var err error
	if f.kv, err = etcdmanager.Dial(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, programs := range []map[string]*program{f.gates, f.nodes} {
			for _, p := range programs {
				p.kill()
			}
		}
		f.kv.Close()
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

func (f *fleet) launch(binary func() (string, error), at *host, etcd string, args ...string) *program {
	f.t.Helper()
	path, err := binary()
	if err != nil {
		f.t.Fatal(err)
	}
	s := &site{binary: path, dir: f.dir, host: at, env: []string{"GOVERSE_LOGBOOK_JOURNAL=" + f.dir}}
	return s.launch(f.t, append(append(args, "--etcd", etcd), f.keys...)...)
}

// node starts a node at an address, a new one if it is "", and returns the address.
func (f *fleet) node(address string) string {
	f.t.Helper()
	if address == "" {
		address = f.place()
	}
	listen, etcd := address, f.etcd
	if road := f.roads[address]; road != nil {
		listen, etcd = f.listen[address], road.address()
	}
	args := []string{"--listen", listen, "--advertise", address, "--data-dir", filepath.Join(f.dir, "data"), "--stability", stability.String()}
	if f.store != "" {
		args = append(args, "--store", f.store)
	}
	p := f.launch(logNode, f.hosts[address], etcd, args...)
	f.nodes[address], f.all = p, append(f.all, p)
	return address
}

// place is where a new node can be: on a host, or at the end of roads.
func (f *fleet) place() string {
	f.t.Helper()
	if f.w != nil {
		return f.host("47001")
	}
	own := spawn.FreeAddress(f.t)
	if f.members != nil {
		return own
	}
	in := newRoad(f.t, own)
	address := in.address()
	f.inbound[address], f.listen[address], f.roads[address] = in, own, newRoad(f.t, f.etcd)
	return address
}

// host is a new machine in the world, and the address of a port there.
func (f *fleet) host(port string) string {
	h := f.w.host()
	address := net.JoinHostPort(h.address, port)
	f.hosts[address] = h
	return address
}

func (f *fleet) gate(address string) string {
	f.t.Helper()
	switch {
	case address != "":
	case f.w != nil:
		address = f.host("49000")
	default:
		address = spawn.FreeAddress(f.t)
	}
	etcd := f.etcd
	if road := f.roads[address]; road != nil {
		etcd = road.address()
	}
	f.gates[address] = f.launch(gateBinary, f.hosts[address], etcd, "--listen", address, "--http-listen", "127.0.0.1:0")
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
	v, err := f.look(10 * time.Second)
	if err != nil {
		f.t.Fatal(err)
	}
	return v
}

func (f *fleet) look(patience time.Duration) (*consensusmanager.View, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return consensusmanager.Read(ctx, f.kv, consensusmanager.DefaultPrefix)
}

// settle waits until every node has its share and every gate is there, and returns how
// long that took.
func (f *fleet) settle() time.Duration {
	f.t.Helper()
	return f.until(f.unsettled)
}

// until looks at the cluster until nothing is wrong with it, and returns how long that
// took.
func (f *fleet) until(wrong func(*consensusmanager.View) string) time.Duration {
	f.t.Helper()
	began := time.Now()
	for {
		var why string
		if v, err := f.look(2 * time.Second); err != nil { // an etcd that has just come back
			why = err.Error()
		} else if why = wrong(v); why == "" {
			return time.Since(began)
		}
		if time.Since(began) > time.Minute {
			f.t.Fatalf("the cluster did not settle: %s\n%v", why, f.view())
		}
		time.Sleep(50 * time.Millisecond) // between two looks at real processes
	}
}

// unheld says which shard has no living holder.
func (f *fleet) unheld(v *consensusmanager.View) string {
	for _, s := range v.Table.All() {
		if state := s.State(v.Members()); state != sharding.Held && state != sharding.Moving {
			return s.String()
		}
	}
	return ""
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
