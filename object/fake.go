package object

import (
	"context"
	"errors"

	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/internal/fault"
)

// AnswerFake answers a call by a function of a generated fake. As with a real object, an
// error of the function is the method's, unless it is one of goverseapi's own.
func AnswerFake[Q, R any, Request interface {
	*Q
	proto.Message
}, Reply interface {
	*R
	proto.Message
}](ctx context.Context, call Call, objType string, answer func(ctx context.Context, id string, req Request) (Reply, error)) (Payload, error) {
	if call.Op != OpCall || call.Ref.Type != objType || answer == nil {
		return RefuseFake(call, objType)
	}
	req, ok := call.Payload.Message.(Request)
	if !ok && call.Payload.Message != nil {
		return Payload{}, fault.New(fault.Invalid, "the method takes a %s, not a %s",
			Request(nil).ProtoReflect().Descriptor().FullName(), call.Payload.Message.ProtoReflect().Descriptor().FullName()).On(call.Op.String(), call.Subject())
	}
	if req == nil {
		req = new(Q)
	}
	reply, err := answer(ctx, call.Ref.ID, req)
	var own *fault.Error
	switch {
	case errors.As(err, &own):
		return Payload{}, own.On(call.Op.String(), call.Subject())
	case err != nil:
		return Payload{}, (&fault.Error{Kind: fault.Failed, Err: err}).On(call.Op.String(), call.Subject())
	case reply == nil:
		return Payload{}, fault.New(fault.Failed, "the fake returned neither a reply nor an error").On(call.Op.String(), call.Subject())
	}
	return OfMessage(reply), nil
}

// RefuseFake is what a fake answers that has no function for a call.
func RefuseFake(call Call, objType string) (Payload, error) {
	var e *fault.Error
	switch {
	case call.Ref.Type != objType:
		e = fault.New(fault.UnknownType, "this is a fake of %s; goversetest.NewFakes joins several", objType)
	case call.Op != OpCall:
		e = fault.New(fault.Invalid, "a fake only answers calls of methods")
	default:
		e = fault.New(fault.UnknownMethod, "the fake of %s has no function for it; set %sFunc", objType, call.Method)
	}
	return Payload{}, e.On(call.Op.String(), call.Subject())
}
