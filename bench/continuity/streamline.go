package main

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/bench/continuity/witness"
	gate_pb "github.com/xiaonanln/goverse/gate/proto"
)

// streamDoor is the gRPC of the gate at an address. Each line is a connection of its own.
type streamDoor struct{ address string }

func (d streamDoor) open(ctx context.Context, g greeting) (line, error) {
	// Small buffers and windows: there are thousands in a process.
	cc, err := grpc.NewClient("passthrough:///"+d.address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithReadBufferSize(2<<10), grpc.WithWriteBufferSize(2<<10),
		grpc.WithStaticStreamWindowSize(64<<10), grpc.WithStaticConnWindowSize(64<<10),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) { return dial(ctx, address, g.deaf) }))
	if err != nil {
		return nil, err
	}
	l := &streamLine{cc: cc}
	l.life, l.end = context.WithCancel(context.Background())
	defer context.AfterFunc(ctx, l.end)()
	if l.stream, err = gate_pb.NewGateServiceClient(cc).Converse(l.life); err == nil {
		err = l.send(&gate_pb.ClientFrame{Kind: &gate_pb.ClientFrame_Hello{Hello: &gate_pb.Hello{Resumable: !g.plain, Token: g.token, Last: g.last}}})
	}
	if err != nil {
		l.hangUp()
		return nil, err
	}
	return l, nil
}

// streamLine is a stream of Converse.
type streamLine struct {
	cc     *grpc.ClientConn
	stream grpc.BidiStreamingClient[gate_pb.ClientBatch, gate_pb.GateBatch]
	life   context.Context
	end    context.CancelFunc
	mu     sync.Mutex // one batch at a time
}

func (l *streamLine) send(f *gate_pb.ClientFrame) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stream.Send(&gate_pb.ClientBatch{Frames: []*gate_pb.ClientFrame{f}})
}

func (l *streamLine) say(a ask) {
	f := &gate_pb.ClientFrame{Call: a.number}
	switch a.kind {
	case "ack":
		f = &gate_pb.ClientFrame{Kind: &gate_pb.ClientFrame_Ack{Ack: &gate_pb.Ack{Seq: a.number}}}
	case "subscribe":
		f.Kind = &gate_pb.ClientFrame_Subscribe{Subscribe: &gate_pb.SubscribeRequest{Type: boardType, Id: a.board}}
	default:
		request, err := anypb.New(wrapperspb.Int64(a.reader))
		if err != nil {
			return // a number: it cannot fail
		}
		f.Kind = &gate_pb.ClientFrame_CallObject{CallObject: &gate_pb.CallObjectRequest{Type: boardType, Id: a.board, Method: a.method, Request: request}}
	}
	_ = l.send(f) // the reader hears of a stream that is gone
}

func (l *streamLine) hangUp() {
	l.end()
	_ = l.cc.Close() // it may be closed already
}

// leave has the gate say goodbye and end the stream.
func (l *streamLine) leave() {
	time.AfterFunc(connectWithin, l.hangUp) // should the gate not answer
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.stream.CloseSend() // the gate may be gone
}

func (l *streamLine) hear() ([]word, error) {
	b, err := l.stream.Recv()
	if err != nil {
		return nil, err
	}
	words := make([]word, 0, len(b.Frames))
	for _, f := range b.Frames {
		w, err := wordOf(f)
		if err != nil {
			return words, fmt.Errorf("the gate says %v: %w", f, err)
		}
		words = append(words, w)
	}
	return words, nil
}

func wordOf(f *gate_pb.GateFrame) (w word, err error) {
	switch k := f.Kind.(type) {
	case *gate_pb.GateFrame_Welcome:
		return word{kind: welcomed, client: k.Welcome.ClientId, token: k.Welcome.Token, resumed: k.Welcome.Resumed}, nil
	case *gate_pb.GateFrame_Goodbye:
		return word{kind: goodbye, why: statusText(k.Goodbye.Status)}, nil
	case *gate_pb.GateFrame_Reset_:
		return word{kind: lost, reset: witness.Reset{From: k.Reset_.From, To: k.Reset_.To, Reason: k.Reset_.Reason}}, nil
	case *gate_pb.GateFrame_Failure:
		return word{kind: answered, call: f.Call, why: statusText(k.Failure)}, nil
	case *gate_pb.GateFrame_Subscribed:
		return word{kind: answered, call: f.Call}, nil
	case *gate_pb.GateFrame_CallObject:
		count := new(wrapperspb.Int64Value)
		err = k.CallObject.Response.UnmarshalTo(count)
		return word{kind: answered, call: f.Call, count: count.Value}, err
	case *gate_pb.GateFrame_Push:
		w = word{kind: pushed, seq: k.Push.Seq}
		return w, w.takes(k.Push.Message)
	case *gate_pb.GateFrame_Published:
		p := k.Published
		if len(p.Failure) > 0 {
			return word{kind: endedSub, why: statusText(p.Failure)}, nil
		}
		w = word{kind: published, version: p.Version, snapshot: p.Snapshot != nil, again: p.Reset_}
		if w.snapshot {
			return w, w.takes(p.Snapshot)
		}
		return w, w.takes(p.Change)
	}
	return w, fmt.Errorf("a %T is not known", f.Kind)
}

func (w *word) takes(packed *anypb.Any) error {
	text := new(wrapperspb.StringValue)
	if err := packed.UnmarshalTo(text); err != nil {
		return err
	}
	return w.hears(&text.Value)
}

func statusText(b []byte) string {
	s := new(spb.Status)
	if err := proto.Unmarshal(b, s); err != nil {
		return err.Error()
	}
	return s.Message
}
