//go:build linux

package hostile

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
)

// raw sends bytes to the HTTP port and returns the first line of the answer.
func (s *siege) raw(from *net.TCPAddr, parts ...string) string {
	s.Helper()
	conn := s.dial(from, s.HTTP)
	defer conn.Close()
	go func() {
		for _, p := range parts {
			if _, err := io.WriteString(conn, p); err != nil {
				return // the victim has heard enough
			}
		}
	}()
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	var line []byte
	for b := make([]byte, 1); !bytes.HasSuffix(line, []byte("\r\n")); line = append(line, b[0]) {
		if _, err := conn.Read(b); err != nil {
			return "cut"
		}
	}
	return strings.TrimSpace(string(line))
}

// wants compares answers.
func (s *siege) wants(what, got, want string) {
	s.Helper()
	if !strings.Contains(got, want) {
		s.Errorf("%s: %q, want %q", what, got, want)
	}
}

const sayLine = "POST /api/v1/objects/Room/siege/Say HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"

// bigBodies sends 100 MB, and says so or not.
func bigBodies(s *siege) string {
	const big = 100 << 20
	piece := strings.Repeat(" ", 64<<10)
	from := s.newcomer()
	s.wants("declared", s.raw(from, fmt.Sprintf("%sContent-Length: %d\r\n\r\n", sayLine, big), piece), " 413 ")
	var parts []string
	for range big / len(piece) {
		parts = append(parts, fmt.Sprintf("%x\r\n", len(piece)), piece, "\r\n")
	}
	s.wants("in chunks", s.raw(from, append([]string{sayLine + "Transfer-Encoding: chunked\r\n\r\n"}, parts...)...), " 413 ")
	w := s.wire(from)
	if err := w.begin(1, "CallObject"); err != nil {
		s.Error(err)
	}
	_ = w.WriteData(1, false, append(binary.BigEndian.AppendUint32([]byte{0}, big), make([]byte, 8<<10)...)) // the victim may have closed
	s.wants("over gRPC", w.ends(1), "ResourceExhausted")
	return "413, ResourceExhausted"
}

// headerBombs sends headers that are long, many, or become so.
func headerBombs(s *siege) string {
	from := s.newcomer()
	s.wants("long", s.raw(from, sayLine, "X: "+strings.Repeat("x", 1<<20)+"\r\n\r\n"), " 431 ")
	s.wants("many", s.raw(from, sayLine, strings.Repeat("X: y\r\n", 100_000)+"\r\n"), " 431 ")
	w := s.wire(from)
	bomb := w.headers("CallObject", "x-bomb", strings.Repeat("x", 3000)) // 3 KB that stand in the table
	entry := []byte{0x80 | 62}                                           // and that one byte names from now on
	_ = w.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: append(bomb, bytes.Repeat(entry, 12<<10)...)})
	for range 100 {
		_ = w.WriteContinuation(1, false, bytes.Repeat(entry, 16<<10)) // the victim may have closed
	}
	_ = w.WriteContinuation(1, true, nil)
	_ = w.CloseWrite()
	return "431, " + w.ends(1)
}

// byteByByte makes a call that is in order, in packets of a byte.
func byteByByte(s *siege) string {
	conn := s.dial(s.newcomer(), s.HTTP)
	_ = conn.SetNoDelay(true)
	ask := sayLine + "Connection: close\r\nContent-Length: 5\r\n\r\n\"abc\""
	for i := range len(ask) {
		if _, err := io.WriteString(conn, ask[i:i+1]); err != nil {
			s.Fatal(err)
		}
	}
	s.wants("it", s.cutOff(conn), "HTTP/1.1 200 OK")
	return "200"
}

// resets opens connections and resets them in the middle of a word.
func resets(s *siege) string {
	for _, port := range []string{s.HTTP, s.GRPC, s.Node, s.Inspector} {
		from := s.newcomer()
		each(size(150, 5000), func(int) {
			conn := s.dial(from, port)
			_, _ = io.WriteString(conn, "POST /api") // the victim may have closed
			_ = conn.SetLinger(0)
			_ = conn.Close()
		})
	}
	return "nothing"
}

// manyConnections opens more than one address may, and leaves them there.
func manyConnections(s *siege) string {
	from, stream := s.newcomer(), "GET /api/v1/events/stream HTTP/1.1\r\nHost: localhost\r\n\r\n"
	refused := 0
	for range size(160, 2500) {
		conn := s.dial(from, s.HTTP)
		_, _ = io.WriteString(conn, stream) // the victim may have closed
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		status := make([]byte, len("HTTP/1.1 200"))
		if _, err := io.ReadFull(conn, status); err != nil || !strings.HasSuffix(string(status), "200") {
			refused++
		}
	}
	if refused == 0 {
		s.Error("none was refused")
	}
	return fmt.Sprintf("429 for %d", refused)
}

// manyStreams opens sessions on few connections, and leaves them there.
func manyStreams(s *siege) string {
	const streams = 150
	refused := make([]int, size(4, 100))
	each(len(refused), func(i int) {
		w := s.wire(s.newcomer())
		for n := range uint32(streams) {
			if err := w.begin(2*n+1, "Converse"); err != nil {
				s.Error(err)
			}
			if err := w.WriteData(2*n+1, false, prefixed(converse(hello()))); err != nil {
				s.Error(err)
			}
		}
		refused[i] = w.greeted(streams)
	})
	total := 0
	for _, n := range refused {
		total += n
	}
	if total == 0 {
		s.Error("none was refused")
	}
	return fmt.Sprintf("ResourceExhausted for %d of %d", total, streams*len(refused))
}

// greeted waits until each of n streams has a first word or an end, and counts the ends.
func (w *wire) greeted(n int) (refused int) {
	w.t.Helper()
	_ = w.SetReadDeadline(time.Now().Add(patience))
	for heard := map[uint32]bool{}; len(heard) < n; {
		f, err := w.ReadFrame()
		if err != nil {
			w.t.Errorf("only %d of %d streams have heard anything: %v", len(heard), n, err)
			return refused
		}
		w.widen(f)
		switch f := f.(type) {
		case *http2.DataFrame:
			heard[f.StreamID] = true
		case *http2.MetaHeadersFrame:
			if f.StreamEnded() && !heard[f.StreamID] {
				heard[f.StreamID] = true
				refused++
			}
		}
	}
	return refused
}

// emptyFrames sends a batch of two million frames of nothing.
func emptyFrames(s *siege) string {
	ends := make([]string, size(1, 16))
	each(len(ends), func(i int) {
		w := s.wire(s.newcomer())
		if err := w.begin(1, "Converse"); err != nil {
			s.Error(err)
		}
		w.upload(1, converse(hello()))
		w.greeted(1)
		nothing := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.BytesType), 0)
		w.upload(1, bytes.Repeat(nothing, 2<<20-16))
		ends[i] = w.ends(1)
	})
	s.wants("a batch", ends[0], "ResourceExhausted")
	return ends[0]
}

// post calls a method of the siege's room as anybody does.
func (s *siege) post(method, body string, headers ...string) (status int, answer string) {
	s.Helper()
	tr := &http.Transport{DialContext: (&net.Dialer{LocalAddr: s.newcomer()}).DialContext}
	defer tr.CloseIdleConnections()
	r, err := http.NewRequestWithContext(s.Context(), http.MethodPost, "http://"+s.HTTP+"/api/v1/objects/Room/siege/"+method, strings.NewReader(body))
	if err != nil {
		s.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := tr.RoundTrip(r)
	if err != nil {
		s.Error(err)
		return 0, ""
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.Error(err)
	}
	return resp.StatusCode, string(b)
}

// wrongRequests sends methods what they do not take.
func wrongRequests(s *siege) string {
	w := s.wire(s.newcomer())
	number, garbage, unknown := asks("Say", wrapperspb.Int64(5)), asks("Say", wrapperspb.String("")), asks("Say", wrapperspb.String(""))
	garbage.Request.Value = []byte{0xff, 0xff, 0xff}
	unknown.Request = &anypb.Any{TypeUrl: "type.googleapis.com/nobody.Knows", Value: []byte{1, 2, 3}}
	for i, request := range []*gate_pb.CallObjectRequest{number, garbage, unknown} {
		if err := w.call(uint32(2*i+1), "CallObject", request); err != nil {
			s.Error(err)
		}
	}
	got := w.ends(3)
	s.wants("messages of another type", got, "3 × InvalidArgument")
	for _, body := range []string{`{"a":1}`, `5`, strings.Repeat("[", 100_000), "\xff\xfe", `"` + "\x00"} {
		if status, answer := s.post("Say", body); status != http.StatusBadRequest {
			s.Errorf("%.20q: %d %s", body, status, answer)
		}
	}
	return "400, InvalidArgument"
}

// deadlines asks for no time at all, and for ten years.
func deadlines(s *siege) string {
	w := s.wire(s.newcomer())
	for i, timeout := range []string{"0n", "99999999H"} {
		if err := w.call(uint32(2*i+1), "CallObject", asks("Say", wrapperspb.String("")), "grpc-timeout", timeout); err != nil {
			s.Error(err)
		}
	}
	s.wants("over gRPC", w.ends(2), "1 × DeadlineExceeded, 1 × OK")
	for timeout, want := range map[string]int{"0s": 400, "-1h": 400, "87600h": 200, "9999999999999h": 400} {
		if status, answer := s.post("Say", `"x"`, "X-Goverse-Timeout", timeout); status != want {
			s.Errorf("%s: %d %s", timeout, status, answer)
		}
	}
	return "DeadlineExceeded, 400"
}

// internals calls what is for objects only.
func internals(s *siege) string {
	before := s.state()
	w := s.wire(s.newcomer())
	if err := w.call(1, "CallObject", asks("Secret", wrapperspb.String(""))); err != nil {
		s.Error(err)
	}
	s.wants("over gRPC", w.ends(1), "PermissionDenied")
	for _, method := range []string{"Secret", "OnSubscribe"} {
		if status, answer := s.post(method, `""`); status != http.StatusForbidden && status != http.StatusNotFound || strings.Contains(answer, "the secret") {
			s.Errorf("%s: %d %s", method, status, answer)
		}
	}
	if n := s.state().Denials["access_rule at node"] - before.Denials["access_rule at node"]; n < 2 {
		s.Errorf("%d denials were audited", n)
	}
	return "PermissionDenied, audited"
}
