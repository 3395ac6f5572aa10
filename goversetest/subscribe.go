package goversetest

import (
	"context"

	"github.com/xiaonanln/goverse/gate"
)

// Subscription is what a client is told of one object. Its methods belong to one
// goroutine.
type Subscription struct {
	client *Client
	feed   *gate.Subscriber
}

// Subscribe subscribes the client to an object; ref is Type/id. It is simulated only, and
// ends with Close.
func (c *Client) Subscribe(ref string) *Subscription {
	c.t.Helper()
	return c.SubscribeFrom(ref, gate.Point{})
}

// SubscribeFrom is Subscribe for a client that has come so far with the object, here or at
// another gate.
func (c *Client) SubscribeFrom(ref string, from gate.Point) *Subscription {
	c.t.Helper()
	s, simulated := c.session.(*simSession)
	if !simulated {
		c.t.Fatalf("Subscribe(%s) is for the simulated world", ref)
	}
	f := &Subscription{client: c, feed: s.gate.feeds.Open(context.Background(), s.ID(), false)}
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	begun, err := f.feed.SubscribeFrom(ctx, parse(c.t, ref), from)
	if err != nil {
		f.feed.Close()
		c.t.Fatalf("client %s: subscribing to %s: %v", c.ID(), ref, err)
	}
	begun.Start()
	return f
}

// Next waits for what the client is told next; false: ctx has ended.
func (s *Subscription) Next(ctx context.Context) (gate.Published, bool) {
	for {
		if p, ok := s.feed.Next(); ok {
			return p, true
		}
		select {
		case <-s.feed.Ready():
		case <-ctx.Done():
			return gate.Published{}, false
		}
	}
}

// Close ends the subscription.
func (s *Subscription) Close() { s.feed.Close() }
