package goverseclient

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/xiaonanln/goverse/util/protohelper"
)

// MessageChan has what objects push to this client, in order; Close closes it. One
// whose type the program does not link comes as the *anypb.Any that it was in.
//
// It holds 1,024 messages. When nobody reads, each new one drops the oldest, and
// Dropped counts it: calls and the connection never wait for a reader. A program that
// takes its messages with WithOnMessage may leave the channel alone.
func (c *Client) MessageChan() <-chan proto.Message { return c.messages }

// Dropped is how many pushed messages were dropped because the program was 1,024
// behind with its callbacks (a telling of a connection counts too) or, without
// WithOnMessage, with MessageChan. What they said must be read anew.
func (c *Client) Dropped() uint64 { return c.dropped.Load() }

// deliver hands on one pushed message. It is called by one link at a time, and one by one.
func (c *Client) deliver(a *anypb.Any) {
	m, err := protohelper.AnyToMsg(a)
	if err != nil {
		m = a
	}
	f := c.cfg.onMessage
	if f != nil {
		c.tell(func() { f(m) })
	}
	for {
		select {
		case c.messages <- m:
			return
		default:
		}
		select {
		case <-c.messages:
			if f == nil {
				c.drop()
			}
		default: // somebody read it
		}
	}
}

// tell has a callback called.
func (c *Client) tell(f func()) {
	if c.herald.tell(f) {
		c.drop()
	}
}

func (c *Client) drop() {
	if c.dropped.Add(1) == 1 {
		c.cfg.log.Warn("the program does not keep up with what is pushed, and the oldest messages are dropped")
	}
}
