package consensusmanager

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/memkv"
	"github.com/xiaonanln/goverse/cluster/sharding"
)

func (w *town) order(id sharding.ID) (string, etcdmanager.LeaseID) {
	w.Helper()
	r, err := w.kv.Commit(w.Context(), etcdmanager.Txn{Then: []etcdmanager.Op{etcdmanager.Get(testKeys.order(id))}})
	if err != nil {
		w.Fatal(err)
	}
	return string(r.Gets[0].Item.Value), r.Gets[0].Item.Lease
}

func TestOrdersAboutShards(t *testing.T) {
	w := newTown(t, "a:1", "b:1")
	give := func(what string, changed bool, do func() (Mark, error)) {
		t.Helper()
		if mark, err := do(); err != nil || mark.Changed != changed || mark.Before == nil {
			t.Errorf("%s: %+v, %v", what, mark, err)
		}
	}
	pin := func(address string) func() (Mark, error) {
		return func() (Mark, error) { return Pin(t.Context(), w.kv, "/goverse/", 3, address) }
	}
	move := func() (Mark, error) { return Move(t.Context(), w.kv, "/goverse", 3, "a:1", time.Hour) }
	unpin := func() (Mark, error) { return Unpin(t.Context(), w.kv, "/goverse", 3) }
	is := func(want string, leased bool) {
		t.Helper()
		if got, lease := w.order(3); got != want || (lease != 0) != leased {
			t.Errorf("%s on lease %d", got, lease)
		}
	}
	give("nothing is taken back", false, unpin)
	give("a pin", true, pin("b:1"))
	is(`{"to":"b:1","pin":true}`, false)
	give("the same pin", false, pin("b:1"))
	w.put("orders/0003", `{"to":"b:1","pin":true,"later":1}`, 0)
	give("a pin elsewhere", true, pin("a:1"))
	is(`{"to":"a:1","pin":true,"later":1}`, false)
	give("a move", true, move)
	is(`{"to":"a:1","reg":"a:11","later":1}`, true)
	_, first := w.order(3)
	give("the same move", true, move)
	if _, second := w.order(3); second == first {
		t.Error("the stay does not begin anew")
	}
	w.kv.Revoke(t.Context(), first)
	is(`{"to":"a:1","reg":"a:11","later":1}`, true)
	give("a pin after a move", true, pin("b:1"))
	is(`{"to":"b:1","pin":true,"later":1}`, false)
	give("it is taken back", true, unpin)
	is("", false)
	w.put("orders/0003", "garbage", 0)
	give("over garbage", true, pin("b:1"))
	is(`{"to":"b:1","pin":true}`, false)
}

// An order about several shards is given about all of them or about none.
func TestOrdersAboutSeveralShards(t *testing.T) {
	w := newTown(t, "a:1", "b:1")
	count := func() (n int) {
		for id := range sharding.ID(6) {
			if raw, _ := w.order(id); raw != "" {
				n++
			}
		}
		return n
	}
	is := func(what string, mark Mark, err error, changed bool, want int) {
		t.Helper()
		if got := count(); err != nil || mark.Changed != changed || got != want {
			t.Errorf("%s: %v, %v; %d orders", what, mark.Changed, err, got)
		}
	}
	mark, err := PinAll(t.Context(), w.kv, "/goverse", []sharding.ID{0, 2, 3}, "b:1")
	is("pins", mark, err, true, 3)
	mark, err = PinAll(t.Context(), w.kv, "/goverse", []sharding.ID{3, 0}, "b:1")
	is("the same pins", mark, err, false, 3)
	mark, err = MoveAll(t.Context(), w.kv, "/goverse", []sharding.ID{2, 4, 5}, "a:1", time.Hour)
	is("moves", mark, err, true, 5)
	_, first := w.order(4)
	if _, second := w.order(5); first != second || first == 0 {
		t.Errorf("the moves of one order are on leases %d and %d", first, second)
	}
	mark, err = UnpinAll(t.Context(), w.kv, "/goverse", []sharding.ID{0, 1, 2})
	is("some are taken back", mark, err, true, 3)
	for _, c := range []struct {
		shards []sharding.ID
		want   error
	}{
		{nil, ErrNoShard}, {[]sharding.ID{1, 6}, ErrNoShard}, {[]sharding.ID{1, -1}, ErrNoShard}, {make([]sharding.ID, MaxOrdered+1), ErrTooMany},
	} {
		if _, err := PinAll(t.Context(), w.kv, "/goverse", c.shards, "b:1"); !errors.Is(err, c.want) {
			t.Errorf("%v: %v", c.shards, err)
		}
		if _, err := UnpinAll(t.Context(), w.kv, "/goverse", c.shards); !errors.Is(err, c.want) {
			t.Errorf("%v taken back: %v", c.shards, err)
		}
	}
	if _, err := PinAll(t.Context(), w.kv, "/goverse", []sharding.ID{1, 1}, "b:1"); err == nil || count() != 3 {
		t.Errorf("one that is named twice: %v; %d orders", err, count())
	}
}

func TestOrdersAboutShardsThatAreRefused(t *testing.T) {
	w := newTown(t, "a:1")
	w.join("b:1", StateDraining, "b1")
	for _, c := range []struct {
		name    string
		shard   sharding.ID
		address string
		prefix  string
		want    error
	}{
		{"no such shard", 6, "a:1", "/goverse", ErrNoShard},
		{"nobody", 1, "x:1", "/goverse", ErrNoNode},
		{"a node that drains", 1, "b:1", "/goverse", ErrDraining},
		{"no cluster", 1, "a:1", "/gov", ErrNoCluster},
	} {
		leases := &counted{KV: w.kv}
		if mark, err := Pin(t.Context(), leases, c.prefix, c.shard, c.address); !errors.Is(err, c.want) || mark.Changed || leases.granted > 0 {
			t.Errorf("pin, %s: %v, %v", c.name, mark, err)
		}
		if mark, err := Move(t.Context(), leases, c.prefix, c.shard, c.address, time.Hour); !errors.Is(err, c.want) || mark.Changed || leases.granted != 1 || leases.revoked != 1 {
			t.Errorf("move, %s: %v, %v; %+v", c.name, mark, err, leases)
		}
	}
	if _, err := Unpin(t.Context(), w.kv, "/goverse", 6); !errors.Is(err, ErrNoShard) {
		t.Error(err)
	}
	for _, stay := range []time.Duration{0, MinStay - 1, MaxStay + 1} {
		leases := &counted{KV: w.kv}
		if _, err := Move(t.Context(), leases, "/goverse", 1, "a:1", stay); !errors.Is(err, etcdmanager.ErrNotApplied) || leases.granted > 0 {
			t.Errorf("for %v: %v", stay, err)
		}
	}
	if value, _ := w.order(1); value != "" {
		t.Errorf("a refused order was written: %s", value)
	}
}

// counted counts leases.
type counted struct {
	etcdmanager.KV
	granted, revoked int
}

func (c *counted) Grant(ctx context.Context, ttl time.Duration) (etcdmanager.LeaseID, time.Duration, error) {
	c.granted++
	return c.KV.Grant(ctx, ttl)
}

func (c *counted) Revoke(ctx context.Context, id etcdmanager.LeaseID) error {
	c.revoked++
	return c.KV.Revoke(ctx, id)
}

// Whatever happens between the look and the write, the order is about what is there then.
func TestOrdersAboutShardsWhileThingsChange(t *testing.T) {
	for _, c := range []struct {
		name   string
		happen func(w *town)
		want   error
		value  string
	}{
		{"the node starts anew", func(w *town) { w.end("a:1"); w.join("a:1", StateReady, "anew") }, nil, `{"to":"a:1","reg":"anew"}`},
		{"the node is gone", func(w *town) { w.end("a:1") }, ErrNoNode, ""},
		{"it drains", func(w *town) { w.put("nodes/a:1", `{"reg":"a:11","state":"draining"}`, 0) }, ErrDraining, ""},
		{"another order", func(w *town) { w.put("orders/0002", `{"to":"b:1","pin":true,"later":2}`, 0) }, nil, `{"to":"a:1","reg":"a:11","later":2}`},
		{"the cluster goes", func(w *town) { w.delete("meta") }, ErrNoCluster, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newTown(t, "a:1", "b:1")
			kv := &before{KV: w.kv, commit: func(n int) {
				if n == 1 {
					c.happen(w)
				}
			}}
			if _, err := Move(t.Context(), kv, "/goverse", 2, "a:1", time.Hour); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if value, _ := w.order(2); value != c.value {
				t.Errorf("%s, want %s", value, c.value)
			}
		})
	}
}

// A move whose answer is lost may be given again, and its lease is not taken from it.
func TestAMoveWhoseAnswerIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, "a:1")
		operator := w.store.Connect()
		defer operator.Close()
		kv := &before{KV: operator, commit: func(int) { operator.Set(memkv.AnswersLost) }}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if mark, err := Move(ctx, kv, "/goverse", 1, "a:1", time.Hour); !errors.Is(err, ErrUnknownOutcome) || mark.Changed {
			t.Errorf("%v, %v", mark, err)
		}
		if value, _ := w.order(1); value == "" {
			t.Error("the order is gone")
		}
	})
}

// A pinned shard is with its node whenever that is there, and with the others else; what
// is not pinned is evened out around it.
func TestPinsAreKept(t *testing.T) {
	bubble(t, func(w *world) {
		a, b := w.node("a:1"), w.node("b:1")
		w.until("settled", time.Minute, w.settled(a, b))
		operator := w.etcd.Connect()
		defer operator.Close()
		const pinned = 9
		for id := range sharding.ID(pinned) {
			if _, err := Pin(t.Context(), operator, "/goverse", id, "b:1"); err != nil {
				t.Fatal(err)
			}
		}
		with := func(address string) func() bool {
			return func() bool {
				v := a.View()
				for id := range sharding.ID(pinned) {
					if holder, _ := v.Holder(id); holder != address {
						return false
					}
				}
				return v.Census().States[sharding.Held] == 12
			}
		}
		if took := w.until("b has what is pinned to it", time.Minute, with("b:1")); took > time.Second {
			t.Errorf("it took %v", took)
		}
		w.until("and nothing else", time.Minute, func() bool { return count(a.View(), "b:1") == pinned && count(a.View(), "a:1") == 3 })
		c := w.node("c:1")
		w.until("c has its share of the rest", time.Minute, func() bool {
			v := a.View()
			return count(v, "b:1") == pinned && count(v, "a:1")+count(v, "c:1") == 3 && count(v, "c:1") > 0
		})
		time.Sleep(time.Minute)
		if !with("b:1")() {
			t.Error("a pinned shard has moved")
		}
		b.crash()
		w.until("the others have them", time.Minute, w.settled(a, c))
		b = w.node("b:1")
		w.until("b has them again", time.Minute, with("b:1"))
		if _, err := Drain(t.Context(), operator, "/goverse", "b:1", false); err != nil {
			t.Fatal(err)
		}
		w.until("the others have them while b drains", time.Minute, w.settled(a, c))
		if _, err := Undrain(t.Context(), operator, "/goverse", "b:1", false); err != nil {
			t.Fatal(err)
		}
		w.until("b has them once more", time.Minute, with("b:1"))
		for id := range sharding.ID(pinned) {
			if _, err := Unpin(t.Context(), operator, "/goverse", id); err != nil {
				t.Fatal(err)
			}
		}
		w.until("even", time.Minute, w.settled(a, b, c))
	})
}

// What was moved stays where it is for its stay, or as long as that process lives, and is
// like any other then.
func TestMovesEnd(t *testing.T) {
	bubble(t, func(w *world) {
		a, b := w.node("a:1"), w.node("b:1")
		w.until("settled", time.Minute, w.settled(a, b))
		operator := w.etcd.Connect()
		defer operator.Close()
		all := func() {
			for id := range sharding.ID(12) {
				if _, err := Move(t.Context(), operator, "/goverse", id, "b:1", 10*time.Minute); err != nil {
					t.Fatal(err)
				}
			}
			w.until("b has all", time.Second, func() bool { return count(a.View(), "b:1") == 12 })
		}
		all()
		time.Sleep(9 * time.Minute)
		if n := count(a.View(), "b:1"); n != 12 {
			t.Errorf("after nine minutes b has %d", n)
		}
		w.until("even again", 2*time.Minute, w.settled(a, b))
		all()
		b.crash()
		w.until("a has all", time.Minute, w.settled(a))
		if orders := a.View().Orders(); len(orders) != 12 || !a.View().Void(orders[0]) {
			t.Error(orders)
		}
		b = w.node("b:1")
		w.until("b has its share, and no more", time.Minute, w.settled(a, b))
	})
}

// An order is carried out by whoever leads, and is not lost with the leader.
func TestOrdersOutliveTheLeader(t *testing.T) {
	bubble(t, func(w *world) {
		a, b, c := w.node("a:1"), w.node("b:1"), w.node("c:1")
		w.until("settled", time.Minute, w.settled(a, b, c))
		operator := w.etcd.Connect()
		defer operator.Close()
		a.crash()
		if _, err := Pin(t.Context(), operator, "/goverse", 0, "c:1"); err != nil {
			t.Fatal(err)
		}
		w.until("settled", time.Minute, func() bool {
			holder, _ := b.View().Holder(0)
			return w.settled(b, c)() && holder == "c:1"
		})
	})
}

func TestOrderDecodes(t *testing.T) {
	for raw, want := range map[string]string{
		`{"to":"a:1","pin":true}`:             "0003 pinned to a:1",
		`{"to":"a:1","reg":"x","more":[1]}`:   "0003 moved to a:1#x",
		`{"to":"","pin":true}`:                "",
		`{"to":"a:1"}`:                        "",
		`{"to":"a:1","pin":true,"reg":"x"}`:   "",
		`{"to":1}`:                            "",
		`[]`:                                  "",
		`{"to":"a:1","pin":true,"reg":"x"}x{`: "",
	} {
		o, err := decodeOrder(3, []byte(raw))
		if got := fmt.Sprint(o); (err == nil) != (want != "") || err == nil && got != want {
			t.Errorf("%s: %s, %v", raw, got, err)
		}
	}
}
