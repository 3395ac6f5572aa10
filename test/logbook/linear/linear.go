// Package linear gives a second opinion on the histories of logs: whether each is what
// one log could have answered that did one call at a time, each at a moment between its
// beginning and its end. The logbook's own checker is linear in time because it trusts
// the final log; this one searches (with porcupine), and trusts nobody. It looks at a
// history in windows, between moments at which no call was under way, so that a search
// is short.
package linear

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/xiaonanln/goverse/goverseapi"
	"github.com/xiaonanln/goverse/test/logbook"
)

// Call is one call of a log.
type Call struct {
	Append       string   // the id; "" is a read
	Page         []string // what a read was shown
	Fate         Fate
	Length       int64  // Told: of the log after it
	Hash         uint64 // the same
	Began, Ended time.Time
}

// Fate is what is known about an append.
type Fate uint8

const (
	Told     Fate = iota // its caller was told what the log was like after it
	Silent               // it took effect between its beginning and its end, where is not known
	Doubtful             // it took effect at any time after its beginning, or never
)

// Read is a read that was answered.
func Read(began, ended time.Time, page []string) Call {
	return Call{Page: page, Length: int64(len(page)), Hash: logbook.Hash(page), Began: began, Ended: ended}
}

// Histories is the calls of each log.
type Histories map[string][]Call

// Of takes over what the callers of logs were told, without calls that did not run.
func Of(h *logbook.History) Histories {
	all := Histories{}
	h.Each(func(ref string, a logbook.Append) {
		c := Call{Append: a.ID, Began: a.Began, Ended: a.Ended}
		switch {
		case a.Err == nil:
			c.Length, c.Hash = a.Mark.GetLength(), a.Mark.GetHash()
		case goverseapi.OutcomeOf(a.Err) == goverseapi.NotExecuted:
			return
		default:
			c.Fate = Doubtful
		}
		all[ref] = append(all[ref], c)
	})
	return all
}

// Through is the append to another log that an append which ran, or perhaps ran, made on
// its way.
func Through(a logbook.Append, prefix string) Call {
	c := Call{Append: prefix + a.ID, Fate: Silent, Began: a.Began, Ended: a.Ended}
	if a.Err != nil {
		c.Fate = Doubtful
	}
	return c
}

// window is how many calls of a known effect one search is about, at least: it ends with
// the first moment of rest after them.
const window = 64

// Check judges each log's history by itself. A window that takes longer than patience
// is a problem too: a check without an answer is none; 0 waits for ever.
func (h Histories) Check(patience time.Duration) []string {
	var problems []string
	for ref, calls := range h {
		if problem := checkLog(calls, patience); problem != "" {
			problems = append(problems, ref+": "+problem)
		}
	}
	slices.Sort(problems)
	return problems
}

// state is a log's, as far as its answers show it.
type state struct {
	length int64
	hash   uint64
	over   bool // the window's end: what is left has not taken effect in it
}

func checkLog(calls []Call, patience time.Duration) string {
	calls = slices.Clone(calls)
	slices.SortStableFunc(calls, func(a, b Call) int { return a.Began.Compare(b.Began) })
	m := model{shown: shown(calls)}
	for length := range m.shown {
		m.most = max(m.most, length)
	}
	var doubtful []Call
	for len(calls) > 0 {
		sure, doubts, rest := cut(calls)
		calls, doubtful = rest, append(doubtful, doubts...)
		if problem := m.search(sure, doubtful, patience); problem != "" {
			return problem
		}
		for _, c := range sure {
			if c.Fate == Told && c.Length > m.start.length { // what was in doubt may stand behind it, and is tried again
				m.start = state{length: c.Length, hash: c.Hash}
			}
		}
	}
	return ""
}

// cut takes the first window: its calls of a known effect, and the doubtful ones that
// began in it. Where it ends no call of a known effect is under way, and the longest log
// that anybody was shown has in it all that took effect silently.
func cut(calls []Call) (sure, doubts, rest []Call) {
	var ended, silent time.Time
	var top Call
	for i, c := range calls {
		if c.Fate == Doubtful {
			doubts = append(doubts, c)
			continue
		}
		if len(sure) >= window && c.Began.After(ended) && top.Began.After(silent) {
			return sure, doubts, calls[i:]
		}
		sure = append(sure, c)
		ended = later(ended, c.Ended)
		if c.Fate == Silent {
			silent = later(silent, c.Ended)
		} else if c.Length >= top.Length {
			top = c
		}
	}
	return sure, doubts, nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// shown is the hash of each length that somebody was shown. A log only grows, so it has
// each length once: a search need not look at any other state of that length. Of two
// hashes for one length no order can be true, whichever is kept here.
func shown(calls []Call) map[int64]uint64 {
	all := map[int64]uint64{}
	for _, c := range calls {
		if c.Fate == Told {
			all[c.Length] = c.Hash
		}
	}
	pages := slices.DeleteFunc(slices.Clone(calls), func(c Call) bool { return c.Append != "" || c.Length == 0 })
	slices.SortFunc(pages, func(a, b Call) int { return cmp.Compare(b.Length, a.Length) })
	for i, c := range pages {
		if i > 0 && all[c.Length] == c.Hash {
			continue // a longer page had it
		}
		var hash uint64
		for i, id := range c.Page {
			hash = logbook.Extend(hash, id)
			all[int64(i+1)] = hash
		}
	}
	return all
}

// model is what porcupine has to know of a log.
type model struct {
	start state
	shown map[int64]uint64
	most  int64 // the greatest length among them
}

type end struct{} // of a window: a call behind all others

// step says whether a call may be the next one, and what the log is after it.
func (m *model) step(s state, input any) (bool, state) {
	c, ok := input.(Call)
	switch {
	case !ok:
		s.over = true
		return true, s
	case s.over:
		return c.Fate == Doubtful, s
	case c.Append == "":
		return s.length == c.Length && s.hash == c.Hash, s
	}
	s.length, s.hash = s.length+1, logbook.Extend(s.hash, c.Append)
	if c.Fate == Told {
		return s.length == c.Length && s.hash == c.Hash, s
	}
	known, is := m.shown[s.length]
	if !is && c.Fate == Doubtful && s.length > m.most {
		return false, s // nobody has seen it: it may as well be left to the end
	}
	return !is || known == s.hash, s
}

// search looks for an order of a window's calls.
func (m *model) search(sure, doubtful []Call, patience time.Duration) string {
	if len(sure) == 0 {
		return ""
	}
	base := sure[0].Began
	at := func(t time.Time) int64 { return int64(t.Sub(base)) }
	last := slices.MaxFunc(sure, func(a, b Call) int { return a.Ended.Compare(b.Ended) }).Ended
	var history []porcupine.Operation
	for _, c := range sure {
		history = append(history, porcupine.Operation{Input: c, Call: at(c.Began), Return: at(c.Ended)})
	}
	for _, c := range doubtful {
		history = append(history, porcupine.Operation{Input: c, Call: at(c.Began), Return: math.MaxInt64})
	}
	history = append(history, porcupine.Operation{Input: end{}, Call: at(last) + 1, Return: math.MaxInt64})
	start := m.start
	p := porcupine.Model{
		Init: func() any { return start },
		Step: func(s, input, _ any) (bool, any) { return m.step(s.(state), input) },
		Hash: func(s any) uint64 { return s.(state).hash ^ uint64(s.(state).length) },
	}
	switch porcupine.CheckOperationsTimeout(p, history, patience) {
	case porcupine.Ok:
		return ""
	case porcupine.Unknown:
		return fmt.Sprintf("no order of %d calls and %d doubtful ones was found within %v, and none was ruled out", len(sure), len(doubtful), patience)
	}
	return m.explain(p, sure, history, patience)
}

// explain names a call at which the longest order ends that was found.
func (m *model) explain(p porcupine.Model, sure []Call, history []porcupine.Operation, patience time.Duration) string {
	_, info := porcupine.CheckOperationsVerbose(p, history, patience)
	placed := map[string]bool{}
	for _, orders := range info.PartialLinearizationsOperations() {
		slices.SortStableFunc(orders, func(a, b []porcupine.Operation) int { return cmp.Compare(len(a), len(b)) })
		for _, op := range slices.Concat(orders[max(0, len(orders)-1):]...) { // the longest
			if c, ok := op.Input.(Call); ok {
				placed[c.String()] = true
			}
		}
	}
	for _, c := range sure {
		if !placed[c.String()] {
			return fmt.Sprintf("%d calls, from one that began %s, have no order: the longest that was found has no place for %v", len(sure), sure[0].Began.Format(time.StampMicro), c)
		}
	}
	return fmt.Sprintf("%d calls, from one that began %s, have no order", len(sure), sure[0].Began.Format(time.StampMicro))
}

// String implements fmt.Stringer.
func (c Call) String() string {
	when := fmt.Sprintf("%s to %s", c.Began.Format(time.StampMicro), c.Ended.Format(time.StampMicro))
	switch {
	case c.Append == "":
		return fmt.Sprintf("a read of %d entries, %s", c.Length, when)
	case c.Fate == Told:
		return fmt.Sprintf("the append of %s as %d, %s", c.Append, c.Length, when)
	default:
		return fmt.Sprintf("the append of %s, %s", c.Append, when)
	}
}
