package sharding

import (
	"errors"
	"fmt"
	"iter"
	"strings"
)

// Table is all shards at one moment. It is immutable and may be read concurrently. A
// table that was made of another shares with it what did not change, so that With and
// Changed cost as much as changed, not as much as there is.
type Table struct {
	n     int
	pages []*page
}

// pageSize is how many records are copied for one that changes: few, because one
// transaction changes records all over the table.
const pageSize = 16

type page [pageSize]*Shard

// NewTable is a table of n shards that have no record yet.
func NewTable(n int) *Table {
	t := &Table{n: n, pages: make([]*page, (n+pageSize-1)/pageSize)}
	blank := make([]Shard, n)
	pages := make([]page, len(t.pages))
	for i := range blank {
		blank[i].ID = ID(i)
		pages[i/pageSize][i%pageSize] = &blank[i]
	}
	for i := range pages {
		t.pages[i] = &pages[i]
	}
	return t
}

// Len is the number of shards.
func (t *Table) Len() int { return t.n }

// Shard is the record of one shard of the table.
func (t *Table) Shard(id ID) *Shard { return t.pages[id/pageSize][id%pageSize] }

// All is every record with its place, in order.
func (t *Table) All() iter.Seq2[int, *Shard] {
	return func(yield func(int, *Shard) bool) {
		for i, p := range t.pages {
			for k, s := range p[:t.on(i)] {
				if !yield(i*pageSize+k, s) {
					return
				}
			}
		}
	}
}

// on is how many records page i has.
func (t *Table) on(i int) int { return min(pageSize, t.n-i*pageSize) }

// With is the table with some records replaced. Each must be of a shard of the table.
func (t *Table) With(changes ...*Shard) *Table {
	if len(changes) == 0 {
		return t
	}
	next := &Table{n: t.n, pages: make([]*page, len(t.pages))}
	copy(next.pages, t.pages)
	for _, s := range changes {
		i := s.ID / pageSize
		if next.pages[i] == t.pages[i] {
			mine := *t.pages[i]
			next.pages[i] = &mine
		}
		next.pages[i][s.ID%pageSize] = s
	}
	return next
}

// Changed is the shards whose records are not those of an earlier table, in order: all
// of them if that is nil or of another size.
func (t *Table) Changed(since *Table) iter.Seq[ID] {
	return func(yield func(ID) bool) {
		for i, p := range t.pages {
			var was *page
			if since != nil && since.n == t.n {
				was = since.pages[i]
			}
			if was == p {
				continue
			}
			for k, s := range p[:t.on(i)] {
				if (was == nil || was[k] != s) && !yield(ID(i*pageSize+k)) {
					return
				}
			}
		}
	}
}

// Check verifies what is true of every table: records stand in their place and a
// holder has a registration and an epoch.
func (t *Table) Check() error {
	var problems []error
	for i, s := range t.All() {
		if s.ID != ID(i) {
			problems = append(problems, fmt.Errorf("shard %d stands in place %d", s.ID, i))
		}
		problems = append(problems, s.valid())
	}
	return errors.Join(problems...)
}

// Census counts shards by State, and how many records are damaged.
type Census struct {
	States  [numStates]int
	Damaged int
}

// Census derives the state of every shard.
func (t *Table) Census(alive Members) Census {
	var c Census
	for _, s := range t.All() {
		c.count(s, alive, 1)
	}
	return c
}

// CensusAfter is Census, counted on from that of an earlier table of the same size with
// the same members.
func (t *Table) CensusAfter(since *Table, was Census, alive Members) Census {
	for id := range t.Changed(since) {
		was.count(since.Shard(id), alive, -1)
		was.count(t.Shard(id), alive, 1)
	}
	return was
}

func (c *Census) count(s *Shard, alive Members, n int) {
	c.States[s.State(alive)] += n
	if s.Damaged {
		c.Damaged += n
	}
}

// Untargeted is how many shards wait for the leader.
func (c Census) Untargeted() int { return c.States[Unassigned] + c.States[Adrift] }

// Served is how many shards have a live holder that is to keep or to pass them on.
func (c Census) Served() int { return c.States[Held] + c.States[Moving] }

// String lists the states that occur.
func (c Census) String() string {
	var parts []string
	for s, n := range c.States {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %v", n, State(s)))
		}
	}
	if c.Damaged > 0 {
		parts = append(parts, fmt.Sprintf("%d damaged", c.Damaged))
	}
	return strings.Join(parts, ", ")
}
