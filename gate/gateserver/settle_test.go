package gateserver

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

const settlePath = settleRoot + "T/i"

// What a cluster says of a call that is settled, and what each door makes of it.
func TestSettle(t *testing.T) {
	var said error
	seen := make(chan object.Call, 1)
	s := start(t, newCluster(func(_ context.Context, call object.Call) (object.Payload, error) {
		seen <- call
		switch {
		case said != nil:
			return object.Payload{Replayed: true}, said
		case call.Payload.Form == object.FormBinary:
			return object.OfBinary(text(t, "x")), nil
		}
		return object.OfJSON([]byte(`"x"`)), nil
	}))
	client, page := dial(t, s), socketTo(t, s)
	routed := func(door string) {
		t.Helper()
		if call := <-seen; call.Op != object.OpSettle || call.Ref != (object.Ref{Type: "T", ID: "i"}) || call.ID != "one" || call.Method != "" {
			t.Errorf("%s: routed as %+v", door, call)
		}
	}
	for _, c := range became {
		said = c.err
		settled := c.status == "SUCCESS" || c.status == "FAILED" || c.status == "SKIPPED"

		a, err := client.Settle(t.Context(), &gate_pb.SettleRequest{CallId: "one", Type: "T", Id: "i"})
		routed("gRPC")
		switch {
		case settled && (err != nil || a.Status != c.status || (a.Response != nil) != (c.err == nil) || (a.Error != "") != (c.status == "FAILED")):
			t.Errorf("%v: %v, %v", c.err, a, err)
		case a.GetStatus() == "FAILED" && !sameStatus(t, a.Failure, fault.Of(c.err).On("Settle", "T/i").GRPCStatus()):
			t.Errorf("%v: %v", c.err, a)
		case !settled && (err == nil || fault.KindOf(fault.FromStatus(err)) != fault.KindOf(c.err)):
			t.Errorf("%v: %v, %v", c.err, a, err)
		}

		got := request(t, s, "POST", settlePath, "", callIDHeader, "one")
		routed("HTTP")
		want := map[string]string{"SUCCESS": `{"status":"SUCCESS","response":"x"}`, "FAILED": `{"status":"FAILED","error":"` + words(c.err) + `"}`, "SKIPPED": `{"status":"SKIPPED"}`}[c.status]
		if settled && (got.status != 200 || got.body != want) || !settled && (got.status != c.http || got.failure(t).Code != c.code) || got.header.Get(statusHeader) != c.status {
			t.Errorf("%v: %+v", c.err, got)
		}

		page.say(`{"op":"settle","seq":1,"type":"T","id":"i","callId":"one"}`)
		f := page.next()
		routed("WebSocket")
		if f.Status != c.status || (f.Error == "") != (c.status == "SUCCESS" || c.status == "SKIPPED") || (string(f.Response) == `"x"`) != (c.err == nil) {
			t.Errorf("%v: %+v", c.err, f)
		}
	}
}

func TestSettleRefuses(t *testing.T) {
	s := start(t, newCluster(func(_ context.Context, call object.Call) (object.Payload, error) {
		t.Errorf("routed %+v", call)
		return object.Payload{}, nil
	}))
	client := dial(t, s)
	for _, r := range []*gate_pb.SettleRequest{
		{}, {Type: "T", Id: "i"}, {CallId: "one", Id: "i"}, {CallId: "one", Type: "T"}, {CallId: strings.Repeat("x", 513), Type: "T", Id: "i"}, {CallId: "a\x00", Type: "T", Id: "i"},
	} {
		if _, err := client.Settle(t.Context(), r); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%v: %v", r, err)
		}
	}
	for _, c := range []struct {
		method, path, id, code string
		status                 int
	}{
		{"GET", settlePath, "one", "METHOD_NOT_ALLOWED", 405},
		{"POST", settlePath, "", "INVALID_BODY", 400},
		{"POST", settlePath, "a\xff", "INVALID_BODY", 400},
		{"POST", settleRoot + "T", "one", "INVALID_PATH", 400},
		{"POST", settleRoot + "T/i/M", "one", "INVALID_PATH", 400},
		{"POST", settleRoot + "T/", "one", "INVALID_PATH", 400},
		{"POST", settleRoot + "/i", "one", "INVALID_PATH", 400},
		{"POST", settleRoot + "T/%00", "one", "INVALID_PATH", 400},
	} {
		var header []string
		if c.id != "" {
			header = []string{callIDHeader, c.id}
		}
		if got := request(t, s, c.method, c.path, "", header...); got.status != c.status || got.failure(t).Code != c.code {
			t.Errorf("%s %s: %+v", c.method, c.path, got)
		}
	}
	page := socketTo(t, s)
	for i, frame := range []string{
		`{"op":"settle","seq":0,"type":"T","id":"i"}`,
		`{"op":"settle","seq":1,"type":"T","id":"i","callId":""}`,
		`{"op":"settle","seq":2,"type":"T","id":"i","callId":"one","method":"M"}`,
		`{"op":"settle","seq":3,"type":"T","id":"i","callId":"one","request":{}}`,
		`{"op":"settle","seq":4,"type":"T","id":"","callId":"one"}`,
	} {
		page.say(frame)
		if f := page.next(); f.Seq != int64(i) || f.Outcome != "NotExecuted" || f.Code != "INVALID_JSON" && f.Code != "INVALID_BODY" {
			t.Errorf("%s: %+v", frame, f)
		}
	}
}

// words are what a method said that failed.
func words(err error) string {
	if e := fault.Of(err); e != nil {
		return e.Err.Error()
	}
	return ""
}
