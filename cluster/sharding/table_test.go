package sharding

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// A table is what a plain list would be, whatever it shares with those before it; what it
// says has changed has, and its count goes on from any of theirs.
func TestTableSharesAndTells(t *testing.T) {
	alive := Members{{Address: "a", Registration: "a1"}, {Address: "b", Registration: "b1"}}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 3*pageSize+1).Draw(t, "shards")
		tables, lists := []*Table{NewTable(n)}, [][]*Shard{nil}
		for _, s := range tables[0].All() {
			lists[0] = append(lists[0], s)
		}
		for range rapid.IntRange(0, 6).Draw(t, "steps") {
			from := rapid.IntRange(0, len(tables)-1).Draw(t, "from")
			list := slices.Clone(lists[from])
			var changes []*Shard
			for range rapid.IntRange(0, min(n, 5)).Draw(t, "changes") {
				s := &Shard{ID: ID(rapid.IntRange(0, n-1).Draw(t, "id")), Epoch: 1, Target: "b", Damaged: rapid.Bool().Draw(t, "damaged")}
				if rapid.Bool().Draw(t, "held") {
					s.Current, s.Registration = "a", "a1"
				}
				changes, list[s.ID] = append(changes, s), s
			}
			tables, lists = append(tables, tables[from].With(changes...)), append(lists, list)
		}
		for i, table := range tables {
			if why := differs(table, lists[i]); why != "" {
				t.Fatal(why)
			}
			for k, since := range tables {
				var want []ID
				for id := range lists[i] {
					if lists[i][id] != lists[k][id] {
						want = append(want, ID(id))
					}
				}
				if got := slices.Collect(table.Changed(since)); !slices.Equal(got, want) {
					t.Fatalf("changed since are %v, want %v", got, want)
				}
				if got := table.CensusAfter(since, since.Census(alive), alive); got != table.Census(alive) {
					t.Fatalf("counted on %+v, counted anew %+v", got, table.Census(alive))
				}
			}
			for _, none := range []*Table{nil, NewTable(n + 1)} {
				if got := slices.Collect(table.Changed(none)); len(got) != n {
					t.Fatalf("%d of %d shards have changed since there was no such table", len(got), n)
				}
			}
		}
	})
}

func differs(t *Table, list []*Shard) string {
	if t.Len() != len(list) {
		return fmt.Sprintf("%d shards, want %d", t.Len(), len(list))
	}
	next := 0
	for i, s := range t.All() {
		if i != next || s != list[i] || t.Shard(ID(i)) != s {
			return fmt.Sprintf("in place %d is %v at %d, want %v", next, s, i, list[next])
		}
		next++
	}
	if next != len(list) {
		return fmt.Sprintf("%d of %d shards were listed", next, len(list))
	}
	return ""
}

// A table is listed as far as asked for.
func TestTableStopsWhenAsked(t *testing.T) {
	table := NewTable(2 * pageSize)
	for i := range table.All() {
		if i == 3 {
			break
		}
	}
	for id := range table.Changed(nil) {
		if id == 3 {
			break
		}
	}
}

// What moves to even out moves in few plans and in few transactions: a node is topped up
// when half of its bound is free again, and from one node to the same other.
func TestBalanceMovesInBatches(t *testing.T) {
	c := newCluster(900)
	c.rules = Input{Balance: true, InFlight: 20}
	for _, n := range []string{"a", "b", "c"} {
		c.join(n)
	}
	c.apply(c.plan())
	for _, n := range []string{"a", "b", "c"} {
		c.claim(n)
	}
	c.join("d")
	plans, pairs, moved := 0, 0, 0
	for step := 0; ; step++ {
		if changes := c.plan(); len(changes) > 0 {
			from := map[string]bool{}
			for _, change := range changes {
				from[c.table.Shard(change.Shard).Current] = true
			}
			plans, pairs, moved = plans+1, pairs+len(from), moved+len(changes)
			c.apply(changes)
		}
		next := slices.Collect(func(yield func(ID) bool) {
			for _, s := range c.table.All() {
				if s.State(c.nodes) == Moving && !yield(s.ID) {
					return
				}
			}
		})
		if len(next) == 0 {
			break
		}
		to, _ := c.nodes.Find("d") // the slowest way: one after the other
		c.write(c.table.Shard(next[step%len(next)]).HandedTo(to.Address, to.Registration, "h"))
	}
	if least, most := spread(c); moved != 225 || most-least > 1 {
		t.Errorf("%d shards moved; nodes have %d to %d", moved, least, most)
	}
	if plans > 225/10 || pairs > plans+3 {
		t.Errorf("%d plans, from %d nodes to one, for %d shards", plans, pairs, moved)
	}
}
