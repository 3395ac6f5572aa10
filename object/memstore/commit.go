package memstore

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/admit"
)

// Commit applies the saves that their fence and version admit. A save that has
// already landed is Committed again, at its version; to delete what does not exist
// is Committed at Base and writes nothing.
func (s *Store) Commit(ctx context.Context, owner string, saves []object.Save) ([]object.Verdict, error) {
	op := Op{Kind: Commit, Owner: owner, Saves: saves}
	f, err := s.begin(ctx, op)
	if err != nil {
		return nil, err
	}
	return s.commit(f, op, nil)
}

// commit commits as the fault has it. then runs if the one save counts.
func (s *Store) commit(f Fault, op Op, then []func()) ([]object.Verdict, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case f.Err != nil && f.Held:
		s.held = append(s.held, heldOp{op.clone(), then})
		return nil, f.Err
	case f.Err != nil && !f.Applied:
		return nil, f.Err
	}
	verdicts := s.commitLocked(op, then)
	if f.Err != nil {
		return nil, f.Err
	}
	return verdicts, nil
}

func (s *Store) commitLocked(op Op, then []func()) []object.Verdict {
	verdicts := make([]object.Verdict, len(op.Saves))
	for i := range op.Saves {
		save := &op.Saves[i]
		v, writes := s.judgeLocked(op.Owner, save)
		if writes {
			v.Version = s.writeLocked(*save)
			s.keepLocked(save, v.Version)
			for _, f := range then {
				f()
			}
		}
		verdicts[i] = v
	}
	return verdicts
}

// judgeLocked is protocol.md's SAVE for one object: its verdict, and whether there is
// something to write.
func (s *Store) judgeLocked(owner string, save *object.Save) (v object.Verdict, writes bool) {
	if err := admit.Save(save); err != nil {
		return object.Verdict{Kind: object.Rejected, Err: err}, false
	}
	fence := s.fences[save.Shard]
	if fence.Epoch == 0 || fence.Epoch != save.Epoch || fence.Owner != owner {
		return object.Verdict{Kind: object.FenceLost}, false
	}
	has := s.records[save.Ref]
	switch {
	case has.Version == save.Base+1 && has.saveID == save.SaveID:
		return object.Verdict{Kind: object.Committed, Version: has.Version}, false
	case has.Version != save.Base:
		return object.Verdict{Kind: object.Conflict}, false
	case save.Data == nil && has.Data == nil:
		return nothingToDelete(save), false
	}
	if err := s.refusesLocked(save); err != nil {
		return object.Verdict{Kind: object.Rejected, Err: err}, false
	}
	return object.Verdict{Kind: object.Committed, Version: has.Version + 1}, true
}

// nothingToDelete is the verdict on the deletion of what does not exist.
func nothingToDelete(save *object.Save) object.Verdict {
	if len(save.Calls)+len(save.Effects) == 0 {
		return object.Verdict{Kind: object.Committed, Version: save.Base}
	}
	return object.Verdict{Kind: object.Rejected, Err: fault.New(fault.Invalid, "%s does not exist: its deletion has no version to keep records at", save.Ref)}
}

// CollectTombstones forgets the deleted objects of a shard whose deletion is older
// than olderThan, except the live ones, and returns how many. It does nothing
// unless fence is the shard's. An object with effects that were not ended stays: a new
// one of that name would begin its versions, and so the keys of its effects, again.
func (s *Store) CollectTombstones(ctx context.Context, fence object.Fence, olderThan time.Duration, live []object.Ref) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("tombstones were not collected: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if fence.Epoch == 0 || s.fences[fence.Shard] != fence {
		return 0, nil
	}
	before, had := time.Now().Add(-olderThan), len(s.records)
	owes := map[object.Ref]bool{}
	for key := range s.effects[fence.Shard] {
		owes[key.Source] = true
	}
	maps.DeleteFunc(s.records, func(ref object.Ref, r record) bool {
		return r.shard == fence.Shard && r.Data == nil && r.deleted.Before(before) && !owes[ref] && !slices.Contains(live, ref)
	})
	return had - len(s.records), nil
}
