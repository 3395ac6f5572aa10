package consensusmanager

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/memkv"
	"github.com/xiaonanln/goverse/cluster/sharding"
)

// What operators write changes one node's record, under guards. A change of this
// golden is a change of docs/format/etcd.md.
func TestOperatorsTransactions(t *testing.T) {
	v, _ := newView().Load(testKeys, etcdmanager.Page{Revision: 7, Items: []etcdmanager.Item{
		{Key: "/goverse/meta", Value: []byte(`{"cluster":"c","boot":"b","store":"none","shards":6}`)},
		{Key: "/goverse/nodes/b:1", Value: []byte(`{"reg":"b1","state":"ready","later":[1]}`), Lease: 9},
		{Key: "/goverse/nodes/c:1", Value: []byte(`{"reg":"c1","state":"ready"}`), Lease: 8},
		{Key: "/goverse/nodes/d:1", Value: []byte(`{"reg":"d1","state":"draining","by":"operator","later":[1]}`), Lease: 7},
		{Key: "/goverse/reg/b1", Value: []byte("b:1"), Lease: 9},
		{Key: "/goverse/reg/c1", Value: []byte("c:1"), Lease: 8},
		{Key: "/goverse/reg/d1", Value: []byte("d:1"), Lease: 7},
		{Key: "/goverse/orders/0003", Value: []byte(`{"to":"b:1","reg":"b1","later":[1]}`), Lease: 6},
	}}, epoch)
	var b strings.Builder
	b.WriteString(protocol("an operator's drain", drainTxn(testKeys, v, v.nodes["b:1"], otherReady(v, "b:1"))))
	b.WriteString(protocol("an operator's drain, of the last ready node", drainTxn(testKeys, v, v.nodes["b:1"], nil)))
	b.WriteString(protocol("and its end", markTxn(testKeys, v, v.nodes["d:1"], undrained(v.nodes["d:1"].raw))))
	show := func(name string, shard sharding.ID, lease etcdmanager.LeaseID) {
		txn, err := placeTxn(testKeys, v, []sharding.ID{shard}, "c:1", lease)
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(protocol(name, txn))
	}
	show("an operator's move", 2, 5)
	show("an operator's pin, in place of an earlier order", 3, 0)
	b.WriteString(protocol("and its end", unpinTxn(testKeys, v, []sharding.ID{3})))
	b.WriteString(protocol("the same, by somebody who is known", orderedAtEpoch(t, v)))
	golden(t, "operator.golden", b.String())
}

func orderedAtEpoch(t *testing.T, v *View) (txn etcdmanager.Txn) {
	synctest.Test(t, func(t *testing.T) {
		txn = signed(WithOperator(t.Context(), "ann@laptop"), testKeys, v, unpinTxn(testKeys, v, []sharding.ID{3}), Unpins, "shard 3")
	})
	return txn
}

// town is a cluster's keys in memory, as nodes would have written them.
type town struct {
	*testing.T
	store *memkv.Store
	kv    *memkv.Conn
}

func newTown(t *testing.T, addresses ...string) *town {
	s := memkv.NewStore()
	w := &town{T: t, store: s, kv: s.Connect()}
	t.Cleanup(func() { w.kv.Close(); s.Close() })
	w.put("meta", `{"cluster":"c","boot":"b","store":"none","shards":6}`, 0)
	for _, a := range addresses {
		w.join(a, StateReady, a+"1")
	}
	return w
}

func (w *town) put(key, value string, lease etcdmanager.LeaseID) {
	w.Helper()
	if r, err := w.kv.Commit(w.Context(), etcdmanager.Txn{Then: []etcdmanager.Op{etcdmanager.Put(string(testKeys)+key, []byte(value), lease)}}); err != nil || !r.Held {
		w.Fatal(r, err)
	}
}

func (w *town) join(address, state, registration string) etcdmanager.LeaseID {
	w.Helper()
	lease, _, err := w.kv.Grant(w.Context(), time.Hour)
	if err != nil {
		w.Fatal(err)
	}
	w.put("nodes/"+address, fmt.Sprintf(`{"reg":%q,"state":%q,"later":1}`, registration, state), lease)
	w.put("reg/"+registration, address, lease)
	return lease
}

func (w *town) value(address string) (string, etcdmanager.LeaseID) {
	w.Helper()
	r, err := w.kv.Commit(w.Context(), etcdmanager.Txn{Then: []etcdmanager.Op{etcdmanager.Get(testKeys.node(address))}})
	if err != nil {
		w.Fatal(err)
	}
	return string(r.Gets[0].Item.Value), r.Gets[0].Item.Lease
}

func (w *town) ready() int {
	w.Helper()
	v, err := Read(w.Context(), w.kv, "/goverse")
	if err != nil {
		w.Fatal(err)
	}
	return v.Ready()
}

// before is a KV to which something happens just before a transaction.
type before struct {
	etcdmanager.KV
	commit func(n int)
	n      int
}

func (b *before) Commit(ctx context.Context, txn etcdmanager.Txn) (etcdmanager.Result, error) {
	b.n++
	b.commit(b.n)
	return b.KV.Commit(ctx, txn)
}

func TestDrainAndUndrain(t *testing.T) {
	w := newTown(t, "a:1", "b:1")
	_, lease := w.value("a:1")
	mark, err := Drain(t.Context(), w.kv, "/goverse/", "a:1", false)
	if err != nil || !mark.Changed || mark.Before.Ready() != 2 {
		t.Fatal(mark, err)
	}
	value, on := w.value("a:1")
	if want := `{"state":"draining","by":"operator","later":1,"reg":"a:11"}`; value != want || on != lease {
		t.Errorf("%s on lease %d, want %s on %d", value, on, want, lease)
	}
	if v, _ := Read(t.Context(), w.kv, "/goverse"); !v.members[0].Draining || !v.nodes["a:1"].DrainedByOperator() || v.nodes["b:1"].DrainedByOperator() {
		t.Error(v)
	}
	for range 2 {
		if mark, err := Drain(t.Context(), w.kv, "/goverse", "a:1", false); err != nil || mark.Changed {
			t.Errorf("drained again: %v, %v", mark, err)
		}
	}
	if mark, err := Undrain(t.Context(), w.kv, "/goverse", "a:1", false); err != nil || !mark.Changed {
		t.Fatal(mark, err)
	}
	value, on = w.value("a:1")
	if want := `{"state":"ready","later":1,"reg":"a:11"}`; value != want || on != lease {
		t.Errorf("%s on lease %d, want %s on %d", value, on, want, lease)
	}
	if mark, err := Undrain(t.Context(), w.kv, "/goverse", "a:1", false); err != nil || mark.Changed {
		t.Errorf("undrained again: %v, %v", mark, err)
	}
	if err := w.kv.Revoke(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	if value, _ := w.value("a:1"); value != "" {
		t.Errorf("the record outlives its lease: %s", value)
	}
}

func TestOrdersThatAreRefused(t *testing.T) {
	w := newTown(t, "a:1")
	w.join("b:1", StateDraining, "b1")
	w.put("nodes/stray:1", `{"reg":"s1","state":"ready"}`, 0)
	revision := w.store.Revision()
	for _, c := range []struct {
		name string
		give func() (Mark, error)
		want error
	}{
		{"the last ready", func() (Mark, error) { return Drain(t.Context(), w.kv, "/goverse", "a:1", false) }, ErrLastReady},
		{"nobody", func() (Mark, error) { return Drain(t.Context(), w.kv, "/goverse", "x:1", true) }, ErrNoNode},
		{"a key without a registration", func() (Mark, error) { return Drain(t.Context(), w.kv, "/goverse", "stray:1", true) }, ErrNoNode},
		{"nobody, back", func() (Mark, error) { return Undrain(t.Context(), w.kv, "/goverse", "x:1", true) }, ErrNoNode},
		{"a stopping node", func() (Mark, error) { return Undrain(t.Context(), w.kv, "/goverse", "b:1", false) }, ErrStopping},
		{"no cluster", func() (Mark, error) { return Drain(t.Context(), w.kv, "/gov", "a:1", true) }, ErrNoCluster},
	} {
		if mark, err := c.give(); !errors.Is(err, c.want) || mark.Changed {
			t.Errorf("%s: %v, %v", c.name, mark, err)
		}
	}
	if w.store.Revision() != revision {
		t.Error("a refused order was written")
	}
	if mark, err := Undrain(t.Context(), w.kv, "/goverse", "b:1", true); err != nil || !mark.Changed {
		t.Error(mark, err)
	}
	for _, address := range []string{"b:1", "a:1"} {
		if mark, err := Drain(t.Context(), w.kv, "/goverse", address, true); err != nil || !mark.Changed {
			t.Errorf("%s: %v, %v", address, mark, err)
		}
	}
}

// Two operators who drain each other's last ready node: one of them is refused.
func TestNobodyDrainsTheLastTwoAtOnce(t *testing.T) {
	w := newTown(t, "a:1", "b:1")
	kv := &before{KV: w.kv, commit: func(n int) {
		if n == 1 {
			if _, err := Drain(t.Context(), w.kv, "/goverse", "b:1", false); err != nil {
				t.Fatal(err)
			}
		}
	}}
	if _, err := Drain(t.Context(), kv, "/goverse", "a:1", false); !errors.Is(err, ErrLastReady) || w.ready() != 1 {
		t.Errorf("%v, %d are ready", err, w.ready())
	}
}

// Whatever happens between the look and the write, the order is for what is there then.
func TestOrdersWhileThingsChange(t *testing.T) {
	for _, c := range []struct {
		name   string
		happen func(w *town)
		want   error
		value  string
	}{
		{"the node starts anew", func(w *town) { w.end("a:1"); w.join("a:1", StateReady, "anew") }, nil, `{"state":"draining","by":"operator","later":1,"reg":"anew"}`},
		{"the node is gone", func(w *town) { w.end("a:1") }, ErrNoNode, ""},
		{"its registration is deleted", func(w *town) { w.delete("reg/a:11") }, ErrNoNode, `{"reg":"a:11","state":"ready","later":1}`},
		{"the witness is gone", func(w *town) { w.end("b:1") }, ErrLastReady, `{"reg":"a:11","state":"ready","later":1}`},
		{"the witness's registration is deleted", func(w *town) { w.delete("reg/b:11") }, ErrLastReady, `{"reg":"a:11","state":"ready","later":1}`},
		{"the node's version changes its record", func(w *town) {
			_, lease := w.value("a:1")
			w.put("nodes/a:1", `{"reg":"a:11","state":"ready","later":2}`, lease)
		},
			nil, `{"state":"draining","by":"operator","later":2,"reg":"a:11"}`},
		{"another life of the cluster", func(w *town) { w.put("meta", `{"cluster":"c","boot":"b2","store":"none","shards":6}`, 0) },
			nil, `{"state":"draining","by":"operator","later":1,"reg":"a:11"}`},
		{"the cluster goes", func(w *town) { w.delete("meta") }, ErrNoCluster, `{"reg":"a:11","state":"ready","later":1}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newTown(t, "a:1", "b:1")
			kv := &before{KV: w.kv, commit: func(n int) {
				if n == 1 {
					c.happen(w)
				}
			}}
			_, err := Drain(t.Context(), kv, "/goverse", "a:1", false)
			if !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if value, _ := w.value("a:1"); value != c.value {
				t.Errorf("%s, want %s", value, c.value)
			}
		})
	}
}

func (w *town) end(address string) {
	w.Helper()
	_, lease := w.value(address)
	if err := w.kv.Revoke(w.Context(), lease); err != nil {
		w.Fatal(err)
	}
}

func (w *town) delete(key string) {
	w.Helper()
	if _, err := w.kv.Commit(w.Context(), etcdmanager.Txn{Then: []etcdmanager.Op{etcdmanager.Delete(string(testKeys) + key)}}); err != nil {
		w.Fatal(err)
	}
}

// A record that never stands still ends in an error, not in a loop.
func TestAnOrderGivesUp(t *testing.T) {
	w := newTown(t, "a:1", "b:1")
	kv := &before{KV: w.kv, commit: func(n int) {
		_, lease := w.value("a:1")
		w.put("nodes/a:1", fmt.Sprintf(`{"reg":"a:11","state":"ready","later":%d}`, n+1), lease)
	}}
	if _, err := Drain(t.Context(), kv, "/goverse", "a:1", false); err == nil || kv.n != orderAttempts || w.ready() != 2 {
		t.Errorf("%v after %d attempts, %d are ready", err, kv.n, w.ready())
	}
}

// An answer that was lost: the order says so, and may be given again.
func TestAnOrderWhoseAnswerIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, "a:1", "b:1")
		operator := w.store.Connect()
		defer operator.Close()
		kv := &before{KV: operator, commit: func(int) { operator.Set(memkv.AnswersLost) }}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if mark, err := Drain(ctx, kv, "/goverse", "a:1", false); !errors.Is(err, ErrUnknownOutcome) || mark.Changed {
			t.Errorf("%v, %v", mark, err)
		}
		operator.Set(memkv.Healthy)
		if mark, err := Drain(t.Context(), operator, "/goverse", "a:1", false); err != nil || mark.Changed || w.ready() != 1 {
			t.Errorf("%v, %v, %d are ready", mark, err, w.ready())
		}
	})
}

func TestAFullStoreIsNoUnknownOutcome(t *testing.T) {
	w := newTown(t, "a:1", "b:1")
	refusing := &refused{KV: w.kv}
	if _, err := Drain(t.Context(), refusing, "/goverse", "a:1", false); !errors.Is(err, etcdmanager.ErrNotApplied) || errors.Is(err, ErrUnknownOutcome) {
		t.Error(err)
	}
}

// refused takes no transaction.
type refused struct{ etcdmanager.KV }

func (*refused) Commit(context.Context, etcdmanager.Txn) (etcdmanager.Result, error) {
	return etcdmanager.Result{}, fmt.Errorf("etcd: %w", etcdmanager.ErrNotApplied)
}

// onlyReads fails the test when something else is asked of it.
type onlyReads struct {
	etcdmanager.KV
	t *testing.T
}

func (o onlyReads) Commit(context.Context, etcdmanager.Txn) (etcdmanager.Result, error) {
	o.t.Error("a transaction")
	return etcdmanager.Result{}, etcdmanager.ErrNotApplied
}

func (o onlyReads) Grant(context.Context, time.Duration) (etcdmanager.LeaseID, time.Duration, error) {
	o.t.Error("a lease")
	return 0, 0, etcdmanager.ErrClosed
}

func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, "a:1", "b:1")
		operator := w.store.Connect()
		defer operator.Close()
		var seen []int
		ended := make(chan error, 1)
		go func() {
			ended <- Follow(t.Context(), onlyReads{operator, t}, "/goverse", func(v *View) bool {
				if n := len(v.Members()); len(seen) == 0 || seen[len(seen)-1] != n {
					seen = append(seen, n)
				}
				return len(v.Members()) > 0
			})
		}()
		synctest.Wait()
		w.join("c:1", StateReady, "c1")
		synctest.Wait()
		operator.Set(memkv.Cut) // what happens meanwhile is shown afterwards
		w.join("d:1", StateReady, "d1")
		if err := w.store.Compact(w.store.Revision()); err != nil {
			t.Fatal(err)
		}
		operator.Set(memkv.Healthy)
		time.Sleep(time.Minute)
		w.join("e:1", StateReady, "e1")
		synctest.Wait()
		for _, a := range []string{"a:1", "b:1", "c:1", "d:1", "e:1"} {
			w.end(a)
		}
		if err := <-ended; err != nil || !slices.Equal(seen[:4], []int{2, 3, 4, 5}) || seen[len(seen)-1] != 0 {
			t.Errorf("%v, %v", seen, err)
		}
	})
}

// A store that went back in time: what it has now is shown, not what was.
func TestFollowAfterARestore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, "a:1")
		snapshot := w.store.Snapshot()
		w.join("b:1", StateReady, "b1")
		var members atomic.Int32
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- Follow(ctx, onlyReads{w.kv, t}, "/goverse", func(v *View) bool {
				members.Store(int32(len(v.Members())))
				return true
			})
		}()
		synctest.Wait()
		w.store.Restore(snapshot)
		time.Sleep(time.Minute)
		if n := members.Load(); n != 1 {
			t.Errorf("%d nodes are shown, 1 is there", n)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func TestClusters(t *testing.T) {
	w := newTown(t, "a:1")
	for _, key := range []string{"/goverse-test/meta", "/team/goverse/meta", "/other/meta", "bare/meta"} {
		if _, err := w.kv.Commit(t.Context(), etcdmanager.Txn{Then: []etcdmanager.Op{etcdmanager.Put(key, encodeJSON(Meta{Cluster: "c", Boot: "b", Store: NoStore, Shards: 1}), 0)}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.kv.Commit(t.Context(), etcdmanager.Txn{Then: []etcdmanager.Op{etcdmanager.Put("/goverse-garbage/meta", []byte("x"), 0)}}); err != nil {
		t.Fatal(err)
	}
	for near, want := range map[string]string{
		"/goverse": "/goverse /goverse-test", "/team/": "/goverse /goverse-test /team/goverse", "bare": "/goverse /goverse-test bare", "/": "/goverse /goverse-test",
	} {
		if got, err := Clusters(t.Context(), w.kv, near); err != nil || strings.Join(got, " ") != want {
			t.Errorf("near %s: %q, %v, want %q", near, got, err, want)
		}
	}
}

func TestStrays(t *testing.T) {
	w := newTown(t, "a:1", "b:1")
	w.delete("reg/b:11")
	w.put("reg/b:11", "elsewhere", 0)
	w.put("nodes/0", `{"reg":"none","state":"ready"}`, 0)
	w.put("nodes/garbage", `{"reg":`, 0)
	v, err := Read(t.Context(), w.kv, "/goverse")
	if got := fmt.Sprint(v.Strays("/goverse/")); err != nil || got != "[0 b:1 garbage]" || len(v.Damage()) != 1 {
		t.Errorf("%s, %q, %v", got, v.Damage(), err)
	}
	w.end("a:1")
	if v, err = Read(t.Context(), w.kv, "/goverse"); err != nil || len(v.Strays("/goverse")) != 3 {
		t.Errorf("%q, %v", v.Strays("/goverse"), err)
	}
}
