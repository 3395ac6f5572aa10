package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/memkv"
	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

const (
	nodeA = "10.0.0.1:47000"
	nodeB = "10.0.0.2:47000"
	nodeC = "10.0.0.3:47000"
	gateG = "10.0.0.9:49000"
)

func fresh(c *Config) { c.FreshCluster = true }

func three(c *Config) { c.MinQuorum = 3 }

func TestOneNode(t *testing.T) {
	bubble(t, func(w *world) {
		begin := time.Now()
		a := w.node(nodeA, fresh)
		w.ready(a)
		if took := time.Since(begin); took > 100*time.Millisecond {
			t.Errorf("a fresh cluster was ready after %v", took)
		}
		if n := len(a.host.serving()); n != 16 {
			t.Errorf("%d shards are open", n)
		}
		if who, err := a.ask("x"); who != nodeA || err != nil {
			t.Errorf("%q, %v", who, err)
		}
		if p := a.c.Problems(); len(p) > 0 {
			t.Errorf("ready with problems: %q", p)
		}
		if self := a.c.Self(); self.Address != nodeA || !a.c.View().Registered(self.Registration) {
			t.Errorf("self is %v", self)
		}
		a.leave()
		operator := w.etcd.Connect()
		defer operator.Close()
		page, err := operator.Range(context.Background(), "/")
		if err != nil || len(page.Items) == 0 {
			t.Fatal(err)
		}
		for _, item := range page.Items {
			if item.Lease != 0 {
				t.Errorf("%s is left behind", item.Key)
			}
		}
		if problems := a.c.Problems(); len(problems) != 1 || !strings.Contains(problems[0], "stopped") {
			t.Errorf("%q", problems)
		}
	})
}

func TestWaitsForStabilityUnlessFresh(t *testing.T) {
	bubble(t, func(w *world) {
		begin := time.Now()
		a := w.node(nodeA, func(c *Config) { c.StabilityDelay = 10 * time.Second })
		synctest.Wait()
		if p := a.c.Problems(); len(p) == 0 {
			t.Error("no problem before the cluster has formed")
		}
		w.ready(a)
		if took := time.Since(begin); took < 10*time.Second || took > 11*time.Second {
			t.Errorf("ready after %v", took)
		}
	})
}

// The first mapping is dealt over the nodes that formed the cluster.
func TestThreeNodesAndAGate(t *testing.T) {
	bubble(t, func(w *world) {
		g := w.gate(gateG)
		c, a := w.node(nodeC, three), w.node(nodeA, three)
		time.Sleep(30 * time.Second)
		for _, p := range []*process{g, a, c} {
			if len(p.c.Problems()) == 0 {
				t.Errorf("%s is ready without a quorum", p.c.cfg.Address)
			}
		}
		b := w.node(nodeB, three)
		w.ready(a, b, c, g)
		v := g.c.View()
		for _, s := range v.Table.All() {
			if want := []string{nodeA, nodeB, nodeC}[int(s.ID)%3]; s.Current != want {
				t.Errorf("%v: want %s", s, want)
			}
			if who, err := g.ask(fmt.Sprintf("shard#%d/x", s.ID)); who != s.Current || err != nil {
				t.Errorf("%v: %q, %v", s, who, err)
			}
		}
		if v.Leader.Address != nodeA {
			t.Errorf("%s leads", v.Leader.Address)
		}
		if err := v.Table.Check(); err != nil {
			t.Error(err)
		}
	})
}

// Nodes die, the leader first; those that are left take their shards over, and no
// shard is ever served twice.
func TestNodesDie(t *testing.T) {
	bubble(t, func(w *world) {
		a, b, c := w.node(nodeA, three), w.node(nodeB, three), w.node(nodeC, three)
		w.ready(a, b, c)
		over := make(chan struct{})
		defer close(over)
		go w.watchHolders(over)

		died := time.Now()
		a.cut()
		w.holds(b, c)
		if took := time.Since(died); took > 7*time.Second {
			t.Errorf("the take-over took %v", took)
		}
		w.settle(func() string {
			if v := c.c.View(); v.Leader.Address != nodeB {
				return "nobody leads after the leader died: " + v.String()
			}
			return ""
		})
		b.cut()
		w.holds(c)
		for _, s := range c.c.View().Table.All() {
			if s.Current != nodeC || s.Epoch < 1 || s.Epoch > 3 {
				t.Errorf("%v", s)
			}
		}
		if who, err := c.ask("shard#0/x"); who != nodeC || err != nil {
			t.Errorf("%q, %v", who, err)
		}
	})
}

// A node that etcd did not hear for too long has lost all; when it is heard again it
// is another member, and gets what nobody holds.
func TestLeaseLostAndRegisteredAnew(t *testing.T) {
	bubble(t, func(w *world) {
		a := w.node(nodeA)
		w.ready(a)
		first := a.c.Self()
		a.cut()
		time.Sleep(10 * time.Second)
		if n := len(a.host.serving()); n != 0 {
			t.Errorf("%d shards are served without a lease", n)
		}
		if len(a.c.Problems()) == 0 {
			t.Error("no problem without a lease")
		}
		a.conn.Set(memkv.Healthy)
		w.holds(a)
		if a.c.Self().Registration == first.Registration {
			t.Error("the registration is the same")
		}
		a.host.set(func() {
			if !slices.Contains(a.host.dropped, "the registration was lost") {
				t.Errorf("the host was not told: %q", a.host.dropped)
			}
		})
		for _, s := range a.c.View().Table.All() {
			if s.Epoch != 2 {
				t.Errorf("%v: want epoch 2", s)
			}
		}
	})
}

// A short silence costs nothing: same registration, same epochs.
func TestShortSilence(t *testing.T) {
	bubble(t, func(w *world) {
		a := w.node(nodeA)
		w.ready(a)
		first, opened := a.c.Self(), a.host.opened
		a.cut()
		time.Sleep(3 * time.Second)
		if n := len(a.host.serving()); n != 16 {
			t.Errorf("%d shards are served within the lease", n)
		}
		a.conn.Set(memkv.Healthy)
		time.Sleep(10 * time.Second)
		if a.c.Self() != first || a.host.opened != opened {
			t.Errorf("%v became %v", first, a.c.Self())
		}
	})
}

// Answers are lost while shards are claimed and planned: nothing is lost with them.
func TestUnknownOutcomes(t *testing.T) {
	for _, fault := range []memkv.Fault{memkv.AnswersLost, memkv.Late} {
		for at := range 12 {
			bubble(t, func(w *world) {
				a := w.node(nodeA, fresh)
				w.views(a, at)
				a.conn.Set(fault)
				time.Sleep(1500 * time.Millisecond)
				a.conn.Set(memkv.Healthy)
				w.holds(a)
				if who, err := a.ask("x"); who != nodeA || err != nil {
					t.Errorf("%q, %v", who, err)
				}
			})
		}
	}
}

// A node leaves in good order: others take its shards at once, not after its lease.
func TestLeaving(t *testing.T) {
	bubble(t, func(w *world) {
		a, b := w.node(nodeA, func(c *Config) { c.MinQuorum = 2 }), w.node(nodeB, func(c *Config) { c.MinQuorum = 2 })
		w.ready(a, b)
		over := make(chan struct{})
		defer close(over)
		go w.watchHolders(over)
		begin := time.Now()
		a.leave()
		w.holds(b)
		if took := time.Since(begin); took > time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// A shard on which a call will not end is not given away while the process may still
// run it.
func TestLeavingWithACallThatWillNotEnd(t *testing.T) {
	bubble(t, func(w *world) {
		two := func(c *Config) { c.MinQuorum = 2; c.DrainBudget = 3 * time.Second }
		a, b := w.node(nodeA, two), w.node(nodeB, two)
		w.ready(a, b)
		a.host.set(func() { a.host.refuse[4] = true })
		registration := a.c.Self().Registration
		begin := time.Now()
		a.leave()
		if took := time.Since(begin); took < 3*time.Second || took > 5*time.Second {
			t.Errorf("it took %v", took)
		}
		if !b.c.View().Registered(registration) {
			t.Error("the lease was revoked although a call still runs")
		}
		if s := b.c.View().Table.Shard(4); s.Current != nodeA {
			t.Errorf("%v was given away", s)
		}
		w.holds(b)
	})
}

func TestEtcdAwayWhileLeaving(t *testing.T) {
	bubble(t, func(w *world) {
		a := w.node(nodeA)
		w.ready(a)
		a.cut()
		begin := time.Now()
		a.leave()
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestSameAddressTwice(t *testing.T) {
	bubble(t, func(w *world) {
		first := w.node(nodeA)
		w.ready(first)
		begin := time.Now()
		second := w.startQuiet(nodeA)
		select {
		case <-second.done:
		case <-time.After(time.Minute):
			t.Fatal("the second waits for ever")
		}
		if !errors.Is(second.err, consensusmanager.ErrAddressTaken) || !strings.Contains(second.err.Error(), nodeA) {
			t.Errorf("%v", second.err)
		}
		if took := time.Since(begin); took < 15*time.Second || took > 17*time.Second {
			t.Errorf("it gave up after %v", took)
		}
		if !slices.ContainsFunc(w.notes.all(), func(n string) bool { return strings.Contains(n, "not registered yet: address taken") }) {
			t.Error("it did not say why it waits")
		}
	})
	bubble(t, func(w *world) { // the first dies while the second waits
		first := w.node(nodeA)
		w.ready(first)
		second := w.startQuiet(nodeA)
		time.Sleep(5 * time.Second)
		first.cut()
		w.ready(second)
	})
}

func TestDisagreements(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		want   error
	}{
		"shards":   {func(c *Config) { c.NumShards = 32 }, consensusmanager.ErrShardsDiffer},
		"store":    {func(c *Config) { c.StoreID = "store-2" }, consensusmanager.ErrStoreDiffers},
		"no store": {func(c *Config) { c.StoreID = "" }, consensusmanager.ErrStoreDiffers},
	} {
		bubble(t, func(w *world) {
			w.ready(w.node(nodeA))
			b := w.node(nodeB, c.change)
			<-b.done
			if !errors.Is(b.err, c.want) {
				t.Errorf("%s: %v", name, b.err)
			}
		})
	}
	bubble(t, func(w *world) { // who does not say how many shards takes what there is
		w.ready(w.node(nodeA))
		b := w.node(nodeB, func(c *Config) { c.NumShards = 0 })
		w.ready(b)
		if n := b.c.View().Table.Len(); n != 16 {
			t.Errorf("%d shards", n)
		}
	})
}

func TestTwoClustersOnOneEtcd(t *testing.T) {
	bubble(t, func(w *world) {
		in := func(prefix string) func(*Config) { return func(c *Config) { c.Prefix = prefix } }
		a := w.node(nodeA, in("/one"))
		b := w.node(nodeB, in("/one2"), func(c *Config) { c.NumShards = 8; c.StoreID = "store-2" })
		w.ready(a, b)
		if len(a.c.View().Members()) != 1 || len(b.c.View().Members()) != 1 || b.c.View().Table.Len() != 8 {
			t.Errorf("they see each other:\n%v\n%v", a.c.View(), b.c.View())
		}
		if a.c.View().Leader.Address != nodeA || b.c.View().Leader.Address != nodeB {
			t.Error("each has its own leader")
		}
	})
}

// Garbage in any key alarms, stops nobody, and is repaired where Goverse may.
func TestGarbage(t *testing.T) {
	for _, key := range []string{
		"shards/0003", "shards/0000", "shards/9999", "shards/x", "nodes/" + nodeB, "nodes/zzz", "gates/x", "reg/zz", "map", "leader", "formed", "hold2", "other/x",
	} {
		bubble(t, func(w *world) {
			a := w.node(nodeA)
			w.ready(a)
			operator := w.etcd.Connect()
			defer operator.Close()
			for _, junk := range []string{"junk", `{"e":"x"}`, "\xff\x00", ""} {
				if _, err := operator.Commit(context.Background(), put("/goverse/"+key, junk)); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
			}
			w.holds(a)
			time.Sleep(40 * time.Second) // a full load, too
			w.holds(a)
			if who, err := a.ask("shard#3/x"); who != nodeA || err != nil {
				t.Errorf("%s: %q, %v", key, who, err)
			}
			said := slices.ContainsFunc(w.notes.all(), func(n string) bool { return strings.Contains(n, "/goverse/"+key) && strings.Contains(n, ": 2 ") })
			if known := !slices.Contains([]string{"formed", "hold2", "other/x", "reg/zz"}, key); said != known {
				t.Errorf("%s: alarmed: %v", key, said)
			}
			if v := a.c.View(); strings.HasPrefix(key, "shards/000") && (v.Census().Damaged > 0 || v.Table.Shard(3).Epoch != 1) {
				t.Errorf("%s was not repaired: %v", key, v.Table.Shard(3))
			}
		})
	}
}

func put(key, value string) etcdmanager.Txn {
	return etcdmanager.Txn{Then: []etcdmanager.Op{etcdmanager.Put(key, []byte(value), 0)}}
}

// Somebody deletes keys: the node's own is a lost registration, a shard's is written
// anew, and without meta the cluster begins anew, after the lock-delay.
func TestDeletedKeys(t *testing.T) {
	for _, key := range []string{"reg", "node", "shard", "map", "formed", "leader", "meta", "all"} {
		bubble(t, func(w *world) {
			a, b := w.node(nodeA, func(c *Config) { c.MinQuorum = 2 }), w.node(nodeB, func(c *Config) { c.MinQuorum = 2 })
			w.ready(a, b)
			over := make(chan struct{})
			defer close(over)
			go w.watchHolders(over)
			operator := w.etcd.Connect()
			defer operator.Close()
			var txn etcdmanager.Txn
			page, err := operator.Range(context.Background(), "/goverse/")
			if err != nil {
				t.Fatal(err)
			}
			for _, item := range page.Items {
				name := map[string]string{"reg": "reg/" + a.c.Self().Registration, "node": "nodes/" + nodeA, "shard": "shards/0004"}[key]
				if key == "all" || item.Key == "/goverse/"+or(name, key) {
					txn.Then = append(txn.Then, etcdmanager.Delete(item.Key))
				}
			}
			if _, err := operator.Commit(context.Background(), txn); err != nil || len(txn.Then) == 0 {
				t.Fatal(err, len(txn.Then))
			}
			time.Sleep(20 * time.Second)
			w.holds(a, b)
			for _, p := range []*process{a, b} {
				if problems := p.c.Problems(); len(problems) > 0 {
					t.Errorf("%s deleted: %s: %q\n%v", key, p.c.cfg.Address, problems, p.c.View())
				}
			}
		})
	}
}

// etcd comes back as it was some time ago, which it does not say.
func TestEtcdRestored(t *testing.T) {
	bubble(t, func(w *world) {
		a := w.node(nodeA, fresh)
		w.ready(a)
		past := w.etcd.Snapshot()
		b := w.node(nodeB)
		w.ready(b)
		a.leave()
		w.holds(b)
		over := make(chan struct{})
		defer close(over)
		go w.watchHolders(over)
		w.etcd.Restore(past)
		w.holds(b)
		time.Sleep(time.Minute)
		w.holds(b)
		if problems := b.c.Problems(); len(problems) > 0 {
			t.Errorf("%q\n%v", problems, b.c.View())
		}
	})
}

// The store knows more than etcd, which was wiped: epochs are minted past it.
func TestStoreKnowsHigherEpochs(t *testing.T) {
	bubble(t, func(w *world) {
		for id := range 16 {
			w.fences.set(sharding.ID(id), uint64(id*7), "10.9.9.9:1#gone")
		}
		a := w.node(nodeA)
		w.ready(a)
		for _, s := range a.c.View().Table.All() {
			if want := uint64(max(1, int(s.ID)*7+1)); s.Epoch != want {
				t.Errorf("%v: want epoch %d", s, want)
			}
		}
	})
}

// Somebody outside this etcd keeps raising the fences: two clusters on one store.
func TestTwoClustersOnOneStore(t *testing.T) {
	bubble(t, func(w *world) {
		w.fences.greedy = true
		a := w.node(nodeA)
		<-a.done
		if a.err == nil || !strings.Contains(a.err.Error(), "another cluster uses the same store") {
			t.Errorf("%v", a.err)
		}
	})
	bubble(t, func(w *world) {
		w.fences.set(3, 1<<63-1, "x#y")
		a := w.node(nodeA)
		<-a.done
		if a.err == nil || !strings.Contains(a.err.Error(), "none can be minted") {
			t.Errorf("%v", a.err)
		}
	})
}

// The store is away when the node comes: it says so, and is ready when it is back.
func TestStoreAway(t *testing.T) {
	bubble(t, func(w *world) {
		a := w.node(nodeA)
		a.host.set(func() { a.host.fail = errStore })
		time.Sleep(20 * time.Second)
		if p := a.c.Problems(); len(p) != 1 || !strings.Contains(p[0], errStore.Error()) {
			t.Errorf("%q", p)
		}
		a.host.set(func() { a.host.fail = nil })
		w.ready(a)
	})
}

func TestNoEtcd(t *testing.T) {
	bubble(t, func(w *world) {
		a := w.node(nodeA, func(c *Config) { c.KVs[0].(*memkv.Conn).Set(memkv.Cut) })
		<-a.done
		if a.err == nil || !strings.Contains(a.err.Error(), "gave up after 15s") || !strings.Contains(a.err.Error(), "etcd") {
			t.Errorf("%v", a.err)
		}
	})
}

// A restart at the same address, once the old lease is revoked, waits for nothing.
func TestFastRestart(t *testing.T) {
	bubble(t, func(w *world) {
		var lease etcdmanager.LeaseID
		record := func(c *Config) { c.RecordLease = func(id etcdmanager.LeaseID) error { lease = id; return nil } }
		a := w.node(nodeA, record)
		w.ready(a)
		a.cut()
		begin := time.Now()
		again := w.startQuiet(nodeA, record, func(c *Config) { c.PreviousLease = lease })
		w.ready(again)
		if took := time.Since(begin); took > 100*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		for _, n := range w.notes.all() {
			if strings.Contains(n, "taken") {
				t.Error(n)
			}
		}
	})
}

// Started and stopped at any moment, nothing is left, and no call is lost.
func TestStartStopStress(t *testing.T) {
	for i := range 40 {
		bubble(t, func(w *world) {
			a := w.node(nodeA, fresh)
			w.views(a, i/4)
			a.leave()
			b := w.startQuiet(nodeA)
			w.ready(b)
		})
	}
}

func TestConfigProblemsAreAllNamed(t *testing.T) {
	_, err := New(Config{
		Address: "here", Prefix: "//", NumShards: 9000, MinQuorum: -1, LeaseTTL: time.Second, JoinTimeout: -1, CallTimeout: -1,
	})
	if err == nil {
		t.Fatal("it was accepted")
	}
	for _, part := range []string{"etcd", "here", "prefix", "9000", "quorum", "lease", "join timeout", "Dialer", "call timeout"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("nothing about %s in:\n%v", part, err)
		}
	}
	for _, address := range []string{"", "h", ":80", "h:0", "h:99999", "a/b:80", "a b:80", "h:80\n", `a":80`} {
		cfg := Config{Address: address, KVs: []etcdmanager.KV{nil}, Dialer: peer.NewNetwork().Dialer("")}
		if cfg.Validate() == nil {
			t.Errorf("the address %q was accepted", address)
		}
	}
}

func TestHostAndRoleMustAgree(t *testing.T) {
	bubble(t, func(w *world) {
		g := w.gate(gateG)
		if err := g.c.Run(context.Background(), newHost(w, gateG)); err == nil {
			t.Error("a gate with a host")
		}
	})
}

func TestLateCallAfterTheEnd(t *testing.T) {
	bubble(t, func(w *world) {
		a := w.node(nodeA, fresh)
		w.ready(a)
		a.leave()
		begin := time.Now()
		_, err := a.c.Call(context.Background(), object.Call{Ref: object.Ref{Type: "T", ID: "x"}, Method: "M"})
		if err == nil || !strings.Contains(err.Error(), "has left the cluster") || time.Since(begin) > time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
	})
}
