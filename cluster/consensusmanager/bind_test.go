package consensusmanager

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/object/memstore"
)

// A store serves one cluster. A node that comes to another with it is refused before it
// is registered, and says what to do.
func TestAStoreOfAnotherCluster(t *testing.T) {
	store := memstore.NewWithID("store")
	var binds atomic.Int32 // two nodes bind at the same time
	with := func(c *Config) {
		c.StoreID = "store"
		c.StoreCluster, _ = store.BindCluster(context.Background(), "")
		c.BindStore = func(ctx context.Context, cluster string) (string, error) {
			if binds.Add(1) == 1 {
				return "", errors.New("no answer")
			}
			return store.BindCluster(ctx, cluster)
		}
	}
	var first string
	bubble(t, func(w *world) {
		a, b := w.node("a:1", with), w.node("b:1", with) // it is asked again until it answers
		w.until("both are there", 20*time.Second, w.settled(a, b))
		first = a.View().Meta.Cluster
		if owner, _ := store.BindCluster(context.Background(), ""); owner != first {
			t.Errorf("the store belongs to %q, the cluster is %q", owner, first)
		}
	})
	bubble(t, func(w *world) { // another etcd, with a cluster of its own
		c := w.node("c:1", func(c *Config) { c.StoreID = "store" })
		w.until("the other cluster is there", 20*time.Second, w.settled(c))
		p := w.launch("d:1", with)
		err := <-p.done
		if !errors.Is(err, ErrStoreForeign) || !strings.Contains(err.Error(), first) || !strings.Contains(err.Error(), c.View().Meta.Cluster) {
			t.Error(err)
		}
		if reg, n := p.registration(); reg != nil || n != 0 {
			t.Error("it was registered:", reg)
		}
		if owner, _ := store.BindCluster(context.Background(), ""); owner != first {
			t.Error("the store changed hands:", owner)
		}
	})
	bubble(t, func(w *world) { // etcd has lost everything: the cluster begins anew, as itself
		e := w.node("e:1", with)
		w.until("it is there again", 20*time.Second, w.settled(e))
		if got := e.View().Meta.Cluster; got != first {
			t.Errorf("cluster %s, want %s", got, first)
		}
	})
}
