//go:build !race

package bench

import (
	"flag"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/node"
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

// Logs and metrics at their default settings add nothing to it.
func TestAllocationsOfACallThatIsHeard(t *testing.T) {
	alone, heard := startNode(t), startHeard(t, heard())
	for _, typ := range []string{"Typed", "Echo"} {
		c := callOf(typ, "hot", "Say")
		must(t, alone, c)
		must(t, heard, c)
		want := testing.AllocsPerRun(1000, func() { must(t, alone, c) })
		if got := testing.AllocsPerRun(1000, func() { must(t, heard, c) }); got > want {
			t.Errorf("%s: %v allocations, and %v where nobody hears of it", typ, got, want)
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

var idleObjects = flag.Int("idle.objects", 50_000, "how many objects TestIdleObjectsGiveTheirMemoryBack makes; it logs what they held and what is left")

// What idle objects held is given back when they go: a node whose tables stayed as large
// as they ever were would keep some 20 bytes for each.
func TestIdleObjectsGiveTheirMemoryBack(t *testing.T) {
	const most = 8
	objects := *idleObjects
	spareGoroutines(20_000)
	synctest.Test(t, func(t *testing.T) {
		n := startNode(t)
		touch(t, n) // each shard has what it keeps for good
		time.Sleep(2 * passes)
		before := heap()
		fill(t, n, "Passing", objects)
		lived := (int64(heap()) - int64(before)) / int64(objects)
		time.Sleep(2 * passes)
		if left := n.NumObjects(); left > 0 {
			t.Fatalf("%d objects are still there", left)
		}
		left := float64(int64(heap())-int64(before)) / float64(objects)
		t.Logf("%d objects held %d bytes each, of which %.1f are left now that they have gone", objects, lived, left)
		if left > most || lived < 100 {
			t.Errorf("at most %d bytes for each object may be left", most)
		}
		runtime.KeepAlive(n)
	})
}

// touch calls an object in each shard.
func touch(t *testing.T, n *node.Node) {
	touched := map[int]bool{}
	for i := 0; len(touched) < sharding.NumShards; i++ {
		id := strconv.Itoa(i)
		if shard := sharding.GetShardID(id, sharding.NumShards); !touched[shard] {
			touched[shard] = true
			must(t, n, callOf("Passing", id, "Say"))
		}
	}
}

// spareGoroutines has that many goroutines run at once. What Go keeps of each for the
// next ones is then there, and no object's end adds to it.
func spareGoroutines(n int) {
	var all sync.WaitGroup
	on := make(chan struct{})
	for range n {
		all.Go(func() { <-on })
	}
	close(on)
	all.Wait()
}
