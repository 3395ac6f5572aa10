package inspector

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"testing"

	"github.com/xiaonanln/goverse/cluster/census"
)

var update = flag.Bool("update", false, "write the golden files anew")

var someRates = &census.Rates{
	At: 1764000000000,
	Nodes: []census.NodeRates{
		{Address: "10.0.0.1:47000", Objects: 1200, Calls: 4321.5, Errors: 2, P50: 95, P99: 1900, Queued: 3, Commits: 210},
		{Address: "10.0.0.2:47000", Silent: "it did not answer within 1s"},
	},
	Gates: []census.GateRates{{Address: "10.0.0.9:49000", Clients: 512, Calls: 4000, Pushes: 12000.25}, {Address: "10.0.0.8:49000", Silent: "no node has heard of it"}},
	Types: []census.TypeRates{{Type: "ChatRoom", Node: "10.0.0.1:47000", Objects: 200, Calls: 4000.5, Errors: 2}, {Type: "User", Node: "10.0.0.1:47000", Objects: 1000, Calls: 321}},
	Edges: []census.EdgeRates{{From: "client", To: "ChatRoom", Calls: 4000.5}, {From: "ChatRoom", To: "User", Calls: 300}, {From: "program", To: "User", Calls: 21}},
	Top:   []census.Busiest{{Type: "ChatRoom", ID: "general", Node: "10.0.0.1:47000", Calls: 3000}, {Type: "ChatRoom", ID: "a/b", Node: "10.0.0.1:47000", Calls: 12.5}},
}

// The page and other tools read this frame: it changes only on purpose.
func TestRatesGolden(t *testing.T) { golden(t, "testdata/rates.json", ratesFrame(someRates)) }

// golden compares JSON with a file, indented.
func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	var b bytes.Buffer
	if err := json.Indent(&b, got, "", "  "); err != nil {
		t.Fatal(err)
	}
	b.WriteByte('\n')
	if *update {
		if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), want) {
		t.Errorf("%s has changed; -update writes it anew:\n%s", file, b.Bytes())
	}
}

// Only the newest rates are there for viewers, each once, and they take no number.
func TestRatesAreTheNewest(t *testing.T) {
	f := NewFeed("life")
	f.Show(&Scene{Shards: make([]Shard, 1)})
	_, before, changed := f.After(Place{})
	if frame, n := f.Rates(0); frame != nil || n != 0 {
		t.Fatalf("%s, %d", frame, n)
	}
	f.Rate([]byte("1"))
	f.Rate([]byte("2"))
	if !isOver(changed) {
		t.Error("nobody was woken")
	}
	frame, n := f.Rates(0)
	if string(frame) != "2" {
		t.Errorf("%s", frame)
	}
	if frame, m := f.Rates(n); frame != nil || m != n {
		t.Errorf("%s, %d after %d", frame, m, n)
	}
	if frames, next, _ := f.After(before); len(frames) != 0 || next != before {
		t.Errorf("%d frames, %v after %v", len(frames), next, before)
	}
}

func isOver(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
