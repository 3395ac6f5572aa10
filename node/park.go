package node

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// Bounds of what waits at a node's slots. One object's calls are bounded besides as
// its queue is, so that they all find room there when they are let go.
const (
	maxParked      = 1024     // calls of one shard
	maxParkedBytes = 8 << 20  // requests of one shard
	maxParkedNode  = 64 << 20 // requests of all shards
)

// parkRetry is when somebody who found no room should come again.
const parkRetry = 50 * time.Millisecond

// untilDeadline is a wait that only the call's own context bounds.
const untilDeadline = time.Duration(math.MaxInt64)

// aheadWait is for how long a call waits that was sent by a newer view than this
// node's: the node is about to hold the shard.
const aheadWait = 200 * time.Millisecond

// Chains that begin on other shards could keep a busy shard from ever being at
// rest. After holdAfter of draining their calls are held back for holdFor in every
// holdEvery.
const (
	holdAfter = time.Second
	holdEvery = 500 * time.Millisecond
	holdFor   = 100 * time.Millisecond
)

// errAside sends a call back to its slot, where it waits for the slot to change.
var errAside = errors.New("the call has to wait at its shard")

// verdict is what a slot says to a call that wants in.
type verdict struct {
	err  error         // nil: come in
	wait time.Duration // above 0: another verdict may come within this time; err stands if none does
}

// now is the verdict for somebody who cannot wait where he is.
func (v verdict) now() error {
	if v.wait > 0 {
		return errAside
	}
	return v.err
}

// parks says that the call can wait at a slot for as long as a drain takes: it is a
// root call, so it holds no turn that anyone could be waiting for.
func (c *call) parks() bool { return len(c.chain.Path) == 0 && !c.own }

// hold says whether a nested call is held back, d after the drain began.
func (s *slot) hold(c *call, d time.Duration) verdict {
	into := d % holdEvery
	if d < holdAfter || into >= holdFor || inShard(c.chain.Path, s.shard) {
		return verdict{}
	}
	return verdict{fault.New(fault.Draining, "shard %d is leaving this node", s.shard), holdFor - into}
}

// inShard says that the path has a turn in the shard.
func inShard(path []callctx.Turn, shard int) bool {
	return slices.ContainsFunc(path, func(t callctx.Turn) bool { return t.Shard == shard })
}

// park waits until the slot lets the call in: then its error is nil.
func (s *slot) park(ctx context.Context, c *call) error {
	c.weigh()
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.admit(c, 0)
	if v.wait == 0 {
		return v.err
	}
	began := time.Now()
	if err := s.reserve(c); err != nil {
		return err
	}
	defer s.free(c)
	for ; v.wait > 0; v = s.admit(c, time.Since(began)) {
		changed := s.watched()
		s.mu.Unlock()
		err := await(ctx, changed, v.wait)
		s.mu.Lock()
		if err != nil {
			return err
		}
	}
	if s.state == shut && s.parted != nil {
		return s.parted
	}
	return v.err
}

// await waits for changed, d at the longest. Its error says that ctx has ended.
func await(ctx context.Context, changed <-chan struct{}, d time.Duration) error {
	bounded := ctx
	if d != untilDeadline {
		var cancel context.CancelFunc
		bounded, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	select {
	case <-changed:
		return nil
	case <-bounded.Done():
	}
	if ctx.Err() != nil {
		return fault.Waited(ctx, "while its shard was between two nodes")
	}
	return nil
}

// lot counts what waits at a slot. It belongs to the slot's mutex.
type lot struct {
	share
	objects map[object.Ref]share
}

// share is so many calls, and the bytes of their requests.
type share struct{ calls, bytes int }

func (n share) with(weight int) share    { return share{n.calls + 1, n.bytes + weight} }
func (n share) without(weight int) share { return share{n.calls - 1, n.bytes - weight} }

// takes says that one object's queue would take this one with the others.
func (n share) takes(c *call) bool {
	return n.calls == 0 || n.calls < c.typ.MaxQueue && n.bytes+c.weight <= maxQueueBytes
}

// reserve makes room for a call or refuses it. s.mu is held.
func (s *slot) reserve(c *call) error {
	l := &s.lot
	full := l.calls >= maxParked || l.bytes+c.weight > maxParkedBytes || !l.objects[c.ref].takes(c)
	if !full && s.node.parked.Add(int64(c.weight)) > maxParkedNode {
		s.node.parked.Add(int64(-c.weight))
		full = true
	}
	if full {
		e := fault.New(fault.Draining, "shard %d is between two nodes, and too many calls wait for it already", s.shard)
		e.RetryAfter = parkRetry
		return &beyond{event.ParkedCalls, e}
	}
	if l.objects == nil {
		l.objects = map[object.Ref]share{}
	}
	l.share = l.with(c.weight)
	l.objects[c.ref] = l.objects[c.ref].with(c.weight)
	return nil
}

// free gives a call's room back. s.mu is held.
func (s *slot) free(c *call) {
	l := &s.lot
	s.node.parked.Add(int64(-c.weight))
	l.share = l.without(c.weight)
	if left := l.objects[c.ref].without(c.weight); left.calls > 0 {
		l.objects[c.ref] = left
	} else {
		delete(l.objects, c.ref)
	}
	if l.calls == 0 {
		l.objects = nil
	}
}
