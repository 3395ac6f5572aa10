package consensusmanager

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/internal/event"
)

const (
	reloadInterval = 30 * time.Second       // however quiet the watch is
	reloadPause    = 200 * time.Millisecond // at least, between two reloads
	rangeTimeout   = 5 * time.Second
)

var rangeBackoff = etcdmanager.Backoff{First: 50 * time.Millisecond, Max: 2 * time.Second}

// follow is the one goroutine that makes Views: it loads the prefix, watches it from
// there, and begins again when the watch ends.
func (m *Manager) follow(ctx context.Context) {
	for attempt := 0; ctx.Err() == nil; {
		asked := m.View().Revision
		page, err := m.fetch(ctx)
		if err == nil {
			m.load(page, asked)
			err = m.watch(ctx)
			attempt = 0
		}
		if ctx.Err() != nil {
			return
		}
		m.lost(err)
		rangeBackoff.Wait(ctx, attempt)
		attempt++
	}
}

// lost says why the view no longer moves.
func (m *Manager) lost(err error) {
	if m.View().Revision == 0 {
		m.waits(fmt.Sprintf("etcd does not answer: %v", err))
	}
	if errors.Is(err, etcdmanager.ErrCompacted) {
		m.step("reload", "the watch fell behind what etcd keeps", err)
		return
	}
	m.notice(event.Warn, "the view of the cluster stands still", err)
}

func (m *Manager) fetch(ctx context.Context) (etcdmanager.Page, error) {
	ctx, cancel := context.WithTimeout(ctx, rangeTimeout)
	defer cancel()
	return m.kv.Range(ctx, string(m.keys))
}

// answer is a page, and the view's revision when it was asked for.
type answer struct {
	page  etcdmanager.Page
	asked int64
	err   error
}

// watch applies changes as they come, and a full load now and then and on demand. It
// returns why the watch ended.
func (m *Manager) watch(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var loading sync.WaitGroup
	defer loading.Wait()
	defer cancel()
	batches := m.kv.Watch(ctx, string(m.keys), m.View().Revision+1)
	answers := make(chan answer, 1)
	timer := time.NewTimer(jitter(reloadInterval))
	defer timer.Stop()
	busy, last := false, time.Now()
	for {
		select {
		case b, ok := <-batches:
			if err := m.apply(b, ok, batches); err != nil {
				return err
			}
		case <-m.reload:
			timer.Reset(max(0, reloadPause-time.Since(last)))
		case <-timer.C:
			timer.Reset(jitter(reloadInterval))
			if busy {
				continue
			}
			busy, last = true, time.Now()
			asked := m.View().Revision
			loading.Go(func() {
				page, err := m.fetch(ctx)
				answers <- answer{page, asked, err}
			})
		case a := <-answers:
			busy = false
			if a.err == nil {
				m.load(a.page, a.asked)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// apply publishes one view for this batch and those that are waiting behind it.
func (m *Manager) apply(b etcdmanager.Batch, ok bool, more <-chan etcdmanager.Batch) error {
	view, alarms := m.View(), []string(nil)
	defer func() { m.publish(view, alarms) }()
	for {
		switch {
		case !ok:
			return errWatchEnded
		case b.Err != nil:
			return b.Err
		}
		next, raised := view.Apply(m.keys, b, time.Now())
		view, alarms = next, append(alarms, raised...)
		select {
		case b, ok = <-more:
		default:
			return nil
		}
	}
}

var errWatchEnded = errors.New("the watch ended")

// load makes the view what page says. A page from before the view it was asked from
// means that etcd was restored from an older snapshot: what was known is worth
// nothing. (The lease notices by itself, and drops all that is held.)
func (m *Manager) load(page etcdmanager.Page, asked int64) {
	view := m.View()
	if page.Revision < asked {
		m.notice(event.Alarm, fmt.Sprintf("etcd went back from revision %d to %d: it was restored from an older snapshot", asked, page.Revision), nil)
		view = newView()
	}
	next, alarms := view.Load(m.keys, page, time.Now())
	m.publish(next, alarms)
}

// Reload asks for a full load soon: something showed that the view may be behind.
func (m *Manager) Reload() {
	select {
	case m.reload <- struct{}{}:
	default:
	}
}

// publish makes next the view, and wakes all that wait for it.
func (m *Manager) publish(next *View, alarms []string) {
	before := m.View()
	if next == before {
		return
	}
	m.view.Store(next)
	close(before.superseded)
	for _, a := range alarms {
		m.notice(event.Alarm, a, nil)
	}
	if m.on.ViewChanged != nil {
		m.on.ViewChanged(event.ViewChanged{Revision: next.Revision})
	}
	if m.on.LeaderChanged != nil && next.Leader.Term != before.Leader.Term {
		m.on.LeaderChanged(event.LeaderChanged{Leader: next.Leader.Address, Term: next.Leader.Term})
	}
	if before.Meta != nil && (next.Meta == nil || !next.Meta.Same(before.Meta)) {
		m.Reload() // keys that were there before the new meta count again
	}
}

// jitter is d, up to a fifth less or more, so that processes do not load in step.
func jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
}
