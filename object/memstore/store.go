// Package memstore keeps records in memory, with the same fences, versions and
// verdicts as a database: the store of simulated clusters and of tests. It starts
// no goroutine and is deterministic but for the clock, which it reads from time.Now.
// Nothing survives the process.
package memstore

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"slices"
	"sync"
	"time"

	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/admit"
)

// Store is in memory what a database is to Goverse, object.ExactlyOnceProvider and
// all. It has no SQL of its own: see Then for what a hook can do instead. All methods may be called
// concurrently. Stores do not share anything: a simulated cluster has one.
type Store struct {
	id string

	mu      sync.Mutex // protects all below; never held while a Fault waits
	fences  map[int]object.Fence
	records map[object.Ref]record
	calls   map[object.Ref][]call // in the order in which they were kept
	effects map[int]map[object.EffectKey]object.Effect
	ids     map[string]bool // of effects that were not ended
	cluster string
	plan    func(Op) Fault
	held    []heldOp

	restores int // how often it was put back
	adopted  int // the last of them that was adopted
}

var (
	_ object.ExactlyOnceProvider = (*Store)(nil)
	_ object.TxProvider          = (*Store)(nil)
	_ object.Lister              = (*Store)(nil)
	_ object.FenceKeeper         = (*Store)(nil)
	_ object.ClusterBinder       = (*Store)(nil)
	_ object.HistoryKeeper       = (*Store)(nil)
)

type record struct {
	object.Record
	shard   int
	saveID  [16]byte
	updated time.Time
	deleted time.Time // zero: it lives
}

// heldOp is a commit that lands later.
type heldOp struct {
	Op
	then []func()
}

// New returns an empty store with an identity of its own.
func New() *Store { return NewWithID(rand.Text()) }

// NewWithID returns an empty store with a given identity, for runs that must be the
// same each time.
func NewWithID(id string) *Store {
	return &Store{
		id: id, fences: map[int]object.Fence{}, records: map[object.Ref]record{},
		calls: map[object.Ref][]call{}, effects: map[int]map[object.EffectKey]object.Effect{}, ids: map[string]bool{},
	}
}

// StoreID returns the store's identity.
func (s *Store) StoreID(ctx context.Context) (string, error) { return s.id, ctx.Err() }

// Lanes is 1: commits take turns.
func (s *Store) Lanes() int { return 1 }

// Stamp writes the fences of shards for owner and returns those that it refused.
func (s *Store) Stamp(ctx context.Context, owner string, fences []object.Fence) ([]object.Fence, error) {
	f, err := s.begin(ctx, Op{Kind: Stamp, Owner: owner, Fences: fences})
	if err != nil {
		return nil, err
	}
	if err := admit.Stamp(owner, fences); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.Err != nil && !f.Applied {
		return nil, f.Err
	}
	var refused []object.Fence
	for _, want := range fences {
		want.Owner = owner
		has := s.fences[want.Shard]
		if has.Epoch > want.Epoch || has.Epoch == want.Epoch && has.Owner != owner {
			refused = append(refused, has)
			continue
		}
		s.fences[want.Shard] = want
	}
	if f.Err != nil {
		return nil, f.Err
	}
	return refused, nil
}

// Load returns an object's record.
func (s *Store) Load(ctx context.Context, ref object.Ref) (object.Record, error) {
	f, err := s.begin(ctx, Op{Kind: Load, Ref: ref})
	if err != nil {
		return object.Record{}, err
	}
	if f.Err != nil {
		return object.Record{}, f.Err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.records[ref].Record
	r.Data = bytes.Clone(r.Data)
	return r, nil
}

// Fence returns the fence of a shard; its Epoch is 0 if it was never stamped.
func (s *Store) Fence(shard int) object.Fence {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fences[shard]
}

// Refs names every object that has a record, deleted ones included, in order.
func (s *Store) Refs() []object.Ref {
	s.mu.Lock()
	defer s.mu.Unlock()
	refs := make([]object.Ref, 0, len(s.records))
	for r := range s.records {
		refs = append(refs, r)
	}
	slices.SortFunc(refs, func(a, b object.Ref) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.ID, b.ID))
	})
	return refs
}

// SaveObject stores data whoever holds the object's shard: it is for tools. A holder
// that has the object live gets a Conflict at its next save.
func (s *Store) SaveObject(ctx context.Context, objType, objID string, data []byte) error {
	ref := object.Ref{Type: objType, ID: objID}
	f, err := s.begin(ctx, Op{Kind: SaveObject, Ref: ref})
	if err != nil {
		return err
	}
	if err := cmp.Or(admit.Ref(ref), admit.Data(ref, data)); err != nil {
		return err
	}
	return s.unfenced(f, ref, data)
}

// LoadObject returns an object's state, or object.ErrNotStored.
func (s *Store) LoadObject(ctx context.Context, objType, objID string) ([]byte, error) {
	r, err := s.Load(ctx, object.Ref{Type: objType, ID: objID})
	if err == nil && r.Data == nil {
		err = object.ErrNotStored
	}
	return r.Data, err
}

// DeleteObject removes an object's state whoever holds its shard; see SaveObject.
func (s *Store) DeleteObject(ctx context.Context, objType, objID string) error {
	ref := object.Ref{Type: objType, ID: objID}
	f, err := s.begin(ctx, Op{Kind: DeleteObject, Ref: ref})
	if err != nil {
		return err
	}
	return s.unfenced(f, ref, nil)
}

func (s *Store) unfenced(f Fault, ref object.Ref, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.Err != nil && !f.Applied {
		return f.Err
	}
	has := s.records[ref]
	if data != nil || has.Data != nil {
		var id [16]byte
		_, _ = rand.Read(id[:]) // crypto/rand.Read never fails
		s.writeLocked(object.Save{Ref: ref, Data: data, Shard: has.shard, SaveID: id})
	}
	return f.Err
}

// writeLocked makes the next version of a record.
func (s *Store) writeLocked(save object.Save) uint64 {
	now := time.Now().UTC()
	r := s.records[save.Ref]
	if r.Data == nil && save.Data != nil {
		r.Created = now
	}
	r.deleted = time.Time{}
	if save.Data == nil {
		r.deleted = now
	}
	r.Data = bytes.Clone(save.Data)
	r.Version++
	r.updated = now
	r.shard, r.saveID = save.Shard, save.SaveID
	s.records[save.Ref] = r
	return r.Version
}
