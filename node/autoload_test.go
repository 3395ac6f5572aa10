package node

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

// alive is the objects that live here, in order.
func (w *world) alive() string {
	w.t.Helper()
	list, err := w.LiveObjects(bg, peer.LiveQuery{Limit: peer.MaxLive})
	w.must(err)
	var ids []string
	for _, o := range list {
		ids = append(ids, o.Ref.String())
	}
	return strings.Join(ids, " ")
}

func autoLoads(list ...object.AutoLoad) func(*world, *Config) {
	return func(_ *world, cfg *Config) { cfg.AutoLoad = list }
}

// What is to live from the beginning does, where it belongs, however long nobody calls it,
// and again after all that ends objects.
func TestAutoLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept, object.WithIdleTimeout(time.Minute), autoLoads(
			object.AutoLoad{Type: "Kept", ID: "one"}, object.AutoLoad{Type: "Thing", ID: "each", PerShard: true},
			object.AutoLoad{Type: "Thing", ID: "here", PerNode: true}, object.AutoLoad{Type: "Thing", ID: "far:1/away"},
		))
		want := []string{"Kept/one", "Thing/n:1/here"}
		for i := range shards {
			want = append(want, fmt.Sprintf("Thing/shard#%d/each", i))
		}
		check := func(when string, want ...string) {
			t.Helper()
			synctest.Wait()
			for _, ref := range want {
				if !strings.Contains(" "+w.alive()+" ", " "+ref+" ") {
					t.Errorf("%s: %s does not live: %s", when, ref, w.alive())
				}
			}
			if got := strings.Fields(w.alive()); len(got) != len(want) {
				t.Errorf("%s: %d live, want %d: %s", when, len(got), len(want), got)
			}
		}
		check("at the beginning", want...)
		w.want(bg, "Kept/one.Change", 1)
		w.want(bg, "Thing/shard#3/each.Change", 1)
		w.want(bg, "Thing/other/each.Change", 1)
		time.Sleep(5 * time.Minute)
		check("after some time", want...)
		w.want(bg, "Thing/shard#3/each.Change", 2)

		w.must(w.delete(bg, "Thing/shard#3/each"))
		time.Sleep(autoLoadEvery)
		check("after its deletion", want...)
		w.want(bg, "Thing/shard#3/each.Change", 1)

		w.Drop(allShards(), "test")
		check("without shards")
		w.epoch++
		w.open()
		check("with the shards again", want...)
		w.want(bg, "Kept/one.Change", 2) // what is stored came back, and was not made anew
	})
}

// One that cannot be created is told of once, and tried again until it can.
func TestAutoLoadThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, autoLoads(object.AutoLoad{Type: "Nothing", ID: "x"}, object.AutoLoad{Type: "Thing", ID: "fine"}))
		time.Sleep(5 * time.Minute)
		if n := strings.Count(w.said(), "loaded automatically"); n != 1 {
			t.Errorf("it told of it %d times: %s", n, w.said())
		}
		if w.alive() != "Thing/fine" {
			t.Error(w.alive())
		}
	})
}
