package node

import (
	"context"
	"errors"
	"net"
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
	ref     object.Ref
	typ     *object.Type
	method  *object.Method // OpCall
	message proto.Message  // OpCall
	epoch   uint64         // the sender's
	info    *callctx.Info
	chain   callctx.Chain
}

// ServeCall is the corridor's last stretch: understand, admit, enter, take a turn,
// invoke, settle. Errors are *fault.Error and name the call.
func (n *Node) ServeCall(ctx context.Context, req *peer.Request) (object.Payload, error) {
	var began time.Time
	on := n.on.CallDone
	if on != nil {
		began = time.Now()
	}
	reply, err := n.serve(ctx, req)
	if err != nil {
		err = fault.Of(err).On(req.Op.String(), req.Subject())
	}
	if on != nil && req.Op == object.OpCall {
		on(event.CallDone{Type: req.Ref.Type, ID: req.Ref.ID, Method: req.Method, Took: time.Since(began), Err: err})
	}
	return reply, err
}

func (n *Node) serve(ctx context.Context, req *peer.Request) (object.Payload, error) {
	c, err := n.understand(ctx, req)
	if err != nil {
		return object.Payload{}, err
	}
	s := n.slotOf(c.ref.ID)
	for {
		a, begun, err := s.enter(n, c)
		if err != nil {
			return object.Payload{}, err
		}
		reply, err := a.serve(ctx, c, begun)
		if !errors.Is(err, errMovedOn) {
			if err != nil {
				return object.Payload{}, err
			}
			if req.Op != object.OpCall {
				return object.Payload{}, nil
			}
			return encodeReply(reply, req.Payload.Form)
		}
		select {
		case <-a.gone:
		case <-ctx.Done():
			return object.Payload{}, fault.Waited(ctx, "while the object's previous activation ended")
		}
	}
}

// understand checks everything about a request that does not need the object.
func (n *Node) understand(ctx context.Context, req *peer.Request) (*call, error) {
	if err := ctx.Err(); err != nil {
		return nil, fault.Waited(ctx, "before the call began")
	}
	if err := object.ValidID(req.Ref.ID); err != nil {
		return nil, fault.New(fault.Invalid, "%w", err)
	}
	typ, ok := n.cfg.Types.Lookup(req.Ref.Type)
	if !ok {
		return nil, fault.New(fault.UnknownType, "no type %q is registered here; registered are: %s", req.Ref.Type, strings.Join(n.cfg.Types.Names(), ", "))
	}
	info := callctx.From(ctx)
	c := &call{op: req.Op, ref: req.Ref, typ: typ, epoch: req.Epoch, info: info, chain: info.Chain}
	if c.chain.ID == (callctx.ChainID{}) {
		c.chain = callctx.Chain{ID: callctx.NewChainID()}
	}
	if req.Op != object.OpCall {
		return c, nil
	}
	if c.method = typ.Methods[req.Method]; c.method == nil {
		return nil, fault.New(fault.UnknownMethod, "type %s has no callable method %q; it has: %s", typ.Name, req.Method, strings.Join(typ.MethodNames(), ", "))
	}
	if req.ReadOnly && !c.method.ReadOnly {
		return nil, fault.New(fault.NotReadOnly, "the method may change the object; call it with POST")
	}
	var err error
	c.message, err = decodeRequest(c.method, req.Payload)
	return c, err
}

// slotOf is the place of an object id: its shard's, or the one for ids that are
// pinned to this node.
func (n *Node) slotOf(id string) *slot {
	if addr, ok := PinnedNode(id); ok && addr == n.cfg.Address {
		return &n.slots[n.cfg.NumShards]
	}
	return &n.slots[sharding.GetShardID(id, n.cfg.NumShards)]
}

// PinnedNode is the node that an id of the form host:port/name is pinned to.
func PinnedNode(id string) (address string, ok bool) {
	address, _, ok = strings.Cut(id, "/")
	if !ok {
		return "", false
	}
	host, port, err := net.SplitHostPort(address)
	return address, err == nil && host != "" && port != ""
}

// serve runs a call on the activation; begun says that this call has to load it.
// errMovedOn says that the activation ends, or never came to life, without having
// answered this call.
func (a *activation) serve(ctx context.Context, c *call, begun bool) (proto.Message, error) {
	if begun {
		a.begin(c)
	}
	if err := a.awaitLoaded(ctx); err != nil {
		return nil, err
	}
	switch {
	case a.loadErr == nil:
	case c.op != a.loadOp:
		return nil, errMovedOn // what another kind of call was told is not this one's answer
	case a.loadErr == errErased:
		return nil, nil
	default:
		return nil, a.loadErr
	}
	switch c.op {
	case object.OpCreate:
		return nil, a.create(ctx, c, begun)
	case object.OpDelete:
		return nil, a.delete(ctx, c)
	default:
		return a.call(ctx, c)
	}
}

// begin loads the activation: at once where that is only memory, else on a
// goroutine, so that a caller's deadline holds while a store is slow.
func (a *activation) begin(c *call) {
	a.loadOp = c.op
	work := a.bear
	if c.op == object.OpDelete {
		work = a.erase
	}
	if a.keep == object.Volatile {
		a.load(work)
		return
	}
	a.node.running.Go(func() { a.load(work) })
}
