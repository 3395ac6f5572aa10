//go:build linux

package hostile

import (
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// dribble writes byte by byte, ten a second, until the victim has ended the connection.
func (s *siege) dribble(conn io.Writer, what string) {
	for beat, i := time.NewTicker(100*time.Millisecond), 0; ; i++ {
		if _, err := io.WriteString(conn, what[i%len(what):i%len(what)+1]); err != nil {
			return
		}
		select {
		case <-beat.C:
		case <-s.Context().Done():
			return
		}
	}
}

// slowHeaders sends the beginnings of requests, byte by byte.
func slowHeaders(s *siege) string {
	endless := "GET / HTTP/1.1\r\nHost: localhost\r\n" + strings.Repeat("X-Slow: "+strings.Repeat("x", 200)+"\r\n", 10)
	ports := []struct{ port, words string }{{s.HTTP, endless}, {s.Ops, endless}, {s.GRPC, http2.ClientPreface[:20] + endless}}
	each(len(ports)*size(10, 100), func(i int) {
		conn := s.dial(s.newcomer(), ports[i%len(ports)].port)
		go s.dribble(conn, ports[i%len(ports)].words)
		s.cutOff(conn)
	})
	return "closed"
}

// slowBlocks sends a header block of gRPC byte by byte.
func slowBlocks(s *siege) string {
	ends := make([]string, 4)
	each(len(ends), func(i int) {
		w := s.wire(s.newcomer())
		if err := w.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: w.headers("CallObject")}); err != nil {
			s.Error(err)
		}
		go s.dribble(continuations{w}, "\x97") // a field that stands in the table, of nothing
		ends[i] = w.ends(1)
	})
	return ends[0]
}

// continuations writes each part in a frame of its own.
type continuations struct{ *wire }

func (c continuations) Write(b []byte) (int, error) {
	return len(b), c.WriteContinuation(1, false, b)
}

// slowBodies sends requests byte by byte.
func slowBodies(s *siege) string {
	each(size(5, 50), func(int) {
		conn := s.dial(s.newcomer(), s.HTTP)
		fmt.Fprintf(conn, "%sContent-Length: 100000\r\n\r\n", sayLine)
		go s.dribble(conn, " ")
		s.wants("a slow body", s.cutOff(conn), " 504 ")
	})
	ends := make([]string, 4)
	each(len(ends), func(i int) {
		w := s.wire(s.newcomer())
		if err := w.begin(1, "CallObject"); err != nil {
			s.Error(err)
		}
		go s.dribble(datas{w}, "\x00\x00\x00\x10\x00")
		ends[i] = w.ends(1)
	})
	return "504, " + ends[0]
}

// datas writes each part in a frame of its own.
type datas struct{ *wire }

func (d datas) Write(b []byte) (int, error) { return len(b), d.WriteData(1, false, b) }

// unreadAnswers asks for long answers by HTTP and reads nothing. Each connection is cut, or is
// told that there is no room for its answer.
func unreadAnswers(s *siege) string {
	before := s.state()
	n := size(3, 100)
	each(n, func(int) {
		conn := s.dial(s.newcomer(), s.HTTP)
		_ = conn.SetReadBuffer(4 << 10)
		fmt.Fprintf(conn, "POST /api/v1/objects/Room/siege/Long HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%q", len(`"3000000"`), "3000000")
	})
	cut, refused := 0, 0
	s.until("each connection was ended", func(now state) bool {
		cut, refused = now.Limits["slow_readers"]-before.Limits["slow_readers"], now.Limits["answer_bytes"]-before.Limits["answer_bytes"]
		return cut+refused >= n
	})
	return fmt.Sprintf("%d cut, %d without room", cut, refused)
}

// unreadPushes has much pushed to clients that read nothing, over each door.
func unreadPushes(s *siege) string {
	before := s.state()
	n := size(4, 50)
	each(n, func(i int) {
		w := s.socket(s.newcomer(), []string{"", "?hello=1"}[i%2])
		_ = w.SetReadBuffer(4 << 10)
		if i%2 == 1 {
			_, _ = w.Write(whole(final|text, `{"op":"hello"}`)) // the next write tells
		}
		if _, err := w.Write(whole(final|text, `{"op":"call","seq":1,"type":"Room","id":"siege","method":"Pour","request":"512"}`)); err != nil {
			s.Error(err)
		}
	})
	s.until("each connection was ended", func(now state) bool { return now.Sockets <= before.Sockets+1 })
	return "cut"
}

// unreadStreams asks for long answers on one stream that nobody reads, all at once.
func unreadStreams(s *siege) string {
	w := s.wire(s.newcomer(), http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	if err := w.begin(1, "Converse"); err != nil {
		s.Error(err)
	}
	w.upload(1, converse(hello()))
	for i := range uint64(32) {
		w.upload(1, converse(calls(i+1, asks("Long", wrapperspb.Int64(2<<20)))))
	}
	return w.ends(1)
}

// until waits for the victim to be so.
func (s *siege) until(what string, is func(state) bool) {
	s.Helper()
	now := s.state()
	for deadline := time.Now().Add(patience); !is(now); now = s.state() {
		if time.Now().After(deadline) {
			s.Errorf("not %s after %v: %+v", what, patience, now)
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}
