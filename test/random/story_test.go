package random

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager/memkv"
	"github.com/xiaonanln/goverse/goverseapi"
	"github.com/xiaonanln/goverse/goversetest"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/test/logbook"
	"github.com/xiaonanln/goverse/test/logbook/linear"
	logbook_pb "github.com/xiaonanln/goverse/test/logbook/proto"
)

// A story is a cluster, clients, and what befalls them in a virtual minute.
type story struct {
	seed    uint64
	chance  *rand.Rand
	nodes   int
	planned bool // nothing but planned change: no call may fail
	lone    bool // durable objects are served while etcd is silent
	calm    bool // the store has no troubles, and every method heeds its context
	acts    []act
}

// act is one thing that may happen.
type act struct {
	weight int
	name   string
	do     func(r *runner)
}

const (
	length   = time.Minute
	gates    = 2
	clients  = 4
	logs     = 6 // of each type
	deadline = 8 * time.Second
	peak     = 5 // nodes at most

	// Clients call often for a while after each thing that happened, and now and then
	// at other times: what nothing has happened to is much the same from call to call.
	awake    = 500 * time.Millisecond
	hasty    = 250 * time.Millisecond
	leisured = 1500 * time.Millisecond
)

func anything(seed uint64) story {
	s := story{seed: seed, chance: rand.New(rand.NewPCG(seed, 1))}
	s.nodes = 2 + s.chance.IntN(3)
	all := []act{
		{6, "crash", (*runner).crash},
		{4, "stop", (*runner).stop},
		{4, "start", (*runner).start},
		{4, "cut from etcd", (*runner).cut},
		{3, "answers of etcd lost", (*runner).etcdDeaf},
		{3, "etcd late", (*runner).etcdLate},
		{4, "partition", (*runner).partition},
		{3, "one-way partition", (*runner).oneWay},
		{3, "answers lost", (*runner).loseAnswers},
		{2, "delay", (*runner).delay},
		{4, "pause", (*runner).pause},
		{6, "writes to etcd fall behind", (*runner).straggle},
		{2, "etcd restarts", (*runner).restartEtcd},
		{1, "etcd wiped", (*runner).wipeEtcd},
		{1, "etcd restored", (*runner).restoreEtcd},
		{1, "etcd backed up", (*runner).backUp},
		{5, "heal", (*runner).heal},
		{2, "restart a gate", (*runner).restartGate},
	}
	for _, a := range all { // each story has some of them
		if s.chance.IntN(2) == 0 || a.name == "heal" || a.name == "start" {
			s.acts = append(s.acts, a)
		}
	}
	return s
}

func plannedChange(seed uint64) story {
	s := story{seed: seed, chance: rand.New(rand.NewPCG(seed, 2)), planned: true}
	s.nodes = 1 + s.chance.IntN(3)
	s.acts = []act{{3, "stop", (*runner).stop}, {3, "start", (*runner).start}, {2, "restart", (*runner).restart}}
	return s
}

// runner is a story while it is told.
type runner struct {
	story
	w        *goversetest.World
	witness  *witness
	history  *logbook.History
	reads    *reads
	snap     memkv.Snapshot
	loud     bool
	troubled bool               // the store has troubles
	crashed  bool               // volatile state may be lost
	cuts     map[[2]string]bool // which members have lost their way to each other
	forgot   bool               // etcd lost its memory: alarms are in order
	due      []promise

	mu     sync.Mutex // protects following fields
	next   int        // names the appends
	latest time.Time  // when something happened last
	passed []passage  // what acknowledged appends took by way of another log
	orders linear.Histories
}

// passage is an entry that went by way of a log.
type passage struct{ ref, id string }

// promise is something that will happen.
type promise struct {
	at time.Time
	do func()
}

func run(t *testing.T, s story, loud bool) {
	cluster := goversetest.Cluster{Nodes: s.nodes, Gates: gates, DegradedMode: s.lone, Types: []goversetest.Type{
		goversetest.Of((*DurableLog)(nil)),
		goversetest.Of((*VolatileLog)(nil), goverseapi.WithDurability(goverseapi.Volatile)),
	}}
	var orders linear.Histories
	goversetest.Sim(t, cluster, func(w *goversetest.World) {
		r := &runner{orders: linear.Histories{}, story: s, w: w, witness: newWitness(), history: logbook.NewHistory(), reads: newReads(), loud: loud}
		defer r.witness.leave()
		for _, n := range w.Nodes() {
			r.witness.watch(w.On(n))
		}
		r.tell()
		r.judge()
		orders = r.orders
	})
	for _, p := range orders.Check(time.Minute) { // outside the bubble, whose time stands still while a search runs
		t.Errorf("seed %d: %s", s.seed, p)
	}
}

// tell lets clients call while things happen, and then leaves the cluster in peace.
func (r *runner) tell() {
	r.snap = r.w.EtcdSnapshot()
	r.beginTroubles()
	ctx, cancel := context.WithCancel(context.Background())
	var calling sync.WaitGroup
	defer calling.Wait()
	defer cancel()
	for i := range clients {
		chance, will := rand.New(rand.NewPCG(r.seed, uint64(100+i))), rand.New(rand.NewPCG(r.seed, uint64(200+i)))
		calling.Go(func() { r.client(ctx, r.w.Gates()[i%gates], chance, will) })
	}
	for end := time.Now().Add(length); time.Now().Before(end); {
		r.pass(time.Now().Add(time.Duration(r.chance.Int64N(int64(4 * time.Second)))))
		if r.planned {
			r.rush(&calling)
		}
		r.happen()
		r.stir()
		r.check()
	}
	r.heal()
	began := time.Now()
	if len(r.w.Nodes()) == 0 {
		r.start()
	}
	r.w.Settle()
	r.note("settled after %v", time.Since(began))
	r.endTroubles()
}

// pass lets time pass, and happen what was promised for it.
func (r *runner) pass(until time.Time) {
	for len(r.due) > 0 && r.due[0].at.Before(until) {
		p := r.due[0]
		r.due = r.due[1:]
		r.w.Advance(max(0, time.Until(p.at)))
		p.do()
		r.stir()
	}
	r.w.Advance(max(0, time.Until(until)))
}

// in promises that do happens after d.
func (r *runner) in(d time.Duration, do func()) {
	r.due = append(r.due, promise{time.Now().Add(d), do})
	slices.SortStableFunc(r.due, func(a, b promise) int { return a.at.Compare(b.at) })
}

// stir wakes the clients.
func (r *runner) stir() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.latest = time.Now()
}

// patience is for how long a client may wait before its next call.
func (r *runner) patience() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.latest) < awake {
		return hasty
	}
	return leisured
}

func (r *runner) happen() {
	sum := 0
	for _, a := range r.acts {
		sum += a.weight
	}
	pick := r.chance.IntN(sum)
	for _, a := range r.acts {
		if pick -= a.weight; pick < 0 {
			r.note("%s", a.name)
			a.do(r)
			return
		}
	}
}

func (r *runner) note(format string, args ...any) {
	if r.loud {
		r.w.T.Logf("%s %v: "+format, append([]any{time.Now().Format("05.000"), r.w.Nodes()}, args...)...)
	}
}

// check judges what must be so at every moment.
func (r *runner) check() {
	if problems := r.blameless(r.witness.saw()); len(problems) > 0 {
		r.w.T.Fatalf("seed %d: %s", r.seed, strings.Join(problems, "\n"))
	}
}

// client appends and reads, one call after the other, until ctx ends. will decides about
// what was added later: the rest of a seed's story stays what it was.
func (r *runner) client(ctx context.Context, gate string, chance, will *rand.Rand) {
	var c *goversetest.Client
	for ctx.Err() == nil {
		time.Sleep(time.Duration(chance.Int64N(int64(r.patience()))))
		if c == nil || c.Ended() {
			var err error
			if c, err = r.w.TryConnect(gate); err != nil {
				continue
			}
		}
		to := chance.IntN(logs)
		ref := fmt.Sprintf("%s/%d", []string{"DurableLog", "VolatileLog"}[chance.IntN(2)], to)
		if chance.IntN(4) == 0 {
			r.read(c, ref)
			continue
		}
		method, e := "Append", r.entry(to, chance)
		if will.IntN(6) == 0 && !r.calm && !r.planned {
			method, e.Via, e.WorkMicros = "Insist", "", upTo(will, slowest).Microseconds()
		}
		r.append(c, ref, method, e)
	}
}

// entry is one that now and then goes to another log first, and now and then takes its
// time.
func (r *runner) entry(to int, chance *rand.Rand) *logbook_pb.Entry {
	e := &logbook_pb.Entry{Id: r.name(), WorkMicros: chance.Int64N(20_000)}
	if chance.IntN(5) == 0 {
		e.WorkMicros = chance.Int64N(400_000)
	}
	if chance.IntN(2) == 0 && to+1 < logs {
		e.Via = fmt.Sprint(to + 1 + chance.IntN(logs-to-1))
	}
	return e
}

func (r *runner) name() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next++
	return fmt.Sprint(r.next)
}

func (r *runner) append(c *goversetest.Client, ref, method string, e *logbook_pb.Entry) {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	a := logbook.Append{ID: e.GetId(), Began: time.Now()}
	reply, err := c.TryCallContext(ctx, ref, method, e)
	a.Ended, a.Err = time.Now(), err
	if err == nil {
		a.Mark = reply.(*logbook_pb.Mark)
		r.passes(ref, e)
	}
	r.went(ref, e, a)
	if late := a.Ended.Sub(a.Began) - deadline; late > 250*time.Millisecond {
		r.w.T.Errorf("seed %d: the reply to %s came %v after its deadline: %v", r.seed, e.GetId(), late, err)
	}
	r.history.Add(ref, a)
}

// went notes which logs a call has, or may have, appended to.
func (r *runner) went(ref string, e *logbook_pb.Entry, a logbook.Append) {
	if e.GetVia() == "" || a.Err != nil && goverseapi.OutcomeOf(a.Err) == goverseapi.NotExecuted {
		return
	}
	typ, _, _ := strings.Cut(ref, "/")
	via := typ + "/" + e.GetVia()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.orders[via] = append(r.orders[via], linear.Through(a, "via-"))
}

// passes notes where an acknowledged entry has left its trace beside its own log.
func (r *runner) passes(ref string, e *logbook_pb.Entry) {
	if e.GetVia() == "" {
		return
	}
	typ, _, _ := strings.Cut(ref, "/")
	r.mu.Lock()
	defer r.mu.Unlock()
	r.passed = append(r.passed, passage{typ + "/" + e.GetVia(), "via-" + e.GetId()})
}

// traces says where an acknowledged call was carried out in part.
func (r *runner) traces(final map[string][]string, lossy func(ref string) bool) (problems []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.passed {
		if !lossy(p.ref) && !slices.Contains(final[p.ref], p.id) {
			problems = append(problems, fmt.Sprintf("%s: %s is not there, and the call that it was part of went well", p.ref, p.id))
		}
	}
	return problems
}

// rush lets a call come to every log, and take its time, just before something happens:
// some are at rest then and are called back by others that are not.
func (r *runner) rush(calling *sync.WaitGroup) {
	for i := range logs {
		for _, typ := range []string{"DurableLog", "VolatileLog"} {
			e := &logbook_pb.Entry{Id: r.name(), WorkMicros: r.chance.Int64N(250_000)}
			if i+1 < logs {
				e.Via = fmt.Sprint(i + 1 + r.chance.IntN(logs-i-1))
			}
			gate := r.any(r.w.Gates())
			calling.Go(func() {
				if c, err := r.w.TryConnect(gate); err == nil {
					r.append(c, fmt.Sprintf("%s/%d", typ, i), "Append", e)
					c.Close()
				}
			})
		}
	}
	r.w.Advance(time.Duration(r.chance.Int64N(int64(50 * time.Millisecond))))
}

func (r *runner) read(c *goversetest.Client, ref string) {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	p := page{began: time.Now()}
	reply, err := c.TryCallContext(ctx, ref, "Read", &logbook_pb.ReadRequest{})
	p.ended = time.Now()
	switch {
	case err == nil:
		p.ids = reply.(*logbook_pb.Page).GetIds()
		r.reads.add(ref, p)
	case r.planned:
		r.w.T.Errorf("seed %d: a read of %s failed in a planned change: %v", r.seed, ref, err)
	}
}

// judge reads the final logs and compares them with what the clients were told.
func (r *runner) judge() {
	r.check()
	final := map[string][]string{}
	for i := range logs {
		for _, typ := range []string{"DurableLog", "VolatileLog"} {
			ref := fmt.Sprintf("%s/%d", typ, i)
			began := time.Now()
			final[ref] = r.w.Call(ref, "Read", &logbook_pb.ReadRequest{}).(*logbook_pb.Page).GetIds()
			r.reads.add(ref, page{began, time.Now(), final[ref]})
		}
	}
	lossy := func(ref string) bool { return r.crashed && strings.HasPrefix(ref, "Volatile") }
	problems := r.history.Check(final, lossy)
	problems = append(problems, r.reads.check(r.history, final, lossy)...)
	problems = append(problems, r.traces(final, lossy)...)
	r.order(lossy)
	problems = append(problems, r.ranAlthoughRefused(final)...)
	ok, notExecuted, unknown := r.history.Count()
	r.note("%d appends, %d not executed, %d unknown", ok, notExecuted, unknown)
	if r.planned && notExecuted+unknown > 0 {
		problems = append(problems, fmt.Sprintf("%d calls failed in a planned change: %q", notExecuted+unknown, r.history.Errors()))
	}
	if ok == 0 {
		problems = append(problems, "no call went well")
	}
	for _, alarm := range r.w.Alarms() {
		if r.planned || strings.Contains(alarm, "epoch") && !r.forgot {
			problems = append(problems, "alarm: "+alarm)
		}
	}
	if len(problems) > 0 {
		r.w.T.Errorf("seed %d:\n%s", r.seed, strings.Join(problems[:min(len(problems), 10)], "\n"))
	}
}

// order gathers all calls of the logs that are not lossy.
func (r *runner) order(lossy func(ref string) bool) {
	for ref, calls := range linear.Of(r.history) {
		r.orders[ref] = append(r.orders[ref], calls...)
	}
	for ref, pages := range r.reads.pages {
		for _, p := range pages {
			r.orders[ref] = append(r.orders[ref], linear.Read(p.began, p.ended, p.ids))
		}
	}
	maps.DeleteFunc(r.orders, func(ref string, _ []linear.Call) bool { return lossy(ref) })
}

// ranAlthoughRefused: nothing of a call that was said not to have run was done, on
// whatever activation. One whose commit surely did not take place has run, and nothing of
// it is left.
func (r *runner) ranAlthoughRefused(final map[string][]string) []string {
	var problems []string
	complain := func(ref string, a logbook.Append, what string) {
		problems = append(problems, fmt.Sprintf("%s: %s %s, and its caller was told that it did not run: %v", ref, a.ID, what, a.Err))
	}
	r.history.Each(func(ref string, a logbook.Append) {
		if n := r.witness.ledger.Executed(ref, a.ID); n > 1 {
			problems = append(problems, fmt.Sprintf("%s: %s ran %d times", ref, a.ID, n))
		}
		if a.Err == nil || goverseapi.OutcomeOf(a.Err) != goverseapi.NotExecuted {
			return
		}
		typ, _, _ := strings.Cut(ref, "/")
		undone := typ == "DurableLog" && fault.KindOf(a.Err) == fault.StoreFailed
		if !undone && r.witness.ledger.Executed(ref, a.ID) > 0 {
			complain(ref, a, "ran")
		}
		for via, ids := range final {
			if slices.Contains(ids, "via-"+a.ID) {
				complain(ref, a, "went by way of "+via)
			}
		}
	})
	return problems
}

// What may happen.

func (r *runner) any(list []string) string { return list[r.chance.IntN(len(list))] }

func (r *runner) members() []string { return append(r.w.Nodes(), r.w.Gates()...) }

func (r *runner) crash() {
	if len(r.w.Nodes()) == 0 {
		return
	}
	victim := r.any(r.w.Nodes())
	r.crashed = true
	r.witness.killed(r.w.On(victim))
	r.w.Crash(victim)
}

// stop ends a node as planned. Where it finds no way to another, not even by a third one,
// what it has only in memory ends with it.
func (r *runner) stop() {
	if len(r.w.Nodes()) > 1 {
		victim := r.any(r.w.Nodes())
		r.crashed = r.crashed || !r.reachesAll(victim)
		r.w.Stop(victim)
	}
}

// reachesAll says that a node has a way to each other one, and that where it has none of
// its own every third node has one: which of them passes on is a matter of chance.
func (r *runner) reachesAll(node string) bool {
	for _, to := range r.w.Nodes() {
		if to == node || !r.apart(node, to) {
			continue
		}
		thirds := 0
		for _, by := range r.w.Nodes() {
			if by == node || by == to {
				continue
			}
			if r.apart(node, by) || r.apart(by, to) {
				return false
			}
			thirds++
		}
		if thirds == 0 {
			return false
		}
	}
	return true
}

func (r *runner) apart(a, b string) bool { return r.cuts[[2]string{min(a, b), max(a, b)}] }

// cutOff notes that a and b have no way to each other, or only one.
func (r *runner) cutOff(a, b string) (string, string) {
	if r.cuts == nil {
		r.cuts = map[[2]string]bool{}
	}
	r.cuts[[2]string{min(a, b), max(a, b)}] = true
	return a, b
}

func (r *runner) start() {
	if len(r.w.Nodes()) < peak {
		r.witness.watch(r.w.On(r.w.AddNode()))
	}
}

func (r *runner) restart() {
	victim := r.any(r.w.Nodes())
	if len(r.w.Nodes()) == 1 {
		r.start()
		r.w.Settle()
	}
	r.w.Stop(victim)
	r.start()
}

func (r *runner) cut()         { r.crashed = true; r.w.CutFromEtcd(r.any(r.members())) }
func (r *runner) etcdDeaf()    { r.crashed = true; r.w.LoseEtcdAnswers(r.any(r.members())) }
func (r *runner) etcdLate()    { r.crashed = true; r.w.DelayEtcd(r.any(r.members())) }
func (r *runner) restartEtcd() { r.w.RestartEtcd() }
func (r *runner) heal()        { r.cuts, r.due = nil, nil; r.w.Heal() }
func (r *runner) delay()       { r.w.Delay(time.Duration(r.chance.Int64N(int64(300 * time.Millisecond)))) }

// pause lets a member stand still for up to three times its lease.
func (r *runner) pause() {
	r.crashed = true
	victim := r.any(r.members())
	r.w.Pause(victim)
	r.in(500*time.Millisecond+time.Duration(r.chance.Int64N(int64(15*time.Second))), func() {
		if slices.Contains(r.members(), victim) {
			r.note("%s goes on", victim)
			r.w.Resume(victim)
		}
	})
}

// straggle lets the next write of some nodes fall behind: a hand-over, mostly. It may
// arrive while its sender still waits for the answer, or long after it gave up.
func (r *runner) straggle() {
	for _, n := range r.w.Nodes() {
		if r.chance.IntN(2) == 0 {
			r.crashed = true
			r.w.StraggleToEtcd(n, 1, time.Second+time.Duration(r.chance.Int64N(int64(7*time.Second))))
		}
	}
}

func (r *runner) two() (a, b string) {
	list := r.members()
	i := r.chance.IntN(len(list))
	return list[i], list[(i+1+r.chance.IntN(len(list)-1))%len(list)]
}

func (r *runner) partition() {
	if len(r.members()) > 1 {
		r.w.Partition(r.cutOff(r.two()))
	}
}

func (r *runner) oneWay() {
	if len(r.members()) > 1 {
		r.w.PartitionOneWay(r.cutOff(r.two()))
	}
}

func (r *runner) loseAnswers() {
	if len(r.w.Nodes()) > 0 {
		r.w.LoseAnswers(r.any(r.w.Nodes()), 1+r.chance.IntN(5))
	}
}

func (r *runner) restartGate() { r.w.RestartGate(r.any(r.w.Gates())) }

func (r *runner) wipeEtcd() {
	r.crashed, r.forgot = true, true
	r.w.RestoreEtcd(memkv.Snapshot{})
}

// restoreEtcd also gives shards back, by the record, to nodes that had lost them while
// they were away from etcd: to those the history before looks like the one after. What
// lives in memory may be lost with it; order and reads are judged as ever.
func (r *runner) restoreEtcd() {
	r.crashed, r.forgot = true, true
	r.w.RestoreEtcd(r.snap)
}

// backUp is what a later restore brings back.
func (r *runner) backUp() { r.snap = r.w.EtcdSnapshot() }
