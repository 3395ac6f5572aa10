//go:build unix

package e2e

import (
	"fmt"
	"maps"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/goverseapi"
	"github.com/xiaonanln/goverse/test/logbook"
)

// Real processes are killed, paused and cut off under load. Whatever happens, nothing
// that was acknowledged of a durable log is lost, no log has two futures, what was said
// not to have run is not there, and the cluster comes back by itself.
func TestNemesis(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	gates := f.begin(3, 2)
	l := newLoad(t, gates, 100, 300)
	sorted := func() []string { return slices.Sorted(maps.Keys(f.nodes)) }

	for _, c := range []struct {
		name string
		do   func(victim string)
	}{
		{"kill -9 of the leader", func(victim string) {
			was := f.refsOn(l, victim)
			killed := time.Now()
			f.kill(victim)
			f.awaitEachOf(l, was, killed)
			f.node(victim)
		}},
		{"a pause of half a second", func(victim string) { f.pause(victim, time.Second/2) }},
		{"a pause of a second", func(victim string) { f.pause(victim, time.Second) }},
		{"a pause of twice the lease", func(victim string) { f.pause(victim, 10*time.Second) }},
		{"no way to etcd for two seconds", func(victim string) { severed(f.roads[victim], 2*time.Second) }},
		{"no way to etcd for two leases", func(victim string) { severed(f.roads[victim], 10*time.Second) }},
		{"nobody's way to it for eight seconds", func(victim string) { severed(f.inbound[victim], 8*time.Second) }},
		{"a way to it that flaps", func(victim string) {
			for range 6 {
				severed(f.inbound[victim], 400*time.Millisecond)
				severed(f.roads[victim], 400*time.Millisecond)
			}
		}},
	} {
		victim := sorted()[0]
		began := time.Now()
		c.do(victim)
		t.Logf("%s: settled %v after it began", c.name, (time.Since(began) + f.settle()).Round(time.Millisecond))
	}
	l.end()
	p50, p99, worst := l.latencies()
	ok, notExecuted, unknown := l.history.Count()
	t.Logf("%d calls went well, %d did not run, of %d the outcome is unknown; p50 %v, p99 %v, worst %v", ok, notExecuted, unknown, p50, p99, worst)
	l.judge(t, volatile)
	f.judgeLives(l)
}

// refsOn is the logs of a load that live on a node.
func (f *fleet) refsOn(l *load, node string) map[string]bool {
	v := f.view()
	refs := map[string]bool{}
	for n := range l.objects {
		typ, id := l.ref(n)
		if holder, _ := v.Holder(sharding.ID(sharding.GetShardID(id, v.Table.Len()))); holder == node {
			refs[typ+"/"+id] = true
		}
	}
	return refs
}

// awaitEachOf waits until each of some logs has answered a call that was made after a
// moment, and reports how long that took and what happened to the others.
func (f *fleet) awaitEachOf(l *load, refs map[string]bool, since time.Time) {
	f.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) { // between two looks at a history
		first := map[string]time.Duration{}
		others := map[string]bool{}
		l.history.Each(func(ref string, a logbook.Append) {
			took := a.Ended.Sub(since)
			switch {
			case a.Ended.Before(since):
			case !refs[ref] && a.Err != nil:
				others[fmt.Sprint(goverseapi.OutcomeOf(a.Err), ": ", a.Err)] = true
			case refs[ref] && a.Err == nil && (first[ref] == 0 || took < first[ref]):
				first[ref] = took
			}
		})
		if len(first) < len(refs) && time.Now().Before(deadline) {
			continue
		}
		if len(first) < len(refs) {
			f.t.Errorf("%d of %d logs have answered again", len(first), len(refs))
		}
		took := slices.Sorted(maps.Values(first))
		f.t.Logf("the first answer of each of %d logs after it: p50 %v, worst %v", len(refs), took[len(took)/2], took[len(took)-1])
		for why := range others {
			f.t.Errorf("a log that lived elsewhere failed: %s", why)
		}
		return
	}
}

// pause stops a process for a while, as a machine that is suspended.
func (f *fleet) pause(node string, d time.Duration) {
	p := f.nodes[node]
	from := logbook.Now()
	p.signal(syscall.SIGSTOP)
	time.Sleep(d) // the fault itself
	p.signal(syscall.SIGCONT)
	f.pauses = append(f.pauses, logbook.Pause{PID: p.cmd.Process.Pid, From: from, To: logbook.Now()})
}

// severed cuts a road for a while.
func severed(r *road, d time.Duration) {
	r.sever()
	time.Sleep(d) // the fault itself
	r.heal()
}
