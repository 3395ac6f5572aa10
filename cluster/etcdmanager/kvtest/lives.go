package kvtest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
)

// everyRequest makes one request of each kind.
func everyRequest(ctx context.Context, kv etcdmanager.KV, lease etcdmanager.LeaseID) map[string]error {
	errs := map[string]error{}
	_, errs["range"] = kv.Range(ctx, "")
	_, errs["commit"] = kv.Commit(ctx, etcdmanager.Txn{Then: []etcdmanager.Op{etcdmanager.Put("late", nil, 0)}})
	_, _, errs["grant"] = kv.Grant(ctx, minute)
	_, errs["renew"] = kv.KeepAlive(ctx, lease)
	errs["revoke"] = kv.Revoke(ctx, lease)
	_, errs["version"] = kv.Version(ctx)
	return errs
}

var lives = []test{
	{"life/version", func(k *kit) {
		version, err := k.kv.Version(k.ctx())
		if err != nil {
			k.Fatal(err)
		}
		var major, minor, patch int
		if _, err := fmt.Sscanf(version, "%d.%d.%d", &major, &minor, &patch); err != nil || major != 3 {
			k.Errorf("%q: %v", version, err)
		}
	}},
	{"life/a context that has ended", func(k *kit) {
		lease, _ := k.grant(minute)
		ended, cancel := context.WithCancel(k.Context())
		cancel()
		for op, err := range everyRequest(ended, k.kv, lease) {
			if !errors.Is(err, context.Canceled) {
				k.Errorf("%s: %v, want that its context was canceled", op, err)
			}
			if op == "commit" && !errors.Is(err, etcdmanager.ErrNotApplied) {
				k.Errorf("commit: %v: it never left", err)
			}
		}
		past, cancel := context.WithDeadline(k.Context(), time.Now().Add(-time.Second))
		defer cancel()
		for op, err := range everyRequest(past, k.kv, lease) {
			if !errors.Is(err, context.DeadlineExceeded) {
				k.Errorf("%s: %v, want that its deadline has passed", op, err)
			}
		}
		k.wantKeys("", "")
	}},
	{"life/closed", func(k *kit) {
		other := k.store.Connect(k)
		lease, _ := k.grant(minute)
		k.put("a", "")
		ch := other.Watch(k.Context(), "", 1)
		unread := other.Watch(k.Context(), "", 1)
		k.next(ch)
		for range 2 {
			if err := other.Close(); err != nil {
				k.Fatal(err)
			}
		}
		k.wantEnd(ch)
		for range unread {
		}
		for op, err := range everyRequest(k.ctx(), other, lease) {
			if !errors.Is(err, etcdmanager.ErrClosed) {
				k.Errorf("%s: %v, want ErrClosed", op, err)
			}
			if op == "commit" && !errors.Is(err, etcdmanager.ErrNotApplied) {
				k.Errorf("commit: %v: it never left", err)
			}
		}
		k.wantEnd(other.Watch(k.Context(), "", 1))
		k.wantKeys("", "a") // the first connection is well
	}},
	{"life/two connections see one store", func(k *kit) {
		other := k.store.Connect(k)
		defer other.Close()
		ctx, cancel := context.WithCancel(k.Context())
		defer cancel()
		ch := other.Watch(ctx, "", k.page("").Revision+1)
		r := k.put("a", "1")
		k.wantStory(k.next(ch), r.Revision, "+a=1")
		p, err := other.Range(k.ctx(), "")
		if err != nil || len(p.Items) != 1 || p.Revision != r.Revision {
			k.Errorf("%+v, %v", p, err)
		}
	}},
}
