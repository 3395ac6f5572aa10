package cluster

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// tells makes the node have a type, since long after 1970; it returns how often the whole of it was sent.
func (p *process) tells(digest string, since int64) *int {
	sent := new(int)
	p.host.set(func() {
		p.host.catalog = func(_ context.Context, known string) (object.Catalog, error) {
			c := object.Catalog{Digest: digest, Since: time.Unix(since, 0), Types: []object.CatalogType{{Name: digest}}, Files: []byte(digest)}
			if known != digest {
				*sent++
			}
			return c.Unless(known), nil
		}
	})
	return sent
}

// told is the digests of what p hears, and how many nodes are silent.
func (p *process) told() (digests string, silent int) {
	p.w.Helper()
	list, silent, err := p.c.Catalogs(p.w.Context())
	if err != nil {
		p.w.Fatal(err)
	}
	for _, c := range list {
		if len(c.Types) != 1 || c.Types[0].Name != c.Digest || string(c.Files) != c.Digest {
			p.w.Errorf("half a catalog: %+v", c)
		}
		digests += c.Digest
	}
	return digests, silent
}

func TestCatalogsOfTheNodes(t *testing.T) {
	bubble(t, func(w *world) {
		a, b, g := twoNodes(w)
		if _, silent, err := g.c.Catalogs(w.Context()); fault.KindOf(err) != fault.NotReady || silent != 2 || fault.OutcomeOf(err) != fault.NotExecuted {
			t.Errorf("nodes that say nothing: %d, %v", silent, err)
		}
		sentA, sentB := a.tells("x", 1), b.tells("x", 2)
		for range 3 {
			for _, p := range []*process{g, a} {
				if got, silent := p.told(); got != "x" || silent != 0 {
					t.Errorf("two that are alike: %s, %d silent", got, silent)
				}
			}
		}
		if *sentA+*sentB != 2 { // once to each who asked
			t.Errorf("the same was sent %d and %d times", *sentA, *sentB)
		}
		b.tells("y", 3)
		if got, _ := g.told(); got != "yx" {
			t.Errorf("the newer second: %s", got)
		}
		a.tells("y", 4)
		if got, _ := g.told(); got != "y" {
			t.Errorf("what nobody has any more: %s", got)
		}
		a.tells("z", 2)
		w.net.Partition(gateG, nodeA)
		began := time.Now()
		if got, silent := g.told(); got != "y" || silent != 1 || time.Since(began) != catalogPatience {
			t.Errorf("what a silent node said last: %s, %d, after %v", got, silent, time.Since(began))
		}
		w.net.Heal(gateG, nodeA)
		if got, silent := g.told(); got != "yz" || silent != 0 {
			t.Errorf("healed: %s, %d", got, silent)
		}
	})
}

// A node without types is no reason to ask for the same again, or to know nothing.
func TestCatalogOfANodeWithoutTypes(t *testing.T) {
	bubble(t, func(w *world) {
		a, b, g := twoNodes(w)
		for _, p := range []*process{a, b} {
			p.host.set(func() {
				p.host.catalog = func(context.Context, string) (object.Catalog, error) {
					return object.Catalog{Digest: "none", Since: time.Unix(1, 0)}, nil
				}
			})
		}
		for range 2 {
			list, silent, err := g.c.Catalogs(w.Context())
			if err != nil || len(list) != 1 || silent != 0 || len(list[0].Types) != 0 {
				t.Errorf("%v, %d, %v", list, silent, err)
			}
		}
	})
}

func TestCatalogsWithoutNodesOrTime(t *testing.T) {
	bubble(t, func(w *world) {
		g := w.gate(gateG)
		w.views(g, 0)
		if _, _, err := g.c.Catalogs(w.Context()); fault.KindOf(err) != fault.NotReady {
			t.Error(err)
		}
		g.c.catalogs.turn <- struct{}{}
		ctx, cancel := context.WithTimeout(w.Context(), time.Second)
		defer cancel()
		if _, _, err := g.c.Catalogs(ctx); fault.KindOf(err) != fault.Deadline || !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}
