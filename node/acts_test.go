package node

import (
	"maps"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/xiaonanln/goverse/object"
)

// The set does what a map does, whatever is put in and taken out.
func TestActsIsAMap(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 0))
		var set acts
		want := map[object.Ref]*activation{}
		for range 1000 {
			ref := object.Ref{Type: []string{"A", "B"}[rng.IntN(2)], ID: strconv.Itoa(rng.IntN(1 << (seed % 8)))}
			if got := set.find(ref); got != want[ref] {
				t.Fatalf("seed %d: %v is %v, not %v", seed, ref, got, want[ref])
			}
			switch a := want[ref]; {
			case a == nil:
				want[ref] = &activation{ref: ref}
				set.add(want[ref])
			case rng.IntN(2) == 0:
				if set.remove(&activation{ref: ref}) {
					t.Fatalf("seed %d: another activation of %v was taken for this one", seed, ref)
				}
				if !set.remove(a) || set.remove(a) {
					t.Fatalf("seed %d: %v was not removed once", seed, ref)
				}
				delete(want, ref)
			}
			checkActs(t, seed, &set, want)
		}
	}
}

func checkActs(t *testing.T, seed uint64, set *acts, want map[object.Ref]*activation) {
	t.Helper()
	got := map[object.Ref]*activation{}
	for a := range set.all() {
		if got[a.ref] != nil {
			t.Fatalf("seed %d: %v is there twice", seed, a.ref)
		}
		got[a.ref] = a
	}
	if !maps.Equal(got, want) || set.count != len(want) {
		t.Fatalf("seed %d: it has %d activations and says %d, not %d", seed, len(got), set.count, len(want))
	}
	if n := len(set.cells); n > minCells && n > 16*len(want) || len(want) == 0 && n > 0 {
		t.Fatalf("seed %d: %d cells for %d activations", seed, n, len(want))
	}
}

// Who stands behind another because of its hash is found when that one is gone, also
// around the end of the table.
func TestActsThatCollide(t *testing.T) {
	for home := range 8 {
		for gone := range 5 {
			var set acts
			set.cells = make([]cell, 8)
			var in []*activation
			for i := range 5 {
				a := &activation{ref: object.Ref{Type: "A", ID: strconv.Itoa(i)}}
				hash := uint64(home + i/2) // homes: two, two, one
				set.cells[set.place(a.ref, hash)] = cell{a, hash}
				set.count++
				in = append(in, a)
			}
			set.count--
			set.close(set.place(in[gone].ref, uint64(home+gone/2)))
			for i, a := range in {
				if found := set.cells[set.place(a.ref, uint64(home+i/2))].act; (found == a) != (i != gone) {
					t.Errorf("home %d, without %d: %d is found as %v", home, gone, i, found)
				}
			}
		}
	}
}
