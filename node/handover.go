package node

import (
	"context"
	"time"

	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

// Move is how a shard leaves for another node. Each attempt is a hand-over of its own.
type Move struct {
	// Stage lays objects at the next holder: nil means that it has them. It is called
	// for one list after the other.
	Stage func(ctx context.Context, objects []peer.Staged) error
	// Patience is for how long running calls may go on undisturbed; then their
	// contexts are cancelled. Zero is for as long as the Vacate lasts.
	Patience time.Duration
}

// Vacate empties a shard so that another node can take it over. New root calls, and
// those that still wait for a turn, are parked; running chains finish. What is
// volatile is laid at the next holder, object by object as each comes to rest, and
// again where a running chain uses it afterwards; what is periodic is saved.
//
// nil: nothing runs in the shard any more and nothing gets in. Its activations are
// still there, and HandedOver, Resume or Drop must follow. With an error, because
// ctx ended, a stage was refused or an object would not give its state, the shard is
// still draining, and Resume, Drain or Drop must follow.
func (n *Node) Vacate(ctx context.Context, shard sharding.ID, m Move) error {
	began := time.Now()
	err := n.vacate(ctx, shard, m)
	if on := n.on.HandoverDone; on != nil {
		on(event.HandoverDone{Shard: int(shard), Took: time.Since(began), Err: err})
	}
	return err
}

func (n *Node) vacate(ctx context.Context, shard sharding.ID, m Move) error {
	d, err := n.slots[shard].depart(m)
	if err != nil {
		return err
	}
	patience := ctx
	if m.Patience > 0 {
		var cancel context.CancelFunc
		patience, cancel = context.WithTimeout(ctx, m.Patience)
		defer cancel()
	}
	for {
		work, gone, err := d.survey()
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return fault.Waited(ctx, "%s", d.slot.unfinished())
		case len(work) == 0 && len(gone) == 0 && d.shutDoor():
			return nil
		case len(work) > 0 || len(gone) > 0:
			err = d.lay(ctx, work, gone)
		default:
			d.await(ctx, patience)
		}
		if err != nil {
			return err
		}
	}
}

// HandedOver ends a vacated shard that address holds now, at epoch: its activations
// end as they are, its parked calls and later ones are sent there. A shard that is
// not vacated is dropped.
func (n *Node) HandedOver(shard sharding.ID, address string, epoch uint64) {
	s := &n.slots[shard]
	s.mu.Lock()
	was := s.state
	if was != shut && s.life.epoch >= epoch {
		s.mu.Unlock()
		return // it came back already
	}
	s.next = successor{address, epoch}
	left := s.shutLocked()
	s.mu.Unlock()
	reason := "handed over to " + address
	if was == leaving {
		n.warnOfLoss(left)
		for _, a := range left {
			a.endBehind(reason)
		}
	} else {
		fence(left, reason)
	}
	if was != shut {
		n.closedShard(s, reason)
	}
}

// Resume opens shards again that Vacate worked on, under the tenure that they have:
// activations are as they were, and parked calls run.
func (n *Node) Resume(shards []sharding.ID) {
	for _, id := range shards {
		s := &n.slots[id]
		s.mu.Lock()
		if s.state == draining || s.state == leaving {
			s.become(open)
		}
		s.mu.Unlock()
	}
}

// departure is one Vacate. It belongs to that Vacate's goroutine.
type departure struct {
	slot  *slot
	life  *tenure
	move  Move
	nudge chan struct{} // holds a token when something may have come to rest
	seq   uint64        // of the last frame
	laid  map[object.Ref]laid
}

// laid is what the next holder has of an object: the state that act had after uses.
// Without act it knows that there is none.
type laid struct {
	act  *activation
	uses uint64
}

// depart begins to drain.
func (s *slot) depart(m Move) (*departure, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.state {
	case shut:
		return nil, s.wrongHolder()
	case leaving:
		return nil, fault.New(fault.Draining, "shard %d is vacated already", s.shard)
	}
	d := &departure{slot: s, life: s.life, move: m, nudge: make(chan struct{}, 1), laid: map[object.Ref]laid{}}
	s.nudge.Store(&d.nudge)
	s.become(draining)
	return d, nil
}

// survey lists what is at rest and has to be saved or laid at the next holder, and
// the objects that the next holder has and that are no more.
func (d *departure) survey() (work []*activation, gone []object.Ref, err error) {
	s := d.slot
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != draining || !s.life.is(d.life) {
		return nil, nil, fault.New(fault.WrongHolder, "shard %d was closed while it was being vacated", s.shard)
	}
	for a := range s.acts.all() {
		if d.owes(a) {
			work = append(work, a)
		}
	}
	for ref, l := range d.laid {
		if l.act != nil && s.acts.find(ref) == nil {
			gone = append(gone, ref)
		}
	}
	return work, gone, nil
}

// owes says that a is at rest and its state is not where it has to be.
func (d *departure) owes(a *activation) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.restsLocked() && !d.providedFor(a)
}

// providedFor: the next holder will find a's state in the store or has it, or there
// is none to take along. a.mu is held.
func (d *departure) providedFor(a *activation) bool {
	if a.keep != object.Volatile || !a.typ.Persistent {
		return a.save == nil || !a.save.dirty
	}
	l := d.laid[a.ref]
	return l.act == a && l.uses == a.turns.uses
}

// shutDoor lets nobody in any more, if everything is at rest and provided for. For each
// activation that is one step: who is let in before it is not at rest, who comes later is
// sent back to the slot, whose mutex is held until it is known what holds for all.
func (d *departure) shutDoor() bool {
	s := d.slot
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != draining || !s.life.is(d.life) || len(s.staged) > 0 {
		return false
	}
	for ref, l := range d.laid {
		if l.act != nil && s.acts.find(ref) == nil {
			return false
		}
	}
	for a := range s.acts.all() {
		if !d.shut(a) {
			s.setDoors()
			return false
		}
	}
	s.become(leaving)
	return true
}

// shut closes the door of an activation that is at rest and provided for.
func (d *departure) shut(a *activation) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.restsLocked() || !d.providedFor(a) {
		return false
	}
	a.door = doorShut
	return true
}

// await waits for something to come to rest. Once patience has ended it cancels what
// runs, time and again, because chains from elsewhere may still begin something.
func (d *departure) await(ctx, patience context.Context) {
	if patience.Err() == nil {
		select {
		case <-d.nudge:
			return
		case <-patience.Done():
		}
	}
	if ctx.Err() != nil {
		return
	}
	d.slot.cancelRunning(errOverdue)
	pause, cancel := context.WithTimeout(ctx, overdueEvery)
	defer cancel()
	select {
	case <-d.nudge:
	case <-pause.Done():
	}
}

// overdueEvery is how often a drain looks for calls that began after its patience
// had ended.
const overdueEvery = 50 * time.Millisecond

var errOverdue = fault.New(fault.Canceled, "the shard is leaving this node, and the time that running calls are given for it is over")

// cancelRunning cancels the contexts of the methods that run in the slot.
func (s *slot) cancelRunning(why error) {
	s.mu.Lock()
	all := s.list()
	s.mu.Unlock()
	for _, a := range all {
		a.mu.Lock()
		for f := a.frames.head; f != nil; f = f.next {
			f.ctx.cancel(why)
		}
		a.mu.Unlock()
	}
}

// lay brings the states of work to where they have to be, and tells the next holder
// what is gone.
func (d *departure) lay(ctx context.Context, work []*activation, gone []object.Ref) error {
	var load load
	for _, ref := range gone {
		if err := d.put(ctx, &load, peer.Staged{Ref: ref, Gone: true}, laid{}); err != nil {
			return err
		}
	}
	for _, a := range work {
		if err := d.provideFor(ctx, &load, a); err != nil {
			return err
		}
	}
	return d.ship(ctx, &load)
}

// provideFor saves a, or adds its state to the load.
func (d *departure) provideFor(ctx context.Context, l *load, a *activation) error {
	if a.keep != object.Volatile {
		if err := a.beside(ctx, "it was being saved", func() error { return a.flush(ctx) }); err != nil {
			return fault.Of(err).On("Vacate", a.ref.String())
		}
		return nil
	}
	taken, err := a.packUp(ctx)
	switch {
	case err != nil:
		return fault.Of(err).On("Vacate", a.ref.String())
	case taken == nil:
		return nil // it is in use again
	}
	return d.put(ctx, l, peer.Staged{Ref: a.ref, Created: taken.created, State: taken.state, Incarnation: taken.incarnation, Published: taken.published}, laid{a, taken.uses})
}

// load is what is shipped together.
type load struct {
	objects []peer.Staged
	marks   []laid
	size    int
}

// put adds an object's frame to the load, which is shipped when it is full.
func (d *departure) put(ctx context.Context, l *load, o peer.Staged, mark laid) error {
	if l.size > 0 && l.size+o.Size() > peer.MaxStage {
		if err := d.ship(ctx, l); err != nil {
			return err
		}
	}
	d.seq++
	o.Seq = d.seq
	l.objects, l.marks, l.size = append(l.objects, o), append(l.marks, mark), l.size+o.Size()
	return nil
}

// ship lays the load at the next holder and marks what that has then.
func (d *departure) ship(ctx context.Context, l *load) error {
	if len(l.objects) == 0 {
		return nil
	}
	if err := d.move.Stage(ctx, l.objects); err != nil {
		return err
	}
	for i, o := range l.objects {
		d.laid[o.Ref] = l.marks[i]
	}
	*l = load{}
	return nil
}

// warnOfLoss says once for each type that its objects lose their state when they move.
func (n *Node) warnOfLoss(left []*activation) {
	on := n.on.Notice
	if on == nil {
		return
	}
	for _, a := range left {
		if a.keep != object.Volatile || a.typ.Persistent {
			continue
		}
		if _, said := n.warned.LoadOrStore(a.typ.Name, true); !said {
			on(event.Notice{Severity: event.Warn, From: "node",
				Text: "objects of type " + a.typ.Name + " lose their state when their shard moves to another node; give the type ToData and FromData to let it go along"})
		}
	}
}
