package most

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
)

// What is kept is what sorting everything and cutting it off would keep.
func TestLikeSorting(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		limit := r.IntN(6)
		kept := New(limit, cmp.Compare[int])
		all := []int{}
		for range r.IntN(40) {
			v := r.IntN(20)
			all = append(all, v)
			kept.Add(v)
		}
		slices.SortFunc(all, func(a, b int) int { return b - a })
		if want := all[:min(limit, len(all))]; !slices.Equal(kept.List(), want) || kept.List() == nil {
			t.Fatalf("seed %d: %v, want %v", seed, kept.List(), want)
		}
	}
}
