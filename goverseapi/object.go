package goverseapi

import (
	"context"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// RegisterObjectType makes the type of obj, a typed nil such as (*ChatRoom)(nil),
// known to every server of this process, also to one that runs already. The same
// registration again does nothing. It panics, naming the type, when the type cannot
// be called or is registered with other options: that is a mistake in the program.
func RegisterObjectType(obj Object, opts ...TypeOption) {
	if err := std.types.Register(obj, opts...); err != nil {
		panic("goverse: RegisterObjectType: " + err.Error())
	}
}

// AutoLoad names objects for ServerConfig.AutoLoadObjects.
type AutoLoad = object.AutoLoad

// State, embedded beside BaseObject, keeps an object's state as one message, without a
// ToData and a FromData; see object.State.
type State[T proto.Message] = object.State[T]

// NewState is a State for an object that a unit test makes by hand.
func NewState[T proto.Message](m T) State[T] { return object.NewState(m) }

// Modes and durabilities for WithMode and WithDurability.
const (
	Sequential = object.Sequential
	Concurrent = object.Concurrent
	Durable    = object.Durable
	Volatile   = object.Volatile
)

// Periodic stores changed state every d; a crash loses about d at the most.
func Periodic(d time.Duration) object.Durability { return object.Periodic(d) }

// WithName registers a type under name instead of its Go name.
func WithName(name string) TypeOption { return object.WithName(name) }

// WithMode says which methods may run together; the default is Sequential.
func WithMode(m object.Mode) TypeOption { return object.WithMode(m) }

// InternalMethods names methods that no client may call, only objects and nodes.
func InternalMethods(names ...string) TypeOption { return object.InternalMethods(names...) }

// ReadOnlyMethods names methods that do not change the object.
func ReadOnlyMethods(names ...string) TypeOption { return object.ReadOnlyMethods(names...) }

// WithDurability says when state is kept; the default is Durable for a type with
// ToData on a node with a store.
func WithDurability(d object.Durability) TypeOption { return object.WithDurability(d) }

// WithIdleTimeout ends an activation that was not called for d; negative is never.
func WithIdleTimeout(d time.Duration) TypeOption { return object.WithIdleTimeout(d) }

// WithMethodTimeout ends the context of a method that has run for d, in about, whatever its
// caller's deadline is; see object.WithMethodTimeout.
func WithMethodTimeout(d time.Duration) TypeOption { return object.WithMethodTimeout(d) }

// WithMaxQueue bounds the calls that may wait for one object's turn.
func WithMaxQueue(n int) TypeOption { return object.WithMaxQueue(n) }

// MustCreate makes calls to objects that were never created fail as ErrNotFound.
func MustCreate() TypeOption { return object.MustCreate() }

// Transactional makes a method that returns an error leave the object as it found it;
// see object.Transactional.
func Transactional() TypeOption { return object.Transactional() }

// Intercept puts interceptors around a type's methods, inside of the node's; see
// object.Interceptor.
func Intercept(around ...Interceptor) TypeOption { return object.Intercept(around...) }

// CreateObject makes an object and waits until it exists, for a durable type in the
// store. An empty id gets a generated one; the id is returned. ErrExists: it exists.
func CreateObject(ctx context.Context, objType, objID string) (string, error) {
	if objID == "" {
		objID = CreateObjectID()
	}
	_, err := do(ctx, object.Call{Op: object.OpCreate, Ref: object.Ref{Type: objType, ID: objID}})
	if err != nil {
		return "", err
	}
	return objID, nil
}

// DeleteObject ends an object and removes its stored state. An object that does not
// exist is deleted already.
func DeleteObject(ctx context.Context, objType, objID string) error {
	_, err := do(ctx, object.Call{Op: object.OpDelete, Ref: object.Ref{Type: objType, ID: objID}})
	return err
}

// CallObject calls a method of an object, wherever it lives, and brings it to life
// if it has to. req and the reply are shared with the object when it lives in this
// process: do not change them afterwards. OutcomeOf(err) tells whether the call ran.
func CallObject(ctx context.Context, objType, id, method string, req proto.Message) (proto.Message, error) {
	return Call(ctx, objType, id, method, req)
}

// Call is CallObject with options.
func Call(ctx context.Context, objType, id, method string, req proto.Message, opts ...CallOption) (proto.Message, error) {
	call := object.Call{Ref: object.Ref{Type: objType, ID: id}, Method: method, Payload: object.OfMessage(req)}
	var o object.CallOptions
	if len(opts) > 0 {
		var err error
		if o, err = object.OptionsOf(opts); err != nil {
			return nil, fault.Of(err).On(call.Op.String(), call.Subject())
		}
		var cancel context.CancelFunc
		ctx, cancel = o.Apply(ctx, &call)
		defer cancel()
	}
	reply, err := do(ctx, call)
	o.Heard(reply)
	return reply.Message, err
}

// WithAtLeastOnce makes a call again when its outcome was lost, as when the node that
// ran it died before it answered: the method may then run more than once. Without it
// such a call fails as ErrIndeterminate.
func WithAtLeastOnce() CallOption { return func(o *object.CallOptions) { o.AtLeastOnce = true } }

// WithTimeout bounds the call; the context's own deadline still holds.
func WithTimeout(d time.Duration) CallOption {
	return func(o *object.CallOptions) { o.Timeout = d }
}

// WithUnsaved sets *unsaved when the call has ended: true where a Periodic object
// answered, with a reply or an error of its method, and not all of what it told was
// stored yet, so that a crash within its interval takes that back. What Flush has stored
// is stored; answers of other objects say nothing.
func WithUnsaved(unsaved *bool) CallOption {
	return func(o *object.CallOptions) { o.Unsaved = unsaved }
}

func do(ctx context.Context, call object.Call) (object.Payload, error) {
	rt, err := runtimeOf(ctx)
	if err != nil {
		return object.Payload{}, fault.Of(err).On(call.Op.String(), call.Subject())
	}
	return rt.Call(ctx, call)
}

// PushMessageToClient sends msg to one client. From a durable object's method it
// leaves with the method's commit, and is lost if the node dies right then. From a call
// with an id it is recorded in that commit: the next holder sends it, so that it may
// arrive twice. A client that is gone gets nothing; that is no error.
func PushMessageToClient(ctx context.Context, clientID string, msg proto.Message, opts ...PushOption) error {
	return push(ctx, object.Push{ClientIDs: []string{clientID}, Message: msg}, opts)
}

// PushMessageToClients sends msg to several clients.
func PushMessageToClients(ctx context.Context, clientIDs []string, msg proto.Message, opts ...PushOption) error {
	return push(ctx, object.Push{ClientIDs: clientIDs, Message: msg}, opts)
}

// BroadcastToAllClients sends msg to every client of every gate.
func BroadcastToAllClients(ctx context.Context, msg proto.Message, opts ...PushOption) error {
	return push(ctx, object.Push{Broadcast: true, Message: msg}, opts)
}

func push(ctx context.Context, p object.Push, opts []PushOption) error {
	for _, o := range opts {
		if o != nil {
			o(&p)
		}
	}
	rt, err := runtimeOf(ctx)
	if err != nil {
		return err
	}
	return rt.Push(ctx, p)
}

// CreateObjectID returns a random object id.
func CreateObjectID() string { return object.NewID() }

// CreateObjectIDOnShard returns a random id whose object lives in the shard. It
// panics when there is no such shard.
func CreateObjectIDOnShard(shard int) string {
	if shard < 0 || shard >= sharding.NumShards {
		panic("goverse: CreateObjectIDOnShard: there is no shard " + strconv.Itoa(shard) + "; shards are 0 to " + strconv.Itoa(sharding.NumShards-1))
	}
	return sharding.FixedPrefix + strconv.Itoa(shard) + "/" + object.NewID()
}

// CreateObjectIDOnNode returns a random id whose object lives on the node with this
// address, and nowhere else: such objects are volatile.
func CreateObjectIDOnNode(addr string) string { return addr + "/" + object.NewID() }
