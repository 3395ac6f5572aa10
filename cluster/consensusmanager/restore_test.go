package consensusmanager

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/memkv"
	"github.com/xiaonanln/goverse/cluster/sharding"
)

// two is a cluster of two nodes and a gate that has settled.
func two(t *testing.T, body func(w *world, a, b, g *process)) {
	bubble(t, func(w *world) {
		quorum := func(c *Config) { c.MinQuorum = 2 }
		a, b := w.node("a:1", quorum), w.node("b:1", quorum)
		g := w.node("g:1", gate)
		w.until("settled", time.Minute, w.settled(a, b))
		time.Sleep(time.Minute)
		body(w, a, b, g)
	})
}

// etcd is restored by a few revisions, and before anybody has looked as many are
// written: the revision is where it was, the leases live, no watch says a word. All
// notice within a second, and the cluster settles again.
func TestRestoredByAFewRevisions(t *testing.T) {
	for lost := 1; lost <= 4; lost++ {
		two(t, func(w *world, a, b, g *process) {
			past := w.etcd.Snapshot()
			for i := range lost { // what all have seen, and what will not have been
				s := a.View().Table.Shard(sharding.ID(i))
				next := s.Targeted(s.Target)
				w.operator(putKey(testKeys.shard(s.ID), string(next.Encode("lost"))))
			}
			time.Sleep(100 * time.Millisecond)
			before := w.etcd.Revision()
			w.etcd.Restore(past)
			for i := 0; w.etcd.Revision() <= before; i++ {
				w.operator(putKey("/another/cluster", fmt.Sprint(i)))
			}
			for _, p := range []*process{a, b, g} {
				w.until(p.cfg.Address+" has noticed", time.Second, func() bool { return p.restored.Load() > 0 })
			}
			w.until("registered anew", 10*time.Second, func() bool {
				for _, p := range []*process{a, b, g} {
					if _, n := p.registration(); n < 2 {
						return false
					}
				}
				return true
			})
			w.until("settled", time.Minute, w.settled(a, b))
			if !w.said("restored from an older snapshot") {
				w.t.Errorf("%d lost: nobody was told", lost)
			}
		})
	}
}

// An etcd that only stops for a while and is as it was is no such thing.
func TestRestartIsNoRestore(t *testing.T) {
	two(t, func(w *world, a, b, g *process) {
		for range 3 {
			w.etcd.Restart()
			w.operator(putKey("/goverse/gates/x:1", `{"reg":"x"}`))
			time.Sleep(time.Minute)
		}
		for _, p := range []*process{a, b, g} {
			if _, n := p.registration(); n != 1 || p.restored.Load() != 0 {
				w.t.Errorf("%s registered %d times", p.cfg.Address, n)
			}
		}
	})
}

// Whatever is written, before and after a backup is put back: a view that saw it all
// finds no contradiction in a later picture of the same history, and finds one in any
// picture in which something that it saw, and that still stands, was never written.
func TestContradictions(t *testing.T) {
	ctx := t.Context()
	rapid.Check(t, func(t *rapid.T) {
		store := memkv.NewStore()
		defer store.Close()
		conn := store.Connect()
		defer conn.Close()
		n := 0
		write := func(label string) {
			for range rapid.IntRange(0, 5).Draw(t, label) {
				n++
				key := testKeys.shard(sharding.ID(rapid.IntRange(0, 3).Draw(t, "shard")))
				value := fmt.Sprintf(`{"e":0,"c":"","ci":"","t":"a","h":"","n":"%08x"}`, n)
				if rapid.IntRange(0, 3).Draw(t, "gate") == 0 {
					key, value = testKeys.gate("g"), fmt.Sprintf(`{"reg":"%d"}`, n)
				}
				txn := putKey(key, value)
				if rapid.IntRange(0, 3).Draw(t, "delete") == 0 {
					txn = deleteKey(key)
				}
				if _, err := conn.Commit(ctx, txn); err != nil {
					t.Fatal(err)
				}
			}
		}
		load := func() etcdmanager.Page {
			p, err := conn.Range(ctx, string(testKeys))
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		if _, err := conn.Commit(ctx, putKey(testKeys.meta(), `{"cluster":"c","boot":"b","store":"none","shards":4}`)); err != nil {
			t.Fatal(err)
		}
		write("before")
		past := store.Snapshot()
		write("lost")
		v, _ := newView().Load(testKeys, load(), epoch)
		seen := load()
		write("later")
		if why := v.contradicts(testKeys, load()); why != "" {
			t.Fatalf("nothing was restored: %s", why)
		}
		store.Restore(past)
		write("after")
		now := load()
		want := now.Revision < seen.Revision || undone(seen, now)
		if why := v.contradicts(testKeys, now); (why != "") != want {
			t.Fatalf("%q; the view is of %+v, etcd has %+v", why, seen, now)
		}
	})
}

// undone says whether now has a key as it stood at or before the revision of seen, and
// seen has it otherwise.
func undone(seen, now etcdmanager.Page) bool {
	for _, item := range now.Items {
		same := false
		for _, s := range seen.Items {
			same = same || s.Key == item.Key && string(s.Value) == string(item.Value) && s.ModRevision == item.ModRevision
		}
		if item.ModRevision <= seen.Revision && !same {
			return true
		}
	}
	return false
}

// What else may befall the keys that a process rests on: noticed, and dropped, within
// a renewal round.
func TestKeysThatAProcessRestsOn(t *testing.T) {
	for name, strike := range map[string]func(w *world, a *process, r *Registration){
		"its registration is deleted": func(w *world, a *process, r *Registration) { w.operator(deleteKey(testKeys.reg(r.Registration))) },
		"its node key is deleted":     func(w *world, a *process, r *Registration) { w.operator(deleteKey(testKeys.node(r.Address))) },
		"its node key is another's": func(w *world, a *process, r *Registration) {
			w.operator(putKey(testKeys.node(r.Address), `{"reg":"z"}`))
			w.operator(deleteKey(testKeys.node(r.Address)))
		},
		"its lease is revoked": func(w *world, a *process, r *Registration) {
			if err := a.conn.Revoke(w.t.Context(), r.lease.ID()); err != nil {
				w.t.Error(err)
			}
		},
		"meta is deleted": func(w *world, a *process, r *Registration) { w.operator(deleteKey(testKeys.meta())) },
		"meta is another": func(w *world, a *process, r *Registration) {
			w.operator(putKey(testKeys.meta(), strings.Replace(string(r.Meta.raw), "boot", "boot\":\"x\",\"then", 1)))
		},
		"all is wiped": func(w *world, a *process, r *Registration) { w.etcd.Restore(memkv.Snapshot{}) },
	} {
		t.Run(name, func(t *testing.T) {
			two(t, func(w *world, a, b, g *process) {
				r, _ := a.registration()
				strike(w, a, r)
				w.until("it is lost", 600*time.Millisecond, func() bool { return r.Err() != nil && !r.Trusted() && !r.Fresh() })
				w.until("settled", time.Minute, w.settled(a, b))
				if n := b.restored.Load(); n != 0 && name != "all is wiped" {
					w.t.Errorf("taken for a restore of etcd: %q", w.notes)
				}
			})
		})
	}
}

// etcd has no space left: nothing moves, nothing is lost, it is said, and all goes on
// by itself afterwards.
func TestNoSpace(t *testing.T) {
	two(t, func(w *world, a, b, g *process) {
		c := w.node("c:1")
		w.until("c is there", time.Minute, func() bool { return a.View().Members().Has("c:1") })
		w.etcd.SetFull(true)
		w.until("it is noticed", time.Minute, func() bool { return len(a.Degraded()) == 1 && strings.Contains(a.Degraded()[0], "no space") })
		before := w.etcd.Revision()
		time.Sleep(5 * time.Minute)
		for _, p := range []*process{a, b, c} {
			if r, n := p.registration(); n != 1 || !r.Trusted() {
				w.t.Errorf("%s registered %d times", p.cfg.Address, n)
			}
		}
		if w.etcd.Revision() != before || !w.settled(a, b)() {
			w.t.Error("something was written")
		}
		w.etcd.SetFull(false)
		w.until("settled", 2*time.Minute, w.settled(a, b, c))
		if d := a.Degraded(); len(d) > 0 {
			w.t.Errorf("%q", d)
		}
	})
}

// The watch falls behind what etcd keeps: all is loaded, at once, and nobody mistakes
// it for a restore.
func TestCompaction(t *testing.T) {
	two(t, func(w *world, a, b, g *process) {
		b.conn.Set(memkv.Cut)
		w.operator(putKey(testKeys.gate("x:1"), `{"reg":"x"}`))
		w.operator(deleteKey(testKeys.gate("x:1")))
		w.operator(putKey(testKeys.gate("y:1"), `{"reg":"y"}`))
		if err := w.etcd.Compact(w.etcd.Revision()); err != nil {
			w.t.Fatal(err)
		}
		b.conn.Set(memkv.Healthy)
		w.until("b sees it", 3*time.Second, func() bool { return len(b.View().Gates()) == 2 })
		if b.restored.Load() != 0 {
			w.t.Error("taken for a restore")
		}
	})
}
