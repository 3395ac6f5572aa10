package batch

import (
	"bytes"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
)

// A batch is the message that gate.proto says.
func TestABatchIsProtobuf(t *testing.T) {
	want := &gate_pb.ClientBatch{}
	b := New()
	defer Free(b)
	for i := range uint64(300) {
		call := &gate_pb.CallObjectRequest{Type: "T", Id: string(bytes.Repeat([]byte("i"), int(i)))}
		f := &gate_pb.ClientFrame{Call: i, TimeoutMicros: int64(i), Kind: &gate_pb.ClientFrame_CallObject{CallObject: call}}
		want.Frames = append(want.Frames, f)
		*b = AppendFrame(*b, marshal(t, &gate_pb.ClientFrame{Call: i, TimeoutMicros: int64(i)}), marshal(t, &gate_pb.ClientFrame{Kind: f.Kind}))
	}
	got := new(gate_pb.ClientBatch)
	if err := proto.Unmarshal(*b, got); err != nil || !proto.Equal(got, want) {
		t.Errorf("%v, %v", err, got)
	}
}

func marshal(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The codec sends a batch as it is and everything else as protobuf; and what it sends is
// another's when it is sent.
func TestCodec(t *testing.T) {
	c := Codec()
	m := &gate_pb.Welcome{ClientId: "a"}
	for range 3 {
		b := New()
		if len(*b) != 0 {
			t.Fatalf("a new batch has %d bytes", len(*b))
		}
		*b = append(*b, marshal(t, m)...)
		for _, v := range []any{b, m} {
			sent, err := c.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			got := new(gate_pb.Welcome)
			if err := c.Unmarshal(sent, got); err != nil || !proto.Equal(got, m) {
				t.Errorf("%T: %v, %v", v, got, err)
			}
			sent.Free()
		}
	}
	if c.Name() != "proto" {
		t.Error(c.Name())
	}
}

// Whoever watches a long message hears of each piece that is read, and of each that is
// given up; the message is whole.
func TestWatched(t *testing.T) {
	c := Codec()
	for _, size := range []int{0, 100, 4 * piece, 4*piece + 1, 5*piece - 1, 5 * piece, 6*piece - 1, 1<<20 + 7} {
		taken, kept := 0, 0
		b := New()
		for i := range size {
			*b = append(*b, byte(i*7))
		}
		want := bytes.Clone(*b)
		w := &Watched{Message: b, Taken: func() { taken++ }, Kept: func(n int) { kept += n }}
		sent, err := c.Marshal(w)
		if err != nil {
			t.Fatal(err)
		}
		if kept != size && size > 4*piece || kept != 0 && size <= 4*piece {
			t.Errorf("%d bytes: %d are kept", size, kept)
		}
		r := sent.Reader()
		sent.Free()
		half := make([]byte, size/2)
		if n, err := r.Read(half); n != len(half) || err != nil && size > 1 || !bytes.Equal(half, want[:size/2]) {
			t.Errorf("%d bytes: read %d, %v", size, n, err)
		}
		all, pieces := taken, size/piece
		if size <= 4*piece {
			pieces = 0
		}
		if all != pieces/2 {
			t.Errorf("%d bytes: %d pieces taken after half of it", size, all)
		}
		if r.Remaining() != size-size/2 {
			t.Errorf("%d bytes: %d remain", size, r.Remaining())
		}
		_ = r.Close()
		if kept != 0 {
			t.Errorf("%d bytes: %d of them are kept in the end", size, kept)
		}
		if taken != pieces {
			t.Errorf("%d bytes: %d of %d pieces", size, taken, pieces)
		}
	}
	if sent, err := c.Marshal(&Watched{Message: &gate_pb.Welcome{ClientId: "a"}}); err != nil || sent.Len() == 0 {
		t.Error(sent, err)
	}
	if _, err := c.Marshal(&Watched{Message: 5}); err == nil {
		t.Error("a number is marshalled")
	}
}

// A buffer that was given back comes again where it fits, and never where it does not.
func TestBuffers(t *testing.T) {
	var p Pool
	var _ mem.BufferPool = &p
	for _, size := range []int{0, 1, firstTier - 1, firstTier, firstTier + 1, 5 * firstTier, 64 * firstTier, 64*firstTier + 1, 1 << 20} {
		b := make([]byte, 0, size)
		p.Put(&b)
		for _, length := range []int{0, 1, firstTier, firstTier + 1, 64 * firstTier, 1 << 20} {
			if got := p.Get(length); len(*got) != length {
				t.Errorf("asked for %d bytes, got %d", length, len(*got))
			}
		}
	}
}
