package goverseclient

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
)

// errBeside sends a call beside the stream.
var errBeside = errors.New("the call is too long for the stream")

// route is the innermost interceptor of a link's unary calls, behind those of the
// program, so that they see each call: it makes them over the stream. Those that do not
// belong there go beside it, as unary calls on the same connection: long ones, which would
// hold up the others, and those whose context carries gRPC headers, which frames do not
// have.
func (l *link) route(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if l.stream != nil {
		if err := l.converse(ctx, req, reply); err != errBeside {
			return err
		}
	}
	return invoke(beside(ctx), method, req, reply, cc, opts...)
}

// converse makes a call over the stream, unless it goes beside.
func (l *link) converse(ctx context.Context, req, reply any) error {
	if _, has := metadata.FromOutgoingContext(ctx); has {
		return errBeside
	}
	t, ok := ctx.Value(traceKey{}).(*trace)
	if !ok {
		t = new(trace)
	}
	t.sent.Store(false) // an interceptor may make the call again, and the last attempt counts
	t.answered.Store(false)
	answer, err := l.ask(ctx, t, req)
	if err != nil {
		return err
	}
	if !take(reply, answer) {
		return l.stream.breach("the gate answers another question than was asked")
	}
	return nil
}

// ask sends the frame of a request, without the client id, which the gate knows.
func (l *link) ask(ctx context.Context, t *trace, req any) (*gate_pb.GateFrame, error) {
	f := &gate_pb.ClientFrame{Traceparent: t.place.String()}
	if t.place != nil {
		f.Tracestate = t.place.State
	}
	switch r := req.(type) {
	case *gate_pb.CallObjectRequest:
		defer func(id string) { r.ClientId = id }(r.ClientId)
		r.ClientId = ""
		f.Kind = &gate_pb.ClientFrame_CallObject{CallObject: r}
	case *gate_pb.ReliableCallObjectRequest:
		defer func(id string) { r.ClientId = id }(r.ClientId)
		r.ClientId = ""
		f.Kind = &gate_pb.ClientFrame_ReliableCallObject{ReliableCallObject: r}
	case *gate_pb.CreateObjectRequest:
		f.Kind = &gate_pb.ClientFrame_CreateObject{CreateObject: r}
	case *gate_pb.DeleteObjectRequest:
		f.Kind = &gate_pb.ClientFrame_DeleteObject{DeleteObject: r}
	case *gate_pb.SettleRequest:
		f.Kind = &gate_pb.ClientFrame_Settle{Settle: r}
	default:
		return nil, errBeside
	}
	return l.stream.call(ctx, t, f)
}

// take makes reply, which is new, the response in an answer. It says whether there is
// one to this question.
func take(reply any, f *gate_pb.GateFrame) bool {
	switch r := reply.(type) {
	case *gate_pb.CallObjectResponse:
		if a := f.GetCallObject(); a != nil {
			r.Response, r.Durable = a.Response, a.Durable
			return true
		}
	case *gate_pb.CreateObjectResponse:
		if a := f.GetCreateObject(); a != nil {
			r.Id = a.Id
			return true
		}
	case *gate_pb.DeleteObjectResponse:
		return f.GetDeleteObject() != nil
	case *gate_pb.ReliableCallObjectResponse:
		if a := f.GetReliableCallObject(); a != nil {
			r.Response, r.Error, r.Status, r.Replayed, r.Failure = a.Response, a.Error, a.Status, a.Replayed, a.Failure
			return true
		}
	case *gate_pb.SettleResponse:
		if a := f.GetSettle(); a != nil {
			r.Status, r.Response, r.Error, r.Failure = a.Status, a.Response, a.Error, a.Failure
			return true
		}
	}
	return false
}
