package gateserver

import (
	"bytes"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
)

// A batch of very many frames costs what the first of them cost, and no more; and as many
// as are allowed are all there.
func TestABatchOfVeryManyFrames(t *testing.T) {
	for name, c := range map[string]struct {
		wire []byte
		want int
	}{
		"few":           {bytes.Repeat([]byte{0x0a, 0x00}, 3), 3},
		"all":           {bytes.Repeat([]byte{0x0a, 0x02, 0x08, 0x01}, maxFrames), maxFrames},
		"one too many":  {bytes.Repeat([]byte{0x0a, 0x02, 0x08, 0x01}, maxFrames+1), maxFrames + 1},
		"4 MiB":         {bytes.Repeat([]byte{0x0a, 0x00}, maxMessage/2), maxFrames + 1},
		"unknown first": {append(bytes.Repeat([]byte{0x10, 0x00}, maxFrames), bytes.Repeat([]byte{0x0a, 0x00}, maxFrames)...), 1},
	} {
		b := new(gate_pb.ClientBatch)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := newCodec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(c.wire)}, b)
		runtime.ReadMemStats(&after)
		if err != nil || len(b.Frames) != c.want {
			t.Errorf("%s: %d frames, want %d: %v", name, len(b.Frames), c.want, err)
		}
		if grew := after.TotalAlloc - before.TotalAlloc; grew > 8<<20 {
			t.Errorf("%s: %d bytes were allocated", name, grew)
		}
	}
	for _, broken := range [][]byte{bytes.Repeat([]byte{0x0a, 0x7f}, maxMessage/2+1), bytes.Repeat([]byte{0xff}, maxMessage)} {
		if newCodec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(broken)}, new(gate_pb.ClientBatch)) == nil {
			t.Error("what cannot be read is read")
		}
	}
}

// Its client is told, and its neighbour goes on.
func TestVeryManyFramesEndTheStream(t *testing.T) {
	s := start(t, newCluster(echo))
	cc := dialConn(t, s)
	neighbour := talk(t, t.Context(), gate_pb.NewGateServiceClient(cc))
	desc := &grpc.StreamDesc{StreamName: "Converse", ClientStreams: true, ServerStreams: true}
	for range 3 {
		stream, err := cc.NewStream(t.Context(), desc, gate_pb.GateService_Converse_FullMethodName)
		if err != nil {
			t.Fatal(err)
		}
		many := new(gate_pb.Hello)
		many.ProtoReflect().SetUnknown(bytes.Repeat([]byte{0x0a, 0x00}, maxMessage/2))
		for _, m := range []proto.Message{&gate_pb.ClientBatch{Frames: []*gate_pb.ClientFrame{hello()}}, many} {
			if err := stream.SendMsg(m); err != nil {
				t.Fatal(err)
			}
		}
		for err == nil {
			err = stream.RecvMsg(new(gate_pb.GateBatch))
		}
		if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "8192 frames") {
			t.Errorf("it ends with %v", err)
		}
		neighbour.say(askFor(1, "M", text(t, "x")))
		if neighbour.next().GetCallObject() == nil {
			t.Error("the neighbour is not answered")
		}
	}
}
