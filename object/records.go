package object

import "context"

// Records is the store as a program may look at it: what is stored, without any object
// coming to life. A node's runtime is one, inside methods too.
type Records interface {
	// ListObjects returns stored objects of a type in the order of their ids, compared as
	// bytes, after an id ("" is before all), at most limit: 1 to MaxListed, 0 is
	// DefaultListed.
	ListObjects(ctx context.Context, objType, after string, limit int) ([]Listed, error)
	// StoredState returns an object's record as it is stored.
	StoredState(ctx context.Context, ref Ref) (Record, error)
}

// Bounds of one list.
const (
	DefaultListed = 100
	MaxListed     = 1000
)
