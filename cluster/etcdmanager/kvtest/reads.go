package kvtest

import (
	"fmt"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
)

var reads = []test{
	{"range/an empty store", func(k *kit) {
		if p := k.page(""); p.Revision < 1 || len(p.Items) != 0 {
			k.Errorf("%+v", p)
		}
	}},
	{"range/in order, and only what begins with the prefix", func(k *kit) {
		k.do(etcdmanager.Put("p/b", nil, 0), etcdmanager.Put("p", nil, 0), etcdmanager.Put("p/", nil, 0),
			etcdmanager.Put("p/a", nil, 0), etcdmanager.Put("p0", nil, 0), etcdmanager.Put("o", nil, 0))
		k.wantKeys("p/", "p/ p/a p/b")
		k.wantKeys("p", "p p/ p/a p/b p0")
		k.wantKeys("", "o p p/ p/a p/b p0")
		k.wantKeys("q", "")
	}},
	{"range/a prefix that ends in 0xff", func(k *kit) {
		k.do(etcdmanager.Put("a\xff", nil, 0), etcdmanager.Put("a\xff\xff", nil, 0), etcdmanager.Put("b", nil, 0), etcdmanager.Put("\xff\xff", nil, 0))
		k.wantKeys("a\xff", "a\xff a\xff\xff")
		k.wantKeys("\xff", "\xff\xff")
	}},
	{"range/an item tells its revisions, value and lease", func(k *kit) {
		lease, _ := k.grant(minute)
		first := k.do(etcdmanager.Put("a", []byte("1"), lease)).Revision
		second := k.put("a", "2").Revision
		third := k.do(etcdmanager.Put("b", []byte("\x00\xff"), lease)).Revision
		p := k.page("")
		a, b := p.Items[0], p.Items[1]
		if a.CreateRevision != first || a.ModRevision != second || string(a.Value) != "2" || a.Lease != 0 {
			k.Errorf("a: %+v", a)
		}
		if b.CreateRevision != third || b.ModRevision != third || string(b.Value) != "\x00\xff" || b.Lease != lease {
			k.Errorf("b: %+v", b)
		}
		if p.Revision != third {
			k.Errorf("revision %d, want %d", p.Revision, third)
		}
	}},
	{"range/a key that is deleted and made again is another incarnation", func(k *kit) {
		first := k.put("a", "x").Revision
		k.do(etcdmanager.Delete("a"))
		second := k.put("a", "x").Revision
		if a := k.page("a").Items[0]; a.CreateRevision != second || second <= first {
			k.Errorf("%+v after a first life from %d", a, first)
		}
	}},
	{"range/bytes belong to the caller", func(k *kit) {
		value := []byte("good")
		k.do(etcdmanager.Put("a", value, 0))
		copy(value, "evil")
		copy(k.page("a").Items[0].Value, "evil")
		copy(k.do(etcdmanager.Get("a")).Gets[0].Item.Value, "evil")
		copy(k.next(k.watch("", 1)).Events[0].Item.Value, "evil")
		if got := string(k.page("a").Items[0].Value); got != "good" {
			k.Errorf("the store holds %q", got)
		}
	}},
	{"range/more keys than a page of any transport", func(k *kit) {
		const shards, batch = 12000, 120
		for from := 0; from < shards; from += batch {
			var ops []etcdmanager.Op
			for i := from; i < from+batch; i++ {
				ops = append(ops, etcdmanager.Put(fmt.Sprintf("s/%05d", i), []byte(`{"e":1,"c":"10.0.0.1:47000"}`), 0))
			}
			k.do(ops...)
		}
		p := k.page("s/")
		if len(p.Items) != shards {
			k.Fatalf("%d items", len(p.Items))
		}
		for i, item := range p.Items {
			if item.Key != fmt.Sprintf("s/%05d", i) {
				k.Fatalf("item %d is %s", i, item.Key)
			}
		}
	}},
}
