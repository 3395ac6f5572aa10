// Package kvtest is etcdmanager's contract as a test kit. Every KV passes it: memkv
// in a bubble that owns time, and a real etcd through Client.
package kvtest

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
)

// Store is an empty store of its own for one test.
type Store interface {
	// Connect makes another connection, which the test closes.
	Connect(t testing.TB) etcdmanager.KV
	// Compact forgets the history before revision.
	Compact(t testing.TB, revision int64)
}

// World is where the contract is tested.
type World struct {
	Open   func(t testing.TB) Store // cleans up after itself
	Bubble bool                     // each test runs in a synctest bubble
}

// Run tests the whole contract.
func Run(t *testing.T, w World) {
	for _, part := range [][]test{reads, commits, watches, leases, lives} {
		for _, c := range part {
			t.Run(c.name, func(t *testing.T) { w.run(t, c) })
		}
	}
}

type test struct {
	name string
	body func(k *kit)
}

func (w World) run(t *testing.T, c test) {
	if w.Bubble {
		synctest.Test(t, func(t *testing.T) { c.body(w.kit(t)) })
		return
	}
	t.Parallel()
	c.body(w.kit(t))
}

func (w World) kit(t *testing.T) *kit {
	s := w.Open(t)
	k := &kit{T: t, bubble: w.Bubble, store: s, kv: s.Connect(t)}
	t.Cleanup(func() {
		if err := k.kv.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

// kit is one test's store and words.
type kit struct {
	*testing.T
	bubble bool
	store  Store
	kv     etcdmanager.KV
}

// ctx ends with the test, or when an answer is long overdue.
func (k *kit) ctx() context.Context {
	ctx, cancel := context.WithTimeout(k.Context(), 20*time.Second)
	k.Cleanup(cancel)
	return ctx
}

func (k *kit) commit(txn etcdmanager.Txn) etcdmanager.Result {
	k.Helper()
	r, err := k.kv.Commit(k.ctx(), txn)
	if err != nil {
		k.Fatal(err)
	}
	return r
}

// do applies operations without guards.
func (k *kit) do(ops ...etcdmanager.Op) etcdmanager.Result {
	k.Helper()
	return k.commit(etcdmanager.Txn{Then: ops})
}

func (k *kit) put(key, value string) etcdmanager.Result {
	k.Helper()
	return k.do(etcdmanager.Put(key, []byte(value), 0))
}

func (k *kit) page(prefix string) etcdmanager.Page {
	k.Helper()
	p, err := k.kv.Range(k.ctx(), prefix)
	if err != nil {
		k.Fatal(err)
	}
	return p
}

// keys are the keys below prefix, joined by blanks.
func (k *kit) keys(prefix string) string {
	k.Helper()
	text := ""
	for i, item := range k.page(prefix).Items {
		if i > 0 {
			text += " "
		}
		text += item.Key
	}
	return text
}

func (k *kit) wantKeys(prefix, want string) {
	k.Helper()
	if got := k.keys(prefix); got != want {
		k.Errorf("keys below %q: %q, want %q", prefix, got, want)
	}
}

func (k *kit) grant(ttl time.Duration) (etcdmanager.LeaseID, time.Duration) {
	k.Helper()
	id, granted, err := k.kv.Grant(k.ctx(), ttl)
	if err != nil {
		k.Fatal(err)
	}
	return id, granted
}

// refused checks that txn is refused as a whole, surely, and leaves no trace.
func (k *kit) refused(txn etcdmanager.Txn) {
	k.Helper()
	before := k.page("")
	_, err := k.kv.Commit(k.ctx(), txn)
	if !errors.Is(err, etcdmanager.ErrNotApplied) {
		k.Errorf("error %v, want one that is ErrNotApplied", err)
	}
	if after := k.page(""); after.Revision != before.Revision || len(after.Items) != len(before.Items) {
		k.Errorf("a refused transaction moved the store from revision %d to %d", before.Revision, after.Revision)
	}
}

// watch is a Watch that ends with the test.
func (k *kit) watch(prefix string, from int64) <-chan etcdmanager.Batch {
	ctx, cancel := context.WithCancel(k.Context())
	ch := k.kv.Watch(ctx, prefix, from)
	k.Cleanup(func() {
		cancel()
		for range ch { // the channel closes once the context has ended
		}
	})
	return ch
}

// next is the next batch, which must come and carry no error.
func (k *kit) next(ch <-chan etcdmanager.Batch) etcdmanager.Batch {
	k.Helper()
	b := k.last(ch)
	if b.Err != nil {
		k.Fatal(b.Err)
	}
	return b
}

func (k *kit) last(ch <-chan etcdmanager.Batch) etcdmanager.Batch {
	k.Helper()
	select {
	case b, open := <-ch:
		if !open {
			k.Fatal("the watch ended without a batch")
		}
		return b
	case <-k.ctx().Done():
		k.Fatal("no batch came")
		return etcdmanager.Batch{}
	}
}

// wantEnd checks that the watch delivers nothing more and its channel closes.
func (k *kit) wantEnd(ch <-chan etcdmanager.Batch) {
	k.Helper()
	select {
	case b, open := <-ch:
		if open {
			k.Fatalf("a batch came after the end: %+v", b)
		}
	case <-k.ctx().Done():
		k.Fatal("the watch did not end")
	}
}
