package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/admit"
)

// saving is the durable side of one activation, guarded by its mutex.
//
// Each state that a call leaves behind has a sequence number. A reply waits at the
// gate until the number that it made or saw is durable, so nobody learns of a state
// that a crash takes back. Only the newest state waits to be saved, and one save is
// on its way at a time.
type saving struct {
	version uint64 // of the last committed save
	newest  []byte // the newest state that was handed over, nil when deleted or none
	seq     uint64 // its number
	durable uint64 // all up to this number are committed
	flying  uint64 // the number on its way, 0 for none

	waiting  bool // newest is not on its way yet
	deleted  bool // nothing may be saved any more
	dirty    bool // periodic: a call ran since the last save
	touches  int  // periodic: calls that were noted so
	due      bool // periodic: the next save is due
	emptying bool // somebody is sending effects

	since   time.Time // of the last save
	failed  error     // nothing more will become durable
	gate    []*passage
	effects []effect

	late  *late   // nil unless it is periodic
	extra *extra  // nil mostly
	calls *ledger // nil until the first call with an id

	snapshots sync.Mutex // one ToData at a time; held across it, taken before the activation's
}

// late is what only a periodic object needs: its replies do not wait for its saves.
type late struct {
	lag
	putOff uint64 // saves up to this number were put off,
	whyOff error  // for this reason
}

// extra is what a save keeps besides the state.
type extra struct {
	with  records // what is to be kept with newest
	aloft records // with the save on its way
	prior []byte  // a state with records that a deletion must not overtake
}

// records are what a store keeps in the very save of a state.
type records struct {
	calls   []object.CallRecord
	effects []object.Effect
}

func (k *records) none() bool { return len(k.calls) == 0 && len(k.effects) == 0 }

func (k *records) add(more records) {
	k.calls = append(k.calls, more.calls...)
	k.effects = append(k.effects, more.effects...)
}

// passage is one reply that waits at the gate for number seq.
type passage struct {
	seq  uint64
	err  error // set before open is closed
	open chan struct{}
}

// effect is what leaves once number seq is durable.
type effect struct {
	seq  uint64
	push *encodedPush
}

// settled says that no save waits or is on its way.
func (s *saving) settled() bool { return s == nil || !s.waiting && s.flying == 0 }

// sent says that every effect of what is durable has left.
func (s *saving) sent() bool { return s == nil || len(s.effects) == 0 && !s.emptying }

// lost is why nothing more will become durable, or nil.
func (s *saving) lost() error {
	if s == nil {
		return nil
	}
	return s.failed
}

// more makes room for what few saves keep.
func (s *saving) more() *extra {
	if s.extra == nil {
		s.extra = new(extra)
	}
	return s.extra
}

// lateness makes room for what only a periodic object needs.
func (s *saving) lateness() *late {
	if s.late == nil {
		s.late = new(late)
	}
	return s.late
}

// offer hands over a state: data, or nil to delete, and what is to be kept with it. It
// reports whether there is something new to save.
func (s *saving) offer(data []byte, with records) bool {
	switch {
	case s.deleted || s.failed != nil:
		return false
	case data != nil && with.none() && bytes.Equal(data, s.newest):
		s.clean() // it was handed over before
		return false
	case data == nil && s.version == 0 && s.flying == 0 && s.extra != nil && !s.extra.with.none():
		s.more().prior = s.newest // there is no version to keep records at but this state's
	}
	if !with.none() {
		s.more().with.add(with)
	}
	s.seq++
	s.newest, s.deleted = data, data == nil
	if s.late != nil {
		s.late.offered()
	}
	s.clean()
	fresh := !s.waiting
	s.waiting = true
	return fresh
}

// take puts the newest state on its way. An object that was deleted before any of
// its states was saved needs no save.
func (s *saving) take(a *activation) (save object.Save, needed bool) {
	s.waiting, s.flying = false, s.seq
	if s.late != nil {
		s.late.depart()
	}
	if s.newest == nil && s.version == 0 && (s.extra == nil || s.extra.prior == nil) {
		s.landed(0)
		return save, false
	}
	save = object.Save{Ref: a.ref, Data: s.newest, Base: s.version, Shard: a.life.shard, Epoch: a.life.epoch}
	if x := s.extra; x != nil {
		if x.prior != nil { // the deletion, which is the last of all, goes next
			save.Data, x.prior, s.waiting, s.flying = x.prior, nil, true, s.seq-1
		}
		save.Calls, save.Effects = x.with.calls, x.with.effects
		x.aloft, x.with = x.with, records{}
	}
	rand.Read(save.SaveID[:]) // never fails
	return save, true
}

// landed notes that the save on its way is durable.
func (s *saving) landed(version uint64) {
	s.version, s.durable, s.flying, s.since = version, s.flying, 0, time.Now()
	s.openGate()
}

// arrived takes the effects of the save that has landed. What is extra is let go once
// it is all in the store.
func (s *saving) arrived() (effects []object.Effect) {
	x := s.extra
	if x == nil {
		return nil
	}
	effects, x.aloft = x.aloft.effects, records{}
	if x.prior == nil && x.with.none() {
		s.extra = nil
	}
	return effects
}

// abandon gives up whatever is not durable yet. A save on its way is let land.
func (s *saving) abandon(why error) {
	if s.failed != nil {
		return
	}
	s.failed, s.waiting = why, false
	s.effects = slices.DeleteFunc(s.effects, func(e effect) bool { return e.seq > s.durable })
	s.openGate()
}

// postpone notes that the save on its way did not take effect, and that its state,
// if it is still the newest, is to be offered again.
func (s *saving) postpone(why error) {
	s.gate = slices.DeleteFunc(s.gate, func(p *passage) bool {
		if p.seq > s.flying {
			return false
		}
		p.err = why
		close(p.open)
		return true
	})
	l := s.lateness()
	l.putOff, l.whyOff = s.flying, why
	s.flying, s.since = 0, time.Now()
	if !s.waiting {
		s.newest, s.dirty = nil, true
	}
	l.returned(s.waiting)
}

func (s *saving) openGate() {
	s.gate = slices.DeleteFunc(s.gate, func(p *passage) bool {
		if p.seq > s.durable && s.failed == nil {
			return false
		}
		if p.seq > s.durable {
			p.err = s.failed
		}
		close(p.open)
		return true
	})
}

// savingLocked is the activation's saving, which a volatile one needs only where what it
// did may not be answered any more. a.mu is held.
func (a *activation) savingLocked() *saving {
	if a.save == nil {
		a.save = new(saving)
	}
	return a.save
}

// awaitDurable is the reply gate.
func (a *activation) awaitDurable(ctx context.Context, seq uint64) error {
	if a.keep == object.Volatile { // nothing is
		return nil
	}
	a.mu.Lock()
	s := a.save
	switch {
	case seq <= s.durable:
		a.mu.Unlock()
		return nil
	case s.failed != nil:
		defer a.mu.Unlock()
		return s.failed
	case s.late != nil && seq <= s.late.putOff:
		defer a.mu.Unlock()
		return s.late.whyOff
	}
	p := &passage{seq: seq, open: make(chan struct{})}
	s.gate = append(s.gate, p)
	a.mu.Unlock()
	select {
	case <-p.open:
		return p.err
	case <-ctx.Done():
		if isClosed(p.open) { // both: what is known is said
			return p.err
		}
		e := fault.Waited(ctx, "the method ran; whether its effects are stored was not known in time")
		return e.With(fault.OutcomeUnknown)
	}
}

// committed takes the good end of the save on its way.
func (a *activation) committed(version uint64) {
	a.mu.Lock()
	a.save.landed(version)
	effects := a.save.arrived()
	again := a.save.waiting
	a.settleRest()
	a.mu.Unlock()
	a.node.outbox.add(a, version, effects)
	if again {
		a.node.commits.enqueue(a)
	}
	a.sendEffects()
}

// grounded ends an activation whose save did not take effect: memory must not run
// ahead of the store.
func (a *activation) grounded(why error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.save.flying = 0
	a.save.abandon(why)
	a.doomLocked("its state could not be saved", why)
}

// notCommitted takes the end of a save of which the store says that it surely did
// not take effect. A periodic object lives ahead of the store anyway, and tries again.
func (a *activation) notCommitted(err error) {
	why := fault.New(fault.StoreFailed, "the commit failed; nothing of it is stored: %w", err).With(fault.NotExecuted)
	if a.keep.Interval() == 0 {
		a.grounded(why)
		return
	}
	a.mu.Lock()
	deletes := a.save.deleted && !a.save.waiting
	if !deletes {
		a.save.postpone(why)
	}
	again := a.save.waiting
	a.settleRest()
	a.mu.Unlock()
	switch {
	case deletes:
		a.grounded(why)
	case again:
		a.node.commits.enqueue(a)
	}
}

// saveDueLocked says whether a periodic object has changes that should be saved by
// now. a.mu is held.
func (a *activation) saveDueLocked(now time.Time) bool {
	return a.save.dirty && (a.save.due || now.Sub(a.save.since) >= a.node.saveEvery(a.keep))
}

// sendEffects lets pushes go whose call is durable, in order; one goroutine at a
// time does so.
func (a *activation) sendEffects() {
	if a.keep == object.Volatile {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.save
	if s.emptying {
		return
	}
	s.emptying = true
	for len(s.effects) > 0 && s.effects[0].seq <= s.durable {
		push := s.effects[0].push
		s.effects = s.effects[1:]
		a.mu.Unlock()
		switch {
		case push.call != nil:
			a.node.outbox.accept(a.ref, *push.call)
		case push.change != nil:
			a.release(push.change)
		default:
			a.node.pushes.send(push)
		}
		a.mu.Lock()
	}
	s.emptying = false
	a.settleRest()
}

// snapshot reads the object's state on its turn. A nil result needs no saving.
func (a *activation) snapshot() (data []byte, err error) {
	defer a.survive("ToData", &err)
	state, err := a.obj.ToData()
	if err == nil && (state == nil || !state.ProtoReflect().IsValid()) {
		err = errNoState
	}
	if err != nil {
		return nil, fault.New(fault.Failed, "ToData: %w", err).With(fault.NotExecuted)
	}
	data, err = encodeState(state, a.typ.StateVersion)
	if err != nil {
		return nil, unstorable(fault.Invalid, err)
	}
	if err := admit.Encoded(a.ref, data); err != nil {
		if fault.KindOf(err) == fault.TooLarge {
			a.node.reached(event.StateBytes, a.ref)
		}
		return nil, unstorable(fault.KindOf(err), err)
	}
	if len(data) > largeState {
		a.node.reached(event.LargeState, a.ref)
	}
	return data, nil
}

// largeState is where a state, in bytes, is worth a word: each save of it costs so much.
const largeState = MaxStateBytes / 16

var errNoState = errors.New("ToData returned no message")

// unstorable is the error of a state that no store takes. That is not the store's fault
// but that of what was put into the object.
func unstorable(kind fault.Kind, err error) error {
	return fault.New(kind, "the state cannot be stored; the call's effects are not stored: %w", err).With(fault.NotExecuted)
}

var errDeletedMeanwhile = fault.New(fault.StoreFailed, "the object was deleted while the call ran, and keeps nothing any more")

// keepState snapshots and offers the state after a call and tells the number that
// the call's reply waits for. Snapshots of one activation are taken one at a time,
// so that a later number never has the older state.
func (a *activation) keepState(with records) (uint64, error) {
	a.save.snapshots.Lock()
	defer a.save.snapshots.Unlock()
	began := time.Now()
	a.mu.Lock()
	touches := a.save.touches
	a.mu.Unlock()
	data, err := a.snapshot()
	if err != nil {
		return 0, err
	}
	a.mu.Lock()
	if ending := a.endingLocked(); ending != nil { // a panic may have left anything in memory
		a.mu.Unlock()
		return 0, ending
	}
	if a.save.deleted && !with.none() {
		defer a.mu.Unlock()
		return 0, errDeletedMeanwhile
	}
	fresh := a.save.offer(data, with)
	if a.save.touches != touches { // by another call in Concurrent mode, perhaps after the snapshot
		a.save.touch(began)
	}
	seq := a.save.seq
	a.mu.Unlock()
	if fresh {
		a.node.commits.enqueue(a)
	}
	return seq, nil
}
