package gateserver

import (
	"context"
	"errors"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/xiaonanln/goverse/gate"
	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/internal/batch"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// grpcDoor is gate.GateService. Requests go on as they came, undecoded.
type grpcDoor struct {
	gate_pb.UnimplementedGateServiceServer
	calls   *calls
	busy    *crowd
	patient time.Duration // how long a client may leave a message unread
}

func newGRPCServer(d *grpcDoor, h *health.Server, more ...grpc.ServerOption) *grpc.Server {
	s := grpc.NewServer(append(append(more, d.calls.visitors.serverOptions()...),
		grpc.ChainUnaryInterceptor(d.unary, d.calls.answerUnary), grpc.ChainStreamInterceptor(d.streams, d.calls.answerStream), grpc.ForceServerCodecV2(newCodec()),
	)...)
	gate_pb.RegisterGateServiceServer(s, d)
	grpc_health_v1.RegisterHealthServer(s, h)
	reflection.Register(s)
	return s
}

// CallObject runs a method.
func (d *grpcDoor) CallObject(ctx context.Context, r *gate_pb.CallObjectRequest) (*gate_pb.CallObjectResponse, error) {
	reply, err := d.calls.do(ctx, clientOf(ctx, r.ClientId), object.Call{
		Op: object.OpCall, Ref: object.Ref{Type: r.Type, ID: r.Id}, Method: r.Method, Payload: object.OfBinary(r.Request),
	})
	if err != nil {
		return nil, err
	}
	answer := &gate_pb.CallObjectResponse{Response: reply.Binary}
	if reply.Unsaved {
		answer.Durable = proto.Bool(false)
	}
	return answer, nil
}

// CreateObject makes an object; without an id it gets a random one.
func (d *grpcDoor) CreateObject(ctx context.Context, r *gate_pb.CreateObjectRequest) (*gate_pb.CreateObjectResponse, error) {
	if r.Id == "" {
		r.Id = object.NewID()
	}
	if _, err := d.calls.do(ctx, clientOf(ctx, ""), object.Call{Op: object.OpCreate, Ref: object.Ref{Type: r.Type, ID: r.Id}}); err != nil {
		return nil, err
	}
	return &gate_pb.CreateObjectResponse{Id: r.Id}, nil
}

// DeleteObject removes an object and its stored state. Idempotent.
func (d *grpcDoor) DeleteObject(ctx context.Context, r *gate_pb.DeleteObjectRequest) (*gate_pb.DeleteObjectResponse, error) {
	if _, err := d.calls.do(ctx, clientOf(ctx, ""), object.Call{Op: object.OpDelete, Ref: object.Ref{Type: r.Type, ID: r.Id}}); err != nil {
		return nil, err
	}
	return &gate_pb.DeleteObjectResponse{}, nil
}

// ReliableCallObject runs a method once for its call id. What became of the call is in
// the answer; only one that was refused, or whose method panicked, is an error.
func (d *grpcDoor) ReliableCallObject(ctx context.Context, r *gate_pb.ReliableCallObjectRequest) (*gate_pb.ReliableCallObjectResponse, error) {
	if err := object.ValidCallID(r.CallId); err != nil {
		return nil, fault.New(fault.Invalid, "%w", err).On("ReliableCallObject", r.Type+"/"+r.Id+"."+r.Method)
	}
	reply, err := d.calls.do(ctx, clientOf(ctx, r.ClientId), object.Call{
		Op: object.OpCall, Ref: object.Ref{Type: r.Type, ID: r.Id}, Method: r.Method, ID: r.CallId, Payload: object.OfBinary(r.Request),
	})
	answer := &gate_pb.ReliableCallObjectResponse{Status: fault.StatusOf(err).String(), Replayed: reply.Replayed}
	switch e := fault.Of(err); {
	case e == nil:
		answer.Response = reply.Binary
	case e.Kind == fault.Failed:
		answer.Error, answer.Failure = ownWords(e), ownStatus(e)
	case e.Kind == fault.CallSettled, fault.OutcomeOf(e) == fault.OutcomeUnknown:
		answer.Error = strings.ToValidUTF8(e.Error(), "\uFFFD")
	default:
		return nil, err
	}
	return answer, nil
}

// Settle tells what became of a call, or sees to it that it does not run any more. An
// error leaves the doubt as it is.
func (d *grpcDoor) Settle(ctx context.Context, r *gate_pb.SettleRequest) (*gate_pb.SettleResponse, error) {
	reply, err := d.calls.do(ctx, clientOf(ctx, ""), object.Call{
		Op: object.OpSettle, Ref: object.Ref{Type: r.Type, ID: r.Id}, ID: r.CallId, Payload: object.OfBinary(nil),
	})
	if !isSettled(err) {
		return nil, err
	}
	answer := &gate_pb.SettleResponse{Status: fault.StatusOf(err).String()}
	switch e := fault.Of(err); {
	case e == nil:
		answer.Response = reply.Binary
	case e.Kind == fault.Failed:
		answer.Error, answer.Failure = ownWords(e), ownStatus(e)
	}
	return answer, nil
}

// ownWords is what the method said that failed.
func ownWords(e *fault.Error) string {
	words := e.Error()
	if e.Err != nil {
		words = e.Err.Error()
	}
	return strings.ToValidUTF8(words, "\uFFFD")
}

// ownStatus is the error of a method that failed as a client gets it who calls without
// an id; nothing where it cannot be carried.
func ownStatus(e *fault.Error) []byte {
	b, err := proto.Marshal(e.GRPCStatus().Proto())
	if err != nil || len(b) > maxFailure {
		return nil
	}
	return b
}

// maxFailure bounds a method's error beside what else is in an answer, in bytes.
const maxFailure = 256 << 10

// Register opens a session for the stream and sends what is pushed to it.
func (d *grpcDoor) Register(_ *emptypb.Empty, stream grpc.ServerStreamingServer[anypb.Any]) error {
	s, err := d.calls.session(stream.Context(), event.AtGRPC, nil)
	if err != nil {
		return err
	}
	defer s.Close(nil)
	if !d.busy.enter() {
		return errStopping
	}
	sent := make(chan error, 1)
	go func() {
		defer d.busy.leave()
		sent <- d.pump(s, stream)
	}()
	// Returning ends the stream, and with it a Send that the client holds up.
	select {
	case err = <-sent:
	case <-s.Done():
		select {
		case err = <-sent: // it says the last things first
		case <-time.After(lastWords):
		case <-stream.Context().Done():
		}
	case <-stream.Context().Done():
	}
	if why := s.Err(); why != nil {
		return why
	}
	return err
}

// lastWords is how long an ended session's client has to take what still waits.
const lastWords = time.Second

// pump is the one writer of a stream. It ends with the session or the stream.
func (d *grpcDoor) pump(s *gate.Session, stream grpc.ServerStreamingServer[anypb.Any]) error {
	welcome, err := anypb.New(&gate_pb.RegisterResponse{ClientId: s.ID(), UnixMillis: time.Now().UnixMilli()})
	if err != nil {
		return err
	}
	stalled := newStall(d.patient, func() { d.calls.reached(event.SlowReaders, object.Ref{}); s.Close(errStalled) })
	defer stalled.done()
	send := func(a *anypb.Any) error {
		stalled.begin()
		defer stalled.done()
		return stream.SendMsg(&batch.Watched{Message: a, Taken: stalled.taken})
	}
	if err := send(welcome); err != nil {
		return err
	}
	return drain(stream.Context(), s, func(m gate.Message) error { return send(m.Any) })
}

// drain sends a session's messages until the session or ctx ends.
func drain(ctx context.Context, s *gate.Session, send func(gate.Message) error) error {
	for ended := false; ; {
		for m, ok := s.Next(); ok; m, ok = s.Next() {
			if err := send(m); err != nil {
				return err
			}
		}
		if ended {
			return nil
		}
		select {
		case <-s.Ready():
		case <-s.Done():
			ended = true // nothing is added any more: once more round
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

var (
	errStopping = fault.New(fault.NotReady, "the gate is stopping; connect again, here or to another gate")
	errStalled  = fault.New(fault.Overloaded, "the client does not read what is sent to it; connect again and read the state anew")
	errVanished = errors.New("the client does not answer")
)
