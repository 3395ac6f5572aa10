package model

import (
	"flag"
	"testing"
	"time"
)

var full = flag.Bool("model.full", false, "explore the full bounds: some minutes and 2 GB")

// size says in which runs of the tests a space is explored.
type size uint8

const (
	quick size = iota // always, go test -short included
	usual             // without -short: CI
	whole             // with -model.full
)

var sizes = [...]string{"-short", "CI", "full"}

// chosen says how much this run explores, and logs it.
func chosen(t *testing.T) size {
	t.Helper()
	s := usual
	switch {
	case *full:
		s = whole
	case testing.Short():
		s = quick
	}
	t.Logf("bounds: %s", sizes[s])
	return s
}

// holds asserts that a space has no violation and exactly so many states: a model
// that lost some of them would pass as well, and say less.
func holds[S State](t *testing.T, space Space[S], progress Progress, states, depth int) {
	t.Helper()
	began := time.Now()
	r := Explore(space, Search{Progress: progress})
	t.Logf("%v in %.1f s", r, time.Since(began).Seconds())
	if !r.Exhausted {
		t.Fatal("a violation")
	}
	if r.States != states || r.Depth != depth {
		t.Errorf("%d states and depth %d, want %d and %d: the model has changed", r.States, r.Depth, states, depth)
	}
}

// breaks asserts that a space violates an invariant, in exactly so many steps and no
// fewer.
func breaks[S State](t *testing.T, space Space[S], progress Progress, by Invariant, steps int) {
	t.Helper()
	began := time.Now()
	r := Explore(space, Search{Progress: progress})
	if r.Violation == nil {
		t.Fatalf("no violation: %v", r)
	}
	if r.Violation.Invariant != by || len(r.Violation.Trace) != steps {
		t.Fatalf("%v\nwant %d steps to %q", r, steps, by)
	}
	t.Logf("%d steps to %q, %d states in %.1f s", steps, by, r.States, time.Since(began).Seconds())
	if testing.Verbose() && *full {
		t.Log(r.Violation)
	}
}

// broken is a space and how it must break.
type broken[S State] struct {
	size  size
	space Space[S]
	by    Invariant
	steps int
}

// mutantsOf runs each mutant of a space, and the same space intact, which must hold.
func mutantsOf[S State](t *testing.T, table map[Mutant]broken[S], progress Progress, intact func(Space[S]) Space[S], intactUpTo size) {
	run := chosen(t)
	for mutant := range mutants {
		c, ok := table[mutant]
		if !ok || c.size > run {
			continue
		}
		t.Run(mutant.String(), func(t *testing.T) {
			breaks(t, c.space, progress, c.by, c.steps)
			if run >= intactUpTo {
				if r := Explore(intact(c.space), Search{Progress: progress}); !r.Exhausted {
					t.Errorf("it is not the missing guard: %v", r)
				}
			}
		})
	}
}

func TestEachMutantIsTried(t *testing.T) {
	for m := Intact + 1; m < mutants; m++ {
		_, breaksOwnership := ownershipMutants[m]
		_, breaksHandover := handoverMutants[m]
		if m.String() == "" {
			t.Errorf("mutant %d does not say what it lacks", m)
		}
		if !breaksOwnership && !breaksHandover && !survivors[m] {
			t.Errorf("nobody says what must become of the mutant %q", m)
		}
	}
}

// survivors are the guards that safety does not need within the models. They stay,
// for progress and as a second line: a database that goes back in time needs the
// fence's "=", and an exact outcome needs the repeated save.
var survivors = map[Mutant]bool{
	NoRegistrationGuard: true, NoTargetGuard: true, NoFlush: true, NoEpochBump: true, FenceAtMost: true,
	ReloadAfterUnknownSave: true, StaleCallerAdmitted: true,
}

// witness notes what happens in spaces: what a model never comes to is not checked.
type witness[S State] map[string]bool

func (w witness[S]) watch(space Space[S], limit int) {
	Explore(watched[S]{space, w}, Search{Limit: limit})
}

// mustBe asserts that these things happened, and nothing else.
func (w witness[S]) mustBe(t *testing.T, all ...string) {
	t.Helper()
	for _, what := range all {
		if !w[what] {
			t.Errorf("no run comes to a step that %q", what)
		}
		delete(w, what)
	}
	for what := range w {
		t.Errorf("the test does not know the step that %q", what)
	}
}

type watched[S State] struct {
	Space[S]
	by witness[S]
}

func (w watched[S]) Next(s S, take func(Step, S)) {
	w.Space.Next(s, func(step Step, to S) {
		w.by[step.What] = true
		take(step, to)
	})
}
