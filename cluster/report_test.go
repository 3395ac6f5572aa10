package cluster

import (
	"context"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
)

// A gate's report goes to one node, to another where that is not reached, and fails where
// there is none.
func TestReport(t *testing.T) {
	bubble(t, func(w *world) {
		a, b, g := twoNodes(w)
		heard := func(p *process) (n int) {
			p.host.set(func() { n = len(p.host.reports) })
			return n
		}
		b.host.set(func() { b.host.watched = true })
		if watched, err := g.c.Report(w.Context(), peer.GateSurvey{Address: gateG}); watched || err != nil || heard(a) != 1 || heard(b) != 0 {
			t.Errorf("%v, %v: %d and %d reports", watched, err, heard(a), heard(b))
		}
		w.net.Partition(gateG, nodeA)
		ctx, cancel := context.WithTimeout(w.Context(), time.Second) // as a gate has
		defer cancel()
		if watched, err := g.c.Report(ctx, peer.GateSurvey{Address: gateG}); !watched || err != nil || heard(b) != 1 {
			t.Errorf("%v, %v: %d reports", watched, err, heard(b))
		}
		w.net.Heal(gateG, nodeA)
		if watched, err := b.c.Report(w.Context(), peer.GateSurvey{Address: nodeB}); !watched || err != nil || heard(b) != 2 {
			t.Errorf("a node's own gate: %v, %v, %d reports", watched, err, heard(b))
		}
	})
	bubble(t, func(w *world) {
		if _, err := w.gate(gateG).c.Report(w.Context(), peer.GateSurvey{Address: gateG}); fault.KindOf(err) != fault.NotReady {
			t.Error(err)
		}
	})
}
