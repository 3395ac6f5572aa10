//go:build !race

package bench

import "testing"

// A call of a client takes about 75 allocations at both ends of its stream together,
// gRPC's included, while nothing else shares its batches; as a unary call 200.
func TestClientAllocations(t *testing.T) {
	const calls, bound = 2000, 130
	call := dialGate(t, startGate(t, newRouter(echoCall)))
	for range 100 {
		if err := call(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	before := heapObjects()
	for range calls {
		if err := call(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if each := (heapObjects() - before) / calls; each > bound {
		t.Errorf("a call takes %d allocations, at most %d are due", each, bound)
	}
}
