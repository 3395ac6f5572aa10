package consensusmanager

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
)

// lapses counts how often the trust in a lease has run out and come back. Between the
// two others may have held what this process holds, and an etcd that was put back to
// an older snapshot meanwhile says nothing of it: the lease lives, the records are as
// they were, and the revision is not below what this process has seen.
type lapses struct {
	n atomic.Uint64

	mu    sync.Mutex // protects following fields and the writes of n
	lease *etcdmanager.Lease
	since time.Time     // when the trust that there is now began; zero before there was one
	next  chan struct{} // closed, and replaced, when n changes
}

func newLapses() *lapses { return &lapses{next: make(chan struct{})} }

// under is kvs, for the renewals of a lease that l counts the lapses of.
func (l *lapses) under(kvs []etcdmanager.KV) []etcdmanager.KV {
	list := make([]etcdmanager.KV, len(kvs))
	for i, kv := range kvs {
		list[i] = renewing{kv, l}
	}
	return list
}

// renewing is a way to etcd on which a lease is renewed.
type renewing struct {
	etcdmanager.KV
	l *lapses
}

// Commit asks whether the standing holds: what a renewal ends with. That the lease is
// trusted anew follows it, so nobody finds it trusted again and not counted.
func (r renewing) Commit(ctx context.Context, txn etcdmanager.Txn) (etcdmanager.Result, error) {
	result, err := r.KV.Commit(ctx, txn)
	if err == nil && result.Held {
		r.l.renewed()
	}
	return result, err
}

func (l *lapses) renewed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.lease == nil || l.lease.Trusted():
	case l.since.IsZero():
		l.since = time.Now()
	default:
		l.n.Add(1)
		l.since = time.Now()
		close(l.next)
		l.next = make(chan struct{})
	}
}

// of makes l the count of a lease, before its first renewal.
func (l *lapses) of(lease *etcdmanager.Lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lease = lease
}

// Lapses is how often the trust in this registration has run out and come back; next is
// closed when it has once more. Whoever was trusted before a lapse knows nothing of
// what others did in it.
func (r *Registration) Lapses() (n uint64, next <-chan struct{}) {
	r.lapses.mu.Lock()
	defer r.lapses.mu.Unlock()
	return r.lapses.n.Load(), r.lapses.next
}

// TrustedAt is Trusted by somebody who has found everything in order after so many
// lapses, and no later one. It takes no lock.
func (r *Registration) TrustedAt(lapses uint64) bool {
	return r.lease.Trusted() && r.lapses.n.Load() == lapses // in this order: a lapse is counted before the trust is back
}

// Alone is when everybody will be silent who holds something by a history of etcd that
// this process has not seen: one that a restore has undone, before this process was
// trusted. It is one lease time after that.
func (r *Registration) Alone() time.Time {
	r.lapses.mu.Lock()
	defer r.lapses.mu.Unlock()
	return r.lapses.since.Add(r.lease.TTL())
}
