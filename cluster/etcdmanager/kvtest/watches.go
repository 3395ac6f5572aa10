package kvtest

import (
	"context"
	"errors"
	"fmt"
	"testing/synctest"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
)

// story prints a batch: +key=value for a put, -key for a deletion.
func story(b etcdmanager.Batch) string {
	text := ""
	for i, e := range b.Events {
		if i > 0 {
			text += " "
		}
		if e.Deleted {
			text += "-" + e.Item.Key
		} else {
			text += "+" + e.Item.Key + "=" + string(e.Item.Value)
		}
	}
	return text
}

func (k *kit) wantStory(b etcdmanager.Batch, revision int64, want string) {
	k.Helper()
	if got := story(b); got != want || b.Revision != revision {
		k.Errorf("revision %d: %s, want revision %d: %s", b.Revision, got, revision, want)
	}
	for _, e := range b.Events {
		if e.Item.ModRevision != b.Revision {
			k.Errorf("%s was modified at %d in the batch of %d", e.Item.Key, e.Item.ModRevision, b.Revision)
		}
	}
}

var watches = []test{
	{"watch/from a past revision: every change below the prefix, a revision a batch", func(k *kit) {
		k.put("p/before", "")
		r := []int64{
			k.do(etcdmanager.Put("p/b", []byte("1"), 0), etcdmanager.Put("q", nil, 0), etcdmanager.Put("p/a", []byte("1"), 0)).Revision,
			k.put("q", "2").Revision,
			k.do(etcdmanager.Delete("p/b"), etcdmanager.Put("p/c", []byte("3"), 0)).Revision,
			k.put("p/a", "1").Revision,
		}
		ch := k.watch("p/", r[0])
		k.wantStory(k.next(ch), r[0], "+p/b=1 +p/a=1")
		k.wantStory(k.next(ch), r[2], "-p/b +p/c=3")
		k.wantStory(k.next(ch), r[3], "+p/a=1")
	}},
	{"watch/what happens while it watches", func(k *kit) {
		ch := k.watch("p/", k.page("").Revision+1)
		for i := range 20 {
			k.put("o/x", "")
			r := k.do(etcdmanager.Put("p/x", []byte(fmt.Sprint(i)), 0), etcdmanager.Put("p/y", nil, 0))
			k.wantStory(k.next(ch), r.Revision, fmt.Sprintf("+p/x=%d +p/y=", i))
		}
	}},
	{"watch/from the beginning", func(k *kit) {
		first, second := k.put("a", "1").Revision, k.put("a", "2").Revision
		for _, from := range []int64{0, 1, -5} {
			ch := k.watch("", from)
			k.wantStory(k.next(ch), first, "+a=1")
			k.wantStory(k.next(ch), second, "+a=2")
		}
	}},
	{"watch/a revision still to come", func(k *kit) {
		now := k.put("a", "0").Revision
		ch := k.watch("a", now+3)
		for i := int64(1); i <= 4; i++ {
			k.put("a", fmt.Sprint(i))
		}
		k.wantStory(k.next(ch), now+3, "+a=3")
		k.wantStory(k.next(ch), now+4, "+a=4")
	}},
	{"watch/an item tells its revisions and lease", func(k *kit) {
		lease, _ := k.grant(minute)
		first := k.do(etcdmanager.Put("a", nil, lease)).Revision
		k.do(etcdmanager.Put("a", []byte("2"), lease))
		gone := k.do(etcdmanager.Delete("a")).Revision
		ch := k.watch("a", first+1)
		if got := k.next(ch).Events[0].Item; got.CreateRevision != first || got.ModRevision != first+1 || got.Lease != lease {
			k.Errorf("%+v", got)
		}
		if e := k.next(ch).Events[0]; !e.Deleted || e.Item.Key != "a" || e.Item.ModRevision != gone || e.Item.Value != nil || e.Item.Lease != 0 {
			k.Errorf("%+v", e)
		}
	}},
	{"watch/a whole transaction of 128 changes is one batch", func(k *kit) {
		value := make([]byte, 4000) // more than one small message
		var ops []etcdmanager.Op
		for i := range etcdmanager.MaxTxnOps {
			ops = append(ops, etcdmanager.Put(fmt.Sprintf("s/%03d", i), value, 0))
		}
		live := k.watch("s/", k.page("").Revision+1)
		revision := k.do(ops...).Revision
		for _, ch := range []<-chan etcdmanager.Batch{live, k.watch("s/", revision)} {
			if b := k.next(ch); len(b.Events) != etcdmanager.MaxTxnOps || b.Revision != revision {
				k.Errorf("%d events at %d", len(b.Events), b.Revision)
			}
		}
	}},
	{"watch/a reader that comes late misses nothing", func(k *kit) {
		const n = 2000
		start := k.page("").Revision
		ch := k.watch("", start+1)
		for i := range n {
			k.put("a", fmt.Sprint(i))
		}
		for i := range n {
			k.wantStory(k.next(ch), start+1+int64(i), fmt.Sprintf("+a=%d", i))
		}
	}},
	{"watch/a compacted past", func(k *kit) {
		k.put("a", "1")
		k.put("a", "2")
		last := k.put("a", "3").Revision
		k.store.Compact(k, last)
		ch := k.watch("a", last-1)
		if b := k.last(ch); !errors.Is(b.Err, etcdmanager.ErrCompacted) {
			k.Errorf("%+v, want ErrCompacted", b)
		}
		k.wantEnd(ch)
		k.wantStory(k.next(k.watch("a", last)), last, "+a=3")
	}},
	{"watch/one that is idle outlives a compaction", func(k *kit) {
		ch := k.watch("idle/", k.page("").Revision+1)
		k.put("idle/a", "1")
		k.next(ch)
		for range 10 {
			k.put("busy", "")
		}
		k.settle()
		k.store.Compact(k, k.page("").Revision)
		r := k.put("idle/a", "2")
		k.wantStory(k.next(ch), r.Revision, "+idle/a=2")
	}},
	{"watch/ends with its context, read or not", func(k *kit) {
		k.put("a", "1")
		k.put("a", "2")
		ctx, cancel := context.WithCancel(k.Context())
		read, unread := k.kv.Watch(ctx, "", 1), k.kv.Watch(ctx, "", 1)
		k.next(read)
		cancel()
		for range read {
		}
		for range unread {
		}
	}},
	{"watch/of a context that has ended", func(k *kit) {
		k.put("a", "1")
		ctx, cancel := context.WithCancel(k.Context())
		cancel()
		for range k.kv.Watch(ctx, "", 1) {
		}
	}},
	{"watch/many at once", func(k *kit) {
		r := k.put("a", "1").Revision
		for range 50 {
			k.wantStory(k.next(k.watch("a", r)), r, "+a=1")
		}
	}},
}

// settle lets the goroutines of a bubble come to rest; outside it does nothing.
func (k *kit) settle() {
	if k.bubble {
		synctest.Wait()
	}
}
