package server

import (
	"testing"

	"github.com/xiaonanln/goverse/node"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/memstore"
)

// A node that is not registered goes on with a store that was put back: else it could
// never say whose that is, and never be registered.
func TestBindStoreThatWasPutBack(t *testing.T) {
	store := memstore.New()
	n := node.New(node.Config{Address: "n:1", Types: object.NewTypes()})
	bind := func(want string) {
		t.Helper()
		if owner, err := BindStore(t.Context(), n, "mine"); err != nil || owner != want {
			t.Errorf("it belongs to %q, %v; want %q", owner, err, want)
		}
	}
	bind("mine") // no store
	n.SetPersistenceProvider(store)
	n.Start()
	empty := store.Snapshot()
	bind("mine")
	store.Restore(empty)
	bind("mine")
	store.Restore(empty)
	other := memstore.New()
	if _, err := other.BindCluster(t.Context(), "another's"); err != nil {
		t.Fatal(err)
	}
	store.Restore(other.Snapshot())
	bind("another's")
}
