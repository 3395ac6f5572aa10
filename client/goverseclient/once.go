package goverseclient

import (
	"context"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
	goverse_pb "github.com/xiaonanln/goverse/proto"
	"github.com/xiaonanln/goverse/util/protohelper"
)

// WithCallID makes a call that runs once, however often it is made with this id, of
// GenerateCallID or the program's own: each time has the one result, for 24 hours. So the
// client makes it again with the same id whenever its answer was lost, at another gate if
// this one goes, as long as the call's context or the call timeout allows. If that was
// not enough the error is Unknown: make the call again with the id, or Settle it.
// ErrCallSettled: it was settled before it ran.
//
// An id is one call's: with another method or request it is ErrCallIDReused. A cluster
// that does not keep the object's results refuses the call as ErrInvalid.
func WithCallID(id string) CallOption {
	return func(o *object.CallOptions) { o.ID, o.Once = id, true }
}

// ReliableCallObject is CallObject WithCallID, and says what became of the call.
//
// The status is the gate's word: SUCCESS comes with the reply, FAILED with the
// method's error, SKIPPED with ErrCallSettled, every other with an error that says what
// is known. A cluster that does not keep the object's results refuses such calls:
// ErrInvalid, NotExecuted.
func (c *Client) ReliableCallObject(ctx context.Context, callID, objType, objID, method string, req proto.Message) (proto.Message, goverse_pb.ReliableCallStatus, error) {
	call := object.Call{Ref: object.Ref{Type: objType, ID: objID}, Method: method, ID: callID}
	f := flightOf(&call)
	f.op, f.once = "ReliableCallObject", true
	request, err := protohelper.MsgToAny(req)
	if err != nil {
		return nil, goverse_pb.ReliableCallStatus_UNKNOWN, f.named(fault.New(fault.Invalid, "the request: %w", err))
	}
	reply, s, err := c.callOnce(ctx, f, &call, request)
	if err != nil {
		return nil, s, err
	}
	m, err := f.unpack(reply)
	return m, s, err
}

// callOnce makes a call that has an id until its end is known.
func (c *Client) callOnce(ctx context.Context, f *flight, call *object.Call, request *anypb.Any) (*anypb.Any, goverse_pb.ReliableCallStatus, error) {
	if f.callID == "" {
		return nil, goverse_pb.ReliableCallStatus_UNKNOWN, f.named(fault.New(fault.Invalid, "it needs a call id; without one, use CallObject"))
	}
	var answer, last *gate_pb.ReliableCallObjectResponse
	f.verdict = func() error { _, _, err := f.concluded(answer); return err }
	err := c.fly(ctx, f, func(ctx context.Context, l *link) (err error) {
		answer, err = l.calls.ReliableCallObject(ctx, &gate_pb.ReliableCallObjectRequest{
			ClientId: l.id, CallId: f.callID, Type: call.Ref.Type, Id: call.Ref.ID, Method: call.Method, Request: request,
		})
		switch {
		case isMissing(err):
			return fault.New(fault.UnknownMethod, "%s", status.Convert(err).Message()) // a method's own error would be in the answer
		case err == nil && doubtful[answer.Status]:
			last = answer
			return fault.New(fault.Indeterminate, "the gate answers %s: %s", answer.Status, answer.Error)
		}
		return err
	})
	switch {
	case err == nil:
		return f.concluded(answer)
	case last != nil && OutcomeOf(err) == Unknown: // the last word on it
		return f.concluded(last)
	}
	return nil, goverse_pb.ReliableCallStatus_UNKNOWN, err
}

// isMissing: what answers has no such method at all.
func isMissing(err error) bool {
	return status.Code(err) == codes.Unimplemented && !carriesFault(err)
}

// doubtful is what a gate answers that does not know, or not yet.
var doubtful = map[string]bool{
	goverse_pb.ReliableCallStatus_PENDING.String(): true,
	goverse_pb.ReliableCallStatus_UNKNOWN.String(): true,
}

// concluded is what a gate's answer to ReliableCallObject means.
func (f *flight) concluded(r *gate_pb.ReliableCallObjectResponse) (*anypb.Any, goverse_pb.ReliableCallStatus, error) {
	switch s := statusOf(r.Status); s {
	case goverse_pb.ReliableCallStatus_SUCCESS:
		return r.Response, s, nil
	case goverse_pb.ReliableCallStatus_FAILED:
		return nil, s, f.named(failure(r))
	case goverse_pb.ReliableCallStatus_SKIPPED:
		return nil, s, fault.New(fault.CallSettled, "%s", why(r)).On(f.op, f.subject) // which ends every doubt
	case goverse_pb.ReliableCallStatus_PENDING:
		return nil, s, f.named(fault.New(fault.Indeterminate, "the call has not ended yet, ask again with its id: %s", why(r)))
	default:
		return nil, s, f.named(fault.New(fault.Indeterminate, "the gate answers %q: %s", r.Status, why(r)))
	}
}

// Settle ends the doubt about a call that was made with an id, to the object that is
// named. If the call ran, its result is returned as ReliableCallObject does, as soon as
// there is one. If it did not, that is recorded, so that it never will, not even if it is
// still on its way: the status is SKIPPED then, and the error nil. With any other error
// the doubt remains, and its outcome is Unknown; settle again.
func (c *Client) Settle(ctx context.Context, callID, objType, objID string) (proto.Message, goverse_pb.ReliableCallStatus, error) {
	const unknown = goverse_pb.ReliableCallStatus_UNKNOWN
	f := flightOf(&object.Call{Op: object.OpSettle, Ref: object.Ref{Type: objType, ID: objID}, ID: callID})
	f.once, f.unsure = true, true // whatever becomes of the settling, the call may have run
	if callID == "" {
		return nil, unknown, f.named(fault.New(fault.Invalid, "it needs the id of the call"))
	}
	var answer *gate_pb.SettleResponse
	err := c.fly(ctx, f, func(ctx context.Context, l *link) (err error) {
		answer, err = l.calls.Settle(ctx, &gate_pb.SettleRequest{CallId: callID, Type: objType, Id: objID})
		if isMissing(err) {
			return fault.New(fault.UnknownMethod, "this gate settles no calls: %s", status.Convert(err).Message())
		}
		return err
	})
	if err != nil {
		return nil, unknown, err
	}
	switch s := statusOf(answer.Status); s {
	case goverse_pb.ReliableCallStatus_SUCCESS:
		m, err := f.unpack(answer.Response)
		return m, s, err
	case goverse_pb.ReliableCallStatus_FAILED:
		return nil, s, failure(answer).On(f.op, f.subject)
	case goverse_pb.ReliableCallStatus_SKIPPED:
		return nil, s, nil
	}
	return nil, unknown, f.named(fault.New(fault.Indeterminate, "the gate answers %q", answer.Status))
}

// statusOf is UNKNOWN for what is not known.
func statusOf(name string) goverse_pb.ReliableCallStatus {
	return goverse_pb.ReliableCallStatus(goverse_pb.ReliableCallStatus_value[name])
}

// failed is an answer that may say why a method failed.
type failed interface {
	GetError() string
	GetFailure() []byte
}

// failure is the error of a method that failed, with its own gRPC status if it
// returned one.
func failure(r failed) *fault.Error {
	own := new(spb.Status)
	if b := r.GetFailure(); len(b) > 0 && proto.Unmarshal(b, own) == nil && own.Code != int32(codes.OK) {
		if err := status.ErrorProto(own); !carriesFault(err) {
			return (&fault.Error{Kind: fault.Failed, Err: err}).With(Executed)
		}
	}
	return fault.New(fault.Failed, "%s", why(r))
}

func why(r failed) string {
	if text := r.GetError(); text != "" {
		return text
	}
	return "the gate does not say why"
}
