package consensusmanager

import (
	"maps"
	"slices"
	"time"

	"github.com/xiaonanln/goverse/cluster/sharding"
)

// life is what this process saw of the nodes at one address, by its own clock. What it
// counts is each node's alone: that others come and go changes nothing.
type life struct {
	registration string
	since        time.Time
	ended        time.Time     // zero: it lives
	before       time.Duration // how long the one before lived that was lost here; 0: none was
	leaving      bool          // it had said that it leaves
}

// memory is for how long an address is remembered at which nobody lives.
const memory = 10 * time.Minute

// lost is how long the node lived before it was lost; 0 if it left of its own accord.
func (l life) lost() time.Duration {
	if l.ended.IsZero() || l.leaving {
		return 0
	}
	return max(1, l.ended.Sub(l.since))
}

// livesAfter is the lives once the members are next and no longer old.
func livesAfter(lives map[string]life, old, next sharding.Members, now time.Time) map[string]life {
	lives = maps.Clone(lives)
	if lives == nil {
		lives = map[string]life{}
	}
	for _, m := range old {
		if l := lives[m.Address]; l.registration == m.Registration && !next.Registered(m.Address, m.Registration) {
			l.ended, l.leaving = now, m.Draining
			lives[m.Address] = l
		}
	}
	for _, m := range next {
		if l := lives[m.Address]; l.registration != m.Registration {
			lives[m.Address] = life{registration: m.Registration, since: now, before: l.lost()}
		}
	}
	maps.DeleteFunc(lives, func(_ string, l life) bool { return !l.ended.IsZero() && now.Sub(l.ended) > memory })
	return lives
}

// aged is the members with their ages, if it takes stability to be steady.
func (v *View) aged(stability time.Duration, now time.Time) sharding.Members {
	members := slices.Clone(v.members)
	for i := range members {
		members[i].Age = v.lives[members[i].Address].age(stability, now)
	}
	return members
}

func (l life) age(stability time.Duration, now time.Time) sharding.Age {
	switch {
	case now.Sub(l.since) >= stability:
		return sharding.Steady
	case l.before > 0 && l.before < 2*stability: // a dead node seems to live until its lease ends
		return sharding.Flapping
	}
	return sharding.Young
}

// steadyBy is when n of the ready nodes will have been there for the stability delay,
// if they stay; n must not be more than there are.
func (v *View) steadyBy(n int, stability time.Duration) time.Time {
	var since []time.Time
	for _, m := range v.members {
		if !m.Draining {
			since = append(since, v.lives[m.Address].since)
		}
	}
	slices.SortFunc(since, time.Time.Compare)
	return since[n-1].Add(stability)
}

// nextSteady is when the next young node is there for the stability delay; the zero
// time if there is none.
func (v *View) nextSteady(members sharding.Members, stability time.Duration) time.Time {
	var next time.Time
	for _, m := range members {
		due := v.lives[m.Address].since.Add(stability)
		if !m.Draining && m.Age != sharding.Steady && (next.IsZero() || due.Before(next)) {
			next = due
		}
	}
	return next
}
