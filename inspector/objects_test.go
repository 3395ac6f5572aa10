package inspector

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/xiaonanln/goverse/cluster/etcdmanager/memkv"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

// told is a node that tells what a test says, and does nothing else.
type told struct {
	peer.Service
	ids     []string // of its objects, all of type Room
	surveys atomic.Int64
	ended   atomic.Int64
	hangs   bool
}

func (n *told) Survey(ctx context.Context) (*peer.Survey, error) {
	nth := uint64(n.surveys.Add(1))
	if n.hangs {
		<-ctx.Done()
		return nil, fault.Waited(ctx, "hanging")
	}
	return &peer.Survey{
		Since: 7, Age: time.Duration(nth) * time.Second, Objects: int64(len(n.ids)), Commits: 3 * nth,
		Types: []peer.TypeSurvey{{Type: "Room", Objects: int64(len(n.ids)), Queued: 2, Calls: 100 * nth, Errors: nth, Latency: []peer.Bucket{{UpTo: time.Millisecond, Calls: 98 * nth}, {UpTo: time.Second, Calls: 2 * nth}}}},
		Edges: []peer.EdgeSurvey{{From: peer.FromClient, To: "Room", Calls: 100 * nth}},
		Top:   []peer.ObjectSurvey{{Ref: object.Ref{Type: "Room", ID: "general"}, Calls: 60 * nth}},
		Gates: []peer.GateSurvey{{Address: "g:1", Since: 9, Age: time.Duration(nth) * time.Second, Clients: 5, Calls: 50 * nth, Pushes: 200 * nth}},
	}, nil
}

func (n *told) LiveObjects(ctx context.Context, q peer.LiveQuery) (list []peer.LiveObject, err error) {
	if n.hangs {
		<-ctx.Done()
		return nil, fault.Waited(ctx, "hanging")
	}
	for _, id := range n.ids {
		if after := q.After.Type + "\x00" + q.After.ID; strings.HasPrefix(id, q.Prefix) && "Room\x00"+id > after && (q.Type == "" || q.Type == "Room") && len(list) < q.Limit {
			list = append(list, peer.LiveObject{Ref: object.Ref{Type: "Room", ID: id}, Shard: 1, LastUsed: time.UnixMilli(1700000000000), Queued: 1})
		}
	}
	return list, nil
}

func (n *told) Look(_ context.Context, ref object.Ref, state bool) (*peer.Sight, error) {
	if ref.Type != "Room" {
		return nil, fault.New(fault.UnknownType, "no such type")
	}
	s := &peer.Sight{
		Live: true, Phase: "live", Shard: 1, Epoch: 3, Version: 12, Mode: "Sequential", Durability: "Durable", Created: time.UnixMilli(1700000000000), LastUsed: time.UnixMilli(1700000001000), Queued: 1,
		Running: []peer.LookedCall{{Method: "Join", Caller: "client g:1/x"}}, Queue: []peer.LookedCall{{Method: "Say", Caller: "User/u.Post", At: time.UnixMilli(1700000002000)}},
		Recent: []peer.LookedCall{{Method: "Say", Caller: "program", At: time.UnixMilli(1700000003000), Took: 1500 * time.Microsecond, Outcome: "ok"}},
	}
	if state {
		s.State, s.Hidden = []byte(`{"@type":"x","topic":"<b>"}`), []string{"secret"}
	}
	return s, nil
}

func (n *told) Deactivate(_ context.Context, ref object.Ref, force bool) (bool, error) {
	if ref.ID == "only" && !force {
		return true, fault.New(fault.Invalid, "its state would be lost")
	}
	n.ended.Add(1)
	return true, nil
}

// startTold runs an inspector on two nodes, of which b may hang.
func startTold(t *testing.T, hangs bool, on event.Listener) (url string, a, b *told) {
	t.Helper()
	network := peer.NewNetwork()
	a, b = &told{ids: []string{"a/1", "a2", "general"}}, &told{ids: []string{"b1", "b2"}, hangs: hangs}
	t.Cleanup(network.Listen("a:1", a))
	t.Cleanup(network.Listen("b:1", b))
	store := memkv.NewStore()
	put(t, store, twoNodes+"\nput gates/g:1 {\"reg\":\"g1\"}\nput gates/g:2 {\"reg\":\"g2\"}")
	return startWith(t, store, Config{Dialer: network.Dialer("inspector"), Listener: on}), a, b
}

// Rates come while somebody looks and not else, and a node that hangs is said to be silent
// and holds nothing up.
func TestRatesOfALivingCluster(t *testing.T) {
	url, a, _ := startTold(t, true, event.Listener{})
	if n := a.surveys.Load(); n != 0 {
		t.Errorf("%d surveys although nobody looks", n)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, strings.Replace(url, "http", "ws", 1)+"/api/v1/feed", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	conn.SetReadLimit(1 << 20)
	for {
		_, frame, err := conn.Read(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var r struct {
			Op                string
			Nodes, Gates, Top []map[string]any
			Types, Edges      [][]any
		}
		if json.Unmarshal(frame, &r) != nil || r.Op != "rates" || r.Nodes[0]["calls"] == 0.0 {
			continue
		}
		if n := r.Nodes[0]; n["calls"] != 100.0 || n["errors"] != 1.0 || n["p50"] != 1000.0 || n["p99"] != 1000000.0 || n["queued"] != 2.0 || n["commits"] != 3.0 || n["objects"] != 3.0 {
			t.Errorf("%v", n)
		}
		if n := r.Nodes[1]; n["address"] != "b:1" || n["silent"] == nil {
			t.Errorf("%v", n)
		}
		got := fmt.Sprint(r.Types, r.Edges, r.Top, r.Gates)
		if want := "[[Room a:1 3 100 1]] [[client Room 100]] [map[calls:60 id:general node:a:1 type:Room]] [map[address:g:1 calls:50 clients:5 pushes:200] map[address:g:2 calls:0 clients:0 pushes:0 silent:it has reported to no node that answers]]"; got != want {
			t.Errorf("%s\nwant\n%s", got, want)
		}
		return
	}
}

// A page has what lives on all nodes, in order, and who asks on gets the rest.
func TestObjects(t *testing.T) {
	url, _, _ := startTold(t, false, event.Listener{})
	var ids []string
	for after, pages := "", 0; ; pages++ {
		status, answer := fetch(t, "GET", url+"/api/objects?limit=2&after="+after, "")
		var page ObjectPage
		if err := json.Unmarshal([]byte(answer), &page); status != 200 || err != nil || pages > 3 {
			t.Fatal(status, answer, err)
		}
		for _, o := range page.Objects {
			ids = append(ids, o.Node+" "+o.ID)
		}
		if after = page.Next; after == "" {
			break
		}
	}
	if want := []string{"a:1 a/1", "a:1 a2", "b:1 b1", "b:1 b2", "a:1 general"}; !slices.Equal(ids, want) {
		t.Errorf("%q", ids)
	}
	for path, says := range map[string]string{
		"?node=b:1": `"next"`, "?limit=0": "limit", "?limit=1001": "limit", "?limit=x": "limit", "?after=%25": "after",
		"?node=z:9": "z:9 is no live node", "?prefix=gen": "general", "?type=None": `{"objects":[]}`,
	} {
		if _, answer := fetch(t, "GET", url+"/api/objects"+path, ""); strings.Contains(answer, says) != (path != "?node=b:1") {
			t.Errorf("%s: %s", path, answer)
		}
	}
}

// Who hangs is named beside what the others have.
func TestObjectsOfAHungNode(t *testing.T) {
	url, _, _ := startTold(t, true, event.Listener{})
	if status, answer := fetch(t, "GET", url+"/api/objects", ""); status != 200 || !strings.Contains(answer, "general") || !strings.Contains(answer, `"silent":[{"address":"b:1"`) {
		t.Error(status, answer)
	}
}

// Looking at an object tells what its node knows; its state is told when it is asked for,
// and that it was is told, too.
func TestObject(t *testing.T) {
	var reads atomic.Int64
	url, _, _ := startTold(t, false, event.Listener{SensitiveOperation: func(e event.SensitiveOperation) {
		if e.What == event.OperatorReads && e.ID == "general" && e.From != "" {
			reads.Add(1)
		}
	}})
	if status, answer := fetch(t, "GET", url+"/api/object?type=Room&id=general", ""); status != 200 || strings.Contains(answer, "topic") || reads.Load() != 0 {
		t.Error(status, answer, reads.Load())
	}
	status, answer := fetch(t, "GET", url+"/api/object?type=Room&id=general&state=true", "")
	if status != 200 || reads.Load() != 1 {
		t.Error(status, reads.Load())
	}
	var node struct{ Node string }
	if err := json.Unmarshal([]byte(answer), &node); err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/object.json", []byte(strings.Replace(answer, node.Node, "10.0.0.1:47000", 1)))
	for path, want := range map[string]int{"type=None&id=x": 404, "type=Room": 400, "type=Room&id=z:9/pinned": 503} {
		if status, answer := fetch(t, "GET", url+"/api/object?"+path, ""); status != want {
			t.Errorf("%s: %d %s", path, status, answer)
		}
	}
}

// An order to deactivate is carried out, refused with the node's words, and told.
func TestDeactivateAnObject(t *testing.T) {
	url, a, b := startTold(t, false, event.Listener{})
	for _, c := range []struct {
		body   string
		status int
		says   string
	}{
		{`{"type":"Room","id":"general"}`, 200, `"wasLive":true`},
		{`{"type":"Room","id":"only"}`, 400, "would be lost"},
		{`{"type":"Room","id":"only","force":true}`, 200, `"wasLive":true`},
		{`{"type":"Room"}`, 400, "id"},
		{`{"typ":"Room"}`, 400, "the body is not"},
	} {
		if status, answer := fetch(t, "POST", url+"/api/object/deactivate", c.body); status != c.status || !strings.Contains(answer, c.says) {
			t.Errorf("%s: %d %s", c.body, status, answer)
		}
	}
	if n := a.ended.Load() + b.ended.Load(); n != 2 {
		t.Errorf("%d objects were ended", n)
	}
	_, snapshot := fetch(t, "GET", url+"/api/v1/snapshot", "")
	for _, want := range []string{"an operator deactivated Room/general", "the order to deactivate Room/only was not carried out", "an operator deactivated Room/only"} {
		if !strings.Contains(snapshot, want) {
			t.Errorf("%q is not on the timeline", want)
		}
	}
	if status, answer := fetch(t, "POST", url+"/api/object/deactivate", `{"type":"Room","id":"general"}`, "Origin", "http://evil.example"); status != 403 {
		t.Error(status, answer)
	}
}
