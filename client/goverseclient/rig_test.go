package goverseclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/internal/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// limit is how long a test waits for what must come.
const limit = 30 * time.Second

// gate is a gate that a test can break. Its fields are set before it serves.
type gate struct {
	gate_pb.UnimplementedGateServiceServer
	call     func(ctx context.Context, r *gate_pb.CallObjectRequest) (*anypb.Any, error) // nil: echo
	reliable func(r *gate_pb.ReliableCallObjectRequest) (*gate_pb.ReliableCallObjectResponse, error)
	durable  func() *bool // of replies; nil: they say nothing
	settle   func(r *gate_pb.SettleRequest) (*gate_pb.SettleResponse, error)
	welcome  func(id string) (*anypb.Any, error) // nil: as a gate does

	old      bool   // it is of a version without streams
	maxCalls uint32 // on a stream; 0: 256
	address  string
	server   *grpc.Server
	served   chan struct{}
	stopping chan struct{} // sessions end in good order
	ending   func()        // closes it, once
	calls    atomic.Int64  // that arrived
	opened   atomic.Int64  // sessions
	streamed atomic.Int64  // calls that arrived over streams

	mu       sync.Mutex
	ledger   map[string]int    // request text → how often it ran
	homes    map[string]string // client id → its connection
	strays   []string          // calls over another connection than their session's
	sessions map[string]chan *anypb.Any
}

// serve starts g, on a free port unless it has had one before. It ends with the test.
func (g *gate) serve(t *testing.T) *gate {
	t.Helper()
	if g.address == "" {
		g.address = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", g.address)
	if err != nil {
		t.Fatal(err)
	}
	g.address = l.Addr().String()
	g.serveOn(t, l)
	return g
}

func (g *gate) serveOn(t testing.TB, l net.Listener) {
	g.old = g.old || isUnary(t)
	stopping := make(chan struct{})
	g.mu.Lock() // the last server's sessions may still be ending
	g.ledger, g.homes, g.sessions = map[string]int{}, map[string]string{}, map[string]chan *anypb.Any{}
	g.stopping = stopping
	g.mu.Unlock()
	g.server, g.served = grpc.NewServer(), make(chan struct{})
	g.ending = sync.OnceFunc(func() { close(stopping) })
	gate_pb.RegisterGateServiceServer(g.server, g)
	go func(s *grpc.Server, served chan struct{}) { defer close(served); _ = s.Serve(l) }(g.server, g.served)
	t.Cleanup(g.kill)
}

// kill is the end of the gate's process.
func (g *gate) kill() {
	g.server.Stop()
	<-g.served
}

// stop is the gate's end in good order.
func (g *gate) stop() {
	done := make(chan struct{})
	go func() { defer close(done); g.server.GracefulStop() }()
	g.ending()
	<-done
	<-g.served
}

// admit opens a session.
func (g *gate) admit(ctx context.Context) (id string, outbox chan *anypb.Any, stopping chan struct{}) {
	id, outbox = fmt.Sprintf("%s/%d", g.address, g.opened.Add(1)), make(chan *anypb.Any)
	p, _ := peer.FromContext(ctx)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.homes[id], g.sessions[id] = p.Addr.String(), outbox
	return id, outbox, g.stopping
}

func (g *gate) Register(_ *emptypb.Empty, stream grpc.ServerStreamingServer[anypb.Any]) error {
	id, outbox, stopping := g.admit(stream.Context())
	welcome, err := anypb.New(&gate_pb.RegisterResponse{ClientId: id})
	if g.welcome != nil {
		welcome, err = g.welcome(id)
	}
	if err == nil {
		err = stream.Send(welcome)
	}
	if err != nil {
		return err
	}
	for {
		select {
		case m := <-outbox:
			if err := stream.Send(m); err != nil {
				return err
			}
		case <-stopping:
			return errStopping
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

var errStopping = fault.New(fault.NotReady, "the gate is stopping")

// push sends m to a session; it waits until gRPC has taken it.
func (g *gate) push(t *testing.T, id string, m proto.Message) {
	t.Helper()
	g.mu.Lock()
	outbox := g.sessions[id]
	g.mu.Unlock()
	select {
	case outbox <- pack(t, m):
	case <-time.After(limit):
		t.Fatal("a push does not leave the gate")
	}
}

func (g *gate) CallObject(ctx context.Context, r *gate_pb.CallObjectRequest) (*gate_pb.CallObjectResponse, error) {
	g.calls.Add(1)
	p, _ := peer.FromContext(ctx)
	g.mu.Lock()
	if home := g.homes[r.ClientId]; r.ClientId != "" && home != p.Addr.String() {
		g.strays = append(g.strays, fmt.Sprintf("%s came over %s and lives on %s", r.ClientId, p.Addr, home))
	}
	if v := new(wrapperspb.StringValue); r.Request.UnmarshalTo(v) == nil {
		g.ledger[v.Value]++
	}
	g.mu.Unlock()
	reply, err := r.Request, error(nil)
	if g.call != nil {
		reply, err = g.call(ctx, r)
	}
	answer := &gate_pb.CallObjectResponse{Response: reply}
	if g.durable != nil {
		answer.Durable = g.durable()
	}
	return answer, err
}

func (g *gate) CreateObject(_ context.Context, r *gate_pb.CreateObjectRequest) (*gate_pb.CreateObjectResponse, error) {
	if r.Id == "" {
		r.Id = "chosen"
	}
	return &gate_pb.CreateObjectResponse{Id: r.Id}, nil
}

func (g *gate) DeleteObject(_ context.Context, r *gate_pb.DeleteObjectRequest) (*gate_pb.DeleteObjectResponse, error) {
	if r.Id == "missing" {
		return nil, fault.New(fault.NotFound, "no such thing").On("DeleteObject", r.Type+"/"+r.Id)
	}
	return &gate_pb.DeleteObjectResponse{}, nil
}

func (g *gate) ReliableCallObject(ctx context.Context, r *gate_pb.ReliableCallObjectRequest) (*gate_pb.ReliableCallObjectResponse, error) {
	g.calls.Add(1)
	if g.reliable == nil {
		return g.UnimplementedGateServiceServer.ReliableCallObject(ctx, r)
	}
	return g.reliable(r)
}

func (g *gate) Settle(ctx context.Context, r *gate_pb.SettleRequest) (*gate_pb.SettleResponse, error) {
	g.calls.Add(1)
	if g.settle == nil {
		return g.UnimplementedGateServiceServer.Settle(ctx, r)
	}
	return g.settle(r)
}

// ran is how often the call with this text ran here.
func (g *gate) ran(text string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.ledger[text]
}

// noStrays checks that each call came over its session's connection.
func (g *gate) noStrays(t *testing.T) {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.strays {
		t.Error(s)
	}
}

// connect makes a client, connected, that ends with the test.
func connect(t *testing.T, addresses []string, opts ...Option) *Client {
	t.Helper()
	c := client(t, addresses, opts...)
	if err := c.Connect(soon(t)); err != nil {
		t.Fatal(err)
	}
	return c
}

// client makes a client that ends with the test, before the gates do.
func client(t *testing.T, addresses []string, opts ...Option) *Client {
	t.Helper()
	c, err := NewClient(addresses, append([]Option{WithReconnectInterval(10 * time.Millisecond)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// soon is a context that ends when a test has waited too long.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func pack(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// say calls an object with a text and checks that the answer is the same.
func say(ctx context.Context, c *Client, text string, opts ...CallOption) error {
	reply, err := c.CallObject(ctx, "Echo", "a", "Say", wrapperspb.String(text), opts...)
	if err != nil {
		return err
	}
	if got, ok := reply.(*wrapperspb.StringValue); !ok || got.Value != text {
		return fmt.Errorf("the answer to %q is %v", text, reply)
	}
	return nil
}

// want checks an error's kind, outcome, and a part of its text.
func want(t *testing.T, err error, kind error, outcome Outcome, text string) {
	t.Helper()
	if !errors.Is(err, kind) || OutcomeOf(err) != outcome || !strings.Contains(fmt.Sprint(err), text) {
		t.Errorf("got %v (%v), want %v (%v) with %q", err, OutcomeOf(err), kind, outcome, text)
	}
}

// until waits for something that must become true.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waiting for: " + what)
		}
	}
}

// receive takes from a channel what must come.
func receive[T any](t *testing.T, what string, from <-chan T) T {
	t.Helper()
	select {
	case v, ok := <-from:
		if !ok {
			t.Fatal("closed: " + what)
		}
		return v
	case <-time.After(limit):
		t.Fatal("waiting for: " + what)
		panic("unreachable")
	}
}
