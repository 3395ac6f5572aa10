package inspector

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/xiaonanln/goverse/cluster/etcdmanager/memkv"
	inspector_pb "github.com/xiaonanln/goverse/inspector/proto"
	"github.com/xiaonanln/goverse/internal/event"
)

func dialService(t *testing.T, url string) inspector_pb.InspectorServiceClient {
	t.Helper()
	cc, err := grpc.NewClient("passthrough:///"+strings.TrimPrefix(url, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return inspector_pb.NewInspectorServiceClient(cc)
}

// Other tools get over gRPC what the page gets.
func TestService(t *testing.T) {
	url, a, b := startTold(t, false, event.Listener{})
	c := dialService(t, url)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()

	nodes, err := c.Nodes(ctx, &inspector_pb.NodesRequest{})
	if err != nil || len(nodes.Nodes) != 2 || nodes.Nodes[0].Address != "a:1" || !nodes.Nodes[0].Leader || nodes.Nodes[0].Shards != 1 || nodes.Health == "" {
		t.Errorf("%v, %v", nodes, err)
	}
	var ids []string
	for after := ""; ; {
		page, err := c.Objects(ctx, &inspector_pb.ObjectsRequest{Type: "Room", Limit: 3, After: after})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range page.Objects {
			ids = append(ids, o.Id)
		}
		if after = page.Next; after == "" {
			break
		}
	}
	if want := []string{"a/1", "a2", "b1", "b2", "general"}; !slices.Equal(ids, want) {
		t.Errorf("%q", ids)
	}
	o, err := c.Object(ctx, &inspector_pb.ObjectRequest{Type: "Room", Id: "general", State: true})
	if err != nil || !strings.Contains(o.Json, `"version":12`) || !strings.Contains(o.Json, "topic") {
		t.Errorf("%v, %v", o, err)
	}
	for want, what := range map[string]*inspector_pb.ExplainRequest{
		"a:1 holds it":          {What: &inspector_pb.ExplainRequest_Shard{Shard: 0}},
		"It is well":            {What: &inspector_pb.ExplainRequest_Node{Node: "a:1"}},
		"No node is registered": {What: &inspector_pb.ExplainRequest_Node{Node: "z:9"}},
		"holds it":              {What: &inspector_pb.ExplainRequest_Object{Object: &inspector_pb.ObjectRequest{Type: "Room", Id: "x"}}},
	} {
		if e, err := c.Explain(ctx, what); err != nil || !strings.Contains(e.Summary, want) {
			t.Errorf("%v: %v, %v", what, e, err)
		}
	}
	if was, err := c.Deactivate(ctx, &inspector_pb.DeactivateRequest{Type: "Room", Id: "general"}); err != nil || !was.WasLive || a.ended.Load()+b.ended.Load() != 1 {
		t.Error(was, err)
	}
	if d, err := c.Drain(ctx, &inspector_pb.DrainRequest{Node: "b:1"}); err != nil || !d.Changed {
		t.Error(d, err)
	}
	for _, refused := range []struct {
		code codes.Code
		call func() error
	}{
		{codes.InvalidArgument, func() error { _, err := c.Objects(ctx, &inspector_pb.ObjectsRequest{After: "%"}); return err }},
		{codes.InvalidArgument, func() error { _, err := c.Objects(ctx, &inspector_pb.ObjectsRequest{Limit: -1}); return err }},
		{codes.InvalidArgument, func() error { _, err := c.Explain(ctx, &inspector_pb.ExplainRequest{}); return err }},
		{codes.NotFound, func() error {
			_, err := c.Explain(ctx, &inspector_pb.ExplainRequest{What: &inspector_pb.ExplainRequest_Shard{Shard: 2}})
			return err
		}},
		{codes.InvalidArgument, func() error { _, err := c.Object(ctx, &inspector_pb.ObjectRequest{Type: "Room"}); return err }},
		{codes.InvalidArgument, func() error {
			_, err := c.Deactivate(ctx, &inspector_pb.DeactivateRequest{Type: "Room", Id: "only"})
			return err
		}},
		{codes.NotFound, func() error { _, err := c.Drain(ctx, &inspector_pb.DrainRequest{Node: "z:9"}); return err }},
		{codes.NotFound, func() error {
			_, err := c.Pin(ctx, &inspector_pb.PinRequest{Shards: []int32{7}, Node: "a:1"})
			return err
		}},
		{codes.NotFound, func() error {
			_, err := c.Pin(ctx, &inspector_pb.PinRequest{Shards: []int32{0}, Node: "z:9"})
			return err
		}},
		{codes.InvalidArgument, func() error {
			_, err := c.Pin(ctx, &inspector_pb.PinRequest{Shards: []int32{0, 0}, Node: "a:1"})
			return err
		}},
		{codes.InvalidArgument, func() error { _, err := c.Pin(ctx, &inspector_pb.PinRequest{Node: "a:1"}); return err }},
		{codes.InvalidArgument, func() error { _, err := c.Unpin(ctx, &inspector_pb.UnpinRequest{Shards: []int32{-1}}); return err }},
		{codes.InvalidArgument, func() error {
			_, err := c.Move(ctx, &inspector_pb.MoveRequest{Shards: make([]int32, 101), Node: "a:1"})
			return err
		}},
		{codes.InvalidArgument, func() error {
			_, err := c.Move(ctx, &inspector_pb.MoveRequest{Shards: []int32{0}, Node: "a:1", Seconds: 1})
			return err
		}},
	} {
		if err := refused.call(); status.Code(err) != refused.code {
			t.Errorf("%v, want %v", err, refused.code)
		}
	}
}

// Who watches gets the feed: a snapshot, what follows, and rates.
func TestServiceWatch(t *testing.T) {
	url, _, _ := startTold(t, false, event.Listener{})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	stream, err := dialService(t, url).Watch(ctx, &inspector_pb.WatchRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`{"op":"snapshot"`, `{"op":"rates"`} {
		for frame := ""; !strings.HasPrefix(frame, want); {
			m, err := stream.Recv()
			if err != nil {
				t.Fatal(want, err)
			}
			frame = m.Json
		}
	}
}

// The rules are those of the page.
func TestServiceRefusesStrangers(t *testing.T) {
	const token = "correct horse battery"
	store := memkv.NewStore()
	put(t, store, twoNodes)
	c := dialService(t, start(t, store, token))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for _, as := range []struct {
		with []string
		code codes.Code
	}{
		{nil, codes.Unauthenticated},
		{[]string{"authorization", "Bearer wrong horse battery"}, codes.Unauthenticated},
		{[]string{"authorization", "Bearer " + token}, codes.OK},
		{[]string{"authorization", "Bearer " + token, "origin", "http://evil.example"}, codes.PermissionDenied},
	} {
		if _, err := c.Nodes(metadata.AppendToOutgoingContext(ctx, as.with...), &inspector_pb.NodesRequest{}); status.Code(err) != as.code {
			t.Errorf("%q: %v, want %v", as.with, err, as.code)
		}
	}
}
