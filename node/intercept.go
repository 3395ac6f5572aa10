package node

import (
	"context"
	"reflect"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// interception is one method with interceptors around it. The turn is theirs for as long
// as any of them runs.
type interception struct {
	frame *frame
	call  *call

	mu     sync.Mutex // protects following fields
	begun  bool       // the method, or it is over
	ran    bool
	failed error         // the method's own
	done   chan struct{} // closed when the method has ended; nil before it began
}

// intercepted says that the type's methods have interceptors around them.
func (a *activation) intercepted() bool {
	return len(a.node.cfg.Interceptors) > 0 || len(a.typ.Interceptors) > 0
}

// interceptAll runs the node's interceptors, the type's, and the method.
func (f *frame) interceptAll(c *call) (reply proto.Message, err error) {
	in := &interception{frame: f, call: c}
	before := f.act.usesNow()
	info := infoOf(c)
	next := object.Next(in.method)
	for _, around := range [][]object.Interceptor{f.act.typ.Interceptors, f.act.node.cfg.Interceptors} {
		for i := len(around) - 1; i >= 0; i-- {
			outer, inner := around[i], next
			next = func(ctx context.Context, req proto.Message) (proto.Message, error) {
				return outer(ctx, info, req, inner)
			}
		}
	}
	defer in.close() // also behind a panic, or the end of the goroutine
	reply, err = next(&f.ctx, c.message)
	in.close()
	switch {
	case f.panicked:
		return nil, in.failed
	case !in.ran:
		f.skipped, f.idle = true, f.act.usesNow() == before
	case in.failed != nil:
		f.mu.Lock()
		f.more().failed = in.failed
		f.mu.Unlock()
	}
	if err != nil || reply == nil || !reply.ProtoReflect().IsValid() {
		return nil, err
	}
	return f.act.typ.Apart(f.act.obj, reply), nil
}

// infoOf is what interceptors are told of a call.
func infoOf(c *call) *object.CallInfo {
	who := &c.info.Caller
	info := &object.CallInfo{
		Ref: c.ref, Method: c.method.Name, CallID: c.id, ReadOnly: c.method.ReadOnly,
		Client: who.Client, ClientID: who.ClientID, UserID: who.UserID, Roles: who.Roles,
	}
	for _, t := range c.chain.Path {
		info.Chain = append(info.Chain, t.String())
	}
	return info
}

// usesNow tells whether somebody has left a turn since it was asked before.
func (a *activation) usesNow() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.turns.uses
}

// method is the innermost Next.
func (in *interception) method(ctx context.Context, req proto.Message) (reply proto.Message, err error) {
	if err := in.check(ctx, req); err != nil {
		return nil, err
	}
	in.mu.Lock()
	if in.begun {
		in.mu.Unlock()
		return nil, fault.New(fault.Invalid, "an interceptor called next a second time, or after it had returned: the method runs once, on its turn")
	}
	in.begun, in.ran, in.done = true, true, make(chan struct{})
	in.mu.Unlock()
	defer func() {
		in.mu.Lock()
		in.failed = err
		in.mu.Unlock()
		close(in.done)
	}()
	return in.frame.contain(ctx, in.call, req)
}

// check refuses what would let the method run outside of its call.
func (in *interception) check(ctx context.Context, req proto.Message) error {
	if callctx.From(ctx) != &in.frame.info {
		return fault.New(fault.Invalid, "an interceptor handed a context to next that is not made of its own")
	}
	if want := in.call.method.Request; req == nil || reflect.TypeOf(req) != reflect.TypeOf(want) || !req.ProtoReflect().IsValid() {
		return fault.New(fault.Invalid, "an interceptor handed a %T to next; the method takes a %T", req, want)
	}
	return nil
}

// close lets the method begin no more, and waits for one that an interceptor has left
// behind.
func (in *interception) close() {
	in.mu.Lock()
	in.begun = true
	done := in.done
	in.mu.Unlock()
	if done != nil {
		<-done
	}
}

// contain runs the method, and makes an error of its panic.
func (f *frame) contain(ctx context.Context, c *call, req proto.Message) (reply proto.Message, err error) {
	returned := false
	defer func() {
		p := recover()
		if p == nil && returned {
			return
		}
		reply, err = nil, f.broke(c, p)
	}()
	reply, err = c.method.Invoke(ctx, f.act.obj, req)
	returned = true
	return f.act.typ.Apart(f.act.obj, reply), err
}

// own is the method's error, whatever its interceptors made of that.
func (f *frame) own() error {
	if f.rare == nil {
		return nil
	}
	return f.rare.failed
}
