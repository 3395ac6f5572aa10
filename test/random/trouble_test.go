package random

import (
	"errors"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/memstore"
)

// troubles is what the store does to the commits of every other story's nodes: some take
// long, some lose their answer, some arrive when nobody waits for them any more, and, where
// calls may fail, some do not take place. A node can so be cut off or die while a call's
// save is on its way.
//
// Its chances are its own: what befalls the nodes of a seed is the same with it and without.
type troubles struct {
	seed    uint64
	store   *memstore.Store
	refuses bool // calls may fail

	mu    sync.Mutex            // protects following field
	nodes map[string]*rand.Rand // by address
}

// slowest is how long a commit, or a method that does not heed its context, may take: less
// than a lease keeps back, so that neither outlives it.
const slowest = 400 * time.Millisecond

// beginTroubles begins them, if the story has any.
func (r *runner) beginTroubles() {
	r.troubled = !r.calm && rand.New(rand.NewPCG(r.seed, 4)).IntN(2) == 0
	if !r.troubled {
		return
	}
	t := &troubles{seed: r.seed, store: r.w.Store(), refuses: !r.planned, nodes: map[string]*rand.Rand{}}
	t.store.Fail(t.plan)
}

// endTroubles waits until no commit can fail any more.
func (r *runner) endTroubles() {
	if !r.troubled {
		return
	}
	r.w.Store().Fail(nil)
	r.w.Advance(2 * slowest)
}

var errAnswerLost = errors.New("the store's answer was lost")

func (t *troubles) plan(op memstore.Op) (f memstore.Fault) {
	if op.Kind != memstore.Commit {
		return f
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	chance := t.chanceOf(op.Owner)
	if chance.IntN(3) == 0 {
		f.Wait = after(upTo(chance, slowest))
	}
	switch n := chance.IntN(100); {
	case n < 4:
		f.Err, f.Applied = errAnswerLost, true
	case n < 6:
		f.Err, f.Held = errAnswerLost, true
		time.AfterFunc(upTo(chance, 2*slowest), func() { t.store.Land() })
	case n < 8 && t.refuses:
		f.Err = object.ErrNotCommitted
	}
	return f
}

// chanceOf is a node's own, whatever the others do meanwhile. An owner is its address and
// its registration.
func (t *troubles) chanceOf(owner string) *rand.Rand {
	address, _, _ := strings.Cut(owner, "#")
	if t.nodes[address] == nil {
		name := fnv.New64a()
		name.Write([]byte(address))
		t.nodes[address] = rand.New(rand.NewPCG(t.seed, name.Sum64()))
	}
	return t.nodes[address]
}

func upTo(chance *rand.Rand, d time.Duration) time.Duration {
	return time.Duration(chance.Int64N(int64(d)))
}

// after is closed when d has passed.
func after(d time.Duration) <-chan struct{} {
	c := make(chan struct{})
	time.AfterFunc(d, func() { close(c) })
	return c
}
