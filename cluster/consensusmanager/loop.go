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
	reloadPause  = 200 * time.Millisecond // at least, between two reloads
	retryPause   = 500 * time.Millisecond // after one that failed
	rangeTimeout = 5 * time.Second
)

var rangeBackoff = etcdmanager.Backoff{First: 50 * time.Millisecond, Max: 2 * time.Second}

// follow is the one goroutine that makes Views: it loads the prefix, watches it from
// there, and begins again when the watch ends.
func (m *Manager) follow(ctx context.Context) {
	for attempt := 0; ctx.Err() == nil; {
		a := m.fetch(ctx)
		err := a.err
		if err == nil {
			m.load(a)
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
	if text := err.Error(); m.View().Revision == 0 {
		m.silence.Store(&text)
		m.waits(fmt.Sprintf("etcd does not answer: %v", err))
	}
	if errors.Is(err, etcdmanager.ErrCompacted) {
		m.step("reload", "the watch fell behind what etcd keeps", err)
		return
	}
	m.notice(event.Warn, "the view of the cluster stands still", err)
}

// answer is a page, and what was known when it was asked for.
type answer struct {
	page etcdmanager.Page
	view *View
	at   time.Time
	err  error
}

func (m *Manager) fetch(ctx context.Context) answer {
	ctx, cancel := context.WithTimeout(ctx, rangeTimeout)
	defer cancel()
	a := answer{view: m.View(), at: time.Now()}
	a.page, a.err = m.kv.Range(ctx, string(m.keys))
	return a
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
	due := time.NewTimer(jitter(m.cfg.ReloadInterval))
	defer due.Stop()
	last, busy, again := time.Now(), false, false
	for {
		select {
		case b, ok := <-batches:
			if err := m.apply(b, ok, batches); err != nil {
				return err
			}
		case <-m.reload:
			due.Reset(max(0, reloadPause-time.Since(last)))
		case <-due.C:
			if again = busy; again {
				continue
			}
			busy, last = true, time.Now()
			due.Reset(jitter(m.cfg.ReloadInterval))
			loading.Go(func() { answers <- m.fetch(ctx) })
		case a := <-answers:
			if busy = false; again {
				due.Reset(reloadPause)
			}
			switch {
			case a.err != nil:
				due.Reset(retryPause)
			case !m.load(a):
				return errRestored
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
		if b.Reconnected {
			m.Reload() // etcd may have been restored, of which no watch tells: compare
		} else {
			next, raised := view.Apply(m.keys, b, time.Now())
			view, alarms = next, append(alarms, raised...)
		}
		select {
		case b, ok = <-more:
		default:
			return nil
		}
	}
}

var (
	errWatchEnded = errors.New("the watch ended")
	errRestored   = fmt.Errorf("etcd was restored from an older snapshot: %w", etcdmanager.ErrRegression)
)

// load makes the view what the page says. A page that contradicts the view that there
// was at the time of the question means that etcd was restored from an older snapshot:
// what was known is worth nothing, and the registration, if there is one, is lost. (The
// lease notices by itself if the revision fell; after a few writes it is as it was.)
func (m *Manager) load(a answer) (forward bool) {
	view := m.View()
	why := a.view.contradicts(m.keys, a.page)
	if why != "" {
		m.notice(event.Alarm, why+": it was restored from an older snapshot", nil)
		m.restored.Add(1)
		view = newView()
	}
	next, alarms := view.Load(m.keys, a.page, time.Now())
	m.publish(next, alarms)
	m.silence.Store(nil)
	m.fresh.Store(a.at.UnixNano())
	return why == ""
}

// Reload asks for a full load soon: something showed that the view may be behind.
func (m *Manager) Reload() {
	select {
	case m.reload <- struct{}{}:
	default:
	}
}

// refresh waits for a full load that was asked for after now.
func (m *Manager) refresh(ctx context.Context) {
	now := time.Now().UnixNano()
	for ctx.Err() == nil && m.fresh.Load() < now {
		m.Reload()
		pause(ctx, m.View(), reloadPause)
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
	m.tellActs(before, next)
	if next.partial && !before.partial {
		m.Reload() // keys that were there before the new meta count again
	}
}

// jitter is d, up to a fifth less or more, so that processes do not load in step.
func jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
}
