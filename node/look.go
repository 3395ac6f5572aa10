package node

import (
	"context"
	"errors"
	"time"

	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

// maxLookedCalls bounds how many calls that run, and that wait, are told.
const maxLookedCalls = 32

// Look implements peer.Census.
func (n *Node) Look(ctx context.Context, ref object.Ref, state bool) (*peer.Sight, error) {
	t, s, err := n.sought(ref)
	if err != nil {
		return nil, fault.Of(err).On("Look", ref.String())
	}
	sight := &peer.Sight{Mode: modeName(t.Mode), Durability: n.durability(t, s).String(), Shard: s.shard, Pinned: s == n.pinned()}
	s.mu.Lock()
	if s.state != shut {
		sight.Epoch = s.life.epoch
	}
	a := s.acts.find(ref)
	s.mu.Unlock()
	if c := n.census.watch(); c != nil {
		sight.Recent = c.desk(ref).look(ref, time.Now())
	}
	var data []byte
	if a != nil {
		data, sight.NoState = a.look(ctx, sight, state)
	} else if state {
		data, sight.NoState = n.lookStored(ctx, ref, sight)
	}
	if data != nil {
		sight.State, sight.Hidden, sight.NoState = shownState(data, t)
	}
	return sight, nil
}

// sought is the type of an object, and the place where it would be.
func (n *Node) sought(ref object.Ref) (*object.Type, *slot, error) {
	if err := errors.Join(object.ValidName(ref.Type), object.ValidID(ref.ID)); err != nil {
		return nil, nil, fault.New(fault.Invalid, "%w", err)
	}
	t, ok := n.cfg.Types.Lookup(ref.Type)
	if !ok {
		return nil, nil, fault.New(fault.UnknownType, "no type %q is registered on this node", ref.Type)
	}
	s, err := n.slotOf(ref.ID)
	return t, s, err
}

func modeName(m object.Mode) string {
	if m == object.Concurrent {
		return "Concurrent"
	}
	return "Sequential"
}

// lookStored is the record of an object that is not live, or why there is none.
func (n *Node) lookStored(ctx context.Context, ref object.Ref, sight *peer.Sight) (data []byte, why string) {
	if sight.Durability == object.Volatile.String() {
		return nil, "it is not active, and its state is not stored"
	}
	r, err := n.stored(ctx, ref)
	if err != nil {
		return nil, fault.Of(err).Err.Error()
	}
	sight.Version, sight.Created = r.Version, r.Created
	return r.Data, ""
}

// look fills in what the activation knows, and returns its state if that is wanted, or
// why there is none.
func (a *activation) look(ctx context.Context, sight *peer.Sight, state bool) (data []byte, why string) {
	a.mu.Lock()
	sight.Live, sight.Phase = true, a.phaseLocked()
	sight.LastUsed = a.node.executions.moment(a.lastUsed)
	if a.origin.Load() == born {
		sight.Created = a.obj.CreationTime()
	}
	if a.save != nil && a.keep != object.Volatile {
		sight.Version, sight.Unsaved = a.save.version, a.unsavedLocked()
		if a.keep == object.Durable {
			data = a.save.newest
		}
	}
	a.callsLocked(sight)
	a.mu.Unlock()
	switch {
	case !state:
		return nil, ""
	case data != nil: // as the last call that has ended left it
		return data, ""
	}
	return a.lookInside(ctx)
}

func (a *activation) phaseLocked() string {
	switch {
	case a.origin.Load() == unborn:
		return "loading"
	case a.state >= closing:
		return "closing"
	}
	return "live"
}

// callsLocked tells who is inside and who waits. a.mu is held.
func (a *activation) callsLocked(sight *peer.Sight) {
	for f := a.frames.head; f != nil && len(sight.Running) < maxLookedCalls; f = f.next {
		path := f.info.Chain.Path
		from := caller{kind: peer.FromProgram}
		switch {
		case len(path) > 1:
			from.turn = path[len(path)-2]
		case f.info.Caller.Client:
			from = caller{kind: peer.FromClient, client: f.info.Caller.ClientID}
		}
		sight.Running = append(sight.Running, peer.LookedCall{Method: path[len(path)-1].Method, Caller: from.String()})
	}
	queue := a.turns.waiting()
	sight.Queued = len(queue)
	for _, w := range queue[:min(len(queue), maxLookedCalls)] {
		from := callerOf(callctx.From(w.ctx))
		sight.Queue = append(sight.Queue, peer.LookedCall{Method: w.call.Method, Caller: from.String(), At: a.node.executions.moment(w.since)})
	}
}

// moment is when it was d by the clock of executions.
func (e *executions) moment(d time.Duration) time.Time { return e.born.Add(d - 1) }

// lookInside reads the object's state where that takes no waiting.
func (a *activation) lookInside(ctx context.Context) (data []byte, why string) {
	if !a.typ.Persistent {
		return nil, "type " + a.typ.Name + " keeps no state: it has neither a State nor ToData"
	}
	if a.origin.Load() != born {
		return nil, "it is not there yet, or no more"
	}
	h, ok := a.tryTake()
	if !ok {
		return nil, "a call is inside, or the object is on its way: look again in a moment"
	}
	err := a.beside(ctx, "its ToData ran", func() (err error) {
		defer a.leave(h, false)
		data, err = a.snapshot()
		return err
	})
	if err != nil {
		return nil, fault.Of(err).Err.Error()
	}
	return data, ""
}
