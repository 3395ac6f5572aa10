package node

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"math"
	"math/rand/v2"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"sync"
	"time"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// DefaultMaxActivations is how many objects live on a node at once unless its
// configuration says otherwise.
const DefaultMaxActivations = 1_000_000

// Eviction takes the least recently used of a random sample, so no call has to keep a
// list in order: of a sample of 32 the eldest quarter goes, and half of the victims are
// among the 13 % of all idle objects that were used longest ago, 99 % among the 38 %.
const (
	evictSample = 32
	evictEach   = 2 // of a slot at most: the ids of one have a pattern, and with it often an age
	evictShare  = 4 // one of so many of the sample
)

// fullFor is for how long nobody looks again after nothing was found that could make
// room: such a look goes through everything.
const fullFor = 50 * time.Millisecond

// Where a garbage collection leaves more alive than a fraction of the memory limit of
// the Go runtime (GOMEMLIMIT), a fraction of the objects is evicted.
const (
	heapShare = 0.6
	heapEvict = 20 // one of so many, after each collection
	heapLook  = time.Second
)

// errFull sends a call back that would begin an activation over the bound.
var errFull = errors.New("too many objects are active")

// makeRoom ends idle activations and waits until one has ended, or says why there is
// none: everything runs, waits, or has state that is nowhere else.
func (n *Node) makeRoom(ctx context.Context) error {
	if time.Since(time.Unix(0, n.fullAt.Load())).Abs() < fullFor {
		return n.full()
	}
	victims, ending := n.victims()
	for _, a := range victims {
		if a.evict() {
			ending = a
		}
	}
	switch {
	case ending == nil && len(victims) > 0:
		return nil // they were taken into use again: look anew
	case ending == nil:
		n.fullAt.Store(time.Now().UnixNano())
		return n.full()
	}
	select {
	case <-ending.gone():
		return nil
	case <-ctx.Done():
		return fault.Waited(ctx, "while other objects were ended to make room")
	}
}

func (n *Node) full() error {
	e := fault.New(fault.Overloaded, "%d objects are active on this node (MaxActivations) and none of them can be ended now", n.cfg.MaxActivations)
	e.RetryAfter = fullFor
	return &beyond{event.Activations, e}
}

// victims is the eldest of a sample of what may be evicted, or else some activation
// that is ending. Volatile objects with a state come last.
func (n *Node) victims() (eldest []*activation, ending *activation) {
	type candidate struct {
		a    *activation
		used time.Duration
	}
	now := n.executions.now()
	var free, volatile []candidate
	// At random: neighbours among the shards have ids in a pattern, too.
	for at := range n.deck.deal(len(n.slots)) {
		s := &n.slots[at]
		s.mu.Lock()
		full := min(evictSample, len(free)+evictEach)
		for a := range s.acts.all() { // begins anywhere
			a.mu.Lock()
			switch {
			case a.state >= closing:
				ending = a
			case !a.evictableLocked(now):
			case a.isOnlyCopy():
				volatile = append(volatile, candidate{a, a.lastUsed})
			default:
				free = append(free, candidate{a, a.lastUsed})
			}
			a.mu.Unlock()
			if len(free) == full {
				break
			}
		}
		s.mu.Unlock()
		if len(free) == evictSample {
			break
		}
	}
	if len(free) == 0 {
		free = volatile[:min(len(volatile), evictSample)]
	}
	slices.SortFunc(free, func(a, b candidate) int { return cmp.Compare(a.used, b.used) })
	for _, c := range free[:(len(free)+evictShare-1)/evictShare] {
		eldest = append(eldest, c.a)
	}
	return eldest, ending
}

// A deck deals the numbers 0 to n-1, each once, in random order. What it dealt before
// makes no difference. The zero value is ready.
type deck struct {
	mu    sync.Mutex // protects cards
	cards []int32
}

func (d *deck) deal(n int) iter.Seq[int] {
	return func(yield func(int) bool) {
		d.mu.Lock()
		defer d.mu.Unlock()
		for i := len(d.cards); i < n; i++ {
			d.cards = append(d.cards, int32(i))
		}
		for i := range n {
			j := i + rand.IntN(n-i)
			d.cards[i], d.cards[j] = d.cards[j], d.cards[i]
			if !yield(int(d.cards[i])) {
				return
			}
		}
	}
}

// isOnlyCopy: its state is nowhere but here.
func (a *activation) isOnlyCopy() bool { return a.keep == object.Volatile && a.typ.Persistent }

// evictableLocked: it lives, nobody uses, waits for or follows it, and its state outlives it, or
// it is idle for as long as its type demands. a.mu is held.
func (a *activation) evictableLocked(now time.Duration) bool {
	if a.state != live || a.door != doorOpen || !a.turns.atRest() || a.followedLocked() {
		return false
	}
	idle := a.typ.IdleTimeout
	return !a.isOnlyCopy() || idle > 0 && now-a.lastUsed >= idle
}

// evict ends an idle activation; false: it is in use again.
func (a *activation) evict() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.evictableLocked(a.node.executions.now()) {
		return false
	}
	a.endLocked("evicted")
	return true
}

// relieve evicts where the heap has grown past its share of the memory limit. It
// belongs to the sweep.
func (n *Node) relieve() {
	limit := memoryLimit()
	if limit == math.MaxInt64 {
		return
	}
	bytes, collection := heapAlive()
	if collection == n.marked || float64(bytes) < heapShare*float64(limit) {
		return // what was evicted since shows only after the next collection
	}
	n.marked = collection
	n.reached(event.Memory, object.Ref{})
	for left := int(n.live.Load())/heapEvict + 1; left > 0; {
		victims, _ := n.victims()
		if len(victims) == 0 {
			return
		}
		for _, a := range victims {
			a.evict()
		}
		left -= len(victims)
	}
}

// memoryLimit is what GOMEMLIMIT or debug.SetMemoryLimit said; math.MaxInt64: nothing.
func memoryLimit() int64 { return debug.SetMemoryLimit(-1) }

// heapAlive is what the last garbage collection found alive, and which one that was.
func heapAlive() (bytes, collection uint64) {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/cycles/total:gc-cycles"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64(), samples[1].Value.Uint64()
}
