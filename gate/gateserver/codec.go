package gateserver

import (
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/internal/batch"
)

// maxFrames bounds the frames of a client's batch. An empty frame has two bytes on the
// wire and a hundred in memory, so bytes alone are no bound.
const maxFrames = 8192

// codec is batch.Codec, except that of a client's batch it decodes no more than shows
// that there are too many frames in it.
type codec struct{ encoding.CodecV2 }

func newCodec() encoding.CodecV2 { return codec{batch.Codec()} }

func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	b, ok := v.(*gate_pb.ClientBatch)
	if !ok || data.Len() <= 2*maxFrames {
		return c.CodecV2.Unmarshal(data, v)
	}
	whole := data.MaterializeToBuffer(batch.Buffers)
	defer whole.Free()
	return proto.Unmarshal(firstFrames(whole.ReadOnlyData(), maxFrames+1), b)
}

// firstFrames is b up to its n-th field, whatever field that is. What cannot be read is
// left to who decodes it.
func firstFrames(b []byte, n int) []byte {
	rest := b
	for range n {
		_, _, size := protowire.ConsumeField(rest)
		if size <= 0 {
			return b
		}
		rest = rest[size:]
	}
	return b[:len(b)-len(rest)]
}
