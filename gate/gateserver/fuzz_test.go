package gateserver

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/xiaonanln/goverse/gate"
	"github.com/xiaonanln/goverse/object"
)

// What parseTarget takes, it takes back when it is written out again.
func FuzzPath(f *testing.F) {
	for _, s := range []string{"ChatRoom/general/Join", "ChatRoom/a%2Fb/Join", "call/T/i/M", "create/T/i", "delete/T/i", "T/i", "", "/", "%", "a//b", "T/%ff/M", "T/%00/M"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, rest string) {
		got, err := parseTarget(rest)
		if err != nil {
			if _, body := describe(err, object.OpCall); body.Code != "INVALID_PATH" {
				t.Fatalf("%q is refused as %+v", rest, body)
			}
			return
		}
		segments := []string{got.ref.Type, got.ref.ID}
		if got.method != "" {
			segments = append(segments, got.method)
		}
		for i, s := range segments {
			if s == "" {
				t.Fatalf("%q gives %+v", rest, got)
			}
			segments[i] = url.PathEscape(s)
		}
		again := strings.Join(segments, "/")
		if got.envelope {
			again = map[object.Op]string{object.OpCall: "call/", object.OpCreate: "create/", object.OpDelete: "delete/"}[got.op] + again
		}
		if back, err := parseTarget(again); err != nil || back != got {
			t.Fatalf("%q gives %+v, and %q gives %+v, %v", rest, got, again, back, err)
		}
	})
}

// Whatever comes, every frame that goes out is JSON.
func FuzzFrame(f *testing.F) {
	for _, s := range []string{
		`{"op":"call","seq":1,"type":"T","id":"i","method":"M","request":{"a":[1]}}`, `{"op":"create","seq":2,"type":"T"}`,
		`{"op":"delete","seq":3,"type":"T","id":"i"}`, `{"seq":4}`, `{"seq":-1}`, `[]`, `{`, `null`, "\xff", `{"op":"call","seq":1e3}`,
		`{"op":"call","seq":5,"request":null}`, `{"op":"call","seq":5}{}`,
		`{"op":"call","seq":1,"type":"T","id":"i","method":"M","callId":"one"}`, `{"op":"call","seq":1,"callId":""}`, `{"op":"call","seq":1,"callId":null}`,
		`{"op":"call","seq":1,"callId":7}`, `{"op":"delete","seq":1,"callId":"x"}`, `{"op":"settle","seq":1,"type":"T","id":"i","callId":"x"}`, `{"op":"settle","seq":1}`, `{"op":"call","seq":1,"callId":"\u0000"}`, `{"op":"call","seq":1,"callId":"\ud800"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		seq, call, err := new(askFrame).decode(data)
		if err != nil {
			if out := errorFrame(max(seq, 0), told{}, err, call.Op); !json.Valid(out) {
				t.Fatalf("%q is answered with %q", data, out)
			}
			return
		}
		if seq < 0 {
			t.Fatalf("%q has seq %d and no error", data, seq)
		}
		if out := replyFrame(seq, toldOf(&call, call.Payload, nil), call.Payload.JSON); !json.Valid(out) {
			t.Fatalf("%q is answered with %q", data, out)
		}
		if out, err := messageFrame(gate.Message{Any: &anypb.Any{TypeUrl: call.Ref.Type}, JSON: call.Payload.JSON}); err != nil || !json.Valid(out) {
			t.Fatalf("%q is pushed as %q, %v", data, out, err)
		}
	})
}

// What openEnvelope takes can be sealed again.
func FuzzEnvelope(f *testing.F) {
	for _, s := range []string{``, `{}`, `{"request":""}`, `{"request":"CgV4L3kvehIBYQ=="}`, `{"request":"*"}`, `{"request":1}`, `[]`, `{`, `null`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		request, err := openEnvelope(body)
		if err != nil {
			if status, f := describe(err, object.OpCall); status != 400 || f.Code == "" {
				t.Fatalf("%q is refused with %d %+v", body, status, f)
			}
			return
		}
		out, err := sealEnvelope(object.Call{}, object.OfBinary(request))
		if err != nil || !json.Valid(out) {
			t.Fatalf("%q is answered with %q, %v", body, out, err)
		}
	})
}
