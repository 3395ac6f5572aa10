package bench

import (
	"context"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/memkv"
	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/inspector"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/node"
	"github.com/xiaonanln/goverse/object"
)

// asked is a node as its peers see it: they call it, and the inspector asks it.
type asked struct {
	peer.Service // nobody does anything else
	n            *node.Node
}

func (a asked) ServeCall(ctx context.Context, r *peer.Request) (object.Payload, error) {
	return a.n.ServeCall(ctx, r)
}

func (a asked) Survey(ctx context.Context) (*peer.Survey, error) { return a.n.Survey(ctx) }

// spectacle is a cluster of one node in whose etcd something happens all the time, and
// viewers of it.
type spectacle struct {
	tb     testing.TB
	store  *memkv.Store
	dialer peer.Dialer
	calls  caller
}

const (
	viewersOfIt  = 10
	changesAtOne = 50                     // shards
	changesEvery = 500 * time.Millisecond // so many shards change
)

func newSpectacle(tb testing.TB) *spectacle {
	n := startNode(tb)
	address := serveRoad(tb, asked{n: n})
	s := &spectacle{tb: tb, store: memkv.NewStore(), dialer: member("inspector").Dialer(event.Listener{})}
	s.calls = dialRoad(tb, address, object.Call{Ref: object.Ref{Type: "Echo", ID: "hot"}, Method: "Say", Payload: object.OfMessage(wrapperspb.Int64(1))})
	kv := s.store.Connect()
	tb.Cleanup(s.store.Close)
	tb.Cleanup(func() { kv.Close() })
	commit := func(ops ...etcdmanager.Op) {
		if _, err := kv.Commit(context.Background(), etcdmanager.Txn{Then: ops}); err != nil {
			tb.Error(err)
		}
	}
	put := func(key, value string) { commit(etcdmanager.Put("/goverse/"+key, []byte(value), 0)) }
	put("meta", fmt.Sprintf(`{"cluster":"c","boot":"b","store":"s","shards":%d}`, sharding.NumShards))
	put("formed", `{"nodes":1}`)
	put("nodes/"+address, `{"reg":"r","state":"ready","types":["Echo"]}`)
	put("reg/r", address)
	for i := range sharding.NumShards {
		put(fmt.Sprintf("shards/%04d", i), shardAt(i, address, 1))
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		ticks := time.NewTicker(changesEvery)
		defer ticks.Stop()
		for epoch := 2; ; epoch++ {
			select {
			case <-ticks.C:
			case <-ctx.Done():
				return
			}
			var ops []etcdmanager.Op
			for i := range changesAtOne {
				ops = append(ops, etcdmanager.Put(fmt.Sprintf("/goverse/shards/%04d", i), []byte(shardAt(i, address, epoch)), 0))
			}
			commit(ops...)
		}
	}()
	tb.Cleanup(func() { stop(); <-done })
	return s
}

func shardAt(i int, address string, epoch int) string {
	shard := sharding.Shard{ID: sharding.ID(i), Epoch: uint64(epoch), Current: address, Target: address, Registration: "r"}
	return string(shard.Encode(fmt.Sprintf("%08d", epoch)))
}

// watched runs an inspector that viewers look at until stop: who reads, or opens the feed
// and never reads it.
func (s *spectacle) watched(reads bool) (stop func()) {
	kv := s.store.Connect()
	i, err := inspector.New(inspector.Config{ListenAddress: "127.0.0.1:0", KV: kv, Dialer: s.dialer})
	if err != nil {
		s.tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	opened, done := make(chan string, 1), make(chan error, 1)
	go func() { done <- i.Run(ctx, func(a string) { opened <- a }) }()
	address := <-opened
	var viewers []net.Conn
	for range viewersOfIt {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_, err = io.WriteString(conn, "GET /api/v1/feed/events HTTP/1.1\r\nHost: "+address+"\r\n\r\n")
		}
		if err != nil {
			s.tb.Fatal(err)
		}
		if reads {
			go func() { _, _ = io.Copy(io.Discard, conn) }() // until it is closed
		}
		viewers = append(viewers, conn)
	}
	return func() {
		for _, v := range viewers {
			_ = v.Close()
		}
		cancel()
		if err := <-done; err != nil {
			s.tb.Error(err)
		}
		kv.Close()
	}
}

// BenchmarkHungInspector compares calls over the road to a node that nobody looks at, that
// an inspector's viewers look at, and whose viewers never read, by turns. The inspector is
// in the same process, as in a program that has one built in: it takes of its time. What
// is promised is hangs-p99-ratio; on a machine that has more to do it is noise.
func BenchmarkHungInspector(b *testing.B) {
	const turn, callers = 1200 * time.Millisecond, 4
	s := newSpectacle(b)
	ways := []struct {
		name  string
		watch func() (stop func())
	}{
		{"nobody", func() func() { return func() {} }},
		{"reads", func() func() { return s.watched(true) }},
		{"hangs", func() func() { return s.watched(false) }},
	}
	load(b, s.calls, callers, turn/4)
	rates, p50, p99 := make([][]float64, len(ways)), make([][]float64, len(ways)), make([][]float64, len(ways))
	for b.Loop() {
		for i, w := range ways {
			stop := w.watch()
			load(b, s.calls, callers, turn/4) // the snapshots are on their way
			rate, took := load(b, s.calls, callers, turn)
			stop()
			rates[i] = append(rates[i], rate)
			p50[i] = append(p50[i], quantile(took, 0.5))
			p99[i] = append(p99[i], quantile(took, 0.99))
		}
	}
	b.ReportMetric(0, "ns/op")
	for i, w := range ways {
		b.ReportMetric(median(rates[i]), w.name+"/s")
		b.ReportMetric(median(p50[i]), w.name+"-p50-µs")
		b.ReportMetric(median(p99[i]), w.name+"-p99-µs")
		if i > 0 {
			b.ReportMetric(median(p99[i])/median(p99[0]), w.name+"-p99-ratio")
		}
	}
}
