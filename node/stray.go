package node

import (
	"slices"

	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/fault"
)

// A call back to an object that is in its path begins only while the methods that the
// path names are still inside: they have lent their turn to it. If a node between the
// two has died, or a method did not wait for its call, the method goes on, ends and is
// answered, and the call back is a stray: its chain is over, nobody waits for it, and
// what it would do happens after the end of what it is a part of.

// strayLocked says why a call of chain whose path names a's object must not begin;
// nil: for each such turn there is a method inside that is this very turn. One that
// ran under another epoch, or in another activation, is not. a.mu is held.
func (a *activation) strayLocked(chain callctx.Chain) error {
	for i, t := range chain.Path {
		if t.Type == a.ref.Type && t.ID == a.ref.ID && !a.inside(chain.ID, chain.Path[:i+1]) {
			return stray(t)
		}
	}
	return nil
}

// inside says that a method runs here that the chain reached by path. Branches of a
// fan-out that call the same method are not told apart. a.mu is held.
func (a *activation) inside(chain callctx.ChainID, path []callctx.Turn) bool {
	for f := a.frames.head; f != nil; f = f.next {
		if f.info.Chain.ID == chain && slices.Equal(f.info.Chain.Path, path) {
			return true
		}
	}
	return false
}

func stray(t callctx.Turn) error {
	return fault.New(fault.StaleCaller, "%v, which this call is a part of, has ended", t)
}

// refuseStrays sends those away from h's line whose method has just ended. a.mu is
// held.
func (a *activation) refuseStrays(h *hold) {
	if len(h.line) == 0 {
		return
	}
	h.line = slices.DeleteFunc(h.line, func(w *waiter) bool {
		err := a.strayLocked(callctx.Chain{ID: w.chain, Path: w.path})
		if err != nil {
			h.frames--
			w.settle(nil, err)
		}
		return err != nil
	})
}

// refusesStray says why a call back must not even look for its object here: there is
// no activation, or the methods that it is a part of have ended. s.mu is held.
func (s *slot) refusesStray(c *call, a *activation) error {
	i := slices.IndexFunc(c.chain.Path, func(t callctx.Turn) bool { return t.Type == c.ref.Type && t.ID == c.ref.ID })
	switch {
	case i < 0:
		return nil
	case a == nil:
		return stray(c.chain.Path[i])
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.strayLocked(c.chain)
}
