// Package memkv keeps etcdmanager's contract in memory, with etcd's semantics:
// revisions, leases that expire with time, guarded transactions, watches with a
// past and compaction. Time is package time's, so a test inside a synctest bubble
// owns it. It starts no goroutine of its own but one for each watch.
//
// A Store is the server; each Connect is one process's way to it, which a test can
// cut, delay or make lose its answers.
package memkv

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
)

// MinTTL is the least that a store grants, as etcd has one.
const MinTTL = time.Second

// Store is the server. All methods may be called concurrently. A store that is
// used inside a bubble must be made inside it.
type Store struct {
	born time.Time

	mu        sync.Mutex // protects following fields
	closed    bool
	revision  int64
	compacted int64
	full      bool
	keys      []string // sorted
	items     map[string]etcdmanager.Item
	history   []etcdmanager.Batch // every change since the compaction, in order
	leases    map[etcdmanager.LeaseID]*lease
	lastLease etcdmanager.LeaseID
	watches   map[*watch]bool
	changed   chan struct{} // closed, and replaced, when watches should look again
	timer     *time.Timer   // the next revocation
}

// NewStore is an empty store, at revision 1 as etcd's.
func NewStore() *Store {
	s := &Store{
		born: time.Now(), revision: 1, changed: make(chan struct{}),
		items: map[string]etcdmanager.Item{}, leases: map[etcdmanager.LeaseID]*lease{}, watches: map[*watch]bool{},
	}
	s.timer = time.AfterFunc(time.Hour, s.tick)
	s.timer.Stop()
	return s
}

// Close ends the store: every request fails, every watch ends.
func (s *Store) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.timer.Stop()
	s.wakeLocked()
}

// wakeLocked makes every watch look again.
func (s *Store) wakeLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// enterLocked brings the store up to now; every request begins with it, so that
// what a request sees depends on the time alone and not on when a timer ran.
func (s *Store) enterLocked() error {
	if s.closed {
		return fmt.Errorf("memkv: store: %w", etcdmanager.ErrClosed)
	}
	s.expireLocked(time.Now())
	return nil
}

// Revision is the store's revision now.
func (s *Store) Revision() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enterLocked(); err != nil {
		return 0
	}
	return s.revision
}

func (s *Store) page(prefix string) (etcdmanager.Page, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enterLocked(); err != nil {
		return etcdmanager.Page{}, err
	}
	page := etcdmanager.Page{Revision: s.revision}
	from, _ := slices.BinarySearch(s.keys, prefix)
	for _, key := range s.keys[from:] {
		if !strings.HasPrefix(key, prefix) {
			break
		}
		page.Items = append(page.Items, copied(s.items[key]))
	}
	return page, nil
}

// copied keeps the store's bytes out of the caller's hands.
func copied(i etcdmanager.Item) etcdmanager.Item {
	i.Value = bytes.Clone(i.Value)
	return i
}

// commit is one transaction, which is valid already.
func (s *Store) commit(txn etcdmanager.Txn) (etcdmanager.Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enterLocked(); err != nil {
		return etcdmanager.Result{}, err
	}
	result := etcdmanager.Result{Held: !slices.ContainsFunc(txn.If, s.failsLocked)}
	branch := txn.Then
	if !result.Held {
		branch = txn.Else
	}
	if err := s.leasesLiveLocked(branch); err != nil {
		return etcdmanager.Result{}, err
	}
	if s.full && (puts(txn.Then) || puts(txn.Else)) { // etcd asks before it looks at the guards
		return etcdmanager.Result{}, fmt.Errorf("memkv: commit: %w", etcdmanager.ErrNoSpace)
	}
	w := s.writeLocked()
	for _, op := range branch {
		switch op.Kind {
		case etcdmanager.OpPut:
			w.put(op)
		case etcdmanager.OpDelete:
			w.delete(op.Key)
		case etcdmanager.OpGet:
			item, exists := s.items[op.Key]
			result.Gets = append(result.Gets, etcdmanager.Got{Item: copied(item), Exists: exists})
		}
	}
	w.close()
	result.Revision = s.revision
	return result, nil
}

func puts(branch []etcdmanager.Op) bool {
	return slices.ContainsFunc(branch, func(op etcdmanager.Op) bool { return op.Kind == etcdmanager.OpPut })
}

// SetFull raises or disarms etcd's NOSPACE alarm: while it is raised nothing is put and
// no lease granted; reads, deletions and renewals go on.
func (s *Store) SetFull(full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.full = full
}

func (s *Store) failsLocked(g etcdmanager.Guard) bool {
	item, exists := s.items[g.Key]
	switch g.Kind {
	case etcdmanager.GuardValueIs:
		return !exists || !bytes.Equal(item.Value, g.Value)
	case etcdmanager.GuardAlive:
		return !exists
	case etcdmanager.GuardCreatedAt:
		return !exists || item.CreateRevision != g.Revision
	case etcdmanager.GuardRangeEmpty:
		from, _ := slices.BinarySearch(s.keys, g.Key)
		return from < len(s.keys) && (g.End == "\x00" || s.keys[from] < g.End)
	default: // GuardAbsent
		return exists
	}
}

func (s *Store) leasesLiveLocked(branch []etcdmanager.Op) error {
	for _, op := range branch {
		if op.Kind == etcdmanager.OpPut && op.Lease != 0 && s.leases[op.Lease] == nil {
			return fmt.Errorf("memkv: commit: %w: %w", etcdmanager.ErrNotApplied, leaseNotFound(op.Lease))
		}
	}
	return nil
}

// write collects what changes at one revision, which it opens with the first
// change. The store's lock is held from writeLocked to close.
type write struct {
	store *Store
	batch etcdmanager.Batch
}

func (s *Store) writeLocked() *write {
	return &write{store: s, batch: etcdmanager.Batch{Revision: s.revision + 1}}
}

func (w *write) put(op etcdmanager.Op) {
	s := w.store
	item, exists := s.items[op.Key]
	if !exists {
		at, _ := slices.BinarySearch(s.keys, op.Key)
		s.keys = slices.Insert(s.keys, at, op.Key)
		item.Key, item.CreateRevision = op.Key, w.batch.Revision
	}
	s.detachLocked(item)
	item.Value, item.Lease, item.ModRevision = bytes.Clone(op.Value), op.Lease, w.batch.Revision
	if op.Lease != 0 {
		s.leases[op.Lease].keys[op.Key] = true
	}
	s.items[op.Key] = item
	w.batch.Events = append(w.batch.Events, etcdmanager.Event{Item: item})
}

func (w *write) delete(key string) {
	s := w.store
	item, exists := s.items[key]
	if !exists {
		return
	}
	s.detachLocked(item)
	at, _ := slices.BinarySearch(s.keys, key)
	s.keys = slices.Delete(s.keys, at, at+1)
	delete(s.items, key)
	w.batch.Events = append(w.batch.Events, etcdmanager.Event{
		Item: etcdmanager.Item{Key: key, ModRevision: w.batch.Revision}, Deleted: true,
	})
}

func (w *write) close() {
	if len(w.batch.Events) == 0 {
		return
	}
	w.store.revision = w.batch.Revision
	w.store.history = append(w.store.history, w.batch)
	w.store.wakeLocked()
}

// Compact forgets the history before revision. Of the watches it cuts off those only
// that have something in it still to deliver.
func (s *Store) Compact(revision int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enterLocked(); err != nil {
		return err
	}
	if revision > s.revision {
		return errors.New("memkv: compact: a revision that has not been")
	}
	for w := range s.watches {
		s.advanceLocked(w)
	}
	s.compacted = max(s.compacted, revision)
	s.history = slices.Clone(s.history[s.positionLocked(revision):])
	s.wakeLocked()
	return nil
}

// positionLocked is the index of the first batch at or after revision.
func (s *Store) positionLocked(revision int64) int {
	at, _ := slices.BinarySearchFunc(s.history, revision, func(b etcdmanager.Batch, r int64) int {
		return int(b.Revision - r)
	})
	return at
}

// Snapshot is a picture of a store to go back to.
type Snapshot struct {
	revision int64
	items    map[string]etcdmanager.Item
	leases   map[etcdmanager.LeaseID]time.Duration // with their TTL
}

// Snapshot takes a picture, as an operator's backup does.
func (s *Store) Snapshot() Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expireLocked(time.Now())
	snap := Snapshot{revision: s.revision, items: maps.Clone(s.items), leases: map[etcdmanager.LeaseID]time.Duration{}}
	for id, l := range s.leases {
		snap.leases[id] = l.ttl
	}
	return snap
}

// Restore goes back to a snapshot, as silently as a restored etcd: leases live with
// their full TTL, and watches wait for revisions that they have seen already. All that
// they tell is that their connection was lost: to be restored etcd has to stop. The
// zero Snapshot wipes the store.
func (s *Store) Restore(snap Snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revision = max(snap.revision, 1)
	s.items = map[string]etcdmanager.Item{}
	maps.Copy(s.items, snap.items)
	s.keys = slices.Sorted(maps.Keys(s.items))
	s.history = slices.Clone(s.history[:s.positionLocked(s.revision+1)])
	s.compacted = min(s.compacted, s.revision)
	s.leases = map[etcdmanager.LeaseID]*lease{}
	for id, ttl := range snap.leases {
		s.leases[id] = &lease{id: id, ttl: ttl, expiry: time.Now().Add(ttl), keys: map[string]bool{}}
	}
	for key, item := range s.items {
		if item.Lease != 0 {
			s.leases[item.Lease].keys[key] = true
		}
	}
	for w := range s.watches {
		w.broken = true
	}
	s.armLocked()
	s.wakeLocked()
}

// Restart gives every lease its full TTL again, as a restarted etcd does.
func (s *Store) Restart() { s.Restore(s.Snapshot()) }
