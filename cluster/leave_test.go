package cluster

import (
	"fmt"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager/memkv"
)

// etcd does not answer in the moment in which a node is told to leave: it is told a
// little later, and all that the node has is handed on with what lives in it.
func TestEtcdAwayForAMomentWhileLeaving(t *testing.T) {
	for _, fault := range []memkv.Fault{memkv.Cut, memkv.AnswersLost, memkv.Late} {
		for _, moment := range []time.Duration{1100 * time.Millisecond, 3 * time.Second} {
			t.Run(fmt.Sprint(fault, moment), func(t *testing.T) {
				bubble(t, func(w *world) {
					a := w.node(nodeA)
					w.ready(a)
					b := w.node(nodeB)
					w.split(a, b)
					came := b.host.came()
					a.conn.Set(fault)
					time.AfterFunc(moment, func() { a.conn.Set(memkv.Healthy) })
					a.leave()
					w.holds(b)
					if n := b.host.came() - came; n != 8 || len(a.host.dropped) > 0 {
						t.Errorf("%d of 8 shards came with their state; dropped: %q\n%q", n, a.host.dropped, w.notes.all())
					}
				})
			})
		}
	}
}

// came is how many shards came with what was staged for them.
func (h *host) came() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.moved
}

// etcd is away for good: leaving takes no longer than the lease is trusted.
func TestEtcdAwayForGoodWhileLeaving(t *testing.T) {
	bubble(t, func(w *world) {
		a, b := w.node(nodeA, func(c *Config) { c.DrainBudget = time.Minute }), w.node(nodeB)
		w.ready(a, b)
		w.split(a, b)
		a.cut()
		began := time.Now()
		a.leave()
		if took := time.Since(began); took > 8*time.Second {
			t.Errorf("it took %v", took)
		}
		w.holds(b)
	})
}

// The road to the node that is to have the shards is closed, from the beginning or in
// the middle of it: what lives in them goes by a third node, and nothing is lost.
func TestLeavingWithoutARoad(t *testing.T) {
	for name, cut := range map[string]func(w *world){
		"both ways":     func(w *world) { w.net.Partition(nodeA, nodeB) },
		"there":         func(w *world) { w.net.PartitionOneWay(nodeA, nodeB) },
		"back":          func(w *world) { w.net.PartitionOneWay(nodeB, nodeA) },
		"to the other":  func(w *world) { w.net.Partition(nodeA, nodeC) },
		"after a while": func(w *world) { time.AfterFunc(time.Millisecond, func() { w.net.Partition(nodeA, nodeB) }) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				a, b, c := w.node(nodeA), w.node(nodeB), w.node(nodeC)
				w.ready(a, b, c)
				w.split(a, b, c)
				has, came := len(a.host.serving()), b.host.came()+c.host.came()
				cut(w)
				a.leave()
				w.holds(b, c)
				if n := b.host.came() + c.host.came() - came; n != has || len(a.host.dropped) > 0 {
					t.Errorf("%d of %d shards came with their state; dropped: %q\n%q", n, has, a.host.dropped, w.notes.all())
				}
			})
		})
	}
}
