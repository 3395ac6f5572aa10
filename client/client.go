// Package client is what a program written for the older client objects still finds:
// BaseClient. Today a client of a gate is a session, which needs no object; objects push
// to it by its id (goverseapi.PushMessageToClient), and programs outside the cluster are
// written with client/goverseclient.
package client

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// BaseClient is embedded by a type of client objects, in the place of BaseObject: an
// object that speaks for the client that calls it. It is like any other object: it comes
// to life when it is called, its methods run one at a time, and OnDestroy runs when it is
// put away or deleted. Its id is whatever the client chose; a client id cannot be one,
// because an id that begins with an address is pinned to the node there.
type BaseClient struct {
	object.BaseObject
}

// ClientID is the id of the client that the method is called for, through however many
// objects; empty: no client's. ctx is the method's.
func (c *BaseClient) ClientID(ctx context.Context) string { return callctx.From(ctx).Caller.ClientID }

// PushMessage sends msg to that client, as goverseapi.PushMessageToClient does. Without a
// client the error is Invalid, and outside of a method NotReady; nothing is sent then.
func (c *BaseClient) PushMessage(ctx context.Context, msg proto.Message) error {
	rt, ok := object.RuntimeFrom(ctx)
	if !ok {
		return fault.New(fault.NotReady, "the context is not that of a method: give PushMessage the one that the method was called with").On("PushMessage", c.String())
	}
	to := c.ClientID(ctx)
	if to == "" {
		return fault.New(fault.Invalid, "no client has called: the caller is another object, or a client without a session").On("PushMessage", c.String())
	}
	return rt.Push(ctx, object.Push{ClientIDs: []string{to}, Message: msg})
}
