package cluster

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// archivist is who says to p what is stored.
func (p *process) archivist(ctx context.Context) (string, error) {
	p.w.Helper()
	list, err := p.c.ListObjects(ctx, "Room", "", 0)
	record, again := p.c.StoredState(ctx, object.Ref{Type: "Room", ID: "x"})
	if (err == nil) != (again == nil) || fault.KindOf(err) != fault.KindOf(again) {
		p.w.Errorf("the list: %v, and a state: %v", err, again)
	}
	if err != nil {
		return "", err
	}
	if len(list) != 1 || list[0].Ref.Type != "Room" || len(record.Data) == 0 {
		p.w.Errorf("%v, %v", list, record)
	}
	return list[0].Ref.ID, nil
}

// A gate asks whichever node answers; a node asks itself.
func TestWhatIsStoredIsAskedOfAnyNode(t *testing.T) {
	bubble(t, func(w *world) {
		a, b, g := twoNodes(w)
		for _, p := range []*process{a, b} {
			if who, err := p.archivist(w.Context()); who != p.c.cfg.Address || err != nil {
				t.Errorf("%s asked %s, %v", p.c.cfg.Address, who, err)
			}
		}
		asked := map[string]bool{}
		for range 64 {
			who, err := g.archivist(w.Context())
			if err != nil {
				t.Fatal(err)
			}
			asked[who] = true
		}
		if !asked[nodeA] || !asked[nodeB] {
			t.Errorf("of two nodes %v were asked", asked)
		}
	})
}

// One node that does not answer, whatever the reason, is no reason for no answer.
func TestAnotherNodeSaysWhatIsStored(t *testing.T) {
	for name, ail := range map[string]func(w *world, a *process){
		"out of reach": func(w *world, a *process) { w.net.Partition(gateG, nodeA) },
		"answers lost": func(w *world, a *process) { w.net.LoseAnswers(nodeA, 1000) },
		"silent": func(w *world, a *process) {
			a.host.set(func() { a.host.recall = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() } })
		},
		"without a road": func(w *world, a *process) { a.recalls(fault.New(fault.StoreFailed, "no way to it")) },
		"overloaded":     func(w *world, a *process) { a.recalls(fault.New(fault.Overloaded, "full")) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				a, _, g := twoNodes(w)
				ail(w, a)
				for range 16 {
					if who, err := g.archivist(w.Context()); who != nodeB || err != nil {
						t.Fatal(who, err)
					}
				}
			})
		})
	}
}

// recalls makes the node's store fail.
func (p *process) recalls(err error) {
	p.host.set(func() { p.host.recall = func(context.Context) error { return err } })
}

// What is wrong with the question no other node answers better; and that no node answers
// is said within the caller's time.
func TestQuestionsThatNobodyAnswers(t *testing.T) {
	bubble(t, func(w *world) {
		a, b, g := twoNodes(w)
		for _, kind := range []fault.Kind{fault.Invalid, fault.NotFound, fault.TooLarge} {
			a.recalls(fault.New(kind, "no"))
			b.recalls(fault.New(kind, "no"))
			if _, err := g.archivist(w.Context()); fault.KindOf(err) != kind {
				t.Errorf("%v for %v", err, kind)
			}
		}
		a.recalls(fault.New(fault.StoreFailed, "disk a"))
		b.recalls(fault.New(fault.StoreFailed, "disk b"))
		if _, err := g.archivist(w.Context()); fault.KindOf(err) != fault.NotReady || !strings.Contains(err.Error(), "disk a") || !strings.Contains(err.Error(), "disk b") {
			t.Error(err)
		}
		if _, err := a.archivist(w.Context()); err == nil {
			t.Error("answered")
		}
		hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		a.host.set(func() { a.host.recall = hang })
		b.host.set(func() { b.host.recall = hang })
		began := time.Now()
		ctx, cancel := context.WithTimeout(w.Context(), 7*time.Second)
		defer cancel()
		if _, err := g.c.ListObjects(ctx, "Room", "", 0); fault.KindOf(err) != fault.Deadline || time.Since(began) != 7*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if _, err := g.c.ListObjects(w.Context(), "Room", "", 0); err == nil || time.Since(began) != 17*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// Of stores that may be several nobody pretends that they are one.
func TestStoresThatMayBeSeveral(t *testing.T) {
	bubble(t, func(w *world) {
		none := func(c *Config) { c.StoreID = "" }
		a, g := w.node(nodeA, fresh, none), w.gate(gateG)
		w.ready(a, g)
		if who, err := g.archivist(w.Context()); who != nodeA || err != nil {
			t.Errorf("a single node: %s, %v", who, err)
		}
		b := w.node(nodeB, none)
		w.ready(b)
		w.settle(func() string {
			for _, p := range []*process{a, b, g} {
				if len(p.c.View().Members()) != 2 {
					return p.c.cfg.Address + " does not know both nodes"
				}
			}
			return ""
		})
		for _, p := range []*process{a, b, g} {
			if _, err := p.archivist(w.Context()); fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "operations port of each node") {
				t.Errorf("%s: %v", p.c.cfg.Address, err)
			}
		}
		a.leave()
		b.leave()
		w.settle(func() string {
			if len(g.c.View().Members()) != 0 {
				return "the gate knows a node"
			}
			return ""
		})
		if _, err := g.archivist(w.Context()); fault.KindOf(err) != fault.NotReady || !strings.Contains(err.Error(), "no node is running") {
			t.Error(err)
		}
	})
}
