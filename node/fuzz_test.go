package node

import (
	"net"
	"strings"
	"testing"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// Every id has one place: a shard's, this node's own, or none here because it names
// another node.
func FuzzSlotOf(f *testing.F) {
	for _, id := range []string{"x", "n:1/x", "m:1/x", "n:1", "n:1/", "/x", "shard#3/x", "shard#99/x", "[::1]:47000/x", "a/b/c", ":1/x", "n:/x", "n:0/x", "n:1/\x00"} {
		f.Add(id)
	}
	n := New(Config{Address: "n:1", NumShards: shards, Types: object.NewTypes()})
	f.Fuzz(func(t *testing.T, id string) {
		s, err := n.slotOf(id)
		if err != nil {
			isFault(t, err, fault.WrongHolder, fault.NotExecuted)
			if e := fault.Of(err); e.Holder == "n:1" || !strings.HasPrefix(id, e.Holder+"/") {
				t.Errorf("%q is said to be pinned to %q", id, e.Holder)
			}
			return
		}
		if s.shard < 0 || s.shard > shards {
			t.Errorf("%q is in shard %d", id, s.shard)
		}
		if pinned := strings.HasPrefix(id, "n:1/") && id != "n:1/"; pinned != (s == n.pinned()) {
			t.Errorf("%q: slot %d", id, s.shard)
		}
		if host, _, ok := strings.Cut(id, "/"); ok && s != n.pinned() {
			if h, p, err := net.SplitHostPort(host); err == nil && h != "" && p == "47000" && !strings.HasSuffix(id, "47000/") {
				t.Errorf("%q names a node and was given a shard", id)
			}
		}
	})
}
