package inspector

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/memkv"
	"github.com/xiaonanln/goverse/cluster/sharding"
	inspector_pb "github.com/xiaonanln/goverse/inspector/proto"
)

// An operator's orders about shards are written, told to viewers, and refused in words.
func TestMove(t *testing.T) {
	store := memkv.NewStore()
	put(t, store, twoNodes)
	url := start(t, store, "")
	for _, c := range []struct {
		path, body string
		status     int
		says       string
	}{
		{"0/move", `{"node":"b:1"}`, 200, `"changed":true`},
		{"0/move", `{"node":"b:1","pin":true}`, 200, `"holder":"a:1"`},
		{"0/move", `{"node":"b:1","pin":true}`, 200, `"changed":false`},
		{"0/move", `{"unpin":true}`, 200, `"changed":true`},
		{"1/move", `{"node":"a:1","seconds":600}`, 200, `"changed":true`},
		{"0-1/move", `{"node":"b:1","pin":true}`, 200, `"shards":2`},
		{"1,0/move", `{"node":"b:1","pin":true}`, 200, `"changed":false`},
		{"0-1/move", `{"unpin":true}`, 200, `"changed":true`},
		{"0-2/move", `{"node":"b:1"}`, 404, "no such shard"},
		{"0-1,1/move", `{"node":"b:1"}`, 400, "up to 100"},
		{"1-0/move", `{"node":"b:1"}`, 400, "up to 100"},
		{"0-100/move", `{"node":"b:1"}`, 400, "up to 100"},
		{"0,/move", `{"node":"b:1"}`, 400, "up to 100"},
		{"-1/move", `{"node":"b:1"}`, 400, "up to 100"},
		{"7/move", `{"node":"b:1"}`, 404, "no such shard"},
		{"0/move", `{"node":"x:1"}`, 404, "x:1"},
		{"0/move", `{"node":"b:1","seconds":1}`, 400, "stays for"},
		{"0/move", `{}`, 400, "the body is"},
		{"0/move", `{"node":"b:1","unpin":true}`, 400, "the body is"},
		{"zero/move", `{"node":"b:1"}`, 400, "a shard's number"},
	} {
		if status, answer := fetch(t, "POST", url+"/api/v1/shards/"+c.path, c.body); status != c.status || !strings.Contains(answer, c.says) {
			t.Errorf("%s %s: %d %s", c.path, c.body, status, answer)
		}
	}
	if status, _ := fetch(t, "POST", url+"/api/v1/shards/0/move", `{"node":"b:1"}`, "Origin", "http://evil.example"); status != 403 {
		t.Errorf("another page's order: %d", status)
	}
	untilTold(t, url, "an operator ordered: move shard 0 to b:1", "an operator ordered: pin shard 0 to b:1", "an operator ordered: unpin shard 0",
		"the order to move shard 0 to x:1 was not given", "an operator ordered: pin 2 shards to b:1: [0 1]", "an operator ordered: unpin 2 shards",
		"it was somebody@127.0.0.1, through the inspector")
}

// untilTold waits until all of it is on the timeline.
func untilTold(t *testing.T, url string, all ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "GET", url+"/api/v1/feed/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	reply, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	frames := bufio.NewReader(reply.Body)
	for told := ""; ; {
		if all = slices.DeleteFunc(all, func(want string) bool { return strings.Contains(told, want) }); len(all) == 0 {
			return
		}
		frame, err := frames.ReadString('\n')
		if err != nil {
			t.Fatalf("not told: %q, %v", all, err)
		}
		told += frame
	}
}

// ordersOf is what the cluster remembers of operators.
func ordersOf(t *testing.T, store *memkv.Store) string {
	t.Helper()
	kv := store.Connect()
	defer kv.Close()
	v, err := consensusmanager.Read(t.Context(), kv, consensusmanager.DefaultPrefix)
	if err != nil {
		t.Fatal(err)
	}
	var told strings.Builder
	for _, a := range v.Acts() {
		fmt.Fprintf(&told, "%s: %v\n", a.Who, a)
	}
	return told.String()
}

// What is ordered on the page or over gRPC the cluster remembers, each order once, with
// who gave it. What was refused, or changed nothing, it does not.
func TestOrdersAreRemembered(t *testing.T) {
	store := memkv.NewStore()
	put(t, store, twoNodes)
	url := start(t, store, "")
	for _, path := range []string{"nodes/a:1/drain {}", "nodes/a:1/drain {}", `nodes/a:1/drain {"undo":true}`, "nodes/z:9/drain {}",
		`shards/0/move {"node":"b:1"}`, `shards/0-1/move {"node":"b:1","pin":true}`, `shards/1/move {"unpin":true}`, `shards/1/move {"unpin":true}`} {
		path, body, _ := strings.Cut(path, " ")
		fetch(t, "POST", url+"/api/v1/"+path, body)
	}
	const me = "somebody@127.0.0.1, through the inspector: "
	want := me + "drain a:1\n" + me + "undrain a:1\n" + me + "move shard 0 to b:1\n" + me + "pin 2 shards to b:1: [0 1]\n" + me + "unpin shard 1\n"
	if got := ordersOf(t, store); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	c := dialService(t, url)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for _, order := range []func() (*inspector_pb.OrderReply, error){
		func() (*inspector_pb.OrderReply, error) {
			return c.Move(ctx, &inspector_pb.MoveRequest{Shards: []int32{1, 0}, Node: "a:1", Seconds: 600})
		},
		func() (*inspector_pb.OrderReply, error) {
			return c.Pin(ctx, &inspector_pb.PinRequest{Shards: []int32{1}, Node: "b:1"})
		},
		func() (*inspector_pb.OrderReply, error) {
			return c.Unpin(ctx, &inspector_pb.UnpinRequest{Shards: []int32{1}})
		},
	} {
		if reply, err := order(); err != nil || !reply.Changed || reply.Holder != "b:1" {
			t.Error(reply, err)
		}
	}
	if reply, err := c.Unpin(ctx, &inspector_pb.UnpinRequest{Shards: []int32{1}}); err != nil || reply.Changed {
		t.Error(reply, err)
	}
	if _, err := c.Drain(ctx, &inspector_pb.DrainRequest{Node: "b:1"}); err != nil {
		t.Error(err)
	}
	want += me + "move 2 shards to a:1: [1 0]\n" + me + "pin shard 1 to b:1\n" + me + "unpin shard 1\n" + me + "drain b:1\n"
	if got := ordersOf(t, store); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// Viewers are told what is ordered of a shard for as long as it is.
func TestOrdersAreShown(t *testing.T) {
	f := NewFeed("life")
	scene := func(wanted string, pinned bool) *Scene {
		return &Scene{Shards: []Shard{{Epoch: 1, Current: "a:1", Target: "a:1", State: sharding.Held, wanted: wanted, pinned: pinned}}}
	}
	f.Show(scene("", false))
	_, place, _ := f.After(Place{})
	for _, c := range []struct {
		wanted string
		pinned bool
		row    string
	}{
		{"b:1", true, `"shards":[[0,1,0,0,"held",1,"pin"]]`},
		{"b:1", false, `"shards":[[0,1,0,0,"held",1,"move"]]`},
		{"", false, `"shards":[[0,1,0,0,"held"]]`},
	} {
		f.Show(scene(c.wanted, c.pinned))
		frames, next, _ := f.After(place)
		if place = next; len(frames) != 1 || !strings.Contains(string(frames[0]), c.row) {
			t.Errorf("%s %v: %s", c.wanted, c.pinned, frames)
		}
	}
	f.Show(scene("c:1", true))
	if s := string(f.Snapshot()); !strings.Contains(s, `[[1,0,0,"held",2,"pin"]]`) || !strings.Contains(s, `"names":["a:1","b:1","c:1"]`) {
		t.Errorf("a snapshot: %s", s)
	}
}
