package sharding

import "cmp"

// Input is all that a plan depends on.
type Input struct {
	Table *Table
	Nodes Members
}

// Change is one shard of a plan: it gets another target, or its record is written
// anew.
type Change struct {
	Shard  ID
	To     string
	Reason State // the state that called for it
}

// Plan says which shards need another target so that each has one that lives and
// takes shards. It repairs and nothing else: a shard whose target lives is not
// touched. It is deterministic, and after its changes it has none.
//
// Shards that never had a target are dealt: shard i goes to node i mod n of the
// sorted nodes. A lost shard stays where it still runs, else goes to the node with
// the fewest.
func Plan(in Input) []Change {
	ready := in.ready()
	if len(ready) == 0 {
		return nil
	}
	var changes, lost []Change // a lost shard's new target depends on all the others
	for _, s := range in.Table.shards {
		switch state := s.State(in.Nodes); {
		case state == Unassigned:
			changes = append(changes, Change{Shard: s.ID, To: ready[int(s.ID)%len(ready)].Address, Reason: state})
		case state == Adrift && in.takes(s.Current) && in.Nodes.Registered(s.Current, s.Registration):
			changes = append(changes, Change{Shard: s.ID, To: s.Current, Reason: state})
		case state == Adrift, state != Held && state != Moving && !in.takes(s.Target):
			lost = append(lost, Change{Shard: s.ID, Reason: state})
		case s.Damaged:
			changes = append(changes, Change{Shard: s.ID, To: s.Target, Reason: state})
		}
	}
	if len(lost) == 0 {
		return changes
	}
	load := in.load(changes)
	for _, c := range lost {
		c.To = least(ready, load)
		load[c.To]++
		changes = append(changes, c)
	}
	return changes
}

// ready is the nodes that take shards, sorted.
func (in Input) ready() Members {
	var ready Members
	for _, n := range in.Nodes {
		if !n.Draining {
			ready = append(ready, n)
		}
	}
	return ready
}

func (in Input) takes(address string) bool {
	n, ok := in.Nodes.Find(address)
	return ok && !n.Draining
}

// load is how many shards each node is to hold, with the changes.
func (in Input) load(changes []Change) map[string]int {
	load := map[string]int{}
	for _, c := range changes {
		load[c.To]++
	}
	for _, s := range in.Table.shards {
		if in.takes(s.Target) {
			load[s.Target]++
		}
	}
	for _, c := range changes { // those that only had their record written anew
		if s := in.Table.Shard(c.Shard); in.takes(s.Target) {
			load[s.Target]--
		}
	}
	return load
}

func least(ready Members, load map[string]int) string {
	best := ready[0].Address
	for _, n := range ready[1:] {
		if cmp.Less(load[n.Address], load[best]) {
			best = n.Address
		}
	}
	return best
}
