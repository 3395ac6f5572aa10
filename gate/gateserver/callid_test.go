package gateserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

const callPath = "/api/v1/objects/T/i/M"

func TestCallIDsOverHTTP(t *testing.T) {
	seen := make(chan object.Call, 1)
	s := start(t, newCluster(func(_ context.Context, call object.Call) (object.Payload, error) {
		seen <- call
		return call.Payload, nil
	}))
	long := strings.Repeat("x", object.MaxIDLen)
	for _, c := range []struct {
		header []string
		id     string
	}{
		{nil, ""},
		{[]string{callIDHeader, "one"}, "one"},
		{[]string{"x-goverse-call-id", " one two "}, "one two"},
		{[]string{callIDHeader, "ü/#%00"}, "ü/#%00"},
		{[]string{callIDHeader, `"one"`}, `"one"`}, // ours is as it is
		{[]string{callIDHeader, long}, long},
		{[]string{keyHeader, "one"}, "one"},
		{[]string{keyHeader, `"one"`}, "one"},
		{[]string{keyHeader, `"o\"n\\e"`}, `o"n\e`},
		{[]string{keyHeader, `one"`}, `one"`},
		{[]string{keyHeader, `"one"`, callIDHeader, "one"}, "one"},
	} {
		for _, path := range []string{callPath, "/api/v1/objects/call/T/i/M"} {
			got := request(t, s, "POST", path, "{}", c.header...)
			if call := <-seen; got.status != 200 || call.ID != c.id || call.Op != object.OpCall {
				t.Errorf("%q: %+v for %+v", c.header, got, call)
			}
			if got.header.Get(statusHeader) != map[bool]string{true: "SUCCESS"}[c.id != ""] {
				t.Errorf("%q: status %q", c.header, got.header.Get(statusHeader))
			}
		}
	}
}

func TestCallIDsThatHTTPRefuses(t *testing.T) {
	s := start(t, newCluster(func(_ context.Context, call object.Call) (object.Payload, error) {
		t.Errorf("a bad call was routed: %+v", call)
		return call.Payload, nil
	}))
	for _, c := range []struct {
		method, path, header, id string
		says                     string
	}{
		{"POST", callPath, callIDHeader, "", "empty"},
		{"POST", callPath, callIDHeader, " ", "empty"},
		{"POST", callPath, callIDHeader, strings.Repeat("x", 513), "513 bytes"},
		{"POST", callPath, callIDHeader, strings.Repeat("x", 60_000), "60000 bytes"},
		{"POST", callPath, callIDHeader, "a\xffb", "UTF-8"},
		{"POST", callPath, callIDHeader, "a\tb", "control"},
		{"POST", callPath, callIDHeader, "a\u0085b", "control"},
		{"POST", callPath, keyHeader, "", "empty"},
		{"POST", callPath, keyHeader, `""`, "empty"},
		{"POST", callPath, keyHeader, `"`, "quotes"},
		{"POST", callPath, keyHeader, `"one`, "quotes"},
		{"POST", callPath, keyHeader, `"one";a=1`, "quotes"},
		{"POST", callPath, keyHeader, `"one\n"`, "quotes"},
		{"POST", callPath, keyHeader, `"one\`, "quotes"},
		{"POST", callPath, keyHeader, `"ü"`, "quotes"},
		{"GET", callPath, callIDHeader, "one", "POST"},
		{"HEAD", callPath, callIDHeader, "one", ""},
		{"GET", callPath, keyHeader, "one", "POST"},
		{"PUT", "/api/v1/objects/T/i", callIDHeader, "one", "only calls"},
		{"DELETE", "/api/v1/objects/T/i", callIDHeader, "one", "only calls"},
		{"POST", "/api/v1/objects/create/T/i", callIDHeader, "one", "only calls"},
		{"POST", "/api/v1/objects/delete/T/i", callIDHeader, "one", "only calls"},
	} {
		got := request(t, s, c.method, c.path, "", c.header, c.id)
		if got.status != 400 || got.header.Get(statusHeader) != "" {
			t.Errorf("%s %s with %.20q: %+v", c.method, c.path, c.id, got)
			continue
		}
		if c.method == "HEAD" {
			continue
		}
		if f := got.failure(t); f.Code != "INVALID_BODY" || f.Outcome != "NotExecuted" || !strings.Contains(f.Error, c.says) || len(f.Error) > 1000 {
			t.Errorf("%s %s with %.20q: %+v", c.method, c.path, c.id, f)
		}
	}
	for _, two := range []http.Header{
		{callIDHeader: {"one", "one"}}, {keyHeader: {"one", "two"}}, {callIDHeader: {"one"}, keyHeader: {"two"}}, {callIDHeader: {"one"}, keyHeader: {""}},
	} {
		r, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+s.HTTPAddr()+callPath, nil)
		if err != nil {
			t.Fatal(err)
		}
		for name, values := range two {
			r.Header[http.CanonicalHeaderKey(name)] = values
		}
		if got := do(t, r); got.status != 400 || got.failure(t).Code != "INVALID_BODY" {
			t.Errorf("%v: %+v", two, got)
		}
	}
}

// A megabyte of header is not even read, and hurts nobody else.
func TestACallIDOfAMegabyte(t *testing.T) {
	s := start(t, newCluster(echo))
	conn, err := net.Dial("tcp", s.HTTPAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: localhost\r\n%s: %s\r\nContent-Length: 0\r\n\r\n", callPath, callIDHeader, strings.Repeat("x", 1<<20))
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, " 431 ") {
		t.Errorf("%q, %v", line, err)
	}
	p := socketTo(t, s)
	p.say(`{"op":"call","seq":1,"type":"T","id":"i","method":"M","callId":"` + strings.Repeat("x", 1<<20) + `"}`)
	if f := p.next(); f.Seq != 1 || f.Outcome != "NotExecuted" || !strings.Contains(f.Error, "1048576 bytes") {
		t.Errorf("%+v", f)
	}
	p.say(`{"op":"call","seq":2,"type":"T","id":"i","method":"M","callId":"x"}`)
	if f := p.next(); f.Seq != 2 || f.Status != "SUCCESS" {
		t.Errorf("%+v", f)
	}
}

// became is an end of a call with an id, and what each door makes of it.
var became = []struct {
	err      error
	replayed bool
	status   string
	http     int
	code     string
	kind     string
}{
	{nil, false, "SUCCESS", 200, "", ""},
	{nil, true, "SUCCESS", 200, "", ""},
	{&fault.Error{Kind: fault.Failed, Err: errors.New("no money")}, true, "FAILED", 500, "CALL_FAILED", ""},
	{&fault.Error{Kind: fault.Failed, Err: status.Error(codes.OutOfRange, "no money")}, false, "FAILED", 500, "CALL_FAILED", ""},
	{fault.New(fault.CallSettled, "never"), true, "SKIPPED", 409, "CONFLICT", "CALL_SETTLED"},
	{fault.New(fault.Deadline, "it runs").With(fault.OutcomeUnknown), false, "PENDING", 504, "TIMEOUT", ""},
	{fault.New(fault.Indeterminate, "lost"), false, "UNKNOWN", 502, "UNKNOWN_OUTCOME", ""},
	{fault.New(fault.CallIDReused, "other"), false, "UNKNOWN", 409, "CONFLICT", "CALL_ID_REUSED"},
	{fault.New(fault.ExpiredCallID, "old"), false, "UNKNOWN", 409, "CONFLICT", "EXPIRED_CALL_ID"},
	{fault.New(fault.Invalid, "volatile"), false, "UNKNOWN", 400, "INVALID_BODY", ""},
	{fault.New(fault.Panicked, "boom"), false, "UNKNOWN", 500, "CALL_FAILED", ""},
}

func TestWhatBecameOfACallWithAnID(t *testing.T) {
	var err error
	var replayed bool
	s := start(t, newCluster(func(_ context.Context, call object.Call) (object.Payload, error) {
		reply := call.Payload
		reply.Replayed = replayed
		return reply, err
	}))
	p := socketTo(t, s)
	for _, c := range became {
		err, replayed = c.err, c.replayed
		got := request(t, s, "POST", callPath, "{}", callIDHeader, "one")
		if got.status != c.http || got.header.Get(statusHeader) != c.status || got.header.Get(replayedHeader) != fmt.Sprint(c.replayed) {
			t.Errorf("%v: %+v", c.err, got)
		}
		if f := got.failure(t); f.Code != c.code || f.Kind != c.kind {
			t.Errorf("%v: %+v", c.err, got)
		}
		p.say(`{"op":"call","seq":1,"type":"T","id":"i","method":"M","callId":"one"}`)
		if f := p.next(); f.Status != c.status || f.Replayed == nil || *f.Replayed != c.replayed || f.Code != c.code || f.Kind != c.kind || (string(f.Response) == "{}") != (c.err == nil) {
			t.Errorf("%v: %+v", c.err, f)
		}
		p.say(`{"op":"call","seq":1,"type":"T","id":"i","method":"M","callId":null}`)
		if f := p.next(); f.Status != "" || f.Replayed != nil {
			t.Errorf("without an id: %+v", f)
		}
		if got := request(t, s, "POST", callPath, "{}"); got.header.Get(statusHeader)+got.header.Get(replayedHeader) != "" {
			t.Errorf("without an id: %+v", got)
		}
	}
}

// Every door says what is not stored yet, and of all else nothing.
func TestAnswersAheadOfTheStore(t *testing.T) {
	var unsaved bool
	var err error
	s := start(t, newCluster(func(_ context.Context, call object.Call) (object.Payload, error) {
		reply := call.Payload
		reply.Unsaved = unsaved
		return reply, err
	}), func(c *GateServerConfig) { c.AllowedOrigins = []string{"https://chat.example"} })
	p, client := socketTo(t, s), dial(t, s)
	for i := range 8 {
		unsaved, err = i&1 != 0, nil
		id := []string{"", "one"}[i>>1&1]
		if i&4 != 0 {
			err = &fault.Error{Kind: fault.Failed, Err: errors.New("no money")}
		}
		said := map[bool]string{true: "false"}[unsaved]
		var header []string
		frame := `{"op":"call","seq":1,"type":"T","id":"i","method":"M"}`
		if id != "" {
			header = []string{callIDHeader, id}
			frame = strings.Replace(frame, "}", `,"callId":"one"}`, 1)
		}
		for _, path := range []string{callPath, "/api/v1/objects/call/T/i/M"} {
			if got := request(t, s, "POST", path, "{}", header...); got.header.Get(durableHeader) != said {
				t.Errorf("%v, %v: %+v", unsaved, err, got)
			}
		}
		p.say(frame)
		if f := p.next(); (f.Durable != nil) != unsaved || unsaved && *f.Durable || (f.Status != "") != (id != "") || (f.Error != "") != (err != nil) {
			t.Errorf("%v, %v: %+v", unsaved, err, f)
		}
		if err != nil {
			continue
		}
		reply, failed := client.CallObject(t.Context(), &gate_pb.CallObjectRequest{Type: "T", Id: "i", Method: "M"})
		if failed != nil || (reply.Durable != nil) != unsaved || unsaved && *reply.Durable {
			t.Errorf("%v: %v, %v", unsaved, reply, failed)
		}
	}
	got := request(t, s, "POST", callPath, "", "Origin", "https://chat.example")
	if !strings.Contains(got.header.Get("Access-Control-Expose-Headers"), durableHeader) {
		t.Errorf("a page may not read it: %v", got.header)
	}
}

func TestSocketCallIDs(t *testing.T) {
	seen := make(chan object.Call, 1)
	p := socketTo(t, start(t, newCluster(func(_ context.Context, call object.Call) (object.Payload, error) {
		seen <- call
		return call.Payload, nil
	})))
	p.say(`{"op":"call","seq":1,"type":"T","id":"i","method":"M","callId":"one \u00fc","request":{"a":1}}`)
	if f, call := p.next(), <-seen; call.ID != "one ü" || string(f.Response) != `{"a":1}` {
		t.Errorf("%+v for %+v", f, call)
	}
	for i, frame := range []string{
		`{"op":"call","seq":0,"type":"T","id":"i","method":"M","callId":""}`,
		`{"op":"call","seq":1,"type":"T","id":"i","method":"M","callId":7}`,
		`{"op":"call","seq":2,"type":"T","id":"i","method":"M","callId":{"a":"b"}}`,
		`{"op":"call","seq":3,"type":"T","id":"i","method":"M","callId":"a\u0000"}`,
		`{"op":"call","seq":4,"type":"T","id":"i","method":"M","callId":"` + strings.Repeat("x", 513) + `"}`,
		`{"op":"create","seq":5,"type":"T","id":"i","callId":"one"}`,
		`{"op":"delete","seq":6,"type":"T","id":"i","callId":"one"}`,
	} {
		p.say(frame)
		if f := p.next(); f.Seq != int64(i) || f.Code != "INVALID_JSON" || f.Outcome != "NotExecuted" || f.Status != "" {
			t.Errorf("%s: %+v", frame, f)
		}
	}
}

func TestABrowserMayGiveCallIDs(t *testing.T) {
	s := start(t, newCluster(echo), func(c *GateServerConfig) { c.AllowedOrigins = []string{"https://chat.example"} })
	origin := []string{"Origin", "https://chat.example"}
	got := request(t, s, "OPTIONS", callPath, "", append(origin, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", callIDHeader)...)
	for _, name := range []string{callIDHeader, keyHeader, clientIDHeader, timeoutHeader} {
		if !strings.Contains(got.header.Get("Access-Control-Allow-Headers"), name) {
			t.Errorf("a page may not send %s: %v", name, got.header)
		}
	}
	got = request(t, s, "POST", callPath, "", append(origin, callIDHeader, "one")...)
	for _, name := range []string{statusHeader, replayedHeader} {
		if !strings.Contains(got.header.Get("Access-Control-Expose-Headers"), name) || got.header.Get(name) == "" {
			t.Errorf("a page may not read %s: %v", name, got.header)
		}
	}
}

// The answer to a gRPC client has the method's error whole, and says whether it is new.
func TestReliableCallsTellMore(t *testing.T) {
	var err error
	var caller callctx.Caller
	client := dial(t, start(t, newCluster(func(ctx context.Context, call object.Call) (object.Payload, error) {
		caller = callctx.From(ctx).Caller
		return object.Payload{Replayed: true}, err
	})))
	id, _ := register(t, t.Context(), client)
	ask := func() *gate_pb.ReliableCallObjectResponse {
		a, err := client.ReliableCallObject(t.Context(), &gate_pb.ReliableCallObjectRequest{CallId: "c", Type: "T", Id: "i", Method: "M", ClientId: id})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	if a := ask(); !a.Replayed || len(a.Failure) > 0 || caller.ClientID != id {
		t.Errorf("%v for %v", a, caller)
	}
	own, failed := status.New(codes.OutOfRange, "no money").WithDetails(text(t, "detail"))
	if failed != nil {
		t.Fatal(failed)
	}
	err = &fault.Error{Kind: fault.Failed, Err: own.Err()}
	if a := ask(); !a.Replayed || a.Status != "FAILED" || !sameStatus(t, a.Failure, own) {
		t.Errorf("%v", a)
	}
	err = &fault.Error{Kind: fault.Failed, Err: errors.New("a\xffb")}
	if a := ask(); !utf8.ValidString(a.Error) || len(a.Failure) == 0 {
		t.Errorf("%v", a)
	}
	huge, failed := status.New(codes.OutOfRange, "no money").WithDetails(&anypb.Any{TypeUrl: "x/y", Value: make([]byte, 2*maxFailure)})
	if failed != nil {
		t.Fatal(failed)
	}
	err = &fault.Error{Kind: fault.Failed, Err: huge.Err()}
	if a := ask(); a.Status != "FAILED" || len(a.Failure) != 0 || !strings.Contains(a.Error, "no money") {
		t.Errorf("%v", a)
	}
}

func sameStatus(t *testing.T, marshalled []byte, want *status.Status) bool {
	t.Helper()
	got := new(spb.Status)
	if err := proto.Unmarshal(marshalled, got); err != nil {
		t.Fatal(err)
	}
	return proto.Equal(got, want.Proto())
}

func FuzzCallID(f *testing.F) {
	for _, s := range []string{"", "one", `"one"`, `"o\"e"`, `"`, `"\`, "\xff", "a\x00", `"a" `, strings.Repeat("x", 600)} {
		f.Add(s, s, true, true)
		f.Add(s, "one", false, true)
		f.Add("one", s, true, false)
	}
	f.Fuzz(func(t *testing.T, own, key string, ours, theirs bool) {
		h := http.Header{}
		if ours {
			h.Set(callIDHeader, own)
		}
		if theirs {
			h.Set(keyHeader, key)
		}
		id, err := callIDOf(h)
		switch {
		case err != nil && (fault.KindOf(err) != fault.Invalid || id != ""):
			t.Fatalf("%q is refused with %v and gives %q", h, err, id)
		case err == nil && (ours || theirs) != (id != ""):
			t.Fatalf("%q gives %q", h, id)
		case id != "" && object.ValidCallID(id) != nil:
			t.Fatalf("%q gives the bad id %q", h, id)
		case id != "" && ours && id != own:
			t.Fatalf("%q gives %q", h, id)
		}
		if id == "" {
			return
		}
		quoted := http.Header{keyHeader: {`"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(id) + `"`}}
		if again, err := callIDOf(quoted); err == nil && again != id || err != nil && isASCII(id) {
			t.Fatalf("%q gives %q, %v", quoted, again, err)
		}
	})
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r > 0x7e }) < 0
}
