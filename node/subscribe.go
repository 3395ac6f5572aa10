package node

import (
	"cmp"
	"context"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
	goverse_pb "github.com/xiaonanln/goverse/proto"
)

// maxChange bounds a publication, in bytes: the message and its JSON.
const maxChange = 1 << 20

// methodOf is a type's method, or the one by which gates subscribe; nil: there is none.
func methodOf(typ *object.Type, name string) *object.Method {
	if m := typ.Methods[name]; m != nil || name != object.SubscribeMethod || !typ.Subscribable() {
		return m
	}
	return subscribing
}

// subscribing runs OnSubscribe, and has the caller's gate follow.
var subscribing = object.NewReader(object.SubscribeMethod, (*goverse_pb.SubscribeRequest)(nil),
	func(ctx context.Context, o object.Object, req proto.Message) (proto.Message, error) {
		rt, _ := object.RuntimeFrom(ctx)
		f, ok := rt.(*frame)
		if !ok {
			return nil, fault.New(fault.Invalid, "it is the node that subscribes")
		}
		reply, err := f.subscribe(ctx, o.(object.Subscribable), req.(*goverse_pb.SubscribeRequest))
		if err != nil {
			return nil, err
		}
		return reply, nil
	})

// subscribe answers a gate on the object's turn: no method that changes it is inside. A
// client may name no other gate than its own, and has to be let in.
func (f *frame) subscribe(ctx context.Context, o object.Subscribable, req *goverse_pb.SubscribeRequest) (*goverse_pb.SubscribeReply, error) {
	a, who := f.act, &f.info.Caller
	switch {
	case req.Gate == "" || len(req.Gate) > object.MaxIDLen:
		return nil, fault.New(fault.Invalid, "a subscription names the gate whose client asks; clients subscribe by their gate's subscribe")
	case who.Client && (req.Renew || gateOf(who.ClientID) != req.Gate):
		return nil, fault.New(fault.Forbidden, "a client subscribes by its gate's subscribe, in a session")
	case f.reentrant:
		return nil, fault.New(fault.Invalid, "an object cannot be subscribed to from within one of its own methods")
	}
	a.mu.Lock()
	feed, ok := a.followLocked(req.Gate)
	if !ok {
		a.mu.Unlock()
		return nil, fault.New(fault.Overloaded, "%d gates follow the object already", maxFollowers)
	}
	reply := &goverse_pb.SubscribeReply{Incarnation: feed.incarnation, Version: feed.version, Node: a.node.cfg.Address}
	if req.Renew || req.Incarnation != 0 {
		reply.Missed, reply.Continued = feed.since(req.Incarnation, req.Version)
	}
	if reply.Continued && !req.Renew {
		reply.Version = feed.released // what comes behind it is on its way, or yet to be committed
	}
	a.mu.Unlock()
	if req.Renew {
		return reply, nil
	}
	return reply, show(ctx, o, req.Json, reply)
}

// show puts the state that the client is to see into the reply, unless it only goes on.
func show(ctx context.Context, o object.Subscribable, asJSON bool, reply *goverse_pb.SubscribeReply) error {
	state, err := o.OnSubscribe(ctx)
	switch {
	case err != nil:
		return err
	case state == nil || !state.ProtoReflect().IsValid():
		return fault.New(fault.Failed, "OnSubscribe returned neither a state nor an error")
	case reply.Continued:
		return nil
	}
	if reply.Snapshot, err = anypb.New(state); err == nil && asJSON {
		reply.Json, err = marshalJSON(state)
		reply.Snapshot.Value = nil // its type is told
	}
	if err != nil {
		return fault.New(fault.Failed, "the state that OnSubscribe returned cannot be sent: %w", err)
	}
	return nil
}

// Publish implements object.Inside. What it sends leaves with the method's commit where
// the object is durable, with the method's success where that may be undone, else at
// once.
func (f *frame) Publish(ctx context.Context, message proto.Message) error {
	if err := f.publish(ctx, message); err != nil {
		return fault.Of(err).On("Publish", f.act.ref.String())
	}
	return nil
}

func (f *frame) publish(ctx context.Context, message proto.Message) error {
	a := f.act
	path := f.info.Chain.Path
	switch {
	case message == nil || !message.ProtoReflect().IsValid():
		return fault.New(fault.Invalid, "a publication needs a message")
	case !a.typ.Subscribable():
		return fault.New(fault.Invalid, "clients cannot subscribe to objects of type %s: give it OnSubscribe(ctx context.Context) (proto.Message, error)", a.typ.Name)
	case path[len(path)-1].Shared:
		return fault.New(fault.Invalid, "the method is read-only, so that nothing has changed")
	}
	c, err := newChange(message)
	if err != nil {
		return err
	}
	c.frame.At = a.node.pushes.now()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		return fault.New(fault.Invalid, "the method has returned")
	}
	if a.keep == object.Durable || f.undo != nil {
		f.pushes = append(f.pushes, &encodedPush{nth: a.node.pushes.made.Add(1), change: c})
		if a.keep != object.Durable {
			f.more() // settle has to see to it
		}
		return nil
	}
	if err := a.mayAct(ctx); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.numberLocked(c) {
		f.acted = true
		a.releaseLocked(c)
	}
	return nil
}

// newChange makes a publication immune to later changes of its message.
func newChange(message proto.Message) (*change, error) {
	packed, err := anypb.New(message)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the message cannot be sent: %w", err)
	}
	c := new(change)
	c.frame.Message = packed
	c.frame.JSON, _ = marshalJSON(message) // without it a browser gets the Any
	if c.size = len(packed.Value) + len(c.frame.JSON); c.size > maxChange {
		return nil, fault.New(fault.TooLarge, "the change has %d bytes with its JSON; at most %d are published", c.size, maxChange)
	}
	return c, nil
}

// publishKept publishes what a method that could have been undone has left, where no
// commit does so. It runs on the turn; an inner frame leaves it to the outer.
func (f *frame) publishKept() {
	a := f.act
	if f.undo == nil || f.undone || f.panicked || a.keep == object.Durable {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if f.inner {
		f.hold.pushes = append(f.hold.pushes, f.pushes...)
		return
	}
	all := append(f.pushes, f.hold.pushes...)
	f.pushes, f.hold.pushes = nil, nil
	slices.SortFunc(all, func(a, b *encodedPush) int { return cmp.Compare(a.nth, b.nth) })
	for _, p := range all {
		if a.endingLocked() == nil && a.numberLocked(p.change) {
			a.releaseLocked(p.change)
		}
	}
}
