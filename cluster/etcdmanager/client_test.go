package etcdmanager_test

import (
	"context"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/embedded"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/kvtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// etcd is a real etcd as kvtest sees it.
type etcd struct{ server *embedded.Server }

func startEtcd(t testing.TB, dir string) *embedded.Server {
	t.Helper()
	s, err := embedded.Start(t.Context(), embedded.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func dial(t testing.TB, s *embedded.Server) *etcdmanager.Client {
	t.Helper()
	c, err := etcdmanager.Dial(etcdmanager.Config{Endpoints: []string{s.Endpoint()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func (e etcd) Connect(t testing.TB) etcdmanager.KV { return dial(t, e.server) }

func (e etcd) Compact(t testing.TB, revision int64) {
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{e.server.Endpoint()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Compact(context.Background(), revision); err != nil {
		t.Error(err)
	}
}

func TestContract(t *testing.T) {
	kvtest.Run(t, kvtest.World{Open: func(t testing.TB) kvtest.Store { return etcd{startEtcd(t, t.TempDir())} }})
}
