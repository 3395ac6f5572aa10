package memkv

import (
	"context"
	"fmt"
	"strings"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
)

// watch is one Watch; its goroutine owns it, but for the last two, which the store's
// lock guards.
type watch struct {
	conn   *Conn
	prefix string
	out    chan<- etcdmanager.Batch
	next   int64 // the first revision that was not delivered
	broken bool  // the connection was lost, which was not told yet
}

// run delivers until ctx ends. It keeps no queue: the store's history is the queue.
func (w *watch) run(ctx context.Context) {
	for w.conn.waitHealthy(ctx) == nil {
		batch, changed := w.conn.store.after(w)
		switch {
		case batch.Err != nil:
			w.deliver(ctx, batch)
			return
		case len(batch.Events) > 0, batch.Reconnected:
			if !w.deliver(ctx, batch) {
				return
			}
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

func (w *watch) deliver(ctx context.Context, b etcdmanager.Batch) bool {
	select {
	case w.out <- b:
		return true
	case <-ctx.Done():
		return false
	}
}

// after finds the first batch that w has not delivered and moves w behind it. With
// none, changed says when to look again.
func (s *Store) after(w *watch) (batch etcdmanager.Batch, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enterLocked(); err != nil {
		return etcdmanager.Batch{Err: err}, nil
	}
	if w.broken {
		w.broken = false
		return etcdmanager.Batch{Reconnected: true}, nil
	}
	if w.next < s.compacted {
		err := fmt.Errorf("memkv: watch %q from revision %d: %w", w.prefix, w.next, etcdmanager.ErrCompacted)
		return etcdmanager.Batch{Err: err}, nil
	}
	if batch, found := s.advanceLocked(w); found {
		w.next++
		return batch, nil
	}
	return etcdmanager.Batch{}, s.changed
}

// advanceLocked moves w to the first revision that changed something below its
// prefix, or behind the last revision.
func (s *Store) advanceLocked(w *watch) (etcdmanager.Batch, bool) {
	for _, b := range s.history[s.positionLocked(w.next):] {
		w.next = b.Revision
		if below := only(b, w.prefix); len(below.Events) > 0 {
			return below, true
		}
		w.next++
	}
	return etcdmanager.Batch{}, false
}

// enlist makes the store know w, until the returned function is called.
func (s *Store) enlist(w *watch) (leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watches[w] = true
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watches, w)
	}
}

func only(b etcdmanager.Batch, prefix string) etcdmanager.Batch {
	out := etcdmanager.Batch{Revision: b.Revision}
	for _, e := range b.Events {
		if strings.HasPrefix(e.Item.Key, prefix) {
			e.Item = copied(e.Item)
			out.Events = append(out.Events, e)
		}
	}
	return out
}
