package consensusmanager

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/sharding"
)

// commitTimeout bounds one transaction; after it the outcome is unknown.
const commitTimeout = 3 * time.Second

func (m *Manager) commit(ctx context.Context, txn etcdmanager.Txn) (etcdmanager.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	result, err := m.kv.Commit(ctx, txn)
	switch {
	case err == nil && result.Held && puts(txn):
		m.full.Store(0)
	case errors.Is(err, etcdmanager.ErrNoSpace):
		m.full.Store(time.Now().UnixNano())
		return m.decided(ctx, txn, err)
	}
	return result, err
}

// fullFor is for how long etcd counts as full after it last said so, if nothing is
// written that would tell.
const fullFor = 30 * time.Second

func (m *Manager) noSpace() bool {
	said := m.full.Load()
	return said != 0 && time.Now().UnixNano()-said < int64(fullFor)
}

func puts(txn etcdmanager.Txn) bool {
	return slices.ContainsFunc(txn.Then, func(op etcdmanager.Op) bool { return op.Kind == etcdmanager.OpPut })
}

// decided finds out what became of a transaction that a full etcd answered: it is
// applied already, or never will be. As every value is written once only, one key of
// it tells.
func (m *Manager) decided(ctx context.Context, txn etcdmanager.Txn, full error) (etcdmanager.Result, error) {
	for _, op := range txn.Then {
		if op.Kind != etcdmanager.OpPut {
			continue
		}
		there, err := m.kv.Commit(ctx, etcdmanager.Txn{Then: []etcdmanager.Op{etcdmanager.Get(op.Key)}})
		switch {
		case err != nil:
			return etcdmanager.Result{}, full
		case there.Gets[0].Exists && bytes.Equal(there.Gets[0].Item.Value, op.Value):
			return etcdmanager.Result{Held: true, Revision: there.Revision}, nil
		}
		break
	}
	return etcdmanager.Result{}, fmt.Errorf("%w: %w", etcdmanager.ErrNotApplied, full)
}

func (r *Registration) commit(ctx context.Context, txn etcdmanager.Txn) (etcdmanager.Result, error) {
	result, err := r.m.commit(ctx, txn)
	if err == nil {
		r.lease.Saw(result.Revision)
	}
	return result, err
}

// Outcome is what became of a write to shards. Where it was refused the view that it
// was made from is behind, or the registration gone.
type Outcome struct {
	Written  bool
	Revision int64 // of the write: a view that has it shows it
}

// Claim takes up shards of one of ClaimBatches (T-CLAIM): their target is this node,
// and they are free or their holders dead. An error leaves the outcome unknown, which
// does no harm: if the claim lands late, a later view shows this node as the holder.
func (r *Registration) Claim(ctx context.Context, shards []*sharding.Shard) (Outcome, error) {
	return r.put(ctx, r.w.claim(shards))
}

// Bump raises the epochs of shards that this node holds above floors, which its store
// knows (T-BUMP). At most MaxBatch shards.
func (r *Registration) Bump(ctx context.Context, shards []*sharding.Shard, floors map[sharding.ID]uint64) (Outcome, error) {
	return r.put(ctx, r.w.bump(shards, floors))
}

// Release gives up shards that this node holds and has closed (T-RELEASE). At most
// MaxBatch shards.
func (r *Registration) Release(ctx context.Context, shards []*sharding.Shard) (Outcome, error) {
	return r.put(ctx, r.w.release(shards))
}

// Drain tells the others that this node is leaving: it gets no more shards.
func (r *Registration) Drain(ctx context.Context) (Outcome, error) {
	value := r.value
	if m, ok := r.m.View().Member(r.Address); ok && m.Registration == r.Registration {
		value = m.raw
	}
	value = rewrite(value, struct {
		State string `json:"state"`
	}{StateDraining})
	return r.put(ctx, r.w.drain(value, r.lease.ID()))
}

func (r *Registration) put(ctx context.Context, txn etcdmanager.Txn) (Outcome, error) {
	result, err := r.commit(ctx, txn)
	if err == nil && !result.Held {
		r.m.Reload()
	}
	return Outcome{Written: result.Held, Revision: result.Revision}, err
}
