package consensusmanager

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/embedded"
	"github.com/xiaonanln/goverse/cluster/sharding"
)

// A real etcd whose files are put back as they were a moment ago, and which then is
// written to until its revision is where it was. The process notices by itself.
func TestRealEtcdRestored(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etcd")
	start := func() *embedded.Server {
		t.Helper()
		s, err := embedded.Start(t.Context(), embedded.Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	stop := func(s *embedded.Server) {
		t.Helper()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	dial := func(s *embedded.Server) *etcdmanager.Client {
		t.Helper()
		c, err := etcdmanager.Dial(etcdmanager.Config{Endpoints: []string{s.Endpoint()}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	commit := func(c *etcdmanager.Client, txn etcdmanager.Txn) int64 {
		t.Helper()
		r, err := c.Commit(t.Context(), txn)
		if err != nil {
			t.Fatal(err)
		}
		return r.Revision
	}
	until := func(what string, bound time.Duration, so func(v *View) bool, m *Manager) {
		t.Helper()
		deadline := time.Now().Add(bound)
		for v := m.View(); !so(v); v = m.View() {
			left := time.Until(deadline)
			if left <= 0 {
				t.Fatalf("%s: not after %v: %v", what, bound, v)
			}
			pause(t.Context(), v, min(left, 20*time.Millisecond))
		}
	}

	s := start()
	p := &process{done: make(chan error, 1)}
	var err error
	p.Manager, err = New(Config{KVs: []etcdmanager.KV{dial(s)}, Address: "a:1", NumShards: 4, StabilityDelay: -1, ReloadInterval: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { p.done <- p.Run(ctx, p.serve) }()
	held := func(v *View) bool { return v.Table.Len() == 4 && v.Census().States[sharding.Held] == 4 }
	until("held", 10*time.Second, held, p.Manager)

	// It stops, and goes on as it was: nothing has happened.
	stop(s)
	if err := os.CopyFS(dir+".backup", os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	s = start()
	c := dial(s)
	record := p.View().Table.Shard(2)
	commit(c, putKey(testKeys.shard(2), string(record.Encode("lost"))))
	last := commit(c, putKey(testKeys.gate("g:1"), `{"reg":"g1"}`))
	until("the gate is seen", 5*time.Second, func(v *View) bool { return v.Revision >= last && len(v.Gates()) == 1 }, p.Manager)
	if n := p.restored.Load(); n != 0 {
		t.Fatal("a restart is taken for a restore")
	}

	// It stops, and goes on as it was before the gate came.
	stop(s)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir+".backup", dir); err != nil {
		t.Fatal(err)
	}
	s = start()
	again := dial(s)
	for i := 0; commit(again, putKey("/other", fmt.Sprint(i))) <= last; i++ {
	}
	begin := time.Now()
	until("it has noticed", 5*time.Second, func(*View) bool { _, n := p.registration(); return n == 2 }, p.Manager)
	t.Logf("registered anew %v after etcd was back", time.Since(begin))
	until("held", 15*time.Second, func(v *View) bool { return held(v) && len(v.Gates()) == 0 }, p.Manager)
	cancel()
	if err := <-p.done; err != nil {
		t.Error(err)
	}
	stop(s)
}
