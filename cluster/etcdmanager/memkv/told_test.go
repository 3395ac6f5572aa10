package memkv

import (
	"sync"
	"testing"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/kvtest"
	"github.com/xiaonanln/goverse/internal/event"
)

// toldWorld is a world whose requests are told of.
type toldWorld struct {
	world
	on event.Listener
}

func (w toldWorld) Connect(t testing.TB) etcdmanager.KV {
	return etcdmanager.Told(w.world.Connect(t), w.on)
}

// Who is told of requests gets in nobody's way, and hears of each kind.
func TestContractTold(t *testing.T) {
	var mu sync.Mutex
	heard := map[string]int{}
	on := event.Listener{EtcdDone: func(e event.EtcdDone) {
		mu.Lock()
		defer mu.Unlock()
		how := "ok"
		switch {
		case e.Err != nil:
			how = "failed"
		case e.Refused:
			how = "refused"
		}
		if e.Took < 0 {
			t.Errorf("%v took %v", e.Operation, e.Took)
		}
		heard[e.Operation.String()+" "+how]++
	}}
	kvtest.Run(t, kvtest.World{Bubble: true, Open: func(t testing.TB) kvtest.Store { return toldWorld{openWorld(t).(world), on} }})
	for _, what := range []string{"range ok", "commit ok", "commit refused", "commit failed", "grant ok", "keep_alive ok", "keep_alive failed", "revoke ok"} {
		if heard[what] == 0 {
			t.Errorf("nobody heard of %s: %v", what, heard)
		}
	}
	kv := NewStore().Connect()
	if etcdmanager.Told(kv, event.Listener{}) != kv {
		t.Error("what nobody hears is told of")
	}
}
