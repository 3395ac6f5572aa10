package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

// call is one request on its way through the node.
type call struct {
	op      object.Op
	own     bool // the node's: it waits for a turn only, and is never sent away for load
	once    bool // the id counts: the call runs once
	replay  bool // its answer is that of another attempt's run
	early   bool // it found its object's activation before Loading was over
	stood   bool // this node was trusted then, or if the call is early at the end of Loading
	unsaved bool // not all of what its answer tells is stored yet
	ref     object.Ref
	typ     *object.Type
	method  *object.Method // OpCall
	message proto.Message  // OpCall
	epoch   uint64         // the sender's
	id      string
	info    *callctx.Info
	chain   callctx.Chain
	weight  int   // bytes of message, at least 1; 0: not weighed yet
	room    *hold // for its turn; nil: none yet
	stay    stay
	at      time.Duration // since when it waits for nobody; 0: nobody wants to know
}

// ServeCall is the corridor's last stretch: understand, see whether there is room,
// admit, enter, take a turn, invoke, settle. Errors are *fault.Error and name the call.
func (n *Node) ServeCall(ctx context.Context, req *peer.Request) (object.Payload, error) {
	ctx, span := n.traced(ctx, req)
	if span == nil {
		return n.answer(ctx, req)
	}
	reply, err := n.answerIn(ctx, req, &callctx.From(ctx).Trace.ID)
	span.End(err)
	return reply, err
}

func (n *Node) answer(ctx context.Context, req *peer.Request) (object.Payload, error) {
	return n.answerIn(ctx, req, nil)
}

// answerIn is answer in a trace; nil: in none that is kept.
func (n *Node) answerIn(ctx context.Context, req *peer.Request, trace *[16]byte) (object.Payload, error) {
	var began time.Duration
	on, counting := n.on.CallDone, n.census.count.Load()
	if on != nil || counting != nil || n.on.TurnDone != nil {
		began = n.executions.now()
	}
	reply, err := n.serve(ctx, req, began)
	if err != nil {
		n.sayLimit(req.Ref, err)
		err = fault.Of(err).On(req.Op.String(), req.Subject())
	}
	if (on != nil || counting != nil) && req.Op == object.OpCall {
		took := n.executions.now() - began
		if on != nil {
			on(event.CallDone{Type: req.Ref.Type, ID: req.Ref.ID, Method: req.Method, Took: took, Err: err, Trace: trace})
		}
		if counting != nil {
			counting.note(n, ctx, req, took, err)
		}
	}
	return reply, err
}

func (n *Node) serve(ctx context.Context, req *peer.Request, began time.Duration) (object.Payload, error) {
	var c call // escapes nowhere
	if err := n.understand(ctx, req, &c); err != nil {
		return object.Payload{}, err
	}
	if n.on.TurnDone != nil {
		c.at = began
	}
	s, err := n.slotOf(c.ref.ID)
	if err != nil {
		return object.Payload{}, err
	}
	if !n.executions.enter(&c.stay, c.parks()) {
		return object.Payload{}, n.executions.refuse(n.on)
	}
	defer c.stay.end()
	if c.op == object.OpCall {
		if c.message, err = decodeAsked(c.method, req.Payload, req.ReadOnly); err != nil {
			return object.Payload{}, err
		}
		if n.copies != nil && req.Payload.Form == object.FormMessage {
			c.message = proto.Clone(c.message)
		}
		if req.Payload.Form != object.FormMessage { // which takes its time
			n.goOn(&c)
		}
	}
	if c.op == object.OpCall && c.id != "" || c.op == object.OpSettle {
		if err := s.admitID(&c, req.IDIfKept && c.op == object.OpCall); err != nil {
			return object.Payload{}, err
		}
	}
	reply, err := s.serve(ctx, &c)
	if err != nil || req.Op != object.OpCall && req.Op != object.OpSettle {
		return object.Payload{Replayed: c.replay, Unsaved: c.unsaved}, err
	}
	if n.copies != nil && c.once {
		reply = proto.Clone(reply) // others may get the same
	}
	p, err := encodeReply(reply, req.Payload.Form)
	p.Replayed, p.Unsaved = c.replay, c.unsaved
	return p, err
}

// serve lets the call in and runs it, again where it was sent back without having run.
func (s *slot) serve(ctx context.Context, c *call) (proto.Message, error) {
	for {
		a, begun, err := s.enter(c)
		if err == nil {
			var reply proto.Message
			if reply, err = a.serve(ctx, c, begun); err == nil {
				return reply, nil
			}
		}
		switch {
		case errors.Is(err, errFull):
			err = s.node.makeRoom(ctx)
		case errors.Is(err, errAside):
			since := c.stay.pause()
			err = s.park(ctx, c)
			c.stay.resume(since)
		case errors.Is(err, errMovedOn):
			since := c.stay.pause()
			err = s.awaitSuccessor(ctx, c, a)
			c.stay.resume(since)
		}
		if err != nil {
			return nil, err
		}
		s.node.goOn(c)
	}
}

// awaitSuccessor waits until a, which is ending, has ended. Meanwhile the shard may
// go, and with it the reason to wait here.
func (s *slot) awaitSuccessor(ctx context.Context, c *call, a *activation) error {
	changed, err := s.watch(c)
	switch {
	case err == nil:
		return a.awaitGone(ctx, c.chain, a.turnFor(c.name()), changed)
	case errors.Is(err, errAside):
		return nil // the slot will say so again, where the call can wait
	}
	return err
}

// name is how the call is named in a path.
func (c *call) name() string {
	if c.op == object.OpCall {
		return c.method.Name
	}
	return c.op.String()
}

// understand checks what a request names, and makes c of it.
func (n *Node) understand(ctx context.Context, req *peer.Request, c *call) error {
	if err := ctx.Err(); err != nil {
		return fault.Waited(ctx, "before the call began")
	}
	if err := object.ValidID(req.Ref.ID); err != nil {
		return &beyond{event.ObjectID, fault.New(fault.Invalid, "%w", err)}
	}
	info := callctx.From(ctx)
	if err := n.permit(req, info); err != nil {
		return err
	}
	typ, ok := n.cfg.Types.Lookup(req.Ref.Type)
	if !ok {
		return fault.New(fault.UnknownType, "no type %q is registered here; registered are: %s", req.Ref.Type, strings.Join(n.cfg.Types.Names(), ", "))
	}
	*c = call{op: req.Op, ref: req.Ref, typ: typ, epoch: req.Epoch, id: req.ID, info: info, chain: info.Chain}
	if len(c.chain.Path) == 0 { // of each attempt its own: see callctx.ChainID
		c.chain = callctx.Chain{ID: callctx.NewChainID()}
	}
	switch req.Op {
	case object.OpCall:
	case object.OpSettle:
		return n.permitSettle(req, info, typ)
	default:
		return nil
	}
	if c.method = methodOf(typ, req.Method); c.method == nil {
		return fault.New(fault.UnknownMethod, "type %s has no callable method %q; it has: %s", typ.Name, req.Method, strings.Join(methodsFor(typ, info), ", "))
	}
	if err := n.permitMethod(req, info, c.method); err != nil {
		return err
	}
	if req.ReadOnly && !c.method.ReadOnly {
		return fault.New(fault.NotReadOnly, "the method may change the object; call it with POST")
	}
	return nil
}

// slotOf is the place of an object id: its shard's, or the one for ids that are
// pinned to this node.
func (n *Node) slotOf(id string) (*slot, error) {
	address, pinned := sharding.PinnedNode(id)
	switch {
	case !pinned:
		return &n.slots[sharding.GetShardID(id, n.cfg.NumShards)], nil
	case address == n.cfg.Address:
		return n.pinned(), nil
	}
	return nil, &fault.Error{Kind: fault.WrongHolder, Holder: address, Err: fmt.Errorf("the id is pinned to %s, and this is %s", address, n.cfg.Address)}
}

// serve runs a call on the activation; begun says that this call has to load it.
// errMovedOn says that the activation ends, or never came to life, without having
// answered this call.
func (a *activation) serve(ctx context.Context, c *call, begun bool) (proto.Message, error) {
	if begun {
		a.begin(c)
	}
	if err := a.awaitBegun(ctx, c, begun); err != nil {
		return nil, err
	}
	if c.early {
		c.stood = a.stood
		a.node.goOn(c)
	}
	switch err := a.loadErr(); {
	case err == nil:
	case !c.early || c.op != a.loadOp:
		return nil, errMovedOn // what an earlier or another kind of call was told is not this one's answer
	case err == errErased:
		return nil, nil
	case fault.KindOf(err) == fault.NotFound: // by what was read, which has to be the newest
		if void := a.maySay(ctx, c.stood); void != nil {
			return nil, fault.Of(void).With(fault.NotExecuted)
		}
		return nil, err
	default:
		return nil, err
	}
	switch c.op {
	case object.OpCreate:
		return nil, a.created(ctx, c, begun, c.stood)
	case object.OpDelete:
		return nil, a.delete(ctx, c)
	case object.OpSettle:
		return a.callOnce(ctx, c)
	default:
		return a.call(ctx, c)
	}
}

// begin loads the activation: at once where that is only memory, else on a
// goroutine, so that a caller's deadline holds while a store is slow.
func (a *activation) begin(c *call) {
	a.loadOp = c.op
	if a.keep == object.Volatile {
		a.load((*activation).first)
		return
	}
	a.node.running.Go(func() { a.load((*activation).first) })
}

// first is what the first call asked for.
func (a *activation) first() error {
	switch a.loadOp {
	case object.OpCreate:
		return a.create()
	case object.OpDelete:
		return a.erase()
	}
	return a.bear()
}
