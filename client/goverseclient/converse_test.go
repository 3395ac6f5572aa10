package goverseclient

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
)

// bothWays runs a test twice: with gates that know streams, and with gates and real
// clients that call one by one.
func bothWays(t *testing.T, test func(*testing.T)) {
	for _, way := range []string{"stream", "unary"} {
		t.Run(way, test)
	}
}

// isUnary says which of the two ways is tested.
func isUnary(t testing.TB) bool { return strings.Contains(t.Name()+"/", "/unary/") }

// way is the option that a client of a real gate needs for it.
func way(t testing.TB) Option {
	if isUnary(t) {
		return WithUnaryCalls()
	}
	return nil
}

// conversation is a client's stream at a gate that a test can break. It is written
// against gate.proto and nothing else.
type conversation struct {
	gate    *gate
	stream  grpc.BidiStreamingServer[gate_pb.ClientBatch, gate_pb.GateBatch]
	id      string
	running sync.WaitGroup

	sending sync.Mutex
	mu      sync.Mutex
	cancels map[uint64]context.CancelFunc
}

func (g *gate) Converse(stream grpc.BidiStreamingServer[gate_pb.ClientBatch, gate_pb.GateBatch]) error {
	if g.old {
		return status.Error(codes.Unimplemented, "unknown method Converse")
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if len(first.Frames) != 1 || first.Frames[0].GetHello() == nil {
		return status.Error(codes.InvalidArgument, "no hello")
	}
	c := &conversation{gate: g, stream: stream, cancels: map[uint64]context.CancelFunc{}}
	id, outbox, stopping := g.admit(stream.Context())
	c.id = id
	if err := c.welcome(); err != nil {
		return err
	}
	defer c.running.Wait()
	heard := make(chan error, 1)
	go func() { heard <- c.read() }()
	for {
		select {
		case m := <-outbox:
			if err := c.send(&gate_pb.GateFrame{Kind: &gate_pb.GateFrame_Push{Push: &gate_pb.Push{Message: m}}}); err != nil {
				return err
			}
		case <-stopping:
			_ = c.send(&gate_pb.GateFrame{Kind: &gate_pb.GateFrame_Goodbye{Goodbye: &gate_pb.Goodbye{Status: bytesOf(errStopping)}}})
			select {
			case <-heard: // the client has hung up
			case <-time.After(limit):
			}
			return errStopping
		case err := <-heard:
			return err
		}
	}
}

func (c *conversation) welcome() error {
	w := &gate_pb.Welcome{ClientId: c.id, MaxCalls: max(c.gate.maxCalls, 256)}
	if c.gate.maxCalls > 0 {
		w.MaxCalls = c.gate.maxCalls
	}
	if c.gate.welcome != nil {
		said, err := c.gate.welcome(c.id)
		if err != nil {
			return err
		}
		r := new(gate_pb.RegisterResponse)
		if said.UnmarshalTo(r) != nil {
			return c.send(&gate_pb.GateFrame{Kind: &gate_pb.GateFrame_Push{Push: &gate_pb.Push{Message: said}}})
		}
		w.ClientId, w.UnixMillis = r.ClientId, r.UnixMillis
	}
	return c.send(&gate_pb.GateFrame{Kind: &gate_pb.GateFrame_Welcome{Welcome: w}})
}

// bytesOf is the status that gRPC makes of a handler's error.
func bytesOf(err error) []byte {
	st, ok := status.FromError(err)
	if !ok {
		st = status.FromContextError(err)
	}
	b, _ := proto.Marshal(st.Proto())
	return b
}

func (c *conversation) send(frames ...*gate_pb.GateFrame) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	return c.stream.Send(&gate_pb.GateBatch{Frames: frames})
}

func (c *conversation) read() error {
	for {
		b, err := c.stream.Recv()
		if err != nil {
			return err
		}
		for _, f := range b.Frames {
			c.mu.Lock()
			if f.GetCancel() != nil {
				if cancel := c.cancels[f.Call]; cancel != nil {
					cancel()
				}
				c.mu.Unlock()
				continue
			}
			ctx, cancel := context.WithCancel(c.stream.Context())
			if f.TimeoutMicros > 0 {
				ctx, cancel = context.WithTimeout(c.stream.Context(), time.Duration(f.TimeoutMicros)*time.Microsecond)
			}
			c.cancels[f.Call] = cancel
			c.mu.Unlock()
			c.gate.streamed.Add(1)
			c.running.Go(func() {
				defer cancel()
				a := c.answer(ctx, f)
				c.mu.Lock()
				delete(c.cancels, f.Call)
				c.mu.Unlock()
				_ = c.send(a) // or the client is gone
			})
		}
	}
}

func (c *conversation) answer(ctx context.Context, f *gate_pb.ClientFrame) *gate_pb.GateFrame {
	a := &gate_pb.GateFrame{Call: f.Call}
	var err error
	switch k := f.Kind.(type) {
	case *gate_pb.ClientFrame_CallObject:
		k.CallObject.ClientId = c.id
		var r *gate_pb.CallObjectResponse
		r, err = c.gate.CallObject(ctx, k.CallObject)
		a.Kind = &gate_pb.GateFrame_CallObject{CallObject: r}
	case *gate_pb.ClientFrame_CreateObject:
		var r *gate_pb.CreateObjectResponse
		r, err = c.gate.CreateObject(ctx, k.CreateObject)
		a.Kind = &gate_pb.GateFrame_CreateObject{CreateObject: r}
	case *gate_pb.ClientFrame_DeleteObject:
		var r *gate_pb.DeleteObjectResponse
		r, err = c.gate.DeleteObject(ctx, k.DeleteObject)
		a.Kind = &gate_pb.GateFrame_DeleteObject{DeleteObject: r}
	case *gate_pb.ClientFrame_ReliableCallObject:
		k.ReliableCallObject.ClientId = c.id
		var r *gate_pb.ReliableCallObjectResponse
		r, err = c.gate.ReliableCallObject(ctx, k.ReliableCallObject)
		a.Kind = &gate_pb.GateFrame_ReliableCallObject{ReliableCallObject: r}
	case *gate_pb.ClientFrame_Settle:
		var r *gate_pb.SettleResponse
		r, err = c.gate.Settle(ctx, k.Settle)
		a.Kind = &gate_pb.GateFrame_Settle{Settle: r}
	}
	if err != nil {
		a.Kind = &gate_pb.GateFrame_Failure{Failure: bytesOf(err)}
	}
	return a
}
