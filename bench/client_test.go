package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/client/goverseclient"
	"github.com/xiaonanln/goverse/gate/gateserver"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/util/logger"
)

// router is a cluster as a gate sees it.
type router struct {
	call  func(context.Context, object.Call) (object.Payload, error)
	ready chan struct{}
}

func newRouter(call func(context.Context, object.Call) (object.Payload, error)) router {
	r := router{call, make(chan struct{})}
	close(r.ready)
	return r
}

func (r router) Call(ctx context.Context, c object.Call) (object.Payload, error) {
	return r.call(ctx, c)
}

func (r router) FollowPushes(ctx context.Context, _ string, _ func(peer.PushFrame) error) error {
	<-ctx.Done()
	return nil
}

func (r router) ListObjects(context.Context, string, string, int) ([]object.Listed, error) {
	return nil, errors.ErrUnsupported
}

func (r router) StoredState(context.Context, object.Ref) (object.Record, error) {
	return object.Record{}, errors.ErrUnsupported
}

func (r router) Catalogs(context.Context) ([]object.Catalog, int, error) {
	return nil, 0, errors.ErrUnsupported
}

func (r router) PushesReady() <-chan struct{} { return r.ready }
func (r router) PushesUp() bool               { return true }
func (r router) Ready() <-chan struct{}       { return r.ready }
func (r router) Problems() []string           { return nil }

// startGate runs a gate until the test ends.
func startGate(tb testing.TB, r gateserver.Router) (address string) {
	s, err := gateserver.NewGateServer(&gateserver.GateServerConfig{
		ListenAddress: "127.0.0.1:0", HTTPListenAddress: "off", Router: r, Logger: logger.New(slog.New(slog.DiscardHandler)),
	})
	if err != nil {
		tb.Fatal(err)
	}
	if err := s.Start(context.Background()); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Stop() })
	return s.GRPCAddr()
}

// dialGate calls through a client of its own, over one stream unless opts say otherwise.
func dialGate(tb testing.TB, address string, opts ...goverseclient.Option) caller {
	c, err := goverseclient.NewClient([]string{address}, opts...)
	if err != nil {
		tb.Fatal(err)
	}
	if err := c.Connect(context.Background()); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	m := wrapperspb.Int64(1)
	return func(ctx context.Context) error {
		_, err := c.CallObject(ctx, "Echo", "hot", "Look", m)
		return err
	}
}

func echoCall(_ context.Context, c object.Call) (object.Payload, error) { return c.Payload, nil }

// overRoad is a cluster of one node, at the other end of the road between processes.
func overRoad(tb testing.TB, svc peer.Service) router {
	conn, err := member("bench:1").Dialer(event.Listener{}).Dial(serveRoad(tb, svc))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	return newRouter(func(ctx context.Context, c object.Call) (object.Payload, error) {
		return conn.ServeCall(ctx, &peer.Request{Call: c, Shard: 7, Epoch: 1})
	})
}

// BenchmarkClient holds calls over a client's stream against the same calls one by one,
// in turns, at one gate in this process. It reports medians, and the ratio of the two.
func BenchmarkClient(b *testing.B) {
	for name, world := range map[string]func(testing.TB) router{
		"gate":      func(testing.TB) router { return newRouter(echoCall) },
		"gate+node": func(tb testing.TB) router { return overRoad(tb, nodeService{n: startNode(tb)}) },
	} {
		address := startGate(b, world(b))
		ways := []caller{dialGate(b, address, goverseclient.WithUnaryCalls()), dialGate(b, address)}
		for _, callers := range []int{1, 16, 64} {
			b.Run(fmt.Sprintf("%s/callers=%d", name, callers), func(b *testing.B) { compare(b, ways, callers) })
		}
	}
}

// compare measures two ways in turns: unary, and stream.
func compare(b *testing.B, ways []caller, callers int) {
	const turn = 300 * time.Millisecond
	var rates, cpu, p50, p99, allocs [2][]float64
	for _, w := range ways {
		load(b, w, callers, turn)
	}
	for b.Loop() {
		for i, w := range ways {
			before, began, objects := cpuTime(), time.Now(), heapObjects()
			rate, took := load(b, w, callers, turn)
			calls := rate * time.Since(began).Seconds()
			rates[i] = append(rates[i], rate)
			cpu[i] = append(cpu[i], float64((cpuTime()-before).Microseconds())/calls)
			allocs[i] = append(allocs[i], float64(heapObjects()-objects)/calls)
			p50[i] = append(p50[i], quantile(took, 0.5))
			p99[i] = append(p99[i], quantile(took, 0.99))
		}
	}
	b.ReportMetric(0, "ns/op")
	for i, name := range []string{"unary", "stream"} {
		b.ReportMetric(median(rates[i]), name+"/s")
		b.ReportMetric(median(cpu[i]), name+"-cpu-µs")
		b.ReportMetric(median(allocs[i]), name+"-allocs")
		b.ReportMetric(median(p50[i]), name+"-p50-µs")
		b.ReportMetric(median(p99[i]), name+"-p99-µs")
	}
	b.ReportMetric(median(rates[1])/median(rates[0]), "ratio")
	b.ReportMetric(median(cpu[0])/median(cpu[1]), "cpu-ratio")
	b.ReportMetric(median(p50[1])/median(p50[0]), "p50-ratio")
}

func heapObjects() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}
