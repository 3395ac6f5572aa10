package consensusmanager

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/internal/secure"
)

// secrets is what each process holds for the cluster's secret.
func (w *world) secrets() (list []secure.Secret) {
	for _, p := range w.all {
		list = append(list, p.View().Secret())
	}
	return list
}

// All processes have one secret, whoever drew it, also after it was deleted, damaged,
// or lost with the rest of etcd.
func TestTheSecret(t *testing.T) {
	bubble(t, func(w *world) {
		k := newKeys(DefaultPrefix)
		for _, a := range []string{"a:1", "b:1", "c:1"} {
			w.node(a)
		}
		gate := w.node("g:1", func(c *Config) { c.Gate = true })
		drawn, err := gate.Secret(w.t.Context()) // from before there is one
		if err != nil || !drawn.Known() {
			t.Fatal(drawn.Known(), err)
		}
		agree := func(when string) secure.Secret {
			t.Helper()
			time.Sleep(5 * time.Second)
			synctest.Wait()
			list := w.secrets()
			for _, s := range list {
				if s != list[0] || !s.Known() {
					t.Fatalf("%s: not all know one secret", when)
				}
			}
			return list[0]
		}
		if s := agree("at first"); s != drawn {
			t.Error("it changed without a reason")
		}
		by := w.etcd.Connect()
		for _, c := range []struct {
			what string
			op   etcdmanager.Op
		}{
			{"deleted", etcdmanager.Delete(k.secret())},
			{"damaged", etcdmanager.Put(k.secret(), []byte(`{"secret":"short"}`), 0)},
			{"not JSON", etcdmanager.Put(k.secret(), []byte("{"), 0)},
			{"nothing at all", etcdmanager.Put(k.secret(), encodeSecret(secure.Secret{}), 0)},
		} {
			if _, err := by.Commit(w.t.Context(), etcdmanager.Txn{Then: []etcdmanager.Op{c.op}}); err != nil {
				t.Fatal(err)
			}
			after := agree(c.what)
			if after == drawn {
				t.Errorf("%s: the secret is the old one", c.what)
			}
			drawn = after
		}
		for _, note := range w.notes {
			if strings.Contains(note, drawn.Reveal()) || strings.Contains(note, "short") {
				t.Errorf("a notice shows the value: %s", note)
			}
		}
		v := gate.View()
		if shown := fmt.Sprintf("%v %+v %#v %s", v.Secret(), v.Secret(), v.Secret(), v); strings.Contains(shown, drawn.Reveal()) {
			t.Error("the view shows it")
		}
	})
}
