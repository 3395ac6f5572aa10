//go:build unix

package e2e

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/test/logbook"
	"github.com/xiaonanln/goverse/test/pg"
	"github.com/xiaonanln/goverse/test/spawn"
)

// Real nodes on a real PostgreSQL lose etcd. While it is gone altogether, for four times
// their lease, each durable call goes well and each volatile one is refused unrun; when it
// is back the same holders go on. When some nodes and a gate alone are cut off, and another
// node takes their shards over while the gate still asks them, nothing that they answer
// is old, lost or twice.
func TestDegraded(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds and runs real processes: not with -short")
	}
	server := pg.Private(t)
	etcd := startMembers(t, nil, 1)[0]
	f := newFleetOn(t, nil, etcd.client)
	f.store = server.Database(t)
	apart := spawn.FreeAddress(t) // a gate that can be cut off
	f.roads[apart] = newRoad(t, f.etcd)
	f.gate(apart)
	gates := f.begin(3, 1)
	near := slices.DeleteFunc(gates, func(gate string) bool { return gate == apart })
	l := &load{name: "degraded-", objects: 60}
	l.begin(t, 40, near, []string{apart})

	before := f.view()
	etcd.p.kill()
	f.eachSays("degraded mode begins", slices.Collect(maps.Keys(f.nodes)))
	began := time.Now()
	time.Sleep(4 * leaseTTL) // the fault itself
	over := time.Now()
	etcd.start(t)
	etcd.catchUp(t)
	back := time.Now()
	f.eachSays("degraded mode ends", slices.Collect(maps.Keys(f.nodes)))
	t.Logf("etcd was gone for %v; settled %v after it", over.Sub(began), f.settle().Round(time.Millisecond))
	all := map[string]bool{}
	for node := range f.nodes {
		maps.Copy(all, f.refsOn(l, node))
	}
	f.awaitEachOf(l, all, back)
	l.await(over)
	f.judgeSilence(l, began, over)
	after := f.view()
	for _, s := range after.Table.All() {
		if was := before.Table.Shard(s.ID); s.Current != was.Current || s.Epoch != was.Epoch {
			t.Errorf("a shard has another holder after the outage: %v, before %v", s, was)
			break
		}
	}

	cut := append(slices.Sorted(maps.Keys(f.nodes))[:2:2], apart)
	for _, member := range cut {
		f.roads[member].sever()
	}
	deposed := f.until(func(v *consensusmanager.View) string { // by the third node, which is not cut off
		for _, s := range v.Table.All() {
			if slices.Contains(cut, s.Current) {
				return s.String()
			}
		}
		return ""
	})
	time.Sleep(leaseTTL) // the fault goes on: the gate still asks who was deposed
	for _, member := range cut {
		f.roads[member].heal()
	}
	t.Logf("two nodes were deposed %v after they were cut off; settled %v after the end", deposed.Round(time.Millisecond), f.settle().Round(time.Millisecond))
	l.end()
	ok, notExecuted, unknown := l.history.Count()
	t.Logf("%d calls went well, %d did not run, of %d the outcome is unknown", ok, notExecuted, unknown)
	l.judge(t, volatile)
	f.judgeAnswers(l)
}

// eachSays waits until each of some nodes has said text.
func (f *fleet) eachSays(text string, nodes []string) {
	f.t.Helper()
	for _, node := range nodes {
		if p := f.nodes[node]; !p.says(text, 20*time.Second) {
			f.t.Fatalf("%s does not say %q:\n%s", node, text, p.output())
		}
	}
}

// judgeSilence judges the calls that were made while etcd was gone.
func (f *fleet) judgeSilence(l *load, began, over time.Time) {
	f.t.Helper()
	ran := map[string]bool{}
	for _, e := range f.executions() {
		ran[e.Ref+" "+e.Entry] = true
	}
	served, refused := 0, 0
	var worst time.Duration
	problems := map[string]int{}
	l.each(func(c told) {
		if c.Began.Before(began) || c.Began.After(over) {
			return
		}
		typ, id := l.ref(c.call)
		switch durable := typ == "DurableLog"; {
		case durable && c.Err == nil:
			served++
			worst = max(worst, c.Ended.Sub(c.Began))
		case durable:
			problems[fmt.Sprintf("a durable log did not answer: %v", c.Err)]++
		case c.Ended.After(over):
		case c.Err == nil || ran[typ+"/"+id+" "+c.ID]:
			problems[fmt.Sprintf("a volatile log ran, and its caller was told: %v", c.Err)]++
		default: // by the node, or where its answer was late by the client's own clock
			refused++
		}
	})
	for problem, n := range problems {
		f.t.Errorf("%d times: %s", n, problem)
	}
	if served == 0 || refused == 0 {
		f.t.Error("the load made no calls that say anything")
	}
	f.t.Logf("while etcd was gone %d durable calls went well, the slowest in %v, and %d volatile ones were refused", served, worst.Round(time.Millisecond), refused)
}

func (f *fleet) executions() []logbook.Execution {
	f.t.Helper()
	executions, err := logbook.ReadJournals(f.dir)
	if err != nil {
		f.t.Fatal(err)
	}
	return executions
}

// judgeAnswers checks that no durable log answered from two activations in turns, or at
// once. A deposed holder may run a method in vain: what nobody was told does not count.
func (f *fleet) judgeAnswers(l *load) {
	f.t.Helper()
	answered := slices.DeleteFunc(f.executions(), func(e logbook.Execution) bool {
		return !strings.HasPrefix(e.Ref, "DurableLog") || !l.well(e.Ref, e.Entry)
	})
	if len(answered) < 100 {
		f.t.Errorf("the journals have only %d executions that were answered", len(answered))
	}
	for _, p := range (logbook.Lives{Well: l.well}).Check(answered) {
		f.t.Error(p)
	}
}
