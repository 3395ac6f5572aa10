package etcdmanager_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/embedded"
)

func start(t *testing.T, dir string) *embedded.Server {
	t.Helper()
	s, err := embedded.Start(t.Context(), embedded.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// One client lives through restarts of etcd: its watch misses nothing and repeats
// nothing, its lease has its full TTL again, and trust comes back.
func TestAClientOutlivesItsEtcd(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir)
	c := dial(t, s)
	ch := c.Watch(t.Context(), "w/", 1)
	l, err := etcdmanager.Acquire(t.Context(), []etcdmanager.KV{c}, etcdmanager.LeaseConfig{TTL: etcdmanager.MinTTL})
	if err != nil {
		t.Fatal(err)
	}
	register := etcdmanager.Txn{Then: []etcdmanager.Op{
		etcdmanager.Put(standing.Meta, standing.MetaValue, 0), etcdmanager.Put(standing.Registration, nil, l.ID())}}
	if _, err := c.Commit(t.Context(), register); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- l.Run(ctx, standing) }()
	<-l.Confirmed()
	for i := range 4 {
		put := etcdmanager.Txn{Then: []etcdmanager.Op{etcdmanager.Put("w/a", fmt.Append(nil, i), 0), etcdmanager.Put("w/b", nil, 0)}}
		if _, err := c.Commit(t.Context(), put); err != nil {
			t.Fatal(err)
		}
		if b := <-ch; b.Err != nil || len(b.Events) != 2 || string(b.Events[0].Item.Value) != fmt.Sprint(i) {
			t.Fatalf("round %d: %+v", i, b)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = start(t, dir)
		if b := <-ch; b.Err != nil || !b.Reconnected || len(b.Events) > 0 {
			t.Fatalf("round %d: %+v, want word of the lost connection", i, b)
		}
	}
	for before := l.Renewed(); !l.Renewed().After(before); {
		select {
		case <-l.Lost():
			t.Fatal(l.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
	if !l.Trusted() {
		t.Error("renewed, and not trusted")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// etcd itself refuses what Validate refuses.
func TestValidateAgreesWithEtcd(t *testing.T) {
	s := startEtcd(t, t.TempDir())
	raw, err := clientv3.New(clientv3.Config{Endpoints: []string{s.Endpoint()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	puts := func(n int) (ops []clientv3.Op) {
		for i := range n {
			ops = append(ops, clientv3.OpPut(fmt.Sprint("k", i), ""))
		}
		return ops
	}
	guards := func(n int) (cmps []clientv3.Cmp) {
		for i := range n {
			cmps = append(cmps, clientv3.Compare(clientv3.CreateRevision(fmt.Sprint("g", i)), "=", 0))
		}
		return cmps
	}
	put, del := clientv3.OpPut("a", ""), clientv3.OpDelete("a")
	for _, c := range []struct {
		name    string
		guards  []clientv3.Cmp
		ops     []clientv3.Op
		refused bool
	}{
		{"126 shards and 2 guards", guards(128), puts(126), false},
		{"128 operations", nil, puts(128), false},
		{"129 guards", guards(129), nil, true},
		{"127 shards and 2 guards", guards(129), puts(127), true},
		{"129 operations", nil, puts(129), true},
		{"two puts", nil, []clientv3.Op{put, put}, true},
		{"put and delete", nil, []clientv3.Op{put, del}, true},
		{"delete and put", nil, []clientv3.Op{del, put}, true},
		{"two deletes", nil, []clientv3.Op{del, del}, false},
		{"an empty key", nil, []clientv3.Op{clientv3.OpPut("", "")}, true},
		{"as much as one may send", nil, []clientv3.Op{clientv3.OpPut("b", string(make([]byte, etcdmanager.MaxTxnBytes)))}, false},
	} {
		if _, err := raw.Txn(t.Context()).If(c.guards...).Then(c.ops...).Commit(); (err != nil) != c.refused {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestRequestsUnderWayFailWhenTheClientCloses(t *testing.T) {
	c, err := etcdmanager.DialEach(etcdmanager.Config{Endpoints: []string{closedPort(t)}})
	if err != nil {
		t.Fatal(err)
	}
	failed := make(chan error)
	go func() {
		_, err := c[0].Range(context.Background(), "")
		failed <- err
	}()
	ch := c[0].Watch(context.Background(), "", 1)
	c[0].Close()
	if err := <-failed; !errors.Is(err, etcdmanager.ErrClosed) {
		t.Error(err)
	}
	if _, open := <-ch; open {
		t.Error("the watch goes on")
	}
}
