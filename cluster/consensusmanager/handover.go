package consensusmanager

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/sharding"
)

// Handover is one shard that its holder passes to the node that should hold it.
type Handover struct {
	Shard *sharding.Shard // by this record the writer holds it; its target is To.Address
	To    Self            // who gets it
	ID    string          // fresh and random: the receiver's stage has the same
}

// HandOver passes one of HandBatches on (T-HAND): all of its shards, or none. From
// the moment of the call nothing may execute in them. They are still this node's if
// the outcome is that nothing was written, or the error is etcdmanager.ErrNotApplied;
// any other error leaves the outcome unknown, and only Resolve may tell.
func (r *Registration) HandOver(ctx context.Context, batch []Handover) (Outcome, error) {
	for _, h := range batch {
		if h.Shard.Damaged || !h.Shard.HeldBy(r.Address, r.Registration) || h.Shard.Target != h.To.Address || h.To.Registration == r.Registration {
			return Outcome{}, fmt.Errorf("hand over to %s#%s as %s: %w: %v", h.To.Address, h.To.Registration, r.Owner(), etcdmanager.ErrNotApplied, h.Shard)
		}
	}
	records, err := r.m.View().receiving(batch)
	if err != nil {
		return Outcome{}, err
	}
	return r.put(ctx, r.w.hand(batch, records))
}

// receiving is the records of the nodes that a batch goes to, each of which takes shards.
func (v *View) receiving(batch []Handover) (map[Self][]byte, error) {
	records := map[Self][]byte{}
	for _, to := range receivers(batch) {
		m, ok := v.Member(to.Address)
		if !ok || m.Registration != to.Registration || m.State != StateReady {
			return nil, fmt.Errorf("hand over to %s#%s, which is not there or leaves: %w", to.Address, to.Registration, etcdmanager.ErrNotApplied)
		}
		records[to] = m.raw
	}
	return records, nil
}

// Resolution is what became of a hand-over whose outcome was unknown.
type Resolution struct {
	// Still: this node holds every shard of the batch, and the hand-over can never
	// take effect any more. Otherwise this node holds none of them.
	Still bool
	// Record is what stands in etcd for the shard that told, at Revision: for which of
	// the batch it is, says its ID. It is Damaged where the key is gone or unreadable.
	Record   *sharding.Shard
	Revision int64
}

var resolveBackoff = etcdmanager.Backoff{First: 20 * time.Millisecond, Max: time.Second}

// Resolve finds out what became of a HandOver of these shards, which is the records
// that it was made with, and sees to it that it stays so (T-RESOLVE). It asks until
// it knows; an error says that ctx ended or the registration was lost before.
//
// A read is no answer: the transaction may be applied after it. So one record is
// written anew, which makes the hand-over's compare of it fail for ever; and as a
// hand-over is applied all or not at all, that one decides for all.
func (r *Registration) Resolve(ctx context.Context, batch []*sharding.Shard) (Resolution, error) {
	ctx, stop := r.bound(ctx)
	defer stop()
	var last Resolution
	for _, s := range batch {
		told, conclusive, err := r.resolve(ctx, s)
		if err != nil || conclusive {
			return told, err
		}
		last = told // its record was damaged or deleted, which says nothing of the others
	}
	return last, nil
}

// resolve asks one record. It is not conclusive for others where the record came to
// be what it is by no transaction of a hand-over.
func (r *Registration) resolve(ctx context.Context, s *sharding.Shard) (told Resolution, conclusive bool, err error) {
	epoch := s.Epoch
	for attempt := 0; ; attempt++ {
		fresh := s.Encode(nonce())
		result, err := r.commit(ctx, r.w.poison(s, fresh))
		if err != nil {
			r.m.step("resolve", fmt.Sprintf("shard %d", s.ID), err)
			if !resolveBackoff.Wait(ctx, attempt) {
				return Resolution{}, false, fmt.Errorf("resolve the hand-over of shard %d: %w: %w", s.ID, context.Cause(ctx), err)
			}
			continue
		}
		if result.Held {
			return Resolution{Still: true, Record: decoded(s, fresh), Revision: result.Revision}, true, nil
		}
		r.m.Reload()
		there := found(s, result.Gets[0])
		told = Resolution{Record: there, Revision: result.Revision}
		switch {
		case there.Damaged:
			return told, false, nil
		case bytes.Equal(there.Raw(), s.Raw()): // then it was not the record: this registration or this life of the cluster is over
			return told, true, nil
		case there.Epoch != epoch || !there.HeldBy(r.Address, r.Registration):
			return told, there.Epoch > epoch, nil
		}
		s = there // the leader gave it another target, or an earlier attempt of this landed
	}
}

// found is the record of s as etcd has it.
func found(s *sharding.Shard, got etcdmanager.Got) *sharding.Shard {
	if !got.Exists {
		return s.Lost(nil)
	}
	return decoded(s, got.Item.Value)
}

func decoded(s *sharding.Shard, raw []byte) *sharding.Shard {
	var d sharding.Decoder
	next, err := d.Decode(s.ID, raw)
	if err != nil {
		return s.Lost(raw)
	}
	return next
}
