// Package most keeps the greatest few of many.
package most

import "slices"

// Of is the greatest of what was added. The zero value keeps nothing: make it with New. It
// has one user at a time.
type Of[T any] struct {
	limit   int
	compare func(a, b T) int
	kept    []T // the greatest first
}

// New keeps limit values at most, by compare, which is like cmp.Compare.
func New[T any](limit int, compare func(a, b T) int) *Of[T] {
	return &Of[T]{limit: limit, compare: compare}
}

// Add costs one comparison where v is not among the greatest.
func (o *Of[T]) Add(v T) {
	n := len(o.kept)
	if n >= o.limit && (n == 0 || o.compare(v, o.kept[n-1]) <= 0) {
		return
	}
	at, _ := slices.BinarySearchFunc(o.kept, v, func(kept, v T) int { return o.compare(v, kept) })
	if n == o.limit {
		o.kept = o.kept[:n-1]
	}
	o.kept = slices.Insert(o.kept, at, v)
}

// List is what was kept, the greatest first; never nil.
func (o *Of[T]) List() []T { return append([]T{}, o.kept...) }
