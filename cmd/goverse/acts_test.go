package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/memkv"
)

// Who gives an order is told of with it.
func TestOrdersSayWhose(t *testing.T) {
	store := memkv.NewStore()
	defer store.Close()
	write(t, store, twoNodes)
	for _, args := range []string{"drain a:1", "drain a:1", "drain a:1 --undo", "move 1 a:1 --pin", "move 1 --unpin", "move 0 b:1", "nodes"} {
		var out bytes.Buffer
		p := &program{in: strings.NewReader(""), out: &out, err: &out, dial: connectTo(t, store, false), environment: func(string) (string, bool) { return "", false }, operator: "ann@laptop"}
		if code := p.run(t.Context(), strings.Fields(args)); code != 0 {
			t.Errorf("%s: %d, %s", args, code, &out)
		}
	}
	kv := store.Connect()
	defer kv.Close()
	v, err := consensusmanager.Read(t.Context(), kv, "/goverse")
	if err != nil {
		t.Fatal(err)
	}
	var told strings.Builder
	for _, a := range v.Acts() {
		fmt.Fprintf(&told, "%s: %v\n", a.Who, a)
	}
	if want := "ann@laptop: drain a:1\nann@laptop: undrain a:1\nann@laptop: pin shard 1 to a:1\nann@laptop: unpin shard 1\nann@laptop: move shard 0 to b:1\n"; told.String() != want {
		t.Errorf("%s\nwant\n%s", &told, want)
	}
	if who := operator(); !strings.Contains(who, "@") || strings.HasPrefix(who, "@") || strings.HasSuffix(who, "@") {
		t.Errorf("the operator is %q", who)
	}
}
