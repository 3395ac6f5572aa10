package goverseapi

import "github.com/xiaonanln/goverse/object"

// PushOption says what becomes of a push at a client that does not keep up and has a
// resumable session. Any other session ends when too much waits for its client.
type PushOption func(*object.Push)

// SlowPolicy is what happens when a push does not fit with what waits for a client.
type SlowPolicy uint8

const (
	// DropOldest drops the oldest messages that wait, and tells the client that they are
	// lost. The default.
	DropOldest SlowPolicy = iota
	// Disconnect ends the client's session: it is to connect again, and read the state anew.
	Disconnect
)

// WhenSlow says what happens when the push does not fit.
func WhenSlow(p SlowPolicy) PushOption {
	return func(o *object.Push) { o.Disconnect = p == Disconnect }
}

// Coalesce lets the push take the place of one that still waits for the same client, with the
// same key: of a value that changes often a slow client gets the last. It then comes behind
// all that were pushed before it, and nothing is announced as lost. Keys are the client's,
// whoever pushes: make them of the object's type and id. At most 256 bytes; "" is none.
func Coalesce(key string) PushOption { return func(o *object.Push) { o.Key = key } }
