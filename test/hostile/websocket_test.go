//go:build linux

package hostile

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// socket is a WebSocket on which an attacker writes the frames himself.
type socket struct {
	*net.TCPConn
	in *bufio.Reader
}

// The opcodes of frames.
const (
	continuation = 0x0
	text         = 0x1
	binaryFrame  = 0x2
	closing      = 0x8
	ping         = 0x9
	final        = 0x80
	reserved     = 0x40
)

func (s *siege) socket(from *net.TCPAddr, query string) *socket {
	s.Helper()
	conn := s.dial(from, s.HTTP)
	fmt.Fprintf(conn, "GET /api/v1/ws%s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n", query, s.HTTP)
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	w := &socket{conn, bufio.NewReader(conn)}
	resp, err := http.ReadResponse(w.in, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		s.Fatalf("no WebSocket: %v, %v", resp, err)
	}
	if used := resp.Header.Get("Sec-WebSocket-Extensions"); used != "" {
		s.Errorf("the gate agrees to %s, and may be sent a bomb", used)
	}
	return w
}

// frame is one with a mask of nothing, which says that it has length bytes.
func frame(first byte, length uint64, payload string) []byte {
	b := []byte{first}
	switch {
	case length < 126:
		b = append(b, 0x80|byte(length))
	case length < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(length))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), length)
	}
	return append(append(b, 0, 0, 0, 0), payload...)
}

func whole(first byte, payload string) []byte { return frame(first, uint64(len(payload)), payload) }

// next reads a frame; an error says that there is none.
func (w *socket) next() (op byte, payload []byte, err error) {
	var head [2]byte
	if _, err = io.ReadFull(w.in, head[:]); err != nil {
		return 0, nil, err
	}
	n := uint64(head[1])
	switch n {
	case 126:
		var b [2]byte
		_, err = io.ReadFull(w.in, b[:])
		n = uint64(binary.BigEndian.Uint16(b[:]))
	case 127:
		var b [8]byte
		_, err = io.ReadFull(w.in, b[:])
		n = binary.BigEndian.Uint64(b[:])
	}
	if err == nil {
		payload = make([]byte, n)
		_, err = io.ReadFull(w.in, payload)
	}
	return head[0] & 0xf, payload, err
}

// closed reads to the end, and is the code that the gate closed with.
func (s *siege) closed(w *socket) string {
	s.Helper()
	_ = w.SetReadDeadline(time.Now().Add(patience))
	for {
		op, payload, err := w.next()
		if e, ok := err.(net.Error); ok && e.Timeout() {
			s.Errorf("after %v the WebSocket is still there", patience)
		}
		if err != nil {
			return "cut"
		}
		if op == closing && len(payload) >= 2 {
			return fmt.Sprint(binary.BigEndian.Uint16(payload))
		}
	}
}

// badSockets sends what no client should.
func badSockets(s *siege) string {
	kinds := []struct {
		name  string
		write func(w *socket)
		want  string
	}{
		{"a frame of 4 exabytes", func(w *socket) { w.Write(frame(final|text, 1<<62, strings.Repeat("x", 64<<10))) }, "cut"},
		{"a frame of 5 MiB", func(w *socket) { w.Write(whole(final|text, strings.Repeat("x", 5<<20))) }, "1009"},
		{"binary", func(w *socket) { w.Write(whole(final|binaryFrame, "x")) }, "1003"},
		{"no mask", func(w *socket) { w.Write([]byte{final | text, 1, 'x'}) }, "1002 cut"},
		{"a reserved bit", func(w *socket) { w.Write(whole(final|reserved|text, "x")) }, "1002 cut"},
		{"a long ping", func(w *socket) { w.Write(whole(final|ping, strings.Repeat("x", 200))) }, "1002 cut"},
		{"a continuation of nothing", func(w *socket) { w.Write(whole(final|continuation, "x")) }, "1002 cut"},
		{"no JSON", func(w *socket) { w.Write(whole(final|text, "\xff\xfe")) }, "1008"},
	}
	each(len(kinds), func(i int) {
		w := s.socket(s.newcomer(), "")
		kinds[i].write(w)
		if kinds[i].want == "cut" {
			_ = w.CloseWrite()
		}
		if got := s.closed(w); !strings.Contains(kinds[i].want, got) {
			s.Errorf("%s: closed with %s, want %s", kinds[i].name, got, kinds[i].want)
		}
	})
	return "1002, 1003, 1008, 1009"
}

// fragments sends a message that does not end, in parts of nothing.
func fragments(s *siege) string {
	w := s.socket(s.newcomer(), "")
	part := strings.Repeat(string(frame(continuation, 0, "")), 1000)
	if _, err := w.Write(frame(text, 0, "")); err != nil {
		s.Error(err)
	}
	for began := time.Now(); time.Since(began) < patience; {
		_ = w.SetWriteDeadline(time.Now().Add(patience))
		if _, err := io.WriteString(w, part); err != nil {
			return "cut"
		}
	}
	s.Error("it goes on for ever")
	return ""
}

// pings asks a WebSocket for signs of life, and reads none.
func pings(s *siege) string {
	each(4, func(int) {
		w := s.socket(s.newcomer(), "")
		_ = w.SetReadBuffer(4 << 10)
		_ = w.SetWriteDeadline(time.Now().Add(time.Duration(size(1, 20)) * time.Second))
		many := strings.Repeat(string(whole(final|ping, strings.Repeat("x", 100))), 100)
		for range size(1_000, 100_000) {
			if _, err := io.WriteString(w, many); err != nil {
				break
			}
		}
	})
	return "held back"
}
