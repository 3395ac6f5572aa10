package consensusmanager

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/memkv"
	"github.com/xiaonanln/goverse/cluster/sharding"
)

// Nodes come, crash and leave; shards follow, and end even.
func TestShardsFollowTheNodes(t *testing.T) {
	bubble(t, func(w *world) {
		a := w.node("a:1")
		w.until("a holds all", time.Minute, w.settled(a))
		b, c := w.node("b:1"), w.node("c:1")
		if took := w.until("even", time.Minute, w.settled(a, b, c)); took < 2*time.Second {
			t.Errorf("shards moved to nodes that had been there for %v", took)
		}
		b.crash()
		if took := w.until("b's shards are taken over", time.Minute, w.settled(a, c)); took > 6*time.Second {
			t.Errorf("it took %v", took)
		}
		r, _ := c.registration()
		if out, err := r.Drain(w.t.Context()); err != nil || !out.Written {
			t.Fatal(err)
		}
		if took := w.until("c has handed over", time.Minute, w.settled(a)); took > time.Second {
			t.Errorf("it took %v", took)
		}
		c.leave()
		w.until("a holds all", time.Minute, w.settled(a))
		for _, s := range a.View().Table.All() {
			if s.Epoch < 1 || s.Epoch > 4 {
				t.Errorf("%v: more hand-overs than there were reasons", s)
			}
		}
	})
}

// A node that comes and goes every few seconds keeps neither the others from being
// balanced nor what is lost from being recovered.
func TestANodeThatFlaps(t *testing.T) {
	bubble(t, func(w *world) {
		a, d := w.node("a:1", slow), w.node("d:1", slow)
		w.until("settled", time.Minute, w.settled(a, d))
		over, ended := make(chan struct{}), make(chan struct{})
		defer func() { close(over); <-ended }()
		go func() {
			defer close(ended)
			for {
				p := w.launch("c:1", slow)
				time.Sleep(1500 * time.Millisecond)
				p.crash()
				select {
				case <-over:
					return
				default:
				}
			}
		}()
		time.Sleep(20 * time.Second)
		b := w.node("b:1", slow)
		w.until("b has its share", 12*time.Second, func() bool { return count(a.View(), "b:1") >= 4 })
		b.crash()
		w.until("b's shards are held by a and d", 7*time.Second, func() bool {
			v := a.View()
			return count(v, "a:1")+count(v, "d:1") == 12 && v.Census().States[sharding.Held] == 12
		})
		time.Sleep(10 * time.Second)
		if n := count(a.View(), "c:1"); n > 0 {
			w.t.Errorf("%d shards are held by a node that comes and goes", n)
		}
	})
}

func slow(c *Config) { c.StabilityDelay = 10 * time.Second }

func count(v *View, address string) int {
	n := 0
	for _, s := range v.Table.All() {
		if s.Current == address {
			n++
		}
	}
	return n
}

// Below its quorum a frozen cluster leaves a dead node's shards where they were until
// there are enough again.
func TestFreeze(t *testing.T) {
	for _, loss := range []QuorumLoss{QuorumContinue, QuorumFreeze, QuorumStop} {
		bubble(t, func(w *world) {
			three := func(c *Config) { c.MinQuorum, c.QuorumLoss = 3, loss }
			a, b, c := w.node("a:1", three), w.node("b:1", three), w.node("c:1", three)
			w.until("formed", time.Minute, w.settled(a, b, c))
			if a.Rules().Refuses(a.View()) || len(a.Degraded()) > 0 {
				w.t.Errorf("%s: %q", loss, a.Degraded())
			}
			c.crash()
			time.Sleep(20 * time.Second)
			frozen := loss != QuorumContinue
			if got := a.Rules().Frozen(a.View()); got != frozen || frozen != (count(a.View(), "c:1") == 4) {
				w.t.Errorf("%s: frozen %v, c has %d shards", loss, got, count(a.View(), "c:1"))
			}
			if got := a.Rules().Refuses(a.View()); got != (loss == QuorumStop) {
				w.t.Errorf("%s: refuses %v", loss, got)
			}
			if d := a.Degraded(); len(d) != 1 || !strings.Contains(d[0], "2 nodes are ready, fewer than the quorum of 3") {
				w.t.Errorf("%s: %q", loss, d)
			}
			d := w.node("d:1", three)
			w.until("settled", time.Minute, w.settled(a, b, d))
		})
	}
}

// Cut off from etcd for a moment a leader leads no more, before its lease is in
// danger; and then again.
func TestLeaderThatIsCutOff(t *testing.T) {
	two(t, func(w *world, a, b, g *process) {
		r, _ := a.registration()
		a.conn.Set(memkv.Cut)
		time.Sleep(1400*time.Millisecond - etcdmanager.RenewInterval)
		if !r.Fresh() {
			w.t.Error("one late renewal")
		}
		w.until("it is no longer fresh", time.Second, func() bool { return !r.Fresh() })
		if !r.Trusted() {
			w.t.Error("and not trusted, too")
		}
		w.until("it is said", time.Second, func() bool { return w.said("leads no more") })
		a.conn.Set(memkv.Healthy)
		w.until("it is fresh again", time.Second, func() bool { return r.Fresh() && w.said("renews the lease again") })
		if _, n := a.registration(); n != 1 {
			w.t.Errorf("registered %d times", n)
		}
	})
}

// A leader whose renewals do not come through writes no plan, although its other
// requests do.
func TestLeaderWithoutRenewals(t *testing.T) {
	bubble(t, func(w *world) {
		renewals := w.etcd.Connect()
		defer renewals.Close()
		a := w.node("a:1", func(c *Config) { c.KVs = append(c.KVs, renewals) }, func(c *Config) { c.KVs[0] = noRenewals{c.KVs[0]} })
		w.until("a holds all", time.Minute, w.settled(a))
		renewals.Set(memkv.Cut)
		time.Sleep(1600 * time.Millisecond)
		w.operator(deleteKey(testKeys.shard(3))) // to be written anew, by a leader
		time.Sleep(time.Second)
		if s := a.View().Table.Shard(3); s.Raw() != nil {
			t.Errorf("a writes plans: %v", s)
		}
		w.operator(deleteKey(testKeys.leader()))
		time.Sleep(time.Second)
		if l := a.View().Leader; l.Term != 0 {
			t.Errorf("a leads: %+v", l)
		}
		renewals.Set(memkv.Healthy)
		w.until("a leads again", 2*time.Second, func() bool { return a.View().Table.Shard(3).Raw() != nil })
	})
}

// noRenewals is a way to etcd on which renewals get no answer.
type noRenewals struct{ etcdmanager.KV }

func (n noRenewals) KeepAlive(ctx context.Context, _ etcdmanager.LeaseID) (time.Duration, error) {
	<-ctx.Done()
	return 0, ctx.Err()
}

// Clusters whose prefixes begin alike, or continue each other, on one etcd.
func TestPrefixes(t *testing.T) {
	bubble(t, func(w *world) {
		prefixes := []string{"/a", "/ab", "/a/b", "/a/b/"[:4] + "c", "b", "/a/leader"}
		all := map[string]*process{}
		for i, prefix := range prefixes {
			all[prefix] = w.node(fmt.Sprintf("n%d:1", i), func(c *Config) { c.Prefix, c.NumShards = prefix, 3+i })
		}
		w.until("each has its own", time.Minute, func() bool {
			for i, prefix := range prefixes {
				v := all[prefix].View()
				if v.Table.Len() != 3+i || v.Census().States[sharding.Held] != 3+i {
					return false
				}
			}
			return true
		})
		for i, prefix := range prefixes {
			v, self := all[prefix].View(), fmt.Sprintf("n%d:1", i)
			if m := v.Members(); len(m) != 1 || m[0].Address != self || v.Leader.Address != self || len(v.Gates()) > 0 || len(v.Damage()) > 0 {
				w.t.Errorf("%s sees more than itself: %v", prefix, v)
			}
		}
		if len(w.notes) > 0 {
			w.t.Errorf("%q", w.notes)
		}
		all["/a"].crash()
		time.Sleep(time.Minute)
		for _, prefix := range prefixes[1:] {
			if _, n := all[prefix].registration(); n != 1 || all[prefix].View().Members().Has("n0:1") {
				w.t.Errorf("%s noticed the end of another cluster", prefix)
			}
		}
	})
	for _, prefix := range []string{"/a/nodes", "/a/gates/b", "a/reg", "/x/y/shards/"} {
		if _, err := New(Config{KVs: []etcdmanager.KV{nil}, Address: "a:1", Prefix: prefix}); err == nil || !strings.Contains(err.Error(), "use another name") {
			t.Errorf("%s: %v", prefix, err)
		}
	}
	for _, prefix := range []string{"/nodes", "/a/b", "shards/x", "/a/nodes2"} {
		if _, err := New(Config{KVs: []etcdmanager.KV{nil}, Address: "a:1", Prefix: prefix}); err != nil {
			t.Errorf("%s: %v", prefix, err)
		}
	}
}

func TestConfigOfTheQuorum(t *testing.T) {
	_, err := New(Config{KVs: []etcdmanager.KV{nil}, Address: "a:1", QuorumLoss: "panic", InFlight: -1, MinQuorum: -1})
	for _, want := range []string{`"panic"`, "want continue, freeze or stop", "-1 shards moving", "quorum of -1"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	if c := (Config{}).WithDefaults(); c.QuorumLoss != QuorumContinue || c.InFlight != 64 {
		t.Errorf("%+v", c)
	}
}

// Without etcd the first start is given up after a while, and says why.
func TestNoEtcd(t *testing.T) {
	bubble(t, func(w *world) {
		p := w.launch("a:1")
		p.conn.Set(memkv.Cut)
		begin := time.Now()
		err := <-p.done
		if took := time.Since(begin); took < 15*time.Second || took > 25*time.Second {
			w.t.Errorf("after %v", took)
		}
		for _, want := range []string{"gave up after 15s", "is it running", "no answer"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				w.t.Errorf("%v does not say %q", err, want)
			}
		}
		if !errors.Is(err, errNoView) {
			w.t.Error(err)
		}
		p.conn.Close()
	})
}

// What a leader of a hundred nodes does for each change.
func BenchmarkAHundredNodes(b *testing.B) {
	v, keys := hundred()
	self := Self{v.members[0].Address, v.members[0].Registration}
	rules := Rules{MinQuorum: 1, Stability: 10 * time.Second}
	later := epoch.Add(time.Hour)
	b.Run("decide, nothing to do", func(b *testing.B) {
		for b.Loop() {
			Decide(v, self, rules, later)
		}
	})
	b.Run("decide, ten nodes lost", func(b *testing.B) {
		lost, _ := v.Apply(keys, leave(v, 10), later)
		for b.Loop() {
			if len(Decide(lost, self, rules, later)[0].Changes) < 810 {
				b.Fatal("too few")
			}
		}
	})
	b.Run("apply one batch", func(b *testing.B) {
		one := etcdmanager.Batch{Revision: v.Revision + 1}
		for i, s := range v.Table.All() {
			if i == MaxBatch {
				break
			}
			next := s.Targeted("n050:1")
			one.Events = append(one.Events, etcdmanager.Event{Item: etcdmanager.Item{Key: keys.shard(s.ID), Value: next.Encode("x")}})
		}
		for b.Loop() {
			v.Apply(keys, one, later)
		}
	})
	b.Run("load", func(b *testing.B) {
		page := etcdmanager.Page{Revision: v.Revision + 1}
		for _, item := range v.values {
			page.Items = append(page.Items, item)
		}
		for _, s := range v.Table.All() {
			page.Items = append(page.Items, etcdmanager.Item{Key: keys.shard(s.ID), Value: s.Raw()})
		}
		for b.Loop() {
			if why := v.contradicts(keys, page); why != "" {
				b.Fatal(why)
			}
			v.Load(keys, page, later)
		}
	})
}

// A hundred nodes, and ten of them lost, and back: a plan and its application are no
// more than a second of one core.
func TestAHundredNodesAreQuick(t *testing.T) {
	v, keys := hundred()
	self := Self{v.members[0].Address, v.members[0].Registration}
	rules := Rules{MinQuorum: 1, Stability: 10 * time.Second}
	begin, now := time.Now(), epoch.Add(time.Hour)
	v, _ = v.Apply(keys, leave(v, 10), now)
	moved := 0
	for round := 0; ; round++ {
		intents := Decide(v, self, rules, now)
		if len(intents) == 0 {
			break
		}
		for _, batch := range PlanBatches(intents[0].Changes) { // written, claimed and seen
			moved += len(batch)
			b := etcdmanager.Batch{Revision: v.Revision + 1}
			for _, c := range batch {
				m, _ := v.members.Find(c.To)
				next := v.Table.Shard(c.Shard).Claimed(m.Address, m.Registration)
				b.Events = append(b.Events, etcdmanager.Event{Item: etcdmanager.Item{Key: keys.shard(c.Shard), Value: next.Encode(nonce())}})
			}
			v, _ = v.Apply(keys, b, now)
		}
		if round > 10 {
			t.Fatal("it does not settle")
		}
	}
	if held := v.Census().States[sharding.Held]; held != sharding.NumShards || moved < 810 || moved > 830 {
		t.Errorf("%d held after %d moves", held, moved)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

func hundred() (*View, keys) {
	b := etcdmanager.Batch{Revision: 2}
	put := func(key string, value []byte) {
		b.Events = append(b.Events, etcdmanager.Event{Item: etcdmanager.Item{Key: key, Value: value, CreateRevision: 2, ModRevision: 2}})
	}
	put(testKeys.meta(), encodeJSON(Meta{Cluster: "c", Boot: "b", Store: "none", Shards: sharding.NumShards}))
	put(testKeys.formed(), []byte("{}"))
	var nodes []Self
	for i := range 100 {
		n := Self{fmt.Sprintf("n%03d:1", i), fmt.Sprintf("x%03d", i)}
		nodes = append(nodes, n)
		put(testKeys.node(n.Address), encodeJSON(Member{Registration: n.Registration, State: StateReady}))
		put(testKeys.reg(n.Registration), []byte(n.Address))
	}
	put(testKeys.leader(), encodeJSON(Leader{Address: nodes[0].Address, Registration: nodes[0].Registration}))
	blank := sharding.NewTable(sharding.NumShards)
	for i, s := range blank.All() {
		next := s.Claimed(nodes[i%100].Address, nodes[i%100].Registration)
		put(testKeys.shard(s.ID), next.Encode("0"))
	}
	v, _ := newView().Apply(testKeys, b, epoch)
	return v, testKeys
}

// leave is the end of the last n nodes.
func leave(v *View, n int) etcdmanager.Batch {
	b := etcdmanager.Batch{Revision: v.Revision + 1}
	for _, m := range v.members[len(v.members)-n:] {
		for _, key := range []string{testKeys.node(m.Address), testKeys.reg(m.Registration)} {
			b.Events = append(b.Events, etcdmanager.Event{Item: etcdmanager.Item{Key: key}, Deleted: true})
		}
	}
	return b
}
