package goverseapi

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
	goverse_pb "github.com/xiaonanln/goverse/proto"
)

// GenerateCallID mints an id for WithCallID and ReliableCallObject: a UUID of version
// 7, which carries the time. It is good for 23 hours.
func GenerateCallID() string { return object.NewCallID() }

// WithCallID makes a call that runs once, however often it is made with this id, from
// wherever and through whatever crash: the first run's result is stored together with
// the object's state and its Sends, in one commit, and every later call with the id
// gets that result, for 24 hours. So the call is made again by itself when an answer was
// lost, within its deadline; and the caller may make it again after that.
//
// An error that the method returns is its result, unless its outcome is Unknown, as that
// of a call out of the method can be, or of a context that has ended: then nothing of the
// method is kept, and it runs again. A panic is no result either. An id is one call's:
// with another method or request it is ErrCallIDReused. A UUID of version 7 older than 23
// hours, or from more than 5 minutes ahead, is ErrExpiredCallID; any other id is kept for
// 24 hours from when it was first seen. The object must be durable, in a store that keeps
// results (object.ExactlyOnceProvider): else the call is ErrInvalid, and did not run.
//
// Calls out of the method get ids that are made of this one: if the method has to run
// again because its node died before the commit, they get the results of the first run.
// It has to make them as in the first run: the nth call of a method of an object, with the
// same request. What it only wants to be done goes with Send.
func WithCallID(id string) CallOption {
	return func(o *object.CallOptions) { o.ID, o.Once = id, true }
}

// ReliableCallObject is Call WithCallID, and says what became of the call:
//
//	SUCCESS  the reply is the method's
//	FAILED   the error is the method's
//	SKIPPED  it was settled before it ran, and never runs: ErrCallSettled
//	PENDING  the deadline came while it ran, or waited; ask again with the same id
//	UNKNOWN  anything else: OutcomeOf the error tells whether it may have run
func ReliableCallObject(ctx context.Context, callID, objType, objID, method string, req proto.Message) (proto.Message, goverse_pb.ReliableCallStatus, error) {
	reply, err := Call(ctx, objType, objID, method, req, WithCallID(callID))
	return reply, fault.StatusOf(err), err
}

// Settle ends the doubt about a call that was made with an id. If it ran, its result is
// returned as ReliableCallObject does, as soon as there is one. If it did not, that is
// recorded, so that it never will, not even if it is still on its way: the status is
// SKIPPED then, and the error nil. With any other error the doubt remains.
func Settle(ctx context.Context, callID, objType, objID string) (proto.Message, goverse_pb.ReliableCallStatus, error) {
	reply, err := do(ctx, object.Call{Op: object.OpSettle, Ref: object.Ref{Type: objType, ID: objID}, ID: callID})
	status := fault.StatusOf(err)
	if status == goverse_pb.ReliableCallStatus_SKIPPED {
		err = nil
	}
	return reply.Message, status, err
}

// Send calls a method of an object and waits for nothing: no reply comes back, and an
// error of the method is a line in the log.
//
// From a durable object's method it is recorded together with the method's state, in one
// commit, and leaves after it: a method whose state is not kept sends nothing, and what
// is kept is delivered, through crashes and moves, for up to 23 hours; then it is given up
// with an alarm. A durable target applies it once; a volatile one may see it more than once
// when a node dies. What one object sends to one target arrives in order.
//
// On a store that keeps no effects (object.ExactlyOnceProvider), from a volatile object
// and from outside of any method, Send returns when this process has accepted it, and
// what has not left is lost with the process.
func Send(ctx context.Context, objType, id, method string, req proto.Message) error {
	_, err := do(ctx, object.Call{Ref: object.Ref{Type: objType, ID: id}, Method: method, Payload: object.OfMessage(req), OneWay: true})
	return err
}
