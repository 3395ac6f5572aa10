package node

import (
	"context"
	"errors"
	"runtime/debug"
	"sync"
	"sync/atomic"
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
	life *tenure           // of the slot when the activation began

	// Written while Loading, read after that is over.
	obj    object.Object
	loadOp object.Op // what the first call asked for
	stored bool      // it came from stored state
	stood  bool      // this node was trusted when Loading ended

	origin atomic.Uint32 // how Loading ended, an originState; then it does not change

	mu       sync.Mutex
	state    activationState
	door     door    // whom the slot lets in
	own      armable // the object's context
	turns    turnstile
	frames   frames
	lastUsed time.Duration // by the clock of executions
	save     *saving       // what is kept; nil while nothing ever was to be
	fate     *fate         // nil mostly
}

type activationState uint8

const (
	loading activationState = iota
	live
	closing
	burying
	closed
)

// originState says how Loading ended.
type originState = uint32

const (
	unborn    originState = iota // it has not ended
	born                         // there is an object
	stillborn                    // there is none; fate says why
)

// fate is what few activations have at a time: why there is no object, or will soon be
// none, who waits to see it, and who has subscribed. It belongs to the activation's mutex.
type fate struct {
	noObject error         // why Loading failed
	ending   error         // what calls that are inside get instead of their result
	reason   string        // why it is closing, for the event
	loaded   chan struct{} // closed when Loading is over; nil: nobody waits
	gone     chan struct{} // closed when Closed; nil: nobody waits
	feed     *feed         // what it publishes; nil: nobody has subscribed
}

// errMovedOn sends a call that waited back to the slot: the activation is ending.
var errMovedOn = errors.New("this activation is ending")

// over is what is waited for where it has happened already.
var over = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

func newActivation(n *Node, s *slot, ref object.Ref, typ *object.Type) *activation {
	a := &activation{
		node: n, slot: s, ref: ref, typ: typ, life: s.life,
		keep:     n.durability(typ, s),
		lastUsed: n.executions.now(),
	}
	if a.keep != object.Volatile {
		a.save = new(saving)
	}
	n.sweepSooner(shortestOf(typ))
	return a
}

// fateLocked makes room for what few activations have. a.mu is held.
func (a *activation) fateLocked() *fate {
	if a.fate == nil {
		a.fate = new(fate)
	}
	return a.fate
}

// endingLocked is what calls that are inside get instead of their result, or nil.
// a.mu is held.
func (a *activation) endingLocked() error {
	if a.fate == nil {
		return nil
	}
	return a.fate.ending
}

// loaded is closed when Loading is over.
func (a *activation) loaded() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.origin.Load() != unborn {
		return over
	}
	f := a.fateLocked()
	if f.loaded == nil {
		f.loaded = make(chan struct{})
	}
	return f.loaded
}

// loadErr is why there is no object, once Loading is over.
func (a *activation) loadErr() error {
	if a.origin.Load() != stillborn {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.fate.noObject
}

// gone is closed when the activation is Closed.
func (a *activation) gone() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state == closed {
		return over
	}
	f := a.fateLocked()
	if f.gone == nil {
		f.gone = make(chan struct{})
	}
	return f.gone
}

// load ends Loading with work's result. It runs once, where no caller's deadline
// can end it half-way.
func (a *activation) load(work func(*activation) error) {
	err := errGoexit
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.lastUsed, a.stood = a.node.executions.now(), a.life.trusted()
		a.loadedLocked(err)
		if err != nil {
			a.endLocked("not activated")
		} else if a.state == loading {
			a.state = live
		}
		a.settleRest()
	}()
	err = work(a)
}

// loadedLocked ends Loading for who waits. a.mu is held.
func (a *activation) loadedLocked(err error) {
	end := born
	if err != nil {
		a.fateLocked().noObject, end = err, stillborn
	}
	a.origin.Store(end)
	if a.fate != nil && a.fate.loaded != nil {
		close(a.fate.loaded)
	}
}

var errGoexit error = fault.New(fault.Panicked, "the object's first code ended its goroutine").With(fault.NotExecuted)

// bear reads the object's state and runs its first code.
func (a *activation) bear() error {
	record, err := a.node.read(a)
	if err != nil {
		return err
	}
	exists := record.Data != nil
	if a.typ.MustCreate && !exists && a.loadOp != object.OpCreate {
		return fault.New(fault.NotFound, "no such object; objects of type %s begin with CreateObject", a.typ.Name)
	}
	now := time.Now()
	if a.keep != object.Volatile {
		a.save.version, a.save.newest, a.save.since = record.Version, record.Data, now
	}
	if !exists {
		return a.comeAlive(now, nil, storedState)
	}
	if !record.Created.IsZero() {
		now = record.Created
	}
	return a.comeAlive(now, func(obj object.Object) (proto.Message, error) { return a.recall(obj, record.Data) }, storedState)
}

// rise brings an object to life from the state that came with its shard.
func (a *activation) rise(seed *peer.Staged) error {
	state := func(object.Object) (proto.Message, error) { return unpack(seed.State) }
	a.inheritFeed(seed)
	return a.comeAlive(seed.Created, state, "the state that came with its shard")
}

// storedState is what an error calls the state that the object begins with.
const storedState = "its stored state, which is left as it is,"

// comeAlive makes the object. One that exists has a state; what names it.
func (a *activation) comeAlive(since time.Time, state func(object.Object) (proto.Message, error), what string) error {
	a.stored = state != nil
	obj := a.typ.New()
	object.Attach(obj, object.Birth{Ref: a.ref, Created: since, Context: (*objectContext)(a), Logger: a.node.cfg.Logger})
	if err := a.wake(obj, state, what); err != nil {
		a.own.cancel(a.node.world, nil)
		return err
	}
	a.obj = obj
	if on := a.node.on.ObjectActivated; on != nil {
		on(event.ObjectActivated{Type: a.ref.Type, ID: a.ref.ID, Stored: a.stored})
	}
	return nil
}

// wake runs FromData and OnCreated.
func (a *activation) wake(obj object.Object, read func(object.Object) (proto.Message, error), what string) (err error) {
	defer a.survive("Upgrade, FromData or OnCreated", &err)
	var state proto.Message
	if read != nil {
		if state, err = read(obj); err != nil {
			return fault.New(fault.StoreFailed, "%s cannot be read: %w", what, err).With(fault.NotExecuted)
		}
	}
	if err := obj.FromData(state); err != nil {
		return fault.New(fault.StoreFailed, "FromData refuses %s: %w", what, err).With(fault.NotExecuted)
	}
	obj.OnCreated()
	return nil
}

// survive turns a panic of user code outside a method into an error. What needed
// that code did not run.
func (a *activation) survive(method string, err *error) {
	if p := recover(); p != nil {
		*err = a.panicked(method, p).With(fault.NotExecuted)
	}
}

func (a *activation) panicked(method string, p any) *fault.Error {
	p = fault.Thrown(p)
	if on := a.node.on.MethodPanicked; on != nil {
		on(event.MethodPanicked{Type: a.ref.Type, ID: a.ref.ID, Method: method, Value: p, Stack: debug.Stack()})
	}
	return fault.New(fault.Panicked, "%s panicked: %v", method, p)
}

// awaitLoaded waits for the end of Loading, which goes on without c.
func (a *activation) awaitLoaded(ctx context.Context, c *call) error {
	if a.origin.Load() != unborn {
		return nil
	}
	select {
	case <-a.loaded():
		return nil
	case <-ctx.Done():
	}
	err := fault.Waited(ctx, "while the object was being activated")
	if c.op != object.OpCall {
		return err.With(fault.OutcomeUnknown)
	}
	return err
}

// isEnding says that no further call is let in.
func (a *activation) isEnding() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.state >= closing
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
	if f := a.fateLocked(); f.ending == nil {
		f.ending = why
		a.own.cancel(a.node.world, why)
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
	a.savingLocked().abandon(why)
	a.endFeedLocked() // what runs inside may take its time, and the object live elsewhere
	a.doomLocked(reason, why)
}

// endBehind ends the activation whose object the next holder has already: who follows it is
// told at once, and not behind its OnDestroy.
func (a *activation) endBehind(reason string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.endFeedLocked()
	a.endLocked(reason)
}

func (a *activation) endLocked(reason string) {
	if a.state >= closing {
		return
	}
	a.state, a.fateLocked().reason = closing, reason
	a.turns.sendAway(errMovedOn)
	a.node.running.Add(1) // until vanish
	a.settleRest()
}

// settleRest begins the burial of an activation that is closing, once nobody is
// inside and nothing is being saved. a.mu is held.
func (a *activation) settleRest() {
	if a.slot.nudge.Load() != nil && a.restsLocked() {
		a.slot.poke()
	}
	if a.state != closing || a.origin.Load() == unborn || !a.turns.atRest() || !a.save.settled() {
		return
	}
	a.state = burying
	go a.bury()
}

func isClosed(c <-chan struct{}) bool {
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
	a.own.cancel(a.node.world, nil)
	a.destroy()
}

func (a *activation) vanish() {
	defer a.node.running.Done()
	a.mu.Lock()
	reason := a.fate.reason
	a.mu.Unlock()
	if on := a.node.on.ObjectDeactivated; on != nil && a.obj != nil {
		on(event.ObjectDeactivated{Type: a.ref.Type, ID: a.ref.ID, Reason: reason})
	}
	if copies := a.node.copies; copies != nil {
		copies.forget(a)
	}
	a.slot.remove(a) // from here on a successor may begin
	a.mu.Lock()
	defer a.mu.Unlock()
	a.endFeedLocked()
	a.state = closed
	if a.fate.gone != nil {
		close(a.fate.gone)
	}
}

func (a *activation) destroy() {
	var err error // the event has said it
	defer a.survive("OnDestroy", &err)
	a.obj.OnDestroy()
	a.obj.Destroy()
}
