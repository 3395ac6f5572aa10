package node

import (
	"slices"

	"github.com/xiaonanln/goverse/internal/access"
	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

// SetAccess changes who may call, create and delete, for calls that come from now on; nil
// allows everything. It may be called at any time, concurrently.
func (n *Node) SetAccess(r *access.Rules) { n.rules.Store(r) }

// permit refuses what the rules do not let the caller do. It comes before anything is
// looked up, so that a client learns nothing about what is not for it.
func (n *Node) permit(req *peer.Request, info *callctx.Info) error {
	rules, client := n.rules.Load(), info.ByClient()
	if rules == nil || req.Op == object.OpSettle { // permitSettle
		return nil
	}
	if req.Op == object.OpCall && req.Method == object.SubscribeMethod && info.Chain.ID == (callctx.ChainID{}) {
		client = true // a gate renews what its clients follow
	}
	why := event.ByLifecycle
	var v access.Verdict
	switch req.Op {
	case object.OpCreate:
		v = rules.Create(client, req.Ref.Type, req.Ref.ID)
	case object.OpDelete:
		v = rules.Delete(client, req.Ref.Type, req.Ref.ID)
	default:
		why, v = event.ByRule, rules.Call(client, req.Ref.Type, req.Ref.ID, req.Method)
	}
	if v.Allowed {
		return nil
	}
	return n.deny(req, info, why, v.Rule, forbidden(client, v.Access))
}

// forbidden says no more than whom the object is for.
func forbidden(client bool, a access.Access) *fault.Error {
	switch {
	case a == access.Reject:
		return fault.New(fault.Forbidden, "an access rule of the cluster lets nobody do this")
	case client:
		return fault.New(fault.Forbidden, "an access rule of the cluster lets objects do this, and no client")
	}
	return fault.New(fault.Forbidden, "an access rule of the cluster lets clients do this, and no object or node")
}

// permitMethod refuses a client a method that its type keeps for objects.
func (n *Node) permitMethod(req *peer.Request, info *callctx.Info, m *object.Method) error {
	if !m.Internal || !info.ByClient() {
		return nil
	}
	return n.deny(req, info, event.ByMethod, 0, fault.New(fault.Forbidden, "the method is for objects, and no client may call it"))
}

// permitSettle refuses a client to settle a call where some method is not for it. The
// record of an id does not say which method ran: it might be that one, and its reply.
func (n *Node) permitSettle(req *peer.Request, info *callctx.Info, typ *object.Type) error {
	if !info.ByClient() {
		return nil
	}
	for name, m := range typ.Methods {
		why, v := event.ByMethod, access.Verdict{Allowed: !m.Internal}
		if v.Allowed {
			why, v = event.ByRule, n.rules.Load().Call(true, typ.Name, req.Ref.ID, name)
		}
		if !v.Allowed {
			return n.deny(req, info, why, v.Rule, fault.New(fault.Forbidden, "the object has methods that are not for clients, and the id might be of a call of one of them: no client may settle calls here; make the call again with its id"))
		}
	}
	return nil
}

// deny tells of it.
func (n *Node) deny(req *peer.Request, info *callctx.Info, why event.Denial, rule int, err *fault.Error) error {
	if on := n.on.AccessDenied; on != nil {
		method := req.Method
		if req.Op != object.OpCall {
			method = req.Op.String()
		}
		on(event.AccessDenied{
			Where: event.AtNode, Why: why, Client: info.Caller.ClientID, User: info.Caller.UserID,
			Type: req.Ref.Type, ID: req.Ref.ID, Method: method, Rule: rule,
		})
	}
	return err
}

// methodsFor is the methods that there are for who asks.
func methodsFor(typ *object.Type, info *callctx.Info) []string {
	return slices.DeleteFunc(typ.MethodNames(), func(name string) bool { return info.ByClient() && typ.Methods[name].Internal })
}
