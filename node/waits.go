package node

import (
	"errors"
	"slices"
	"sync"

	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/fault"
)

var (
	errSharedReentry = errors.New("a read-only method holds this object for its chain, which therefore cannot call a changing method of it; make the outer method a changing one")
	errCircle        = errors.New("these calls of different chains would wait for each other for ever")
)

// waits is the node's wait graph: which chains wait for which activations. Only
// nested calls that must wait are in it, so an uncontended call never touches it.
// Lock order: waits.mu, then an activation's.
type waits struct {
	mu      sync.Mutex
	byChain map[callctx.ChainID][]*waiter
}

// add enters w unless its wait would close a circle across chains; then it returns
// the error for w, the youngest wait of the circle.
//
// Every edge of a circle is added here, one after the other, so the last one finds
// it, whole, and only that one.
func (g *waits) add(w *waiter) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for {
		circle := g.circle(w, w.act, map[*activation]bool{})
		if circle == nil {
			break
		}
		// While g.mu is held waits only end. If none of these has, they all stand at once.
		if !slices.ContainsFunc(circle, (*waiter).over) {
			return &fault.Error{Kind: fault.Cycle, Path: circlePath(w, circle), Err: errCircle}
		}
	}
	if g.byChain == nil {
		g.byChain = map[callctx.ChainID][]*waiter{}
	}
	g.byChain[w.chain] = append(g.byChain[w.chain], w)
	return nil
}

func (g *waits) remove(w *waiter) {
	g.mu.Lock()
	defer g.mu.Unlock()
	rest := g.byChain[w.chain]
	if i := slices.Index(rest, w); i >= 0 {
		rest = slices.Delete(rest, i, i+1)
	}
	if len(rest) == 0 {
		delete(g.byChain, w.chain)
	} else {
		g.byChain[w.chain] = rest
	}
}

// circle follows the waits that keep act's holders from leaving it, until one waits
// for an object that start's chain holds. Each activation is looked at once.
func (g *waits) circle(start *waiter, act *activation, seen map[*activation]bool) []*waiter {
	if seen[act] {
		return nil
	}
	seen[act] = true
	for _, chain := range act.holders() {
		for _, w := range g.byChain[chain] {
			if !holds(w.path, act.ref) || w.over() {
				continue
			}
			if holds(start.path, w.act.ref) {
				return []*waiter{w}
			}
			if rest := g.circle(start, w.act, seen); rest != nil {
				return append([]*waiter{w}, rest...)
			}
		}
	}
	return nil
}

// over says that the wait has ended.
func (w *waiter) over() bool {
	w.act.mu.Lock()
	defer w.act.mu.Unlock()
	return w.settled
}

// circlePath names the calls of a circle: w's chain, then whom each waits for.
func circlePath(w *waiter, circle []*waiter) []string {
	path := pathOf(w.path, w.call)
	for _, next := range circle {
		path = append(path, next.call.String())
	}
	return path
}

func pathOf(path []callctx.Turn, last callctx.Turn) []string {
	names := make([]string, 0, len(path)+2)
	for _, t := range path {
		names = append(names, t.String())
	}
	return append(names, last.String())
}
