package node

import (
	"context"
	"errors"

	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// Deactivate implements peer.Census.
func (n *Node) Deactivate(ctx context.Context, ref object.Ref, force bool) (wasLive bool, err error) {
	_, s, err := n.sought(ref)
	if err == nil {
		wasLive, err = s.deactivate(ctx, ref, force)
	}
	if err != nil {
		return wasLive, fault.Of(err).On("Deactivate", ref.String())
	}
	return wasLive, nil
}

func (s *slot) deactivate(ctx context.Context, ref object.Ref, force bool) (wasLive bool, err error) {
	s.mu.Lock()
	a, held := s.acts.find(ref), s.state != shut
	s.mu.Unlock()
	switch {
	case a != nil:
		return true, a.deactivate(ctx, force)
	case !held:
		s.mu.Lock()
		defer s.mu.Unlock()
		return false, s.wrongHolder()
	}
	return false, nil
}

// deactivate ends the activation on a turn of its own, on which its state is stored
// first: of what a call has done so far nothing is lost, and nobody is cut off.
func (a *activation) deactivate(ctx context.Context, force bool) error {
	if a.isOnlyCopy() && !force {
		return fault.New(fault.Invalid, "its state is only in this node's memory and would be lost; say force if that is meant")
	}
	select {
	case <-a.loaded():
	case <-ctx.Done():
		return fault.Waited(ctx, "while the object was being activated")
	}
	chain, turn := callctx.Chain{ID: callctx.NewChainID()}, a.turnFor("Deactivate")
	h, _, err := a.take(ctx, &call{chain: chain, own: true}, turn)
	switch {
	case errors.Is(err, errMovedOn): // it is ending already
	case errors.Is(err, errAside):
		return fault.New(fault.Draining, "shard %d is on its way to another node", a.slot.shard)
	case err == nil:
		err = a.beside(ctx, "its state was stored", func() error { return a.storeAndEnd(ctx, h) })
	}
	if err == nil || errors.Is(err, errMovedOn) {
		err = a.awaitGone(ctx, chain, turn, nil)
	}
	if err != nil && ctx.Err() != nil { // it may be ending
		return fault.Of(err).With(fault.OutcomeUnknown)
	}
	return err
}

// storeAndEnd ends the activation unless its state cannot be stored. It has the turn, and
// gives it up.
func (a *activation) storeAndEnd(ctx context.Context, h *hold) error {
	defer a.leave(h, false)
	if err := a.storeLast(ctx); err != nil {
		return fault.New(fault.KindOf(err), "it stays active, because its state cannot be stored: %w", err).With(fault.NotExecuted)
	}
	a.end("deactivated by an operator")
	return nil
}

// storeLast waits until the object's state is stored. It runs on the turn.
func (a *activation) storeLast(ctx context.Context) (err error) {
	if a.keep == object.Volatile {
		return nil
	}
	a.mu.Lock()
	dirty, seq := a.save.dirty, a.save.seq
	a.mu.Unlock()
	if dirty {
		if seq, err = a.keepState(records{}); err != nil {
			return err
		}
	}
	return a.awaitDurable(ctx, seq)
}
