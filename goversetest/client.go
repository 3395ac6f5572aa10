package goversetest

import (
	"context"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/xiaonanln/goverse/object"
)

// Client is a program outside the cluster, connected to the gate.
type Client struct {
	t testing.TB
	session
}

// session is a client's connection in one of the worlds.
type session interface {
	id() string
	call(ctx context.Context, c object.Call) (object.Payload, error)
	next(ctx context.Context) (*anypb.Any, error)
	ended() bool
	close()
}

// ID is the client id that the gate gave it: what objects push to.
func (c *Client) ID() string { return c.id() }

// TryCall calls a method through the gate. ref is Type/id.
func (c *Client) TryCall(ref, method string, req proto.Message) (proto.Message, error) {
	return call(c.t.Context(), c.call, object.Call{Ref: parse(c.t, ref), Method: method, Payload: object.OfMessage(req)})
}

// TryCallContext is TryCall within ctx.
func (c *Client) TryCallContext(ctx context.Context, ref, method string, req proto.Message) (proto.Message, error) {
	return call(ctx, c.call, object.Call{Ref: parse(c.t, ref), Method: method, Payload: object.OfMessage(req)})
}

// TryCallOnce is TryCall of a call that has an id.
func (c *Client) TryCallOnce(ctx context.Context, callID, ref, method string, req proto.Message) (proto.Message, error) {
	return call(ctx, c.call, object.Call{Ref: parse(c.t, ref), Method: method, ID: callID, Payload: object.OfMessage(req)})
}

// Do implements goverseapi.Caller: typed references call through the gate.
func (c *Client) Do(ctx context.Context, call object.Call) (object.Payload, error) {
	return c.call(ctx, call)
}

// Ended says that the session is over, as when its gate has gone: Connect again.
func (c *Client) Ended() bool { return c.ended() }

// Call is TryCall for a call that has to succeed.
func (c *Client) Call(ref, method string, req proto.Message) proto.Message {
	c.t.Helper()
	reply, err := c.TryCall(ref, method, req)
	if err != nil {
		c.t.Fatalf("client %s: %s.%s: %v", c.ID(), ref, method, err)
	}
	return reply
}

// Next waits for the next message that was pushed to this client.
func (c *Client) Next() proto.Message {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	a, err := c.next(ctx)
	if err != nil {
		c.t.Fatalf("client %s waited for a push: %v", c.ID(), err)
	}
	m, err := a.UnmarshalNew()
	if err != nil {
		c.t.Fatalf("client %s got a push it cannot read: %v", c.ID(), err)
	}
	return m
}

// Close ends the session.
func (c *Client) Close() { c.close() }
