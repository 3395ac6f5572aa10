package main

import (
	"context"
	"net"
	"time"

	"github.com/xiaonanln/goverse/bench/continuity/witness"
)

// line is one connection of a client. hear has one user; the others may be called
// concurrently with it.
type line interface {
	// hear returns what the gate says next.
	hear() ([]word, error)
	// say says something, if the connection still stands.
	say(ask)
	// hangUp ends the connection without a word.
	hangUp()
	// leave ends the session for good. The line ends soon, and hear fails then.
	leave()
}

// door is one of a gate's ways in.
type door interface {
	// open connects and greets. The first word that the line hears is a welcome.
	open(ctx context.Context, g greeting) (line, error)
}

// greeting is how a client begins a connection.
type greeting struct {
	plain bool   // it does not want to come back
	token string // of the session to go on with
	last  uint64 // what came there
	deaf  bool   // it will not read: its windows are small, so that this shows soon
}

// ask is what a client says.
type ask struct {
	kind   string // call, subscribe or ack
	number uint64 // of the call; or up to where it acknowledges
	board  string
	method string
	reader int64 // for Join
}

// The kinds of word.
const (
	welcomed  = "welcome"
	pushed    = "push"
	lost      = "reset"
	answered  = "answer"
	published = "published"
	endedSub  = "unsubscribed"
	goodbye   = "goodbye"
	silence   = "heartbeat"
)

// word is one thing that a gate says.
type word struct {
	kind string
	why  string // of an answer that is an error, and of ends

	client  string // welcome
	token   string
	resumed bool

	seq   uint64 // push
	said  saying // push, published
	reset witness.Reset

	call  uint64 // answer: to which
	count int64  // what it says

	version         uint64 // published
	snapshot, again bool
}

// connectWithin is how long a reader waits for a connection and its welcome before it tries
// again.
const connectWithin = 10 * time.Second

// dial connects, for a client that is deaf with the smallest of windows.
func dial(ctx context.Context, address string, deaf bool) (net.Conn, error) {
	var d net.Dialer
	if deaf {
		d.Control = narrow
	}
	return d.DialContext(ctx, "tcp", address)
}
