package object

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/internal/fault"
)

// Caller makes calls: all that a typed reference needs of its world. A server of this
// process is one, and so are goverseapi.Runtime, a gate's client and a test's world.
// Its methods may be called concurrently.
type Caller interface {
	// Do makes the call and waits for its end. The reply is a live message.
	Do(ctx context.Context, call Call) (Payload, error)
}

// CallOption says how one call is to be made.
type CallOption func(*CallOptions)

// CallOptions is how one call is to be made. The zero value is the default.
type CallOptions struct {
	ID          string        // the call runs once, however often it is made with it
	Once        bool          // there is to be an ID
	AtLeastOnce bool          // where it is unknown whether the call ran, it is made again
	Timeout     time.Duration // if above zero; the context's own deadline still holds
	Unsaved     *bool         // if not nil: gets the answer's, when the call has ended
}

// OptionsOf applies opts in their order.
func OptionsOf(opts []CallOption) (o CallOptions, err error) {
	for _, opt := range opts {
		if opt != nil {
			opt(&o)
		}
	}
	if o.Once && o.ID == "" {
		return o, fault.New(fault.Invalid, "an empty call id; mint one with GenerateCallID and keep it for when you make the call again")
	}
	return o, nil
}

// Apply puts the options on the call, and bounds ctx if they say so. cancel is to be
// called when the call has ended.
func (o *CallOptions) Apply(ctx context.Context, call *Call) (_ context.Context, cancel context.CancelFunc) {
	call.ID = o.ID
	call.AtLeastOnce = call.AtLeastOnce || o.AtLeastOnce
	if o.Timeout <= 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, o.Timeout)
}

// Heard tells who asked what an answer says of itself.
func (o *CallOptions) Heard(answer Payload) {
	if o.Unsaved != nil {
		*o.Unsaved = answer.Unsaved
	}
}

// Callee is an object as its caller sees it; a generated reference is one with the
// methods of the object's service. It is a value, free to copy and to keep, and it
// stays good wherever the object moves.
type Callee struct {
	caller Caller
	ref    Ref
}

// NewCallee names an object and who calls it.
func NewCallee(caller Caller, objType, id string) Callee {
	return Callee{caller, Ref{Type: objType, ID: id}}
}

// Id is the object's id.
func (c Callee) Id() string { return c.ref.ID }

// Type is the object's registered type name.
func (c Callee) Type() string { return c.ref.Type }

// String is Type/Id.
func (c Callee) String() string { return c.ref.String() }

// CallMethod makes a call on an object; call says the method and what the service
// states of it. It is what the methods of a generated reference are made of.
func CallMethod[T any, Reply interface {
	*T
	proto.Message
}](ctx context.Context, to Callee, call Call, req proto.Message, opts []CallOption) (Reply, error) {
	call.Ref, call.Payload = to.ref, OfMessage(req)
	var o CallOptions
	if len(opts) > 0 {
		var err error
		if o, err = OptionsOf(opts); err != nil {
			return nil, fault.Of(err).On(call.Op.String(), call.Subject())
		}
		var cancel context.CancelFunc
		ctx, cancel = o.Apply(ctx, &call)
		defer cancel()
	}
	if to.caller == nil {
		return nil, fault.New(fault.Invalid, "the reference has no caller; make it with its New function, as in NewChatRoomRef(goverseapi.Runtime(), id)").On(call.Op.String(), call.Subject())
	}
	answer, err := to.caller.Do(ctx, call)
	o.Heard(answer)
	if err != nil {
		return nil, err
	}
	if reply, ok := answer.Message.(Reply); ok && reply != nil {
		return reply, nil
	}
	return nil, wrongReply(&call, answer.Message, Reply(nil))
}

// wrongReply is the error of a call that ran and was answered with something else than
// its method returns, as by a node that has another version of the service.
func wrongReply(call *Call, got, want proto.Message) error {
	name := func(m proto.Message) string {
		if m == nil || !m.ProtoReflect().IsValid() {
			return "nothing"
		}
		return "a " + string(m.ProtoReflect().Descriptor().FullName())
	}
	return fault.New(fault.Invalid, "the call ran, and its reply is %s, not a %s; generate both sides from the same .proto file",
		name(got), want.ProtoReflect().Descriptor().FullName()).With(fault.Executed).On(call.Op.String(), call.Subject())
}
