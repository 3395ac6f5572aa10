package sharding

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"pgregory.net/rapid"
)

// cluster is a table and its members as the transcripts speak of them. A node's
// registration counts its births.
type cluster struct {
	table  *Table
	nodes  Members
	births map[string]int
	rules  Input // without table and nodes
}

func newCluster(n int) *cluster { return &cluster{table: NewTable(n), births: map[string]int{}} }

func (c *cluster) join(address string) {
	c.births[address]++
	c.nodes = append(c.nodes, Member{Address: address, Registration: fmt.Sprintf("%s%d", address, c.births[address])})
	slices.SortFunc(c.nodes, func(a, b Member) int { return strings.Compare(a.Address, b.Address) })
}

func (c *cluster) fail(address string) {
	c.nodes = slices.DeleteFunc(c.nodes, func(m Member) bool { return m.Address == address })
}

func (c *cluster) drain(address string) {
	for i := range c.nodes {
		c.nodes[i].Draining = c.nodes[i].Draining || c.nodes[i].Address == address
	}
}

func (c *cluster) age(address string, age Age) {
	for i := range c.nodes {
		if c.nodes[i].Address == address {
			c.nodes[i].Age = age
		}
	}
}

func (c *cluster) plan() []Change { return Plan(c.input()) }

func (c *cluster) input() Input {
	in := c.rules
	in.Table, in.Nodes = c.table, c.nodes
	return in
}

func (c *cluster) apply(changes []Change) {
	var next []Shard
	for _, change := range changes {
		next = append(next, c.table.Shard(change.Shard).Targeted(change.To))
	}
	c.write(next...)
}

// write is what etcd and the view do to records.
func (c *cluster) write(next ...Shard) {
	var d Decoder
	written := make([]*Shard, len(next))
	for i := range next {
		s, err := d.Decode(next[i].ID, next[i].Encode("0"))
		if err != nil {
			panic(err)
		}
		written[i] = s
	}
	c.table = c.table.With(written...)
}

// hand lets a node pass on what is to go to others.
func (c *cluster) hand(address string) {
	var next []Shard
	for _, s := range c.table.All() {
		if s.Current == address && s.State(c.nodes) == Moving {
			to, _ := c.nodes.Find(s.Target)
			next = append(next, s.HandedTo(to.Address, to.Registration, "h"))
		}
	}
	c.write(next...)
}

// claim lets a node take up all that it may.
func (c *cluster) claim(address string) {
	var next []Shard
	m, _ := c.nodes.Find(address)
	for _, s := range c.table.All() {
		if s.Target != address {
			continue
		}
		if state := s.State(c.nodes); state == Assigned || state == Orphaned {
			next = append(next, s.Claimed(address, m.Registration))
		}
	}
	c.write(next...)
}

func (c *cluster) release(address string) {
	for _, s := range c.table.All() {
		if s.Current == address {
			c.write(s.Released())
		}
	}
}

func (c *cluster) String() string {
	var b strings.Builder
	for _, s := range c.table.All() {
		fmt.Fprintf(&b, "%v  %v\n", s, s.State(c.nodes))
	}
	return b.String() + c.table.Census(c.nodes).String() + "\n"
}

// The transcripts. Words are commands on nodes; "plan" prints a plan and applies it:
//
//	plan balance inflight=2 frozen
func TestPlanTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata/plan", func(t *testing.T, path string) {
		var c *cluster
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "plan" {
				return planned(t, c, d)
			}
			for _, arg := range d.CmdArgs {
				if d.Cmd == "order" {
					c.order(d, arg)
					continue
				}
				if !c.command(t, d, arg.Key) {
					n, err := strconv.Atoi(arg.Key)
					switch {
					case err == nil && d.Cmd == "shards":
						c = newCluster(n)
					case err == nil && d.Cmd == "damage":
						c.table = c.table.With(c.table.Shard(ID(n)).Lost([]byte("junk")))
					default:
						d.Fatalf(t, "no command %s %s", d.Cmd, arg.Key)
					}
				}
			}
			if err := c.table.Check(); err != nil {
				d.Fatalf(t, "%v", err)
			}
			return c.String()
		})
	})
}

func (c *cluster) command(t *testing.T, d *datadriven.TestData, node string) bool {
	switch d.Cmd {
	case "join":
		c.join(node)
	case "fail":
		c.fail(node)
	case "drain":
		c.drain(node)
	case "claim":
		c.claim(node)
	case "release":
		c.release(node)
	case "hand":
		c.hand(node)
	case "steady":
		c.age(node, Steady)
	case "young":
		c.age(node, Young)
	case "flapping":
		c.age(node, Flapping)
	default:
		return false
	}
	return true
}

// order reads 3=b, or 3=nobody.
func (c *cluster) order(d *datadriven.TestData, arg datadriven.CmdArg) {
	n, err := strconv.Atoi(arg.Key)
	if err != nil || len(arg.Vals) != 1 {
		panic(d.Pos + ": order takes shard=node")
	}
	c.obey(ID(n), arg.Vals[0])
}

// obey gives an order, or takes it back.
func (c *cluster) obey(id ID, node string) {
	if c.rules.Orders == nil {
		c.rules.Orders = map[ID]string{}
	}
	if c.rules.Orders[id] = node; node == "nobody" {
		delete(c.rules.Orders, id)
	}
}

// ordered is where an operator wants the shard, if that can be.
func (c *cluster) ordered(id ID) string {
	m, _ := c.nodes.Find(c.rules.Orders[id])
	if m.Draining {
		return ""
	}
	return m.Address
}

func planned(t *testing.T, c *cluster, d *datadriven.TestData) string {
	c.rules = Input{Balance: d.HasArg("balance"), Frozen: d.HasArg("frozen"), Orders: c.rules.Orders}
	if d.HasArg("inflight") {
		d.ScanArgs(t, "inflight", &c.rules.InFlight)
	}
	changes := c.plan()
	c.apply(changes)
	var b strings.Builder
	for _, change := range changes {
		fmt.Fprintln(&b, change)
	}
	return or(b.String(), "nothing\n")
}

// pick chooses one of n.
type pick func(n int) int

// lawful drives a cluster at random and holds every plan against its laws. It says
// what was broken, or "".
func lawful(choose pick) string {
	c := newCluster(1 + choose(24))
	c.rules = Input{Balance: choose(3) > 0, InFlight: choose(4), Frozen: choose(8) == 0}
	names := []string{"a", "b", "c", "d", "e"}[:2+choose(4)]
	if choose(4) > 0 { // begin with a cluster that works, and some of whose shards move
		for _, name := range names[:1+choose(len(names))] {
			c.join(name)
		}
		c.apply(c.plan())
		for _, m := range c.nodes {
			c.claim(m.Address)
		}
		for range choose(6) {
			c.write(c.table.Shard(ID(choose(c.table.Len()))).Targeted(c.nodes[choose(len(c.nodes))].Address))
		}
	}
	for range 1 + choose(12) {
		name := names[choose(len(names))]
		switch choose(14) {
		case 12, 13:
			c.obey(ID(choose(c.table.Len()+1)), append(names, "nobody")[choose(len(names)+1)])
		case 0, 1:
			if !c.nodes.Has(name) {
				c.join(name)
			}
		case 2:
			c.fail(name)
		case 3:
			c.drain(name)
		case 4, 5:
			c.claim(name)
		case 6:
			c.hand(name)
		case 7:
			c.release(name)
		case 8:
			c.age(name, Age(choose(3)))
		case 9:
			c.disturb(choose, names)
		case 10:
			changes := c.plan()
			c.apply(changes[:len(changes)/2])
		case 11:
			if broken := c.check(); broken != "" {
				return broken
			}
		}
	}
	if broken := c.check(); broken != "" {
		return broken
	}
	return c.settle()
}

// disturb makes a record what no planner made it.
func (c *cluster) disturb(choose pick, names []string) {
	s := c.table.Shard(ID(choose(c.table.Len())))
	switch choose(3) {
	case 0:
		c.table = c.table.With(s.Lost(nil))
	case 1:
		c.write(s.Targeted(names[choose(len(names))]))
	case 2:
		holder := names[choose(len(names))]
		c.write(s.HandedTo(holder, fmt.Sprintf("%s%d", holder, choose(3)), "h"))
	}
}

// check holds one plan, which it applies, against the laws.
func (c *cluster) check() string {
	in := c.input()
	changes := Plan(in)
	if !slices.Equal(changes, Plan(in)) {
		return "two plans of one input differ"
	}
	seen, voluntary := map[ID]bool{}, map[string]bool{}
	for _, change := range changes {
		s := c.table.Shard(change.Shard)
		if seen[change.Shard] {
			return fmt.Sprintf("%v is changed twice", s)
		}
		seen[change.Shard] = true
		if broken := c.justified(s, change); broken != "" {
			return fmt.Sprintf("%v: %v: %s\n%v", s, change, broken, c)
		}
		if change.voluntary() {
			voluntary[s.Current], voluntary[change.To] = true, true
		}
		if change.voluntary() != changes[0].voluntary() {
			return fmt.Sprintf("repair and balance in one plan: %v", changes)
		}
	}
	before := c.table
	c.apply(changes)
	if again := c.plan(); len(again) > 0 && !again[0].voluntary() || len(again) > 0 && len(voluntary) > 0 {
		return fmt.Sprintf("after its changes %v the plan has more: %v\n%v", changes, again, c)
	}
	return c.after(before, voluntary)
}

func (c Change) voluntary() bool { return c.Reason == ReasonBalance || c.Reason == ReasonOrder }

// justified says why a change may not be made.
func (c *cluster) justified(s *Shard, change Change) string {
	to, alive := c.nodes.Find(change.To)
	from, running := c.nodes.Find(s.Current)
	running = running && from.Registration == s.Registration
	steady := slices.ContainsFunc(c.nodes, func(m Member) bool { return !m.Draining && m.Age != Flapping })
	back := running && change.To == s.Current
	switch {
	case !alive:
		return "the target is dead"
	case to.Draining && !s.Damaged:
		return "the target is leaving"
	case to.Age == Flapping && steady && !back && !(s.Damaged && change.To == s.Target):
		return "the target flaps and others are there"
	case change.voluntary() && (!c.rules.Balance || c.rules.Frozen):
		return "a voluntary move that nobody asked for"
	case change.voluntary() && s.State(c.nodes) != Held:
		return "a voluntary move of what is not at rest"
	case change.voluntary() && to.Age != Steady:
		return "a voluntary move to a node that has just come"
	case change.Reason == ReasonBalance && c.ordered(s.ID) != "":
		return "it is evened out against an order"
	case change.Reason == ReasonOrder && c.ordered(s.ID) != change.To:
		return "an order that nobody gave"
	case !change.voluntary() && !running && c.ordered(s.ID) != "" && c.ordered(s.ID) != change.To && to.Age != Flapping && c.takes(c.ordered(s.ID)) && !s.Damaged:
		return "it is lost, and not given to the node where an operator wants it"
	case !change.voluntary() && s.State(c.nodes) == Held && !from.Draining && change.To != s.Current:
		return "it is held and moves without need"
	case !change.voluntary() && running && !from.Draining && !back && !(s.Damaged && change.To == s.Target):
		return "it runs on a node that could keep it"
	case c.rules.Frozen && !running && change.To != s.Target:
		return "a take-over while frozen"
	}
	return ""
}

// takes: the node is given what is lost.
func (c *cluster) takes(name string) bool {
	m, alive := c.nodes.Find(name)
	return alive && !m.Draining && m.Age != Flapping
}

// after says what is wrong with the table that a plan made of before.
func (c *cluster) after(before *Table, voluntary map[string]bool) string {
	limit := or0(c.rules.InFlight, DefaultInFlight)
	moving := map[string]int{}
	open := slices.ContainsFunc(c.nodes, func(m Member) bool { return !m.Draining })
	for _, s := range c.table.All() {
		if err := before.Shard(s.ID).Follows(s); err != nil {
			return err.Error()
		}
		state := s.State(c.nodes)
		if state == Moving {
			moving[s.Current]++
			moving[s.Target]++
		}
		to, _ := c.nodes.Find(s.Target)
		if open && !c.rules.Frozen && (state == Unassigned || state == Adrift || s.Damaged || to.Draining) {
			return fmt.Sprintf("%v is %v after the plan", s, state)
		}
	}
	for name := range voluntary {
		if moving[name] > limit {
			return fmt.Sprintf("%d shards of %s move at a time, allowed are %d", moving[name], name, limit)
		}
	}
	return ""
}

func or0(n, otherwise int) int {
	if n == 0 {
		return otherwise
	}
	return n
}

// settle lets everybody do what is asked of them until nothing is left to do, and
// holds the way and the end against the dumb alternative: sort the nodes by what they
// have, and deal.
func (c *cluster) settle() string {
	c.rules.Balance, c.rules.Frozen = true, false
	c.nodes = slices.DeleteFunc(c.nodes, func(m Member) bool { return m.Draining })
	for i := range c.nodes {
		c.nodes[i].Age = Steady
	}
	if len(c.nodes) == 0 {
		return ""
	}
	if broken := c.work(); broken != "" {
		return broken
	}
	least, moved := dumb(c), map[ID]bool{}
	for round := 0; ; round++ {
		changes := c.plan()
		if len(changes) == 0 {
			break
		}
		for _, change := range changes {
			if moved[change.Shard] {
				return fmt.Sprintf("%v moves twice", change)
			}
			moved[change.Shard] = true
		}
		if broken := c.check(); broken != "" {
			return broken
		}
		if broken := c.work(); broken != "" || round > c.table.Len() {
			return or(broken, "it never settles")
		}
	}
	if few, most := spread(c); most-few > 1 && len(c.rules.Orders) == 0 || len(moved) != least {
		return fmt.Sprintf("after %d moves nodes have between %d and %d shards; %d moves would do\n%v%v", len(moved), few, most, least, c, c.rules.Orders)
	}
	if again := dumb(c); again != 0 {
		return fmt.Sprintf("it has settled, and %d moves are left\n%v%v", again, c, c.rules.Orders)
	}
	return ""
}

// work repairs, claims and hands over until all is held.
func (c *cluster) work() string {
	balance := c.rules.Balance
	c.rules.Balance = false
	defer func() { c.rules.Balance = balance }()
	for range 5 {
		if broken := c.check(); broken != "" {
			return broken
		}
		for _, m := range c.nodes {
			c.claim(m.Address)
			c.hand(m.Address)
		}
		if c.table.Census(c.nodes).States[Held] == c.table.Len() {
			return ""
		}
	}
	return fmt.Sprintf("not all is held\n%v", c)
}

// dumb is how many moves carry out all orders and even out a cluster whose shards are
// all held: those without an order are poured over the nodes one by one, each to the one
// that has the least, and of several to one that had more.
func dumb(c *cluster) (moves int) {
	load, level := map[string]int{}, map[string]int{}
	free := 0
	for _, s := range c.table.All() {
		switch to := c.ordered(s.ID); to {
		case "":
			free++
			load[s.Current]++
		case s.Current:
			load[to]++
			level[to]++
		default:
			moves++
			load[to]++
			level[to]++
		}
	}
	for range free {
		best := ""
		for _, m := range c.nodes {
			a, had := m.Address, load[m.Address] > level[m.Address]
			if best == "" || level[a] < level[best] || level[a] == level[best] && had && load[best] <= level[best] {
				best = a
			}
		}
		level[best]++
	}
	for _, m := range c.nodes {
		moves += max(0, load[m.Address]-level[m.Address])
	}
	return moves
}

// The laws of a plan, over clusters that were driven at random; what fails is made
// small.
func TestPlanLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		if broken := lawful(func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "") }); broken != "" {
			t.Fatal(broken)
		}
	})
}

// And over many more.
func TestPlanLawsAtLarge(t *testing.T) {
	cases := 100_000
	switch {
	case testing.Short():
		cases = 2_000
	case raceEnabled:
		cases = 5_000
	}
	for seed := range cases {
		if broken := lawful(rand.New(rand.NewPCG(uint64(seed), 1)).IntN); broken != "" {
			t.Fatalf("seed %d: %s", seed, broken)
		}
	}
}

// A cluster that was dealt in one go is even, and stays so when nodes go: only the
// lost shards move. A node that comes gets its share and no shard moves but to it.
func TestPlanIsEvenAndMinimal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newCluster(rapid.IntRange(1, 300).Draw(t, "shards"))
		c.rules = Input{Balance: true, InFlight: NumShards}
		n := rapid.IntRange(1, 9).Draw(t, "nodes")
		for i := range n {
			c.join(string(rune('a' + i)))
		}
		c.apply(c.plan())
		for i, s := range c.table.All() {
			if want := c.nodes[i%n].Address; s.Target != want {
				t.Fatalf("shard %d was dealt to %s, want %s", i, s.Target, want)
			}
		}
		for step := range 6 {
			for _, m := range c.nodes {
				c.claim(m.Address)
				c.hand(m.Address)
			}
			if len(c.nodes) > 1 && rapid.Bool().Draw(t, "lose") {
				lost := c.nodes[rapid.IntRange(0, len(c.nodes)-1).Draw(t, "lost")].Address
				c.fail(lost)
				c.only(t, func(s *Shard, to string) bool { return s.Current == lost })
			} else {
				came := fmt.Sprint("n", step)
				c.join(came)
				if moved := c.only(t, func(s *Shard, to string) bool { return to == came }); moved != c.table.Len()/len(c.nodes) {
					t.Fatalf("%d of %d shards move to one of %d nodes", moved, c.table.Len(), len(c.nodes))
				}
			}
			if least, most := spread(c); most-least > 1 {
				t.Fatalf("nodes have between %d and %d shards\n%v", least, most, c)
			}
		}
	})
}

// only applies a plan whose every change must be allowed.
func (c *cluster) only(t *rapid.T, allowed func(s *Shard, to string) bool) int {
	changes := c.plan()
	for _, change := range changes {
		if s := c.table.Shard(change.Shard); !allowed(s, change.To) {
			t.Fatalf("%v moves to %s", s, change.To)
		}
	}
	c.apply(changes)
	return len(changes)
}

func spread(c *cluster) (least, most int) {
	count := map[string]int{}
	for _, s := range c.table.All() {
		count[s.Target]++
	}
	least = c.table.Len()
	for _, m := range c.nodes {
		least, most = min(least, count[m.Address]), max(most, count[m.Address])
	}
	return least, most
}

// A node that keeps coming back does not keep what is lost from being recovered: of
// each loss it gets its share once, and while it is known to flap nothing.
func TestPlanWithANodeThatComesAndGoes(t *testing.T) {
	c := newCluster(900)
	for _, n := range []string{"a", "b", "c"} {
		c.join(n)
	}
	c.apply(c.plan())
	for _, n := range []string{"a", "b", "c"} {
		c.claim(n)
	}
	c.fail("c")
	lost := 300
	for round := range 8 { // under a new name each time, as a container does
		name := fmt.Sprint("x", round)
		c.join(name)
		c.age(name, Young)
		changes := c.plan()
		if len(changes) != lost {
			t.Fatalf("round %d: %d changes, want %d", round, len(changes), lost)
		}
		c.apply(changes)
		for _, m := range c.nodes {
			c.claim(m.Address)
		}
		lost = 0
		for _, change := range changes {
			if change.To == name {
				lost++
			}
		}
		if lost > (len(changes)+2)/3 {
			t.Fatalf("round %d: of %d lost shards %d go to a node that has just come", round, len(changes), lost)
		}
		c.fail(name)
	}
	c.join("x")
	c.age("x", Flapping)
	for _, change := range c.plan() {
		if change.To == "x" {
			t.Fatalf("%v, and it flaps", change)
		}
	}
}

func TestPlanOfAHundredNodesIsQuick(t *testing.T) {
	c := hundred()
	begin := time.Now()
	for range 10 {
		c.fail(c.nodes[0].Address)
	}
	if changes := c.plan(); len(changes) < 800 {
		t.Errorf("only %d changes for ten lost nodes", len(changes))
	} else {
		c.apply(changes)
	}
	for _, m := range c.nodes {
		c.claim(m.Address)
	}
	for i := range 10 {
		c.join(fmt.Sprintf("10.0.1.%03d:47000", i))
	}
	c.rules.Balance = true
	for changes := c.plan(); len(changes) > 0; changes = c.plan() {
		c.apply(changes)
		for _, m := range c.nodes {
			c.hand(m.Address)
		}
	}
	if least, most := spread(c); most-least > 1 {
		t.Errorf("nodes have between %d and %d shards", least, most)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

// hundred is a cluster of a hundred nodes that hold all shards.
func hundred() *cluster {
	c := newCluster(NumShards)
	for i := range 100 {
		c.join(fmt.Sprintf("10.0.0.%03d:47000", i))
	}
	c.apply(c.plan())
	for _, m := range c.nodes {
		c.claim(m.Address)
	}
	return c
}

func TestStates(t *testing.T) {
	alive := Members{{Address: "a", Registration: "a1"}, {Address: "b", Registration: "b1"}}
	for _, c := range []struct {
		target, current, registration string
		want                          State
	}{
		{"", "", "", Unassigned},
		{"a", "", "", Assigned},
		{"a", "a", "a1", Held},
		{"b", "a", "a1", Moving},
		{"a", "a", "a0", Orphaned}, // the same address, born again
		{"a", "z", "z1", Orphaned},
		{"z", "", "", Adrift},
		{"z", "a", "a1", Adrift},
		{"z", "z", "z1", Adrift},
		{"", "a", "a1", Adrift},
	} {
		s := &Shard{Target: c.target, Current: c.current, Registration: c.registration, Epoch: 1}
		if got := s.State(alive); got != c.want {
			t.Errorf("%v is %v, want %v", s, got, c.want)
		}
		one := alive[:1]
		if got := s.State(one); c.target == "a" && c.current != "b" && got != c.want {
			t.Errorf("%v is %v among one, want %v", s, got, c.want)
		}
	}
}

func TestFollows(t *testing.T) {
	at := func(epoch uint64, current, registration string) *Shard {
		return &Shard{ID: 3, Epoch: epoch, Current: current, Registration: registration}
	}
	for _, c := range []struct {
		before, after *Shard
		ok            bool
	}{
		{at(0, "", ""), at(0, "", ""), true},
		{at(0, "", ""), at(1, "a", "1"), true},
		{at(4, "a", "1"), at(4, "a", "1"), true},
		{at(4, "a", "1"), at(4, "", ""), true},
		{at(4, "", ""), at(5, "b", "1"), true},
		{at(4, "a", "1"), at(5, "b", "1"), true},
		{at(4, "a", "1"), at(4, "b", "1"), false},
		{at(4, "a", "1"), at(4, "a", "2"), false},
		{at(4, "", ""), at(4, "a", "1"), false},
		{at(4, "a", "1"), at(3, "a", "1"), false},
		{at(1, "a", "1"), at(0, "", ""), false},
	} {
		if err := c.before.Follows(c.after); (err == nil) != c.ok {
			t.Errorf("%v then %v: %v", c.before, c.after, err)
		}
	}
}

func TestTableCheck(t *testing.T) {
	table := NewTable(3)
	if err := table.Check(); err != nil {
		t.Error(err)
	}
	for _, bad := range []*Shard{{ID: 1, Current: "a"}, {ID: 1, Current: "a", Registration: "1"}, {ID: 1, Epoch: MaxEpoch + 1}} {
		if table.With(bad).Check() == nil {
			t.Errorf("a table with %v passed", bad)
		}
	}
	swapped := &Table{n: 2, pages: []*page{{table.Shard(1), table.Shard(0)}}}
	if swapped.Check() == nil {
		t.Error("a table in the wrong order passed")
	}
	if table.With() != table || table.With(&Shard{ID: 2, Epoch: 9}).Shard(2).Epoch != 9 || table.Shard(2).Epoch != 0 {
		t.Error("With must change a copy, and nothing where there is nothing to change")
	}
}

// What a leader of a hundred nodes computes at every view, and at the worst of them.
func BenchmarkPlan(b *testing.B) {
	c := hundred()
	b.Run("nothing to do", func(b *testing.B) {
		c.rules.Balance = true
		for b.Loop() {
			c.plan()
		}
	})
	b.Run("the first mapping", func(b *testing.B) {
		in := Input{Table: NewTable(NumShards), Nodes: c.nodes}
		for b.Loop() {
			Plan(in)
		}
	})
	b.Run("one of a hundred holds all", func(b *testing.B) {
		one := &cluster{table: NewTable(NumShards), nodes: c.nodes[:1]}
		one.apply(one.plan())
		one.claim(one.nodes[0].Address)
		in := Input{Table: one.table, Nodes: c.nodes, Balance: true, InFlight: NumShards}
		for b.Loop() {
			Plan(in)
		}
	})
}
