package cluster

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/goverseapi"
	"github.com/xiaonanln/goverse/goversetest"
	logbook_pb "github.com/xiaonanln/goverse/test/logbook/proto"
)

func degraded(nodes int) goversetest.Cluster {
	c := of(nodes)
	c.DegradedMode = true
	return c
}

// Nobody reaches etcd for a minute: durable objects are served all the time, from every
// node and from the gate, volatile ones are not, and nothing is lost when etcd is back.
func TestEtcdIsGoneForAMinute(t *testing.T) {
	goversetest.Sim(t, degraded(3), func(w *goversetest.World) {
		client := w.Connect(w.Gates()[0])
		written := map[string][]string{}
		add := func(ref string, n int) {
			t.Helper()
			id := fmt.Sprint(ref, " ", n)
			client.Call(ref, "Append", &logbook_pb.Entry{Id: id})
			written[ref] = append(written[ref], id)
			if got := client.Call(ref, "Read", &logbook_pb.ReadRequest{}).(*logbook_pb.Page).GetIds(); fmt.Sprint(got) != fmt.Sprint(written[ref]) {
				t.Fatalf("%s has %v, want %v", ref, got, written[ref])
			}
		}
		refs := []string{"DurableLog/0", "DurableLog/1", "DurableLog/2", "DurableLog/3"}
		for i, ref := range refs {
			add(ref, i)
		}
		client.Call("VolatileLog/0", "Append", &logbook_pb.Entry{Id: "v"})
		for _, m := range append(w.Nodes(), w.Gates()...) {
			w.CutFromEtcd(m)
		}
		refused := 0
		for began := time.Now(); time.Since(began) < time.Minute; w.Advance(time.Second) {
			for i, ref := range refs {
				add(ref, i)
			}
			add(fmt.Sprint("DurableLog/new", len(written)), 0) // never seen before
			add(refs[0], len(written))
			if time.Since(began) < 6*time.Second {
				continue
			}
			ctx, cancel := context.WithTimeout(w.T.Context(), time.Second)
			_, err := client.TryCallContext(ctx, "VolatileLog/0", "Read", &logbook_pb.ReadRequest{})
			cancel()
			if goverseapi.OutcomeOf(err) != goverseapi.NotExecuted {
				t.Fatalf("a volatile object: %v", err)
			}
			refused++
		}
		if refused < 5 {
			t.Errorf("%d calls of a volatile object", refused)
		}
		w.Heal()
		w.Settle()
		for _, ref := range refs {
			add(ref, 99)
		}
	})
}

// A node that alone has lost etcd is deposed after its lease: whoever still asks it gets
// nothing that has become old, and nothing that it is told is lost or kept by half.
func TestTakenOverWhileCutOff(t *testing.T) {
	goversetest.Sim(t, degraded(2), func(w *goversetest.World) {
		mine := ""
		for i := 0; mine == ""; i++ {
			if ref := fmt.Sprint("DurableLog/", i); w.Holder(ref) == "node1" {
				mine = ref
			}
		}
		_, id, _ := strings.Cut(mine, "/")
		add := func(node, entry string) error {
			_, err := goverseapi.CallObject(w.On(node), "DurableLog", id, "Append", &logbook_pb.Entry{Id: entry})
			return err
		}
		read := func(node string) (string, error) {
			reply, err := goverseapi.Call(w.On(node), "DurableLog", id, "Read", &logbook_pb.ReadRequest{}, goverseapi.WithTimeout(2*time.Second))
			if err != nil {
				return "", err
			}
			return strings.Join(reply.(*logbook_pb.Page).GetIds(), " "), nil
		}
		if err := add("node1", "a"); err != nil {
			t.Fatal(err)
		}
		w.CutFromEtcd("node1")
		// Its last renewal is at most RenewInterval old: until its lease ends, nobody takes over.
		for began := time.Now(); time.Since(began) < etcdmanager.DefaultTTL-etcdmanager.RenewInterval; w.Advance(100 * time.Millisecond) {
			if got, err := read("node1"); got != "a" || err != nil {
				t.Fatal(got, err, "after", time.Since(began))
			}
		}
		for w.Advance(6 * time.Second); ; w.Advance(100 * time.Millisecond) { // node2 takes over
			if err := add("node2", "b"); err == nil {
				break
			}
		}
		if got, err := read("node1"); err == nil && got != "a b" {
			t.Fatalf("the deposed holder said %q", got)
		}
		err := add("node1", "c")
		if err != nil && goverseapi.OutcomeOf(err) == goverseapi.Executed {
			t.Fatal(err)
		}
		want := "a b"
		if err == nil {
			want += " c"
		}
		for range 20 {
			if got, err := read("node1"); err == nil && got != want {
				t.Fatalf("the deposed holder said %q", got)
			}
			w.Advance(100 * time.Millisecond)
		}
		if got, err := read("node2"); got != want || err != nil {
			t.Fatal(got, err, "want", want)
		}
		w.Heal()
		w.Settle()
		if got, err := read("node1"); got != want || err != nil {
			t.Fatal(got, err, "want", want)
		}
	})
}
