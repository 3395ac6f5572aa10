package node

import (
	"math/rand/v2"
	"time"

	"github.com/xiaonanln/goverse/internal/peer"
	goverse_pb "github.com/xiaonanln/goverse/proto"
)

// Bounds of a feed.
const (
	followFor     = 30 * time.Second // a gate that has not renewed for so long is forgotten
	maxFollowers  = 1024             // gates
	maxRecent     = 256              // changes that are kept for who missed them,
	maxRecentSize = 256 << 10        // and their bytes; one alone may have more
)

// feed is what an activation publishes, from the first subscription on: changes with
// versions that count from 1. An activation that its shard's hand-over takes along goes
// on with the incarnation and the count, and any other begins anew, so that a version
// stands for one change and one state. It belongs to the activation's mutex.
//
//	Publish -> number: on the turn, so that a snapshot's version is that of its state
//	        -> release: at once, or behind the commit; to each gate's stream, in order
//
// What was released lately is kept for a gate that has missed some of it.
type feed struct {
	incarnation uint64
	version     uint64 // the newest that was given
	released    uint64 // the newest that left
	recent      []*change
	size        int                      // of recent
	gates       map[string]time.Duration // until when each follows, by the clock of executions
}

// change is one publication.
type change struct {
	frame peer.PushFrame
	feed  *feed // that gave it its version; nil: not yet
	size  int
}

func newFeed() *feed {
	return &feed{incarnation: rand.Uint64() | 1, gates: map[string]time.Duration{}}
}

// ofFeed is the activation's feed, or nil. a.mu is held, here and below.
func (a *activation) ofFeed() *feed {
	if a.fate == nil {
		return nil
	}
	return a.fate.feed
}

// followLocked lets gate follow from now on. It fails where too many do.
func (a *activation) followLocked(gate string) (*feed, bool) {
	f := a.ofFeed()
	if !a.followedLocked() { // in-between nothing was kept
		f = newFeed()
		a.fateLocked().feed = f
	}
	if _, known := f.gates[gate]; !known && len(f.gates) >= maxFollowers {
		return nil, false
	}
	f.gates[gate] = a.node.executions.now() + followFor
	return f, true
}

// followedLocked forgets the gates that do not renew, and with the last of them the feed.
func (a *activation) followedLocked() bool {
	f := a.ofFeed()
	if f == nil {
		return false
	}
	now := a.node.executions.now()
	for gate, until := range f.gates {
		if now >= until {
			delete(f.gates, gate)
		}
	}
	if len(f.gates) == 0 {
		a.fate.feed = nil
		return false
	}
	return true
}

// feedLocked is what the next holder has to know to go on; zeros: nothing.
func (a *activation) feedLocked() (incarnation, version uint64) {
	if !a.followedLocked() {
		return 0, 0
	}
	f := a.ofFeed()
	return f.incarnation, f.version
}

// inheritFeed goes on with the feed that came along with the state: for as long as a
// gate without a name would follow. Nobody else has the activation yet.
func (a *activation) inheritFeed(seed *peer.Staged) {
	if seed.Incarnation == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	f := newFeed()
	f.incarnation, f.version, f.released = seed.Incarnation, seed.Published, seed.Published
	f.gates[""] = a.node.executions.now() + followFor
	a.fateLocked().feed = f
}

// numberLocked gives a change the next version, unless nobody follows.
func (a *activation) numberLocked(c *change) bool {
	if !a.followedLocked() {
		return false
	}
	f := a.ofFeed()
	f.version++
	c.feed = f
	c.frame.Change = &peer.Change{Ref: a.ref, Incarnation: f.incarnation, Version: f.version}
	return true
}

// release lets a change go that has its version.
func (a *activation) release(c *change) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.releaseLocked(c)
}

func (a *activation) releaseLocked(c *change) {
	f := a.ofFeed()
	if f == nil || c.feed != f {
		return // who followed then does not any more
	}
	f.released = c.frame.Change.Version
	f.keep(c)
	a.tellLocked(c.frame)
}

// tellLocked puts a frame into the streams of all who follow.
func (a *activation) tellLocked(frame peer.PushFrame) {
	for gate := range a.ofFeed().gates {
		a.node.pushes.sendTo(gate, frame)
	}
}

// endFeedLocked tells who follows to look for the object elsewhere, or anew.
func (a *activation) endFeedLocked() {
	f := a.ofFeed()
	if f == nil {
		return
	}
	a.tellLocked(peer.PushFrame{Change: &peer.Change{Ref: a.ref, Incarnation: f.incarnation, Version: f.released, Ended: true}})
	a.fate.feed = nil
}

// keep remembers a change, and forgets the oldest beyond the bounds.
func (f *feed) keep(c *change) {
	f.recent = append(f.recent, c)
	f.size += c.size
	for len(f.recent) > 1 && (len(f.recent) > maxRecent || f.size > maxRecentSize) {
		f.size -= f.recent[0].size
		f.recent[0] = nil
		f.recent = f.recent[1:]
	}
}

// since lists what was released behind version of incarnation; false: not all of it is
// here.
func (f *feed) since(incarnation, version uint64) ([]*goverse_pb.MissedChange, bool) {
	if incarnation != f.incarnation || version > f.version || version+uint64(len(f.recent)) < f.released {
		return nil, false
	}
	var missed []*goverse_pb.MissedChange
	for _, c := range f.recent {
		if v := c.frame.Change.Version; v > version {
			missed = append(missed, &goverse_pb.MissedChange{Version: v, Message: c.frame.Message, Json: c.frame.JSON})
		}
	}
	return missed, true
}

// sendTo queues a frame for one gate, if that listens.
func (p *pushes) sendTo(gate string, frame peer.PushFrame) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if o := p.outlets[gate]; o != nil {
		o.put(frame)
	}
}
