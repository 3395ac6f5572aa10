package census

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/xiaonanln/goverse/internal/peer"
)

// Clock is how far the clock of a node or a gate is ahead of this machine's: From at least
// and To at most. They are negative where it is behind. How far they are apart is the time
// that was on the way when it was asked for: nobody knows how much of that was there and
// how much back.
type Clock struct {
	Address  string
	Gate     bool
	From, To time.Duration
}

// Middle is the most likely value, and Error what it may be off by.
func (c Clock) Middle() time.Duration { return c.From + c.Error() }

// Error is half of what From and To are apart.
func (c Clock) Error() time.Duration { return (c.To - c.From) / 2 }

// Since is c as seen by another clock.
func (c Clock) Since(other Clock) Clock {
	c.From, c.To = c.From-other.To, c.To-other.From
	return c
}

// Surely is what the clocks differ by at the least, whatever the way took.
func (c Clock) Surely() time.Duration { return max(c.From, -c.To, 0) }

// Clocks is what the answers of a Survey tell of the clocks of those that answered, and of
// the gates that have reported to them lately, by address. Nodes and gates of earlier
// versions do not tell.
func Clocks(answers []Answer) []Clock {
	by := map[string]Clock{}
	keep := func(c Clock) {
		if known, ok := by[c.Address]; !ok || c.Error() < known.Error() {
			by[c.Address] = c
		}
	}
	for _, a := range answers {
		if a.Survey == nil {
			continue
		}
		if now := a.Survey.Now; !now.IsZero() {
			keep(a.clock(now))
		}
		for _, g := range a.Survey.Gates {
			if g.Now.IsZero() {
				continue
			}
			c := a.clock(g.Now.Add(g.Ago))
			c.Address, c.Gate, c.To = g.Address, true, c.To+peer.ReportPatience // for the way to the node
			keep(c)
		}
	}
	list := make([]Clock, 0, len(by))
	for _, c := range by {
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b Clock) int { return strings.Compare(a.Address, b.Address) })
	return list
}

// clock is one that showed now at some moment between the question and the answer.
func (a Answer) clock(now time.Time) Clock {
	ahead := now.Round(0).Sub(a.Asked.Round(0)) // by what both say: this process has its own way of counting
	return Clock{Address: a.Address, From: ahead - a.Took, To: ahead}
}

// Median is the clock that as many others are ahead of as behind, more or less.
func Median(clocks []Clock) Clock {
	sorted := slices.Clone(clocks)
	slices.SortStableFunc(sorted, func(a, b Clock) int { return cmp.Compare(a.Middle(), b.Middle()) })
	return sorted[(len(sorted)-1)/2]
}
