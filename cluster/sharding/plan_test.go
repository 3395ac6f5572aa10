package sharding

import (
	"fmt"
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

func (c *cluster) plan() []Change { return Plan(Input{Table: c.table, Nodes: c.nodes}) }

func (c *cluster) apply(changes []Change) {
	for _, change := range changes {
		next := c.table.Shard(change.Shard).Targeted(change.To)
		c.write(next)
	}
}

// write is what etcd and the view do to a record.
func (c *cluster) write(next Shard) {
	var d Decoder
	s, err := d.Decode(next.ID, next.Encode("0"))
	if err != nil {
		panic(err)
	}
	c.table = c.table.With(s)
}

// claim lets a node take up all that it may.
func (c *cluster) claim(address string) {
	m, _ := c.nodes.Find(address)
	for _, s := range c.table.All() {
		if state := s.State(c.nodes); s.Target == address && (state == Assigned || state == Orphaned) {
			c.write(s.Claimed(address, m.Registration))
		}
	}
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

func TestPlanTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata/plan", func(t *testing.T, path string) {
		var c *cluster
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			for _, arg := range d.CmdArgs {
				switch d.Cmd {
				case "shards":
					n, err := strconv.Atoi(arg.Key)
					if err != nil {
						d.Fatalf(t, "%v", err)
					}
					c = newCluster(n)
				case "join":
					c.join(arg.Key)
				case "fail":
					c.fail(arg.Key)
				case "drain":
					c.drain(arg.Key)
				case "claim":
					c.claim(arg.Key)
				case "release":
					c.release(arg.Key)
				case "damage":
					id, err := strconv.Atoi(arg.Key)
					if err != nil {
						d.Fatalf(t, "%v", err)
					}
					c.table = c.table.With(c.table.Shard(ID(id)).Lost([]byte("junk")))
				default:
					d.Fatalf(t, "no command %s", d.Cmd)
				}
			}
			if d.Cmd == "plan" {
				changes := c.plan()
				c.apply(changes)
				var b strings.Builder
				for _, change := range changes {
					fmt.Fprintf(&b, "%04d to %s: %v\n", change.Shard, change.To, change.Reason)
				}
				return or(b.String(), "nothing\n")
			}
			if err := c.table.Check(); err != nil {
				d.Fatalf(t, "%v", err)
			}
			return c.String()
		})
	})
}

// The laws of a plan, over clusters that were driven at random.
func TestPlanLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newCluster(rapid.IntRange(1, 64).Draw(t, "shards"))
		names := []string{"a", "b", "c", "d", "e"}
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			name := rapid.SampledFrom(names).Draw(t, "node")
			switch rapid.SampledFrom([]string{"join", "fail", "drain", "claim", "plan", "half a plan", "release", "damage"}).Draw(t, "step") {
			case "join":
				if !c.nodes.Has(name) {
					c.join(name)
				}
			case "fail":
				c.fail(name)
			case "drain":
				c.drain(name)
			case "claim":
				c.claim(name)
			case "release":
				c.release(name)
			case "damage":
				id := ID(rapid.IntRange(0, c.table.Len()-1).Draw(t, "damaged"))
				c.table = c.table.With(c.table.Shard(id).Lost(nil))
			case "half a plan":
				changes := c.plan()
				c.apply(changes[:len(changes)/2])
			case "plan":
				checkPlan(t, c)
			}
			if err := c.table.Check(); err != nil {
				t.Fatal(err)
			}
		}
		checkPlan(t, c)
	})
}

func checkPlan(t *rapid.T, c *cluster) {
	in := Input{Table: c.table, Nodes: c.nodes}
	changes := Plan(in)
	if !slices.Equal(changes, Plan(in)) {
		t.Fatal("two plans of one input differ")
	}
	seen := map[ID]bool{}
	for _, change := range changes {
		s := c.table.Shard(change.Shard)
		switch m, ok := c.nodes.Find(change.To); {
		case seen[change.Shard]:
			t.Fatalf("%v is changed twice", s)
		case !ok || m.Draining && change.To != s.Target:
			t.Fatalf("%v is to go to %s, which takes no shards", s, change.To)
		case s.State(c.nodes) == Held && change.To != s.Current:
			t.Fatalf("%v is held and is to move to %s", s, change.To)
		}
		seen[change.Shard] = true
	}
	before := c.table
	c.apply(changes)
	if again := c.plan(); len(again) > 0 {
		t.Fatalf("after its changes the plan has more: %v\n%v", again, c)
	}
	ready := in.ready()
	for _, s := range c.table.All() {
		if err := before.Shard(s.ID).Follows(s); err != nil {
			t.Fatal(err)
		}
		if state := s.State(c.nodes); len(ready) > 0 && (state == Unassigned || state == Adrift || s.Damaged) {
			t.Fatalf("%v is %v after the plan", s, state)
		}
	}
}

// A cluster that was dealt in one go is even, and stays so when nodes go: only the
// lost shards move.
func TestPlanIsEvenAndMinimal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newCluster(rapid.IntRange(1, 300).Draw(t, "shards"))
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
		for len(c.nodes) > 1 {
			for _, m := range c.nodes {
				c.claim(m.Address)
			}
			lost := c.nodes[rapid.IntRange(0, len(c.nodes)-1).Draw(t, "lost")].Address
			c.fail(lost)
			changes := c.plan()
			for _, change := range changes {
				if s := c.table.Shard(change.Shard); s.Current != lost {
					t.Fatalf("%s is gone and %v moves", lost, s)
				}
			}
			c.apply(changes)
			if least, most := spread(c); most-least > 1 {
				t.Fatalf("nodes have between %d and %d shards\n%v", least, most, c)
			}
		}
	})
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

func TestPlanOfAHundredNodesIsQuick(t *testing.T) {
	c := newCluster(NumShards)
	for i := range 100 {
		c.join(fmt.Sprintf("10.0.0.%03d:47000", i))
	}
	c.apply(c.plan())
	for range 10 {
		c.fail(c.nodes[0].Address)
	}
	begin := time.Now()
	if changes := c.plan(); len(changes) < 800 {
		t.Errorf("only %d changes for ten lost nodes", len(changes))
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("it took %v", took)
	}
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
	swapped := &Table{shards: []*Shard{table.shards[1], table.shards[0]}}
	if swapped.Check() == nil {
		t.Error("a table in the wrong order passed")
	}
	if table.With() != table || table.With(&Shard{ID: 2, Epoch: 9}).Shard(2).Epoch != 9 || table.Shard(2).Epoch != 0 {
		t.Error("With must change a copy, and nothing where there is nothing to change")
	}
}

func BenchmarkPlan(b *testing.B) {
	c := newCluster(NumShards)
	for _, n := range []string{"a", "b", "c"} {
		c.join(n)
	}
	c.apply(c.plan())
	for b.Loop() {
		c.plan()
	}
}
