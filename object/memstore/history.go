package memstore

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/xiaonanln/goverse/object"
)

// Snapshot is all that a store had at some moment. The zero Snapshot is an empty store.
type Snapshot struct {
	fences  map[int]object.Fence
	records map[object.Ref]record
	calls   map[object.Ref][]call
	effects map[int]map[object.EffectKey]object.Effect
	ids     map[string]bool
	cluster string
}

// Snapshot is what the store has now.
func (s *Store) Snapshot() Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Snapshot{s.fences, s.records, s.calls, s.effects, s.ids, s.cluster}.clone()
}

// Restore puts the store back to a snapshot, as an operator does with a backup: what was
// acknowledged since is gone, and it answers with object.ErrOtherHistory until its new
// history is adopted. Commits that were Held arrive at the store as it is then.
func (s *Store) Restore(past Snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := past.clone()
	s.fences, s.records, s.calls, s.effects, s.ids, s.cluster = now.fences, now.records, now.calls, now.effects, now.ids, now.cluster
	s.restores++
}

// clone copies the maps; what is in them never changes.
func (p Snapshot) clone() Snapshot {
	c := Snapshot{fences: map[int]object.Fence{}, records: map[object.Ref]record{}, calls: map[object.Ref][]call{},
		effects: map[int]map[object.EffectKey]object.Effect{}, ids: map[string]bool{}, cluster: p.cluster}
	maps.Copy(c.fences, p.fences)
	maps.Copy(c.records, p.records)
	maps.Copy(c.ids, p.ids)
	for ref, list := range p.calls {
		c.calls[ref] = slices.Clone(list)
	}
	for shard, effects := range p.effects {
		c.effects[shard] = maps.Clone(effects)
	}
	return c
}

// History says how often the store was put back.
func (s *Store) History(ctx context.Context) (string, error) {
	f, err := s.begin(ctx, Op{Kind: History})
	if err := cmp.Or(err, f.Err); err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return historyOf(s.restores), nil
}

func historyOf(restores int) string { return fmt.Sprintf("put back %d times", restores) }

// AdoptHistory goes on with the store as it was put back.
func (s *Store) AdoptHistory(ctx context.Context, history string) error {
	f, err := s.begin(ctx, Op{Kind: History})
	if err := cmp.Or(err, f.Err); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := historyOf(s.restores); history != now {
		return fmt.Errorf("%w: %q was to be adopted, and it is %q", object.ErrOtherHistory, history, now)
	}
	s.adopted = s.restores
	return nil
}

// astray is the error of every operation before a history was adopted, or nil.
func (s *Store) astray() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.adopted == s.restores {
		return nil
	}
	return fmt.Errorf("%w: it was %q and is %q", object.ErrOtherHistory, historyOf(s.adopted), historyOf(s.restores))
}
