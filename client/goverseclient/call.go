package goverseclient

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
	goverse_pb "github.com/xiaonanln/goverse/proto"
	"github.com/xiaonanln/goverse/util/protohelper"
)

// CallOption says how one call is to be made, by name or through a typed reference. It is
// goverseapi.CallOption: either package's options fit calls of the other.
type CallOption = object.CallOption

// WithAtLeastOnce lets the client repeat the call when the answer was lost, so that
// it may run more than once. It is for methods that do no harm when they do.
func WithAtLeastOnce() CallOption { return func(o *object.CallOptions) { o.AtLeastOnce = true } }

// WithTimeout bounds the call, its repetitions included; the context's own deadline still
// holds.
func WithTimeout(d time.Duration) CallOption {
	return func(o *object.CallOptions) { o.Timeout = d }
}

// WithUnsaved sets *unsaved when the call has ended: true where a Periodic object replied,
// and not all of what it told was stored yet, so that a crash within its interval takes
// that back. Of a call that failed it says nothing.
func WithUnsaved(unsaved *bool) CallOption {
	return func(o *object.CallOptions) { o.Unsaved = unsaved }
}

// CallObject calls a method of an object and returns its reply. A nil request or
// reply is an absent message. The call takes as long as ctx allows or, if ctx has no
// deadline, the call timeout.
//
// An attempt that surely did not run is repeated within that time, at another gate if
// this one goes. Whether a call that failed ran is OutcomeOf its error; one that is
// Unknown was not repeated, except WithAtLeastOnce and WithCallID.
func (c *Client) CallObject(ctx context.Context, objType, objID, method string, req proto.Message, opts ...CallOption) (proto.Message, error) {
	call := object.Call{Ref: object.Ref{Type: objType, ID: objID}, Method: method, Payload: object.OfMessage(req)}
	o, err := object.OptionsOf(opts)
	if err != nil {
		return nil, fault.Of(err).On(call.Op.String(), call.Subject())
	}
	ctx, cancel := o.Apply(ctx, &call)
	defer cancel()
	reply, err := c.Do(ctx, call)
	o.Heard(reply)
	return reply.Message, err
}

// CallObjectAny is CallObject for messages whose types the program need not link.
func (c *Client) CallObjectAny(ctx context.Context, objType, objID, method string, req *anypb.Any, opts ...CallOption) (*anypb.Any, error) {
	call := object.Call{Ref: object.Ref{Type: objType, ID: objID}, Method: method}
	o, err := object.OptionsOf(opts)
	if err != nil {
		return nil, fault.Of(err).On(call.Op.String(), call.Subject())
	}
	ctx, cancel := o.Apply(ctx, &call)
	defer cancel()
	f := flightOf(&call)
	reply, err := c.callObject(ctx, f, &call, req)
	o.Heard(object.Payload{Unsaved: f.unsaved})
	return reply, err
}

// Do implements goverseapi.Caller, so that typed references call through the client:
//
//	chat_pb.NewChatRoomRef(client, "general").Join(ctx, &chat_pb.JoinRequest{UserName: "guest"})
func (c *Client) Do(ctx context.Context, call object.Call) (object.Payload, error) {
	f := flightOf(&call)
	if call.Op != object.OpCall || call.OneWay || call.Payload.Form != object.FormMessage {
		return object.Payload{}, f.named(fault.New(fault.Invalid, "a client makes calls that it waits for, with live messages, and no others"))
	}
	request, err := protohelper.MsgToAny(call.Payload.Message)
	if err != nil {
		return object.Payload{}, f.named(fault.New(fault.Invalid, "the request: %w", err))
	}
	reply, err := c.callObject(ctx, f, &call, request)
	if err != nil {
		return object.Payload{}, err
	}
	m, err := f.unpack(reply)
	return object.Payload{Message: m, Unsaved: f.unsaved}, err
}

// callObject makes a call, once if it has an id.
func (c *Client) callObject(ctx context.Context, f *flight, call *object.Call, req *anypb.Any) (reply *anypb.Any, err error) {
	if f.once {
		reply, _, err = c.callOnce(ctx, f, call, req)
		return reply, err
	}
	err = c.fly(ctx, f, func(ctx context.Context, l *link) error {
		r, err := l.calls.CallObject(ctx, &gate_pb.CallObjectRequest{ClientId: l.id, Type: call.Ref.Type, Id: call.Ref.ID, Method: call.Method, Request: req})
		reply, f.unsaved = r.GetResponse(), r != nil && r.Durable != nil && !*r.Durable
		return err
	})
	return reply, err
}

// CreateObject makes an object and returns its id, which the gate chooses if objID is
// empty. ErrExists says that there is one already.
func (c *Client) CreateObject(ctx context.Context, objType, objID string) (id string, err error) {
	err = c.fly(ctx, flightOf(&object.Call{Op: object.OpCreate, Ref: object.Ref{Type: objType, ID: objID}}), func(ctx context.Context, l *link) error {
		r, err := l.calls.CreateObject(ctx, &gate_pb.CreateObjectRequest{Type: objType, Id: objID})
		id = r.GetId()
		return err
	})
	return id, err
}

// DeleteObject removes an object and its stored state. Nothing is wrong if there is
// none.
func (c *Client) DeleteObject(ctx context.Context, objType, objID string) error {
	return c.fly(ctx, flightOf(&object.Call{Op: object.OpDelete, Ref: object.Ref{Type: objType, ID: objID}}), func(ctx context.Context, l *link) error {
		_, err := l.calls.DeleteObject(ctx, &gate_pb.DeleteObjectRequest{Type: objType, Id: objID})
		return err
	})
}

// flight is one call on its way, with all its attempts.
type flight struct {
	op, subject string
	atLeastOnce bool
	once        bool // callID counts: it may always be made again
	callID      string
	attempts    int
	last        *fault.Error // why the last attempt failed
	unsure      bool         // some attempt may have run
	unsaved     bool         // not all of what the reply tells is stored yet

	ref     object.Ref
	method  string
	place   *callctx.Trace // in a trace; nil: it is in none that is kept
	verdict func() error   // what an answer without an error comes to; nil: all is well
}

func flightOf(call *object.Call) *flight {
	return &flight{op: call.Op.String(), subject: call.Subject(), atLeastOnce: call.AtLeastOnce, once: call.ID != "", callID: call.ID, ref: call.Ref, method: call.Method}
}

// named is the error that the caller gets: it says what was called, and counts each
// attempt.
func (f *flight) named(e *fault.Error) error {
	if f.unsure && fault.OutcomeOf(e) == NotExecuted {
		e = e.With(Unknown)
	}
	return e.On(f.op, f.subject)
}

func (f *flight) unpack(reply *anypb.Any) (proto.Message, error) {
	m, err := protohelper.AnyToMsg(reply)
	if err != nil {
		return nil, f.named(fault.New(fault.Invalid, "the call ran, but its reply cannot be read: %w", err).With(Executed))
	}
	return m, nil
}

var callBackoff = backoff{first: 10 * time.Millisecond, max: time.Second}

// fly makes attempts until one succeeds or none may follow, all in one span if they are
// traced.
func (c *Client) fly(ctx context.Context, f *flight, send func(context.Context, *link) error) error {
	ctx, span := c.traced(ctx, f)
	if span == nil {
		return c.tryAll(ctx, f, send)
	}
	err := c.tryAll(ctx, f, send)
	span.End(f.outcome(err))
	return err
}

func (c *Client) tryAll(ctx context.Context, f *flight, send func(context.Context, *link) error) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.cfg.callTimeout)
		defer cancel()
	}
	c.budget.earn()
	for ; ; f.attempts++ {
		l, err := c.take(ctx, f.last)
		if err != nil {
			return f.named(err)
		}
		err = c.attempt(ctx, l, f, send)
		l.exit()
		if err == nil {
			return nil
		}
		if !f.again(err) {
			return f.named(err)
		}
		if err := c.hold(ctx, l, f); err != nil {
			return f.named(err)
		}
	}
}

// attempt makes the call over l. The context of send also tells HandleRPC how far it
// came.
func (c *Client) attempt(ctx context.Context, l *link, f *flight, send func(context.Context, *link) error) *fault.Error {
	t := &trace{place: f.place}
	err := send(context.WithValue(ctx, traceKey{}, t), l)
	if err == nil {
		l.succeeded()
		return nil
	}
	e := l.explain(ctx, err, t)
	if c.life.Err() != nil && !t.answered.Load() {
		return closed(t.sent.Load())
	}
	switch {
	case !e.Kind.Row().Reroutes:
		if t.answered.Load() {
			l.succeeded() // the gate serves; what failed is the call
		}
	case len(c.addresses) > 1 && l.refuses():
		l.desert(e)
	}
	return e
}

// explain says what became of a call that gRPC gave no reply to.
func (l *link) explain(ctx context.Context, err error, t *trace) *fault.Error {
	var own *fault.Error
	if errors.As(err, &own) {
		return own
	}
	st, sent, over := status.Convert(err), t.sent.Load(), over(ctx)
	switch {
	case carriesFault(err):
		return fault.Of(fault.FromStatus(err))
	case over != nil && (!t.answered.Load() || st.Code() == codes.DeadlineExceeded || st.Code() == codes.Canceled):
		return ended(over, l.address, sent)
	case t.answered.Load():
		return answered(err, st.Code())
	case st.Code() == codes.ResourceExhausted:
		return fault.New(fault.TooLarge, "between here and the gate %s: %s", l.address, st.Message()).With(outcome(sent))
	case sent:
		return fault.New(fault.Indeterminate, "the answer of the gate %s was lost: %s", l.address, st.Message())
	case st.Code() == codes.Unavailable:
		return fault.New(fault.NotReady, "the gate %s cannot be reached: %s", l.address, st.Message())
	case st.Code() == codes.Unauthenticated:
		return fault.New(fault.Unauthenticated, "the call was not sent: %s", st.Message())
	default:
		return fault.New(fault.Invalid, "the call was not sent: %s", st.Message())
	}
}

// answered is the error behind a status that came from beyond the gate's own words:
// the object's method returned it. Some codes are also what the road itself says,
// and then nothing is known.
func answered(err error, code codes.Code) *fault.Error {
	e := &fault.Error{Kind: fault.Failed, Err: err}
	switch code {
	case codes.Unavailable, codes.Canceled, codes.DeadlineExceeded, codes.ResourceExhausted:
		return e.With(Unknown)
	}
	return e
}

func outcome(sent bool) Outcome {
	if sent {
		return Unknown
	}
	return NotExecuted
}

// over says whether ctx has ended, also if its timer has not fired yet: those of gRPC
// and of the gate may be first.
func over(ctx context.Context) error {
	if at, ok := ctx.Deadline(); ok && ctx.Err() == nil && !time.Now().Before(at) {
		return context.DeadlineExceeded
	}
	return ctx.Err()
}

// ended is the error of a call that its context ended, sent or not.
func ended(cause error, address string, sent bool) *fault.Error {
	if sent {
		return fault.WaitedFor(cause, "waiting for the answer of the gate %s", address).With(Unknown)
	}
	return fault.WaitedFor(cause, "sending it to the gate %s", address)
}

func carriesFault(err error) bool {
	for _, d := range status.Convert(err).Details() {
		if _, ok := d.(*goverse_pb.Fault); ok {
			return true
		}
	}
	return false
}

// again is the retry law: what surely did not run, for a reason that passes; and, if
// the caller says that it may, what was lost on the road.
func (f *flight) again(e *fault.Error) bool {
	f.last = e
	switch o := fault.OutcomeOf(e); {
	case o == NotExecuted:
		return e.Kind.Row().Reroutes || e.Kind == fault.Overloaded
	case o == Unknown && e.Kind == fault.Indeterminate:
		f.unsure = true
		return f.atLeastOnce || f.once
	default:
		f.unsure = f.unsure || o == Unknown
		return false
	}
}

// hold waits before a repetition, not at all if the gate that failed is gone. Asking
// the same gate once more costs the budget; a call that has an id waits for that too.
func (c *Client) hold(ctx context.Context, l *link, f *flight) *fault.Error {
	wait := max(f.last.RetryAfter, callBackoff.delay(f.attempts, rand.Float64()))
	for {
		if !l.isLeft() {
			pause(ctx, wait, l.gone)
		}
		switch {
		case l.isLeft():
			return nil
		case ctx.Err() != nil:
			return fault.WaitedFor(ctx.Err(), "trying again: %v", f.last)
		case c.budget.spend(time.Now()):
			return nil
		case !f.once:
			return f.last
		}
		wait = callBackoff.max
	}
}
