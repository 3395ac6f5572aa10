package memstore

import (
	"bytes"
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// call is the record of a call.
type call struct {
	object.CallRecord
	shard   int
	expires time.Time
}

// collectLimit is how many records one CollectCalls forgets at most.
const collectLimit = 1000

// refusesLocked says why the records of a save cannot be kept.
func (s *Store) refusesLocked(save *object.Save) error {
	for _, c := range save.Calls {
		if slices.ContainsFunc(s.calls[save.Ref], func(has call) bool { return has.ID == c.ID }) {
			return object.ErrCallRecorded
		}
	}
	for _, e := range save.Effects {
		if s.ids[e.ID] {
			return fault.New(fault.Invalid, "%s has an effect %q, and there is one that was not ended", save.Ref, e.ID)
		}
	}
	return nil
}

// keepLocked keeps the records of a save that has become a version.
func (s *Store) keepLocked(save *object.Save, version uint64) {
	now := time.Now()
	for _, c := range save.Calls {
		c.Result, c.Version = bytes.Clone(c.Result), version
		s.calls[save.Ref] = append(s.calls[save.Ref], call{CallRecord: c, shard: save.Shard, expires: now.Add(c.Keep)})
	}
	if len(save.Effects) > 0 && s.effects[save.Shard] == nil {
		s.effects[save.Shard] = map[object.EffectKey]object.Effect{}
	}
	for ord, e := range save.Effects {
		e.Payload = bytes.Clone(e.Payload)
		if !e.NotAfter.IsZero() {
			e.NotAfter = e.NotAfter.UTC().Truncate(time.Microsecond)
		}
		s.effects[save.Shard][object.EffectKey{Shard: save.Shard, Source: save.Ref, Version: version, Ord: ord}] = e
		s.ids[e.ID] = true
	}
}

// FindCall returns the record of a call, or object.ErrNotStored.
func (s *Store) FindCall(ctx context.Context, ref object.Ref, callID string) (object.CallRecord, error) {
	f, err := s.begin(ctx, Op{Kind: FindCall, Ref: ref})
	if err := cmp.Or(err, f.Err); err != nil {
		return object.CallRecord{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.calls[ref] {
		if c.ID == callID {
			r := c.CallRecord
			r.Result, r.Keep = bytes.Clone(r.Result), 0
			return r, nil
		}
	}
	return object.CallRecord{}, object.ErrNotStored
}

// RecentCalls returns the ids of an object's newest records, the newest first.
func (s *Store) RecentCalls(ctx context.Context, ref object.Ref, limit int) (ids []string, all bool, err error) {
	f, err := s.begin(ctx, Op{Kind: RecentCalls, Ref: ref})
	if err := cmp.Or(err, f.Err); err != nil {
		return nil, false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	has := s.calls[ref]
	for i := len(has) - 1; i >= 0 && len(ids) < limit; i-- {
		ids = append(ids, has[i].ID)
	}
	return ids, len(ids) == len(has), nil
}

// PendingEffects returns effects of a shard that were not ended, in the order of
// their keys, after a key.
func (s *Store) PendingEffects(ctx context.Context, shard int, after object.EffectKey, limit int) ([]object.PendingEffect, error) {
	f, err := s.begin(ctx, Op{Kind: PendingEffects, Shard: shard})
	if err := cmp.Or(err, f.Err); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	after.Shard = shard
	keys := slices.SortedFunc(maps.Keys(s.effects[shard]), compareKeys)
	first, at := slices.BinarySearchFunc(keys, after, compareKeys)
	if at {
		first++
	}
	keys = keys[first:]
	var list []object.PendingEffect
	for _, key := range keys[:max(0, min(limit, len(keys)))] {
		e := s.effects[shard][key]
		e.Payload = bytes.Clone(e.Payload)
		list = append(list, object.PendingEffect{Key: key, Effect: e})
	}
	return list, nil
}

// compareKeys orders the keys of one shard.
func compareKeys(a, b object.EffectKey) int {
	return cmp.Or(cmp.Compare(a.Source.Type, b.Source.Type), cmp.Compare(a.Source.ID, b.Source.ID),
		cmp.Compare(a.Version, b.Version), cmp.Compare(a.Ord, b.Ord))
}

// EndEffects forgets effects of fence's shard, if fence is the shard's.
func (s *Store) EndEffects(ctx context.Context, fence object.Fence, keys []object.EffectKey) (bool, error) {
	f, err := s.begin(ctx, Op{Kind: EndEffects, Fences: []object.Fence{fence}})
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.Err != nil && !f.Applied {
		return false, f.Err
	}
	held := s.holdsLocked(fence)
	for _, key := range keys {
		if e, ok := s.effects[fence.Shard][key]; ok && held {
			delete(s.effects[fence.Shard], key)
			delete(s.ids, e.ID)
		}
	}
	return held && f.Err == nil, f.Err
}

// CollectCalls forgets expired records of fence's shard, at most 1000, and returns
// how many. It does nothing unless fence is the shard's.
func (s *Store) CollectCalls(ctx context.Context, fence object.Fence) (int, error) {
	f, err := s.begin(ctx, Op{Kind: CollectCalls, Fences: []object.Fence{fence}})
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.Err != nil && !f.Applied || !s.holdsLocked(fence) {
		return 0, f.Err
	}
	now, gone := time.Now(), 0
	for ref, has := range s.calls {
		has = slices.DeleteFunc(has, func(c call) bool {
			dies := gone < collectLimit && c.shard == fence.Shard && !c.expires.After(now)
			if dies {
				gone++
			}
			return dies
		})
		if s.calls[ref] = has; len(has) == 0 {
			delete(s.calls, ref)
		}
	}
	if f.Err != nil {
		return 0, f.Err
	}
	return gone, nil
}

func (s *Store) holdsLocked(fence object.Fence) bool {
	return fence.Epoch > 0 && s.fences[fence.Shard] == fence
}
