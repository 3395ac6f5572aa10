package gateserver

import (
	"cmp"
	"context"
	"net"
	"strings"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/xiaonanln/goverse/gate"
	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// asker is who asks for a call, and may ask for it as far as a gate can tell.
func (c *calls) asker(ctx context.Context, clientID string, call *object.Call) (callctx.Caller, error) {
	who, err := c.caller(ctx, clientID, call)
	if err != nil {
		return who, err
	}
	return who, c.permit(ctx, &who, call)
}

// caller says who asks. Without an EventHandler a registered client id is taken as it is;
// with one it counts on the connection that registered it, and for the user who did. An
// unregistered one is ignored, but not a connection's own, whose last calls outlive it.
func (c *calls) caller(ctx context.Context, clientID string, call *object.Call) (callctx.Caller, error) {
	if c.authority == nil {
		if clientID != ownID(ctx) && !c.gate.Knows(clientID) {
			clientID = ""
		}
		return callctx.Caller{ClientID: clientID, Client: true}, nil
	}
	v := visitorOf(ctx)
	if v == nil {
		return callctx.Caller{}, errNoVisitor
	}
	who, err := v.authorise(ctx)
	if s := v.ownSession(); s != nil && err == nil {
		if clientID == "" || clientID == s.ID() { // over its connection
			return callerOf(who, s.ID()), v.checkExpiry(who, s.ID(), call)
		}
	}
	if err != nil || clientID == "" {
		return callerOf(who, ""), err
	}
	owner, known := c.gate.Owner(clientID)
	switch {
	case !known, owner == nil && who == nil: // nobody can prove to be the nobody who opened it
		clientID = ""
	case !owner.Is(who):
		v.deny(event.AccessDenied{Why: event.ByCaller, Client: clientID, User: userOf(who), Type: call.Ref.Type, ID: call.Ref.ID, Method: subjectMethod(call)})
		return callctx.Caller{}, fault.New(fault.Forbidden, "the client id in the request is another's")
	}
	return callerOf(who, clientID), nil
}

// clientOf is the client id that a gRPC request goes by: the one that it names itself, that
// of the session over whose connection it comes, or that of its header, as over HTTP.
func clientOf(ctx context.Context, named string) string {
	if id := cmp.Or(named, ownID(ctx)); id != "" {
		return id
	}
	headers, _ := metadata.FromIncomingContext(ctx)
	return strings.Join(headers.Get(clientIDHeader), ",")
}

type ownKey struct{}

// over is ctx for the calls that come over a session's own connection.
func over(ctx context.Context, s *gate.Session) context.Context {
	return context.WithValue(ctx, ownKey{}, s.ID())
}

// ownID is the client id of the session over whose connection ctx's call comes; empty: it
// comes by itself.
func ownID(ctx context.Context) string {
	id, _ := ctx.Value(ownKey{}).(string)
	return id
}

// checkExpiry refuses what comes over a connection whose user is not known any more.
func (v *visitor) checkExpiry(who *gate.CallerIdentity, clientID string, call *object.Call) error {
	err := who.Check()
	if err != nil {
		v.deny(event.AccessDenied{Why: event.ByExpiry, Client: clientID, User: userOf(who), Type: call.Ref.Type, ID: call.Ref.ID, Method: subjectMethod(call)})
	}
	return err
}

func callerOf(who *gate.CallerIdentity, clientID string) callctx.Caller {
	c := callctx.Caller{ClientID: clientID, Client: true}
	if who != nil {
		c.UserID, c.Roles = who.UserID, who.Roles
	}
	return c
}

func userOf(who *gate.CallerIdentity) string {
	if who == nil {
		return ""
	}
	return who.UserID
}

// permit answers early what the nodes would refuse too, if they have the same rules. They
// decide.
func (c *calls) permit(ctx context.Context, who *callctx.Caller, call *object.Call) error {
	if c.rules == nil {
		return nil
	}
	why, v := event.ByRule, c.rules.Call(true, call.Ref.Type, call.Ref.ID, call.Method)
	switch call.Op {
	case object.OpCall:
	case object.OpCreate:
		why, v = event.ByLifecycle, c.rules.Create(true, call.Ref.Type, call.Ref.ID)
	case object.OpDelete:
		why, v = event.ByLifecycle, c.rules.Delete(true, call.Ref.Type, call.Ref.ID)
	default:
		return nil // the node knows the type
	}
	if v.Allowed {
		return nil
	}
	if on := c.on.AccessDenied; on != nil {
		e := event.AccessDenied{
			Where: event.AtGate, Why: why, Client: who.ClientID, User: who.UserID,
			Type: call.Ref.Type, ID: call.Ref.ID, Method: subjectMethod(call), Rule: v.Rule,
		}
		if v := visitorOf(ctx); v != nil {
			e.Where, e.From = v.door, v.from
		}
		on(e)
	}
	return fault.New(fault.Forbidden, "an access rule of the gate lets no client do this")
}

// denied tells of somebody who was refused.
func denied(on *event.Listener, e event.AccessDenied) {
	if on.AccessDenied != nil {
		on.AccessDenied(e)
	}
}

// whereFrom is the door that ctx's request or stream came by, and the address.
func whereFrom(ctx context.Context) (event.Door, string) {
	if v := visitorOf(ctx); v != nil {
		return v.door, v.from
	}
	if p, ok := peer.FromContext(ctx); ok {
		return event.AtGRPC, p.Addr.String()
	}
	if conn, ok := ctx.Value(connKey{}).(net.Conn); ok {
		return event.AtHTTP, conn.RemoteAddr().String()
	}
	return event.AtGate, ""
}

// subjectMethod is what an audit calls a call's method.
func subjectMethod(call *object.Call) string {
	if call.Op == object.OpCall {
		return call.Method
	}
	return call.Op.String()
}

// audit tells of what a client did to objects.
func (c *calls) audit(ctx context.Context, who *callctx.Caller, call *object.Call) {
	on := c.on.SensitiveOperation
	if on == nil || call.Op != object.OpCreate && call.Op != object.OpDelete {
		return
	}
	e := event.SensitiveOperation{Where: event.AtGate, What: event.ClientCreates, Client: who.ClientID, User: who.UserID, Type: call.Ref.Type, ID: call.Ref.ID}
	if call.Op == object.OpDelete {
		e.What = event.ClientDeletes
	}
	if v := visitorOf(ctx); v != nil {
		e.Where, e.From = v.door, v.from
	}
	on(e)
}
