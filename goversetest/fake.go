package goversetest

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// Fakes are generated fakes of several object types, joined to one caller, in tests of
// code that needs no cluster. Its Context lets also the functions of goverseapi, and so
// an object's method that a test runs by hand, call the fakes. Its methods may be called
// concurrently.
//
//	rooms := &chat_pb.ChatRoomFake{LeaveFunc: ...}
//	fakes := goversetest.NewFakes(rooms, users)
//	reply, err := lobby.Close(fakes.Context(t.Context()), req)
type Fakes struct {
	callers []object.Caller

	mu     sync.Mutex
	pushed []object.Push
}

// NewFakes joins callers: each call is the first one's whose type is called.
func NewFakes(callers ...object.Caller) *Fakes { return &Fakes{callers: callers} }

// Do implements goverseapi.Caller.
func (f *Fakes) Do(ctx context.Context, call object.Call) (object.Payload, error) {
	for _, c := range f.callers {
		reply, err := c.Do(ctx, call)
		var e *fault.Error
		if errors.As(err, &e) && e.Kind == fault.UnknownType {
			continue
		}
		return reply, err
	}
	return object.Payload{}, fault.New(fault.UnknownType, "none of the fakes is of type %q", call.Ref.Type).On(call.Op.String(), call.Subject())
}

// Call implements object.Runtime.
func (f *Fakes) Call(ctx context.Context, call object.Call) (object.Payload, error) {
	return f.Do(ctx, call)
}

// Push implements object.Runtime: it keeps what is pushed, for Pushed.
func (f *Fakes) Push(_ context.Context, push object.Push) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pushed = append(f.pushed, push)
	return nil
}

// Pushed is what was pushed so far, in order.
func (f *Fakes) Pushed() []object.Push {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.pushed)
}

// Context carries the fakes as the runtime.
func (f *Fakes) Context(ctx context.Context) context.Context { return object.WithRuntime(ctx, f) }
