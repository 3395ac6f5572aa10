//go:build !race

package bench

import (
	"runtime"
	"strconv"
	"testing"
)

// What a local call allocates, and what an idle object holds, is the same on every
// machine. The bounds have room for a new version of Go, not for a map in each object.

func TestAllocationsOfALocalCall(t *testing.T) {
	n := startNode(t)
	for _, w := range []struct {
		typ, method string
		most        float64
	}{{"Typed", "Say", 2}, {"Typed", "Look", 2}, {"Echo", "Say", 6}, {"Echo", "Look", 6}} {
		c := callOf(w.typ, "hot", w.method)
		must(t, n, c)
		if got := testing.AllocsPerRun(1000, func() { must(t, n, c) }); got > w.most {
			t.Errorf("%s.%s: %v allocations, at most %v are allowed", w.typ, w.method, got, w.most)
		}
	}
}

func TestBytesOfAnIdleObject(t *testing.T) {
	const objects, most = 50_000, 480
	n := startNode(t)
	before := heap()
	for i := range objects {
		must(t, n, callOf("Echo", "object-"+strconv.Itoa(i), "Say"))
	}
	if got := (int64(heap()) - int64(before)) / objects; got > most {
		t.Errorf("an idle object holds %d bytes, at most %d are allowed", got, most)
	}
	runtime.KeepAlive(n)
}
