package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/xiaonanln/goverse/cluster/etcdmanager/memkv"
)

// pictures is what a watch has drawn, piece by piece.
type pictures chan string

func (p pictures) Write(b []byte) (int, error) {
	p <- string(b)
	return len(b), nil
}

func watch(t *testing.T, store *memkv.Store, terminal bool, args ...string) (drawn pictures, end func() int) {
	ctx, cancel := context.WithCancel(t.Context())
	drawn = make(pictures, 100)
	p := &program{in: strings.NewReader(""), out: drawn, err: drawn, terminal: terminal, dial: connectTo(t, store, true),
		environment: func(string) (string, bool) { return "", false }}
	code := make(chan int, 1)
	go func() { code <- p.run(ctx, append([]string{"nodes", "--watch"}, args...)) }()
	return drawn, func() int { cancel(); return <-code }
}

func TestNodesWatch(t *testing.T) {
	store := memkv.NewStore()
	defer store.Close()
	write(t, store, twoNodes)
	drawn, end := watch(t, store, false)
	const heading = "ADDRESS  STATE  LEADER  HELD  TARGET  IN  OUT  VERSION  TYPES\n"
	if got, want := <-drawn, heading+"a:1      ready  *       1     1       0   0    -        -\nb:1      ready  -       1     1       0   0    -        -\n2 shards: 2 held\n"; got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	write(t, store, `put map {"epoch":7}`) // which nobody sees
	write(t, store, `put shards/0000 {"e":2,"c":"b:1","ci":"b1","t":"b:1","h":"","n":"00000002"}`)
	if got, want := <-drawn, "\n"+heading+"a:1      ready  *       0     0       0   0    -        -\nb:1      ready  -       2     2       0   0    -        -\n2 shards: 2 held\n"; got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	write(t, store, "put nodes/c:1 garbage\x1b")
	if got := <-drawn; !strings.Contains(got, "note: damaged: /goverse/nodes/c:1: not JSON") {
		t.Error(got)
	}
	if code := end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestNodesWatchOnATerminal(t *testing.T) {
	store := memkv.NewStore()
	defer store.Close()
	write(t, store, twoNodes)
	drawn, end := watch(t, store, true)
	if got := <-drawn; !strings.HasPrefix(got, "\x1b[H\x1b[2JADDRESS") {
		t.Errorf("%q", got)
	}
	end()
}

// A line for each change is a document for each change.
func TestNodesWatchAsJSON(t *testing.T) {
	store := memkv.NewStore()
	defer store.Close()
	write(t, store, twoNodes)
	drawn, end := watch(t, store, true, "-o", "json")
	for i, then := range []string{"del reg/b1", `del nodes/b:1`} {
		var l nodeList
		line := <-drawn
		if err := json.Unmarshal([]byte(line), &l); err != nil || strings.Count(line, "\n") != 1 || len(l.Nodes) != 2-i {
			t.Errorf("%q: %v", line, err)
		}
		write(t, store, then)
	}
	end()
}

func TestNodesWatchWithoutACluster(t *testing.T) {
	store := memkv.NewStore()
	defer store.Close()
	if out := runOn(t, connectTo(t, store, true), nil, "nodes", "--watch"); out.code != 1 || !strings.Contains(out.err, "no cluster under the prefix /goverse") {
		t.Error(out)
	}
}

func TestAlike(t *testing.T) {
	known := []string{"10.0.0.1:47000", "10.0.0.2:47000", "node-3.example:47001"}
	for address, want := range map[string]string{
		"10.0.0.1": "10.0.0.1:47000", "10.0.0.2:4": "10.0.0.2:47000", ":47001": "node-3.example:47001",
		"0.2:47000": "10.0.0.2:47000", "47000": "10.0.0.1:47000 10.0.0.2:47000", "": "", "x:1": "",
	} {
		if got := strings.Join(alike(address, known), " "); got != want {
			t.Errorf("%q: %q, want %q", address, got, want)
		}
	}
	if many := append(known, "10.0.0.3:47000", "10.0.0.4:47000"); alike("47000", many) != nil {
		t.Error("four suggestions are none")
	}
}

func TestUnknownNodeAmongMany(t *testing.T) {
	store := memkv.NewStore()
	defer store.Close()
	write(t, store, twoNodes)
	for i := range 11 {
		write(t, store, fmt.Sprintf("put nodes/n%02d:1 {\"reg\":\"r%d\",\"state\":\"ready\"}\nput reg/r%d n%02d:1", i, i, i, i))
	}
	if out := runOn(t, connectTo(t, store, true), nil, "explain", "node", "x"); out.code != 1 || !strings.HasSuffix(out.err, "n06:1, n07:1 and 3 more\n") {
		t.Error(out)
	}
}
