package memkv

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
)

// revokeInterval is how often etcd looks for leases that have expired: the keys of
// one stand for up to this long after its TTL.
const revokeInterval = 500 * time.Millisecond

// lease is guarded by the store's lock.
type lease struct {
	id     etcdmanager.LeaseID
	ttl    time.Duration
	expiry time.Time
	keys   map[string]bool
}

func leaseNotFound(id etcdmanager.LeaseID) error {
	return fmt.Errorf("lease %x: %w", int64(id), etcdmanager.ErrLeaseNotFound)
}

func (s *Store) grant(ttl time.Duration) (etcdmanager.LeaseID, time.Duration, error) {
	if ttl <= 0 {
		return 0, 0, fmt.Errorf("grant a lease of %v: want more than nothing", ttl)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enterLocked(); err != nil {
		return 0, 0, err
	}
	if s.full {
		return 0, 0, fmt.Errorf("memkv: grant a lease: %w", etcdmanager.ErrNoSpace)
	}
	s.lastLease++ // never used twice, not even after a restore
	ttl = max(MinTTL, (ttl + time.Second - 1).Truncate(time.Second))
	s.leases[s.lastLease] = &lease{id: s.lastLease, ttl: ttl, expiry: time.Now().Add(ttl), keys: map[string]bool{}}
	s.armLocked()
	return s.lastLease, ttl, nil
}

func (s *Store) keepAlive(id etcdmanager.LeaseID) (time.Duration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enterLocked(); err != nil {
		return 0, err
	}
	l := s.leases[id]
	now := time.Now()
	// An expired lease cannot be saved, although its keys may still stand.
	if l == nil || !now.Before(l.expiry) {
		return 0, leaseNotFound(id)
	}
	l.expiry = now.Add(l.ttl)
	s.armLocked()
	return l.ttl, nil
}

func (s *Store) revoke(id etcdmanager.LeaseID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enterLocked(); err != nil {
		return err
	}
	if l := s.leases[id]; l != nil {
		s.endLocked(l)
		s.armLocked()
	}
	return nil
}

// endLocked deletes the lease and all its keys at one revision.
func (s *Store) endLocked(l *lease) {
	w := s.writeLocked()
	for _, key := range slices.Sorted(maps.Keys(l.keys)) {
		w.delete(key)
	}
	w.close()
	delete(s.leases, l.id)
}

func (s *Store) detachLocked(item etcdmanager.Item) {
	if l := s.leases[item.Lease]; l != nil {
		delete(l.keys, item.Key)
	}
}

// revocationOf is the first look at or after the lease's expiry.
func (s *Store) revocationOf(l *lease) time.Time {
	age := l.expiry.Sub(s.born)
	return s.born.Add((age + revokeInterval - 1) / revokeInterval * revokeInterval)
}

// expireLocked ends, in order, every lease whose revocation is due.
func (s *Store) expireLocked(now time.Time) {
	var due []*lease
	for _, l := range s.leases {
		if !now.Before(s.revocationOf(l)) {
			due = append(due, l)
		}
	}
	slices.SortFunc(due, func(a, b *lease) int {
		return cmp.Or(a.expiry.Compare(b.expiry), cmp.Compare(a.id, b.id))
	})
	for _, l := range due {
		s.endLocked(l)
	}
}

// armLocked sets the timer to the next revocation, for watches that wait for it.
func (s *Store) armLocked() {
	s.timer.Stop()
	if s.closed || len(s.leases) == 0 {
		return
	}
	var next time.Time
	for _, l := range s.leases {
		if at := s.revocationOf(l); next.IsZero() || at.Before(next) {
			next = at
		}
	}
	s.timer.Reset(time.Until(next))
}

// tick is the timer's.
func (s *Store) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.expireLocked(time.Now())
	s.armLocked()
}
