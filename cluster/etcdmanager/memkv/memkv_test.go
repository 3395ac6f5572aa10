package memkv

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/kvtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a Store as kvtest sees it.
type world struct{ *Store }

func (w world) Connect(testing.TB) etcdmanager.KV { return w.Store.Connect() }

func (w world) Compact(t testing.TB, revision int64) {
	if err := w.Store.Compact(revision); err != nil {
		t.Error(err)
	}
}

func openWorld(t testing.TB) kvtest.Store {
	s := NewStore()
	t.Cleanup(s.Close)
	return world{s}
}

func TestContract(t *testing.T) { kvtest.Run(t, kvtest.World{Open: openWorld, Bubble: true}) }

// The same outside a bubble, where time is real.
func TestContractOutside(t *testing.T) { kvtest.Run(t, kvtest.World{Open: openWorld}) }
