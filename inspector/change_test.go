package inspector

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/diagnosis"
	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/memkv"
)

// The transcripts: what is written to etcd, and what the inspector says happened.
//
//	etcd        lines of "put key value" and "del key", below /goverse/; then what changed since
//	            the etcd before, one in a line, and the health
func TestChanges(t *testing.T) {
	datadriven.Walk(t, "testdata/changes", func(t *testing.T, path string) {
		store := memkv.NewStore()
		defer store.Close()
		was := sceneNow(t, store)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd != "etcd" {
				d.Fatalf(t, "unknown command %s", d.Cmd)
			}
			put(t, store, d.Input)
			is := sceneNow(t, store)
			var b strings.Builder
			for _, c := range changesBetween(was, is) {
				fmt.Fprintf(&b, "%s: %s", c.Kind, c.Text)
				if c.Reason != "" {
					fmt.Fprintf(&b, " (%s)", c.Reason)
				}
				if len(c.Shards) > 0 {
					fmt.Fprintf(&b, " %v", c.Shards)
				}
				b.WriteString("\n")
			}
			fmt.Fprintf(&b, "health: %s\n", is.Health.Level)
			for _, r := range is.Health.Reasons {
				fmt.Fprintf(&b, "  %s\n", r)
			}
			was = is
			return b.String()
		})
	})
}

func sceneNow(t testing.TB, store *memkv.Store) *Scene {
	t.Helper()
	kv := store.Connect()
	defer kv.Close()
	v, err := consensusmanager.Read(t.Context(), kv, "/goverse")
	if err != nil {
		t.Fatal(err)
	}
	return sceneOf(diagnosis.Of(v, "/goverse"))
}

// put carries out lines of "put key value" and "del key" in one transaction.
func put(t testing.TB, store *memkv.Store, script string) {
	t.Helper()
	kv := store.Connect()
	defer kv.Close()
	var ops []etcdmanager.Op
	for line := range strings.Lines(script) {
		verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		key, value, _ := strings.Cut(rest, " ")
		switch verb {
		case "put":
			ops = append(ops, etcdmanager.Put("/goverse/"+key, []byte(value), 0))
		case "del":
			ops = append(ops, etcdmanager.Delete("/goverse/"+key))
		default:
			t.Fatalf("what is %q?", line)
		}
	}
	if _, err := kv.Commit(t.Context(), etcdmanager.Txn{Then: ops}); err != nil {
		t.Fatal(err)
	}
}
