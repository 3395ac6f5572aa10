package operations

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// An operator on this machine pushes, and is told of; nobody else does, and what makes no
// sense is neither pushed nor told of.
func TestPush(t *testing.T) {
	var pushed []object.Push
	var told []event.SensitiveOperation
	port := (&Port{
		Foreign:  NewForeign("node1"),
		Push:     func(_ context.Context, _ PushOrder, p object.Push) error { pushed = append(pushed, p); return nil },
		Listener: event.Listener{SensitiveOperation: func(e event.SensitiveOperation) { told = append(told, e) }},
	}).Handler()
	const hello = `"message":{"@type":"type.googleapis.com/google.protobuf.StringValue","value":"hello"}}`
	for _, c := range []struct {
		from, body string
		status     int
		answer     string
		client     string
	}{
		{"127.0.0.1:9", `{"client":"g:1/x","operator":"ann@laptop",` + hello, 200, `{"pushed":true}`, "g:1/x"},
		{"127.0.0.1:9", `{"all":true,"operator":"ann@laptop",` + hello, 200, `{"pushed":true}`, ""},
		{"192.0.2.1:9", `{"all":true,` + hello, 403, "for callers on this machine", ""},
		{"127.0.0.1:9", `{` + hello, 400, "name one client, or say all", ""},
		{"127.0.0.1:9", `{"client":"g:1/x","all":true,` + hello, 400, "name one client, or say all", ""},
		{"127.0.0.1:9", `{"all":true,"message":{"@type":"type.googleapis.com/no.Such"}}`, 400, "none that this node's program has", ""},
		{"127.0.0.1:9", `{"all":true,"message":{}}`, 400, "message", ""},
		{"127.0.0.1:9", `{"all":true}`, 400, "none that this node's program has", ""},
		{"127.0.0.1:9", `{"everybody":true}`, 400, "give the order as in", ""},
		{"127.0.0.1:9", `{"client":"` + strings.Repeat("x", maxOrder) + `",` + hello, 400, "give the order as in", ""},
	} {
		pushed, told = nil, nil
		r, w := httptest.NewRequest("POST", "/api/v1/push", strings.NewReader(c.body)), httptest.NewRecorder()
		r.RemoteAddr = c.from
		port.ServeHTTP(w, r)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.answer) {
			t.Errorf("%.80s: %d %s", c.body, w.Code, w.Body)
		}
		if c.status != 200 {
			if len(pushed)+len(told) > 0 {
				t.Errorf("%.80s: pushed %v, told %v", c.body, pushed, told)
			}
			continue
		}
		if len(pushed) != 1 || pushed[0].Broadcast != (c.client == "") || c.client != "" && (len(pushed[0].ClientIDs) != 1 || pushed[0].ClientIDs[0] != c.client) || !proto.Equal(pushed[0].Message, wrapperspb.String("hello")) {
			t.Errorf("%s: %+v", c.body, pushed)
		}
		if want := (event.SensitiveOperation{Where: event.AtOperations, What: event.OperatorPushes, From: c.from, User: "ann@laptop", Client: c.client}); len(told) != 1 || told[0] != want {
			t.Errorf("%s: told of %+v", c.body, told)
		}
	}
}

// A push that is refused says so, and a port without pushes has none.
func TestPushThatFails(t *testing.T) {
	for _, c := range []struct {
		push   func(context.Context, PushOrder, object.Push) error
		status int
	}{
		{func(context.Context, PushOrder, object.Push) error { return fault.New(fault.Invalid, "client id") }, 400},
		{nil, 404},
	} {
		r, w := httptest.NewRequest("POST", "/api/v1/push", strings.NewReader(`{"all":true,"message":{"@type":"type.googleapis.com/google.protobuf.Empty","value":{}}}`)), httptest.NewRecorder()
		r.RemoteAddr = "127.0.0.1:9"
		(&Port{Foreign: NewForeign("node1"), Push: c.push}).Handler().ServeHTTP(w, r)
		if c.push != nil && w.Code != c.status || c.push == nil && w.Code < 400 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
}
