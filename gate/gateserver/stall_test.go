package gateserver

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/xiaonanln/goverse/gate"
	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

// Whoever takes something within the patience is not stalled; whoever takes nothing is, to
// the moment; and nobody is to whom nothing is sent.
func TestStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended atomic.Int32
		s := newStall(10*time.Second, func() { ended.Add(1) })
		after := func(d time.Duration, want int32) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if n := ended.Load(); n != want {
				t.Errorf("it ended %d times, want %d", n, want)
			}
		}
		after(time.Hour, 0)
		s.begin()
		for range 20 {
			after(9*time.Second, 0)
			s.taken()
		}
		s.done()
		s.taken() // what is taken behind the sending sets no clock
		after(time.Hour, 0)
		s.begin()
		after(4*time.Second, 0)
		s.taken()
		after(10*time.Second-1, 0)
		after(1, 1)
		s.taken()
		after(time.Hour, 1)
	})
}

// slowConn is a client's connection that takes a piece in each pace.
type slowConn struct {
	net.Conn
	pace  time.Duration
	stuck *atomic.Bool // it takes nothing more
}

func (c slowConn) Read(b []byte) (int, error) {
	time.Sleep(c.pace)
	for c.stuck.Load() {
		time.Sleep(time.Second)
	}
	return c.Conn.Read(b[:min(len(b), 16<<10)])
}

// slowly runs a gate's gRPC door in a bubble, and a client whose connection is slow.
func slowly(t *testing.T, pace time.Duration, answer func(context.Context, object.Call) (object.Payload, error),
	visit func(t *testing.T, c gate_pb.GateServiceClient, g *gate.Gate, stuck *atomic.Bool)) {
	synctest.Test(t, func(t *testing.T) {
		cfg := GateServerConfig{Router: newCluster(answer), Logger: quiet(), DefaultCallTimeout: time.Hour}
		cfg.withDefaults()
		close(cfg.Router.(*cluster).followed)
		g, busy := gate.New(gate.Config{Address: "a:1", MaxBytes: 64 << 20}), newCrowd()
		door := &grpcDoor{calls: newCalls(&cfg, cfg.Router, g, busy), busy: busy, patient: cfg.WriteTimeout}
		server, l := newGRPCServer(door, health.NewServer()), bufconn.Listen(32<<10)
		served := make(chan error, 1)
		go func() { served <- server.Serve(l) }()
		stuck := new(atomic.Bool)
		dialer := func(ctx context.Context, _ string) (net.Conn, error) {
			conn, err := l.DialContext(ctx)
			return slowConn{conn, pace, stuck}, err
		}
		cc, err := grpc.NewClient("passthrough:///gate", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(dialer))
		if err != nil {
			t.Fatal(err)
		}
		visit(t, gate_pb.NewGateServiceClient(cc), g, stuck)
		stuck.Store(false)
		if err := cc.Close(); err != nil {
			t.Error(err)
		}
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		<-busy.close()
	})
}

// slowReply takes half a minute there.
const slowReply = 1 << 20

// A client whose line carries 256 kbit/s is served, however long it takes; one that takes
// nothing at all is not.
func TestASlowClientIsServed(t *testing.T) {
	long := func(context.Context, object.Call) (object.Payload, error) {
		return object.OfBinary(&anypb.Any{Value: make([]byte, slowReply)}), nil
	}
	t.Run("answers", func(t *testing.T) {
		slowly(t, 512*time.Millisecond, long, func(t *testing.T, c gate_pb.GateServiceClient, g *gate.Gate, stuck *atomic.Bool) {
			k := talk(t, t.Context(), c)
			began := time.Now()
			k.say(askFor(1, "M", nil), askFor(2, "M", nil))
			for range 2 {
				if f := k.next(); len(f.GetCallObject().GetResponse().GetValue()) < slowReply {
					t.Fatalf("got %v", f)
				}
			}
			if took := time.Since(began); took < 30*time.Second {
				t.Errorf("that took %v: the line is not slow", took)
			}
			k.say(askFor(1, "M", nil), askFor(2, "M", nil))
			time.Sleep(2 * time.Second)
			stuck.Store(true)
			time.Sleep(8 * time.Second)
			if g.Len() != 1 {
				t.Error("it was given up before its time")
			}
			time.Sleep(4 * time.Second)
			if g.Len() != 0 {
				t.Error("it takes nothing, and is still there")
			}
		})
	})
	t.Run("pushes", func(t *testing.T) {
		slowly(t, 512*time.Millisecond, echo, func(t *testing.T, c gate_pb.GateServiceClient, g *gate.Gate, _ *atomic.Bool) {
			id, stream := register(t, t.Context(), c)
			for range 2 {
				g.Deliver(peer.PushFrame{ClientIDs: []string{id}, Message: &anypb.Any{Value: make([]byte, slowReply)}})
			}
			for range 2 {
				if m, err := stream.Recv(); err != nil || len(m.Value) < slowReply {
					t.Fatal(err)
				}
			}
		})
	})
}
