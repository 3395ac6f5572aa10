package goverseclient

import (
	"time"

	"github.com/xiaonanln/goverse/object"
)

// clock is the time of the gates, by which call ids are judged. This machine's may be
// far from it, or be set right while the client runs: what passes since a gate was heard
// is measured. nil: no gate has told its time.
type clock struct {
	told  time.Time // by the gate
	heard time.Time // when, by this machine
}

// clockOf is the clock of a gate that has told its time just now; nil for one that tells
// none, or no time. What the way took lets it be a little late, and an id may be old but
// not from the future.
func clockOf(unixMillis int64) *clock {
	if unixMillis <= 0 || unixMillis >= 1<<48 {
		return nil
	}
	return &clock{told: time.UnixMilli(unixMillis), heard: time.Now()}
}

func (k *clock) now() time.Time {
	if k == nil {
		return time.Now()
	}
	return k.told.Add(time.Since(k.heard))
}

// GenerateCallID mints an id for WithCallID and ReliableCallObject: a UUID of version
// 7, which carries the time. It is good for 23 hours. The time is that of the gate that
// the client was connected to last, so that ids are good on a machine whose clock is
// wrong; before the first connection it is this machine's.
func (c *Client) GenerateCallID() string { return object.NewCallIDAt(c.clock.Load().now()) }
