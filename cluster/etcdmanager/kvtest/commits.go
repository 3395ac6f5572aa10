package kvtest

import (
	"bytes"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
)

// A store for the guards: "here" has a value, "empty" an empty one, "gone" was
// deleted, "never" never was.
func (k *kit) fill() (created int64) {
	created = k.put("here", "v1").Revision
	k.put("here", "v2")
	k.put("empty", "")
	k.put("gone", "v")
	k.do(etcdmanager.Delete("gone"))
	return created
}

var commits = []test{
	{"commit/guards", func(k *kit) {
		created := k.fill()
		for _, c := range []struct {
			name  string
			guard etcdmanager.Guard
			want  bool
		}{
			{"value is", etcdmanager.ValueIs("here", []byte("v2")), true},
			{"value was", etcdmanager.ValueIs("here", []byte("v1")), false},
			{"value is a prefix", etcdmanager.ValueIs("here", []byte("v")), false},
			{"value is longer", etcdmanager.ValueIs("here", []byte("v22")), false},
			{"value is empty", etcdmanager.ValueIs("empty", nil), true},
			{"a missing key has no value, not even an empty one", etcdmanager.ValueIs("never", nil), false},
			{"nor has a deleted key", etcdmanager.ValueIs("gone", []byte("v")), false},
			{"alive", etcdmanager.Alive("here"), true},
			{"alive with an empty value", etcdmanager.Alive("empty"), true},
			{"alive, deleted", etcdmanager.Alive("gone"), false},
			{"alive, never", etcdmanager.Alive("never"), false},
			{"absent", etcdmanager.Absent("here"), false},
			{"absent, deleted", etcdmanager.Absent("gone"), true},
			{"absent, never", etcdmanager.Absent("never"), true},
			{"created at", etcdmanager.CreatedAt("here", created), true},
			{"created at its modification", etcdmanager.CreatedAt("here", created+1), false},
			{"created, never", etcdmanager.CreatedAt("never", created), false},
			{"range is empty", etcdmanager.RangeEmpty("f", "h"), true},
			{"range ends before the key", etcdmanager.RangeEmpty("f", "here"), true},
			{"range begins with the key", etcdmanager.RangeEmpty("here", "here\x00"), false},
			{"range holds several", etcdmanager.RangeEmpty("a", "z"), false},
			{"range is backwards", etcdmanager.RangeEmpty("z", "a"), true},
			{"range is a point", etcdmanager.RangeEmpty("here", "here"), true},
			{"range is open", etcdmanager.RangeEmpty("a", "\x00"), false},
			{"range is open, behind all", etcdmanager.RangeEmpty("i", "\x00"), true},
		} {
			if got := k.commit(etcdmanager.Txn{If: []etcdmanager.Guard{c.guard}}).Held; got != c.want {
				k.Errorf("%s: %v, want %v", c.name, got, c.want)
			}
		}
	}},
	{"commit/one branch, as a whole", func(k *kit) {
		k.fill()
		txn := etcdmanager.Txn{
			If:   []etcdmanager.Guard{etcdmanager.Alive("here"), etcdmanager.Absent("never"), etcdmanager.ValueIs("here", []byte("v2"))},
			Then: []etcdmanager.Op{etcdmanager.Put("then1", nil, 0), etcdmanager.Put("here", []byte("v3"), 0), etcdmanager.Delete("empty")},
			Else: []etcdmanager.Op{etcdmanager.Put("else", nil, 0)},
		}
		if !k.commit(txn).Held {
			k.Error("all guards are true")
		}
		k.wantKeys("", "here then1")
		if k.commit(txn).Held {
			k.Error("one guard is false")
		}
		k.wantKeys("", "else here then1")
	}},
	{"commit/no guards hold", func(k *kit) {
		if !k.commit(etcdmanager.Txn{}).Held {
			k.Error("nothing to fail")
		}
	}},
	{"commit/reads, in order, see the writes before them", func(k *kit) {
		k.put("old", "o")
		r := k.do(etcdmanager.Get("new"), etcdmanager.Put("new", []byte("n"), 0), etcdmanager.Get("old"),
			etcdmanager.Get("new"), etcdmanager.Delete("old"), etcdmanager.Get("old"))
		if len(r.Gets) != 4 {
			k.Fatalf("%d answers to 4 reads", len(r.Gets))
		}
		for i, want := range []string{"", "o", "n", ""} {
			if g := r.Gets[i]; g.Exists != (want != "") || string(g.Item.Value) != want {
				k.Errorf("read %d: %+v, want %q", i, g, want)
			}
		}
		if g := r.Gets[2].Item; g.ModRevision != r.Revision || g.CreateRevision != r.Revision || g.Key != "new" {
			k.Errorf("%+v at revision %d", g, r.Revision)
		}
	}},
	{"commit/reads of the branch that was not taken are not answered", func(k *kit) {
		r := k.commit(etcdmanager.Txn{
			If: []etcdmanager.Guard{etcdmanager.Alive("a")}, Then: []etcdmanager.Op{etcdmanager.Get("t"), etcdmanager.Get("t")},
			Else: []etcdmanager.Op{etcdmanager.Get("e")},
		})
		if r.Held || len(r.Gets) != 1 || r.Gets[0].Exists {
			k.Errorf("%+v", r)
		}
	}},
	{"commit/the revision grows by one with each transaction that changes something", func(k *kit) {
		start := k.page("").Revision
		for i, c := range []struct {
			ops  []etcdmanager.Op
			want int64
		}{
			{[]etcdmanager.Op{etcdmanager.Put("a", nil, 0), etcdmanager.Put("b", nil, 0)}, 1},
			{[]etcdmanager.Op{etcdmanager.Get("a")}, 1},
			{[]etcdmanager.Op{etcdmanager.Delete("never")}, 1},
			{nil, 1},
			{[]etcdmanager.Op{etcdmanager.Put("a", nil, 0)}, 2},
			{[]etcdmanager.Op{etcdmanager.Delete("a"), etcdmanager.Delete("b")}, 3},
		} {
			if got := k.do(c.ops...).Revision - start; got != c.want {
				k.Errorf("after step %d: %d, want %d", i, got, c.want)
			}
		}
	}},
	{"commit/limits: 128 pass, 129 are refused", func(k *kit) {
		puts := func(n int) (ops []etcdmanager.Op) {
			for i := range n {
				ops = append(ops, etcdmanager.Put(fmt.Sprintf("k/%03d", i), nil, 0))
			}
			return ops
		}
		guards := func(n int) (gs []etcdmanager.Guard) {
			for i := range n {
				gs = append(gs, etcdmanager.Absent(fmt.Sprintf("g/%03d", i)))
			}
			return gs
		}
		k.refused(etcdmanager.Txn{If: guards(129)})
		k.refused(etcdmanager.Txn{Then: puts(129)})
		k.refused(etcdmanager.Txn{Else: puts(129)})
		k.refused(etcdmanager.Txn{If: guards(127 + 2), Then: puts(127)})
		if r := k.commit(etcdmanager.Txn{If: guards(128), Then: puts(128), Else: puts(128)}); !r.Held {
			k.Errorf("%+v", r)
		}
		// What the protocol uses: 120 shards and 8 guards.
		if r := k.commit(etcdmanager.Txn{If: guards(128), Then: puts(120)}); !r.Held {
			k.Errorf("%+v", r)
		}
		if n := len(k.page("k/").Items); n != 128 {
			k.Errorf("%d keys", n)
		}
	}},
	{"commit/what makes no sense is refused", func(k *kit) {
		k.put("a", "v")
		put, del := etcdmanager.Put("a", []byte("w"), 0), etcdmanager.Delete("a")
		for name, txn := range map[string]etcdmanager.Txn{
			"two puts of a key":            {Then: []etcdmanager.Op{put, put}},
			"two puts in Else":             {Else: []etcdmanager.Op{put, put}},
			"put and delete of a key":      {Then: []etcdmanager.Op{put, del}},
			"delete and put of a key":      {Then: []etcdmanager.Op{del, put}},
			"an empty key":                 {Then: []etcdmanager.Op{etcdmanager.Put("", nil, 0)}},
			"an empty key in a guard":      {If: []etcdmanager.Guard{etcdmanager.Alive("")}},
			"created at 0":                 {If: []etcdmanager.Guard{etcdmanager.CreatedAt("a", 0)}},
			"a range without end":          {If: []etcdmanager.Guard{etcdmanager.RangeEmpty("a", "")}},
			"a guard that is not made":     {If: []etcdmanager.Guard{{Key: "a"}}},
			"an operation that is not":     {Then: []etcdmanager.Op{{Key: "a"}}},
			"more bytes than etcd accepts": {Then: []etcdmanager.Op{etcdmanager.Put("b", bytes.Repeat([]byte("x"), etcdmanager.MaxTxnBytes), 0)}},
		} {
			k.Logf("%s", name)
			k.refused(txn)
		}
	}},
	{"commit/the largest value", func(k *kit) {
		value := bytes.Repeat([]byte("x"), etcdmanager.MaxTxnBytes-1)
		k.do(etcdmanager.Put("b", value, 0))
		if got := k.page("b").Items[0].Value; !bytes.Equal(got, value) {
			k.Errorf("%d bytes came back of %d", len(got), len(value))
		}
	}},
	{"commit/two deletes of a key are one", func(k *kit) {
		k.put("a", "")
		k.do(etcdmanager.Delete("a"), etcdmanager.Delete("a"))
		k.wantKeys("", "")
	}},
	{"commit/of those who race on one value, one wins each round", func(k *kit) {
		const racers, rounds = 8, 10
		k.put("n", "0")
		for round := range rounds {
			var won atomic.Int32
			var all sync.WaitGroup
			for racer := range racers {
				all.Go(func() {
					r, err := k.kv.Commit(k.ctx(), etcdmanager.Txn{
						If:   []etcdmanager.Guard{etcdmanager.ValueIs("n", []byte(fmt.Sprint(round)))},
						Then: []etcdmanager.Op{etcdmanager.Put("n", []byte(fmt.Sprint(round+1)), 0), etcdmanager.Put(fmt.Sprint("by", racer), nil, 0)},
					})
					if err != nil {
						k.Error(err)
					} else if r.Held {
						won.Add(1)
					}
				})
			}
			all.Wait()
			if won.Load() != 1 {
				k.Fatalf("round %d: %d winners", round, won.Load())
			}
		}
	}},
}
