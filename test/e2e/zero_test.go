//go:build unix

package e2e

import (
	"flag"
	"maps"
	"slices"
	"testing"
	"time"
)

var (
	rollings    = flag.Int("e2e.rollings", 1, "full rolling restarts of TestZero")
	loadRate    = flag.Int("e2e.rate", 200, "calls a second while the cluster changes")
	loadObjects = flag.Int("e2e.objects", 1000, "objects that they are about, half of them durable")
)

// Nodes and gates are restarted one by one, nodes are added and taken away, and no
// caller notices: no call fails, nothing is lost, and what lives only in memory moves.
func TestZero(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	gates := f.begin(3, 2)
	l := newLoad(t, gates, *loadRate, *loadObjects)

	for range *rollings {
		for _, address := range slices.Sorted(maps.Keys(f.nodes)) {
			left := f.stop(f.nodes, address)
			f.node(address)
			t.Logf("a node left in %v and was back with its share after %v", left.Round(time.Millisecond), f.settle().Round(time.Millisecond))
		}
		for _, address := range gates {
			left := f.stop(f.gates, address)
			f.gate(address)
			t.Logf("a gate left in %v; settled after %v", left.Round(time.Millisecond), f.settle().Round(time.Millisecond))
		}
	}
	for _, n := range []int{1, 2, 4, 2} {
		for len(f.nodes) > n {
			f.stop(f.nodes, slices.Sorted(maps.Keys(f.nodes))[0]) // the leader
		}
		for len(f.nodes) < n {
			f.node("")
		}
		t.Logf("%d nodes after %v", n, f.settle().Round(time.Millisecond))
	}
	l.end()
	p50, p99, worst := l.latencies()
	ok, notExecuted, unknown := l.history.Count()
	t.Logf("%d calls at %d/s on %d objects: p50 %v, p99 %v, worst %v", ok, *loadRate, *loadObjects,
		p50.Round(time.Microsecond), p99.Round(time.Microsecond), worst.Round(time.Microsecond))
	if notExecuted+unknown > 0 {
		t.Errorf("%d calls failed: %q", notExecuted+unknown, l.history.Errors())
	}
	l.judge(t, never)
	f.judgeLives(l)
}
