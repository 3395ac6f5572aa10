package node

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"github.com/xiaonanln/goverse/object"
)

// Bounds of the pause between two looks at all activations.
const (
	minSweep = 10 * time.Millisecond
	maxSweep = 10 * time.Second
)

// maxFlushes bounds how many objects are being saved for their interval.
const maxFlushes = 16

// sweep ends what is idle and saves what is periodic, until ctx ends. It waits for
// no turn: an object that is in a call saves itself at the call's end.
func (n *Node) sweep(ctx context.Context) {
	flushes := make(chan struct{}, maxFlushes)
	for {
		n.pause.Store(math.MaxInt64) // whoever comes meanwhile asks for another look
		pause := n.sweepPause()
		n.pause.Store(int64(pause))
		if !n.awaitSweep(ctx, pause) {
			continue
		}
		if ctx.Err() != nil {
			return
		}
		n.relieve()
		now := time.Now()
		due := n.sweepOnce(now, pause)
		n.watchdog.look(n, now)
		for _, a := range due {
			select {
			case flushes <- struct{}{}:
			case <-ctx.Done():
				return
			}
			n.running.Go(func() {
				defer func() { <-flushes }()
				a.flushIfFree()
			})
		}
	}
}

// awaitSweep waits for pause or for ctx's end; false: the pause may be too long now.
func (n *Node) awaitSweep(ctx context.Context, pause time.Duration) bool {
	bounded, cancel := context.WithTimeout(ctx, pause) // as in pause
	defer cancel()
	select {
	case <-bounded.Done():
		return true
	case <-n.resweep:
		return false
	}
}

// sweepOnce ends what is idle and returns what should be saved before the next look,
// which comes after pause.
func (n *Node) sweepOnce(now time.Time, pause time.Duration) (due []*activation) {
	for i := range n.slots {
		s := &n.slots[i]
		s.mu.Lock()
		for a := range s.acts.all() {
			if a.idleOrDue(now, pause) {
				due = append(due, a)
			}
		}
		s.mu.Unlock()
	}
	return due
}

// sweepPause is a fraction of the shortest time that any type asks for.
func (n *Node) sweepPause() time.Duration {
	shortest := maxSweep * 8
	if memoryLimit() < math.MaxInt64 {
		shortest = heapLook * 8
	}
	for _, name := range n.cfg.Types.Names() {
		t, _ := n.cfg.Types.Lookup(name)
		shortest = min(shortest, shortestOf(t))
	}
	if d := time.Duration(n.interval.Load()); d > 0 {
		shortest = min(shortest, d)
	}
	return min(max(shortest/8, minSweep), maxSweep)
}

// shortestOf is how soon something may be due for an object of a type.
func shortestOf(t *object.Type) time.Duration {
	shortest := maxSweep * 8
	for _, d := range [...]time.Duration{t.IdleTimeout, t.Durability.Interval(), t.MethodTimeout} {
		if d > 0 {
			shortest = min(shortest, d)
		}
	}
	return shortest
}

// sweepSooner lets the sweep think again where it would come too late for something
// that is due every d.
func (n *Node) sweepSooner(d time.Duration) {
	if d <= 0 || max(d/8, minSweep) >= time.Duration(n.pause.Load()) {
		return
	}
	select {
	case n.resweep <- struct{}{}:
	default:
	}
}

// saveEvery is how often a periodic object is saved.
func (n *Node) saveEvery(keep object.Durability) time.Duration {
	if d := time.Duration(n.interval.Load()); d > 0 {
		return d
	}
	return keep.Interval()
}

// idleOrDue ends an idle activation, and tells whether it has to be saved before the
// next look. One that is in a call then saves itself at the call's end.
func (a *activation) idleOrDue(now time.Time, pause time.Duration) (due bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.frames.head != nil {
		a.node.watchdog.meet(&a.frames, now)
	}
	if a.state != live || a.door != doorOpen { // who empties the shard sees to it
		return false
	}
	if d := a.typ.IdleTimeout; d > 0 && a.node.executions.since(now)-a.lastUsed >= d && a.turns.atRest() && !a.followedLocked() && !a.node.loads.keeps(a.ref) {
		a.endLocked("idle")
		return false
	}
	if a.save == nil {
		return false
	}
	a.save.due = a.saveDueLocked(now.Add(pause))
	return a.save.due
}

// flushAll saves activations, some at a time, and returns what failed.
func (n *Node) flushAll(ctx context.Context, due []*activation) error {
	var (
		all  sync.WaitGroup
		mu   sync.Mutex
		errs []error
		slot = make(chan struct{}, maxFlushes)
	)
	for _, a := range due {
		slot <- struct{}{}
		all.Go(func() {
			defer func() { <-slot }()
			if err := a.flush(ctx); err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// SaveAllObjects saves every periodic object with unsaved changes and waits until
// they are durable. Durable objects need no such call.
func (n *Node) SaveAllObjects(ctx context.Context) error {
	var all []*activation
	for i := range n.slots {
		s := &n.slots[i]
		s.mu.Lock()
		all = append(all, s.list()...)
		s.mu.Unlock()
	}
	return n.flushAll(ctx, all)
}

// NumObjects counts the activations on this node.
func (n *Node) NumObjects() int {
	count := 0
	for i := range n.slots {
		s := &n.slots[i]
		s.mu.Lock()
		count += s.acts.count
		s.mu.Unlock()
	}
	return count
}
