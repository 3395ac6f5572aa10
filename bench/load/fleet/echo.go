package fleet

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/goverseapi"
	"github.com/xiaonanln/goverse/object"
)

// The types that are called. They differ in how long an idle object stays.
const (
	Lasting  = "Lasting"
	Fleeting = "Fleeting"
	brief    = 2 * time.Second
)

// echo is a volatile object.
type echo struct{ goverseapi.BaseObject }

// Say answers with what it was told.
func (e *echo) Say(_ context.Context, m *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
	return m, nil
}

type passing struct{ echo }

// sayer is an object with that method.
type sayer interface {
	object.Object
	Say(ctx context.Context, m *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error)
}

// service is what generated code would say of a type, so that no call needs reflection.
func service(typ string) *object.Service {
	return &object.Service{
		Name: "goverse.bench.Echo", Type: typ,
		Implements: func(o object.Object) bool { _, ok := o.(sayer); return ok },
		Methods: []object.ServiceMethod{{
			Name:    "Say",
			Request: func() proto.Message { return new(wrapperspb.BytesValue) },
			Invoke: func(ctx context.Context, o object.Object, req proto.Message) (proto.Message, error) {
				reply, err := o.(sayer).Say(ctx, req.(*wrapperspb.BytesValue))
				if reply == nil {
					return nil, err
				}
				return reply, err
			},
		}},
	}
}

// newTypes is what the nodes host.
func newTypes() (*object.Types, error) {
	types := object.NewTypes()
	return types, errors.Join(
		types.Register((*echo)(nil), service(Lasting).TypeOption(goverseapi.WithIdleTimeout(-1))),
		types.Register((*passing)(nil), service(Fleeting).TypeOption(goverseapi.WithIdleTimeout(brief))),
	)
}

// Ref refers to one object. It is what generated code would make: a value, free to copy
// and to keep.
type Ref struct{ object.Callee }

// NewRef refers to the object with this type and id.
func NewRef(caller object.Caller, typ, id string) Ref {
	return Ref{object.NewCallee(caller, typ, id)}
}

// Say makes one call.
func (r Ref) Say(ctx context.Context, m *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
	return object.CallMethod[wrapperspb.BytesValue](ctx, r.Callee, object.Call{Method: "Say"}, m, nil)
}
