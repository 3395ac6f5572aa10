// Package bench measures what docs/performance.md shows. Absolute figures move with
// the machine; each goal is a ratio against a reference of the same run.
//
//	go test -run '^$' -bench . -count 6 ./bench | tee new.txt && benchstat new.txt
package bench

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/internal/telemetry"
	"github.com/xiaonanln/goverse/internal/tracing"
	"github.com/xiaonanln/goverse/node"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/util/logger"
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

// Passing is an Echo that goes when nobody has called it for a while.
type Passing struct{ Echo }

const (
	passes  = time.Minute
	million = 1_000_000
)

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

// startNode runs a node that holds every shard, without a cluster around it; nobody
// listens to its events.
func startNode(b testing.TB) *node.Node { return startHeard(b, event.Listener{}) }

func startHeard(b testing.TB, on event.Listener) *node.Node { return startWith(b, on, nil) }

func startWith(b testing.TB, on event.Listener, tracer callctx.Tracer) *node.Node {
	types := object.NewTypes()
	if err := types.Register((*Echo)(nil), object.ReadOnlyMethods("Look"), object.WithIdleTimeout(-1)); err != nil {
		b.Fatal(err)
	}
	if err := types.Register((*Echo)(nil), typed.TypeOption(object.WithIdleTimeout(-1))); err != nil {
		b.Fatal(err)
	}
	if err := types.Register((*Passing)(nil), object.WithIdleTimeout(passes)); err != nil {
		b.Fatal(err)
	}
	var n *node.Node
	n = node.New(node.Config{Address: "bench:1", Types: types, MaxActivations: 2 * million, StopTimeout: time.Minute, Listener: on, Tracer: tracer, Call: func(ctx context.Context, c object.Call) (object.Payload, error) {
		if tracer == nil {
			return n.ServeCall(ctx, &peer.Request{Call: c})
		}
		ctx, span := tracer.Begin(ctx, callctx.Stretch{Kind: callctx.Calling, Root: true, Op: c.Op.String(), Type: c.Ref.Type, ID: c.Ref.ID, Method: c.Method})
		reply, err := n.ServeCall(ctx, &peer.Request{Call: c})
		if span != nil {
			span.End(err)
		}
		return reply, err
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
	// What generated code does for a call: a reference that was made before, and its method.
	b.Run("reference", func(b *testing.B) {
		n := startNode(b)
		ref, m := object.NewCallee(n, "Typed", "hot"), wrapperspb.Int64(1)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := object.CallMethod[wrapperspb.Int64Value](b.Context(), ref, object.Call{Method: "Say"}, m, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
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

// BenchmarkIdleObjects reports the memory of an object that nobody calls: the user's
// struct (40 bytes of BaseObject and more), its id and the runtime's part. A million of
// them live on one node. TestIdleObjectsGiveTheirMemoryBack tells what is left of them.
func BenchmarkIdleObjects(b *testing.B) {
	for b.Loop() {
		n := startNode(b)
		before := heap()
		fill(b, n, "Echo", million)
		b.ReportMetric(float64(heap()-before)/million, "B/object")
		runtime.KeepAlive(n)
	}
	b.ReportMetric(0, "ns/op")
}

// fill calls objects of a type, once each.
func fill(tb testing.TB, n *node.Node, typ string, objects int) {
	for i := range objects {
		must(tb, n, callOf(typ, fmt.Sprintf("object-%d", i), "Say"))
	}
	if there := n.NumObjects(); there != objects {
		tb.Fatalf("there are %d objects, not %d", there, objects)
	}
}

// BenchmarkListening is what logs, metrics and traces cost a call: on a node with a server's
// listener, and that with a tracer which keeps one call in a hundred, and all, each of one that
// nobody hears, in turns. It is processor time, where that is known: others may use the machine.
func BenchmarkListening(b *testing.B) {
	const rounds, calls = 25, 20_000
	clock := cpuTime
	if began := time.Now(); clock() == 0 {
		clock = func() time.Duration { return time.Since(began) }
	}
	for _, typ := range []string{"Typed", "Echo"} {
		b.Run(typ, func(b *testing.B) {
			names := [...]string{"alone", "heard", "traced1", "traced100"}
			nodes := [...]*node.Node{startNode(b), startHeard(b, heard()), startTraced(b, 0.01), startTraced(b, 1)}
			c := callOf(typ, "hot", "Say")
			turn := func(n *node.Node) float64 {
				began := clock()
				for range calls {
					must(b, n, c)
				}
				return float64(clock()-began) / calls
			}
			var took, ratios [len(nodes)][]float64
			for b.Loop() {
				for r := range rounds {
					for k := range nodes {
						which := (r + k) % len(nodes)
						took[which] = append(took[which], turn(nodes[which]))
					}
					for k := 1; k < len(nodes); k++ {
						ratios[k] = append(ratios[k], 100*last(took[k])/last(took[0]))
					}
				}
			}
			b.ReportMetric(0, "ns/op")
			for k, name := range names {
				b.ReportMetric(median(took[k]), name+"-ns")
				if k > 0 {
					b.ReportMetric(median(ratios[k]), name+"/alone-%")
				}
			}
		})
	}
}

// heard is a server's listener at its default settings; its lines go nowhere.
func heard() event.Listener {
	quiet := logger.New(slog.New(logger.NewTextHandler(io.Discard, slog.LevelInfo)))
	return event.Tee(telemetry.Log(quiet, telemetry.LogOptions{}), telemetry.NewMetrics(nil).Listener())
}

// forgetting is a collector that takes no time.
type forgetting struct{}

func (forgetting) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return nil }
func (forgetting) Shutdown(context.Context) error                             { return nil }

// startTraced runs a node that is heard and traced, as is who calls.
func startTraced(b testing.TB, ratio float64) *node.Node {
	p := sdktrace.NewTracerProvider(sdktrace.WithBatcher(forgetting{}), sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.AlwaysSample())))
	b.Cleanup(func() {
		if err := p.Shutdown(context.Background()); err != nil {
			b.Error(err)
		}
	})
	return startWith(b, heard(), tracing.New(p, "node", "bench:1", func() bool { return rand.Float64() < ratio }))
}

func last(list []float64) float64 { return list[len(list)-1] }

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
