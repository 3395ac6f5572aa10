// Package batch is how streams are written: frames, each marshalled by whoever has it, one
// after another in one gRPC message, which one goroutine sends. Codec and Buffers are both
// roads'; the rest is the client's, where a batch is on the wire the protobuf message that
// gate.proto says: docs/format/client.md.
package batch

import (
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	_ "google.golang.org/grpc/encoding/proto" // the codec of everything but batches
)

// Limits, in bytes. A batch is Full before a last frame, which can be of any length that
// its sender allows.
const (
	Full     = 32 << 10 // a batch that long takes no more frames
	MaxFrame = 64 << 10 // of a client: longer calls go beside the stream, so as not to hold it up
)

// AppendFrame appends a frame to a batch. Its fields are those in head, then those in body.
func AppendFrame(b, head, body []byte) []byte {
	b = protowire.AppendTag(b, 1, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(len(head)+len(body)))
	b = append(b, head...)
	return append(b, body...)
}

// New is an empty batch. Sending it, as a message of a stream with Codec, gives it away.
func New() *[]byte { return Buffers.Empty(0) }

// Free takes back a batch that is not sent.
func Free(b *[]byte) { Buffers.Put(b) }

// Codec is gRPC's protobuf codec, except that a batch, which is of Buffers, is sent as it is.
func Codec() encoding.CodecV2 { return codec{encoding.GetCodecV2("proto")} }

type codec struct{ encoding.CodecV2 }

func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	switch v := v.(type) {
	case *[]byte:
		return mem.BufferSlice{mem.NewBuffer(v, Buffers)}, nil
	case *Watched:
		whole, err := c.Marshal(v.Message)
		return cut(whole, v), err
	}
	return c.CodecV2.Marshal(v)
}
