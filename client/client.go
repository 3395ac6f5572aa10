// Package client is what a program written for the older client objects still finds:
// BaseClient. Today a client of a gate is a session, which needs no object; objects push
// to it by its id (goverseapi.PushMessageToClient), and programs outside the cluster are
// written with client/goverseclient.
package client

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// BaseClient is embedded by a type of client objects, in the place of BaseObject: an
// object that stands for one client and has that client's id as its own. It is like any
// other object: it comes to life when it is called, its methods run one at a time, and
// OnDestroy runs when it is put away or deleted. Register it as any type.
type BaseClient struct {
	object.BaseObject
}

// ClientID is the id of the client that the object stands for, which is the object's.
func (c *BaseClient) ClientID() string { return c.Id() }

// PushMessage sends msg to that client, as goverseapi.PushMessageToClient does. ctx is the
// method's: outside of a method there is nobody to send it, and the error is NotReady.
func (c *BaseClient) PushMessage(ctx context.Context, msg proto.Message) error {
	rt, ok := object.RuntimeFrom(ctx)
	if !ok {
		return fault.New(fault.NotReady, "the context is not that of a method: give PushMessage the one that the method was called with").On("PushMessage", c.String())
	}
	return rt.Push(ctx, object.Push{ClientIDs: []string{c.Id()}, Message: msg})
}
