package peer

import (
	"context"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
)

// A Conn connects by itself, first and again.
func TestGRPCReconnects(t *testing.T) {
	address, stop := grpcWorld().listen(t, fake{call: echo})
	conn := dial(t, NewGRPCDialer(event.Listener{}), address)
	if _, err := conn.ServeCall(t.Context(), callOf(text("x"))); err != nil {
		t.Fatal(err)
	}
	stop()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Skipf("the port was taken by someone else: %v", err)
	}
	serveOn(t, l, fake{call: echo})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for { // as the router does; the back-off paces it
		_, err := conn.ServeCall(ctx, callOf(text("x")))
		switch fault.KindOf(err) {
		case 0:
			return
		case fault.NotReady:
		case fault.Indeterminate: // sent before the end of the connection was noticed
		default:
			t.Fatal(err)
		}
	}
}

// Something else that speaks gRPC at a node's address did not run the call.
func TestGRPCNoGoverseThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	defer func() { s.Stop(); <-done }()
	conn := dial(t, NewGRPCDialer(event.Listener{}), l.Addr().String())
	_, err = conn.ServeCall(t.Context(), callOf(text("x")))
	want(t, err, fault.NotReady, fault.NotExecuted)
}

// An address that swallows everything costs the caller its deadline at most, and it
// knows that nothing ran.
func TestGRPCSilentAddress(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts and never speaks HTTP/2
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	conn := dial(t, NewGRPCDialer(event.Listener{}), l.Addr().String())
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = conn.ServeCall(ctx, callOf(text("x")))
	want(t, err, fault.Deadline, fault.NotExecuted)
}

func TestDialNeedsAnAddress(t *testing.T) {
	for _, d := range []Dialer{NewGRPCDialer(event.Listener{}), NewNetwork().Dialer("a:1")} {
		_, err := d.Dial("")
		want(t, err, fault.Invalid, fault.NotExecuted)
	}
}

func BenchmarkCall(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := grpc.NewServer(ServerOptions()...)
	RegisterPeerService(s, fake{call: echo}, event.Listener{})
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	defer func() { s.Stop(); <-done }()
	remote, err := NewGRPCDialer(event.Listener{}).Dial(l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = remote.Close() }()
	for name, conn := range map[string]Conn{"grpc": remote, "loopback": Loopback(fake{call: echo})} {
		b.Run(name, func(b *testing.B) {
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				for req := callOf(text("x")); pb.Next(); {
					if _, err := conn.ServeCall(context.Background(), req); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}
