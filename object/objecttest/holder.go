package objecttest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/xiaonanln/goverse/object"
)

// holder is a node as the store sees it: an owner with the fence of one shard.
type holder struct {
	fp object.FencedProvider
	object.Fence
}

// hold stamps a fresh shard for a new owner.
func (k *kit) hold(ctx context.Context, name string) (*holder, error) {
	return k.take(ctx, name, k.shard())
}

// take stamps a shard for a new owner, above whatever fence it has.
func (k *kit) take(ctx context.Context, name string, shard int) (*holder, error) {
	f := object.Fence{Shard: shard, Epoch: 1, Owner: "kit:1#" + name + "-" + k.tag}
	for {
		refused, err := k.fp.Stamp(ctx, f.Owner, []object.Fence{f})
		if err != nil {
			return nil, fmt.Errorf("stamp: %w", err)
		}
		if len(refused) == 0 {
			return &holder{fp: k.fp, Fence: f}, nil
		}
		if refused[0].Epoch < f.Epoch {
			return nil, fmt.Errorf("stamp %+v was refused by the lower fence %+v", f, refused[0])
		}
		f.Epoch = refused[0].Epoch + 1
	}
}

func saveID() (id [16]byte) {
	_, _ = rand.Read(id[:]) // crypto/rand.Read never fails
	return id
}

func (h *holder) save(ref object.Ref, data []byte, base uint64) object.Save {
	return object.Save{Ref: ref, Data: data, Base: base, Shard: h.Shard, Epoch: h.Epoch, SaveID: saveID()}
}

func (h *holder) commit(ctx context.Context, saves ...object.Save) ([]object.Verdict, error) {
	vs, err := h.fp.Commit(ctx, h.Owner, saves)
	if err == nil && len(vs) != len(saves) {
		err = fmt.Errorf("%d saves got %d verdicts", len(saves), len(vs))
	}
	return vs, err
}

// want commits one save and demands a verdict.
func (h *holder) want(ctx context.Context, s object.Save, kind object.VerdictKind, version uint64) error {
	vs, err := h.commit(ctx, s)
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return wantVerdict(vs[0], kind, version)
}

// wrote commits a new state over base and demands that it becomes base+1.
func (h *holder) wrote(ctx context.Context, ref object.Ref, data []byte, base uint64) error {
	return h.want(ctx, h.save(ref, data, base), object.Committed, base+1)
}

var kindNames = map[object.VerdictKind]string{
	object.Committed: "Committed", object.FenceLost: "FenceLost", object.Conflict: "Conflict", object.Rejected: "Rejected",
}

func wantVerdict(v object.Verdict, kind object.VerdictKind, version uint64) error {
	switch {
	case v.Kind != kind:
		return fmt.Errorf("verdict is %s (version %d, error %v), want %s", kindNames[v.Kind], v.Version, v.Err, kindNames[kind])
	case kind == object.Committed && v.Version != version:
		return fmt.Errorf("committed at version %d, want %d", v.Version, version)
	case kind == object.Rejected && v.Err == nil:
		return errors.New("rejected without a reason")
	}
	return nil
}

// wantRecord demands what is stored; nil data is a deleted object.
func (k *kit) wantRecord(ctx context.Context, ref object.Ref, data []byte, version uint64) error {
	r, err := k.fp.Load(ctx, ref)
	switch {
	case err != nil:
		return fmt.Errorf("load %s: %w", ref, err)
	case r.Version != version:
		return fmt.Errorf("%s is stored at version %d, want %d", ref, r.Version, version)
	}
	return same(r.Data, data)
}

// steps runs steps until one fails.
func steps(s ...func() error) error {
	for i, step := range s {
		if err := step(); err != nil {
			return fmt.Errorf("step %d: %w", i+1, err)
		}
	}
	return nil
}
