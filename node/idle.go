package node

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Bounds of the pause between two looks at all activations.
const (
	minSweep = 10 * time.Millisecond
	maxSweep = 10 * time.Second
)

// sweep ends what is idle and saves what is periodic, until ctx ends.
func (n *Node) sweep(ctx context.Context) {
	for {
		select {
		case <-time.After(n.sweepPause()):
		case <-ctx.Done():
			return
		}
		now := time.Now()
		var due []*activation
		for i := range n.slots {
			s := &n.slots[i]
			s.mu.Lock()
			for _, a := range s.acts {
				if a.idleOrDue(now, n.flushEvery(a)) {
					due = append(due, a)
				}
			}
			s.mu.Unlock()
		}
		n.flushAll(ctx, due)
	}
}

// sweepPause is a fraction of the shortest time that any type asks for.
func (n *Node) sweepPause() time.Duration {
	shortest := maxSweep * 8
	for _, name := range n.cfg.Types.Names() {
		t, _ := n.cfg.Types.Lookup(name)
		for _, d := range []time.Duration{t.IdleTimeout, t.Durability.Interval()} {
			if d > 0 {
				shortest = min(shortest, d)
			}
		}
	}
	n.mu.Lock()
	if n.interval > 0 {
		shortest = min(shortest, n.interval)
	}
	n.mu.Unlock()
	return min(max(shortest/8, minSweep), maxSweep)
}

func (n *Node) flushEvery(a *activation) time.Duration {
	if a.keep.Interval() == 0 {
		return 0
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.interval > 0 {
		return n.interval
	}
	return a.keep.Interval()
}

// idleOrDue ends an idle activation, and tells whether it is time to save.
func (a *activation) idleOrDue(now time.Time, every time.Duration) (due bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state != live {
		return false
	}
	if d := a.typ.IdleTimeout; d > 0 && now.Sub(a.lastUsed) >= d && a.turns.atRest() {
		a.endLocked("idle")
		return false
	}
	return a.save.dirty && every > 0 && now.Sub(a.save.since) >= every
}

// flushAll saves activations, some at a time, and returns what failed.
func (n *Node) flushAll(ctx context.Context, due []*activation) error {
	var (
		all  sync.WaitGroup
		mu   sync.Mutex
		errs []error
		slot = make(chan struct{}, 16)
	)
	for _, a := range due {
		slot <- struct{}{}
		all.Go(func() {
			defer func() { <-slot }()
			if err := a.flush(ctx); err != nil && !errors.Is(err, errMovedOn) { // an ending one flushes itself
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
		count += len(s.acts)
		s.mu.Unlock()
	}
	return count
}
