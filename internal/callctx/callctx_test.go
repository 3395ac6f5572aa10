package callctx

import (
	"context"
	"strings"
	"testing"
)

func TestFromNothingIsEmpty(t *testing.T) {
	info := From(t.Context())
	if info == nil || info.CallID != "" || info.Caller.Client || info.Chain.ID != (ChainID{}) {
		t.Errorf("got %+v", info)
	}
}

func TestTheInnermostCounts(t *testing.T) {
	outer, inner := &Info{CallID: "outer"}, &Info{CallID: "inner"}
	ctx := With(t.Context(), outer)
	if got := From(With(ctx, inner)); got != inner {
		t.Errorf("got %+v", got)
	}
	if got := From(ctx); got != outer {
		t.Errorf("got %+v", got)
	}
}

// own is a context that answers Key itself, as a node's does.
type own struct {
	context.Context
	info Info
}

func (o *own) Value(key any) any {
	if key == (Key{}) {
		return &o.info
	}
	return o.Context.Value(key)
}

func TestAContextMayAnswerItself(t *testing.T) {
	ctx := &own{Context: t.Context(), info: Info{CallID: "mine"}}
	if got := From(context.WithoutCancel(ctx)); got != &ctx.info {
		t.Errorf("got %+v", got)
	}
	if n := testing.AllocsPerRun(100, func() { From(ctx) }); n > 0 {
		t.Errorf("asking allocates %v times", n)
	}
}

func TestChainIDs(t *testing.T) {
	seen := map[ChainID]bool{{}: true} // zero is no chain
	for range 10_000 {
		id := NewChainID()
		if seen[id] {
			t.Fatalf("%v was minted twice", id)
		}
		seen[id] = true
	}
	if got := (ChainID{0: 0xab, 15: 1}).String(); got != "ab"+strings.Repeat("0", 29)+"1" {
		t.Errorf("printed as %s", got)
	}
}

// Branches of a fan-out enter different turns over one path: neither may see the
// other's.
func TestEnterSharesNothing(t *testing.T) {
	a := Turn{Type: "A", ID: "1", Method: "M"}
	root := Chain{ID: NewChainID()}.Enter(a)
	left, right := root.Enter(Turn{Type: "L"}), root.Enter(Turn{Type: "R"})
	if len(root.Path) != 1 || left.Path[1].Type != "L" || right.Path[1].Type != "R" {
		t.Errorf("root %v, left %v, right %v", root.Path, left.Path, right.Path)
	}
	left.Path[0].Type = "changed"
	if root.Path[0] != a || right.Path[0] != a {
		t.Error("branches share their path")
	}
	if left.ID != root.ID {
		t.Error("a branch left the chain")
	}
	if root.Path[0].String() != "A/1.M" {
		t.Errorf("printed as %v", root.Path[0])
	}
}
