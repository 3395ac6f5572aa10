package node

import (
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/internal/fault"
)

// undo is what a method of a Transactional type found, to be put back if it fails.
// Such types are sequential, so what may come between is only the chain's own: methods
// that call back into the object while this one waits.
type undo struct {
	state         proto.Message // a copy
	pushes, hooks int           // how many the chain had made,
	sends         int           // of each
	tangled       bool          // another method's changes are mixed with this one's; guarded by the activation's mutex
}

// remember notes what the method finds. It runs on the turn.
func (f *frame) remember(c *call) (err error) {
	a := f.act
	if !a.typ.Transactional || c.method.ReadOnly {
		return nil
	}
	defer a.survive("ToData", &err)
	state, err := a.obj.ToData()
	if err == nil && (state == nil || !state.ProtoReflect().IsValid()) {
		err = errNoState
	}
	if err != nil {
		return fault.New(fault.Failed, "ToData, before the method: %w", err).With(fault.NotExecuted)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	f.undo = &undo{state: proto.Clone(state), pushes: len(f.hold.pushes), hooks: len(f.hold.hooks)}
	if f.hold.rare != nil {
		f.undo.sends = len(f.hold.rare.sends)
	}
	return nil
}

// undoOrTangle ends a method of a Transactional type, on its turn. What one does is
// undone with those that it was called by, and with no other: methods that ran side by
// side for two branches of a fan-out cannot be told apart afterwards.
func (f *frame) undoOrTangle(fails bool) {
	switch {
	case f.undo == nil || f.panicked:
	case fails:
		f.undone = true
		f.putBack()
	default:
		f.act.mu.Lock()
		for g := range f.beside() {
			g.undo.tangled = true
		}
		f.act.mu.Unlock()
	}
}

// putBack gives the object the state back that the method found, or ends the
// activation where it cannot. It runs on the turn.
func (f *frame) putBack() {
	if err := f.tryPutBack(); err != nil {
		f.act.doom("a failed method could not be undone", err)
	}
}

func (f *frame) tryPutBack() (err error) {
	a := f.act
	a.mu.Lock()
	tangled := f.undo.tangled
	for range f.beside() {
		tangled = true
	}
	f.hold.pushes = f.hold.pushes[:min(f.undo.pushes, len(f.hold.pushes))]
	f.hold.hooks = f.hold.hooks[:min(f.undo.hooks, len(f.hold.hooks))]
	if more := f.hold.rare; more != nil {
		more.sends = more.sends[:min(f.undo.sends, len(more.sends))]
	}
	a.mu.Unlock()
	f.mu.Lock()
	f.pushes = nil
	if f.rare != nil {
		f.rare.sends = nil
	}
	f.mu.Unlock()
	if tangled {
		return fault.New(fault.StoreFailed, "a method of the same call chain failed, and could not be undone without this one; nothing of both is kept").With(fault.OutcomeUnknown)
	}
	defer a.survive("FromData", &err)
	if err := a.obj.FromData(f.undo.state); err != nil {
		return fault.New(fault.StoreFailed, "a method failed, and FromData refuses the state before it: %w", err).With(fault.OutcomeUnknown)
	}
	return nil
}

// beside yields the methods inside that may be undone and that f was not called by.
// The activation's mutex is held.
func (f *frame) beside() func(yield func(*frame) bool) {
	return func(yield func(*frame) bool) {
		for g := f.act.frames.head; g != nil; g = g.next {
			if g.undo != nil && g != f && !g.calls(f) && !yield(g) {
				return
			}
		}
	}
}

// calls says that f was called by g, in however many steps.
func (g *frame) calls(f *frame) bool {
	outer, path := g.info.Chain.Path, f.info.Chain.Path
	return len(outer) < len(path) && slices.Equal(outer, path[:len(outer)])
}
