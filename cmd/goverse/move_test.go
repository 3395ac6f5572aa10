package main

import (
	"strings"
	"testing"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/memkv"
)

// waiting gives an order with --wait, and returns once it has seen how things are.
func waiting(t *testing.T, store *memkv.Store, args ...string) <-chan outcome {
	t.Helper()
	waits := &watched{Conn: store.Connect(), watching: make(chan struct{})}
	ended := make(chan outcome, 1)
	go func() {
		ended <- runOn(t, func(etcdmanager.Config) (etcdmanager.KV, error) { return waits, nil }, nil, args...)
	}()
	select {
	case <-waits.watching:
	case out := <-ended:
		t.Fatal(out)
	}
	return ended
}

func TestMoveWaits(t *testing.T) {
	for name, c := range map[string]struct {
		then, stdout, stderr string
		code                 int
	}{
		"until it is there":       {`put shards/0000 {"e":2,"c":"b:1","ci":"b1","t":"b:1","h":"ff","n":"00000003"}`, "b:1 holds shard 0\n", "a:1 holds it, and calls run there\n", 0},
		"not for ever, if undone": {"del orders/0000", "", "somebody took the order back, or gave another", 1},
		"nor if another is given": {`put orders/0000 {"to":"a:1","pin":true}`, "", "somebody took the order back, or gave another", 1},
		"nor for a dead process":  {"del reg/b1", "", "b:1 is gone: the order counts no more", 1},
	} {
		t.Run(name, func(t *testing.T) {
			store := memkv.NewStore()
			defer store.Close()
			write(t, store, twoNodes)
			ended := waiting(t, store, "move", "0", "b:1", "--wait")
			write(t, store, c.then)
			if out := <-ended; out.code != c.code || out.stdout != c.stdout || !strings.Contains(out.err, c.stderr) {
				t.Error(out)
			}
		})
	}
}

func TestAMoveWhoseAnswerIsLost(t *testing.T) {
	store := memkv.NewStore()
	defer store.Close()
	write(t, store, twoNodes)
	dial := func(etcdmanager.Config) (etcdmanager.KV, error) { return &mute{store.Connect()}, nil }
	if out := runOn(t, dial, nil, "move", "0", "b:1", "--timeout", "50ms"); out.code != 1 || !strings.Contains(out.err, "it is not known whether the order about shard 0 was given: give it again, which does no harm") {
		t.Error(out)
	}
}
