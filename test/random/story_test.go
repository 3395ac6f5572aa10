package random

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager/memkv"
	"github.com/xiaonanln/goverse/goverseapi"
	"github.com/xiaonanln/goverse/goversetest"
	"github.com/xiaonanln/goverse/test/logbook"
	logbook_pb "github.com/xiaonanln/goverse/test/logbook/proto"
)

// A story is a cluster, clients, and what befalls them in a virtual minute.
type story struct {
	seed    uint64
	chance  *rand.Rand
	nodes   int
	planned bool // nothing but planned change: no call may fail
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
	clients  = 4
	logs     = 10 // of each type
	deadline = 8 * time.Second
	peak     = 5 // nodes at most
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
		{2, "etcd restarts", (*runner).restartEtcd},
		{1, "etcd wiped", (*runner).wipeEtcd},
		{1, "etcd restored", (*runner).restoreEtcd},
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
	w       *goversetest.World
	ledger  *logbook.Ledger
	history *logbook.History
	snap    memkv.Snapshot
	loud    bool
	crashed bool // volatile state may be lost
	forgot  bool // etcd lost its memory: alarms are in order

	mu   sync.Mutex // protects following field
	next int        // names the appends
}

func run(t *testing.T, s story, loud bool) {
	cluster := goversetest.Cluster{Nodes: s.nodes, Gates: 1, Types: []goversetest.Type{
		goversetest.Of((*logbook.DurableLog)(nil)),
		goversetest.Of((*logbook.VolatileLog)(nil), goverseapi.WithDurability(goverseapi.Volatile)),
	}}
	goversetest.Sim(t, cluster, func(w *goversetest.World) {
		r := &runner{story: s, w: w, ledger: logbook.NewLedger(), history: logbook.NewHistory(), loud: loud}
		for _, n := range w.Nodes() {
			r.ledger.Watch(w.On(n))
		}
		r.tell()
		r.judge()
	})
}

// tell lets clients call while things happen, and then leaves the cluster in peace.
func (r *runner) tell() {
	r.snap = r.w.EtcdSnapshot()
	ctx, cancel := context.WithCancel(context.Background())
	var calling sync.WaitGroup
	defer calling.Wait()
	defer cancel()
	for i := range clients {
		chance := rand.New(rand.NewPCG(r.seed, uint64(100+i)))
		calling.Go(func() { r.client(ctx, chance) })
	}
	for end := time.Now().Add(length); time.Now().Before(end); {
		r.w.Advance(time.Duration(r.chance.Int64N(int64(4 * time.Second))))
		r.happen()
		r.check()
	}
	r.w.Heal()
	began := time.Now()
	if len(r.w.Nodes()) == 0 {
		r.start()
	}
	r.w.Settle()
	r.note("settled after %v", time.Since(began))
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
	if problems := r.ledger.Problems(); len(problems) > 0 {
		r.w.T.Fatalf("seed %d: %s", r.seed, strings.Join(problems, "\n"))
	}
}

// client appends, one entry after the other, until ctx ends.
func (r *runner) client(ctx context.Context, chance *rand.Rand) {
	var c *goversetest.Client
	for ctx.Err() == nil {
		time.Sleep(time.Duration(chance.Int64N(int64(500 * time.Millisecond))))
		if c == nil || c.Ended() {
			var err error
			if c, err = r.w.TryConnect("gate1"); err != nil {
				continue
			}
		}
		typ := []string{"DurableLog", "VolatileLog"}[chance.IntN(2)]
		to := chance.IntN(logs)
		e := &logbook_pb.Entry{Id: r.name(), WorkMicros: chance.Int64N(20000)}
		if chance.IntN(4) == 0 && to+1 < logs {
			e.Via = fmt.Sprint(to + 1 + chance.IntN(logs-to-1))
		}
		r.append(c, fmt.Sprintf("%s/%d", typ, to), e)
	}
}

func (r *runner) name() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next++
	return fmt.Sprint(r.next)
}

func (r *runner) append(c *goversetest.Client, ref string, e *logbook_pb.Entry) {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	a := logbook.Append{ID: e.GetId(), Began: time.Now()}
	reply, err := c.TryCallContext(ctx, ref, "Append", e)
	a.Ended, a.Err = time.Now(), err
	if err == nil {
		a.Mark = reply.(*logbook_pb.Mark)
	}
	if late := a.Ended.Sub(a.Began) - deadline; late > 250*time.Millisecond {
		r.w.T.Errorf("seed %d: the reply to %s came %v after its deadline: %v", r.seed, e.GetId(), late, err)
	}
	r.history.Add(ref, a)
}

// judge reads the final logs and compares them with what the clients were told.
func (r *runner) judge() {
	r.check()
	final := map[string][]string{}
	for i := range logs {
		for _, typ := range []string{"DurableLog", "VolatileLog"} {
			ref := fmt.Sprintf("%s/%d", typ, i)
			page := r.w.Call(ref, "Read", &logbook_pb.ReadRequest{}).(*logbook_pb.Page)
			final[ref] = page.GetIds()
		}
	}
	lossy := func(ref string) bool { return r.crashed && strings.HasPrefix(ref, "Volatile") }
	problems := r.history.Check(final, lossy)
	problems = append(problems, r.ranAlthoughRefused()...)
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

// ranAlthoughRefused: nothing of a call that was said not to have run was done, on
// whatever activation.
func (r *runner) ranAlthoughRefused() []string {
	var problems []string
	r.history.Each(func(ref string, a logbook.Append) {
		if a.Err != nil && goverseapi.OutcomeOf(a.Err) == goverseapi.NotExecuted && r.ledger.Executed(ref, a.ID) > 0 {
			problems = append(problems, fmt.Sprintf("%s: %s ran, and its caller was told that it did not: %v", ref, a.ID, a.Err))
		}
		if n := r.ledger.Executed(ref, a.ID); n > 1 {
			problems = append(problems, fmt.Sprintf("%s: %s ran %d times", ref, a.ID, n))
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
	r.ledger.Killed(r.w.On(victim))
	r.w.Crash(victim)
}

func (r *runner) stop() {
	if len(r.w.Nodes()) > 1 {
		r.w.Stop(r.any(r.w.Nodes()))
	}
}

func (r *runner) start() {
	if len(r.w.Nodes()) < peak {
		r.ledger.Watch(r.w.On(r.w.AddNode()))
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
func (r *runner) heal()        { r.w.Heal() }
func (r *runner) delay()       { r.w.Delay(time.Duration(r.chance.Int64N(int64(300 * time.Millisecond)))) }

func (r *runner) two() (a, b string) {
	list := r.members()
	i := r.chance.IntN(len(list))
	return list[i], list[(i+1+r.chance.IntN(len(list)-1))%len(list)]
}

func (r *runner) partition() {
	if len(r.members()) > 1 {
		r.w.Partition(r.two())
	}
}

func (r *runner) oneWay() {
	if len(r.members()) > 1 {
		r.w.PartitionOneWay(r.two())
	}
}

func (r *runner) loseAnswers() {
	if len(r.w.Nodes()) > 0 {
		r.w.LoseAnswers(r.any(r.w.Nodes()), 1+r.chance.IntN(5))
	}
}

func (r *runner) restartGate() { r.w.RestartGate(r.w.Gates()[0]) }

func (r *runner) wipeEtcd() {
	r.crashed, r.forgot = true, true
	r.w.RestoreEtcd(memkv.Snapshot{})
}

func (r *runner) restoreEtcd() {
	r.crashed, r.forgot = true, true
	r.w.RestoreEtcd(r.snap)
}
