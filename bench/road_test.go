package bench

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/internal/secure"
	"github.com/xiaonanln/goverse/node"
	"github.com/xiaonanln/goverse/object"
)

// echoService answers what it is asked, as a node without objects.
type echoService struct{ peer.Service }

func (echoService) ServeCall(_ context.Context, req *peer.Request) (object.Payload, error) {
	return req.Payload, nil
}

// sixtyTwo is the message of every row of docs/performance.md.
func sixtyTwo() *wrapperspb.BytesValue { return wrapperspb.Bytes(make([]byte, 60)) }

// caller makes one call and waits for its reply.
type caller func(ctx context.Context) error

// dialPlain is grpc-go as it comes: one unary call, protobuf, no options.
func dialPlain(tb testing.TB, address string) caller {
	cc, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = cc.Close() })
	m := sixtyTwo()
	return func(ctx context.Context) error {
		return cc.Invoke(ctx, "/bench.Plain/Echo", m, new(wrapperspb.BytesValue))
	}
}

func plainDesc() *grpc.ServiceDesc {
	echo := func(_ any, _ context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		m := new(wrapperspb.BytesValue)
		return m, dec(m)
	}
	return &grpc.ServiceDesc{ServiceName: "bench.Plain", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Echo", Handler: echo}}}
}

// dialRoad calls over the road between nodes.
func dialRoad(tb testing.TB, address string, c object.Call) caller {
	conn, err := member("bench:1").Dialer(event.Listener{}).Dial(address)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	return func(ctx context.Context) error {
		_, err := conn.ServeCall(ctx, &peer.Request{Call: c, Shard: 7, Epoch: 1})
		return err
	}
}

// listen serves s until the test ends.
func listen(tb testing.TB, s *grpc.Server) (address string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	return serve(tb, s, l)
}

func serve(tb testing.TB, s *grpc.Server, l net.Listener) (address string) {
	var done sync.WaitGroup
	done.Go(func() { _ = s.Serve(l) })
	tb.Cleanup(func() { s.Stop(); done.Wait() })
	return l.Addr().String()
}

func servePlain(tb testing.TB) (address string) {
	s := grpc.NewServer()
	s.RegisterService(plainDesc(), nil)
	return listen(tb, s)
}

func serveRoad(tb testing.TB, svc peer.Service) (address string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	m := member(l.Addr().String())
	s := grpc.NewServer(append(peer.ServerOptions(), m.ServerOptions()...)...)
	doors := m.Register(s, svc, event.Listener{})
	tb.Cleanup(doors.Close)
	return serve(tb, s, l)
}

var secret = secure.NewSecret()

// member is how a process proves to be one.
func member(address string) *peer.Membership {
	return &peer.Membership{Address: address, Secret: func(context.Context) (secure.Secret, error) { return secret, nil }}
}

// load has callers call for a while, each again when it has its reply, and returns
// the calls per second and the sorted latencies of some of them.
func load(tb testing.TB, call caller, callers int, d time.Duration) (rate float64, took []time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var all sync.WaitGroup
	var mu sync.Mutex
	var count atomic.Int64
	began := time.Now()
	for range callers {
		all.Go(func() {
			mine := make([]time.Duration, 0, 1<<12)
			n := 0
			for last := time.Now(); last.Sub(began) < d; n++ {
				if err := call(ctx); err != nil {
					tb.Error(err)
					return
				}
				now := time.Now()
				if len(mine) < cap(mine) {
					mine = append(mine, now.Sub(last))
				}
				last = now
			}
			count.Add(int64(n))
			mu.Lock()
			defer mu.Unlock()
			took = append(took, mine...)
		})
	}
	all.Wait()
	slices.Sort(took)
	return float64(count.Load()) / time.Since(began).Seconds(), took
}

func median(list []float64) float64 {
	slices.Sort(list)
	return list[len(list)/2]
}

func quantile(sorted []time.Duration, q float64) float64 {
	return float64(sorted[int(q*float64(len(sorted)-1))].Microseconds())
}

// BenchmarkRoad holds the road between nodes against plain unary grpc-go, in turns:
// the service at the other end echoes. It reports the ratio of the medians.
func BenchmarkRoad(b *testing.B) {
	call := object.Call{Ref: object.Ref{Type: "Echo", ID: "hot"}, Method: "Say", Payload: object.OfMessage(sixtyTwo())}
	plain, road := dialPlain(b, servePlain(b)), dialRoad(b, serveRoad(b, echoService{}), call)
	inTurns(b, plain, road)
}

// nodeService is a node's objects as its peers call them.
type nodeService struct {
	peer.Service
	n *node.Node
}

func (s nodeService) ServeCall(ctx context.Context, req *peer.Request) (object.Payload, error) {
	return s.n.ServeCall(ctx, req)
}

// BenchmarkRoadToNode is BenchmarkRoad with a node at the other end: the call runs a
// method of an object, and its caller is a node too.
func BenchmarkRoadToNode(b *testing.B) {
	n := startNode(b)
	road := dialRoad(b, serveRoad(b, nodeService{n: n}), callOf("Echo", "hot", "Look"))
	inTurns(b, dialPlain(b, servePlain(b)), road)
}

func inTurns(b *testing.B, plain, road caller) {
	const turn = 300 * time.Millisecond
	for _, callers := range []int{1, 16, 64, 256} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			load(b, plain, callers, turn)
			load(b, road, callers, turn)
			var rates, cpu, p50, p99 [2][]float64
			for b.Loop() {
				for i, call := range []caller{plain, road} {
					before, began := cpuTime(), time.Now()
					rate, took := load(b, call, callers, turn)
					rates[i] = append(rates[i], rate)
					cpu[i] = append(cpu[i], float64((cpuTime()-before).Microseconds())/(rate*time.Since(began).Seconds()))
					p50[i] = append(p50[i], quantile(took, 0.5))
					p99[i] = append(p99[i], quantile(took, 0.99))
				}
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(median(rates[0]), "plain/s")
			b.ReportMetric(median(rates[1]), "road/s")
			b.ReportMetric(median(rates[1])/median(rates[0]), "ratio")
			b.ReportMetric(median(cpu[0]), "plain-cpu-µs")
			b.ReportMetric(median(cpu[1]), "road-cpu-µs")
			b.ReportMetric(median(cpu[0])/median(cpu[1]), "cpu-ratio")
			b.ReportMetric(median(p50[0]), "plain-p50-µs")
			b.ReportMetric(median(p50[1]), "road-p50-µs")
			b.ReportMetric(median(p50[1])/median(p50[0]), "p50-ratio")
			b.ReportMetric(median(p99[0]), "plain-p99-µs")
			b.ReportMetric(median(p99[1]), "road-p99-µs")
		})
	}
}
