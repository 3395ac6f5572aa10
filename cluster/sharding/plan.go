package sharding

import (
	"fmt"
	"slices"
)

// DefaultInFlight is how many shards of one node move at a time.
const DefaultInFlight = 64

// Input is all that a plan depends on.
type Input struct {
	Table *Table
	Nodes Members

	// Balance: shards may also move where nothing is wrong with them.
	Balance bool
	// InFlight bounds, for each node, how many shards move away from or to it at a time
	// because of Balance: DefaultInFlight if zero.
	InFlight int
	// Slow is the shards on their way that do not count as such: their moves take so long
	// that others must not wait for them.
	Slow map[ID]bool
	// Frozen: no shard is taken over. Only those of leaving nodes get another target.
	Frozen bool
	// Orders is where operators want shards to be. One counts while its node lives and
	// does not leave; else the shard is placed like any other.
	Orders map[ID]string
}

// Change is one shard of a plan: it gets another target, or its record is written
// anew.
type Change struct {
	Shard  ID
	To     string
	Reason string // the state that called for it, or one of the reasons below
}

// Reasons of changes beside the name of a State.
const (
	ReasonBalance = "balance" // another node has fewer
	ReasonLeaving = "leaving" // its holder is leaving
	ReasonDamaged = "damaged" // its record makes no sense
	ReasonOrder   = "order"   // an operator wants it there
)

// String is the change in a line.
func (c Change) String() string { return fmt.Sprintf("%04d to %s: %s", c.Shard, c.To, c.Reason) }

// Plan says which shards need another target. It is deterministic, and after its
// changes it has none, until a shard has moved or a node changed.
//
// First it repairs: every shard gets a target that lives and takes shards, and one
// whose target does is not touched. Shards that never had a target are dealt: shard i
// goes to node i mod n of the sorted nodes. A lost shard, or one of a leaving node,
// stays where it still runs if it can, else goes to the node with the fewest.
//
// Only where there is nothing to repair it carries out orders, and balances: shards go
// from the nodes with the most to those with the fewest until they differ by one at most,
// each of them once, and no more of them than have to. What stands where an operator
// wants it does not go; the others are evened out around it.
func Plan(in Input) []Change {
	p := newPlanner(in)
	if len(p.open) == 0 {
		return nil
	}
	changes := p.repair()
	if len(changes) == 0 && in.Balance && !in.Frozen {
		changes = p.improve()
	}
	return changes
}

// planner is a plan in the making. Nodes are places in nodes.
type planner struct {
	Input
	place map[string]int // address → place
	takes []bool         // the node is given shards
	open  []int          // those that are, sorted by address
	load  []int          // how many shards a node is to hold, as planned so far
	fixed []int          // and how many of them an order keeps there
}

func newPlanner(in Input) *planner {
	n := len(in.Nodes)
	p := &planner{Input: in, place: make(map[string]int, n), takes: make([]bool, n), load: make([]int, n), fixed: make([]int, n)}
	ready := func(m Member) bool { return !m.Draining }
	reliable := func(m Member) bool { return !m.Draining && m.Age != Flapping }
	takes := ready
	if slices.ContainsFunc(in.Nodes, reliable) {
		takes = reliable
	}
	for i, m := range in.Nodes {
		p.place[m.Address] = i
		if p.takes[i] = takes(m); p.takes[i] {
			p.open = append(p.open, i)
		}
	}
	return p
}

// at is the place of a node, or -1 if none lives at address.
func (p *planner) at(address string) int {
	if i, ok := p.place[address]; ok {
		return i
	}
	return -1
}

// standing is a shard as a plan sees it.
type standing struct {
	*Shard
	state  State
	target int // the place of the target, or -1
	holder int // the place of the node that runs it, or -1
}

func (p *planner) standing(s *Shard) standing {
	st := standing{Shard: s, target: p.at(s.Target), holder: p.at(s.Current)}
	if st.holder >= 0 && p.Nodes[st.holder].Registration != s.Registration {
		st.holder = -1
	}
	st.state = s.derive(st.target >= 0, st.holder >= 0)
	return st
}

// repair gives a target to every shard that has none that will do.
func (p *planner) repair() []Change {
	var changes, lost []Change // a lost shard's new target depends on all the others
	for _, shard := range p.Table.All() {
		s := p.standing(shard)
		change := Change{Shard: s.ID, To: s.Target}
		place := s.target
		switch p.verdict(s) {
		case lose:
			change.Reason = s.state.String()
			if s.state == Held {
				change.Reason = ReasonLeaving
			}
			if place = p.ordered(s.ID); place < 0 {
				lost = append(lost, change)
				continue
			}
			p.load[place]++
			change.To = p.Nodes[place].Address
			changes = append(changes, change)
			continue
		case deal:
			if place = p.ordered(s.ID); place < 0 {
				place = p.open[int(s.ID)%len(p.open)]
			}
		case stay:
			place = s.holder
		}
		if place < 0 {
			continue // frozen
		}
		p.load[place]++
		switch change.To = p.Nodes[place].Address; {
		case change.To != s.Target:
			change.Reason = s.state.String()
			changes = append(changes, change)
		case s.Damaged:
			change.Reason = ReasonDamaged
			changes = append(changes, change)
		}
	}
	return append(changes, p.spread(lost)...)
}

// verdict is what a plan does with the target of a shard.
type verdict uint8

const (
	keep verdict = iota // it has one that will do, or must wait
	deal                // it never had one
	stay                // it runs on a node that may keep it
	lose                // another must take it
)

func (p *planner) verdict(s standing) verdict {
	fine := s.target >= 0 && p.takes[s.target]
	staying := s.holder >= 0 && !p.Nodes[s.holder].Draining
	switch {
	case s.state == Held && staying:
		return keep // even on a node that would be given no more
	case staying && !fine:
		return stay
	case p.Frozen && s.holder < 0:
		return keep
	case s.state == Unassigned:
		return deal
	case !fine:
		return lose
	}
	return keep
}

// spread gives each lost shard to the node that has the fewest. A young node counts as
// if it had its share already, so that of what is lost it gets no more than the others:
// it may be gone again in a moment.
func (p *planner) spread(lost []Change) []Change {
	if len(lost) == 0 {
		return nil
	}
	load := slices.Clone(p.load)
	steady, held := 0, 0
	for _, i := range p.open {
		if p.Nodes[i].Age == Steady {
			steady, held = steady+1, held+load[i]
		}
	}
	for _, i := range p.open {
		if p.Nodes[i].Age != Steady && steady > 0 {
			load[i] = max(load[i], held/steady)
		}
	}
	for n := range lost {
		best := p.open[0]
		for _, i := range p.open[1:] {
			if load[i] < load[best] {
				best = i
			}
		}
		load[best]++
		lost[n].To = p.Nodes[best].Address
	}
	return lost
}

// improve moves what runs where nothing is wrong with it.
func (p *planner) improve() []Change {
	wanted := p.wanted()
	if len(wanted) == 0 && p.scales().balanced(p) {
		return nil
	}
	held, room := p.movable()
	changes := p.obey(wanted, room)
	return append(changes, p.balance(held, room)...)
}

// balance moves what is held from nodes that have too many to nodes that have too few,
// as far as the bound on moves allows: the fullest and the emptiest first, and from one to
// the other all that it can, because shards that leave one node for one other together
// cost one transaction.
func (p *planner) balance(held [][]ID, room []int) []Change {
	scales := p.scales()
	var changes []Change
	for from, to := -1, -1; ; {
		many, few := scales.bounds(p)
		gives := func(i int) bool { return room[i] > 0 && len(held[i]) > 0 && scales.gives(p, i, many) }
		takes := func(i int) bool { return room[i] > 0 && p.load[i] < few && !scales.laden[i] }
		if from < 0 || !gives(from) || !takes(to) {
			from, to = -1, -1
			for _, i := range scales.all {
				if gives(i) && (from < 0 || p.load[i] > p.load[from]) {
					from = i
				}
				if takes(i) && (to < 0 || p.load[i] < p.load[to]) {
					to = i
				}
			}
		}
		if from < 0 || to < 0 {
			return changes
		}
		changes = append(changes, Change{Shard: held[from][0], To: p.Nodes[to].Address, Reason: ReasonBalance})
		held[from] = held[from][1:]
		p.load[from]--
		p.load[to]++
		room[from]--
		room[to]--
	}
}

// group is the nodes among which all is to be even: those that are there to stay, and
// of the others those that have more than they, and so only give.
func (p *planner) group() []int {
	var group, rest []int
	total := 0
	for i, m := range p.Nodes {
		switch {
		case m.Draining:
		case m.Age == Steady:
			group, total = append(group, i), total+p.load[i]
		default:
			rest = append(rest, i)
		}
	}
	if len(group) == 0 {
		return nil
	}
	slices.SortStableFunc(rest, func(a, b int) int { return p.load[b] - p.load[a] })
	for _, i := range rest {
		if p.load[i] > total/len(group) {
			group, total = append(group, i), total+p.load[i]
		}
	}
	slices.Sort(group)
	return group
}

// movable is, for each node, the shards that may leave it, and how many may begin to move
// from it or to it. Where more than half of the bound is on its way none may: else each
// shard that arrives would call for a plan of its own.
func (p *planner) movable() (held [][]ID, room []int) {
	limit := p.InFlight
	if limit == 0 {
		limit = DefaultInFlight
	}
	held, room = make([][]ID, len(p.Nodes)), make([]int, len(p.Nodes))
	for i := range room {
		room[i] = limit
	}
	for _, shard := range p.Table.All() {
		switch s := p.standing(shard); s.state {
		case Held:
			if p.order(s.ID) < 0 {
				held[s.holder] = append(held[s.holder], s.ID)
			}
		case Moving:
			if !p.Slow[s.ID] {
				room[s.holder]--
				room[s.target]--
			}
		}
	}
	for i := range room {
		if limit-room[i] > limit/2 {
			room[i] = 0
		}
	}
	return held, room
}
