package gateserver

import (
	"bufio"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/internal/peer"
)

// A page gets the client from its gate, and asks for it again only when it is another.
func TestClientJS(t *testing.T) {
	s := start(t, newCluster(echo))
	ask := func(method, path string, header ...string) result {
		return request(t, s, method, path, "", header...)
	}
	first := ask(http.MethodGet, "/api/v1/client.js")
	if first.status != 200 || !strings.Contains(first.body, "export class Client") || !strings.HasPrefix(first.header.Get("Content-Type"), "text/javascript") {
		t.Errorf("got %d %v", first.status, first.header)
	}
	if r := ask(http.MethodGet, "/api/v1/client.js", "If-None-Match", first.header.Get("ETag")); r.status != http.StatusNotModified {
		t.Errorf("asked again: %d", r.status)
	}
	if r := ask(http.MethodGet, "/api/v1/client/socket.js", "If-None-Match", first.header.Get("ETag")); r.status != 200 || !strings.Contains(r.body, "class SocketLink") {
		t.Errorf("a part: %d %s", r.status, r.body)
	}
	if r := ask(http.MethodHead, "/api/v1/client.js"); r.status != 200 || r.body != "" {
		t.Errorf("HEAD: %d %q", r.status, r.body)
	}
	for _, path := range []string{"/api/v1/client", "/api/v1/client/", "/api/v1/client/nothing.js", "/api/v1/client/../js.go", "/api/v1/client%2e%2e/client.js", "/api/v1/client.d.ts"} {
		if r := ask(http.MethodGet, path); r.status != http.StatusBadRequest || !strings.Contains(r.body, "INVALID_PATH") {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
	if r := ask(http.MethodPost, "/api/v1/client.js"); r.status != http.StatusMethodNotAllowed || r.header.Get("Allow") != "GET" {
		t.Errorf("POST: %d %s", r.status, r.body)
	}
	if r := ask(http.MethodGet, "/api/v1/client.js", "Sec-Fetch-Site", "cross-site"); r.status != http.StatusForbidden {
		t.Errorf("another page: %d", r.status)
	}
}

// Who asks for it gets what is pushed as JSON, where a node made it; else as ever.
func TestEventsAsJSON(t *testing.T) {
	c := newCluster(echo)
	s := start(t, c)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.HTTPAddr()+eventsPath+"?json=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := transport(t).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	events := sseReader{bufio.NewScanner(resp.Body)}
	if e := events.next(t); e.name != "register" {
		t.Fatalf("%+v", e)
	}
	m, err := anypb.New(wrapperspb.String("x"))
	if err != nil {
		t.Fatal(err)
	}
	c.push(peer.PushFrame{Broadcast: true, Message: m, JSON: []byte(`{"a":"<b>\n"}`)})
	c.push(peer.PushFrame{Broadcast: true, Message: m})
	for _, want := range []string{
		`{"type":"type.googleapis.com/google.protobuf.StringValue","message":{"a":"\u003cb\u003e\n"}}`,
		`{"type":"type.googleapis.com/google.protobuf.StringValue","payload":"Ci90eXBlLmdvb2dsZWFwaXMuY29tL2dvb2dsZS5wcm90b2J1Zi5TdHJpbmdWYWx1ZRIDCgF4"}`,
	} {
		if e := events.next(t); e.name != "message" || e.data != want {
			t.Errorf("got %+v\nwant %s", e, want)
		}
	}
}
