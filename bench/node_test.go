// Package bench measures what docs/performance.md shows. Absolute figures move with
// the machine; each goal is a ratio against a reference of the same run.
//
//	go test -run '^$' -bench . -count 6 ./bench | tee new.txt && benchstat new.txt
package bench

import (
	"context"
	"fmt"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/node"
	"github.com/xiaonanln/goverse/object"
)

// Echo is a volatile object whose method does nothing.
type Echo struct {
	object.BaseObject
}

func (e *Echo) Say(_ context.Context, m *wrapperspb.Int64Value) (*wrapperspb.Int64Value, error) {
	return m, nil
}

func (e *Echo) Look(_ context.Context, m *wrapperspb.Int64Value) (*wrapperspb.Int64Value, error) {
	return m, nil
}

// typed is Echo's methods as generated code knows them, for a type "Typed".
var typed = &object.Service{
	Name: "bench.Echo", Type: "Typed",
	Implements: func(o object.Object) bool { _, ok := o.(*Echo); return ok },
	Methods:    []object.ServiceMethod{generated("Say", false, (*Echo).Say), generated("Look", true, (*Echo).Look)},
}

func generated(name string, readOnly bool, method func(*Echo, context.Context, *wrapperspb.Int64Value) (*wrapperspb.Int64Value, error)) object.ServiceMethod {
	return object.ServiceMethod{
		Name: name, ReadOnly: readOnly,
		Request: func() proto.Message { return new(wrapperspb.Int64Value) },
		Invoke: func(ctx context.Context, o object.Object, req proto.Message) (proto.Message, error) {
			reply, err := method(o.(*Echo), ctx, req.(*wrapperspb.Int64Value))
			if reply == nil {
				return nil, err
			}
			return reply, err
		},
	}
}

// startNode runs a node that holds every shard, without a cluster around it.
func startNode(b testing.TB) *node.Node {
	types := object.NewTypes()
	if err := types.Register((*Echo)(nil), object.ReadOnlyMethods("Look"), object.WithIdleTimeout(-1)); err != nil {
		b.Fatal(err)
	}
	if err := types.Register((*Echo)(nil), typed.TypeOption(object.WithIdleTimeout(-1))); err != nil {
		b.Fatal(err)
	}
	var n *node.Node
	n = node.New(node.Config{Address: "bench:1", Types: types, Call: func(ctx context.Context, c object.Call) (object.Payload, error) {
		return n.ServeCall(ctx, &peer.Request{Call: c})
	}})
	claims := make([]node.Claim, sharding.NumShards)
	for i := range claims {
		claims[i] = node.Claim{Shard: sharding.ID(i), Epoch: 1}
	}
	if _, err := n.Open(b.Context(), "bench:1#1", func() bool { return true }, claims); err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	b.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	return n
}

func callOf(typ, id, method string) object.Call {
	return object.Call{Ref: object.Ref{Type: typ, ID: id}, Method: method, Payload: object.OfMessage(wrapperspb.Int64(1))}
}

func must(b testing.TB, n *node.Node, c object.Call) {
	if _, err := n.Call(b.Context(), c); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkLocalCall calls an object by name on its own node, by reflection and, as
// generated code has it, without.
func BenchmarkLocalCall(b *testing.B) {
	for _, what := range [][2]string{{"Echo", "Say"}, {"Echo", "Look"}, {"Typed", "Say"}, {"Typed", "Look"}} {
		b.Run(what[0]+what[1], func(b *testing.B) {
			n, c := startNode(b), callOf(what[0], "hot", what[1])
			must(b, n, c)
			b.ReportAllocs()
			for b.Loop() {
				must(b, n, c)
			}
		})
	}
	b.Run("JSON", func(b *testing.B) {
		n, c := startNode(b), callOf("Echo", "hot", "Say")
		c.Payload = object.OfJSON([]byte(`"1"`))
		b.ReportAllocs()
		for b.Loop() {
			must(b, n, c)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		n := startNode(b)
		b.ReportAllocs()
		var worker atomic.Int64
		b.RunParallel(func(pb *testing.PB) {
			c := callOf("Echo", strconv.FormatInt(worker.Add(1), 10), "Say")
			for pb.Next() {
				must(b, n, c)
			}
		})
	})
}

// BenchmarkActivation makes volatile objects by calling them for the first time.
func BenchmarkActivation(b *testing.B) {
	n := startNode(b)
	ids := make([]string, 0, 1<<20)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i == len(ids) {
			b.StopTimer()
			for range 1 << 16 {
				ids = append(ids, strconv.Itoa(len(ids)))
			}
			b.StartTimer()
		}
		must(b, n, callOf("Echo", ids[i], "Say"))
	}
}

// BenchmarkIdleObjects reports the memory of an object that nobody calls: the
// user's struct (40 bytes of BaseObject and more), its id and the runtime's part.
func BenchmarkIdleObjects(b *testing.B) {
	const objects = 200_000
	for b.Loop() {
		n := startNode(b)
		before := heap()
		for i := range objects {
			must(b, n, callOf("Echo", fmt.Sprintf("object-%d", i), "Say"))
		}
		b.ReportMetric(float64(heap()-before)/objects, "B/object")
		runtime.KeepAlive(n)
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
