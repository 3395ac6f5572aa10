package object

import (
	"context"
	"reflect"

	"google.golang.org/protobuf/proto"
)

// Subscribable is an object that clients may subscribe to.
type Subscribable interface {
	// OnSubscribe returns the state as it is shown to the client that asks, whose
	// identity is in ctx, or refuses it with an error. It runs as a read-only method,
	// for each client, and again whenever changes were missed.
	OnSubscribe(ctx context.Context) (proto.Message, error)
}

// SubscribeMethod is how a subscription is named where calls are: in errors, in a path,
// to interceptors.
const SubscribeMethod = "OnSubscribe"

// Subscribable says whether clients may subscribe to objects of the type. One that has a
// callable method of that name keeps that instead.
func (t *Type) Subscribable() bool {
	return t.Methods[SubscribeMethod] == nil && reflect.PointerTo(t.elem).Implements(subscribableType)
}

var subscribableType = reflect.TypeFor[Subscribable]()

// NewReader makes a read-only method that belongs to no type: a node's own.
func NewReader(name string, request proto.Message, invoke func(ctx context.Context, o Object, req proto.Message) (proto.Message, error)) *Method {
	return &Method{Name: name, ReadOnly: true, Request: request, invoke: invoke}
}
