package object

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/util/logger"
)

// Object is what a user's type becomes by embedding BaseObject. A callable method
// is exported and has the form
//
//	func (o *T) M(ctx context.Context, req *SomeMessage) (*SomeMessage, error)
//
// A request and a reply may be shared with whoever calls: a method changes neither its
// request, nor later on what it has returned.
//
// In Sequential mode, the default, at most one method of an object runs at a time
// and its fields need no mutex.
type Object interface {
	Id() string
	Type() string
	String() string
	CreationTime() time.Time
	Context() context.Context

	// OnCreated runs once for an activation, after FromData and before its first call.
	OnCreated()
	// OnDestroy runs when the activation ends, for whatever reason but a crash.
	OnDestroy()
	// Destroy is OnDestroy's older name; both run.
	Destroy()

	// ToData returns the whole state; a type that overrides it is persistent. It runs
	// on the object's turn, and the message may share memory with the object.
	ToData() (proto.Message, error)
	// FromData restores what ToData returned, or nil for an object without stored state.
	FromData(data proto.Message) error

	base() *BaseObject
}

// ErrNotPersistent is what ToData returns in a type that has none of its own, nor a State.
var ErrNotPersistent = errors.New("this type has no ToData and no State: its state is not kept")

// BaseObject is embedded by every user type and gives it its identity. Its fields
// are set before FromData and OnCreated run.
type BaseObject struct {
	// Logger writes lines that name the object.
	Logger *logger.Logger

	ref     Ref
	created time.Time
	ctx     context.Context
	state   *cell // of a type that embeds a State
}

// Id is the object's id, unique within its type.
func (b *BaseObject) Id() string { return b.ref.ID }

// Type is the object's registered type name.
func (b *BaseObject) Type() string { return b.ref.Type }

// String is Type/Id.
func (b *BaseObject) String() string { return b.ref.String() }

// CreationTime is when the object was first stored, or for an object without
// stored state when this activation began.
func (b *BaseObject) CreationTime() time.Time { return b.created }

// Context ends with the activation. Calls made with it are root calls of their
// own: they hold no turn of this object.
func (b *BaseObject) Context() context.Context {
	if b.ctx == nil { // made by hand, not by a node
		return context.Background()
	}
	return b.ctx
}

// OnCreated does nothing; override it.
func (b *BaseObject) OnCreated() {}

// OnDestroy does nothing; override it.
func (b *BaseObject) OnDestroy() {}

// Destroy does nothing; override OnDestroy instead.
func (b *BaseObject) Destroy() {}

// ToData returns the State of a type that embeds one, else it says that the type is not
// persistent; override it together with FromData.
func (b *BaseObject) ToData() (proto.Message, error) {
	if b.state == nil {
		return nil, ErrNotPersistent
	}
	return b.state.read(), nil
}

// FromData fills the State of a type that embeds one, else it does nothing; override it
// together with ToData.
func (b *BaseObject) FromData(data proto.Message) error {
	if b.state == nil {
		return nil
	}
	return b.state.write(data)
}

func (b *BaseObject) base() *BaseObject { return b }

// Birth is what a node gives an object before its first code runs.
type Birth struct {
	Ref     Ref
	Created time.Time
	Context context.Context
	Logger  *logger.Logger
}

// Attach gives o its identity. A node calls it once, before anything else of o.
func Attach(o Object, birth Birth) {
	b := o.base()
	b.ref, b.created, b.ctx, b.Logger = birth.Ref, birth.Created, birth.Context, birth.Logger.For(b)
}
