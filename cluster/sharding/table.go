package sharding

import (
	"errors"
	"fmt"
	"strings"
)

// Table is all shards at one moment. It is immutable and may be read concurrently.
type Table struct {
	shards []*Shard
}

// NewTable is a table of n shards that have no record yet.
func NewTable(n int) *Table {
	t := &Table{shards: make([]*Shard, n)}
	blank := make([]Shard, n)
	for i := range t.shards {
		blank[i].ID = ID(i)
		t.shards[i] = &blank[i]
	}
	return t
}

// Len is the number of shards.
func (t *Table) Len() int { return len(t.shards) }

// Shard is the record of one shard of the table.
func (t *Table) Shard(id ID) *Shard { return t.shards[id] }

// All is every record, in order. It must not be changed.
func (t *Table) All() []*Shard { return t.shards }

// With is the table with some records replaced. Each must be of a shard of the table.
func (t *Table) With(changes ...*Shard) *Table {
	if len(changes) == 0 {
		return t
	}
	next := &Table{shards: make([]*Shard, len(t.shards))}
	copy(next.shards, t.shards)
	for _, s := range changes {
		next.shards[s.ID] = s
	}
	return next
}

// Check verifies what is true of every table: records stand in their place and a
// holder has a registration and an epoch.
func (t *Table) Check() error {
	var problems []error
	for i, s := range t.shards {
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
	for _, s := range t.shards {
		c.States[s.State(alive)]++
		if s.Damaged {
			c.Damaged++
		}
	}
	return c
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
