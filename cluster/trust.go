package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/event"
)

// When the trust in the lease runs out this node falls silent, and when it is back the
// node goes on with what it has, but not before the store has confirmed, shard by
// shard, that nobody else has held it meanwhile. etcd alone cannot say so: restored
// from an older snapshot it names this node again, by a lease and by records that look
// as if nothing had been.

// trusted is the right by which shards are open.
func (r *reconciler) trusted() bool { return r.reg.TrustedAt(r.standing.Load()) }

// inDoubt says that the trust has lapsed since all was last found in order.
func (r *reconciler) inDoubt() bool {
	n, _ := r.reg.Lapses()
	return n != r.standing.Load()
}

// guardTrust interrupts what the host runs, once each time that the registration's
// trust has run out, and lets the loop look at what is held when it is back.
func (r *reconciler) guardTrust() {
	select {
	case <-r.reg.Confirmed():
	case <-r.work.Done():
	}
	for r.work.Err() == nil {
		_, lapsed := r.reg.Lapses()
		if r.trusted() {
			r.pauseOr(lapsed, r.reg.TrustedUntil())
			continue
		}
		r.c.step("interrupt", "this node's lease is not trusted any more", nil)
		r.host.Interrupt("this node's lease ended")
		over := r.degrade()
		for r.work.Err() == nil && !r.trusted() {
			r.pauseUntil(time.Now().Add(etcdmanager.RenewInterval / 4))
			if r.reg.Trusted() && r.inDoubt() {
				r.posts <- func() {} // run or settle receives it
			}
		}
		over()
	}
}

// degrade tells an operator that the host serves on without etcd, and over when that
// has ended.
func (r *reconciler) degrade() (over func()) {
	if !r.c.degraded(r.reg) {
		return func() {}
	}
	began := time.Now()
	r.c.notice(event.Warn, "degraded mode begins: etcd does not answer; durable objects are served by the store's word, all others are not", nil)
	return func() {
		how := "etcd answers again"
		if !r.trusted() {
			how = "the registration was lost, or this node stops"
		}
		r.c.notice(event.Info, fmt.Sprintf("degraded mode ends after %v: %s", time.Since(began).Round(time.Millisecond), how), r.reg.Err())
	}
}

// pauseUntil waits for a time, or for the end of all work.
func (r *reconciler) pauseUntil(t time.Time) { r.pauseOr(nil, t) }

// pauseOr waits for c to be closed, but not longer than pauseUntil does.
func (r *reconciler) pauseOr(c <-chan struct{}, t time.Time) {
	pause, cancel := context.WithDeadline(r.work, t)
	defer cancel()
	select {
	case <-pause.Done():
	case <-c:
	}
}

// confirm asks, once the trust is back, whether all that is held is this node's still.
// What is being opened is waited for, so that it is asked about as well.
func (r *reconciler) confirm() {
	if r.confirming || r.opening > 0 || !r.inDoubt() || !r.reg.Trusted() || r.work.Err() != nil {
		return
	}
	lapses, _ := r.reg.Lapses()
	var list []Claim
	for _, id := range r.held() {
		list = append(list, Claim{Shard: id, Epoch: r.slots[id].record.Epoch})
	}
	attempt := r.failed
	r.confirming = true
	r.workers.Go(func() {
		refused, err := r.host.Confirm(r.work, r.tenure(), list)
		if err != nil && r.work.Err() == nil {
			r.c.notice(event.Warn, fmt.Sprintf("the lease is trusted again, but the store has not confirmed %d shards", len(list)), err)
			shardBackoff.Wait(r.work, attempt)
		}
		r.posts <- func() { r.confirmed(lapses, list, refused, err) }
	})
}

func (r *reconciler) confirmed(lapses uint64, asked []Claim, refused []Refusal, err error) {
	r.confirming = false
	r.trouble = err
	if !r.succeeded(err == nil) {
		return
	}
	r.disown(asked, refused)
	r.standing.Store(lapses)
	r.c.step("confirm", fmt.Sprintf("%d shards, all but %d", len(asked), len(refused)), nil)
}

// disown drops what the store refused, unless it was dropped already.
func (r *reconciler) disown(asked []Claim, refused []Refusal) {
	epochs := make(map[sharding.ID]uint64, len(asked))
	for _, c := range asked {
		epochs[c.Shard] = c.Epoch
	}
	var list []sharding.ID
	stale := map[sharding.ID]string{}
	for _, no := range refused {
		if h := &r.slots[no.Shard]; h.held() && h.record.Epoch == epochs[no.Shard] {
			list = append(list, no.Shard)
			stale[no.Shard] = h.record.Handover
		}
	}
	if len(list) == 0 {
		return
	}
	r.close(list, "the store knows another holder since this node's lease lapsed")
	for id, handover := range stale {
		r.slots[id].stale = handover
	}
}
