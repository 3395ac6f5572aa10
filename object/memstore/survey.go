package memstore

import (
	"cmp"
	"context"
	"slices"

	"github.com/xiaonanln/goverse/object"
)

// List returns live objects of a type in the order of their ids, after an id.
func (s *Store) List(ctx context.Context, objType, after string, limit int) ([]object.Listed, error) {
	f, err := s.begin(ctx, Op{Kind: List, Ref: object.Ref{Type: objType}})
	if err := cmp.Or(err, f.Err); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []object.Listed
	for ref, r := range s.records {
		if ref.Type == objType && ref.ID > after && r.Data != nil {
			list = append(list, object.Listed{Ref: ref, Version: r.Version, Created: r.Created, Updated: r.updated})
		}
	}
	slices.SortFunc(list, func(a, b object.Listed) int { return cmp.Compare(a.Ref.ID, b.Ref.ID) })
	return list[:max(0, min(limit, len(list)))], nil
}

// Confirm returns the fences that are not the store's.
func (s *Store) Confirm(ctx context.Context, owner string, fences []object.Fence) (lost []object.Fence, err error) {
	f, err := s.begin(ctx, Op{Kind: Confirm, Owner: owner, Fences: fences})
	if err := cmp.Or(err, f.Err); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range fences {
		mine := f
		mine.Owner = owner
		if !s.holdsLocked(mine) {
			lost = append(lost, f)
		}
	}
	return lost, nil
}

// BindCluster notes that the store belongs to cluster, if it belongs to none yet, and
// returns the cluster that it belongs to. "" only asks.
func (s *Store) BindCluster(ctx context.Context, cluster string) (string, error) {
	if err := cmp.Or(ctx.Err(), s.astray()); err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cluster == "" {
		s.cluster = cluster
	}
	return s.cluster, nil
}
