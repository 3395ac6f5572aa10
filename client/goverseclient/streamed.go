package goverseclient

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
)

// caller is how calls reach a gate: each a unary call, or all over one stream.
type caller interface {
	CallObject(context.Context, *gate_pb.CallObjectRequest, ...grpc.CallOption) (*gate_pb.CallObjectResponse, error)
	CreateObject(context.Context, *gate_pb.CreateObjectRequest, ...grpc.CallOption) (*gate_pb.CreateObjectResponse, error)
	DeleteObject(context.Context, *gate_pb.DeleteObjectRequest, ...grpc.CallOption) (*gate_pb.DeleteObjectResponse, error)
	ReliableCallObject(context.Context, *gate_pb.ReliableCallObjectRequest, ...grpc.CallOption) (*gate_pb.ReliableCallObjectResponse, error)
	Settle(context.Context, *gate_pb.SettleRequest, ...grpc.CallOption) (*gate_pb.SettleResponse, error)
}

// streamed makes calls over a link's stream. Those that do not belong there go beside
// it, as unary calls on the same connection: long ones, which would hold up the others,
// and those whose context carries gRPC headers, which frames do not have.
type streamed struct {
	*stream
	beside gate_pb.GateServiceClient
}

// errBeside sends a call beside the stream.
var errBeside = errors.New("the call is too long for the stream")

// send makes a call, unless it goes beside the stream.
func (s streamed) send(ctx context.Context, f *gate_pb.ClientFrame) (*gate_pb.GateFrame, error) {
	if _, has := metadata.FromOutgoingContext(ctx); has {
		return nil, errBeside
	}
	t, ok := ctx.Value(traceKey{}).(*trace)
	if !ok {
		t = new(trace)
	}
	return s.call(ctx, t, f)
}

const otherAnswer = "the gate answers another question than was asked"

// CallObject implements caller.
func (s streamed) CallObject(ctx context.Context, in *gate_pb.CallObjectRequest, opts ...grpc.CallOption) (*gate_pb.CallObjectResponse, error) {
	in.ClientId = "" // the gate knows
	f, err := s.send(ctx, &gate_pb.ClientFrame{Kind: &gate_pb.ClientFrame_CallObject{CallObject: in}})
	if err == errBeside {
		in.ClientId = s.id
		return s.beside.CallObject(ctx, in, opts...)
	}
	if err != nil {
		return nil, err
	}
	if k, ok := f.Kind.(*gate_pb.GateFrame_CallObject); ok {
		return k.CallObject, nil
	}
	return nil, s.breach(otherAnswer)
}

// CreateObject implements caller.
func (s streamed) CreateObject(ctx context.Context, in *gate_pb.CreateObjectRequest, opts ...grpc.CallOption) (*gate_pb.CreateObjectResponse, error) {
	f, err := s.send(ctx, &gate_pb.ClientFrame{Kind: &gate_pb.ClientFrame_CreateObject{CreateObject: in}})
	if err == errBeside {
		return s.beside.CreateObject(ctx, in, opts...)
	}
	if err != nil {
		return nil, err
	}
	if k, ok := f.Kind.(*gate_pb.GateFrame_CreateObject); ok {
		return k.CreateObject, nil
	}
	return nil, s.breach(otherAnswer)
}

// DeleteObject implements caller.
func (s streamed) DeleteObject(ctx context.Context, in *gate_pb.DeleteObjectRequest, opts ...grpc.CallOption) (*gate_pb.DeleteObjectResponse, error) {
	f, err := s.send(ctx, &gate_pb.ClientFrame{Kind: &gate_pb.ClientFrame_DeleteObject{DeleteObject: in}})
	if err == errBeside {
		return s.beside.DeleteObject(ctx, in, opts...)
	}
	if err != nil {
		return nil, err
	}
	if k, ok := f.Kind.(*gate_pb.GateFrame_DeleteObject); ok {
		return k.DeleteObject, nil
	}
	return nil, s.breach(otherAnswer)
}

// ReliableCallObject implements caller.
func (s streamed) ReliableCallObject(ctx context.Context, in *gate_pb.ReliableCallObjectRequest, opts ...grpc.CallOption) (*gate_pb.ReliableCallObjectResponse, error) {
	in.ClientId = "" // the gate knows
	f, err := s.send(ctx, &gate_pb.ClientFrame{Kind: &gate_pb.ClientFrame_ReliableCallObject{ReliableCallObject: in}})
	if err == errBeside {
		in.ClientId = s.id
		return s.beside.ReliableCallObject(ctx, in, opts...)
	}
	if err != nil {
		return nil, err
	}
	if k, ok := f.Kind.(*gate_pb.GateFrame_ReliableCallObject); ok {
		return k.ReliableCallObject, nil
	}
	return nil, s.breach(otherAnswer)
}

// Settle implements caller.
func (s streamed) Settle(ctx context.Context, in *gate_pb.SettleRequest, opts ...grpc.CallOption) (*gate_pb.SettleResponse, error) {
	f, err := s.send(ctx, &gate_pb.ClientFrame{Kind: &gate_pb.ClientFrame_Settle{Settle: in}})
	if err == errBeside {
		return s.beside.Settle(ctx, in, opts...)
	}
	if err != nil {
		return nil, err
	}
	if k, ok := f.Kind.(*gate_pb.GateFrame_Settle); ok {
		return k.Settle, nil
	}
	return nil, s.breach(otherAnswer)
}
