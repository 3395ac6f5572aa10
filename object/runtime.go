package object

import (
	"context"

	"google.golang.org/protobuf/proto"
)

// Op is what a Call asks for.
type Op uint8

const (
	OpCall Op = iota
	OpCreate
	OpDelete
	OpSettle // what became of the call ID; if it has not run, it never will
)

// String is the operation's name in errors and logs.
func (op Op) String() string {
	return [...]string{"CallObject", "CreateObject", "DeleteObject", "Settle"}[op]
}

// Call is one request to an object. Who asks and within which chain travels in
// the context (internal/callctx); the deadline is the context's.
type Call struct {
	Op       Op
	Ref      Ref
	Method   string // OpCall only
	ID       string // the call's id, if it has one: it runs once, however often it is made
	Payload  Payload
	ReadOnly bool // fail unless the method is read-only

	// AtLeastOnce: where it is unknown whether the call ran, it is made again.
	AtLeastOnce bool

	// OneWay: nobody waits for a reply. The call is accepted, and delivered later.
	OneWay bool

	// IDIfKept: the ID counts where the object's type keeps results. Elsewhere the call
	// is made as if it had none; without this it is refused there.
	IDIfKept bool
}

// Subject is how the call is named in errors: Type/id.Method.
func (c *Call) Subject() string {
	if c.Op != OpCall {
		return c.Ref.String()
	}
	return c.Ref.String() + "." + c.Method
}

// Push is a message for some clients, or for all.
type Push struct {
	ClientIDs []string
	Broadcast bool // to every client of every gate; ClientIDs is empty
	Message   proto.Message
	// What becomes of it at a client that does not keep up, and has a resumable session. By
	// default the oldest messages are dropped, and the client is told.
	Disconnect bool   // its session ends instead
	Key        string // the message takes the place of one that still waits, with the same key; at most 256 bytes
}

// Runtime is what an object may ask of its world, and what a program outside any
// object asks of its server. All methods may be called concurrently.
type Runtime interface {
	// Call runs a call wherever its object lives. Inside a method, with the method's
	// context, it is nested: it lends the method's turn to its own chain.
	Call(ctx context.Context, call Call) (Payload, error)
	// Push sends a message to clients, in order per client. From a durable method it
	// leaves after the method's commit.
	Push(ctx context.Context, push Push) error
}

// RuntimeKey is the context key of the Runtime: a context of ours may answer it
// itself.
type RuntimeKey struct{}

// WithRuntime returns a context that carries rt.
func WithRuntime(ctx context.Context, rt Runtime) context.Context {
	return context.WithValue(ctx, RuntimeKey{}, rt)
}

// RuntimeFrom returns the runtime that ctx carries: inside a method, that of the
// node that hosts the object.
func RuntimeFrom(ctx context.Context) (Runtime, bool) {
	rt, ok := ctx.Value(RuntimeKey{}).(Runtime)
	return rt, ok
}
