package kvtest

import (
	"errors"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
)

const minute = time.Minute

// slack is how long after its TTL a lease may still stand: etcd looks every 500 ms.
// A real machine that is busy is given some more.
func (k *kit) slack() time.Duration {
	if k.bubble {
		return 500 * time.Millisecond
	}
	return 2500 * time.Millisecond
}

// early is how much before its TTL a lease may seem to end: the two ends of a real
// connection do not look at the clock at one instant.
func (k *kit) early() time.Duration {
	if k.bubble {
		return 0
	}
	return 20 * time.Millisecond
}

// shortest is the smallest lease of this store.
func (k *kit) shortest() (etcdmanager.LeaseID, time.Duration) {
	k.Helper()
	id, ttl := k.grant(time.Millisecond)
	return id, ttl
}

func (k *kit) wantExpiry(ch <-chan etcdmanager.Batch, renewed time.Time, ttl time.Duration, story string) {
	k.Helper()
	b := k.next(ch)
	lasted := time.Since(renewed)
	k.wantStory(b, b.Revision, story)
	if lasted < ttl-k.early() || lasted > ttl+k.slack() {
		k.Errorf("the keys went %v after the last renewal of a TTL of %v", lasted, ttl)
	}
}

var leases = []test{
	{"lease/at least what was asked for", func(k *kit) {
		for _, ask := range []time.Duration{time.Millisecond, time.Second, 1500 * time.Millisecond, 3 * time.Second, 5 * time.Second, minute + 1} {
			id, ttl := k.grant(ask)
			if ttl < ask || ttl > ask+3*time.Second || id == 0 {
				k.Errorf("asked %v, granted %v to lease %d", ask, ttl, id)
			}
			if again, err := k.kv.KeepAlive(k.ctx(), id); err != nil || again != ttl {
				k.Errorf("renewed to %v, %v; granted %v", again, err, ttl)
			}
		}
	}},
	{"lease/of nothing is refused", func(k *kit) {
		for _, ttl := range []time.Duration{0, -time.Second} {
			if id, _, err := k.kv.Grant(k.ctx(), ttl); err == nil {
				k.Errorf("lease %d of %v", id, ttl)
			}
		}
	}},
	{"lease/none that never was", func(k *kit) {
		if _, err := k.kv.KeepAlive(k.ctx(), 4711); !errors.Is(err, etcdmanager.ErrLeaseNotFound) {
			k.Error(err)
		}
		if err := k.kv.Revoke(k.ctx(), 4711); err != nil {
			k.Error(err)
		}
	}},
	{"lease/revoked: its keys go in one step, and it is gone", func(k *kit) {
		id, _ := k.grant(minute)
		k.do(etcdmanager.Put("n/b", nil, id), etcdmanager.Put("stays", nil, 0), etcdmanager.Put("n/a", nil, id))
		r := k.do(etcdmanager.Put("n/c", nil, id))
		if err := k.kv.Revoke(k.ctx(), id); err != nil {
			k.Fatal(err)
		}
		k.wantKeys("", "stays")
		k.wantStory(k.next(k.watch("", r.Revision+1)), r.Revision+1, "-n/a -n/b -n/c")
		if _, err := k.kv.KeepAlive(k.ctx(), id); !errors.Is(err, etcdmanager.ErrLeaseNotFound) {
			k.Error(err)
		}
		if err := k.kv.Revoke(k.ctx(), id); err != nil {
			k.Errorf("a second time: %v", err)
		}
	}},
	{"lease/one without keys leaves no revision", func(k *kit) {
		id, _ := k.grant(minute)
		before := k.page("").Revision
		if err := k.kv.Revoke(k.ctx(), id); err != nil {
			k.Fatal(err)
		}
		if after := k.page("").Revision; after != before {
			k.Errorf("from %d to %d", before, after)
		}
	}},
	{"lease/a put on a dead lease fails the transaction as a whole", func(k *kit) {
		id, _ := k.grant(minute)
		if err := k.kv.Revoke(k.ctx(), id); err != nil {
			k.Fatal(err)
		}
		k.put("old", "")
		txn := etcdmanager.Txn{Then: []etcdmanager.Op{etcdmanager.Put("a", nil, 0), etcdmanager.Delete("old"), etcdmanager.Put("b", nil, id)}}
		k.refused(txn)
		if _, err := k.kv.Commit(k.ctx(), txn); !errors.Is(err, etcdmanager.ErrLeaseNotFound) {
			k.Error(err)
		}
		k.wantKeys("", "old")
		// In the branch that is not taken it does no harm.
		k.commit(etcdmanager.Txn{Else: txn.Then})
	}},
	{"lease/a key follows the lease of its last put", func(k *kit) {
		first, _ := k.grant(minute)
		second, _ := k.grant(minute)
		k.do(etcdmanager.Put("moved", nil, first), etcdmanager.Put("freed", nil, first), etcdmanager.Put("bound", nil, 0))
		k.do(etcdmanager.Put("moved", nil, second), etcdmanager.Put("freed", nil, 0), etcdmanager.Put("bound", nil, second))
		if err := k.kv.Revoke(k.ctx(), first); err != nil {
			k.Fatal(err)
		}
		k.wantKeys("", "bound freed moved")
		if err := k.kv.Revoke(k.ctx(), second); err != nil {
			k.Fatal(err)
		}
		k.wantKeys("", "freed")
	}},
	{"lease/a deleted key that is made again is free of it", func(k *kit) {
		id, _ := k.grant(minute)
		k.do(etcdmanager.Put("a", nil, id))
		k.do(etcdmanager.Delete("a"))
		k.put("a", "")
		if err := k.kv.Revoke(k.ctx(), id); err != nil {
			k.Fatal(err)
		}
		k.wantKeys("", "a")
	}},
	{"lease/expires between its TTL and half a second later", func(k *kit) {
		id, ttl := k.shortest()
		granted := time.Now()
		r := k.do(etcdmanager.Put("b", nil, id), etcdmanager.Put("a", nil, id), etcdmanager.Put("stays", nil, 0))
		k.wantExpiry(k.watch("", r.Revision+1), granted, ttl, "-a -b")
		k.wantKeys("", "stays")
		if _, err := k.kv.KeepAlive(k.ctx(), id); !errors.Is(err, etcdmanager.ErrLeaseNotFound) {
			k.Error(err)
		}
	}},
	{"lease/lives as long as it is renewed, then its full TTL", func(k *kit) {
		id, ttl := k.shortest()
		r := k.do(etcdmanager.Put("a", nil, id))
		ch := k.watch("", r.Revision+1)
		var renewed time.Time
		for range 5 {
			time.Sleep(ttl / 2) // the lease's own time passes; nothing is hoped for
			renewed = time.Now()
			if again, err := k.kv.KeepAlive(k.ctx(), id); err != nil || again != ttl {
				k.Fatalf("%v, %v", again, err)
			}
		}
		k.wantKeys("", "a")
		k.wantExpiry(ch, renewed, ttl, "-a")
	}},
	{"lease/writing a key does not renew it", func(k *kit) {
		id, ttl := k.shortest()
		granted := time.Now()
		time.Sleep(ttl / 2)
		r := k.do(etcdmanager.Put("a", nil, id))
		k.wantExpiry(k.watch("", r.Revision+1), granted, ttl, "-a")
	}},
}
