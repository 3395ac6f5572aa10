package consensusmanager

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/sharding"
)

const (
	stalePause = 100 * time.Millisecond // how often a node looks whether it may lead again
	stillPause = 5 * time.Second        // and whether etcd has space again
)

var campaignBackoff = etcdmanager.Backoff{First: 10 * time.Millisecond, Max: time.Second}

// campaign carries out what Decide intends, view by view, until the registration is
// lost or ctx ends. Whether this node leads is read from the view, so leadership
// needs no state of its own: every write checks it in etcd.
func (m *Manager) campaign(ctx context.Context, r *Registration) {
	ctx, stop := r.bound(ctx)
	defer stop()
	select {
	case <-r.Confirmed():
	case <-ctx.Done():
	}
	var moves moves
	for failed := 0; ctx.Err() == nil; {
		v := m.View()
		if !r.Fresh() { // the others may be about to take it for dead
			pause(ctx, v, stalePause)
			continue
		}
		rules, again := m.Rules(), m.cfg.ReloadInterval
		slow, next := moves.slow(v, r.Self, time.Now())
		if rules.Slow = slow; !next.IsZero() {
			again = min(again, time.Until(next))
		}
		intents := Decide(v, r.Self, rules, time.Now())
		switch {
		case len(intents) == 0 && rules.Still:
			pause(ctx, v, stillPause)
			continue
		case len(intents) == 0:
			pause(ctx, v, again)
			continue
		case intents[0].Kind == Wait:
			pause(ctx, v, min(again, time.Until(intents[0].Until)))
			continue
		}
		revision, err := m.carryOut(ctx, r, v, intents[0])
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			m.step(intents[0].String(), r.Owner(), err)
			m.Reload()
			campaignBackoff.Wait(ctx, failed)
			failed++
			continue
		}
		failed = 0
		m.await(ctx, revision)
	}
}

// bound is ctx until the registration is lost.
func (r *Registration) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-r.Lost():
			cancel(ErrLost)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(context.Canceled); <-done }
}

// await waits until the view has a revision that was written.
func (m *Manager) await(ctx context.Context, revision int64) {
	for v := m.View(); v.Revision < revision && ctx.Err() == nil; v = m.View() {
		before := v.Revision
		pause(ctx, v, time.Second)
		if m.View().Revision == before {
			m.Reload()
		}
	}
}

var (
	// errRefused: the guards did not hold, because the view was behind.
	errRefused = errors.New("the cluster has moved on")
	// errStale: the renewals stay away.
	errStale = errors.New("etcd does not renew the lease")
)

// carryOut does one intent and returns the revision that shows it.
func (m *Manager) carryOut(ctx context.Context, r *Registration, v *View, i Intent) (int64, error) {
	switch i.Kind {
	case Lead:
		return m.write(ctx, r, r.w.lead(r.lease.ID()), i)
	case Yield:
		return m.write(ctx, r, r.w.yield(v.Leader.Term), i)
	case Form:
		return m.write(ctx, r, r.w.form(v.Leader.Term, v.Ready()), i)
	case Retarget:
		return m.retarget(ctx, r, v, i.Changes)
	}
	return 0, nil
}

func (m *Manager) write(ctx context.Context, r *Registration, txn etcdmanager.Txn, i Intent) (int64, error) {
	result, err := r.commit(ctx, txn)
	if err == nil && !result.Held {
		err = errRefused
	}
	if err == nil {
		m.step(i.String(), r.Owner(), nil)
	}
	return result.Revision, err
}

// retarget writes a plan, batch after batch: each follows the mapping that the one
// before it made, so no other leader's write can be between them.
func (m *Manager) retarget(ctx context.Context, r *Registration, v *View, changes []sharding.Change) (int64, error) {
	mapping, revision := v.mapping, int64(0)
	for _, batch := range PlanBatches(changes) {
		if !r.Fresh() {
			return revision, errStale
		}
		next := mapping.next()
		result, err := r.commit(ctx, r.w.plan(v.Leader.Term, mapping, next, v, batch))
		if err == nil && !result.Held {
			err = errRefused
		}
		if err != nil {
			return revision, err
		}
		mapping, revision = next, result.Revision
	}
	m.step("plan", fmt.Sprintf("%d shards retargeted, mapping epoch %d", len(changes), mapping.Epoch), nil)
	return revision, nil
}
