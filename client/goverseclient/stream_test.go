package goverseclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/gate/gateserver"
	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/internal/batch"
	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/object"
)

// A client takes the stream where there is one, and does without where there is none or
// the program says so.
func TestTheStreamIsTaken(t *testing.T) {
	for _, c := range []struct {
		old      bool
		opt      Option
		streamed int64
	}{{false, nil, 1}, {true, nil, 0}, {false, WithUnaryCalls(), 0}} {
		g := (&gate{old: c.old}).serve(t)
		client := connect(t, []string{g.address}, c.opt)
		if err := say(soon(t), client, "x"); err != nil || g.calls.Load() != 1 || g.streamed.Load() != c.streamed {
			t.Errorf("%+v: %v, %d calls, %d of them on the stream", c, err, g.calls.Load(), g.streamed.Load())
		}
		g.push(t, client.ClientID(), wrapperspb.String("hello"))
		if m := receive(t, "a push", client.MessageChan()).(*wrapperspb.StringValue); m.Value != "hello" {
			t.Errorf("%+v: pushed %v", c, m)
		}
	}
}

// Long calls, and those with headers, go beside the stream, for the same session.
func TestCallsBesideTheStream(t *testing.T) {
	g := (&gate{call: func(ctx context.Context, r *gate_pb.CallObjectRequest) (*anypb.Any, error) {
		if md, _ := metadata.FromIncomingContext(ctx); r.Method == "Head" {
			return anypb.New(wrapperspb.String(strings.Join(md["who"], ",") + " " + r.ClientId))
		}
		return r.Request, nil
	}}).serve(t)
	c := connect(t, []string{g.address})
	if err := say(soon(t), c, strings.Repeat("x", batch.MaxFrame)); err != nil || g.streamed.Load() != 0 {
		t.Errorf("%v, %d calls on the stream", err, g.streamed.Load())
	}
	who, err := c.CallObject(metadata.AppendToOutgoingContext(soon(t), "who", "ann"), "Echo", "a", "Head", nil)
	if err != nil || who.(*wrapperspb.StringValue).Value != "ann "+c.ClientID() || g.streamed.Load() != 0 {
		t.Errorf("%v, %v, %d calls on the stream", who, err, g.streamed.Load())
	}
	if err := say(soon(t), c, strings.Repeat("x", batch.MaxFrame-1000)); err != nil || g.streamed.Load() != 1 {
		t.Errorf("%v, %d calls on the stream", err, g.streamed.Load())
	}
	g.noStrays(t)
}

// The program's own interceptors see each call, as a unary call, also where it goes over
// the stream; and what they add to it arrives.
func TestInterceptorsOfTheProgram(t *testing.T) { bothWays(t, testInterceptorsOfTheProgram) }

func testInterceptorsOfTheProgram(t *testing.T) {
	g := (&gate{call: func(ctx context.Context, r *gate_pb.CallObjectRequest) (*anypb.Any, error) {
		if md, _ := metadata.FromIncomingContext(ctx); r.Method == "Head" {
			return anypb.New(wrapperspb.String(strings.Join(md["who"], ",") + " " + r.ClientId))
		}
		return r.Request, nil
	}}).serve(t)
	var seen told
	c := connect(t, []string{g.address}, WithGRPCDialOptions(grpc.WithUnaryInterceptor(
		func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			r, ok := req.(*gate_pb.CallObjectRequest)
			if ok && r.Method == "Head" {
				ctx = metadata.AppendToOutgoingContext(ctx, "who", "ann")
			}
			err := invoke(ctx, method, req, reply, cc, opts...)
			if answer, is := reply.(*gate_pb.CallObjectResponse); ok && is {
				seen.add("%s of %s: %v", r.Method, r.ClientId, answer.Response != nil)
			}
			return err
		})))
	who, err := c.CallObject(soon(t), "Echo", "a", "Head", nil)
	if err != nil || who.(*wrapperspb.StringValue).Value != "ann "+c.ClientID() {
		t.Errorf("%v, %v", who, err)
	}
	if err := say(soon(t), c, "x"); err != nil {
		t.Error(err)
	}
	id := c.ClientID()
	if want := "Head of " + id + ": true\nSay of " + id + ": true"; seen.String() != want {
		t.Errorf("the interceptor saw\n%s\nwant\n%s", seen.String(), want)
	}
	if n := g.streamed.Load(); n != 1 && !isUnary(t) {
		t.Errorf("%d calls went over the stream", n)
	}
}

// As many calls are on their way as the gate allows. The others wait, and one that waits
// in vain surely did not run.
func TestTheGateBoundsTheCallsOnAStream(t *testing.T) {
	g := (&gate{call: hangs, maxCalls: 2}).serve(t)
	c := connect(t, []string{g.address}, WithCallTimeout(time.Hour))
	hanging, cancel := context.WithCancel(t.Context())
	done := make(chan error, 2)
	for range cap(done) {
		go func() { done <- say(hanging, c, "hang") }()
	}
	until(t, "two calls to be on their way", func() bool { return g.calls.Load() == 2 })
	for range 100 {
		want(t, say(within(t, time.Millisecond), c, "in vain"), ErrDeadline, NotExecuted, "")
	}
	if n := len(c.connected().stream.queued()); n > 1 {
		t.Errorf("%d calls that were taken back are kept", n)
	}
	later := make(chan error)
	go func() { later <- say(soon(t), c, "later") }()
	cancel()
	for range cap(done) {
		want(t, receive(t, "the end of a call", done), ErrCanceled, Unknown, "")
	}
	if err := receive(t, "the call that waited", later); err != nil {
		t.Error(err)
	}
	if g.calls.Load() != 3 || g.ran("in vain") != 0 || g.ran("later") != 1 {
		t.Errorf("%d calls arrived", g.calls.Load())
	}
}

func (s *stream) queued() []*waiter {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queue
}

// Calls that wait for their turn when the gate dies run at another.
func TestCallsThatWaitWhenAGateDies(t *testing.T) {
	here, there := (&gate{call: hangs, maxCalls: 1}).serve(t), (&gate{call: hangs, maxCalls: 1}).serve(t)
	c := connect(t, []string{here.address, there.address})
	if c.CurrentAddress() == there.address {
		here, there = there, here
	}
	hanging, waiting := make(chan error, 1), make(chan error, 20)
	go func() { hanging <- say(soon(t), c, "hang") }()
	until(t, "a call to be on its way", func() bool { return here.calls.Load() == 1 })
	s := c.connected().stream
	for i := range cap(waiting) {
		go func() { waiting <- say(soon(t), c, fmt.Sprint(i)) }()
	}
	until(t, "the others to wait", func() bool { return len(s.queued()) == cap(waiting) })
	here.kill()
	want(t, receive(t, "the end of a call", hanging), ErrIndeterminate, Unknown, here.address)
	for range cap(waiting) {
		if err := receive(t, "the end of a call", waiting); err != nil {
			t.Error(err)
		}
	}
	for i := range cap(waiting) {
		if n := there.ran(fmt.Sprint(i)); n != 1 || here.ran(fmt.Sprint(i)) != 0 {
			t.Errorf("call %d ran %d times", i, n)
		}
	}
}

// A gate that leaves keeps none of the calls that wait for those on their way, however
// long these take.
func TestCallsThatWaitWhenAGateLeaves(t *testing.T) {
	here, there := (&gate{call: hangs, maxCalls: 1}).serve(t), (&gate{call: hangs, maxCalls: 1}).serve(t)
	c := connect(t, []string{here.address, there.address})
	if c.CurrentAddress() == there.address {
		here, there = there, here
	}
	ctx, cancel := context.WithCancel(soon(t))
	defer cancel()
	hanging, waiting := make(chan error, 1), make(chan error, 20)
	go func() { hanging <- say(ctx, c, "hang") }()
	until(t, "a call to be on its way", func() bool { return here.calls.Load() == 1 })
	s := c.connected().stream
	for i := range cap(waiting) {
		go func() { waiting <- say(soon(t), c, fmt.Sprint(i)) }()
	}
	until(t, "the others to wait", func() bool { return len(s.queued()) == cap(waiting) })
	left := make(chan error, 1)
	go func() { here.stop(); left <- nil }()
	for range cap(waiting) {
		if err := receive(t, "the end of a call", waiting); err != nil {
			t.Error(err)
		}
	}
	for i := range cap(waiting) {
		if n := there.ran(fmt.Sprint(i)); n != 1 || here.ran(fmt.Sprint(i)) != 0 {
			t.Errorf("call %d ran %d times", i, n)
		}
	}
	cancel()
	want(t, receive(t, "the end of a call", hanging), ErrCanceled, Unknown, "")
	_ = receive(t, "the end of the gate", left)
}

// What a gate says that does not keep to the protocol ends the connection: the call that
// it meets is in doubt, and the client goes to another gate.
func TestHostileGates(t *testing.T) {
	var frame atomic.Pointer[func(call uint64) *gate_pb.GateFrame]
	bad := (&hostile{frame: &frame}).serve(t)
	good := (&gate{}).serve(t)
	unknown := &gate_pb.GateFrame{}
	unknown.ProtoReflect().SetUnknown([]byte{0xf2, 0x07, 0x00}) // field 126
	for name, h := range map[string]struct {
		frame func(call uint64) *gate_pb.GateFrame
		text  string
	}{
		"unknown kind": {func(uint64) *gate_pb.GateFrame { return unknown }, "does not belong"},
		"two welcomes": {func(uint64) *gate_pb.GateFrame {
			return &gate_pb.GateFrame{Kind: &gate_pb.GateFrame_Welcome{Welcome: &gate_pb.Welcome{ClientId: "x", MaxCalls: 1}}}
		}, "does not belong"},
		"no such call": {func(call uint64) *gate_pb.GateFrame {
			return &gate_pb.GateFrame{Call: call + 1, Kind: &gate_pb.GateFrame_CallObject{CallObject: &gate_pb.CallObjectResponse{}}}
		}, "does not wait"},
		"another question": {func(call uint64) *gate_pb.GateFrame {
			return &gate_pb.GateFrame{Call: call, Kind: &gate_pb.GateFrame_Settle{Settle: &gate_pb.SettleResponse{}}}
		}, "another question"},
		"garbage": {func(call uint64) *gate_pb.GateFrame {
			return &gate_pb.GateFrame{Call: call, Kind: &gate_pb.GateFrame_Failure{Failure: []byte("\xff")}}
		}, "and not how"},
		"no failure": {func(call uint64) *gate_pb.GateFrame {
			return &gate_pb.GateFrame{Call: call, Kind: &gate_pb.GateFrame_Failure{}}
		}, "and not how"},
		"oversized": {func(call uint64) *gate_pb.GateFrame {
			r := &gate_pb.CallObjectResponse{Response: &anypb.Any{Value: make([]byte, maxReply)}}
			return &gate_pb.GateFrame{Call: call, Kind: &gate_pb.GateFrame_CallObject{CallObject: r}}
		}, "larger than max"},
	} {
		t.Run(name, func(t *testing.T) {
			frame.Store(&h.frame)
			c := connect(t, []string{bad, good.address})
			for c.CurrentAddress() != bad {
				if err := c.Reconnect(soon(t)); err != nil {
					t.Fatal(err)
				}
			}
			want(t, say(soon(t), c, "x"), ErrIndeterminate, Unknown, h.text)
			until(t, "the other gate", func() bool { return c.CurrentAddress() == good.address })
			if err := say(soon(t), c, "x"); err != nil {
				t.Error(err)
			}
		})
	}
}

// hostile is a gate that answers each call with a frame that a test chose.
type hostile struct {
	gate_pb.UnimplementedGateServiceServer
	frame *atomic.Pointer[func(call uint64) *gate_pb.GateFrame]
}

func (h *hostile) serve(t *testing.T) (address string) { return serveGate(t, h) }

func serveGate(t *testing.T, g gate_pb.GateServiceServer) (address string) {
	t.Helper()
	s := grpc.NewServer()
	gate_pb.RegisterGateServiceServer(s, g)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() { defer close(served); _ = s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-served })
	return l.Addr().String()
}

func (h *hostile) Converse(stream grpc.BidiStreamingServer[gate_pb.ClientBatch, gate_pb.GateBatch]) error {
	welcome := &gate_pb.GateFrame{Kind: &gate_pb.GateFrame_Welcome{Welcome: &gate_pb.Welcome{ClientId: "bad/1", MaxCalls: 1}}}
	if err := stream.Send(&gate_pb.GateBatch{Frames: []*gate_pb.GateFrame{welcome}}); err != nil {
		return err
	}
	for {
		b, err := stream.Recv()
		if err != nil {
			return err
		}
		for _, f := range b.Frames {
			if f.GetCallObject() == nil {
				continue
			}
			if err := stream.Send(&gate_pb.GateBatch{Frames: []*gate_pb.GateFrame{(*h.frame.Load())(f.Call)}}); err != nil {
				return err
			}
		}
	}
}

// Ten thousand calls at once through one client all come home, and the gate never has
// more of them than it allows.
func TestTenThousandCallsAtOnce(t *testing.T) {
	world := newCluster()
	var now, most atomic.Int64
	s := startGate(t, world, "127.0.0.1:0", func(cfg *gateserver.GateServerConfig) {
		cfg.Interceptors = []gateserver.Interceptor{func(ctx context.Context, _ *object.CallInfo, req object.Payload, next gateserver.Next) (object.Payload, error) {
			n := now.Add(1)
			defer now.Add(-1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			return next(ctx, req)
		}}
	})
	c := connect(t, []string{s.GRPCAddr()}, WithCallTimeout(5*time.Minute))
	const n = 10_000
	done, begin := make(chan error, n), make(chan struct{})
	for i := range n {
		go func() {
			<-begin
			done <- say(t.Context(), c, fmt.Sprint(i))
		}()
	}
	close(begin)
	for range n {
		if err := receive(t, "the end of a call", done); err != nil {
			t.Fatal(err)
		}
	}
	if m := most.Load(); m > 256 {
		t.Errorf("%d calls were under way at once", m)
	}
}

// What remains of a call's time is what the object has.
func TestTheDeadlineTravels(t *testing.T) { bothWays(t, testTheDeadlineTravels) }

func testTheDeadlineTravels(t *testing.T) {
	remains := make(chan time.Duration, 1)
	s := startGate(t, newCluster(), "127.0.0.1:0", func(cfg *gateserver.GateServerConfig) {
		cfg.Interceptors = []gateserver.Interceptor{func(ctx context.Context, _ *object.CallInfo, req object.Payload, next gateserver.Next) (object.Payload, error) {
			at, _ := ctx.Deadline()
			remains <- time.Until(at)
			if callctx.From(ctx).Caller.ClientID == "" {
				return req, errors.New("no caller")
			}
			return next(ctx, req)
		}}
	})
	c := connect(t, []string{s.GRPCAddr()}, WithCallTimeout(time.Hour), way(t))
	for d, opts := range map[time.Duration][]CallOption{time.Hour: nil, 2 * time.Minute: {WithTimeout(2 * time.Minute)}, time.Minute: {WithTimeout(time.Minute), WithCallID("once")}} {
		if err := say(t.Context(), c, "x", opts...); err != nil {
			t.Error(err)
		}
		if r := <-remains; r > d || d-r > 30*time.Second {
			t.Errorf("of %v remain %v", d, r)
		}
	}
}
