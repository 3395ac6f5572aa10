package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/event"
)

// Work that a reconciler has under way at once. Claims are etcd's round trips; an
// opening takes all shards that have been claimed meanwhile, so two are enough to
// keep a store busy.
const (
	maxClaiming = 8
	maxOpening  = 2
	maxOpen     = 1024 // shards in one opening
	maxDraining = 64   // shards that are drained at once
)

var shardBackoff = etcdmanager.Backoff{First: 10 * time.Millisecond, Max: 2 * time.Second}

// reconciler brings what this node serves to what etcd says that it holds. It alone
// opens, drains and drops shards. Its fields belong to the goroutine of run; work
// under way posts its outcome there.
type reconciler struct {
	c    *Cluster
	host Host
	reg  *consensusmanager.Registration

	slots     []slot
	survey    survey
	claiming  int
	opening   int
	departing int
	handing   int
	vacant    []*departure // ready to be handed over
	gathers   int          // how often some were gathered
	gathered  bool         // the moment for the last of them is over
	failed    int          // openings and claims in a row
	trouble   error
	fatal     error
	until     time.Time // leaving: when the budget ends
	waking    bool      // a post is due that makes the loop look again
	rewind    *rewind   // nil: the store is not known to be put back
	restamp   *restamp  // nil: what it was put back under is served again

	standing   atomic.Uint64 // after so many lapses of trust all was found in order; written by the loop
	confirming bool          // the host is asked whether it is

	work    context.Context // of what is under way
	abort   context.CancelFunc
	workers sync.WaitGroup
	posts   chan func()
}

func newReconciler(c *Cluster, host Host, reg *consensusmanager.Registration) *reconciler {
	return &reconciler{c: c, host: host, reg: reg, slots: make([]slot, reg.Meta.Shards), survey: newSurvey(reg.Meta.Shards), posts: make(chan func())}
}

// run reconciles until the registration is lost, when it drops everything, or until
// ctx ends, when it leaves.
func (r *reconciler) run(ctx context.Context) error {
	r.work, r.abort = context.WithCancel(context.WithoutCancel(ctx))
	defer r.settle()
	r.workers.Go(r.guardTrust)
	confirmed := r.reg.Confirmed()
	for {
		v := r.c.View()
		r.walk(v)
		if r.fatal != nil {
			r.drop("this node must not go on: " + r.fatal.Error())
			return r.fatal
		}
		select {
		case <-v.Superseded():
		case post := <-r.posts:
			post()
			r.absorb()
		case id := <-r.host.Lost():
			r.shutByHost(id)
		case <-r.rewound():
			r.goBack()
		case <-confirmed:
			confirmed = nil
			r.welcome()
		case <-r.reg.Lost():
			r.drop("the registration was lost")
			return consensusmanager.ErrLost
		case <-ctx.Done():
			return r.leave(ctx)
		}
	}
}

// welcome opens the host under its registration without any shard: objects that are
// pinned to this node need none.
func (r *reconciler) welcome() {
	r.workers.Go(func() {
		if _, err := r.host.Open(r.work, r.tenure(), nil); err != nil && r.work.Err() == nil {
			r.c.notice(event.Warn, "objects that are pinned to this node are not served before it has a shard", err)
		}
	})
}

// shutByHost takes note of a shard whose fence the store gave away. If etcd still
// names this node, it is opened again: the store then tells the fence to mint past,
// or the other cluster that uses the store is found out.
func (r *reconciler) shutByHost(id sharding.ID) {
	if int(id) < len(r.slots) && r.slots[id].held() {
		h := r.slots[id]
		r.forget(id)
		r.slots[id].refusals, r.slots[id].refused = h.refusals, h.refused
		r.c.step("fence lost", fmt.Sprintf("shard %d", id), nil)
	}
}

// absorb takes the outcomes that have come in already.
func (r *reconciler) absorb() {
	for {
		select {
		case post := <-r.posts:
			post()
		default:
			return
		}
	}
}

// walk starts what v calls for.
func (r *reconciler) walk(v *consensusmanager.View) {
	if v.Table.Len() != len(r.slots) {
		return // another life of the cluster: this registration is about to be lost
	}
	r.confirm()
	still := !r.reg.Fresh() || r.inDoubt()
	if still {
		r.lookAgain()
	}
	list, missing := r.survey.steps(v, r.reg.Self, r.slots, limits{still: still, frozen: r.c.m.Rules().Frozen(v)})
	r.c.shards.Store(&progress{view: v, missing: missing, trouble: r.trouble, leaving: !r.until.IsZero(), doubt: r.inDoubt()})
	byKind := map[StepKind][]*sharding.Shard{}
	for _, s := range list {
		byKind[s.Kind] = append(byKind[s.Kind], s.Shard)
	}
	r.dropGone(byKind[StepDrop])
	if r.rewind != nil {
		if r.until.IsZero() {
			r.adopt()
		}
		r.c.checkReady()
		return
	}
	if r.inDoubt() { // what is here may be another's by now: nothing of it is passed on
		r.c.checkReady()
		return
	}
	if r.until.IsZero() {
		r.open(byKind[StepOpen])
		r.claim(v, byKind[StepClaim])
		r.raise(byKind[StepRaise])
		r.unstage(v)
	}
	r.move(v, byKind[StepMove])
	r.handOn(v)
	r.sayRestamped(v)
	r.c.checkReady()
}

// lookAgain walks a little later, view or no view: no event tells that etcd answers
// again.
func (r *reconciler) lookAgain() {
	if r.waking || r.work.Err() != nil {
		return
	}
	r.waking = true
	r.workers.Go(func() {
		pause, cancel := context.WithTimeout(r.work, etcdmanager.RenewInterval/2)
		defer cancel()
		<-pause.Done()
		r.posts <- func() { r.waking = false }
	})
}

// start runs work in the background and its outcome, done, on the loop.
func (r *reconciler) start(shards []*sharding.Shard, work func(context.Context) (done func())) {
	for _, s := range shards {
		r.slots[s.ID].phase = busy
	}
	r.workers.Go(func() { r.posts <- work(r.work) }) // run or settle receives it
}

// settle ends all work and takes its outcomes.
func (r *reconciler) settle() {
	r.abort()
	finished := make(chan struct{})
	go func() { r.workers.Wait(); close(finished) }()
	for {
		select {
		case post := <-r.posts:
			post()
		case <-finished:
			return
		}
	}
}

// dropGone closes shards that etcd says are no longer this node's.
func (r *reconciler) dropGone(shards []*sharding.Shard) {
	if len(shards) == 0 {
		return
	}
	r.close(ids(shards), "etcd names another holder")
}

func (r *reconciler) close(list []sharding.ID, reason string) {
	for _, id := range list {
		r.forget(id)
	}
	r.c.step("drop", fmt.Sprintf("%d shards: %s", len(list), reason), nil)
	r.host.Drop(list, reason)
}

// forget makes a slot closed; a departure that it is on ends.
func (r *reconciler) forget(id sharding.ID) {
	h := &r.slots[id]
	if h.leaving != nil {
		h.leaving.stop()
	}
	*h = slot{void: h.void}
	r.survey.touch(id)
}

// drop closes every shard at once, those last whose opening was under way.
func (r *reconciler) drop(reason string) {
	if list := r.held(); len(list) > 0 {
		r.close(list, reason)
	}
	r.settle()
	if list := r.held(); len(list) > 0 {
		r.close(list, reason)
	}
}

// held is the shards that the host has.
func (r *reconciler) held() []sharding.ID {
	var list []sharding.ID
	for i := range r.slots {
		if r.slots[i].held() {
			list = append(list, sharding.ID(i))
		}
	}
	return list
}

func ids(shards []*sharding.Shard) []sharding.ID {
	list := make([]sharding.ID, len(shards))
	for i, s := range shards {
		list[i] = s.ID
	}
	return list
}

// claim takes shards up in etcd, some batches at once.
func (r *reconciler) claim(v *consensusmanager.View, shards []*sharding.Shard) {
	room := maxClaiming - r.claiming
	if room <= 0 || len(shards) == 0 {
		return
	}
	shards = r.c.wanted.first(shards)
	shards = shards[:min(len(shards), room*consensusmanager.MaxBatch)]
	for _, batch := range consensusmanager.ClaimBatches(shards) {
		if r.claiming == maxClaiming {
			return
		}
		r.claiming++
		attempt := r.failed
		r.start(batch, func(ctx context.Context) func() {
			out, err := r.reg.Claim(ctx, batch)
			if err != nil || !out.Written {
				r.c.step("claim", fmt.Sprintf("%d shards", len(batch)), orRefused(err))
				shardBackoff.Wait(ctx, attempt)
			}
			return func() { r.claimed(v, batch, out, err) }
		})
	}
}

func (r *reconciler) claimed(v *consensusmanager.View, batch []*sharding.Shard, out consensusmanager.Outcome, err error) {
	r.claiming--
	after := v.Revision
	if r.succeeded(err == nil && out.Written) {
		after = out.Revision
	}
	for _, s := range batch {
		r.slots[s.ID].phase, r.slots[s.ID].after = closed, after
	}
}

// succeeded counts failures in a row.
func (r *reconciler) succeeded(ok bool) bool {
	if ok {
		r.failed = 0
	} else {
		r.failed++
	}
	return ok
}

func orRefused(err error) error {
	if err != nil {
		return err
	}
	return errRefused
}

// open lets calls into shards that this node holds, as many at once as wait for it.
func (r *reconciler) open(shards []*sharding.Shard) {
	for len(shards) > 0 && r.opening < maxOpening && !r.inDoubt() {
		batch := shards[:min(len(shards), maxOpen)]
		shards = shards[len(batch):]
		r.opening++
		attempt := r.failed
		list := r.claims(batch)
		r.start(batch, func(ctx context.Context) func() {
			refused, err := r.host.Open(ctx, r.tenure(), list)
			if err != nil {
				r.c.notice(event.Warn, fmt.Sprintf("%d shards could not be opened and will be tried again", len(batch)), err)
				shardBackoff.Wait(ctx, attempt)
				return func() { r.notOpened(batch, err) }
			}
			return func() { r.opened(batch, refused) }
		})
	}
}

func (r *reconciler) tenure() Tenure {
	return Tenure{Owner: r.reg.Owner(), Trusted: r.trusted}
}

// claims is how shards are to be opened. State that came with a hand-over that the
// store refused is not the newest: somebody held the shard after who handed it over.
func (r *reconciler) claims(shards []*sharding.Shard) []Claim {
	list := make([]Claim, len(shards))
	for i, s := range shards {
		list[i] = Claim{Shard: s.ID, Epoch: s.Epoch, Handover: s.Handover}
		if s.Handover == r.slots[s.ID].stale {
			list[i].Handover = ""
		}
	}
	return list
}

func (r *reconciler) notOpened(batch []*sharding.Shard, err error) {
	r.opening--
	r.trouble = err
	r.succeeded(false)
	for _, s := range batch {
		r.slots[s.ID].phase = closed
	}
}

func (r *reconciler) opened(batch []*sharding.Shard, refused []Refusal) {
	r.opening--
	r.trouble = nil
	r.succeeded(true)
	for _, s := range batch {
		h := &r.slots[s.ID]
		*h = slot{phase: open, record: s, refusals: h.refusals, refused: h.refused, stale: h.stale}
	}
	var again []*sharding.Shard
	floors := map[sharding.ID]uint64{}
	for _, no := range refused {
		h := &r.slots[no.Shard]
		s := h.record
		if s.Epoch > h.refused {
			h.refusals, h.refused = h.refusals+1, s.Epoch
		}
		h.phase, h.record, h.stale = closed, nil, s.Handover
		r.trouble = fmt.Errorf("the store knows shard %d at epoch %d of %s", no.Shard, no.Epoch, no.Owner)
		r.judge(no, h.refusals)
		if no.Epoch < sharding.MaxEpoch {
			again, floors[s.ID] = append(again, s), no.Epoch
		}
	}
	if r.fatal == nil && len(again) > 0 {
		r.mint(again, floors)
	}
}

// judge ends this node if the store's fences keep rising under the hands of someone
// who is not in this etcd: then a second cluster uses the store.
func (r *reconciler) judge(no Refusal, times int) {
	switch {
	case no.Epoch >= sharding.MaxEpoch:
		r.fatal = fmt.Errorf("the store has shard %d at epoch %d, past which none can be minted", no.Shard, no.Epoch)
	case times >= 3 && !r.c.View().Registered(registrationOf(no.Owner)):
		r.fatal = fmt.Errorf("the store refused shard %d three times for %s, which is not in this etcd: another cluster uses the same store; give each cluster a store of its own",
			no.Shard, no.Owner)
	default:
		return
	}
	r.c.notice(event.Alarm, "this node stops", r.fatal)
}

// registrationOf is the registration in an owner's name.
func registrationOf(owner string) string {
	_, registration, _ := strings.Cut(owner, "#")
	return registration
}

// mint raises the epochs of shards past floors, which the store knows or has forgotten,
// so that they can be opened. Whoever has those may be of a history of etcd that was undone, and speak on
// for as long as a lease lasts: that is waited for.
func (r *reconciler) mint(shards []*sharding.Shard, floors map[sharding.ID]uint64) {
	v := r.c.View()
	r.start(shards, func(ctx context.Context) func() {
		r.pauseUntil(r.reg.Alone())
		after := v.Revision
		for part := range slices.Chunk(shards, consensusmanager.MaxBatch) {
			out, err := r.reg.Bump(ctx, part, floors)
			r.c.step("bump", fmt.Sprintf("%d shards past the store's fences", len(part)), err)
			after = max(after, out.Revision)
			if err != nil || !out.Written {
				shardBackoff.Wait(ctx, 0)
			}
		}
		return func() {
			for _, s := range shards {
				r.slots[s.ID].phase, r.slots[s.ID].after = closed, after
			}
		}
	})
}
