package node

import (
	"context"
	"errors"
	"runtime/debug"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

// An activation is one object live in this node's memory.
//
//	state     begins with                         a new call
//	Loading   the first call                      waits for the end of it
//	Live      state read, OnCreated has run       takes a turn
//	Closing   idle, deleted, doomed or drained    waits for Closed, then starts anew
//	Burying   nobody is inside any more           the same
//	Closed    OnDestroy has run                   -
//
// So an object never has two activations on a node, not even where the code of the
// first does not want to end.
type activation struct {
	node *Node
	slot *slot
	ref  object.Ref
	typ  *object.Type
	keep object.Durability // resolved: Durable, Volatile or an interval
	life tenure            // of the slot when the activation began

	loaded chan struct{} // closed when Loading is over
	gone   chan struct{} // closed when Closed

	// Written while Loading, read after loaded is closed.
	loadOp  object.Op // what the first call asked for
	loadErr error     // why there is no object
	stored  bool      // it came from stored state
	obj     object.Object

	mu       sync.Mutex
	state    activationState
	own      lazyContext // the object's
	ending   error       // what calls that are inside get instead of their result
	reason   string      // why it is closing, for the event
	turns    turnstile
	frames   frames
	lastUsed time.Time
	save     saving
	calls    ledger
	seed     *peer.Staged    // what it comes alive from, if that came with the shard
	door     door            // whom the slot lets in
	nudge    chan<- struct{} // the slot's

	snapshots sync.Mutex // one ToData at a time; held across it, taken before mu
}

type activationState uint8

const (
	loading activationState = iota
	live
	closing
	burying
	closed
)

// errMovedOn sends a call that waited back to the slot: the activation is ending.
var errMovedOn = errors.New("this activation is ending")

func newActivation(n *Node, s *slot, ref object.Ref, typ *object.Type) *activation {
	a := &activation{
		node: n, slot: s, ref: ref, typ: typ, life: s.life,
		keep:     n.durability(typ, s),
		loaded:   make(chan struct{}),
		gone:     make(chan struct{}),
		lastUsed: time.Now(),
	}
	a.own.Context = n.world
	a.turns.max, a.turns.free = typ.MaxQueue, typ.Mode == object.Concurrent
	n.sweepSooner(shortestOf(typ))
	return a
}

// load ends Loading with work's result. It runs once, where no caller's deadline
// can end it half-way.
func (a *activation) load(work func() error) {
	err := errGoexit
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.loadErr, a.lastUsed = err, time.Now()
		close(a.loaded)
		if err != nil {
			a.endLocked("not activated")
		} else if a.state == loading {
			a.state = live
		}
		a.settleRest()
	}()
	err = work()
}

var errGoexit error = fault.New(fault.Panicked, "the object's first code ended its goroutine").With(fault.NotExecuted)

// bear reads the object's state and runs its first code.
func (a *activation) bear() error {
	if a.seed != nil {
		state := a.seed.State
		a.seed.State = nil // it is not needed for as long as the object lives
		return a.comeAlive(a.seed.Created, true, func(object.Object) (proto.Message, error) { return unpack(state) })
	}
	record, err := a.node.read(a)
	if err != nil {
		return err
	}
	exists := record.Data != nil
	if a.typ.MustCreate && !exists && a.loadOp != object.OpCreate {
		return fault.New(fault.NotFound, "no such object; objects of type %s begin with CreateObject", a.typ.Name)
	}
	a.save.version, a.save.newest = record.Version, record.Data
	a.save.since = time.Now()
	born := a.save.since
	if exists && !record.Created.IsZero() {
		born = record.Created
	}
	return a.comeAlive(born, exists, func(obj object.Object) (proto.Message, error) { return a.recall(obj, record.Data) })
}

// comeAlive makes the object. One that exists has a state.
func (a *activation) comeAlive(born time.Time, exists bool, state func(object.Object) (proto.Message, error)) error {
	a.stored = exists
	obj := a.typ.New()
	object.Attach(obj, object.Birth{Ref: a.ref, Created: born, Context: &a.own, Logger: a.node.cfg.Logger})
	if !exists {
		state = func(object.Object) (proto.Message, error) { return nil, nil }
	}
	if err := a.wake(obj, state); err != nil {
		a.own.cancel(nil)
		return err
	}
	a.obj = obj
	if on := a.node.on.ObjectActivated; on != nil {
		on(event.ObjectActivated{Type: a.ref.Type, ID: a.ref.ID, Stored: exists})
	}
	return nil
}

// wake runs FromData and OnCreated.
func (a *activation) wake(obj object.Object, read func(object.Object) (proto.Message, error)) (err error) {
	defer a.survive("Upgrade, FromData or OnCreated", &err)
	state, err := read(obj)
	if err != nil {
		return fault.New(fault.StoreFailed, "%s cannot be read: %w", a.origin(), err).With(fault.NotExecuted)
	}
	if err := obj.FromData(state); err != nil {
		return fault.New(fault.StoreFailed, "FromData refuses %s: %w", a.origin(), err).With(fault.NotExecuted)
	}
	obj.OnCreated()
	return nil
}

// origin is what an error calls the state that the object begins with.
func (a *activation) origin() string {
	if a.seed != nil {
		return "the state that came with its shard"
	}
	return "its stored state, which is left as it is,"
}

// survive turns a panic of user code outside a method into an error. What needed
// that code did not run.
func (a *activation) survive(method string, err *error) {
	if p := recover(); p != nil {
		*err = a.panicked(method, p).With(fault.NotExecuted)
	}
}

func (a *activation) panicked(method string, p any) *fault.Error {
	if on := a.node.on.MethodPanicked; on != nil {
		on(event.MethodPanicked{Type: a.ref.Type, ID: a.ref.ID, Method: method, Value: p, Stack: debug.Stack()})
	}
	return fault.New(fault.Panicked, "%s panicked: %v", method, p)
}

// awaitLoaded waits for the end of Loading, which goes on without c.
func (a *activation) awaitLoaded(ctx context.Context, c *call) error {
	if isClosed(a.loaded) {
		return nil
	}
	select {
	case <-a.loaded:
		return nil
	case <-ctx.Done():
	}
	err := fault.Waited(ctx, "while the object was being activated")
	if c.op != object.OpCall {
		return err.With(fault.OutcomeUnknown)
	}
	return err
}

// end lets no further call in. Calls that are inside run to their end.
func (a *activation) end(reason string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.endLocked(reason)
}

// doom ends the activation because its memory must not be used any more: calls
// that are inside get why and their contexts are cancelled. What calls before them
// left behind is still saved and answered.
func (a *activation) doom(reason string, why error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.doomLocked(reason, why)
}

func (a *activation) doomLocked(reason string, why error) {
	if a.ending == nil {
		a.ending = why
		a.own.cancel(why)
		for f := a.frames.head; f != nil; f = f.next {
			f.ctx.cancel(why)
		}
	}
	a.endLocked(reason)
	a.settleRest()
}

// void dooms the activation where also nothing more may be saved or answered.
func (a *activation) void(reason string, why error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.save.abandon(why)
	a.doomLocked(reason, why)
}

func (a *activation) endLocked(reason string) {
	if a.state >= closing {
		return
	}
	a.state, a.reason = closing, reason
	a.turns.close(errMovedOn)
	a.node.running.Add(1) // until vanish
	a.settleRest()
}

// settleRest begins the burial of an activation that is closing, once nobody is
// inside and nothing is being saved. a.mu is held.
func (a *activation) settleRest() {
	if a.nudge != nil && a.restsLocked() {
		poke(a.nudge)
	}
	if a.state != closing || !isClosed(a.loaded) || !a.turns.atRest() || !a.save.settled() {
		return
	}
	a.state = burying
	go a.bury()
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// bury runs OnDestroy and makes room for a successor.
func (a *activation) bury() {
	defer a.vanish()
	if a.obj == nil {
		return
	}
	a.lastFlush()
	a.own.cancel(nil)
	a.destroy()
}

func (a *activation) vanish() {
	defer a.node.running.Done()
	a.mu.Lock()
	a.state = closed
	a.mu.Unlock()
	if on := a.node.on.ObjectDeactivated; on != nil && a.obj != nil {
		on(event.ObjectDeactivated{Type: a.ref.Type, ID: a.ref.ID, Reason: a.reason})
	}
	if copies := a.node.copies; copies != nil {
		copies.forget(a)
	}
	a.slot.remove(a) // from here on a successor may begin
	close(a.gone)
}

func (a *activation) destroy() {
	var err error // the event has said it
	defer a.survive("OnDestroy", &err)
	a.obj.OnDestroy()
	a.obj.Destroy()
}
