// Package goversetest runs the tests of object types against a real cluster in the
// test's own process: a node and a gate, with everything between a client's call
// and the store.
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
// testing/synctest bubble: minutes of the cluster's time take milliseconds, and a
// node can be killed. Net has what production has: gRPC on loopback, a real etcd,
// SQLite on disk. A test that passes in one and fails in the other has found
// something.
package goversetest

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/object"
)

// Cluster says what a test runs on: one node and one gate.
type Cluster struct {
	Types []Type
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
	synctest.Test(t, func(t *testing.T) { inhabit(t, newSim(t, c), body) })
}

// Net executes body on real parts. It is skipped under -short.
func Net(t *testing.T, c Cluster, body func(w *World)) {
	if testing.Short() {
		t.Skip("the net world runs a real etcd and SQLite: not with -short")
	}
	inhabit(t, newNet(t, c), body)
}

func inhabit(t *testing.T, p place, body func(w *World)) {
	w := &World{T: t, place: p}
	defer p.close()
	p.startNode()
	p.startGate()
	w.Settle()
	body(w)
}

// World is the cluster of one test. A failure of a method that takes no error is
// fatal for the test.
type World struct {
	T testing.TB
	place
}

// place is what differs between the worlds.
type place interface {
	startNode()
	stopNode() // planned
	killNode()
	startGate()
	settle(ctx context.Context) error
	runtime() object.Runtime
	connect() (session, error)
	simulated() bool
	close()
}

// numShards keeps the start of a world cheap. Ids that name a higher shard are
// ordinary ones here.
const numShards = 64

// patience bounds every wait for the cluster, of virtual time in Sim.
const patience = time.Minute

// Simulated tells whether this is Sim.
func (w *World) Simulated() bool { return w.simulated() }

// Context carries the node's runtime, so that the functions of goverseapi act on
// this world's cluster. It ends with the test.
func (w *World) Context() context.Context {
	return object.WithRuntime(w.T.Context(), w.runtime())
}

// TryCall calls a method as code on the node would, outside of any object. ref is
// Type/id.
func (w *World) TryCall(ref, method string, req proto.Message) (proto.Message, error) {
	return call(w.Context(), w.runtime().Call, object.Call{Ref: parse(w.T, ref), Method: method, Payload: object.OfMessage(req)})
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
	_, err := w.runtime().Call(w.Context(), object.Call{Op: op, Ref: parse(w.T, ref)})
	return err
}

// Connect opens a client's session at the gate. It ends with the test.
func (w *World) Connect() *Client {
	w.T.Helper()
	s, err := w.connect()
	if err != nil {
		w.T.Fatalf("connect to the gate: %v", err)
	}
	return &Client{t: w.T, session: s}
}

// Restart stops the node as a deployment does and starts it again on the same
// store. Volatile objects are gone afterwards, durable ones are not.
func (w *World) Restart() {
	w.T.Helper()
	w.stopNode()
	w.startNode()
	w.Settle()
}

// Kill ends the node as a power cut does and starts another in its place, which the
// cluster lets in once the old one's lease has ended. Only in Sim; a real kill needs
// a process of its own.
func (w *World) Kill() {
	w.T.Helper()
	if !w.simulated() {
		w.T.Fatal("Kill works only in Sim: run the test with goversetest.Sim, or guard it with Simulated")
	}
	w.killNode()
	w.startNode()
	w.Settle()
}

// Advance lets time pass for the cluster. Only in Sim, where it takes none.
func (w *World) Advance(d time.Duration) {
	w.T.Helper()
	if !w.simulated() {
		w.T.Fatal("Advance works only in Sim: run the test with goversetest.Sim, or guard it with Simulated")
	}
	time.Sleep(d) // of the bubble's clock
	synctest.Wait()
}

// Settle waits until node and gate answer calls.
func (w *World) Settle() {
	w.T.Helper()
	ctx, cancel := context.WithTimeout(w.T.Context(), patience)
	defer cancel()
	if err := w.settle(ctx); err != nil {
		w.T.Fatalf("the cluster did not settle: %v", err)
	}
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
