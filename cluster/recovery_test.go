package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/memkv"
	"github.com/xiaonanln/goverse/cluster/sharding"
)

func (w *world) said(part string) bool {
	return slices.ContainsFunc(w.notes.all(), func(n string) bool { return strings.Contains(n, part) })
}

// etcd forgets what happened since a backup, its members' leases among it or not: all
// is dropped and taken up anew, at epochs above those that the store knows.
func TestEtcdGoesBack(t *testing.T) {
	for _, c := range []string{"before b", "with both", "to nothing"} {
		bubble(t, func(w *world) {
			two := func(c *Config) { c.MinQuorum = 2 }
			a := w.node(nodeA, two)
			time.Sleep(time.Second)
			past := w.etcd.Snapshot()
			b := w.node(nodeB, two)
			w.ready(a, b)
			if c == "with both" {
				past = w.etcd.Snapshot()
				g := w.gate(gateG)
				w.ready(g)
				g.leave()
			}
			if c == "to nothing" {
				past = memkv.Snapshot{}
			}
			time.Sleep(time.Second) // all have seen what will not have been
			over := make(chan struct{})
			defer close(over)
			go w.watchHolders(over)
			before := w.etcd.Revision()
			w.etcd.Restore(past)
			if w.etcd.Revision() >= before {
				t.Fatal("etcd did not go back")
			}
			begin := time.Now()
			time.Sleep(time.Second)
			if len(a.host.serving())+len(b.host.serving()) == 16 && c != "with both" {
				t.Errorf("%s: shards are served that this etcd gave nobody", c)
			}
			w.holds(a, b)
			took := time.Since(begin)
			if took < 6*time.Second && c == "to nothing" || took > 15*time.Second {
				t.Errorf("%s: held again after %v", c, took)
			}
			time.Sleep(time.Minute)
			w.holds(a, b)
			for _, p := range []*process{a, b} {
				if problems := p.c.Problems(); len(problems) > 0 {
					t.Errorf("%s: %q", c, problems)
				}
			}
			for _, s := range a.c.View().Table.All() {
				// With both: who notices first writes, and may so hide it from the other, whose
				// records are as they were.
				if s.Epoch < 2 && c != "with both" {
					t.Errorf("%s: %v was held before at epoch 1", c, s)
				}
			}
		})
	}
}

// Whoever begins a cluster anew and had a part in its earlier life holds claims back
// for as long as somebody of that life may still be speaking.
func TestLockDelay(t *testing.T) {
	held := func(w *world) bool {
		for range 20 {
			time.Sleep(10 * time.Millisecond)
			for _, p := range w.all {
				if p.c.View().Hold {
					return true
				}
			}
		}
		return false
	}
	bubble(t, func(w *world) { // a fresh start does not wait
		a := w.node(nodeA, fresh)
		if held(w) {
			t.Error("a fresh cluster has a lock-delay")
		}
		w.ready(a)
	})
	bubble(t, func(w *world) { // the store has served a cluster before
		begin := time.Now()
		a := w.node(nodeA, fresh, func(c *Config) { c.StoreCluster = "old-cluster" })
		if !held(w) {
			t.Error("no lock-delay")
		}
		w.ready(a)
		if took := time.Since(begin); took < 6*time.Second || took > 8*time.Second {
			t.Errorf("ready after %v", took)
		}
		if meta := a.c.View().Meta; meta.Cluster != "old-cluster" {
			t.Errorf("the cluster is now %s", meta.Cluster)
		}
	})
	bubble(t, func(w *world) { // somebody wiped the keys, and the first to come is new
		a := w.node(nodeA)
		w.ready(a)
		a.cut()
		w.etcd.Restore(memkv.Snapshot{})
		b := w.node(nodeB)
		time.Sleep(2 * time.Second)
		a.conn.Set(memkv.Healthy)
		w.settle(func() string {
			if !b.c.View().Hold {
				return "the node of the earlier life came without a lock-delay"
			}
			return ""
		})
		w.holds(a, b)
	})
}

// The watch falls behind what etcd keeps.
func TestCompacted(t *testing.T) {
	bubble(t, func(w *world) {
		two := func(c *Config) { c.MinQuorum = 2 }
		a, b := w.node(nodeA, two), w.node(nodeB, two)
		w.ready(a, b)
		b.cut()
		g := w.gate(gateG)
		w.ready(g)
		g.leave()
		if err := w.etcd.Compact(w.etcd.Revision()); err != nil {
			t.Fatal(err)
		}
		b.conn.Set(memkv.Healthy)
		c := w.node(nodeC)
		w.settle(func() string {
			if !b.c.View().Members().Has(nodeC) {
				return "b sees nothing any more"
			}
			return ""
		})
		w.ready(c)
		w.holds(a, b)
		if !w.said("reload") {
			t.Error("nobody said why it loaded everything")
		}
	})
}

func TestUnreadableMeta(t *testing.T) {
	bubble(t, func(w *world) {
		operator := w.etcd.Connect()
		defer operator.Close()
		if _, err := operator.Commit(context.Background(), put("/goverse/meta", "{}")); err != nil {
			t.Fatal(err)
		}
		a := w.node(nodeA)
		<-a.done
		if !errors.Is(a.err, consensusmanager.ErrMetaUnreadable) || !strings.Contains(a.err.Error(), "/goverse/meta") {
			t.Errorf("%v", a.err)
		}
		b := w.node(nodeB) // and when it is repaired in time
		time.Sleep(5 * time.Second)
		if _, err := operator.Commit(context.Background(), etcdmanager.Txn{Then: []etcdmanager.Op{etcdmanager.Delete("/goverse/meta")}}); err != nil {
			t.Fatal(err)
		}
		w.ready(b)
	})
}

// The disk is full where the lease is noted for the next process: said, and survived.
func TestLeaseCannotBeRecorded(t *testing.T) {
	bubble(t, func(w *world) {
		a := w.node(nodeA, func(c *Config) { c.RecordLease = func(etcdmanager.LeaseID) error { return errors.New("disk full") } })
		w.ready(a)
		if !w.said("could not be recorded") || !w.said("disk full") {
			t.Error("it was not said")
		}
	})
}

// The process stands still for longer than its lease, as a stopped virtual machine
// does, while etcd goes on without it: it serves nothing on the first instruction.
func TestPaused(t *testing.T) {
	bubble(t, func(w *world) {
		two := func(c *Config) { c.MinQuorum = 2 }
		a, b := w.node(nodeA, two), w.node(nodeB, two)
		w.ready(a, b)
		over := make(chan struct{})
		defer close(over)
		go w.watchHolders(over)
		a.conn.Set(memkv.Late) // what it sends arrives when it wakes up
		w.holds(b)
		a.conn.Set(memkv.Healthy)
		time.Sleep(time.Minute)
		w.holds(a, b)
		if problems := a.c.Problems(); len(problems) > 0 {
			t.Errorf("%q", problems)
		}
	})
}

// A shard whose fence somebody else took in the store is shut by the host. As long as
// etcd names this node it is opened again, past the foreign fence; a fence that keeps
// rising under the hands of nobody in this etcd ends the node (TestTwoClustersOnOneStore).
func TestFenceTakenInTheStore(t *testing.T) {
	bubble(t, func(w *world) {
		a := w.node("a:1")
		w.ready(a)
		const id = sharding.ID(4)
		w.fences.set(id, 7, "10.9.9.9:1#elsewhere")
		a.host.Drop([]sharding.ID{id}, "the store knows another holder")
		a.host.lost <- id
		w.settle(func() string {
			if epoch := a.host.serving()[id]; epoch <= 7 {
				return fmt.Sprintf("shard %d is served at epoch %d", id, epoch)
			}
			return ""
		})
		a.host.lost <- id // a late word about the tenure that has ended harms nothing
		w.holds(a)
	})
}
