package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
)

// gateDouble answers like a gate, and remembers what it was asked.
type gateDouble struct {
	*httptest.Server
	path, body, timeout string
	status              int
	reply               string
}

func newGateDouble(t *testing.T) *gateDouble {
	g := &gateDouble{status: http.StatusOK, reply: `{"room":"general","members":[1,2]}`}
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		g.path, g.body, g.timeout = r.Method+" "+r.URL.EscapedPath(), string(body), r.Header.Get("X-Goverse-Timeout")
		if g.status == http.StatusFound {
			w.Header().Set("Location", "/elsewhere")
		}
		w.WriteHeader(g.status)
		io.WriteString(w, g.reply)
	}))
	t.Cleanup(g.Close)
	return g
}

func noEtcd(t *testing.T) dialer {
	return func(etcdmanager.Config) (etcdmanager.KV, error) {
		t.Error("a call asks etcd")
		return nil, errors.New("no")
	}
}

func TestCall(t *testing.T) {
	g := newGateDouble(t)
	indented := "{\n  \"room\": \"general\",\n  \"members\": [\n    1,\n    2\n  ]\n}\n"
	for _, c := range []struct {
		args          []string
		stdin         string
		path, body    string
		timeout, want string
	}{
		{[]string{"ChatRoom/general", "Join", `{"userName":"guest"}`}, "", "POST /api/v1/objects/ChatRoom/general/Join", `{"userName":"guest"}`, "10s", indented},
		{[]string{"ChatRoom/general", "Join", "-"}, " {\"a\": 1}\n", "POST /api/v1/objects/ChatRoom/general/Join", " {\"a\": 1}\n", "10s", indented},
		{[]string{"ChatRoom/general", "Join", "-o", "json"}, "ignored", "POST /api/v1/objects/ChatRoom/general/Join", "", "10s", g.reply + "\n"},
		{[]string{"Counter/shard#1/ü ?", "Add", "5", "--timeout", "1.5s"}, "", "POST /api/v1/objects/Counter/shard%231%2F%C3%BC%20%3F/Add", "5", "1.5s", indented},
		{[]string{"Counter/..", "Add"}, "", "POST /api/v1/objects/Counter/%2E%2E/Add", "", "10s", indented},
		{[]string{"Counter/a%2Fb", "Add"}, "", "POST /api/v1/objects/Counter/a%252Fb/Add", "", "10s", indented},
	} {
		out := runIn(t.Context(), noEtcd(t), nil, c.stdin, append([]string{"call", "--gate", g.URL}, c.args...)...)
		if out.code != 0 || out.err != "" || out.stdout != c.want || g.path != c.path || g.body != c.body || g.timeout != c.timeout {
			t.Errorf("%q: %v\n%s, %q, %s", c.args, out, g.path, g.body, g.timeout)
		}
	}
}

func TestCallFindsItsGate(t *testing.T) {
	g := newGateDouble(t)
	address := strings.TrimPrefix(g.URL, "http://")
	nowhere := map[string]string{"GOVERSE_GATE": "localhost:1"}
	for _, c := range []struct {
		environment map[string]string
		args        []string
	}{
		{map[string]string{"GOVERSE_GATE": g.URL}, nil},
		{nil, []string{"--gate", address}},
		{nowhere, []string{"--gate", g.URL + "/"}},
	} {
		if out := runIn(t.Context(), noEtcd(t), c.environment, "", append([]string{"call", "A/b", "M"}, c.args...)...); out.code != 0 {
			t.Errorf("%v %q: %v", c.environment, c.args, out)
		}
	}
	if out := runIn(t.Context(), noEtcd(t), nowhere, "", "call", "A/b", "M"); out.code != 1 || !strings.Contains(out.err, "no gate answers at http://localhost:1 (NotExecuted)") {
		t.Error(out)
	}
}

// Every failure says what it was, and whether the call ran.
func TestCallsThatFail(t *testing.T) {
	g := newGateDouble(t)
	for _, c := range []struct {
		status      int
		reply, want string
	}{
		{404, `{"error":"no such method","code":"OBJECT_NOT_FOUND","outcome":"NotExecuted"}`, "goverse: OBJECT_NOT_FOUND (NotExecuted): no such method\n"},
		{500, `{"error":"two\nlines \u001b[31m","code":"CALL_FAILED","outcome":"Executed"}`, "goverse: CALL_FAILED (Executed): two\nlines \uFFFD[31m\n"},
		{502, `{"error":"lost","code":"UNKNOWN_OUTCOME"}`, "goverse: UNKNOWN_OUTCOME (Unknown): lost\n"},
		{404, "404 page not found", "answers with HTTP 404 and no words of a gate's (Unknown)"},
		{302, `{}`, "answers with HTTP 302 and no words of a gate's (Unknown)"},
		{200, "<html>", "answers with HTTP 200 and no words of a gate's (Unknown)"},
	} {
		g.status, g.reply = c.status, c.reply
		out := runIn(t.Context(), noEtcd(t), nil, "", "call", "A/b", "M", "--gate", g.URL)
		if out.code != 1 || out.stdout != "" || !strings.Contains(out.err, c.want) {
			t.Errorf("%d %s: %v", c.status, c.reply, out)
		}
	}
}

// A gate that dies, or that says nothing, leaves the outcome unknown.
func TestCallsWithoutAnAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		serve func(net.Conn)
		want  string
	}{
		"it dies":                     {func(c net.Conn) { c.Close() }, "the connection was lost (Unknown)"},
		"it dies within the reply":    {func(c net.Conn) { fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"); c.Close() }, "the connection was lost (Unknown)"},
		"it says nothing":             {func(net.Conn) {}, "did not answer within 100ms (Unknown)"},
		"it says nothing after a bit": {func(c net.Conn) { fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{") }, "did not answer within 100ms (Unknown)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				conn, err := l.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				conn.Read(make([]byte, 1<<10))
				c.serve(conn)
				io.Copy(io.Discard, conn) // until the program lets go
			}()
			begin := time.Now()
			out := runIn(t.Context(), noEtcd(t), nil, "", "call", "A/b", "M", "--timeout", "100ms", "--gate", l.Addr().String())
			if took := time.Since(begin); out.code != 1 || !strings.Contains(out.err, c.want) || took > 5*time.Second {
				t.Errorf("after %v: %v", took, out)
			}
			l.Close()
			<-ended
		})
	}
}

func TestCallEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	g := newGateDouble(t)
	if out := runIn(ctx, noEtcd(t), nil, "", "call", "A/b", "M", "--gate", g.URL); out.code != 1 {
		t.Error(out)
	}
}

func TestRequestsThatCannotBeRead(t *testing.T) {
	p := &program{in: broken{}}
	if _, err := p.body([]string{"-"}); err == nil || !strings.Contains(err.Error(), "standard input") {
		t.Error(err)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("broken") }
