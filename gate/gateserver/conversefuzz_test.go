package gateserver

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/gate"
	gate_pb "github.com/xiaonanln/goverse/gate/proto"
)

// still is a stream on which nothing comes.
type still struct {
	grpc.ServerStream
	ctx context.Context
}

func (s still) Context() context.Context { return s.ctx }

func (s still) RecvMsg(any) error {
	<-s.ctx.Done()
	return s.ctx.Err()
}

// Whatever a batch says, it is refused whole, or each of its calls gets one answer.
func FuzzConverse(f *testing.F) {
	cancel := &gate_pb.ClientFrame{Call: 2, Kind: &gate_pb.ClientFrame_Cancel{}}
	for _, frames := range [][]*gate_pb.ClientFrame{
		{hello()}, {askFor(1, "M", nil)}, {askFor(1, "M", nil), askFor(1, "M", nil)}, {askFor(2, "", nil), cancel}, {askFor(0, "M", nil)}, {{Call: 1}},
		{{Call: 1, Kind: &gate_pb.ClientFrame_Settle{}}, {Call: 3, Kind: &gate_pb.ClientFrame_ReliableCallObject{}}, {Call: 4, Kind: &gate_pb.ClientFrame_CreateObject{}}},
	} {
		b, err := proto.Marshal(&gate_pb.ClientBatch{Frames: frames})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(b[:len(b)-1])
	}
	g := gate.New(gate.Config{Address: "a:1"})
	cfg := GateServerConfig{Router: newCluster(echo), Logger: quiet(), MaxClientCalls: 4}
	cfg.withDefaults()
	door := &grpcDoor{calls: newCalls(&cfg, cfg.Router, g, newCrowd()), patient: time.Minute}
	f.Fuzz(func(t *testing.T, data []byte) {
		b := new(gate_pb.ClientBatch)
		if proto.Unmarshal(data, b) != nil {
			return
		}
		s, err := g.Open()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close(nil)
		c := newConversation(door, &grpc.GenericServerStream[gate_pb.ClientBatch, gate_pb.GateBatch]{ServerStream: still{ctx: t.Context()}})
		c.session = s
		if c.hear(b.Frames) != nil {
			c.running.Wait()
			return
		}
		c.running.Wait()
		due := map[uint64]int{}
		for _, f := range b.Frames {
			if f.GetCancel() == nil {
				due[f.Call]++
			}
		}
		for _, a := range c.answers {
			answer := new(gate_pb.GateFrame)
			if err := proto.Unmarshal(*a.frame, answer); err != nil || answer.Kind == nil {
				t.Fatalf("an answer cannot be read: %v", err)
			}
			due[answer.Call]--
		}
		for number, n := range due {
			if n != 0 {
				t.Errorf("call %d: %d answers too few", number, n)
			}
		}
	})
}
