package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/memkv"
	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

func who(id string) object.Call {
	return object.Call{Ref: object.Ref{Type: "Room", ID: id}, Method: "Who"}
}

// twoNodes is a formed cluster of two nodes and a gate; shard 0 is on the first node.
func twoNodes(w *world) (a, b, g *process) {
	two := func(c *Config) { c.MinQuorum = 2 }
	a, b, g = w.node(nodeA, two), w.node(nodeB, two), w.gate(gateG)
	w.ready(a, b, g)
	return a, b, g
}

func TestCallsThatNoNodeWouldTake(t *testing.T) {
	bubble(t, func(w *world) {
		a := w.node(nodeA, fresh)
		w.ready(a)
		for _, call := range []object.Call{
			{Ref: object.Ref{Type: "Room", ID: ""}, Method: "Who"},
			{Ref: object.Ref{Type: "Room", ID: "a\x00b"}, Method: "Who"},
			{Ref: object.Ref{Type: "Room", ID: strings.Repeat("x", 513)}, Method: "Who"},
			{Ref: object.Ref{Type: "Room", ID: "\xff"}, Method: "Who"},
			{Ref: object.Ref{Type: "", ID: "x"}, Method: "Who"},
			{Ref: object.Ref{Type: "Room", ID: "x"}},
			{Ref: object.Ref{Type: "Room", ID: ""}, Op: object.OpCreate},
		} {
			_, err := a.c.Call(context.Background(), call)
			if fault.KindOf(err) != fault.Invalid || fault.OutcomeOf(err) != fault.NotExecuted {
				t.Errorf("%q: %v", call.Ref, err)
			}
		}
		if _, err := a.c.Call(context.Background(), object.Call{Ref: object.Ref{Type: "Room", ID: "x"}, Op: object.OpCreate}); err != nil {
			t.Errorf("a creation needs no method: %v", err)
		}
	})
}

// failsThrice makes the host answer three calls with err, and counts all.
func (h *host) failsThrice(err error) *atomic.Int32 {
	asked := new(atomic.Int32)
	h.set(func() {
		h.answer = func(*peer.Request) error {
			if asked.Add(1) > 3 {
				return nil
			}
			return err
		}
	})
	return asked
}

// What surely did not run is tried again; everything else is the caller's to know.
func TestRetryLaw(t *testing.T) {
	for _, row := range fault.Table() {
		for _, stated := range []fault.Outcome{fault.NotExecuted, fault.Executed, fault.OutcomeUnknown} {
			bubble(t, func(w *world) {
				a, _, g := twoNodes(w)
				asked := a.host.failsThrice(fault.New(row.Kind, "no").With(stated))
				_, err := g.c.Call(context.Background(), who("shard#0/x"))
				if again := (row.Reroutes || row.Kind == fault.Overloaded) && stated == fault.NotExecuted; again {
					if err != nil || asked.Load() != 4 {
						t.Errorf("%s, %v: asked %d times: %v", row.Name, stated, asked.Load(), err)
					}
				} else if asked.Load() != 1 || fault.KindOf(err) != row.Kind || fault.OutcomeOf(err) != stated {
					t.Errorf("%s, %v: asked %d times: %v", row.Name, stated, asked.Load(), err)
				}
			})
		}
	}
}

// What may run twice is made again after its outcome was lost, and only then.
func TestAtLeastOnce(t *testing.T) {
	for _, row := range fault.Table() {
		bubble(t, func(w *world) {
			a, _, g := twoNodes(w)
			asked := a.host.failsThrice(fault.New(row.Kind, "no").With(fault.OutcomeUnknown))
			call := who("shard#0/x")
			call.AtLeastOnce = true
			_, err := g.c.Call(context.Background(), call)
			if want := row.Kind == fault.Indeterminate; want != (err == nil) || want != (asked.Load() == 4) {
				t.Errorf("%s: asked %d times: %v", row.Name, asked.Load(), err)
			}
		})
	}
}

// A call with an id is made again whenever nobody knows what became of it; one whose id
// may not count where it goes, only as any other.
func TestCallsWithAnID(t *testing.T) {
	for _, row := range fault.Table() {
		for _, ifKept := range []bool{false, true} {
			bubble(t, func(w *world) {
				a, _, g := twoNodes(w)
				asked := a.host.failsThrice(fault.New(row.Kind, "no").With(fault.OutcomeUnknown))
				call := who("shard#0/x")
				call.ID, call.IDIfKept = "an-id", ifKept
				_, err := g.c.Call(context.Background(), call)
				lost := row.Kind == fault.Indeterminate || row.Kind == fault.Fenced || row.Kind == fault.StoreFailed
				if want := lost && !ifKept; want != (err == nil) || want != (asked.Load() == 4) {
					t.Errorf("%s, %v: asked %d times: %v", row.Name, ifKept, asked.Load(), err)
				}
			})
		}
	}
}

// Retries of overloaded calls are a tenth of the calls, beside what a quiet process
// has saved up.
func TestRetryBudget(t *testing.T) {
	bubble(t, func(w *world) {
		a, _, g := twoNodes(w)
		asked := 0
		a.host.set(func() {
			a.host.answer = func(*peer.Request) error { asked++; return fault.New(fault.Overloaded, "full") }
		})
		const calls = 500
		refused, told := 0, map[event.LimitReached]int{}
		g.c.cfg.Listener.LimitReached = func(e event.LimitReached) { told[e]++ } // on this goroutine
		for range calls {
			_, err := g.c.Call(context.Background(), who("shard#0/x"))
			switch fault.KindOf(err) {
			case fault.Overloaded:
				refused++
			case fault.Deadline:
			default:
				t.Fatal(err)
			}
		}
		if want := (event.LimitReached{Limit: event.Retries, Type: who("").Ref.Type, ID: "shard#0/x"}); refused == 0 || len(told) != 1 || told[want] != refused {
			t.Errorf("%d calls were not tried again, and it told of %v", refused, told)
		}
		if retries := asked - calls; retries < maxRetries || retries > maxRetries+calls/10+1 {
			t.Errorf("%d retries of %d calls", retries, calls)
		}
	})
}

// Where two processes cannot reach each other, a third passes their calls on.
func TestRelay(t *testing.T) {
	bubble(t, func(w *world) {
		a, _, g := twoNodes(w)
		w.net.Partition(gateG, nodeA)
		for range 3 {
			if who, err := g.ask("shard#0/x"); who != a.c.cfg.Address || err != nil {
				t.Fatal(who, err)
			}
		}
		if !slices.ContainsFunc(w.notes.all(), func(s string) bool { return strings.Contains(s, "relay") }) {
			t.Error("nobody relayed")
		}
		w.net.Partition(nodeB, nodeA)
		asked := a.host.failsThrice(nil)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if _, err := g.c.Call(ctx, who("shard#0/x")); err == nil || asked.Load() > 0 {
			t.Errorf("no way at all, and it was asked %d times: %v", asked.Load(), err)
		}
		w.net.HealAll()
		if who, err := g.ask("shard#0/x"); who != a.c.cfg.Address || err != nil {
			t.Fatal(who, err)
		}
	})
}

// A chain that holds a void turn is refused before it does harm elsewhere.
func TestZombieCaller(t *testing.T) {
	bubble(t, func(w *world) {
		a, _, g := twoNodes(w)
		epoch := a.host.serving()[0]
		call := func(shard int, epoch uint64) error {
			ctx := callctx.With(context.Background(), &callctx.Info{Chain: callctx.Chain{
				ID: callctx.NewChainID(), Path: []callctx.Turn{{Type: "Room", ID: "y", Method: "M", Shard: shard, Epoch: epoch}},
			}})
			_, err := g.c.Call(ctx, who("shard#0/x"))
			return err
		}
		if err := errors.Join(call(0, epoch), call(16, 0)); err != nil {
			t.Errorf("a living turn and a pinned one: %v", err)
		}
		if err := call(0, epoch-1); fault.KindOf(err) != fault.StaleCaller || fault.OutcomeOf(err) != fault.NotExecuted {
			t.Errorf("a void turn: %v", err)
		}
	})
}

// The caller's deadline bounds all of it, and so does the configured one when the
// caller has none; the error says what was waited for, and that nothing ran. Whoever
// only waits hears it in time to pass it on.
func TestDeadlines(t *testing.T) {
	bubble(t, func(w *world) {
		a, _, g := twoNodes(w)
		a.host.set(func() {
			a.host.answer = func(*peer.Request) error { return fault.New(fault.Draining, "the door is shut") }
		})
		for _, bound := range []time.Duration{3 * time.Second, 0} {
			ctx, cancel := context.Background(), context.CancelFunc(func() {})
			want := DefaultCallTimeout
			if bound > 0 {
				ctx, cancel = context.WithTimeout(ctx, bound)
				want = bound
			}
			begin := time.Now()
			_, err := g.c.Call(ctx, who("shard#0/x"))
			cancel()
			if took := time.Since(begin); took < want-answerTime || took >= want {
				t.Errorf("it took %v, want just less than %v", took, want)
			}
			if fault.KindOf(err) != fault.Deadline || fault.OutcomeOf(err) != fault.NotExecuted || !strings.Contains(err.Error(), "the door is shut") ||
				!strings.Contains(err.Error(), "CallObject Room/shard#0/x.Who") {
				t.Error(err)
			}
		}
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(time.Second, cancel)
		if _, err := g.c.Call(ctx, who("shard#0/x")); fault.KindOf(err) != fault.Canceled || fault.OutcomeOf(err) != fault.NotExecuted {
			t.Error(err)
		}
	})
}

// A deadline that has passed: nothing is even asked.
func TestDeadlineBefore(t *testing.T) {
	bubble(t, func(w *world) {
		a := w.node(nodeA, fresh)
		w.ready(a)
		a.host.set(func() { a.host.answer = func(*peer.Request) error { t.Error("it was asked"); return nil } })
		ctx, cancel := context.WithTimeout(context.Background(), -time.Second)
		defer cancel()
		if _, err := a.c.Call(ctx, who("x")); fault.KindOf(err) != fault.Deadline || fault.OutcomeOf(err) != fault.NotExecuted {
			t.Error(err)
		}
	})
}

// Calls wait for what is not there yet, and say for what.
func TestCallsWaitForTheCluster(t *testing.T) {
	bubble(t, func(w *world) {
		g := w.gate(gateG)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := g.c.Call(ctx, who("x")); err == nil || !strings.Contains(err.Error(), "no node has created the cluster yet") || ctx.Err() != nil {
			t.Error(err)
		}
		answers := make(chan error, 100)
		for i := range cap(answers) {
			go func() {
				reply, err := g.c.Call(context.Background(), who(fmt.Sprint(i)))
				if err == nil && string(reply.JSON) != nodeA {
					err = errors.New(string(reply.JSON))
				}
				answers <- err
			}()
		}
		time.Sleep(5 * time.Second)
		w.node(nodeA)
		for range cap(answers) {
			if err := <-answers; err != nil {
				t.Error(err)
			}
		}
	})
}

// The holder dies: a call that is on its way ends as unknown, one that comes later
// waits for the next holder.
func TestHolderDies(t *testing.T) {
	bubble(t, func(w *world) {
		a, _, g := twoNodes(w)
		stuck := make(chan struct{})
		var asked atomic.Int32
		a.host.set(func() { a.host.answer = func(*peer.Request) error { asked.Add(1); <-stuck; return nil } })
		first := make(chan error, 1)
		go func() { _, err := g.c.Call(context.Background(), who("shard#0/x")); first <- err }()
		synctest.Wait()
		a.cut()
		time.Sleep(8 * time.Second)
		if err := <-first; fault.KindOf(err) != fault.Indeterminate || fault.OutcomeOf(err) != fault.OutcomeUnknown || asked.Load() != 1 {
			t.Errorf("asked %d times: %v", asked.Load(), err)
		}
		if at, err := g.ask("shard#0/x"); at != nodeB || err != nil {
			t.Errorf("%q, %v", at, err)
		}
		close(stuck)
	})
}

func TestPinnedToANode(t *testing.T) {
	bubble(t, func(w *world) {
		_, b, g := twoNodes(w)
		if at, err := g.ask(nodeB + "/timer"); at != nodeB || err != nil {
			t.Errorf("%q, %v", at, err)
		}
		begin := time.Now()
		_, err := g.ask("10.0.0.77:1/timer")
		if fault.OutcomeOf(err) != fault.NotExecuted || !strings.Contains(err.Error(), "no node is registered at 10.0.0.77:1") || time.Since(begin) > 21*time.Second {
			t.Error(err)
		}
		if at, err := b.ask("room:x/y"); err != nil || at == "" {
			t.Errorf("an ordinary id with a slash: %q, %v", at, err)
		}
	})
}

// A node that knows a newer holder is believed, so that one view that lags costs a hop
// and no wait.
func TestHint(t *testing.T) {
	bubble(t, func(w *world) {
		a, b, g := twoNodes(w)
		hint := func(to string, epoch uint64) func(*peer.Request) error {
			return func(*peer.Request) error {
				e := fault.New(fault.WrongHolder, "moved")
				e.Holder, e.Epoch = to, epoch
				return e
			}
		}
		a.host.set(func() { a.host.answer = hint(nodeB, 7) })
		var epoch atomic.Uint64
		b.host.set(func() {
			b.host.answer = func(r *peer.Request) error { epoch.Store(r.Epoch); return fault.New(fault.Failed, "ran") }
		})
		begin := time.Now()
		if _, err := g.c.Call(context.Background(), who("shard#0/x")); fault.KindOf(err) != fault.Failed || epoch.Load() != 7 || time.Since(begin) > 0 {
			t.Errorf("%v at epoch %d after %v", err, epoch.Load(), time.Since(begin))
		}
		// Two that send each other everything, ever higher: it ends.
		var asked atomic.Int32
		circle := func(to string) func(*peer.Request) error {
			return func(r *peer.Request) error { asked.Add(1); return hint(to, r.Epoch+1)(r) }
		}
		a.host.set(func() { a.host.answer = circle(nodeB) })
		b.host.set(func() { b.host.answer = circle(nodeA) })
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if _, err := g.c.Call(ctx, who("shard#0/x")); fault.KindOf(err) != fault.Deadline || asked.Load() > 60 {
			t.Errorf("asked %d times: %v", asked.Load(), err)
		}
		// A hint to nobody is no hint.
		a.host.set(func() { a.host.answer = hint("10.7.7.7:1", 99) })
		ctx, cancel = context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := g.c.Call(ctx, who("shard#0/x")); fault.KindOf(err) != fault.Deadline {
			t.Error(err)
		}
	})
}

// Pushes come from every node, also from one that comes later, also after a stream
// was lost.
func TestFollowPushes(t *testing.T) {
	bubble(t, func(w *world) {
		a, b, g := twoNodes(w)
		ctx, stop := context.WithCancel(context.Background())
		heard := make(chan string, 100)
		ended := make(chan error, 1)
		var streams sync.Map // what was told of them
		go func() {
			ended <- g.c.FollowPushes(ctx, gateG, func(f peer.PushFrame) error {
				if f.Stream != nil {
					streams.Store(*f.Stream, true)
					return nil
				}
				heard <- string(f.JSON)
				return nil
			})
		}()
		<-g.c.PushesReady()
		from := func(p *process) {
			t.Helper()
			w.settle(func() string {
				p.host.mu.Lock()
				deliver := p.host.gates[gateG]
				p.host.mu.Unlock()
				if deliver == nil {
					return p.c.cfg.Address + " has no stream"
				}
				if err := deliver(peer.PushFrame{Broadcast: true, JSON: []byte(p.c.cfg.Address)}); err != nil {
					return err.Error()
				}
				return ""
			})
			if got := <-heard; got != p.c.cfg.Address {
				t.Errorf("heard %s", got)
			}
		}
		from(a)
		from(b)
		c := w.node(nodeC)
		w.settle(func() string {
			if c.c.View().Revision == 0 || !g.c.View().Members().Has(nodeC) {
				return "the node is not seen"
			}
			return ""
		})
		from(c)
		c.leave()
		again := w.node(nodeC)
		w.settle(func() string {
			if !g.c.View().Members().Has(nodeC) {
				return "the node is not seen"
			}
			return ""
		})
		from(again)
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		for _, node := range []string{a.c.cfg.Address, b.c.cfg.Address, nodeC} {
			for _, up := range []bool{true, false} {
				if _, told := streams.Load(peer.Stream{Node: node, Up: up}); !told {
					t.Errorf("nobody was told that the stream of %s is up: %v", node, up)
				}
			}
		}
	})
}

// The gate's own view stands still while etcd is away: calls still find their way.
func TestCallsWithoutEtcd(t *testing.T) {
	bubble(t, func(w *world) {
		_, _, g := twoNodes(w)
		g.conn.Set(memkv.Cut)
		time.Sleep(time.Minute)
		if at, err := g.ask("shard#0/x"); at != nodeA || err != nil {
			t.Errorf("%q, %v", at, err)
		}
		if p := g.c.Problems(); len(p) == 0 || !slices.ContainsFunc(p, func(s string) bool { return strings.Contains(s, "etcd") }) {
			t.Errorf("%q", p)
		}
	})
}

// idle is a node that answers at once.
type idle struct{ Host }

func (idle) Open(context.Context, Tenure, []Claim) ([]Refusal, error) { return nil, nil }
func (idle) Drain(context.Context, sharding.ID) error                 { return nil }
func (idle) Drop([]sharding.ID, string)                               {}
func (idle) ServeCall(context.Context, *peer.Request) (object.Payload, error) {
	return object.Payload{}, nil
}

// The way of a call to an object on this very node, without what the node does.
func BenchmarkLocalCall(b *testing.B) {
	store := memkv.NewStore()
	defer store.Close()
	conn := store.Connect()
	defer conn.Close()
	c, err := New(Config{Address: nodeA, KVs: []etcdmanager.KV{conn}, Dialer: peer.NewNetwork().Dialer(nodeA), FreshCluster: true})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- c.Run(ctx, idle{}) }()
	<-c.Ready()
	call := who("x")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Call(context.Background(), call); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	stop()
	if err := <-done; err != nil {
		b.Error(err)
	}
}

// A cluster that is to stop below its quorum refuses clients, and nobody else, until
// it has its nodes again.
func TestQuorumLoss(t *testing.T) {
	for loss, want := range map[consensusmanager.QuorumLoss]fault.Kind{
		consensusmanager.QuorumContinue: 0, consensusmanager.QuorumFreeze: 0, consensusmanager.QuorumStop: fault.NotReady,
	} {
		bubble(t, func(w *world) {
			two := func(c *Config) { c.MinQuorum, c.QuorumLoss = 2, loss }
			a, b, g := w.node(nodeA, two), w.node(nodeB, two), w.gate(gateG)
			w.ready(a, b, g)
			b.leave()
			w.holds(a)
			ask := func(caller callctx.Caller) error {
				ctx, cancel := context.WithTimeout(callctx.With(context.Background(), &callctx.Info{Caller: caller}), time.Second)
				defer cancel()
				_, err := a.c.Call(ctx, who("shard#0/x"))
				return err
			}
			if err := ask(callctx.Caller{Client: true}); fault.KindOf(err) != want {
				t.Errorf("%s: a client's call: %v", loss, err)
			}
			if err := ask(callctx.Caller{}); err != nil {
				t.Errorf("%s: an object's call: %v", loss, err)
			}
			if got := a.c.Degraded(); len(got) != 1 {
				t.Errorf("%s: degraded: %q", loss, got)
			}
			b = w.node(nodeB, two)
			w.ready(b)
			w.settle(func() string { // b is ready by its own view; a's may be behind
				if a.c.View().Ready() < 2 {
					return "a does not see b"
				}
				return ""
			})
			if err := ask(callctx.Caller{Client: true}); err != nil || len(a.c.Degraded()) > 0 {
				t.Errorf("%s: with its quorum: %v, %q", loss, err, a.c.Degraded())
			}
		})
	}
}
