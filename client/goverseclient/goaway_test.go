package goverseclient

import (
	"encoding/binary"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"google.golang.org/protobuf/proto"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
)

// frame is one frame of HTTP/2.
func frame(kind, flags byte, stream uint32, payload []byte) []byte {
	head := make([]byte, 9, 9+len(payload))
	binary.BigEndian.PutUint32(head, uint32(len(payload))<<8|uint32(kind))
	head[4] = flags
	binary.BigEndian.PutUint32(head[5:], stream)
	return append(head, payload...)
}

// The kinds of frames and the flag that this file needs.
const (
	frameData, frameHeaders, frameSettings, frameGoAway = 0, 1, 4, 7
	endHeaders                                          = 4
)

// abrupt is a gate, by hand, that welcomes a client and answers its first call with a
// GOAWAY which says that the call was not looked at.
func abrupt(t *testing.T, seen *atomic.Int64) (address string) {
	t.Helper()
	welcome, err := proto.Marshal(pack(t, &gate_pb.RegisterResponse{ClientId: "abrupt/1"}))
	if err != nil {
		t.Fatal(err)
	}
	body := append([]byte{0, 0, 0, 0, byte(len(welcome))}, welcome...)
	headers := append([]byte{0x88, 0x0f, 0x10, 16}, "application/grpc"...) // :status 200, content-type
	address, _ = listen(t, func(c net.Conn) {
		if _, err := io.CopyN(io.Discard, c, int64(len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))); err != nil {
			return
		}
		_, _ = c.Write(frame(frameSettings, 0, 0, nil))
		for head := make([]byte, 9); ; {
			if _, err := io.ReadFull(c, head); err != nil {
				return
			}
			if _, err := io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint32(head)>>8)); err != nil {
				return
			}
			switch kind, stream := head[3], binary.BigEndian.Uint32(head[5:]); {
			case kind == frameHeaders && stream == 1: // Register
				_, _ = c.Write(frame(frameHeaders, endHeaders, 1, headers))
				_, _ = c.Write(frame(frameData, 0, 1, body))
			case kind == frameData && stream == 3: // the whole first call
				seen.Add(1)
				_, _ = c.Write(frame(frameGoAway, 0, 0, []byte{0, 0, 0, 1, 0, 0, 0, 0}))
			}
		}
	})
	return address
}

// A call that a gate sends back unseen with its good-bye goes to another gate, even
// though it was on the wire.
func TestGoAwayBeforeAcceptance(t *testing.T) {
	var seen atomic.Int64
	bad, good := abrupt(t, &seen), (&gate{}).serve(t)
	for i := range int64(10) {
		c := connect(t, []string{bad, good.address}, WithUnaryCalls())
		for c.CurrentAddress() != bad {
			if err := c.Reconnect(soon(t)); err != nil {
				t.Fatal(err)
			}
		}
		if err := say(soon(t), c, "x"); err != nil {
			t.Fatal(err)
		}
		if seen.Load() != i+1 || good.calls.Load() != i+1 {
			t.Fatalf("%d and %d calls", seen.Load(), good.calls.Load())
		}
		_ = c.Close()
	}
}
