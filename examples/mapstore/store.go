package main

import (
	"bytes"
	"context"
	"sync"

	"github.com/xiaonanln/goverse/goverseapi"
	"github.com/xiaonanln/goverse/object"
)

// MapStore keeps the state of objects in a map: a whole provider of the basic kind.
type MapStore struct {
	mu   sync.Mutex
	data map[object.Ref][]byte
}

var _ goverseapi.PersistenceProvider = (*MapStore)(nil)

// NewMapStore returns an empty store.
func NewMapStore() *MapStore { return &MapStore{data: map[object.Ref][]byte{}} }

// SaveObject stores data as the object's whole state. The buffer stays the caller's.
func (s *MapStore) SaveObject(ctx context.Context, objType, objID string, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.data[object.Ref{Type: objType, ID: objID}] = bytes.Clone(data)
	return nil
}

// LoadObject returns what was saved last.
func (s *MapStore) LoadObject(ctx context.Context, objType, objID string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, ok := s.data[object.Ref{Type: objType, ID: objID}]
	if !ok {
		return nil, object.ErrNotStored
	}
	return bytes.Clone(data), nil
}

// DeleteObject forgets the object, if there is one.
func (s *MapStore) DeleteObject(ctx context.Context, objType, objID string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.data, object.Ref{Type: objType, ID: objID})
	return nil
}
