package model

import (
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
)

// State is one moment of a protocol: a plain value, equal to another exactly when
// nothing can tell the two moments apart. String is what a trace shows of it.
type State interface {
	comparable
	fmt.Stringer
}

// Space is a protocol within bounds: where it starts and what may happen next.
// Its methods are pure.
type Space[S State] interface {
	Start() S

	// Next hands take every step that is possible in s, in an order that depends on
	// s alone.
	Next(s S, take func(Step, S))

	// Broken names the invariant that s violates, "" if none.
	Broken(s *S) Invariant

	// Waiting says what is unfinished in s, "" if nothing: s may then be the end.
	Waiting(s *S) string
}

// Step is one thing that happens: who does what to whom. Breach names the invariant
// that the step itself violates, as a stale read does. The words are constants: a
// search takes millions of steps and shows a few.
type Step struct {
	Who, What, Whom string
	Breach          Invariant
}

func (s Step) String() string { return strings.TrimSpace(s.Who + " " + s.What + " " + s.Whom) }

// Search says how far Explore goes.
type Search struct {
	Limit    int // states; 0 is no limit
	Progress Progress
}

// Progress is what a search shows of how runs end, besides that none is stuck.
type Progress uint8

const (
	NotStuck Progress = iota // no run comes to a state where something waits and nothing can happen
	CanEnd                   // and from each state there is a way to one where nothing waits
	Ends                     // and no run is endless
)

// Result is what a search found. Exhausted says that it saw all there is.
type Result[S State] struct {
	States, Edges, Depth int
	Exhausted            bool
	Violation            *Violation[S] // nil: none
}

// String is the result in one line, and the violation's trace below it.
func (r Result[S]) String() string {
	switch {
	case r.Violation != nil:
		return fmt.Sprintf("%d states, %s", r.States, r.Violation)
	case r.Exhausted:
		return fmt.Sprintf("%d states, %d edges, depth %d: exhausted", r.States, r.Edges, r.Depth)
	}
	return fmt.Sprintf("%d states, %d edges, depth %d: NOT exhausted", r.States, r.Edges, r.Depth)
}

// Explore walks a space breadth first, so that a violation comes with a shortest
// trace. It stops at the first violation, at the limit, or when nothing is left.
func Explore[S State](space Space[S], how Search) Result[S] {
	w := newWalk(space, how)
	for len(w.front) > 0 && w.Violation == nil && !w.full() {
		w.level()
	}
	w.Exhausted = len(w.front) == 0 && w.Violation == nil
	if w.Exhausted && how.Progress >= CanEnd {
		w.checkProgress()
	}
	return w.Result
}

// walk is a search under way. Of a state seen it keeps 128 bits and how it came to
// be, not the state: two states that are taken for one would need 2^64 of them.
type walk[S State] struct {
	Result[S]
	space  Space[S]
	how    Search
	seeds  [2]maphash.Seed
	seen   map[[2]uint64]uint32
	origin []origin // of each state, by its number
	front  []found[S]
	edges  [][2]uint32 // from CanEnd on
	done   []uint32    // from CanEnd on: states in which nothing waits
}

// origin says how a state was first reached: by which of the steps out of which
// state.
type origin struct {
	from    uint32
	ordinal uint16
}

type found[S State] struct {
	number uint32
	state  S
}

func newWalk[S State](space Space[S], how Search) *walk[S] {
	w := &walk[S]{
		space: space, how: how,
		seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()},
		seen:  make(map[[2]uint64]uint32),
	}
	w.number(space.Start(), origin{})
	return w
}

func (w *walk[S]) full() bool { return w.how.Limit > 0 && w.States >= w.how.Limit }

// level takes every step out of the states that the level before discovered.
func (w *walk[S]) level() {
	front := w.front
	w.front = nil
	for _, f := range front {
		if w.expand(f); w.Violation != nil || w.full() {
			return
		}
	}
	w.Depth++
}

// expand takes every step out of one state. A step that changes nothing is no step.
func (w *walk[S]) expand(f found[S]) {
	ordinal, moved := uint16(0), false
	w.space.Next(f.state, func(step Step, to S) {
		here := origin{from: f.number, ordinal: ordinal}
		ordinal++
		if w.Violation != nil {
			return
		}
		if step.Breach != "" {
			w.violate(step.Breach, f.number, here)
			return
		}
		if to == f.state {
			return
		}
		moved = true
		w.Edges++
		n := w.number(to, here)
		if w.how.Progress >= CanEnd {
			w.edges = append(w.edges, [2]uint32{f.number, n})
		}
	})
	if w.Violation == nil {
		w.checkEnd(f, moved)
	}
}

func (w *walk[S]) checkEnd(f found[S], moved bool) {
	waits := w.space.Waiting(&f.state)
	if !moved && waits != "" {
		w.violateIn(Stuck, f.number)
		w.Violation.Waits = waits
		return
	}
	if w.how.Progress >= CanEnd && waits == "" {
		w.done = append(w.done, f.number)
	}
}

// number gives a state its number; a new state is checked and joins the front.
func (w *walk[S]) number(s S, by origin) uint32 {
	key := [2]uint64{maphash.Comparable(w.seeds[0], s), maphash.Comparable(w.seeds[1], s)}
	if n, ok := w.seen[key]; ok {
		return n
	}
	n := uint32(w.States)
	w.seen[key] = n
	w.origin = append(w.origin, by)
	w.front = append(w.front, found[S]{n, s})
	w.States++
	if broken := w.space.Broken(&s); broken != "" {
		w.violateIn(broken, n)
	}
	return n
}

// violateIn reports a violation that a state shows.
func (w *walk[S]) violateIn(inv Invariant, state uint32) {
	w.Violation = &Violation[S]{Invariant: inv, Trace: w.trace(w.path(state))}
}

// violate reports a violation that is a step out of a state.
func (w *walk[S]) violate(inv Invariant, state uint32, last origin) {
	w.Violation = &Violation[S]{Invariant: inv, Trace: w.trace(append(w.path(state), last))}
}

// path is how a state was reached from the start.
func (w *walk[S]) path(state uint32) []origin {
	var back []origin
	for n := state; n != 0; n = w.origin[n].from {
		back = append(back, w.origin[n])
	}
	slices.Reverse(back)
	return back
}
