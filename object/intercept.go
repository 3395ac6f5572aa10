package object

import (
	"context"
	"reflect"
	"slices"

	"google.golang.org/protobuf/proto"
)

// CallInfo is a call as interceptors see it. It is theirs to read, and shared by them.
type CallInfo struct {
	Op       Op // OpCall on a node; on a gate also OpCreate and OpDelete
	Ref      Ref
	Method   string // of an OpCall
	CallID   string // "" for a call that has none
	ReadOnly bool   // the method only reads; on a gate: the client says that it has to

	// Who asked first, as goverseapi.CallerUserID and its like say it.
	Client   bool   // a client, through a gate
	ClientID string // its session, if it has one
	UserID   string
	Roles    []string

	// Chain is the methods that wait for this call, the outermost first, each as
	// Type/id.Method. It is empty for a root call, and so on a gate.
	Chain []string
}

// Interceptor runs around the methods of a node's objects, on the object's turn: other
// calls wait for it as for the method. It returns what next returns, or something else
// in its place; what it hands to next is the method's request, and may be another message
// of the same type. It may call next once, or not at all: then the method does not run,
// an error says so (NotExecuted), and a call with an id leaves no record, so that it may
// be made again.
//
// ctx is the method's, and what is handed to next is made of it. An interceptor may call
// other objects and push as the method may. The reply that it sees is not stored yet. A
// panic in it ends the activation, as one of the method does; that one it gets as an
// error, which it cannot turn into anything else.
//
// A call that finds the record of its id runs no method, and no interceptor. Creating,
// deleting and settling are no methods.
type Interceptor func(ctx context.Context, call *CallInfo, req proto.Message, next Next) (proto.Message, error)

// Next is the rest of a call: the interceptors further in, and the method.
type Next func(ctx context.Context, req proto.Message) (proto.Message, error)

// Intercept puts interceptors around the type's methods, inside of the node's: the first
// is the outermost.
func Intercept(around ...Interceptor) TypeOption {
	return func(o *Options) { o.Interceptors = append(o.Interceptors, around...) }
}

// sameOptions compares what two registrations of a type ask for, functions by their code.
func sameOptions(a, b Options) bool {
	same := slices.EqualFunc(a.Interceptors, b.Interceptors, func(f, g Interceptor) bool {
		return reflect.ValueOf(f).Pointer() == reflect.ValueOf(g).Pointer()
	})
	a.Interceptors, b.Interceptors = nil, nil
	return same && reflect.DeepEqual(a, b)
}
