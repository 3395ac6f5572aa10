package goversetest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/memkv"
)

// straggler is a member's connection to etcd on which single writes can fall behind:
// whoever sent one gets no answer, goes on, and finds later that it took effect after
// all.
type straggler struct {
	*memkv.Conn

	mu     sync.Mutex // protects following fields
	next   int        // so many writes are still to fall behind,
	behind time.Duration
	closed bool
	timers map[*time.Timer]bool
	under  sync.WaitGroup // writes that arrive
}

var errUnanswered = errors.New("goversetest: no answer")

// straggle makes the next n writes arrive d after they were sent.
func (s *straggler) straggle(n int, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next, s.behind = n, d
}

// Commit implements etcdmanager.KV.
func (s *straggler) Commit(ctx context.Context, txn etcdmanager.Txn) (etcdmanager.Result, error) {
	if !writes(txn) || !s.postpone(txn) {
		return s.Conn.Commit(ctx, txn)
	}
	ctx, cancel := context.WithTimeout(ctx, etcdmanager.DefaultRequestTimeout)
	defer cancel()
	<-ctx.Done()
	return etcdmanager.Result{}, errors.Join(errUnanswered, ctx.Err())
}

func writes(txn etcdmanager.Txn) bool {
	for _, op := range txn.Then {
		if op.Kind == etcdmanager.OpPut {
			return true
		}
	}
	return false
}

// postpone sends txn on its long way, if one is to be sent there.
func (s *straggler) postpone(txn etcdmanager.Txn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next == 0 || s.closed {
		return false
	}
	s.next--
	var timer *time.Timer
	timer = time.AfterFunc(s.behind, func() {
		s.mu.Lock()
		delete(s.timers, timer)
		closed := s.closed
		if !closed {
			s.under.Add(1)
		}
		s.mu.Unlock()
		if !closed {
			defer s.under.Done()
			_, _ = s.Conn.Commit(context.Background(), txn)
		}
	})
	if s.timers == nil {
		s.timers = map[*time.Timer]bool{}
	}
	s.timers[timer] = true
	return true
}

// Close implements etcdmanager.KV. What has not arrived yet is lost.
func (s *straggler) Close() error {
	s.mu.Lock()
	s.closed = true
	for timer := range s.timers {
		timer.Stop()
	}
	s.mu.Unlock()
	err := s.Conn.Close()
	s.under.Wait()
	return err
}
