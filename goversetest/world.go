// Package goversetest runs the tests of object types against a real cluster in the
// test's own process: nodes and gates, with everything between a client's call and
// the store.
//
//	func TestCounter(t *testing.T) {
//		cluster := goversetest.Cluster{Types: []goversetest.Type{goversetest.Of((*Counter)(nil))}}
//		goversetest.Run(t, cluster, func(w *goversetest.World) {
//			w.Want("Counter/x", "Add", &pb.AddRequest{Amount: 2}, &pb.Value{Value: 2})
//			w.Restart()
//			w.Want("Counter/x", "Read", &pb.ReadRequest{}, &pb.Value{Value: 2})
//		})
//	}
//
// Run executes the body in two worlds. In Sim everything is in memory inside a
// testing/synctest bubble: minutes of the cluster's time take milliseconds, and
// nodes can be killed, cut off and delayed. Net has what production has: gRPC on
// loopback, a real etcd, SQLite on disk. A test that passes in one and fails in the
// other has found something.
//
// Nodes are called node1, node2 and so on, gates gate1 and so on, in the order in
// which they were first started:
//
//	cluster := goversetest.Cluster{Nodes: 3, Types: types}
//	goversetest.Sim(t, cluster, func(w *goversetest.World) {
//		w.Call("Counter/x", "Add", one)
//		w.Kill(w.Holder("Counter/x")) // and its lease has to end
//		w.Want("Counter/x", "Add", one, two)
//	})
package goversetest

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/node"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/memstore"
)

// Cluster says what a test runs on: one node and one gate, unless it says more.
type Cluster struct {
	Types []Type
	Nodes int
	Gates int
	// AutoLoad are the objects that the cluster has from its beginning.
	AutoLoad []object.AutoLoad
	// Interceptors are every node's.
	Interceptors []object.Interceptor
	// CopyMessages gives each side of a call its own copy of the messages, and fails the test
	// where an object changes one that it would share without it: a request that it got or
	// sent, a reply that it gave or got.
	CopyMessages bool
	// DegradedMode lets durable objects be served while etcd is silent.
	DegradedMode bool
}

// degradedMode is what a node of the cluster is told.
func (c Cluster) degradedMode() node.DegradedMode {
	if c.DegradedMode {
		return node.DegradedOn
	}
	return node.DegradedOff
}

// Type is one object type with its options; make it with Of.
type Type struct {
	obj  object.Object
	opts []object.TypeOption
}

// Of names a type as goverseapi.RegisterObjectType does.
func Of(obj object.Object, opts ...object.TypeOption) Type { return Type{obj, opts} }

func (c Cluster) types(t testing.TB) *object.Types {
	types := object.NewTypes()
	for _, typ := range c.Types {
		if err := types.Register(typ.obj, typ.opts...); err != nil {
			t.Fatal(err)
		}
	}
	return types
}

// Run executes body in Sim and in Net, as two subtests.
func Run(t *testing.T, c Cluster, body func(w *World)) {
	t.Run("sim", func(t *testing.T) { Sim(t, c, body) })
	t.Run("net", func(t *testing.T) { Net(t, c, body) })
}

// Sim executes body in a synctest bubble with everything in memory.
func Sim(t *testing.T, c Cluster, body func(w *World)) {
	synctest.Test(t, func(t *testing.T) { inhabit(t, c, newSim(t, c), body) })
}

// Net executes body on real parts. It is skipped under -short.
func Net(t *testing.T, c Cluster, body func(w *World)) {
	if testing.Short() {
		t.Skip("the net world runs a real etcd and SQLite: not with -short")
	}
	inhabit(t, c, newNet(t, c), body)
}

func inhabit(t *testing.T, c Cluster, p place, body func(w *World)) {
	w := &World{T: t, place: p}
	defer p.close()
	for range max(1, c.Nodes) {
		w.nodes = append(w.nodes, fmt.Sprintf("node%d", len(w.nodes)+1))
		p.startNode(w.nodes[len(w.nodes)-1])
	}
	for range max(1, c.Gates) {
		w.gates = append(w.gates, fmt.Sprintf("gate%d", len(w.gates)+1))
		p.startGate(w.gates[len(w.gates)-1])
	}
	w.Settle()
	body(w)
}

// World is the cluster of one test. A failure of a method that takes no error is
// fatal for the test. Calls may be made concurrently; what changes the cluster, from
// the test's own goroutine only.
type World struct {
	T testing.TB
	place
	nodes []string // that run
	gates []string
	named int // nodes that ever were
}

// place is what differs between the worlds.
type place interface {
	startNode(name string)
	stopNode(name string) // planned
	killNode(name string)
	startGate(name string)
	stopGate(name string)
	unsettled() string // why, or ""
	view() *consensusmanager.View
	desk() etcdmanager.KV // where orders are given
	address(node string) string
	runtime(node string) object.Runtime
	connect(gate string) (session, error)
	simulated() bool
	close()
}

// numShards keeps the start of a world cheap. Ids that name a higher shard are
// ordinary ones here.
const numShards = 32

// patience bounds every wait for the cluster, of virtual time in Sim.
const patience = time.Minute

// Simulated tells whether this is Sim.
func (w *World) Simulated() bool { return w.simulated() }

// Context carries a running node's runtime, so that the functions of goverseapi act
// on this world's cluster. It ends with the test.
func (w *World) Context() context.Context {
	return object.WithRuntime(w.T.Context(), w.entrance())
}

// On is Context, but of a node's own runtime.
func (w *World) On(node string) context.Context {
	w.T.Helper()
	if !slices.Contains(w.nodes, node) {
		w.T.Fatalf("no node %q runs; there are %v", node, w.nodes)
	}
	return object.WithRuntime(w.T.Context(), w.runtime(node))
}

// entrance is the runtime of the first node that runs.
func (w *World) entrance() object.Runtime { return w.runtime(w.nodes[0]) }

// TryCall calls a method as code on the node would, outside of any object. ref is
// Type/id.
func (w *World) TryCall(ref, method string, req proto.Message) (proto.Message, error) {
	return call(w.Context(), w.entrance().Call, object.Call{Ref: parse(w.T, ref), Method: method, Payload: object.OfMessage(req)})
}

// Do implements goverseapi.Caller: typed references call through the world as code on a
// node would, or as the method does whose context they are given.
func (w *World) Do(ctx context.Context, c object.Call) (object.Payload, error) {
	rt, ok := object.RuntimeFrom(ctx)
	if !ok {
		rt = w.entrance()
	}
	return rt.Call(ctx, c)
}

// Call is TryCall for a call that has to succeed.
func (w *World) Call(ref, method string, req proto.Message) proto.Message {
	w.T.Helper()
	reply, err := w.TryCall(ref, method, req)
	if err != nil {
		w.T.Fatalf("%s.%s: %v", ref, method, err)
	}
	return reply
}

// Want calls a method and compares its reply.
func (w *World) Want(ref, method string, req, want proto.Message) {
	w.T.Helper()
	if got := w.Call(ref, method, req); !proto.Equal(got, want) {
		w.T.Fatalf("%s.%s: got %s, want %s", ref, method, prototext.Format(got), prototext.Format(want))
	}
}

// Create creates an object.
func (w *World) Create(ref string) error { return w.lifecycle(object.OpCreate, ref) }

// Delete deletes an object.
func (w *World) Delete(ref string) error { return w.lifecycle(object.OpDelete, ref) }

func (w *World) lifecycle(op object.Op, ref string) error {
	_, err := w.entrance().Call(w.Context(), object.Call{Op: op, Ref: parse(w.T, ref)})
	return err
}

// Connect opens a client's session at a gate: the first one, unless one is named. It
// ends with the test.
func (w *World) Connect(gate ...string) *Client {
	w.T.Helper()
	c, err := w.TryConnect(append(gate, w.gates[0])[0])
	if err != nil {
		w.T.Fatalf("connect to the gate: %v", err)
	}
	return c
}

// TryConnect is Connect to a gate that may be away.
func (w *World) TryConnect(gate string) (*Client, error) {
	s, err := w.connect(gate)
	if err != nil {
		return nil, err
	}
	return &Client{t: w.T, session: s}, nil
}

// Nodes is the names of the nodes that run.
func (w *World) Nodes() []string { return slices.Clone(w.nodes) }

// Gates is the names of the gates that run.
func (w *World) Gates() []string { return slices.Clone(w.gates) }

// Address is a node's advertised address, the same across its restarts.
func (w *World) Address(node string) string { return w.address(node) }

// Holder is the node that an object lives on, by the newest picture of the cluster:
// "" while its shard is between two.
func (w *World) Holder(ref string) string {
	w.T.Helper()
	id := parse(w.T, ref).ID
	holder, pinned := sharding.PinnedNode(id)
	if !pinned {
		holder, _ = w.view().Holder(sharding.ID(sharding.GetShardID(id, numShards)))
	}
	for _, n := range w.nodes {
		if w.address(n) == holder {
			return n
		}
	}
	return ""
}

// MoveTo orders that an object's shard goes to a node, as an operator does, and waits until
// it is there. It stays there while that process lives: Settle evens out the others.
func (w *World) MoveTo(ref, node string) {
	w.T.Helper()
	shard := sharding.ID(sharding.GetShardID(parse(w.T, ref).ID, numShards))
	if _, err := consensusmanager.Move(w.Context(), w.desk(), consensusmanager.DefaultPrefix, shard, w.address(node), consensusmanager.MaxStay); err != nil {
		w.T.Fatalf("move %s to %s: %v", ref, node, err)
	}
	for deadline := time.Now().Add(patience); w.Holder(ref) != node; time.Sleep(settlePause) {
		if time.Now().After(deadline) {
			w.T.Fatalf("%s did not move to %s\n%v", ref, node, w.view())
		}
	}
}

// AddNode starts one more node and returns its name. Settle waits until it has its
// share of the objects.
func (w *World) AddNode() string {
	w.T.Helper()
	w.named = max(w.named, len(w.nodes)) + 1
	name := fmt.Sprintf("node%d", w.named)
	w.start(name)
	return name
}

func (w *World) start(node string) {
	w.startNode(node)
	w.nodes = append(w.nodes, node)
}

// Stop ends a node as a deployment does: its objects move to the others, live state
// and all, and nobody's call fails. When it returns the node is gone.
func (w *World) Stop(node string) {
	w.T.Helper()
	w.gone(node)
	w.stopNode(node)
}

// gone takes a node off the list.
func (w *World) gone(node string) {
	w.T.Helper()
	i := slices.Index(w.nodes, node)
	if i < 0 {
		w.T.Fatalf("no node %q runs; there are %v", node, w.nodes)
	}
	w.named = max(w.named, len(w.nodes))
	w.nodes = slices.Delete(slices.Clone(w.nodes), i, i+1)
}

// Restart stops nodes as a deployment does, one after the other, and starts each again
// at its address: those named, or all. In a cluster of one node volatile objects are
// gone afterwards; where another node is there to take them, they live on.
func (w *World) Restart(nodes ...string) {
	w.T.Helper()
	if len(nodes) == 0 {
		nodes = w.Nodes()
	}
	for _, n := range nodes {
		w.Stop(n)
		w.start(n)
		w.Settle()
	}
}

// Kill ends a node as a power cut does, the first one unless one is named, and starts
// another in its place, which the cluster lets in once the old one's lease has ended.
// Only in Sim; a real kill needs a process of its own.
func (w *World) Kill(node ...string) {
	w.T.Helper()
	victim := append(node, w.nodes[0])[0]
	w.Crash(victim)
	w.start(victim)
	w.Settle()
}

// Crash is Kill without a successor.
func (w *World) Crash(node string) {
	w.T.Helper()
	w.onlySimulated("Crash")
	w.gone(node)
	w.killNode(node)
}

// RestartGate ends a gate, with every session on it, and starts it again.
func (w *World) RestartGate(gate string) {
	w.T.Helper()
	w.stopGate(gate)
	w.startGate(gate)
}

func (w *World) onlySimulated(what string) {
	w.T.Helper()
	if !w.simulated() {
		w.T.Fatalf("%s works only in Sim: run the test with goversetest.Sim, or guard it with Simulated", what)
	}
}

// Advance lets time pass for the cluster. Only in Sim, where it takes none.
func (w *World) Advance(d time.Duration) {
	w.T.Helper()
	w.onlySimulated("Advance")
	time.Sleep(d) // of the bubble's clock
	synctest.Wait()
}

// Store is what the nodes keep their state in. Only in Sim.
func (w *World) Store() *memstore.Store {
	w.T.Helper()
	return w.sim("Store").store
}

// Settle waits until every node and gate takes calls, no object is on the move, the
// nodes have equal shares, and every gate hears every node. A world that does not come
// to that within a minute fails the test, and says what is missing.
func (w *World) Settle() {
	w.T.Helper()
	deadline := time.Now().Add(patience)
	for {
		why := w.unsettled()
		if why == "" {
			return
		}
		if time.Now().After(deadline) {
			w.T.Fatalf("the cluster did not settle: %s\n%v", why, w.view())
		}
		time.Sleep(settlePause)
	}
}

const settlePause = 20 * time.Millisecond

// member is a node or a gate as Settle sees it.
type member interface{ Problems() []string }

// unready is who takes no calls yet, by its own word, and why: the first by name.
func unready(members iter.Seq2[string, member]) string {
	first, why := "", []string(nil)
	for name, m := range members {
		if problems := m.Problems(); len(problems) > 0 && (why == nil || name < first) {
			first, why = name, problems
		}
	}
	if why == nil {
		return ""
	}
	return first + ": " + strings.Join(why, ", ")
}

// picture is what a view lacks, which is found once for each.
type picture struct {
	view  *consensusmanager.View
	nodes int
	lacks string
}

func (p *picture) unsettled(v *consensusmanager.View, nodes int) string {
	if p.view != v || p.nodes != nodes {
		*p = picture{v, nodes, lackOf(v, nodes)}
	}
	return p.lacks
}

// lackOf is what is missing by a view.
func lackOf(v *consensusmanager.View, nodes int) string {
	if len(v.Members()) != nodes || v.Ready() != nodes {
		return fmt.Sprintf("%d of %d nodes are ready in the picture", v.Ready(), nodes)
	}
	share := map[string]int{}
	for _, s := range v.Table.All() {
		if s.State(v.Members()) != sharding.Held {
			return s.String()
		}
		share[s.Current]++
	}
	least, most := numShards, 0
	for _, m := range v.Members() {
		least, most = min(least, share[m.Address]), max(most, share[m.Address])
	}
	if most-least > 1 {
		return fmt.Sprintf("shares of %d to %d shards", least, most)
	}
	return ""
}

func parse(t testing.TB, ref string) object.Ref {
	t.Helper()
	typ, id, ok := strings.Cut(ref, "/")
	if !ok {
		t.Fatalf("%q is not of the form Type/id", ref)
	}
	return object.Ref{Type: typ, ID: id}
}

func call(ctx context.Context, through func(context.Context, object.Call) (object.Payload, error), c object.Call) (proto.Message, error) {
	reply, err := through(ctx, c)
	return reply.Message, err
}
