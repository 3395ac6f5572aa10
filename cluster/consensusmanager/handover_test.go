package consensusmanager

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/memkv"
	"github.com/xiaonanln/goverse/cluster/sharding"
)

// moving is a cluster of a, which holds all, and b, to which half of it is to go; a
// does not hand over by itself.
func moving(t *testing.T, body func(w *world, a, b *process, batch []Handover)) {
	bubble(t, func(w *world) {
		w.byHand = true
		a := w.node("a:1", func(c *Config) { c.KVs[0] = overQuota{c.KVs[0], &w.filling} })
		w.until("a holds all", time.Minute, w.settled(a))
		b := w.node("b:1")
		w.until("shards are to move", time.Minute, func() bool { return a.View().Census().States[sharding.Moving] == 6 })
		body(w, a, b, leaving(a, b))
	})
}

// leaving is what a is to hand to b, as a sees it.
func leaving(a, b *process) []Handover {
	r, _ := b.registration()
	var batch []Handover
	for _, s := range a.View().Table.All() {
		if s.Target == r.Address && s.Current != r.Address {
			batch = append(batch, Handover{Shard: s, To: r.Self, ID: "id"})
		}
	}
	return batch
}

// handing is the transaction that hands the batch over.
func handing(w *world, a *process, batch []Handover) etcdmanager.Txn {
	w.t.Helper()
	r, _ := a.registration()
	records, err := a.View().receiving(batch)
	if err != nil {
		w.t.Fatal(err)
	}
	return r.w.hand(batch, records)
}

func shardsOf(batch []Handover) []*sharding.Shard {
	var list []*sharding.Shard
	for _, h := range batch {
		list = append(list, h.Shard)
	}
	return list
}

// holds counts the shards of the batch that etcd says b holds.
func holds(w *world, p *process) int {
	conn := w.etcd.Connect()
	defer conn.Close()
	v, err := Read(context.Background(), conn, DefaultPrefix)
	if err != nil {
		w.t.Fatal(err)
	}
	n := 0
	for _, s := range v.Table.All() {
		if s.Current == p.cfg.Address {
			n++
		}
	}
	return n
}

func TestHandOver(t *testing.T) {
	moving(t, func(w *world, a, b *process, batch []Handover) {
		r, _ := a.registration()
		out, err := r.HandOver(w.t.Context(), batch)
		if err != nil || !out.Written {
			w.t.Fatalf("%+v, %v", out, err)
		}
		a.await(w.t.Context(), out.Revision)
		for _, h := range batch {
			s := a.View().Table.Shard(h.Shard.ID)
			if s.Current != "b:1" || s.Registration != h.To.Registration || s.Target != "b:1" || s.Epoch != h.Shard.Epoch+1 || s.Handover != "id" {
				w.t.Errorf("%v handed over is %v", h.Shard, s)
			}
		}
		// Again, with what is no longer so: refused, and known to be.
		if out, err := r.HandOver(w.t.Context(), batch); err != nil || out.Written {
			w.t.Errorf("%+v, %v", out, err)
		}
		// And with what never was: not even asked.
		for _, wrong := range []Handover{
			{Shard: a.View().Table.Shard(batch[0].Shard.ID), To: batch[0].To}, // b's
			{Shard: batch[0].Shard, To: Self{"c:1", "c1"}},                    // not its target
			{Shard: batch[0].Shard, To: r.Self},                               // itself
			{Shard: batch[0].Shard.Lost(nil), To: batch[0].To},                // damaged
			{Shard: sharding.NewTable(1).Shard(0), To: batch[0].To},           // nobody's
		} {
			if _, err := r.HandOver(w.t.Context(), []Handover{wrong}); !errors.Is(err, etcdmanager.ErrNotApplied) {
				w.t.Errorf("%+v: %v", wrong, err)
			}
		}
	})
}

// A receiver that died, or was born again, gets nothing.
func TestHandOverToADeadNode(t *testing.T) {
	moving(t, func(w *world, a, b *process, batch []Handover) {
		b.leave()
		b = w.node("b:1")
		w.until("b is back", time.Minute, func() bool {
			born, _ := b.registration()
			seen, ok := a.View().Member("b:1")
			return ok && born != nil && seen.Registration == born.Registration
		})
		r, _ := a.registration()
		out, err := r.HandOver(w.t.Context(), batch)
		if !errors.Is(err, etcdmanager.ErrNotApplied) || out.Written || holds(w, b) > 0 {
			w.t.Errorf("%+v, %v", out, err)
		}
	})
}

// A receiver that has begun to leave gets nothing either, also where the holder has not
// seen it yet.
func TestHandOverToANodeThatLeaves(t *testing.T) {
	moving(t, func(w *world, a, b *process, batch []Handover) {
		txn := handing(w, a, batch)
		r, _ := b.registration()
		if out, err := r.Drain(w.t.Context()); err != nil || !out.Written {
			w.t.Fatal(out, err)
		}
		ra, _ := a.registration()
		if result, err := ra.commit(w.t.Context(), txn); err != nil || result.Held || holds(w, b) > 0 {
			w.t.Errorf("%+v, %v", result, err)
		}
	})
}

// The answer is lost. Whatever became of the hand-over, Resolve finds out, and it
// stays so.
func TestResolve(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault memkv.Fault
		// during happens while a is cut off, after what it sent.
		during func(w *world, a, b *process, batch []Handover)
		still  bool
	}{
		{"it arrived", memkv.AnswersLost, nil, false},
		{"it did not", memkv.Cut, nil, true},
		{"it arrives when all is over", memkv.Late, nil, false}, // with the first word after it, in order
		{"the target has changed", memkv.Cut, func(w *world, a, b *process, batch []Handover) {
			next := batch[0].Shard.Targeted("a:1")
			w.operator(putKey("/goverse/shards/"+id4(batch[0].Shard.ID), string(next.Encode("changed"))))
		}, true},
		{"the key is gone", memkv.Cut, func(w *world, a, b *process, batch []Handover) {
			w.operator(deleteKey("/goverse/shards/" + id4(batch[0].Shard.ID)))
		}, true},
		{"the key is gone, and it arrived", memkv.AnswersLost, func(w *world, a, b *process, batch []Handover) {
			w.operator(deleteKey("/goverse/shards/" + id4(batch[0].Shard.ID)))
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			moving(t, func(w *world, a, b *process, batch []Handover) {
				r, _ := a.registration()
				a.conn.Set(c.fault)
				ctx, cancel := context.WithTimeout(w.t.Context(), time.Second)
				_, err := r.HandOver(ctx, batch)
				cancel()
				if err == nil || errors.Is(err, etcdmanager.ErrNotApplied) {
					w.t.Fatalf("an outcome that cannot be known: %v", err)
				}
				if c.during != nil {
					c.during(w, a, b, batch)
				}
				time.AfterFunc(500*time.Millisecond, func() { a.conn.Set(memkv.Healthy) })
				told, err := r.Resolve(w.t.Context(), shardsOf(batch))
				if err != nil || told.Still != c.still || told.Record == nil || told.Revision == 0 {
					w.t.Fatalf("%+v, %v", told, err)
				}
				w.until("b sees it", time.Second, func() bool { return b.View().Revision >= told.Revision })
				if s := b.View().Table.Shard(told.Record.ID); c.still && (s.Epoch != told.Record.Epoch || !s.HeldBy("a:1", r.Registration) || !told.Record.HeldBy("a:1", r.Registration)) {
					w.t.Errorf("told %v, and it is %v", told.Record, s)
				}
				if n := holds(w, b); c.still && n > 0 || !c.still && n < 5 {
					w.t.Errorf("b holds %d", n)
				}
			})
		})
	}
}

func id4(id sharding.ID) string { return testKeys.shard(id)[len(testKeys)+len("shards/"):] }

// A hand-over that is still on its way when Resolve says that it failed has failed.
func TestResolveIsFinal(t *testing.T) {
	moving(t, func(w *world, a, b *process, batch []Handover) {
		r, _ := a.registration()
		late := w.etcd.Connect()
		defer late.Close()
		late.Set(memkv.Late)
		ctx, cancel := context.WithTimeout(w.t.Context(), time.Second)
		defer cancel()
		_, _ = late.Commit(ctx, handing(w, a, batch)) // it waits on the wire
		told, err := r.Resolve(w.t.Context(), shardsOf(batch))
		if err != nil || !told.Still {
			w.t.Fatalf("%+v, %v", told, err)
		}
		late.Set(memkv.Healthy) // and arrives
		if n := holds(w, b); n > 0 {
			w.t.Errorf("after it was said to have failed it gave b %d shards", n)
		}
		// What was resolved can be handed over, with the record that was told.
		batch[0].Shard = told.Record
		if out, err := r.HandOver(w.t.Context(), batch); err != nil || !out.Written {
			w.t.Errorf("%+v, %v", out, err)
		}
	})
}

// A record that somebody deleted or destroyed tells nothing of the hand-over, and is not
// written anew by whoever may no longer hold it; another of the batch tells.
func TestResolveOnDamage(t *testing.T) {
	for _, applied := range []bool{true, false} {
		for _, junk := range []bool{true, false} {
			moving(t, func(w *world, a, b *process, batch []Handover) {
				r, _ := a.registration()
				w.operator(putKey("/goverse/nodes/A", "{}")) // keeps all from leading: nothing is repaired
				if applied {
					w.operator(handing(w, a, batch))
				}
				strike := deleteKey(testKeys.shard(batch[0].Shard.ID))
				if junk {
					strike = putKey(testKeys.shard(batch[0].Shard.ID), "junk")
				}
				w.operator(strike)
				told, err := r.Resolve(w.t.Context(), shardsOf(batch))
				if err != nil || told.Still == applied || told.Record.ID != batch[1].Shard.ID {
					w.t.Errorf("applied %v: %+v, %v", applied, told, err)
				}
				there := w.operator(etcdmanager.Txn{Then: []etcdmanager.Op{etcdmanager.Get(testKeys.shard(batch[0].Shard.ID))}}).Gets[0]
				if there.Exists != junk || junk && string(there.Item.Value) != "junk" {
					w.t.Errorf("the record was written anew: %s", there.Item.Value)
				}
				told, err = r.Resolve(w.t.Context(), shardsOf(batch[:1])) // and with none to tell
				if err != nil || told.Still || !told.Record.Damaged {
					w.t.Errorf("%+v, %v", told, err)
				}
			})
		}
	}
}

// Of a registration that is gone nothing is left to hold.
func TestResolveOfALostRegistration(t *testing.T) {
	moving(t, func(w *world, a, b *process, batch []Handover) {
		r, _ := a.registration()
		w.operator(deleteKey("/goverse/reg/" + r.Registration))
		told, err := r.Resolve(w.t.Context(), shardsOf(batch))
		if err == nil && told.Still || err != nil && !errors.Is(err, ErrLost) {
			w.t.Errorf("%+v, %v", told, err)
		}
	})
	moving(t, func(w *world, a, b *process, batch []Handover) { // nor when nobody answers
		r, _ := a.registration()
		a.conn.Set(memkv.Cut)
		ctx, cancel := context.WithTimeout(w.t.Context(), 2*time.Second)
		defer cancel()
		begin := time.Now()
		if told, err := r.Resolve(ctx, shardsOf(batch)); err == nil || told.Still || time.Since(begin) > 2*time.Second {
			w.t.Errorf("after %v: %+v, %v", time.Since(begin), told, err)
		}
		a.conn.Set(memkv.Healthy)
	})
}

// A full etcd answers that it is full: then it was decided, and a read tells how.
func TestHandOverWithoutSpace(t *testing.T) {
	moving(t, func(w *world, a, b *process, batch []Handover) {
		r, _ := a.registration()
		w.etcd.SetFull(true)
		if _, err := r.HandOver(w.t.Context(), batch); !errors.Is(err, etcdmanager.ErrNotApplied) || !errors.Is(err, etcdmanager.ErrNoSpace) {
			w.t.Error(err)
		}
		w.etcd.SetFull(false)
		w.filling.Store(true)
		if out, err := r.HandOver(w.t.Context(), batch); err != nil || !out.Written || holds(w, b) != 6 {
			w.t.Errorf("%+v, %v", out, err)
		}
	})
}

// overQuota is an etcd that fills up: it applies a transaction, and then says so.
type overQuota struct {
	etcdmanager.KV
	now *atomic.Bool
}

func (o overQuota) Commit(ctx context.Context, txn etcdmanager.Txn) (etcdmanager.Result, error) {
	r, err := o.KV.Commit(ctx, txn)
	if err == nil && puts(txn) && o.now.Load() {
		err = etcdmanager.ErrNoSpace
	}
	return r, err
}
