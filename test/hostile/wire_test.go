//go:build linux

package hostile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
)

// wire is a connection on which an attacker writes the frames of HTTP/2 himself.
type wire struct {
	t testing.TB
	*net.TCPConn
	*http2.Framer
	fields bytes.Buffer
	pack   *hpack.Encoder
	room   int            // bytes that the victim takes on the connection
	opened map[uint32]int // and on its streams; of upload
	first  int            // window of a stream
}

// wire opens one, with settings of its own.
func (s *siege) wire(from *net.TCPAddr, settings ...http2.Setting) *wire {
	s.Helper()
	return s.wireOn(s.dial(from, s.GRPC), settings...)
}

func (s *siege) wireOn(conn *net.TCPConn, settings ...http2.Setting) *wire {
	s.Helper()
	w := &wire{t: s, TCPConn: conn, Framer: http2.NewFramer(conn, conn), room: firstWindow, opened: map[uint32]int{}, first: firstWindow}
	w.pack = hpack.NewEncoder(&w.fields)
	w.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	w.AllowIllegalWrites = true
	_, err := conn.Write([]byte(http2.ClientPreface))
	if err = errors.Join(err, w.WriteSettings(settings...)); err != nil {
		s.Fatal(err)
	}
	return w
}

// firstWindow is how far a window is open that nobody has spoken of.
const firstWindow = 65535

// fieldsOf is a header block of pairs of name and value.
func (w *wire) fieldsOf(pairs ...string) []byte {
	w.fields.Reset()
	for i := 0; i < len(pairs); i += 2 {
		_ = w.pack.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]}) // to a buffer
	}
	return bytes.Clone(w.fields.Bytes())
}

func (w *wire) headers(method string, more ...string) []byte {
	return w.fieldsOf(append([]string{":method", "POST", ":scheme", "http", ":path", "/gate.GateService/" + method, ":authority", "gate", "content-type", "application/grpc", "te", "trailers"}, more...)...)
}

// begin opens a stream with whole headers.
func (w *wire) begin(stream uint32, method string, more ...string) error {
	return w.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: w.headers(method, more...), EndHeaders: true})
}

// call opens a stream with a whole request.
func (w *wire) call(stream uint32, method string, request proto.Message, more ...string) error {
	return errors.Join(w.begin(stream, method, more...), w.WriteData(stream, true, framed(request)))
}

// framed is a message of gRPC.
func framed(m proto.Message) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		panic(err) // it is the test's own
	}
	return prefixed(b)
}

func prefixed(b []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(b))), b...)
}

// asks is a call of the room that attackers have for themselves.
func asks(method string, request proto.Message) *gate_pb.CallObjectRequest {
	a, err := anypb.New(request)
	if err != nil {
		panic(err) // it is the test's own
	}
	return &gate_pb.CallObjectRequest{Type: "Room", Id: "siege", Method: method, Request: a}
}

// ends reads until n streams have ended or the connection has, and says how: with a
// code of gRPC's or of HTTP/2's.
func (w *wire) ends(n int) string {
	w.t.Helper()
	ends := map[string]int{}
	_ = w.SetReadDeadline(time.Now().Add(patience))
	for i := 0; i < n; {
		f, err := w.ReadFrame()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			w.t.Errorf("after %v there is no end; so far there is %v", patience, ends)
			return fmt.Sprint(ends)
		}
		if err != nil {
			ends["closed"]++
			break
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			if f.StreamEnded() {
				ends[statusOf(f)]++
				i++
			}
		case *http2.RSTStreamFrame:
			if f.ErrCode != http2.ErrCodeNo { // which follows an answer
				ends[f.ErrCode.String()]++
				i++
			}
		case *http2.GoAwayFrame:
			ends["GOAWAY "+f.ErrCode.String()+" "+string(f.DebugData()[:min(len(f.DebugData()), 40)])]++
			i = n
		}
	}
	var text []string
	for _, what := range slices.Sorted(maps.Keys(ends)) {
		text = append(text, fmt.Sprintf("%d × %s", ends[what], what))
	}
	return strings.Join(text, ", ")
}

func statusOf(f *http2.MetaHeadersFrame) string {
	for _, h := range f.Fields {
		if h.Name == "grpc-status" {
			n, _ := strconv.Atoi(h.Value) // 0 is OK, and so is what is no number
			return codes.Code(n).String()
		}
	}
	return "HTTP " + f.PseudoValue("status")
}

// converse is a batch of frames for Converse.
func converse(frames ...*gate_pb.ClientFrame) []byte {
	b, err := proto.Marshal(&gate_pb.ClientBatch{Frames: frames})
	if err != nil {
		panic(err) // it is the test's own
	}
	return b
}

func hello() *gate_pb.ClientFrame {
	return &gate_pb.ClientFrame{Kind: &gate_pb.ClientFrame_Hello{Hello: &gate_pb.Hello{}}}
}

func calls(number uint64, r *gate_pb.CallObjectRequest) *gate_pb.ClientFrame {
	return &gate_pb.ClientFrame{Call: number, Kind: &gate_pb.ClientFrame_CallObject{CallObject: r}}
}

// upload sends a message as the victim opens windows for it.
func (w *wire) upload(stream uint32, message []byte) {
	w.t.Helper()
	rest := prefixed(message)
	if _, known := w.opened[stream]; !known {
		w.opened[stream] = w.first
	}
	_ = w.SetReadDeadline(time.Now().Add(patience))
	for len(rest) > 0 {
		if n := min(len(rest), w.opened[stream], w.room, 16<<10); n > 0 {
			if w.WriteData(stream, false, rest[:n]) != nil {
				return
			}
			rest = rest[n:]
			w.opened[stream] -= n
			w.room -= n
			continue
		}
		f, err := w.ReadFrame()
		if err != nil {
			w.t.Errorf("%d bytes are not sent: %v", len(rest), err)
			return
		}
		w.widen(f)
	}
}

// widen heeds what the victim says of windows.
func (w *wire) widen(f http2.Frame) {
	switch f := f.(type) {
	case *http2.WindowUpdateFrame:
		if f.StreamID == 0 {
			w.room += int(f.Increment)
		} else {
			w.opened[f.StreamID] += int(f.Increment)
		}
	case *http2.SettingsFrame:
		if first, ok := f.Value(http2.SettingInitialWindowSize); ok {
			for stream := range w.opened {
				w.opened[stream] += int(first) - w.first
			}
			w.first = int(first)
		}
		if !f.IsAck() {
			_ = w.WriteSettingsAck() // the next write tells
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			_ = w.WritePing(true, f.Data) // the next write tells
		}
	}
}
