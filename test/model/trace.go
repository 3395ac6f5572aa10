package model

import (
	"fmt"
	"strings"
)

// Violation is an invariant and a shortest way to break it.
type Violation[S State] struct {
	Invariant Invariant
	Trace     Trace[S]
	Waits     string // of a state that is Stuck: what waits there
}

func (v *Violation[S]) String() string {
	what := string(v.Invariant)
	if v.Waits != "" {
		what += ": " + v.Waits
	}
	return fmt.Sprintf("VIOLATION in %d steps: %s\n%s", len(v.Trace), what, v.Trace)
}

// Trace is a run of the protocol from its start.
type Trace[S State] []Moment[S]

// Moment is a step and the state after it.
type Moment[S State] struct {
	Step  Step
	State S
}

// String is a line for each step: its number, who did what, and the state after it
// where that differs from the one before.
func (t Trace[S]) String() string {
	var b strings.Builder
	for i, m := range t {
		fmt.Fprintf(&b, "%4d  %-44s  ", i+1, m.Step)
		if i == 0 || m.State != t[i-1].State {
			b.WriteString(m.State.String())
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// trace replays a path: the search keeps which step was taken, not where it led.
func (w *walk[S]) trace(path []origin) Trace[S] {
	t := make(Trace[S], 0, len(path))
	state := w.space.Start()
	for _, p := range path {
		m := replay(w.space, state, p.ordinal)
		t = append(t, m)
		state = m.State
	}
	return t
}

func replay[S State](space Space[S], from S, ordinal uint16) (m Moment[S]) {
	i := uint16(0)
	space.Next(from, func(step Step, to S) {
		if i == ordinal {
			m = Moment[S]{step, to}
		}
		i++
	})
	return m
}
