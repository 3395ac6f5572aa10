package gate

import (
	"container/list"
	"sync"
	"time"

	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
	goverse_pb "github.com/xiaonanln/goverse/proto"
)

// Bounds of what a feed keeps: a client that falls back further gets the state anew.
const (
	maxChanges      = 256
	maxChangesBytes = 256 << 10 // one alone may have more
)

// feed is one object's changes as they came to this gate. Those who have subscribed read
// it each at its own place; where a change is missing, or came from another activation,
// a renewal closes the gap or they begin anew with a snapshot.
type feed struct {
	of  *Feeds
	ref object.Ref

	// These belong to Feeds.mu.
	users    int
	idle     *list.Element // in Feeds.idle, while it has none; else nil
	until    time.Time     // how long it stays there
	due      time.Time     // the next renewal
	renewing bool
	hurried  bool      // to be renewed at once
	doubted  time.Time // since when the holder does not have what is missing; belongs to who renews

	mu          sync.Mutex       // protects following fields
	incarnation uint64           // of the activation; 0: not known
	version     uint64           // of the newest change
	changes     []peer.PushFrame // up to it, without a gap
	size        int
	early       []peer.PushFrame // that do not follow: one before them is missing
	earlySize   int
	node        string // the holder
	stirs       uint64 // how often changes may have gone past the gate: an answer that was asked for before may be old
	readers     map[*Subscription]struct{}
}

func newFeed(of *Feeds, ref object.Ref) *feed {
	return &feed{of: of, ref: ref, readers: map[*Subscription]struct{}{}}
}

// stir notes that the stream of a node began or ended; true: it is the holder's, which is
// to be asked. An answer that is still on its way may make it that.
func (f *feed) stir(node string) (ask bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stirs++
	return f.node == node
}

// at is how far the feed has come, and after how many stirs.
func (f *feed) at() (incarnation, version, stirs uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.incarnation, f.version, f.stirs
}

// deliver takes a frame from the holder's stream; true: the holder is to be asked.
func (f *feed) deliver(frame peer.PushFrame) (ask bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := frame.Change
	switch {
	case c.Ended: // perhaps of an activation whose answer is still on its way
		f.stirs++
		return c.Incarnation == f.incarnation
	case c.Incarnation == f.incarnation && c.Version <= f.version:
		return false
	case c.Incarnation == f.incarnation && c.Version == f.version+1:
		f.addLocked(frame)
		f.catchUpLocked()
		f.tellLocked()
		return false
	}
	ask = len(f.early) == 0 && f.incarnation != 0
	if f.earlySize += sizeOf(frame); len(f.early) >= maxChanges || f.earlySize > maxChangesBytes {
		f.early, f.earlySize = nil, sizeOf(frame) // they are asked for, or a snapshot is
	}
	f.early = append(f.early, frame)
	return ask
}

func (f *feed) addLocked(frame peer.PushFrame) {
	f.version = frame.Change.Version
	f.changes = append(f.changes, frame)
	f.size += sizeOf(frame)
	for len(f.changes) > 1 && (len(f.changes) > maxChanges || f.size > maxChangesBytes) {
		f.dropLocked()
	}
}

func (f *feed) dropLocked() {
	f.size -= sizeOf(f.changes[0])
	f.changes[0] = peer.PushFrame{}
	f.changes = f.changes[1:]
}

func sizeOf(frame peer.PushFrame) int { return len(frame.Message.GetValue()) + len(frame.JSON) + 64 }

// catchUpLocked takes the early ones that follow now, and forgets those that never will.
func (f *feed) catchUpLocked() {
	for again := true; again; {
		again = false
		rest := f.early[:0]
		for _, frame := range f.early {
			switch c := frame.Change; {
			case c.Incarnation == f.incarnation && c.Version == f.version+1:
				f.addLocked(frame)
				again = true
			case c.Incarnation != f.incarnation || c.Version > f.version:
				rest = append(rest, frame)
			}
		}
		f.setEarlyLocked(rest)
	}
}

// setEarlyLocked keeps rest, which is what is left in place.
func (f *feed) setEarlyLocked(rest []peer.PushFrame) {
	clear(f.early[len(rest):])
	f.early, f.earlySize = rest, 0
	for _, frame := range rest {
		f.earlySize += sizeOf(frame)
	}
	if len(rest) == 0 {
		f.early = nil
	}
}

// mayCome says that what is missing may still be on its way: the object has just moved, and
// the streams of two holders have no order between them.
func (f *feed) mayCome(now time.Time) bool {
	if f.doubted.IsZero() {
		f.doubted = now
	}
	return now.Sub(f.doubted) < lateWithin
}

// hasAll says that nothing is missing although the holder could not go on from where it
// was asked to: the question waited while the object moved, and the answer came later than
// the changes in between.
func (f *feed) hasAll(reply *goverse_pb.SubscribeReply) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return reply.Incarnation == f.incarnation && reply.Version <= f.version
}

// goOn takes what was missed; false: something still is.
func (f *feed) goOn(reply *goverse_pb.SubscribeReply) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if reply.Incarnation != f.incarnation {
		return true // it began anew meanwhile
	}
	f.node = reply.Node
	for _, m := range reply.Missed {
		if m.Version == f.version+1 {
			f.addLocked(f.frameOf(m))
		}
	}
	f.forgetOthersLocked()
	f.catchUpLocked()
	f.tellLocked()
	f.trimLocked()
	return len(f.early) == 0
}

// frameOf is a change that was missed, of the incarnation that is followed.
func (f *feed) frameOf(m *goverse_pb.MissedChange) peer.PushFrame {
	return peer.PushFrame{Message: m.Message, JSON: m.Json, Change: &peer.Change{Ref: f.ref, Incarnation: f.incarnation, Version: m.Version}}
}

// forgetOthersLocked drops early changes of activations that the holder does not know.
func (f *feed) forgetOthersLocked() {
	rest := f.early[:0]
	for _, frame := range f.early {
		if frame.Change.Incarnation == f.incarnation {
			rest = append(rest, frame)
		}
	}
	f.setEarlyLocked(rest)
}

// trimLocked forgets what everybody has read, so that a quiet object costs nothing. Where
// nobody reads somebody may come back.
func (f *feed) trimLocked() {
	if len(f.readers) == 0 {
		return
	}
	read := f.version
	for s := range f.readers {
		if s.incarnation != f.incarnation || s.asking {
			return
		}
		read = min(read, s.version)
	}
	for len(f.changes) > 0 && f.changes[0].Change.Version <= read {
		f.dropLocked()
	}
	if len(f.changes) == 0 {
		f.changes = nil
	}
}

// beginAnew follows what the reply names: whoever reads has to begin anew.
func (f *feed) beginAnew(reply *goverse_pb.SubscribeReply) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.beginAnewLocked(reply)
	f.forgetOthersLocked()
}

func (f *feed) beginAnewLocked(reply *goverse_pb.SubscribeReply) {
	f.incarnation, f.version, f.node = reply.Incarnation, reply.Version, reply.Node
	f.changes, f.size = nil, 0
	f.catchUpLocked()
	f.tellLocked()
}

// lose forgets where the feed was.
func (f *feed) lose() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.incarnation, f.version, f.changes, f.size = 0, 0, nil, 0
	f.setEarlyLocked(nil)
	f.tellLocked()
}

// learnLocked takes what an answer to a reader says of the feed; true: it says something
// else than was known, and the holder is to be asked which of both is old.
func (f *feed) learnLocked(reply *goverse_pb.SubscribeReply) (ask bool) {
	if reply.Incarnation == f.incarnation {
		f.node = reply.Node
		return false
	}
	known := f.incarnation != 0
	f.beginAnewLocked(reply)
	return known || len(f.early) > 0
}

// reachesLocked says that all changes behind version are here, or are to come.
func (f *feed) reachesLocked(version uint64) bool {
	return version+uint64(len(f.changes)) >= f.version
}

// tellLocked tells all who read that there may be something for them.
func (f *feed) tellLocked() {
	for s := range f.readers {
		s.client.mark(s)
	}
}
