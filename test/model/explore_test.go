package model

import (
	"fmt"
	"strings"
	"testing"
)

// garden is a small space drawn as its paths: from each spot to the next ones.
type garden struct {
	paths  map[spot][]spot
	broken spot // 0: none
	waits  map[spot]bool
}

type spot uint8

func (s spot) String() string { return fmt.Sprintf("at %d", uint8(s)) }

func (g garden) Start() spot { return 1 }

func (g garden) Next(s spot, take func(Step, spot)) {
	for _, to := range g.paths[s] {
		take(Step{Who: "walker", What: "goes to", Whom: to.String()}, to)
	}
}

func (g garden) Broken(s *spot) Invariant {
	if g.broken != 0 && *s == g.broken {
		return "a rule of the garden"
	}
	return ""
}

func (g garden) Waiting(s *spot) string {
	if g.waits[*s] {
		return "the walker"
	}
	return ""
}

func TestExploreCountsEachStateOnce(t *testing.T) {
	g := garden{paths: map[spot][]spot{1: {2, 3}, 2: {4, 2}, 3: {4}, 4: {4}}}
	r := Explore(g, Search{Progress: Ends})
	if r.States != 4 || r.Edges != 4 || !r.Exhausted || r.Violation != nil {
		t.Errorf("%v", r)
	}
}

func TestExploreFindsTheShortestTrace(t *testing.T) {
	g := garden{paths: map[spot][]spot{1: {2}, 2: {3, 5}, 3: {4}, 4: {5}, 5: {6}}, broken: 5}
	r := Explore(g, Search{})
	if r.Violation == nil || r.Exhausted {
		t.Fatalf("%v", r)
	}
	got := strings.Join(strings.Fields(r.Violation.String()), " ")
	const want = "VIOLATION in 2 steps: a rule of the garden 1 walker goes to at 2 at 2 2 walker goes to at 5 at 5"
	if got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

func TestExploreFindsABreachThatLeavesTheStateAsItWas(t *testing.T) {
	r := Explore(breacher{garden{paths: map[spot][]spot{1: {2}, 2: {2}}}}, Search{})
	if r.Violation == nil || r.Violation.Invariant != FreshRead || len(r.Violation.Trace) != 2 {
		t.Errorf("%v", r)
	}
}

// breacher breaches at the second spot.
type breacher struct{ garden }

func (b breacher) Next(s spot, take func(Step, spot)) {
	b.garden.Next(s, func(step Step, to spot) {
		if s == 2 {
			step.Breach = FreshRead
		}
		take(step, to)
	})
}

func TestExploreChecksTheStart(t *testing.T) {
	r := Explore(garden{broken: 1}, Search{})
	if r.Violation == nil || len(r.Violation.Trace) != 0 {
		t.Errorf("%v", r)
	}
}

func TestExploreStopsAtItsLimit(t *testing.T) {
	g := garden{paths: map[spot][]spot{1: {2}, 2: {3}, 3: {4}, 4: {5}}}
	r := Explore(g, Search{Limit: 3})
	if r.States != 3 || r.Exhausted || !strings.Contains(r.String(), "NOT exhausted") {
		t.Errorf("%v", r)
	}
}

func TestExploreOfProgress(t *testing.T) {
	all := map[spot]bool{1: true, 2: true, 3: true, 4: true}
	for _, c := range []struct {
		name     string
		garden   garden
		progress Progress
		want     Invariant
		steps    int
	}{
		{"a dead end where something waits", garden{paths: map[spot][]spot{1: {2, 3}, 2: {4}}, waits: map[spot]bool{1: true, 4: true}}, NotStuck, Stuck, 2},
		{"a dead end but for a step that changes nothing", garden{paths: map[spot][]spot{1: {2}, 2: {2}}, waits: all}, NotStuck, Stuck, 1},
		{"a dead end where nothing waits", garden{paths: map[spot][]spot{1: {2}}, waits: map[spot]bool{1: true}}, Ends, "", 0},
		{"a trap: a cycle without a way out", garden{paths: map[spot][]spot{1: {2, 5}, 2: {3}, 3: {4}, 4: {3}}, waits: all}, CanEnd, Stuck, 1},
		{"a trap that nobody looks for", garden{paths: map[spot][]spot{1: {2, 5}, 2: {3}, 3: {4}, 4: {3}}, waits: all}, NotStuck, "", 0},
		{"a cycle with a way out", garden{paths: map[spot][]spot{1: {2}, 2: {3}, 3: {2, 5}}, waits: all}, CanEnd, "", 0},
		{"a cycle with a way out that may never be taken", garden{paths: map[spot][]spot{1: {2}, 2: {3}, 3: {2, 5}}, waits: all}, Ends, Endless, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := Explore(c.garden, Search{Progress: c.progress})
			switch {
			case c.want == "" && r.Violation != nil:
				t.Errorf("%v", r)
			case c.want != "" && (r.Violation == nil || r.Violation.Invariant != c.want || len(r.Violation.Trace) != c.steps):
				t.Errorf("%v, want %d steps to %q", r, c.steps, c.want)
			}
		})
	}
}

func TestChains(t *testing.T) {
	c := Chains("A(B(A),B)", "B")
	want := []Call{
		{made: true, root: true, object: 0},
		{made: true, parent: 0, object: 1},
		{made: true, parent: 1, object: 0},
		{made: true, parent: 0, object: 1},
		{made: true, root: true, chain: 1, object: 1},
	}
	if c.all() != len(want) {
		t.Fatalf("%d calls", c.all())
	}
	for k, w := range want {
		if c[k] != w {
			t.Errorf("call %d is %+v, want %+v", k+1, c[k], w)
		}
	}
}
