package node

import (
	"context"

	"github.com/xiaonanln/goverse/object"
)

// Within is the runtime of the method of an object of this node that ctx belongs to.
// Calls that the method makes have to go through it: it lends them the method's turn.
func (n *Node) Within(ctx context.Context) (object.Runtime, bool) {
	rt, _ := object.RuntimeFrom(ctx)
	f, ok := rt.(*frame)
	return rt, ok && f.act.node == n
}

// Do implements object.Caller: it is Call, or the method's own Call with the context of
// a method of this node.
func (n *Node) Do(ctx context.Context, call object.Call) (object.Payload, error) {
	if rt, ok := n.Within(ctx); ok {
		return rt.Call(ctx, call)
	}
	return n.Call(ctx, call)
}
