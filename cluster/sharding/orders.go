package sharding

import (
	"maps"
	"slices"
)

// Orders are few: a plan walks all of them, in the order of their shards.

// order is the place of the node where an operator wants the shard, or -1: nowhere, or on
// a node that is gone or leaves.
func (p *planner) order(id ID) int {
	address, given := p.Orders[id]
	if !given {
		return -1
	}
	if i := p.at(address); i >= 0 && !p.Nodes[i].Draining {
		return i
	}
	return -1
}

// ordered is where an operator wants a shard that needs a target, or -1.
func (p *planner) ordered(id ID) int {
	if i := p.order(id); i >= 0 && p.takes[i] {
		return i
	}
	return -1
}

// wanted is the shards that could be moved to where operators want them, and counts
// those that are there, or on their way.
func (p *planner) wanted() []standing {
	var wanted []standing
	for _, id := range slices.Sorted(maps.Keys(p.Orders)) {
		if int(id) >= p.Table.Len() {
			continue
		}
		s, to := p.standing(p.Table.Shard(id)), p.order(id)
		switch {
		case to < 0:
		case s.target == to:
			p.fixed[to]++
		case s.state == Held || s.state == Moving:
			if p.Nodes[to].Age == Steady {
				wanted = append(wanted, s)
			}
		}
	}
	return wanted
}

// obey moves shards to where operators want them, as far as the bound on moves allows.
// One that is on its way elsewhere arrives there first. Those that must wait count as if
// they were there: what is evened out now need not move again then.
func (p *planner) obey(wanted []standing, room []int) []Change {
	var changes []Change
	for _, s := range wanted {
		to := p.order(s.ID)
		p.load[s.target]--
		p.load[to]++
		p.fixed[to]++
		if s.state == Held && room[s.holder] > 0 && room[to] > 0 {
			changes = append(changes, Change{Shard: s.ID, To: p.Nodes[to].Address, Reason: ReasonOrder})
			room[s.holder]--
			room[to]--
		}
	}
	return changes
}
