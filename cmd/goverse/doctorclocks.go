package main

import (
	"slices"
	"strings"
	"time"

	"github.com/xiaonanln/goverse/cluster/census"
	"github.com/xiaonanln/goverse/cluster/diagnosis"
)

// How far clocks may differ before a person should hear of it, and before calls fail.
const (
	clocksApart = time.Second
	clocksWrong = 30 * time.Second
)

const setClocks = "have it set by NTP (chronyc tracking and timedatectl say whether it is): ids of calls expire by the clock, tokens and certificates are good by it"

// clocks judges whether the clocks of nodes, gates and this machine agree. gates is those
// that should be among them.
func (x *examination) clocks(answers []census.Answer, gates []string) {
	told := census.Clocks(answers)
	x.untold(answers, gates, told)
	if len(told) == 0 {
		return
	}
	all := append([]census.Clock{{}}, told...) // this machine's first, which has no address
	usual, within, agree := census.Median(all), time.Duration(0), true
	for _, c := range all {
		apart := c.Since(usual)
		within = max(within, apart.To, -apart.From)
		judge := x.note
		switch surely := apart.Surely(); {
		case surely <= clocksApart:
			continue
		case surely > clocksWrong:
			judge = x.wrong
		}
		agree = false
		ahead, by := "ahead of", apart.Middle()
		if by < 0 {
			ahead, by = "behind", -by
		}
		judge("clocks", setClocks, "%s is %v (± %v) %s %s", clockOf(c), rounded(by), rounded(apart.Error()), ahead, clockOf(usual))
	}
	if agree {
		x.well("clocks", "%s and this machine's differ from each other by %v at most", diagnosis.Some(len(told), "clock"), rounded(within))
	}
}

// untold names whose clock is not known although they are there.
func (x *examination) untold(answers []census.Answer, gates []string, told []census.Clock) {
	var silent []string
	missing := func(address string) bool {
		return !slices.ContainsFunc(told, func(c census.Clock) bool { return c.Address == address })
	}
	for _, a := range answers {
		if a.Err == nil && missing(a.Address) {
			silent = append(silent, a.Address)
		}
	}
	for _, g := range gates {
		if missing(g) {
			silent = append(silent, g)
		}
	}
	if len(silent) > 0 {
		x.note("clocks", "ask again: a gate tells it within 5 s of its start; those of an earlier version never do, update them", "not told by %s", strings.Join(silent, ", "))
	}
}

// clockOf names a clock.
func clockOf(c census.Clock) string {
	switch {
	case c.Address == "":
		return "this machine's clock"
	case c.Gate:
		return "the clock of the gate " + c.Address
	}
	return "the clock of the node " + c.Address
}

// rounded is a time that is of use to people: milliseconds are enough, and of long ones
// tenths of a second.
func rounded(d time.Duration) time.Duration {
	if d >= 10*time.Second {
		return d.Round(100 * time.Millisecond)
	}
	return (d + time.Millisecond - 1).Truncate(time.Millisecond)
}
