package gateserver

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

func wrap(s string) proto.Message { return wrapperspb.String(s) }

func TestPlainJSON(t *testing.T) {
	seen := make(chan object.Call, 1)
	s := start(t, newCluster(func(_ context.Context, call object.Call) (object.Payload, error) {
		seen <- call
		return call.Payload, nil
	}))
	for _, c := range []struct {
		method, path, body string
		status             int
		answer             string
		call               object.Call
		json               string
	}{
		{"POST", "/api/v1/objects/ChatRoom/general/Join", `{"userName":"guest"}`, 200, `{"userName":"guest"}`,
			object.Call{Ref: object.Ref{Type: "ChatRoom", ID: "general"}, Method: "Join"}, `{"userName":"guest"}`},
		{"POST", "/api/v1/objects/ChatRoom/general/Join", "", 200, "{}",
			object.Call{Ref: object.Ref{Type: "ChatRoom", ID: "general"}, Method: "Join"}, ""},
		{"POST", "/api/v1/objects/ChatRoom/a%2Fb%20c%23/Join", "{}", 200, "{}",
			object.Call{Ref: object.Ref{Type: "ChatRoom", ID: "a/b c#"}, Method: "Join"}, "{}"},
		{"POST", "/api/v1/objects/ChatRoom/../Join", "{}", 200, "{}",
			object.Call{Ref: object.Ref{Type: "ChatRoom", ID: ".."}, Method: "Join"}, "{}"},
		{"GET", "/api/v1/objects/ChatRoom/general/History?last=10&of=ann&of=bob", "", 200, `{"last":"10","of":["ann","bob"]}`,
			object.Call{Ref: object.Ref{Type: "ChatRoom", ID: "general"}, Method: "History", ReadOnly: true}, `{"last":"10","of":["ann","bob"]}`},
		{"PUT", "/api/v1/objects/ChatRoom/general", "", 201, `{"id":"general"}`,
			object.Call{Op: object.OpCreate, Ref: object.Ref{Type: "ChatRoom", ID: "general"}}, ""},
		{"DELETE", "/api/v1/objects/ChatRoom/gen%C3%A9ral", "", 200, `{"success":true}`,
			object.Call{Op: object.OpDelete, Ref: object.Ref{Type: "ChatRoom", ID: "genéral"}}, ""},
	} {
		got := request(t, s, c.method, c.path, c.body, "Content-Type", "application/x-www-form-urlencoded")
		if got.status != c.status || got.body != c.answer || got.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s: %+v", c.method, c.path, got)
			continue
		}
		call := <-seen
		if call.Op != c.call.Op || call.Ref != c.call.Ref || call.Method != c.call.Method || call.ReadOnly != c.call.ReadOnly || string(call.Payload.JSON) != c.json {
			t.Errorf("%s %s was routed as %+v", c.method, c.path, call)
		}
	}
}

func TestHTTPBadInput(t *testing.T) {
	s := start(t, newCluster(func(_ context.Context, call object.Call) (object.Payload, error) {
		t.Errorf("a bad call was routed: %+v", call)
		return call.Payload, nil
	}))
	const join = "/api/v1/objects/ChatRoom/general/Join"
	const old = "/api/v1/objects/call/ChatRoom/general/Join"
	for _, c := range []struct {
		name, method, path, body string
		status                   int
		code                     string
	}{
		{"empty id", "POST", "/api/v1/objects/ChatRoom//Join", "", 400, "INVALID_PATH"},
		{"empty type", "POST", "/api/v1/objects//general/Join", "", 400, "INVALID_PATH"},
		{"empty method", "POST", "/api/v1/objects/ChatRoom/general/", "", 400, "INVALID_PATH"},
		{"one segment", "POST", "/api/v1/objects/ChatRoom", "", 400, "INVALID_PATH"},
		{"no segment", "POST", "/api/v1/objects/", "", 400, "INVALID_PATH"},
		{"an unescaped slash", "POST", "/api/v1/objects/ChatRoom/a/b/Join", "", 400, "INVALID_PATH"},
		{"NUL", "POST", "/api/v1/objects/ChatRoom/a%00b/Join", "", 400, "INVALID_PATH"},
		{"invalid UTF-8 in the path", "POST", "/api/v1/objects/ChatRoom/%ff/Join", "", 400, "INVALID_PATH"},
		{"513 bytes", "POST", "/api/v1/objects/ChatRoom/" + strings.Repeat("x", 513) + "/Join", "", 400, "INVALID_PATH"},
		{"elsewhere", "GET", "/api/v2/objects", "", 400, "INVALID_PATH"},
		{"an envelope's word as a type", "PUT", "/api/v1/objects/call/x", "", 400, "INVALID_PATH"},
		{"broken JSON", "POST", join, `{"userName":`, 400, "INVALID_JSON"},
		{"two values", "POST", join, `{} {}`, 400, "INVALID_JSON"},
		{"a form", "POST", join, `userName=guest`, 400, "INVALID_JSON"},
		{"invalid UTF-8 in the body", "POST", join, "{\"userName\":\"\xff\"}", 400, "INVALID_JSON"},
		{"invalid UTF-8 in the query", "GET", join + "?a=%ff", "", 400, "INVALID_PATH"},
		{"broken query", "GET", join + "?a=%zz", "", 400, "INVALID_PATH"},
		{"too large", "POST", join, strings.Repeat(" ", maxMessage+1), 413, "TOO_LARGE"},
		{"PATCH", "PATCH", join, "", 405, "METHOD_NOT_ALLOWED"},
		{"POST to an object", "POST", "/api/v1/objects/ChatRoom/general", "", 405, "METHOD_NOT_ALLOWED"},
		{"POST to events", "POST", eventsPath, "", 405, "METHOD_NOT_ALLOWED"},
		{"envelope: GET", "GET", old, "", 405, "METHOD_NOT_ALLOWED"},
		{"envelope: broken JSON", "POST", old, "{", 400, "INVALID_JSON"},
		{"envelope: not an object", "POST", old, "[]", 400, "INVALID_BODY"},
		{"envelope: not a string", "POST", old, `{"request":1}`, 400, "INVALID_BODY"},
		{"envelope: not base64", "POST", old, `{"request":"*"}`, 400, "INVALID_BASE64"},
		{"envelope: not an Any", "POST", old, `{"request":"//8="}`, 400, "INVALID_PROTOBUF"},
		{"envelope: segments", "POST", "/api/v1/objects/create/ChatRoom", "", 400, "INVALID_PATH"},
	} {
		got := request(t, s, c.method, c.path, c.body)
		f := got.failure(t)
		if got.status != c.status || f.Code != c.code || f.Outcome != "NotExecuted" || f.Error == "" {
			t.Errorf("%s: %+v", c.name, got)
		}
		if c.status == 405 && got.header.Get("Allow") == "" {
			t.Errorf("%s: no Allow header", c.name)
		}
	}
	if got := request(t, s, "POST", join, "", timeoutHeader, "soon"); got.status != 400 || !strings.Contains(got.body, timeoutHeader) {
		t.Errorf("a bad timeout: %+v", got)
	}
}

// A body whose length nobody said.
func TestATooLargeChunkedBody(t *testing.T) {
	s := start(t, newCluster(echo))
	r, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+s.HTTPAddr()+"/api/v1/objects/T/i/M", io.LimitReader(spaces{}, maxMessage+1))
	if err != nil {
		t.Fatal(err)
	}
	if got := do(t, r); got.status != 413 || got.failure(t).Code != "TOO_LARGE" {
		t.Errorf("%+v", got)
	}
	if got := request(t, s, "POST", "/api/v1/objects/T/i/M", strings.Repeat(" ", maxMessage-2)+"{}"); got.status != 200 {
		t.Errorf("exactly 4 MiB: %d", got.status)
	}
}

type spaces struct{}

func (spaces) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}

func TestHTTPErrorsComeFromTheTable(t *testing.T) {
	var answer error
	s := start(t, newCluster(func(context.Context, object.Call) (object.Payload, error) { return object.Payload{}, answer }))
	for _, row := range fault.Table() {
		answer = fault.New(row.Kind, "why")
		got := request(t, s, "POST", "/api/v1/objects/T/i/M", "")
		if f := got.failure(t); got.status != row.HTTP || f.Code != row.Code || f.Outcome != row.Outcome.String() || !strings.Contains(f.Error, "why") {
			t.Errorf("%s: %+v", row.Name, got)
		}
	}
	answer = errors.New("no")
	if got := request(t, s, "PUT", "/api/v1/objects/T/i", ""); got.failure(t).Code != "CREATE_FAILED" {
		t.Errorf("create: %+v", got)
	}
	if got := request(t, s, "DELETE", "/api/v1/objects/T/i", ""); got.failure(t).Code != "DELETE_FAILED" {
		t.Errorf("delete: %+v", got)
	}
	answer = &fault.Error{Kind: fault.Overloaded, RetryAfter: 2500 * time.Millisecond}
	if got := request(t, s, "POST", "/api/v1/objects/T/i/M", ""); got.header.Get("Retry-After") != "3" {
		t.Errorf("Retry-After %q", got.header.Get("Retry-After"))
	}
}

func TestTheOlderEnvelope(t *testing.T) {
	s := start(t, newCluster(echo))
	raw, err := proto.Marshal(text(t, "hello"))
	if err != nil {
		t.Fatal(err)
	}
	sealed := base64.StdEncoding.EncodeToString(raw)
	if got := request(t, s, "POST", "/api/v1/objects/call/ChatRoom/a%2Fb/Join", `{"request":"`+sealed+`"}`); got.status != 200 || got.body != `{"response":"`+sealed+`"}` {
		t.Errorf("call: %+v", got)
	}
	if got := request(t, s, "POST", "/api/v1/objects/call/ChatRoom/a/Join", ""); got.status != 200 || got.body != `{"response":""}` {
		t.Errorf("call without a request: %+v", got)
	}
	if got := request(t, s, "POST", "/api/v1/objects/create/ChatRoom/x", ""); got.status != 200 || got.body != `{"id":"x"}` {
		t.Errorf("create: %+v", got)
	}
	if got := request(t, s, "POST", "/api/v1/objects/delete/ChatRoom/x", ""); got.status != 200 || got.body != `{"success":true}` {
		t.Errorf("delete: %+v", got)
	}
}

func TestTheTimeoutHeaderShortens(t *testing.T) {
	left := make(chan time.Duration, 1)
	s := start(t, newCluster(func(ctx context.Context, call object.Call) (object.Payload, error) {
		end, _ := ctx.Deadline()
		left <- time.Until(end)
		return call.Payload, nil
	}))
	for header, most := range map[string]time.Duration{"2s": 2 * time.Second, "5h": 30 * time.Second} {
		request(t, s, "POST", "/api/v1/objects/T/i/M", "", timeoutHeader, header)
		if got := <-left; got > most || got < most/2 {
			t.Errorf("%s leaves %v", header, got)
		}
	}
}

func TestAnHTTPClientThatVanishesCancelsItsCall(t *testing.T) {
	entered, ended := make(chan struct{}), make(chan error, 1)
	s := start(t, newCluster(func(ctx context.Context, _ object.Call) (object.Payload, error) {
		close(entered)
		<-ctx.Done()
		ended <- ctx.Err()
		return object.Payload{}, ctx.Err()
	}))
	conn, err := net.Dial("tcp", s.HTTPAddr())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST /api/v1/objects/T/i/M HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}")
	<-entered
	conn.Close()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the call ended with %v", err)
	}
}

func TestPagesOfOthersAreRefused(t *testing.T) {
	const path = "/api/v1/objects/T/i/M"
	s := start(t, newCluster(echo), func(c *GateServerConfig) { c.AllowedOrigins = []string{"https://chat.example"} })
	own := "http://" + s.HTTPAddr()
	for _, c := range []struct {
		name   string
		method string
		path   string
		header []string
		status int
	}{
		{"no browser", "POST", path, nil, 200},
		{"own page", "POST", path, []string{"Origin", own, "Sec-Fetch-Site", "same-origin"}, 200},
		{"own page, older browser", "POST", path, []string{"Origin", own}, 200},
		{"address bar", "GET", path, []string{"Sec-Fetch-Site", "none"}, 200},
		{"another page", "POST", path, []string{"Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"}, 403},
		{"another page, older browser", "POST", path, []string{"Origin", "https://evil.example"}, 403},
		{"another port of this machine", "POST", path, []string{"Origin", "http://127.0.0.1:1", "Sec-Fetch-Site", "same-site"}, 403},
		{"a sandbox", "POST", path, []string{"Origin", "null", "Sec-Fetch-Site", "cross-site"}, 403},
		{"an image tag", "GET", path, []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"a foreign event stream", "GET", eventsPath, []string{"Origin", "https://evil.example"}, 403},
		{"a foreign WebSocket", "GET", socketPath, []string{"Origin", "https://evil.example", "Connection", "Upgrade", "Upgrade", "websocket"}, 403},
		{"configured", "POST", path, []string{"Origin", "https://chat.example", "Sec-Fetch-Site", "cross-site"}, 200},
		{"a rebound name", "POST", path, []string{"Host", "evil.example", "Origin", "http://evil.example"}, 403},
		{"localhost", "POST", path, []string{"Host", "localhost:48000", "Origin", "http://localhost:48000"}, 200},
		{"IPv6", "POST", path, []string{"Host", "[::1]:48000"}, 200},
	} {
		got := request(t, s, c.method, c.path, "", c.header...)
		if got.status != c.status || c.status == 403 && got.failure(t).Code != "ACCESS_DENIED" {
			t.Errorf("%s: %+v", c.name, got)
		}
		if cors := got.header.Get("Access-Control-Allow-Origin"); (cors != "") != (c.name == "configured") {
			t.Errorf("%s: Access-Control-Allow-Origin %q", c.name, cors)
		}
	}
	preflight := []string{"Access-Control-Request-Method", "POST", "Origin"}
	if got := request(t, s, "OPTIONS", path, "", append(preflight, "https://chat.example")...); got.status != 204 || got.header.Get("Access-Control-Allow-Methods") == "" {
		t.Errorf("preflight: %+v", got)
	}
	if got := request(t, s, "OPTIONS", path, "", append(preflight, "https://evil.example")...); got.header.Get("Access-Control-Allow-Methods") != "" {
		t.Errorf("a foreign preflight: %+v", got)
	}
}

func TestPagesStandBehindTheAPI(t *testing.T) {
	pages := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "page ", r.URL.Path) })
	s := start(t, newCluster(echo), func(c *GateServerConfig) { c.Handler = pages })
	if got := request(t, s, "GET", "/rooms/general", ""); got.body != "page /rooms/general" {
		t.Errorf("%+v", got)
	}
	if got := request(t, s, "GET", "/api/", ""); got.status != 400 {
		t.Errorf("%+v", got)
	}
	if got := request(t, start(t, newCluster(echo)), "GET", "/", ""); got.status != 404 || !strings.Contains(got.body, "/api/v1/objects/") {
		t.Errorf("without pages: %+v", got)
	}
}

func TestServerSentEvents(t *testing.T) {
	callers := make(chan callctx.Caller, 1)
	router := newCluster(func(ctx context.Context, call object.Call) (object.Payload, error) {
		callers <- callctx.From(ctx).Caller
		return call.Payload, nil
	})
	var d diary
	s := start(t, router, func(c *GateServerConfig) {
		c.Listener, c.HeartbeatInterval = d.listener(), 20*time.Millisecond
	})
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	id, events := follow(t, ctx, s)
	if beat := events.next(t); beat.name != "heartbeat" || beat.data != "{}" {
		t.Errorf("in silence: %+v", beat)
	}
	request(t, s, "POST", "/api/v1/objects/T/i/M", "", clientIDHeader, id)
	if got := <-callers; got.ClientID != id {
		t.Errorf("the caller is %+v", got)
	}
	router.push(peer.PushFrame{ClientIDs: []string{id}, Message: text(t, "news"), JSON: []byte(`"news"`)})
	e := events.next(t)
	for e.name == "heartbeat" {
		e = events.next(t)
	}
	var m struct{ Type, Payload string }
	if err := json.Unmarshal([]byte(e.data), &m); err != nil || e.name != "message" {
		t.Fatalf("%+v: %v", e, err)
	}
	raw, err := base64.StdEncoding.DecodeString(m.Payload)
	if err != nil {
		t.Fatal(err)
	}
	a := new(anypb.Any)
	if err := proto.Unmarshal(raw, a); err != nil || m.Type != "type.googleapis.com/google.protobuf.StringValue" || unpack(t, a) != "news" {
		t.Errorf("%+v: %v", m, err)
	}
	leave()
	if why := d.wait(t, id); why != "the client left" {
		t.Errorf("the session ended with %q", why)
	}
}

// One browser's event stream stalls; the other's goes on.
func TestAnEventStreamThatStalls(t *testing.T) {
	var d diary
	router := newCluster(echo)
	s := start(t, router, func(c *GateServerConfig) {
		c.Listener, c.WriteTimeout = d.listener(), 200*time.Millisecond
	})
	conn, err := net.Dial("tcp", s.HTTPAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", eventsPath)
	head := make([]byte, 4096)
	var id string
	for got := ""; id == ""; {
		n, err := conn.Read(head)
		if err != nil {
			t.Fatal(err)
		}
		got += string(head[:n])
		if _, rest, ok := strings.Cut(got, `{"clientId":"`); ok {
			id, _, _ = strings.Cut(rest, `"`)
		}
	}
	p := socketTo(t, s)
	news := text(t, strings.Repeat("x", 100<<10))
	for range 200 {
		router.push(peer.PushFrame{ClientIDs: []string{id, p.id}, Message: news, JSON: []byte(`1`)})
		if f := p.next(); f.Op != "message" {
			t.Fatalf("%+v", f)
		}
	}
	if why := d.wait(t, id); !strings.Contains(why, "does not read") {
		t.Errorf("the session ended with %q", why)
	}
}

func TestOperations(t *testing.T) {
	router := newCluster(echo)
	router.ready = make(chan struct{})
	s := start(t, router)
	get := func(path string) result {
		r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+s.OpsAddr()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		return do(t, r)
	}
	if got := get("/healthz"); got.status != 200 {
		t.Errorf("/healthz: %+v", got)
	}
	if got := get("/metrics"); got.status != 200 || !strings.Contains(got.body, `goverse_limit_reached_total{limit="sessions"} 0`) {
		t.Errorf("/metrics: %+v", got)
	}
	if got := get("/ready"); got.status != 503 || !strings.Contains(got.body, "not ready yet") {
		t.Errorf("/ready before: %+v", got)
	}
	close(router.ready)
	if got := get("/ready"); got.status != 200 || got.body != `{"ready":true,"problems":[]}` {
		t.Errorf("/ready: %+v", got)
	}
	router.mu.Lock()
	router.problems = []string{"etcd does not answer"}
	router.mu.Unlock()
	if got := get("/ready"); got.status != 503 || !strings.Contains(got.body, "etcd does not answer") {
		t.Errorf("/ready with a problem: %+v", got)
	}
	if got := get("/debug/pprof/goroutine?debug=1"); got.status != 200 || !strings.Contains(got.body, "goroutine profile") {
		t.Errorf("goroutines: %d", got.status)
	}
	if got := get("/debug/pprof/profile?seconds=1"); got.status != 200 || len(got.body) == 0 {
		t.Errorf("CPU profile: %d", got.status)
	}
	if got := get("/debug/pprof/nothing"); got.status != 404 {
		t.Errorf("an unknown profile: %+v", got)
	}
	if got := get("/debug/pprof/"); !strings.Contains(got.body, `"heap"`) {
		t.Errorf("the list: %+v", got)
	}
}

// shelf is a store's records: one object of each type.
type shelf struct{}

func (shelf) ListObjects(ctx context.Context, objType, after string, limit int) ([]object.Listed, error) {
	if objType == "Lost" {
		return nil, fault.New(fault.NotReady, "no node is running")
	}
	return []object.Listed{{Ref: object.Ref{Type: objType, ID: "a"}, Version: 2}}, nil
}

func (shelf) StoredState(_ context.Context, ref object.Ref) (object.Record, error) {
	return object.Record{Data: []byte(`{"sum":"5"}`), Version: 2}, nil
}

// What is stored is shown on the operations port alone, and to nobody from elsewhere.
func TestWhatIsStoredIsForOperators(t *testing.T) {
	router := newCluster(echo)
	router.Records = shelf{}
	s := start(t, router)
	get := func(at, path string, header ...string) result {
		r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+at+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		return do(t, r, header...)
	}
	for path, body := range map[string]string{
		"/api/v1/objects/Room":   `{"type":"Room","objects":[{"id":"a","version":2}]}`,
		"/api/v1/objects/Room/a": `{"type":"Room","id":"a","version":2,"state":{"sum":"5"}}`,
	} {
		if got := get(s.OpsAddr(), path); got.status != 200 || strings.TrimSpace(got.body) != body {
			t.Errorf("%s: %+v", path, got)
		}
		if got := get(s.OpsAddr(), path, "Origin", "https://evil.example"); got.status != 403 {
			t.Errorf("a page of others, %s: %+v", path, got)
		}
		if got := get(s.HTTPAddr(), path); got.status == 200 {
			t.Errorf("a client, %s: %+v", path, got)
		}
		far := httptest.NewRequest("GET", path, nil) // from 192.0.2.1
		w := httptest.NewRecorder()
		(&opsDoor{guard: newGuard(nil), counters: http.NotFoundHandler(), records: shelf{}}).handler().ServeHTTP(w, far)
		if w.Code != 403 || !strings.Contains(w.Body.String(), "192.0.2.1") {
			t.Errorf("from elsewhere, %s: %d %s", path, w.Code, w.Body)
		}
	}
	if got := get(s.OpsAddr(), "/api/v1/objects/Lost"); got.status != 503 || got.failure(t).Code != "NOT_READY" {
		t.Errorf("%+v", got)
	}
}
