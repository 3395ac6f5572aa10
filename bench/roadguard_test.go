//go:build !race

package bench

import (
	"runtime"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/object"
)

// The guards are ratios and counts, far from what is measured: they notice that the
// road has lost what it is for, on any machine. The race detector changes both.

func roadToEcho(tb testing.TB) caller {
	return dialRoad(tb, serveRoad(tb, echoService{}),
		object.Call{Ref: object.Ref{Type: "Echo", ID: "hot"}, Method: "Say", Payload: object.OfMessage(sixtyTwo())})
}

// Calls over the road are several times as fast as unary calls of plain grpc-go.
func TestRoadAgainstPlainGRPC(t *testing.T) {
	const callers, turn, bound = 64, 200 * time.Millisecond, 1.5
	plain, road := dialPlain(t, servePlain(t)), roadToEcho(t)
	load(t, plain, callers, turn/4)
	load(t, road, callers, turn/4)
	var best float64
	for range 3 {
		before, _ := load(t, plain, callers, turn)
		now, _ := load(t, road, callers, turn)
		if best = max(best, now/before); best >= bound {
			return
		}
	}
	t.Errorf("the road carries %.2f times as many calls as plain grpc-go, at least %.1f are due", best, bound)
}

// A call over the road takes about 30 allocations at both ends together, gRPC's
// included, while nothing else shares its batches; a unary call of plain grpc-go 146.
func TestRoadAllocations(t *testing.T) {
	const calls, bound = 2000, 60
	road := roadToEcho(t)
	for range 100 {
		if err := road(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	before := mallocs()
	for range calls {
		if err := road(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if each := (mallocs() - before) / calls; each > bound {
		t.Errorf("a call takes %d allocations, at most %d are due", each, bound)
	}
}

func mallocs() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}
