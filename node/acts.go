package node

import (
	"hash/maphash"
	"iter"
	"math/rand/v2"

	"github.com/xiaonanln/goverse/object"
)

// acts is a set of activations, found by their refs: a hash table with linear probing
// that has no keys of its own, because an activation knows its ref. At 24 objects a shard
// a map costs about 65 bytes for each, and this about 20. The zero value is empty. It belongs
// to its slot's mutex.
type acts struct {
	cells []cell // a power of two of them, at most seven eighths in use
	count int
}

// cell is empty without act.
type cell struct {
	act  *activation
	hash uint64
}

// actsSeed is this process's, so that nobody can choose ids that collide.
var actsSeed = maphash.MakeSeed()

const minCells = 4

func hashOf(ref object.Ref) uint64 {
	return maphash.String(actsSeed, ref.ID) // objects with one id and different types are few
}

// find returns the activation of ref, or nil.
func (t *acts) find(ref object.Ref) *activation {
	if t.count == 0 {
		return nil
	}
	return t.cells[t.place(ref, hashOf(ref))].act
}

// place is the cell that has ref, or the empty one where it would be. There are cells.
func (t *acts) place(ref object.Ref, hash uint64) int {
	mask := len(t.cells) - 1
	i := int(hash) & mask
	for ; t.cells[i].act != nil; i = (i + 1) & mask {
		if c := &t.cells[i]; c.hash == hash && c.act.ref == ref {
			break
		}
	}
	return i
}

// add puts a in, whose ref is not there yet.
func (t *acts) add(a *activation) {
	if 8*(t.count+1) > 7*len(t.cells) {
		t.resize(max(minCells, 2*len(t.cells)))
	}
	hash := hashOf(a.ref)
	t.cells[t.place(a.ref, hash)] = cell{a, hash}
	t.count++
}

// remove takes a out and tells whether it was there.
func (t *acts) remove(a *activation) bool {
	if t.count == 0 {
		return false
	}
	hole := t.place(a.ref, hashOf(a.ref))
	if t.cells[hole].act != a {
		return false
	}
	t.count--
	t.close(hole)
	switch {
	case t.count == 0:
		t.cells = nil
	case 8*t.count < len(t.cells) && len(t.cells) > minCells:
		t.resize(len(t.cells) / 2)
	}
	return true
}

// close fills a hole with who stands behind it only because the cell was taken, and so
// on, so that whoever is looked for is found before an empty cell.
func (t *acts) close(hole int) {
	mask := len(t.cells) - 1
	for i := (hole + 1) & mask; t.cells[i].act != nil; i = (i + 1) & mask {
		home := int(t.cells[i].hash) & mask
		if (i-home)&mask >= (i-hole)&mask { // the hole is between its home and its cell
			t.cells[hole] = t.cells[i]
			hole = i
		}
	}
	t.cells[hole] = cell{}
}

func (t *acts) resize(n int) {
	old := t.cells
	t.cells = make([]cell, n)
	mask := n - 1
	for _, c := range old {
		if c.act == nil {
			continue
		}
		i := int(c.hash) & mask
		for t.cells[i].act != nil {
			i = (i + 1) & mask
		}
		t.cells[i] = c
	}
}

// all yields each activation once, beginning anywhere. The set must not change meanwhile.
func (t *acts) all() iter.Seq[*activation] {
	return func(yield func(*activation) bool) {
		if t.count == 0 {
			return
		}
		mask := len(t.cells) - 1
		first := rand.IntN(len(t.cells))
		for i := range t.cells {
			if a := t.cells[(first+i)&mask].act; a != nil && !yield(a) {
				return
			}
		}
	}
}
