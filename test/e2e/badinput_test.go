//go:build unix

package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	chat_pb "github.com/xiaonanln/goverse/samples/chat/proto"
)

var longID = strings.Repeat("x", 513)

// TestBadInput sends what no well-behaved client sends. Each gets a clear error, and
// the next good call works: good looks after that.
func TestBadInput(t *testing.T) {
	t.Parallel()
	s := newSite(t, chatBinary)
	p := s.start(t)
	good := func(t *testing.T) {
		t.Helper()
		if !p.alive() {
			t.Fatalf("the process has ended:\n%s", p.output())
		}
		s.mustCall(t, "ChatRoom/good/Join", `{"userName":"guest"}`)
	}
	t.Run("HTTP", func(t *testing.T) { badHTTP(t, s, good) })
	t.Run("WebSocket", func(t *testing.T) { badSocket(t, s, good) })
	t.Run("gRPC", func(t *testing.T) { badGRPC(t, s, good) })
	t.Run("Vanishing", func(t *testing.T) { vanish(t, s, good) })
	t.Run("NUL", func(t *testing.T) { refusedState(t, s, good) })
}

func badHTTP(t *testing.T, s *site, good func(*testing.T)) {
	wrong, err := proto.Marshal(&anypb.Any{TypeUrl: "type.googleapis.com/google.protobuf.Empty"})
	if err != nil {
		t.Fatal(err)
	}
	envelope := fmt.Sprintf(`{"request":%q}`, base64.StdEncoding.EncodeToString(wrong))
	for _, test := range []struct {
		name, path, body string
		status           int
		code             string
		says             string
	}{
		{"unknown type", "/ChatRooom/x/Join", `{}`, 404, "OBJECT_NOT_FOUND", "ChatRooom"},
		{"unknown method", "/ChatRoom/x/Jooin", `{}`, 404, "OBJECT_NOT_FOUND", "Jooin"},
		{"method that is no method of the API", "/ChatRoom/x/ToData", `{}`, 404, "OBJECT_NOT_FOUND", "ToData"},
		{"wrong request type", "/call/ChatRoom/x/Join", envelope, 400, "INVALID_BODY", "google.protobuf.Empty"},
		{"no Any in the envelope", "/call/ChatRoom/x/Join", `{"request":"AAAA"}`, 400, "INVALID_PROTOBUF", ""},
		{"no base64 in the envelope", "/call/ChatRoom/x/Join", `{"request":"!"}`, 400, "INVALID_BASE64", ""},
		{"wrong kind of value", "/ChatRoom/x/Join", `{"userName":{}}`, 400, "INVALID_BODY", "userName"},
		{"empty id", "/ChatRoom//Join", `{}`, 400, "INVALID_PATH", "id"},
		{"empty type", "//x/Join", `{}`, 400, "INVALID_PATH", "type"},
		{"NUL in the id", "/ChatRoom/a%00b/Join", `{}`, 400, "INVALID_PATH", "control character"},
		{"long id", "/ChatRoom/" + longID + "/Join", `{}`, 400, "INVALID_PATH", "512"},
		{"id that is not UTF-8", "/ChatRoom/a%ffb/Join", `{}`, 400, "INVALID_PATH", "UTF-8"},
		{"bad escape", "/ChatRoom/a%zzb/Join", `{}`, 400, "", ""},
		{"too few segments", "/ChatRoom", `{}`, 400, "INVALID_PATH", "segments"},
		{"too many segments", "/ChatRoom/x/Join/y", `{}`, 400, "INVALID_PATH", "segments"},
		{"invalid JSON", "/ChatRoom/x/Join", `{"userName":`, 400, "INVALID_JSON", ""},
		{"two JSON values", "/ChatRoom/x/Join", `{} {}`, 400, "INVALID_JSON", ""},
		{"invalid UTF-8 in the body", "/ChatRoom/x/Join", "{\"userName\":\"\xff\"}", 400, "INVALID_JSON", "UTF-8"},
		{"unknown field", "/ChatRoom/x/Join", `{"username":"guest"}`, 400, "INVALID_BODY", "username"},
		{"body over 4 MiB", "/ChatRoom/x/SendMessage", `{"userName":"a","message":"` + strings.Repeat("x", 4<<20) + `"}`, 413, "TOO_LARGE", ""},
		{"deep nesting", "/ChatRoom/x/Join", strings.Repeat("[", 20000) + strings.Repeat("]", 20000), 400, "", ""},
		{"what the method refuses", "/ChatRoom/x/Join", `{"userName":"  "}`, 500, "CALL_FAILED", "user name"},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, answer := s.raw(t, test.path, test.body, nil)
			wantFailure(t, code, answer, test.status, test.code, test.says)
			good(t)
		})
	}
	t.Run("deadline passed", func(t *testing.T) {
		code, answer := s.raw(t, "/ChatRoom/x/Join", `{"userName":"guest"}`, http.Header{"X-Goverse-Timeout": {"1ns"}})
		wantFailure(t, code, answer, 504, "TIMEOUT", "")
		good(t)
	})
	t.Run("bad deadline", func(t *testing.T) {
		code, answer := s.raw(t, "/ChatRoom/x/Join", `{"userName":"guest"}`, http.Header{"X-Goverse-Timeout": {"soon"}})
		wantFailure(t, code, answer, 400, "", "soon")
		good(t)
	})
	t.Run("page of a stranger", func(t *testing.T) {
		code, answer := s.raw(t, "/ChatRoom/x/Join", `{"userName":"guest"}`, http.Header{"Origin": {"https://evil.example"}})
		wantFailure(t, code, answer, 403, "ACCESS_DENIED", "evil.example")
		good(t)
	})
}

// raw posts to a path as it is, however badly it is escaped.
func (s *site) raw(t *testing.T, path, body string, header http.Header) (int, []byte) {
	t.Helper()
	conn, err := net.Dial("tcp", s.http)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	var request bytes.Buffer
	fmt.Fprintf(&request, "POST /api/v1/objects%s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\nConnection: close\r\n", path, s.http, len(body))
	header.Write(&request)
	request.WriteString("\r\n")
	if len(body) > 1<<20 {
		body = body[:1<<10] // its refusal comes first, and a sender that goes on is reset
	}
	request.WriteString(body)
	if _, err := conn.Write(request.Bytes()); err != nil {
		t.Fatal(err)
	}
	return readResponse(t, conn)
}

func wantFailure(t *testing.T, status int, answer []byte, wantStatus int, wantCode, says string) {
	t.Helper()
	var f frame
	err := json.Unmarshal(answer, &f)
	if wantCode == "" { // the HTTP server itself may have refused it, in plain text
		err = nil
	}
	if status != wantStatus || err != nil || (wantCode != "" && f.Code != wantCode) || !strings.Contains(string(answer), says) {
		t.Errorf("status %d, %.400s; want %d %s with %q", status, answer, wantStatus, wantCode, says)
	}
	if wantCode != "" && (f.Error == "" || f.Outcome == "") {
		t.Errorf("%s says neither what nor whether it ran", answer)
	}
}

func badSocket(t *testing.T, s *site, good func(*testing.T)) {
	for _, test := range []struct {
		name, frame string
		code, says  string
	}{
		{"unknown type", `{"op":"call","seq":1,"type":"Nobody","id":"x","method":"Join"}`, "OBJECT_NOT_FOUND", "Nobody"},
		{"unknown method", `{"op":"call","seq":1,"type":"ChatRoom","id":"x","method":"Nothing"}`, "OBJECT_NOT_FOUND", "Nothing"},
		{"empty id", `{"op":"call","seq":1,"type":"ChatRoom","id":"","method":"Join"}`, "INVALID_BODY", "id"},
		{"NUL in the id", `{"op":"call","seq":1,"type":"ChatRoom","id":"a\u0000b","method":"Join"}`, "INVALID_BODY", "control character"},
		{"long id", `{"op":"call","seq":1,"type":"ChatRoom","id":"` + longID + `","method":"Join"}`, "INVALID_BODY", "512"},
		{"unknown op", `{"op":"dance","seq":1}`, "INVALID_JSON", "dance"},
		{"unknown field of the frame", `{"op":"call","seq":1,"typ":"ChatRoom"}`, "INVALID_JSON", "typ"},
		{"unknown field of the request", `{"op":"call","seq":1,"type":"ChatRoom","id":"x","method":"Join","request":{"nme":"x"}}`, "INVALID_BODY", "nme"},
		{"request that is no object", `{"op":"call","seq":1,"type":"ChatRoom","id":"x","method":"Join","request":[1]}`, "INVALID_BODY", ""},
		{"negative seq", `{"op":"call","seq":-1,"type":"ChatRoom","id":"x","method":"Join"}`, "closed 1008", "seq"},
		{"no seq", `{"op":"call","type":"ChatRoom","id":"x","method":"Join"}`, "closed 1008", "seq"},
		{"no JSON", `hello`, "closed 1008", ""},
		{"invalid UTF-8", "{\"op\":\"\xff\",\"seq\":1}", "closed", ""},
		{"over 4 MiB", `{"op":"call","seq":1,"id":"` + strings.Repeat("x", 4<<20) + `"}`, "closed 1009", "4 MiB"},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx := within(t, 20*time.Second)
			c, err := dialSocket(ctx, s)
			if err != nil {
				t.Fatal(err)
			}
			defer c.close()
			if err := c.conn.Write(ctx, websocket.MessageText, []byte(test.frame)); err != nil {
				t.Fatal(err)
			}
			f, err := c.reply(ctx, 1)
			got, text := f.Code, f.Error
			if err != nil {
				got, text = fmt.Sprint("closed ", int(websocket.CloseStatus(err))), err.Error()
			}
			if !strings.HasPrefix(got, test.code) || !strings.Contains(text, test.says) {
				t.Errorf("got %s: %s; want %s with %q", got, text, test.code, test.says)
			}
			good(t)
		})
	}
	t.Run("binary", func(t *testing.T) {
		ctx := within(t, 20*time.Second)
		c, err := dialSocket(ctx, s)
		if err != nil {
			t.Fatal(err)
		}
		defer c.close()
		if err := c.conn.Write(ctx, websocket.MessageBinary, []byte{1}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.read(ctx); websocket.CloseStatus(err) != websocket.StatusUnsupportedData {
			t.Errorf("a binary message ends with %v", err)
		}
		good(t)
	})
}

func badGRPC(t *testing.T, s *site, good func(*testing.T)) {
	c, err := dialGRPC(s)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	join, err := anypb.New(&chat_pb.JoinRequest{UserName: "guest"})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		request *gate_pb.CallObjectRequest
		code    codes.Code
		says    string
	}{
		{"unknown type", &gate_pb.CallObjectRequest{Type: "Nobody", Id: "x", Method: "Join", Request: join}, codes.Unimplemented, "Nobody"},
		{"unknown method", &gate_pb.CallObjectRequest{Type: "ChatRoom", Id: "x", Method: "Nothing", Request: join}, codes.Unimplemented, "Nothing"},
		{"wrong request type", &gate_pb.CallObjectRequest{Type: "ChatRoom", Id: "x", Method: "Leave", Request: join}, codes.InvalidArgument, "chat.JoinRequest"},
		{"no message in the Any", &gate_pb.CallObjectRequest{Type: "ChatRoom", Id: "x", Method: "Join", Request: &anypb.Any{TypeUrl: join.TypeUrl, Value: []byte{0xff}}}, codes.InvalidArgument, "chat.JoinRequest"},
		{"type that nobody knows", &gate_pb.CallObjectRequest{Type: "ChatRoom", Id: "x", Method: "Join", Request: &anypb.Any{TypeUrl: "x/y.Z"}}, codes.InvalidArgument, "y.Z"},
		{"empty id", &gate_pb.CallObjectRequest{Type: "ChatRoom", Method: "Join", Request: join}, codes.InvalidArgument, "id"},
		{"NUL in the id", &gate_pb.CallObjectRequest{Type: "ChatRoom", Id: "a\x00b", Method: "Join", Request: join}, codes.InvalidArgument, "control character"},
		{"long id", &gate_pb.CallObjectRequest{Type: "ChatRoom", Id: longID, Method: "Join", Request: join}, codes.InvalidArgument, "512"},
		{"over 4 MiB", &gate_pb.CallObjectRequest{Type: "ChatRoom", Id: "x", Method: "Join", Request: &anypb.Any{TypeUrl: join.TypeUrl, Value: make([]byte, 4<<20)}}, codes.ResourceExhausted, ""},
		{"what the method refuses", &gate_pb.CallObjectRequest{Type: "ChatRoom", Id: "x", Method: "Join"}, codes.InvalidArgument, "user name"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := c.gate.CallObject(within(t, 20*time.Second), test.request)
			if status.Code(err) != test.code || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v; want %v with %q", err, test.code, test.says)
			}
			good(t)
		})
	}
	// gRPC's own client refuses to send these two.
	t.Run("deadline passed", func(t *testing.T) {
		body, err := proto.Marshal(&gate_pb.CallObjectRequest{Type: "ChatRoom", Id: "x", Method: "Join", Request: join})
		if err != nil {
			t.Fatal(err)
		}
		s.wantRawGRPC(t, body, "1n", codes.DeadlineExceeded)
		good(t)
	})
	t.Run("invalid UTF-8", func(t *testing.T) {
		s.wantRawGRPC(t, []byte("\x12\x01\xff"), "10S", codes.Internal, codes.InvalidArgument)
		good(t)
	})
}

// wantRawGRPC makes a CallObject of bytes, with a deadline in gRPC's notation.
func (s *site) wantRawGRPC(t *testing.T, message []byte, timeout string, want ...codes.Code) {
	t.Helper()
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	body := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	r, err := http.NewRequestWithContext(within(t, 20*time.Second), http.MethodPost, "http://"+s.grpc+"/gate.GateService/CallObject", bytes.NewReader(append(body, message...)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "Grpc-Timeout": {timeout}}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	got := resp.Trailer.Get("Grpc-Status") + resp.Header.Get("Grpc-Status") // one of the two
	for _, code := range want {
		if got == fmt.Sprint(uint32(code)) {
			return
		}
	}
	t.Errorf("grpc-status %s, %s; want one of %v", got, resp.Trailer.Get("Grpc-Message")+resp.Header.Get("Grpc-Message"), want)
}

// vanish makes calls and goes away before their answers, in every way there is.
func vanish(t *testing.T, s *site, good func(*testing.T)) {
	body := `{"userName":"ghost","message":"are you there?"}`
	head := fmt.Sprintf("POST /api/v1/objects/ChatRoom/ghosts/SendMessage HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n", s.http, len(body))
	t.Run("HTTP", func(t *testing.T) {
		for _, cut := range []int{len(head) / 2, len(head), len(head) + 10, len(head) + len(body)} {
			for _, hard := range []bool{false, true} {
				conn, err := net.Dial("tcp", s.http)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.WriteString(conn, (head + body)[:cut]); err != nil {
					t.Fatal(err)
				}
				if hard {
					conn.(*net.TCPConn).SetLinger(0) // a reset in place of a goodbye
				}
				conn.Close()
			}
		}
		good(t)
	})
	t.Run("WebSocket", func(t *testing.T) {
		for range 20 {
			c, err := dialSocket(within(t, 20*time.Second), s)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.send(within(t, 20*time.Second), "ghosts", "SendMessage", json.RawMessage(body)); err != nil {
				t.Fatal(err)
			}
			c.close()
		}
		good(t)
	})
	t.Run("gRPC", func(t *testing.T) {
		for i := range 20 {
			c, err := dialGRPC(s)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(within(t, 20*time.Second))
			gone := time.AfterFunc(time.Duration(i)*200*time.Microsecond, func() { cancel(); c.close() })
			var reply chat_pb.SendMessageResponse
			_ = c.call(ctx, "ghosts", "SendMessage", &chat_pb.SendMessageRequest{UserName: "ghost", Message: "boo"}, &reply) // either is right
			gone.Stop()
			cancel()
			c.close()
		}
		good(t)
	})
	var history chat_pb.HistoryResponse
	c := dialHTTP(s)
	defer c.close()
	if err := c.call(within(t, 20*time.Second), "ghosts", "History", &chat_pb.HistoryRequest{}, &history); err != nil {
		t.Fatal(err)
	}
	for i, m := range history.Messages {
		if m.Number != int64(i+1) || m.UserName != "ghost" {
			t.Errorf("message %d of the ghosts is %v", i+1, m)
		}
	}
}

// refusedState makes a state that no store takes: the call fails, what was there
// stays, and the room goes on.
func refusedState(t *testing.T, s *site, good func(*testing.T)) {
	s.mustCall(t, "ChatRoom/nul/SendMessage", `{"userName":"a","message":"before"}`)
	code, answer := s.raw(t, "/ChatRoom/nul/SendMessage", `{"userName":"a","message":"x\u0000y"}`, nil)
	if code != http.StatusBadRequest || !strings.Contains(string(answer), `character \\u0000`) || !strings.Contains(string(answer), `"NotExecuted"`) {
		t.Errorf("a message with a NUL: status %d, %s; want a refusal that names it", code, answer)
	}
	good(t)
	s.mustCall(t, "ChatRoom/nul/SendMessage", `{"userName":"a","message":"after"}`)
	var history struct {
		Messages []struct{ Number, Message string }
	}
	if err := json.Unmarshal([]byte(s.mustCall(t, "ChatRoom/nul/History", `{}`)), &history); err != nil {
		t.Fatal(err)
	}
	want := []struct{ Number, Message string }{{"1", "before"}, {"2", "after"}}
	if fmt.Sprint(history.Messages) != fmt.Sprint(want) {
		t.Errorf("the room has %v, want %v", history.Messages, want)
	}
}
