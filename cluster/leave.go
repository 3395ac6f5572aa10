package cluster

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/event"
)

// leave gives everything back: it says that this node is going, hands its shards to
// those who stay, and drains what nobody takes. A shard on which calls still run when
// the budget ends is not given away: it stays this node's until its lease ends.
func (r *reconciler) leave(ctx context.Context) error {
	r.until = time.Now().Add(r.c.cfg.DrainBudget)
	r.c.shards.Store(&progress{leaving: true})
	r.wakeUp()
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), r.until)
	defer cancel()
	stop := r.untilLost(cancel)
	defer stop()
	told, heard := r.announce(ctx)
	if heard {
		r.passOn(ctx, told)
	}
	r.settle()
	r.comeBack(r.vacant)
	r.drain(ctx)
	stuck := r.held()
	if heard && len(stuck) > 0 { // else the end of the lease frees all in one step
		r.release(ctx)
	}
	switch {
	case r.reg.Err() != nil:
		r.drop("the registration was lost")
		return consensusmanager.ErrLost
	case len(stuck) > 0:
		r.close(stuck, "this node has to go")
		return fmt.Errorf("%d shards could not be drained within %v: %w", len(stuck), r.c.cfg.DrainBudget, consensusmanager.ErrUnfinished)
	}
	return nil
}

// passOn hands shards over as the leader gives them other targets, until none is left
// or nobody is there to take one: nobody who was there at revision told, when the others
// were told, whenever this node hears of it.
func (r *reconciler) passOn(ctx context.Context, told int64) {
	for {
		v := r.c.View()
		r.walk(v)
		r.receive(v)
		if r.idle() || v.Revision >= told && !takenBy(v, r.reg.Address) && r.departing == 0 {
			return
		}
		select {
		case <-v.Superseded():
		case post := <-r.posts:
			post()
			r.absorb()
		case id := <-r.host.Lost():
			r.shutByHost(id)
		case <-r.rewound():
			r.goBack() // the next holders find what the store has
		case <-ctx.Done(): // also when the registration was lost
			return
		}
	}
}

// receive takes up what was handed to this node in the moment in which it began to
// leave: the state that came with it is nowhere else, and has to be handed on.
func (r *reconciler) receive(v *consensusmanager.View) {
	if r.rewind != nil {
		return // nothing can be opened
	}
	var came []*sharding.Shard
	for _, st := range r.host.Staged() {
		if int(st.Shard) >= min(v.Table.Len(), len(r.slots)) {
			continue
		}
		s, h := v.Table.Shard(st.Shard), &r.slots[st.Shard]
		if s.Handover == st.Handover && s.HeldBy(r.reg.Address, r.reg.Registration) && h.phase == closed && v.Revision >= h.after {
			came = append(came, s)
		}
	}
	r.open(came)
}

// idle: no shard is here, nor on its way.
func (r *reconciler) idle() bool {
	for i := range r.slots {
		if r.slots[i].phase != closed {
			return false
		}
	}
	return true
}

// takenBy says that others than self are there who take shards.
func takenBy(v *consensusmanager.View, self string) bool {
	for _, m := range v.Members() {
		if m.Address != self && !m.Draining {
			return true
		}
	}
	return false
}

// How long one word to etcd may take.
const (
	announceTimeout = time.Second
	releaseTimeout  = 2 * time.Second
	confirmation    = time.Second // for a view that is newer than one that was refused
)

var announceBackoff = etcdmanager.Backoff{First: 50 * time.Millisecond, Max: 500 * time.Millisecond}

// announce tells the others that this node gets no more shards, and says whether etcd
// heard it, and at which revision. What lives only in memory depends on it, so a moment without etcd is waited
// out; but not for longer than the lease is trusted, because then nothing is served any
// more, nor when there is nothing to give or nobody to take it, nor into the last
// quarter of the budget, which is for the drain.
func (r *reconciler) announce(ctx context.Context) (revision int64, heard bool) {
	ctx, cancel := context.WithDeadline(ctx, r.until.Add(-r.c.cfg.DrainBudget/4))
	defer cancel()
	for attempt := 0; ; attempt++ {
		try, done := context.WithTimeout(ctx, announceTimeout)
		out, err := r.reg.Drain(try)
		done()
		if err == nil && out.Written {
			return out.Revision, true
		}
		r.c.step("drain", "the others could not be told", orRefused(err))
		if err == nil || !r.trusted() || r.idle() || !takenBy(r.c.View(), r.reg.Address) || !announceBackoff.Wait(ctx, attempt) {
			return 0, err == nil
		}
	}
}

// untilLost calls cancel when the registration is lost; stop ends the watch.
func (r *reconciler) untilLost(cancel func()) (stop func()) {
	left, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-r.reg.Lost():
			cancel()
		case <-left:
		}
	}()
	return func() { close(left); <-ended }
}

// drain empties the open shards, some at once. Those that it closed are no longer
// open.
func (r *reconciler) drain(ctx context.Context) {
	list := r.held()
	next := make(chan sharding.ID, len(list))
	for _, id := range list {
		next <- id
	}
	close(next)
	var mu sync.Mutex // protects slots
	var draining sync.WaitGroup
	for range min(maxDraining, len(list)) {
		draining.Go(func() {
			for id := range next {
				if err := r.host.Drain(ctx, id); err != nil {
					r.c.notice(event.Warn, fmt.Sprintf("shard %d is not drained", id), err)
					continue
				}
				mu.Lock()
				r.slots[id] = slot{}
				mu.Unlock()
			}
		})
	}
	draining.Wait()
}

// release gives up, in etcd, what this node holds and does not serve. What it does
// not achieve the end of the lease does.
func (r *reconciler) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	for range 3 {
		v := r.c.View()
		shards := r.releasable(v)
		if len(shards) == 0 || ctx.Err() != nil {
			return
		}
		if r.releaseAll(ctx, shards) {
			return
		}
		await(ctx, v, confirmation)
	}
}

func (r *reconciler) releasable(v *consensusmanager.View) []*sharding.Shard {
	var list []*sharding.Shard
	self := r.reg.Self
	for _, s := range v.Table.All() {
		if s.HeldBy(self.Address, self.Registration) && int(s.ID) < len(r.slots) && !r.slots[s.ID].held() {
			list = append(list, s)
		}
	}
	return list
}

// releaseAll says whether every transaction was written.
func (r *reconciler) releaseAll(ctx context.Context, shards []*sharding.Shard) bool {
	limit := make(chan struct{}, maxClaiming)
	var missed atomic.Bool
	var releasing sync.WaitGroup
	for _, batch := range consensusmanager.ClaimBatches(shards) {
		limit <- struct{}{}
		releasing.Go(func() {
			defer func() { <-limit }()
			out, err := r.reg.Release(ctx, batch)
			if err != nil || !out.Written {
				r.c.step("release", fmt.Sprintf("%d shards", len(batch)), orRefused(err))
				missed.Store(true)
			}
		})
	}
	releasing.Wait()
	return !missed.Load()
}
