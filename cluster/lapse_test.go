package cluster

import (
	"testing"
	"time"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/memkv"
	"github.com/xiaonanln/goverse/cluster/sharding"
)

// watchFences fails the test if a process serves a shard for which the store knows a
// later holder.
func (w *world) watchFences(until <-chan struct{}) {
	for {
		for _, p := range w.all {
			if p.host == nil {
				continue
			}
			stamped := w.fences.snapshot() // first: who has closed a shard meanwhile serves it no more
			for id, epoch := range p.host.serving() {
				if f := stamped[id]; f.epoch > epoch {
					w.Errorf("%s serves shard %d at epoch %d, and the store knows epoch %d of %s", p.c.cfg.Address, id, epoch, f.epoch, f.owner)
					return
				}
			}
		}
		select {
		case <-until:
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// lapse is two nodes, of which a is away from etcd until its lease has ended and b has
// everything. past is from before.
func lapse(t *testing.T, body func(w *world, a, b *process, past memkv.Snapshot)) {
	bubble(t, func(w *world) {
		a, b := w.node(nodeA), w.node(nodeB)
		w.ready(a, b)
		w.holds(a, b)
		w.settle(func() string { // even, and at rest
			if len(a.host.serving()) != 8 || len(b.host.serving()) != 8 {
				return "not even"
			}
			return ""
		})
		time.Sleep(time.Second)
		past := w.etcd.Snapshot()
		until := make(chan struct{})
		defer close(until)
		go w.watchHolders(until)
		go w.watchFences(until)
		a.cut()
		w.holds(b)
		body(w, a, b, past)
	})
}

// A node is away from etcd until its lease has ended, others take its shards over, and
// etcd is put back to when it had them: its lease lives again, and the records are as it
// knows them. It does not go on with what others have had meanwhile, and does not take
// it back before they are silent, wherever they are.
func TestRestoredWhileAway(t *testing.T) {
	for name, strike := range map[string]func(a, b *process){
		"the other notices":     func(a, b *process) { a.conn.Set(memkv.Healthy) },
		"the other is away now": func(a, b *process) { b.cut(); a.conn.Set(memkv.Healthy) },
		"the other is away, and is back": func(a, b *process) {
			b.cut()
			a.conn.Set(memkv.Healthy)
			time.Sleep(4 * time.Second)
			b.conn.Set(memkv.Healthy)
		},
		"the node is back a little later": func(a, b *process) { time.Sleep(time.Second); a.conn.Set(memkv.Healthy) },
	} {
		t.Run(name, func(t *testing.T) {
			lapse(t, func(w *world, a, b *process, past memkv.Snapshot) {
				w.etcd.Restore(past)
				strike(a, b)
				time.Sleep(time.Minute)
				b.conn.Set(memkv.Healthy)
				w.holds(a, b)
			})
		})
	}
}

// Trust that comes back costs one look into the store, and trust that never lapsed
// none. Until the store answers, nothing is served.
func TestTheStoreConfirms(t *testing.T) {
	bubble(t, func(w *world) {
		a := w.node(nodeA)
		w.ready(a)
		w.holds(a)
		time.Sleep(time.Minute)
		w.etcd.Restart()
		time.Sleep(time.Minute)
		if a.host.confirms != 0 {
			t.Errorf("%d looks into the store although the trust has never lapsed", a.host.confirms)
		}
		a.cut()
		w.settle(func() string {
			if a.c.Self().Registration == "" || a.registration().Trusted() {
				return "still trusted"
			}
			return ""
		})
		a.host.set(func() { a.host.fail = errStore })
		a.conn.Set(memkv.Healthy)
		for range 200 {
			time.Sleep(100 * time.Millisecond)
			if n := len(a.host.serving()); n != 0 {
				t.Fatalf("%d shards are served although the store has not confirmed them", n)
			}
		}
		if !a.registration().Trusted() {
			t.Error("the trust is not back")
		}
		if len(a.c.Problems()) == 0 {
			t.Error("the node calls itself ready")
		}
		a.host.set(func() { a.host.fail = nil })
		w.holds(a)
		if len(a.host.dropped) != 0 || len(a.c.Problems()) != 0 {
			t.Errorf("dropped: %q, problems: %q", a.host.dropped, a.c.Problems())
		}
	})
}

func (p *process) registration() *consensusmanager.Registration { return p.c.registration.Load() }

// State that came with a hand-over which the store refused is not the newest.
func TestRefusedStateIsStale(t *testing.T) {
	r := &reconciler{slots: make([]slot, 2)}
	r.slots[0].stale, r.slots[1].stale = "h1", "h0"
	shards := []*sharding.Shard{{ID: 0, Handover: "h1"}, {ID: 1, Handover: "h1"}}
	if list := r.claims(shards); list[0].Handover != "" || list[1].Handover != "h1" {
		t.Errorf("%+v", list)
	}
}
