package stack

import (
	"runtime"
	"runtime/metrics"
	"sync"
	"testing"
)

// Goroutines that wait after a Stretch hold 8 KB each, and 2 KB without it; the race
// detector's take more.
func TestStretch(t *testing.T) {
	const goroutines = 4000
	plain, stretched := held(goroutines, func() {}), held(goroutines, Stretch)
	if more := (stretched - plain) / goroutines; more < 2<<10 || more > 12<<10 {
		t.Errorf("a stretched stack is %d bytes longer, not about 6,000; a plain one has %d", more, plain/goroutines)
	}
}

// held is how many bytes of stacks n goroutines take once each has done first.
func held(n int, first func()) int {
	var ready, done sync.WaitGroup
	end := make(chan struct{})
	runtime.GC() // frees the stacks of others
	before := stacks()
	ready.Add(n)
	for range n {
		done.Go(func() {
			first()
			ready.Done()
			<-end
		})
	}
	ready.Wait()
	after := stacks()
	close(end)
	done.Wait()
	return after - before
}

func stacks() int {
	s := []metrics.Sample{{Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(s)
	return int(s[0].Value.Uint64())
}
