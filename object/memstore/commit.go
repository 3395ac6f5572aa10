package memstore

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

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
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case f.Err != nil && f.Held:
		s.held = append(s.held, op.clone())
		return nil, f.Err
	case f.Err != nil && !f.Applied:
		return nil, f.Err
	}
	verdicts := s.commitLocked(op)
	if f.Err != nil {
		return nil, f.Err
	}
	return verdicts, nil
}

func (s *Store) commitLocked(op Op) []object.Verdict {
	verdicts := make([]object.Verdict, len(op.Saves))
	for i, save := range op.Saves {
		verdicts[i] = s.judgeLocked(op.Owner, save)
	}
	return verdicts
}

// judgeLocked is protocol.md's SAVE for one object.
func (s *Store) judgeLocked(owner string, save object.Save) object.Verdict {
	if err := admit.Save(&save); err != nil {
		return object.Verdict{Kind: object.Rejected, Err: err}
	}
	fence := s.fences[save.Shard]
	if fence.Epoch == 0 || fence.Epoch != save.Epoch || fence.Owner != owner {
		return object.Verdict{Kind: object.FenceLost}
	}
	has := s.records[save.Ref]
	switch {
	case has.Version == save.Base && save.Data == nil && has.Data == nil:
		return object.Verdict{Kind: object.Committed, Version: has.Version}
	case has.Version == save.Base:
		return object.Verdict{Kind: object.Committed, Version: s.writeLocked(save)}
	case has.Version == save.Base+1 && has.saveID == save.SaveID:
		return object.Verdict{Kind: object.Committed, Version: has.Version}
	default:
		return object.Verdict{Kind: object.Conflict}
	}
}

// CollectTombstones forgets the deleted objects of a shard whose deletion is older
// than olderThan, except the live ones, and returns how many. It does nothing
// unless fence is the shard's.
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
	maps.DeleteFunc(s.records, func(ref object.Ref, r record) bool {
		return r.shard == fence.Shard && r.Data == nil && r.deleted.Before(before) && !slices.Contains(live, ref)
	})
	return had - len(s.records), nil
}
