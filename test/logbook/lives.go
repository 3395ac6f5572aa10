package logbook

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Pause is a time in which a process did not run, because it was stopped.
type Pause struct {
	PID      int
	From, To Moment
}

// Lives is what is needed beside the journals to judge whether any object lived twice.
type Lives struct {
	Pauses []Pause
	Deaths map[int]Moment               // of processes: what they had begun ended there
	Well   func(ref, entry string) bool // whether somebody was told that an append went well
}

// gap is how long after a pause a process may do what it had checked before it: no
// program can ask whether it may go on and go on in one step.
const gap = 20 * time.Millisecond

// Check finds appends of one log that ran at overlapping times, and activations that
// ran after a later one of the same log had. The rest of an append that a pause caught
// in the middle does not count, unless it was answered.
func (l Lives) Check(executions []Execution) []string {
	byRef := map[string][]Execution{}
	for _, e := range executions {
		if e.Ended == 0 {
			e.Ended = max(e.Began, l.Deaths[e.PID])
		}
		byRef[e.Ref] = append(byRef[e.Ref], e)
	}
	var problems []string
	for _, list := range byRef {
		problems = append(problems, l.checkOne(list)...)
	}
	slices.Sort(problems)
	return problems
}

func (l Lives) checkOne(list []Execution) []string {
	slices.SortStableFunc(list, func(a, b Execution) int { return cmp.Compare(a.Began, b.Began) })
	var problems []string
	over := map[string]Execution{} // by activation, whose time is over: who came after it
	var last Execution             // which of those so far ended last, without what is excused
	var current string
	for _, e := range list {
		if heir, is := over[e.Activation]; is {
			if !l.excused(e) {
				problems = append(problems, fmt.Sprintf("%v ran %v after %v, whose activation is newer", e, e.Began.After(heir.Began), heir))
			}
			continue
		}
		if e.Activation != current && current != "" {
			over[current] = e
		}
		current = e.Activation
		if e.Began < last.Ended {
			problems = append(problems, fmt.Sprintf("%v began %v before the end of %v", e, last.Ended.After(e.Began), last))
		}
		if l.excused(e) {
			e.Ended = e.Began // it stood still when the pause began; what came after does not count
		}
		if e.Ended >= last.Ended {
			last = e
		}
	}
	return problems
}

// excused says that an execution was caught by a pause, and nobody was told that it
// went well.
func (l Lives) excused(e Execution) bool {
	return !l.Well(e.Ref, e.Entry) && slices.ContainsFunc(l.Pauses, func(p Pause) bool {
		return p.PID == e.PID && e.Ended >= p.From && e.Began <= p.To+Moment(gap)
	})
}

// String implements fmt.Stringer.
func (e Execution) String() string {
	return fmt.Sprintf("%s %s of process %d (%s)", e.Ref, e.Entry, e.PID, e.Activation)
}
