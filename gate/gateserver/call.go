package gateserver

import (
	"context"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/gate"
	"github.com/xiaonanln/goverse/internal/access"
	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// maxMessage bounds every message in and out, in bytes.
const maxMessage = 4 << 20

// calls is the one way from every door to the router: it checks the names, says
// who asks, and keeps the limits.
type calls struct {
	router   Router
	gate     *gate.Gate
	feeds    *gate.Feeds
	timeouts [4]time.Duration // by object.Op
	busy     *crowd
	around   []Interceptor
	on       event.Listener // of their panics, and of limits
	running  atomic.Int64
	made     atomic.Uint64 // calls that were let in
	sizes    answerSizes
	untaken  *untaken
	visitors *guests
	tracer   *tracer // nil: nothing is traced

	authority *authority    // nil: nobody asks who clients are
	rules     *access.Rules // nil: everything is allowed
}

func newCalls(cfg *GateServerConfig, router Router, g *gate.Gate, busy *crowd) *calls {
	rules, _ := access.Compile(cfg.ObjectAccessRules, cfg.ObjectLifecycleRules) // Validate has reported what is wrong
	c := &calls{
		rules: rules, router: router, gate: g, busy: busy, around: cfg.Interceptors,
		timeouts: [...]time.Duration{
			object.OpCall: cfg.DefaultCallTimeout, object.OpCreate: cfg.DefaultCreateTimeout, object.OpDelete: cfg.DefaultDeleteTimeout,
			object.OpSettle: cfg.DefaultCallTimeout,
		},
	}
	c.visitors = newVisitors(cfg, func(l event.Limit) { c.reached(l, object.Ref{}) })
	c.untaken = c.visitors.untaken
	return c
}

// session opens a session once pushes to it will arrive, so that none is missed while
// the gate starts. When the cluster lets that wait too long, the client comes in
// without. back is what a client says that may come back; nil: it does not.
func (c *calls) session(ctx context.Context, door event.Door, back *comeback) (*gate.Session, error) {
	if a := askerOf(ctx); a != nil {
		if refusal := a.address.session(); refusal != nil {
			return nil, refusal
		}
	}
	late := time.NewTimer(latePushes)
	defer late.Stop()
	select {
	case <-c.router.PushesReady():
	case <-late.C:
	case <-ctx.Done():
		return nil, fault.Waited(ctx, "the gate does not hear the cluster's nodes yet")
	}
	open := c.sessionOf
	if c.authority == nil {
		open = func(ctx context.Context, back *comeback) (*gate.Session, error) { return c.open(ctx, nil, back) }
	}
	s, err := open(ctx, back)
	if err == nil {
		s.Through(door)
	}
	return s, err
}

// sessionOf is session for the visitor of ctx.
func (c *calls) sessionOf(ctx context.Context, back *comeback) (*gate.Session, error) {
	if err := c.admit(ctx); err != nil {
		return nil, err
	}
	v := visitorOf(ctx)
	s, err := c.open(ctx, v.identity, back)
	if err == nil {
		v.opened(s)
	}
	return s, err
}

func (c *calls) open(ctx context.Context, who *gate.CallerIdentity, back *comeback) (*gate.Session, error) {
	if back == nil {
		return c.gate.OpenAs(who)
	}
	s, err := c.gate.OpenResumableAs(who, back.token, back.last)
	if err == nil && back.token != "" && !s.Resumed() {
		e := event.AccessDenied{Why: event.ByToken, Client: s.ID(), User: userOf(who)}
		e.Where, e.From = whereFrom(ctx)
		denied(&c.on, e)
	}
	return s, err
}

const latePushes = 5 * time.Second

// do runs one call for the client that calls itself clientID; see caller. Without a deadline in ctx the default
// timeout of the operation holds. The error is always a *fault.Error.
func (c *calls) do(ctx context.Context, clientID string, call object.Call) (object.Payload, error) {
	if err := checkNames(&call); err != nil {
		if object.ValidID(call.Ref.ID) != nil {
			c.reached(event.ObjectID, object.Ref{}) // as it came it is not for a log
		}
		return object.Payload{}, err
	}
	if !c.busy.enter() {
		return object.Payload{}, named(&call, errStopping)
	}
	defer c.busy.leave()
	who, err := c.asker(ctx, clientID, &call) // first: nobody spends what another client may do
	if err != nil {
		return object.Payload{}, named(&call, err)
	}
	guest, refusal := c.count(askerOf(ctx), clientID)
	if refusal != nil {
		return object.Payload{}, named(&call, refusal)
	}
	defer guest.done()
	if most := c.visitors.now().calls; c.running.Add(1) > int64(most) {
		c.running.Add(-1)
		c.reached(event.GateCalls, call.Ref)
		return object.Payload{}, fault.New(fault.Overloaded, "the gate has %d calls under way; come again in a moment", most).On(call.Op.String(), call.Subject())
	}
	defer c.running.Add(-1)
	c.made.Add(1)
	ctx, cancel := c.deadline(ctx, call.Op)
	defer cancel()
	if ctx.Err() != nil {
		return object.Payload{}, fault.Waited(ctx, "the call's time was over when it arrived").On(call.Op.String(), call.Subject())
	}
	if err := c.makeRoom(ctx, methodName{call.Ref.Type, call.Method}); err != nil {
		return object.Payload{}, named(&call, err)
	}
	ctx, span := c.tracer.begin(callctx.With(ctx, &callctx.Info{Caller: who}), &call)
	reply, err := c.forward(ctx, call)
	if span != nil {
		span.End(err)
	}
	if err != nil {
		return object.Payload{Replayed: reply.Replayed, Unsaved: reply.Unsaved}, named(&call, err)
	}
	if err := checkReply(&call, reply); err != nil {
		c.reached(event.MessageBytes, call.Ref)
		return reply, err
	}
	c.audit(ctx, &who, &call)
	return reply, nil
}

// count lets a call in by what its client and its address may do.
func (c *calls) count(a *asker, clientID string) (*guest, *fault.Error) {
	if a == nil || a.address == nil {
		return nil, nil
	}
	if a.stream || clientID != "" && !c.gate.Knows(clientID) {
		clientID = ""
	}
	return a.call(clientID)
}

// reached tells of a limit.
func (c *calls) reached(l event.Limit, ref object.Ref) {
	if on := c.on.LimitReached; on != nil {
		on(event.LimitReached{Limit: l, Type: ref.Type, ID: ref.ID})
	}
}

// named says what failed, unless err does. It leaves err itself alone, which may be
// the answer to other calls too.
func named(call *object.Call, err error) error {
	e := *fault.Of(err)
	return e.On(call.Op.String(), call.Subject())
}

func (c *calls) deadline(ctx context.Context, op object.Op) (context.Context, context.CancelFunc) {
	if _, has := ctx.Deadline(); has {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, c.timeouts[op])
}

func checkNames(call *object.Call) error {
	err := object.ValidName(call.Ref.Type)
	if err != nil {
		return fault.New(fault.Invalid, "the object type: %w", err).On(call.Op.String(), "")
	}
	if err = object.ValidID(call.Ref.ID); err != nil {
		return fault.New(fault.Invalid, "%w", err).On(call.Op.String(), "")
	}
	if call.ID != "" || call.Op == object.OpSettle {
		if err = object.ValidCallID(call.ID); err != nil {
			return fault.New(fault.Invalid, "%w", err).On(call.Op.String(), call.Subject())
		}
	}
	if call.Op != object.OpCall {
		return nil
	}
	if err = object.ValidName(call.Method); err != nil {
		return fault.New(fault.Invalid, "the method: %w", err).On(call.Op.String(), "")
	}
	return nil
}

// checkReply refuses what a client would not take either, while it can still be
// said that the call ran.
func checkReply(call *object.Call, reply object.Payload) error {
	size := len(reply.JSON)
	if reply.Binary != nil {
		size += proto.Size(reply.Binary)
	}
	if size <= maxMessage {
		return nil
	}
	return fault.New(fault.TooLarge, "the call ran, but its reply has %d bytes; at most %d are allowed", size, maxMessage).
		With(fault.Executed).On(call.Op.String(), call.Subject())
}
