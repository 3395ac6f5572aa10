//go:build unix

package e2e

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/goverseapi"
	"github.com/xiaonanln/goverse/test/logbook"
)

var long = flag.Bool("e2e.long", false, "all troubles of TestPartitions and TestEtcdTroubles, and the long ones, the measurements of TestPages, and each program with each signal: some minutes")

const leaseTTL = 5 * time.Second

// convergence is how long after the end of a trouble a shard may be without a holder.
const convergence = leaseTTL + 3*time.Second

// trouble is something that happens to a fleet, and what may be noticed of it.
type trouble struct {
	name  string
	takes time.Duration // at most, on a machine that can be tested on
	only  bool          // with -e2e.long only
	do    func()
	hurt  func(c path) bool // whether such a call may fail; nil: none may
	// noticed is after how much time the ways round the trouble are found, and no call
	// fails any more; 0: when it is over.
	noticed time.Duration
	moves   bool // shards may get another holder, so that what is only in memory may be lost
}

// path is how a call goes: through a gate to an object of a node, and from there perhaps
// to one of another.
type path struct {
	gate, node, next string
	durable          bool
}

// felt is a trouble that was had.
type felt struct {
	trouble
	began, ended, settled time.Time
	held                  time.Duration // after its end every shard had a holder
	before, after         *consensusmanager.View
}

// have goes through troubles under a load, one after the other, and judges what its
// callers were told. A run that is not long has those of them that fit into a budget.
func (f *fleet) have(l *load, gates []string, budget time.Duration, troubles ...trouble) {
	f.t.Helper()
	var had []*felt
	lossy := never
	for _, tr := range troubles {
		if !*long && (tr.only || tr.takes > budget) {
			continue
		}
		budget -= tr.takes
		x := f.suffer(l, tr)
		had = append(had, x)
		if x.moves || x.late() {
			lossy = volatile
		}
	}
	l.end()
	f.judgeCalls(l, gates, had)
	l.judge(f.t, lossy)
}

func (f *fleet) suffer(l *load, tr trouble) *felt {
	f.t.Helper()
	x := &felt{trouble: tr, before: f.view(), began: time.Now()}
	tr.do()
	x.ended = time.Now()
	if x.held = f.until(f.unheld); x.held > convergence {
		f.t.Errorf("%s: there were shards without a holder until %v after it", tr.name, x.held)
	}
	f.settle()
	x.after, x.settled = f.view(), time.Now()
	l.await(x.settled)
	switch {
	case tr.moves:
		return x
	case x.late():
		f.t.Logf("%s: NOT JUDGED: this machine is too slow for it", tr.name)
		return x
	}
	after := map[sharding.ID]*sharding.Shard{}
	for _, s := range x.after.Table.All() {
		after[s.ID] = s
	}
	for _, s := range x.before.Table.All() {
		if now := after[s.ID]; now.Current != s.Current || now.Epoch != s.Epoch {
			f.t.Errorf("%s: a shard has another holder after it: %v, before %v", tr.name, now, s)
			break
		}
	}
	return x
}

// late says that a trouble of which nobody should feel anything took longer than that
// holds for.
func (x *felt) late() bool { return x.hurt == nil && x.ended.Sub(x.began) > x.takes }

// over is when nothing of a trouble can be felt any more: a lease that it cost may end
// after the cluster looks settled again.
func (x *felt) over() time.Time {
	if x.moves {
		return x.settled.Add(leaseTTL)
	}
	return x.settled
}

// judgeCalls looks for calls that failed and should not have, and reports what each
// trouble did to them.
func (f *fleet) judgeCalls(l *load, gates []string, had []*felt) {
	f.t.Helper()
	sums := map[*felt]*sum{}
	for _, x := range had {
		sums[x] = &sum{example: map[goverseapi.Outcome]string{}}
	}
	unexpected := map[string]int{}
	l.each(func(c told) {
		allowed := c.Err == nil
		for _, x := range had {
			if c.Ended.Before(x.began) || c.Began.After(x.over()) {
				continue
			}
			hurts := x.hurts(l, gates, c)
			allowed = allowed || hurts
			sums[x].add(c, x, hurts)
		}
		if !allowed {
			unexpected[fmt.Sprintf("%v: %v", goverseapi.OutcomeOf(c.Err), c.Err)]++
		}
	})
	for _, x := range had {
		f.t.Logf("%s: %v long, held again %v and settled %v after it; %v", x.name, x.ended.Sub(x.began).Round(time.Millisecond), x.held.Round(time.Millisecond), x.settled.Sub(x.ended).Round(time.Millisecond), sums[x])
	}
	for _, why := range slices.Sorted(maps.Keys(unexpected)) {
		f.t.Errorf("%d calls failed that no trouble should have touched: %s", unexpected[why], why)
	}
	ok, notExecuted, unknown := l.history.Count()
	p50, p99, worst := l.latencies()
	f.t.Logf("%d calls went well, %d did not run, of %d the outcome is unknown; p50 %v, p99 %v, worst %v", ok, notExecuted, unknown, p50, p99, worst)
}

// hurts says whether a call may fail because of a trouble that it met.
func (x *felt) hurts(l *load, gates []string, c told) bool {
	if x.late() {
		return true
	}
	if x.hurt == nil || x.noticed > 0 && c.Began.After(x.began.Add(x.noticed)) {
		return false
	}
	typ, id := l.ref(c.call)
	via := l.via(c.call)
	for _, v := range []*consensusmanager.View{x.before, x.after} {
		next := ""
		if via != "" {
			next = holderOf(v, via)
		}
		if x.hurt(path{gates[l.door(c.call)], holderOf(v, id), next, typ == "DurableLog"}) {
			return true
		}
	}
	return false
}

func holderOf(v *consensusmanager.View, id string) string {
	holder, _ := v.Holder(sharding.ID(sharding.GetShardID(id, v.Table.Len())))
	return holder
}

// sum is what a trouble did to the calls that met it.
type sum struct {
	calls, notExecuted, unknown int
	last                        time.Duration // after the beginning of the trouble began the last call that failed
	worst, worstElsewhere       time.Duration // reply
	example                     map[goverseapi.Outcome]string
}

func (s *sum) add(c told, x *felt, hurts bool) {
	took := c.Ended.Sub(c.Began)
	s.calls++
	switch {
	case c.Err == nil && hurts:
		s.worst = max(s.worst, took)
		return
	case c.Err == nil:
		s.worstElsewhere = max(s.worstElsewhere, took)
		return
	case goverseapi.OutcomeOf(c.Err) == goverseapi.NotExecuted:
		s.notExecuted++
	default:
		s.unknown++
	}
	s.last = max(s.last, c.Began.Sub(x.began))
	s.example[goverseapi.OutcomeOf(c.Err)] = fmt.Sprintf("after %v: %v", took.Round(time.Millisecond), c.Err)
}

// String implements fmt.Stringer.
func (s *sum) String() string {
	text := fmt.Sprintf("of %d calls %d did not run, of %d the outcome is unknown", s.calls, s.notExecuted, s.unknown)
	if s.notExecuted+s.unknown > 0 {
		text += fmt.Sprintf(", the last of them made after %v %q", s.last.Round(time.Millisecond), s.example)
	}
	return text + fmt.Sprintf("; the slowest answer took %v, %v of an object that it has nothing to do with", s.worst.Round(time.Millisecond), s.worstElsewhere.Round(time.Millisecond))
}

// shuffled is a list in an order of chance.
func shuffled[T any](chance *rand.Rand, list []T) []T {
	chance.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

// luck is the chance of a test, and says how to have it again.
func luck(t *testing.T) *rand.Rand {
	t.Helper()
	n := *seed
	if n == 0 {
		n = rand.Uint64()
	}
	t.Logf("seed: -e2e.seed=%d", n)
	return rand.New(rand.NewPCG(n, 0))
}

// judgeLives checks that no object of a fleet was executed by two processes at
// overlapping times, nor by an old holder after a new one.
func (f *fleet) judgeLives(loads ...*load) {
	f.t.Helper()
	executions, err := logbook.ReadJournals(f.dir)
	if err != nil {
		f.t.Fatal(err)
	}
	deaths := map[int]logbook.Moment{}
	for _, p := range f.all {
		if deaths[p.cmd.Process.Pid] = logbook.Now(); !p.alive() {
			deaths[p.cmd.Process.Pid] = p.died
		}
	}
	lives := logbook.Lives{Pauses: f.pauses, Deaths: deaths, Well: func(ref, entry string) bool {
		return slices.ContainsFunc(loads, func(l *load) bool { return l.well(ref, entry) })
	}}
	problems := lives.Check(executions)
	for _, p := range problems[:min(len(problems), 20)] {
		f.t.Error(p)
	}
	answered := 0
	for _, l := range loads {
		ok, _, _ := l.history.Count()
		answered += ok
	}
	if len(executions) < answered {
		f.t.Errorf("the journals have %d executions, and %d calls were answered", len(executions), answered)
	}
}
