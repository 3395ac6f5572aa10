package inspector

import (
	"strings"
	"testing"

	"github.com/xiaonanln/goverse/cluster/etcdmanager/memkv"
	"github.com/xiaonanln/goverse/cluster/sharding"
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
	_, told := fetch(t, "GET", url+"/api/v1/snapshot", "")
	for _, want := range []string{"an operator ordered to move shard 0 to b:1", "an operator ordered to pin shard 0 to b:1", "an operator ordered to take back what was ordered of shard 0", "the order to move shard 0 to x:1 was not given", "an operator ordered to pin 2 shards (0-1) to b:1"} {
		if !strings.Contains(told, want) {
			t.Errorf("viewers are not told that %s", want)
		}
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
