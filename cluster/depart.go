package cluster

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
)

// How a shard leaves while its node stays. After drainPatience the contexts of calls
// that still run in it are cancelled; after drainDeadline the move is given up, never
// forced, and tried again later.
const (
	maxMoving     = 64 // shards that are emptied at once
	maxHanding    = 4  // transactions of them
	gathering     = 5 * time.Millisecond
	drainPatience = 5 * time.Second
	drainDeadline = 2 * drainPatience
)

var (
	returnBackoff = etcdmanager.Backoff{First: 20 * time.Millisecond, Max: 30 * time.Second}
	stageBackoff  = etcdmanager.Backoff{First: 10 * time.Millisecond, Max: 500 * time.Millisecond}
)

// departure is one attempt to hand a shard over:
//
//	vacating → vacant → handing → gone
//	    └─────────┴────────┴────→ back
//
// Each arrow is a post to the reconciler's loop. A shard that was dropped meanwhile
// belongs to its departure no longer, and what is posted for it changes nothing.
type departure struct {
	id     string          // the hand-over's
	record *sharding.Shard // by which the shard is held
	to     sharding.Member
	stop   context.CancelFunc // ends the emptying, or the rest after it

	around atomic.Bool // its state goes by a third node: set by whoever stages

	empty    bool // nothing runs in it any more
	handing  bool // in a transaction
	slow     bool // its calls run on although their patience is over
	recalled bool // the way to its receiver was found closed
	resting  bool // it was in vain, and the shard is left in peace for a while
}

// made says that a record is this hand-over's.
func (d *departure) made(s *sharding.Shard) bool { return d != nil && s.Handover == d.id }

// self is the receiver's identity.
func (d *departure) self() consensusmanager.Self {
	return consensusmanager.Self{Address: d.to.Address, Registration: d.to.Registration}
}

// holds says whether the slot still is the departure's.
func (r *reconciler) holds(d *departure) bool { return r.slots[d.record.ID].leaving == d }

// move begins to hand over shards whose targets are other nodes, some at once: those
// first that were to leave in vain least often.
func (r *reconciler) move(v *consensusmanager.View, shards []*sharding.Shard) {
	r.recall(v)
	if len(shards) == 0 {
		return
	}
	slices.SortStableFunc(shards, func(a, b *sharding.Shard) int { return cmp.Compare(r.slots[a.ID].returns, r.slots[b.ID].returns) })
	room := r.room()
	for _, s := range shards {
		if room == 0 {
			return // what is over will make room
		}
		if to, ok := v.Members().Find(s.Target); ok && !to.Draining {
			r.vacate(s, to)
			room--
		}
	}
}

// room is how many more shards may begin to leave. One that does not come to rest
// keeps no others.
func (r *reconciler) room() int {
	room := maxMoving
	for id := range r.survey.all() {
		if d := r.slots[id].leaving; d != nil && !d.slow && !d.resting && !d.handing {
			room--
		}
	}
	return max(0, room)
}

// recall ends what can lead to no hand-over: the receiver is gone, or the leader has
// changed its mind. State is then laid at nobody in vain.
func (r *reconciler) recall(v *consensusmanager.View) {
	if r.departing == 0 {
		return
	}
	for id := range r.survey.all() {
		if d := r.slots[id].leaving; d != nil && !d.resting && !r.mayHand(v, d, v.Table.Shard(id)) {
			d.recalled = true
			d.stop()
		}
	}
}

func (r *reconciler) vacate(s *sharding.Shard, to sharding.Member) {
	deadline := time.Now().Add(drainDeadline)
	if !r.until.IsZero() {
		deadline = r.until
	}
	ctx, stop := context.WithDeadline(r.work, deadline)
	d := &departure{id: newHandover(), record: r.slots[s.ID].record, to: to, stop: stop}
	r.slots[s.ID].phase, r.slots[s.ID].leaving = moving, d
	r.departing++
	r.workers.Go(func() {
		defer stop()
		err := r.host.Vacate(ctx, s.ID, Move{
			Stage:    func(ctx context.Context, objects []peer.Staged) error { return r.stage(ctx, d, objects) },
			Patience: drainPatience,
		})
		r.posts <- func() { r.vacated(d, err) }
	})
	r.workers.Go(func() {
		patience, cancel := context.WithTimeout(ctx, drainPatience)
		defer cancel()
		<-patience.Done()
		if ctx.Err() == nil {
			r.posts <- func() { d.slow = true }
		}
	})
}

func newHandover() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// stage lays state at the next holder. To send it twice does no harm, so whatever the
// road loses is sent again until ctx ends, and where the road itself seems to be closed
// by way of a third node.
func (r *reconciler) stage(ctx context.Context, d *departure, objects []peer.Staged) error {
	stage := &peer.Stage{
		Shard: int(d.record.ID), Handover: d.id, Holder: r.reg.Owner(), Epoch: d.record.Epoch,
		Target: d.to.Registration, Objects: objects,
	}
	for attempt := 0; ; attempt++ {
		err := r.lay(ctx, d, stage, stagePatience<<min(attempt, 4))
		if err == nil || ctx.Err() != nil || !passing(err) {
			return err
		}
		if !stageBackoff.Wait(ctx, attempt) {
			return err
		}
	}
}

// stagePatience is for how long a road may be silent before another is tried. It doubles
// with each attempt: a slow one is not taken for closed for ever.
const stagePatience = time.Second

// lay is one attempt: on the way that the one before it found open first.
func (r *reconciler) lay(ctx context.Context, d *departure, stage *peer.Stage, patience time.Duration) error {
	around := d.around.Load()
	err := r.layBy(ctx, d, stage, around, patience)
	if err == nil || ctx.Err() != nil || !byRoad(err) {
		return err
	}
	if other := r.layBy(ctx, d, stage, !around, patience); other == nil || !byRoad(other) {
		d.around.Store(!around)
		return other
	}
	return err
}

// byRoad says that an attempt may have failed because of the road alone.
func byRoad(err error) bool {
	kind := fault.KindOf(err)
	return kind == fault.NotReady || kind == fault.Indeterminate
}

var (
	errNoDetour = fault.New(fault.NotReady, "there is no third node")
	errSilent   = fault.New(fault.Indeterminate, "the road is silent")
)

// layBy sends a stage straight to its target or around by a third node.
func (r *reconciler) layBy(ctx context.Context, d *departure, stage *peer.Stage, around bool, patience time.Duration) error {
	by := *stage
	to := d.to.Address
	if around {
		if to = r.c.detour(d.to.Address); to == "" {
			return errNoDetour
		}
		by.Relay, by.Hops = d.to.Address, 1
		r.c.step("relay", "a stage to "+d.to.Address+" through "+to, nil)
	}
	conn, err := r.c.conns.to(to)
	if err != nil {
		return err
	}
	soon, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err = conn.ServeStage(soon, &by); err != nil && ctx.Err() == nil && soon.Err() != nil {
		return errSilent
	}
	return err
}

// passing says that the same stage may be taken a moment later.
func passing(err error) bool {
	switch fault.KindOf(err) {
	case fault.NotReady, fault.Indeterminate, fault.Overloaded:
		return true
	}
	return false
}

func (r *reconciler) vacated(d *departure, err error) {
	switch {
	case !r.holds(d):
		r.departing--
	case err != nil:
		if r.work.Err() == nil && !d.recalled {
			r.c.notice(event.Warn, fmt.Sprintf("%v stays for now: it could not be emptied", d.record), err)
		}
		r.comeBack([]*departure{d})
	default:
		d.empty = true
		if r.vacant = append(r.vacant, d); len(r.vacant) == 1 {
			r.gather()
		}
	}
}

// gather lets the first that is ready wait a moment for those that are about to be, so
// that one transaction carries them all.
func (r *reconciler) gather() {
	r.gathers++
	mine := r.gathers
	r.gathered = false
	r.workers.Go(func() {
		pause, cancel := context.WithTimeout(r.work, gathering)
		defer cancel()
		<-pause.Done()
		r.posts <- func() { r.gathered = r.gathered || r.gathers == mine }
	})
}

// complete says that a batch waits for no more: it is full, or all that is about to leave
// is in it, or the moment is over and no other batch is under way, behind which it would
// wait in etcd. A shard whose calls run on holds none up for longer than their patience.
func (r *reconciler) complete() bool {
	if len(r.vacant) >= consensusmanager.MaxBatch || r.gathered && r.handing == 0 {
		return true
	}
	for id := range r.survey.all() {
		if d := r.slots[id].leaving; d != nil && !d.empty && !d.slow && !d.recalled && !d.resting {
			return false
		}
	}
	return true
}

// handOn hands over what is vacant, as much as stands ready: a batch waits for a moment,
// not for a shard whose calls run on.
func (r *reconciler) handOn(v *consensusmanager.View) {
	if len(r.vacant) == 0 || r.handing >= maxHanding || !r.complete() {
		return
	}
	var list []consensusmanager.Handover
	var back []*departure
	of := map[string]*departure{}
	for _, d := range r.vacant {
		switch s := v.Table.Shard(d.record.ID); {
		case !r.holds(d):
			r.departing--
		case r.mayHand(v, d, s):
			of[d.id] = d
			list = append(list, consensusmanager.Handover{Shard: s, To: d.self(), ID: d.id})
		default: // the leader has changed its mind, or the receiver is gone
			back = append(back, d)
		}
	}
	r.vacant = nil
	r.comeBack(back)
	for _, batch := range consensusmanager.HandBatches(list) {
		departures := make([]*departure, len(batch))
		for i, h := range batch {
			departures[i] = of[h.ID]
		}
		if r.handing >= maxHanding {
			r.vacant = append(r.vacant, departures...)
			continue
		}
		r.handing++
		for _, d := range departures {
			d.handing = true
		}
		r.workers.Go(func() { r.posts <- r.hand(r.work, batch, departures) })
	}
}

func (r *reconciler) mayHand(v *consensusmanager.View, d *departure, s *sharding.Shard) bool {
	to, ok := v.Members().Find(d.to.Address)
	return ok && to.Registration == d.to.Registration && !to.Draining && s.Target == d.to.Address &&
		s.HeldBy(r.reg.Address, r.reg.Registration) && s.Epoch == d.record.Epoch && !s.Damaged
}

// hand is one T-HAND, and T-RESOLVE where its outcome is unknown. From here on the
// batch is nobody's until that is clear.
func (r *reconciler) hand(ctx context.Context, batch []consensusmanager.Handover, departures []*departure) (done func()) {
	out, err := r.reg.HandOver(ctx, batch)
	switch {
	case err == nil && out.Written:
		return func() { r.handed(batch, departures, out.Revision) }
	case err == nil || errors.Is(err, etcdmanager.ErrNotApplied):
		r.c.step("hand over", fmt.Sprintf("%d shards", len(batch)), orRefused(err))
		return func() { r.handing--; r.comeBack(departures) }
	}
	r.c.step("hand over", fmt.Sprintf("%d shards: the outcome is unknown", len(batch)), err)
	records := make([]*sharding.Shard, len(batch))
	for i, h := range batch {
		records[i] = h.Shard
	}
	told, err := r.reg.Resolve(ctx, records)
	r.c.step("resolve", fmt.Sprintf("%d shards", len(batch)), err)
	switch {
	case err != nil: // nothing of the batch executes, and nothing will under this registration
		return func() { r.handing--; r.forsake(departures, "its hand-over has no known outcome") }
	case told.Still:
		return func() { r.handing--; r.comeBack(departures) }
	case departures[0].anyMade(departures, told.Record):
		return func() { r.handed(batch, departures, told.Revision) }
	}
	return func() { r.handing--; r.forsake(departures, "etcd names another holder") }
}

// anyMade says that one of the departures made the record.
func (*departure) anyMade(list []*departure, s *sharding.Shard) bool {
	for _, d := range list {
		if d.record.ID == s.ID {
			return d.made(s)
		}
	}
	return false
}

// handed ends shards that are now another node's.
func (r *reconciler) handed(batch []consensusmanager.Handover, departures []*departure, revision int64) {
	r.handing--
	for i, d := range departures {
		r.departing--
		if r.holds(d) {
			r.slots[d.record.ID] = slot{after: revision}
			r.host.HandedOver(d.record.ID, d.to.Address, batch[i].Shard.Epoch+1)
		}
	}
	r.c.step("hand over", fmt.Sprintf("%d shards", len(batch)), nil)
}

// forsake drops shards that are surely or perhaps not this node's any more.
func (r *reconciler) forsake(departures []*departure, reason string) {
	var list []sharding.ID
	for _, d := range departures {
		r.departing--
		if r.holds(d) {
			list = append(list, d.record.ID)
		}
	}
	if len(list) > 0 {
		r.close(list, reason)
	}
}

// comeBack lets calls in again where a hand-over did not take place, and leaves the
// shards in peace for a while.
func (r *reconciler) comeBack(departures []*departure) {
	var list []sharding.ID
	for _, d := range departures {
		if r.holds(d) {
			list = append(list, d.record.ID)
		}
	}
	if len(list) > 0 {
		r.host.Resume(list)
	}
	for _, d := range departures {
		r.rest(d)
	}
}

func (r *reconciler) rest(d *departure) {
	if !r.holds(d) || r.work.Err() != nil {
		r.back(d)
		return
	}
	rest, wake := context.WithCancel(r.work)
	d.resting, d.handing, d.stop = true, false, wake
	returns := r.slots[d.record.ID].returns
	r.workers.Go(func() {
		defer wake()
		returnBackoff.Wait(rest, returns)
		r.posts <- func() { r.back(d) }
	})
}

// wakeUp ends every shard's rest: from now on they have to leave, however often that
// was in vain.
func (r *reconciler) wakeUp() {
	for i := range r.slots {
		h := &r.slots[i]
		h.returns = 0
		if h.leaving != nil && h.leaving.resting {
			h.leaving.stop()
		}
	}
}

func (r *reconciler) back(d *departure) {
	r.departing--
	if r.holds(d) {
		h := &r.slots[d.record.ID]
		h.phase, h.leaving = open, nil
		h.returns++
	}
}

// unstage forgets what others have laid here for hand-overs that can no longer take
// place: the shard has gone another way, or who would hand it over is dead.
func (r *reconciler) unstage(v *consensusmanager.View) {
	var over []Staging
	for _, st := range r.host.Staged() {
		if int(st.Shard) < v.Table.Len() && !pending(v, r.reg.Self, st) {
			over = append(over, st)
		}
	}
	if len(over) > 0 {
		r.host.Unstage(over)
	}
}

// pending says that the hand-over may still take place, or has, and waits to be opened.
func pending(v *consensusmanager.View, self consensusmanager.Self, st Staging) bool {
	s := v.Table.Shard(st.Shard)
	switch {
	case s.Epoch < st.Epoch:
		return true // the view is behind
	case s.Epoch > st.Epoch:
		return s.Handover == st.Handover && s.HeldBy(self.Address, self.Registration)
	}
	return v.Registered(registrationOf(st.Holder))
}
