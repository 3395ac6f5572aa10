package gateserver

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// Interceptor runs around what clients ask of a gate: calls, creations and deletions. It
// comes behind the check of names, limits and the caller, and before the object's node is
// looked for. It returns what next returns, or something else in its place, and may hand
// another request to next. Messages pass as they came, an Any or JSON, which the gate
// does not read; an interceptor may hand on or return a live message (object.OfMessage),
// which takes the form of the client's request.
//
// It may call next not at all, and then an error says NotExecuted; or again, which makes
// the call again: what failed with another outcome than NotExecuted may then run twice. A
// panic in it fails the call and nothing else. It is called concurrently.
type Interceptor func(ctx context.Context, call *object.CallInfo, req object.Payload, next Next) (object.Payload, error)

// Next is the rest of a client's call: the interceptors further in, and the cluster.
type Next func(ctx context.Context, req object.Payload) (object.Payload, error)

// forward hands the call to the router, through the interceptors.
func (c *calls) forward(ctx context.Context, call object.Call) (object.Payload, error) {
	if len(c.around) == 0 {
		return c.router.Call(ctx, call)
	}
	p := &passage{calls: c, call: call, asker: callctx.From(ctx), outcome: fault.NotExecuted}
	reply, err := p.run(ctx)
	if err != nil {
		return reply, err
	}
	if reply, err = p.inForm(reply); err != nil {
		return reply, fault.New(fault.Failed, "an interceptor of the gate returned what is no answer to this call: %w", err).With(p.reached())
	}
	return reply, nil
}

// passage is one call on its way through the interceptors of a gate.
type passage struct {
	calls *calls
	call  object.Call
	asker *callctx.Info

	mu      sync.Mutex    // protects following fields
	outcome fault.Outcome // of what reached the router
	failed  *fault.Error  // the router's last error
}

func (p *passage) run(ctx context.Context) (reply object.Payload, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = p.panicked(v)
		}
	}()
	info := p.info()
	next := Next(p.route)
	for i := len(p.calls.around) - 1; i >= 0; i-- {
		outer, inner := p.calls.around[i], next
		next = func(ctx context.Context, req object.Payload) (object.Payload, error) {
			return outer(ctx, info, req, inner)
		}
	}
	if reply, err = next(ctx, p.call.Payload); err != nil {
		return object.Payload{Replayed: reply.Replayed, Unsaved: reply.Unsaved}, p.blame(err)
	}
	return reply, nil
}

func (p *passage) info() *object.CallInfo {
	who := &p.asker.Caller
	return &object.CallInfo{
		Op: p.call.Op, Ref: p.call.Ref, Method: p.call.Method, CallID: p.call.ID, ReadOnly: p.call.ReadOnly,
		Client: who.Client, ClientID: who.ClientID, UserID: who.UserID, Roles: who.Roles,
	}
}

// route is the innermost Next.
func (p *passage) route(ctx context.Context, req object.Payload) (object.Payload, error) {
	if callctx.From(ctx) != p.asker {
		return object.Payload{}, fault.New(fault.Invalid, "an interceptor of the gate handed a context to next that is not made of its own")
	}
	call := p.call
	var err error
	if call.Payload, err = p.inForm(req); err != nil {
		return object.Payload{}, fault.New(fault.Invalid, "an interceptor of the gate handed on what is no request: %w", err)
	}
	reply, err := p.calls.router.Call(ctx, call)
	p.note(err)
	return reply, err
}

// note adds one answer of the router: what ran once has run.
func (p *passage) note(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed = fault.Of(err)
	if o := fault.OutcomeOf(err); p.outcome != fault.Executed && o != fault.NotExecuted {
		p.outcome = o
	}
}

// reached says how far the call has come.
func (p *passage) reached() fault.Outcome {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.outcome
}

// inForm brings a payload into the form of the client's request.
func (p *passage) inForm(m object.Payload) (object.Payload, error) {
	want := p.call.Payload.Form
	switch {
	case m.Form == want:
		return m, nil
	case m.Form != object.FormMessage:
		return object.Payload{}, fmt.Errorf("it has another form than the client's request")
	case m.Message == nil:
		return object.Payload{Form: want}, nil
	case want == object.FormBinary:
		a, err := anypb.New(m.Message)
		return object.OfBinary(a), err
	default:
		b, err := protojson.Marshal(m.Message)
		return object.OfJSON(b), err
	}
}

// blame is the error of a call that failed: the router's own, whatever interceptors have
// put around it, or theirs.
func (p *passage) blame(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := fault.Of(err)
	if e != p.failed {
		return fault.Refused(err, p.outcome)
	}
	c := *e.With(p.outcome)
	if err != error(e) {
		c.Err = err
	}
	return &c
}

func (p *passage) panicked(v any) error {
	v = fault.Thrown(v)
	if on := p.calls.on.MethodPanicked; on != nil {
		on(event.MethodPanicked{Type: p.call.Ref.Type, ID: p.call.Ref.ID, Method: p.call.Method, Value: v, Stack: debug.Stack()})
	}
	return fault.New(fault.Panicked, "an interceptor of the gate panicked: %v", v).With(p.reached())
}
