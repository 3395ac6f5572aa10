package gateserver

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/emptypb"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
)

// Every door that opens a session tells the gate's time.
func TestTheGateTellsItsTime(t *testing.T) {
	s := start(t, newCluster(echo))
	check := func(door string, before time.Time, told int64) {
		t.Helper()
		if told < before.UnixMilli() || told > time.Now().UnixMilli() {
			t.Errorf("%s told %d, after %d", door, told, before.UnixMilli())
		}
	}

	before := time.Now()
	stream, err := dial(t, s).Register(t.Context(), &emptypb.Empty{})
	if err != nil {
		t.Fatal(err)
	}
	first, err := stream.Recv()
	r := new(gate_pb.RegisterResponse)
	if err != nil || first.UnmarshalTo(r) != nil {
		t.Fatal(first, err)
	}
	check("gRPC", before, r.UnixMillis)

	before = time.Now()
	check("the stream", before, talk(t, t.Context(), dial(t, s)).told)

	before = time.Now()
	check("the WebSocket", before, socketTo(t, s).told)

	before = time.Now()
	_, told, _ := followFrom(t, t.Context(), s)
	check("the events", before, told)
}
