package gateserver

import (
	"context"
	"sync/atomic"
	"testing"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
	goverse_pb "github.com/xiaonanln/goverse/proto"
)

// showing is a cluster whose Counter "a" is at version 7 of incarnation asked, and whose
// other objects refuse.
func showing(t *testing.T, incarnation *atomic.Uint64) *cluster {
	incarnation.Store(1)
	return newCluster(func(ctx context.Context, call object.Call) (object.Payload, error) {
		req := new(goverse_pb.SubscribeRequest)
		if err := call.Payload.Binary.UnmarshalTo(req); err != nil || call.Method != object.SubscribeMethod {
			t.Errorf("routed %+v: %v", call, err)
		}
		caller := callctx.From(ctx).Caller
		if caller.Client == req.Renew || caller.Client && caller.ClientID == "" {
			t.Errorf("%+v asks %v", caller, req)
		}
		if call.Ref.ID != "a" {
			return object.Payload{}, fault.New(fault.Forbidden, "it is not for you")
		}
		reply := &goverse_pb.SubscribeReply{Incarnation: incarnation.Load(), Version: 7, Node: "n:1", Snapshot: text(t, "seven")}
		if req.Incarnation == reply.Incarnation && req.Version == 6 {
			missed := &goverse_pb.MissedChange{Version: 7, Message: text(t, "seven"), Json: []byte(`"seven"`)}
			reply.Continued, reply.Snapshot, reply.Missed = true, nil, []*goverse_pb.MissedChange{missed}
			return object.OfBinary(pack(t, reply)), nil
		}
		if req.Json {
			reply.Json, reply.Snapshot.Value = []byte(`"seven"`), nil
		}
		return object.OfBinary(pack(t, reply)), nil
	})
}

func changeOf(t *testing.T, incarnation, version uint64, value string) peer.PushFrame {
	return peer.PushFrame{Message: text(t, value), JSON: []byte(`"` + value + `"`),
		Change: &peer.Change{Ref: object.Ref{Type: "Counter", ID: "a"}, Incarnation: incarnation, Version: version}}
}

func TestASocketSubscribes(t *testing.T) {
	var incarnation atomic.Uint64
	c := showing(t, &incarnation)
	p := socketTo(t, start(t, c))
	want := func(frame string) {
		t.Helper()
		_, got, err := p.conn.Read(t.Context())
		if err != nil || string(got) != frame {
			t.Errorf("got %s, %v; want %s", got, err, frame)
		}
	}
	const url = `"type":"type.googleapis.com/google.protobuf.StringValue"`
	p.say(`{"op":"subscribe","seq":1,"type":"Counter","id":"a"}`)
	want(`{"op":"reply","seq":1,"response":{"subscription":1}}`)
	want(`{"op":"published","subscription":1,"version":"7",` + url + `,"incarnation":"1","snapshot":"seven"}`)
	c.push(changeOf(t, 1, 8, "eight"))
	want(`{"op":"published","subscription":1,"version":"8",` + url + `,"change":"eight"}`)
	bare := changeOf(t, 1, 9, "nine")
	bare.JSON = nil
	c.push(bare)
	want(`{"op":"published","subscription":1,"version":"9",` + url + `,"payload":"Ci90eXBlLmdvb2dsZWFwaXMuY29tL2dvb2dsZS5wcm90b2J1Zi5TdHJpbmdWYWx1ZRIGCgRuaW5l"}`)
	incarnation.Store(2)
	c.push(peer.PushFrame{Change: &peer.Change{Ref: object.Ref{Type: "Counter", ID: "a"}, Incarnation: 1, Version: 9, Ended: true}})
	want(`{"op":"published","subscription":1,"version":"7",` + url + `,"reset":true,"reason":"the object began anew: it was ended, deleted, or its node failed","incarnation":"2","snapshot":"seven"}`)
	p.say(`{"op":"subscribe","seq":9,"type":"Counter","id":"a","incarnation":"2","version":"6"}`)
	want(`{"op":"reply","seq":9,"response":{"subscription":2}}`)
	want(`{"op":"published","subscription":2,"version":"7",` + url + `,"change":"seven"}`)
	p.say(`{"op":"subscribe","seq":9,"type":"Counter","id":"a","incarnation":"1","version":"6"}`)
	want(`{"op":"reply","seq":9,"response":{"subscription":3}}`)
	want(`{"op":"published","subscription":3,"version":"7",` + url + `,"reset":true,"reason":"the object began anew: it was ended, deleted, or its node failed","incarnation":"2","snapshot":"seven"}`)
	p.say(`{"op":"unsubscribe","seq":2,"subscription":1}`)
	want(`{"op":"reply","seq":2,"response":{}}`)
	for frame, code := range map[string]string{
		`{"op":"unsubscribe","seq":3,"subscription":1}`:                           "OBJECT_NOT_FOUND",
		`{"op":"unsubscribe","seq":3}`:                                            "INVALID_JSON",
		`{"op":"subscribe","seq":3,"type":"Counter","id":"a","subscription":1}`:   "INVALID_JSON",
		`{"op":"subscribe","seq":3,"type":"Counter","id":"a","method":"Refresh"}`: "INVALID_JSON",
		`{"op":"subscribe","seq":3,"type":"Counter","id":"a","incarnation":"x"}`:  "INVALID_JSON",
		`{"op":"unsubscribe","seq":3,"subscription":2,"version":"1"}`:             "INVALID_JSON",
	} {
		p.say(frame)
		if f := p.next(); f.Op != "reply" || f.Seq != 3 || f.Code != code {
			t.Errorf("%s is answered %+v, want %s", frame, f, code)
		}
	}
	p.say(`{"op":"subscribe","seq":4,"type":"Counter","id":"b"}`)
	if f := p.next(); f.Seq != 4 || f.Error == "" || f.Outcome != "NotExecuted" {
		t.Errorf("a refusal is answered %+v", f)
	}
}

func TestAStreamSubscribes(t *testing.T) {
	var incarnation atomic.Uint64
	c := showing(t, &incarnation)
	k := talk(t, t.Context(), dial(t, start(t, c)))
	subscribe := func(number uint64, id string) {
		k.say(&gate_pb.ClientFrame{Call: number, Kind: &gate_pb.ClientFrame_Subscribe{Subscribe: &gate_pb.SubscribeRequest{Type: "Counter", Id: id}}})
	}
	subscribe(1, "a")
	if f := k.next(); f.Call != 1 || f.GetSubscribed().GetSubscription() != 1 {
		t.Fatalf("%v", f)
	}
	if p := k.next().GetPublished(); p.GetSubscription() != 1 || p.Version != 7 || unpack(t, p.Snapshot) != "seven" || p.Incarnation != 1 || p.Reset_ {
		t.Errorf("%v", p)
	}
	c.push(changeOf(t, 1, 8, "eight"))
	if p := k.next().GetPublished(); p.GetVersion() != 8 || unpack(t, p.Change) != "eight" || p.Snapshot != nil {
		t.Errorf("%v", p)
	}
	again := &gate_pb.SubscribeRequest{Type: "Counter", Id: "a", Incarnation: 1, Version: 6}
	k.say(&gate_pb.ClientFrame{Call: 5, Kind: &gate_pb.ClientFrame_Subscribe{Subscribe: again}})
	if f := k.next(); f.Call != 5 || f.GetSubscribed().GetSubscription() != 2 {
		t.Errorf("%v", f)
	}
	if p := k.next().GetPublished(); p.GetSubscription() != 2 || p.Version != 7 || unpack(t, p.Change) != "seven" || p.Reset_ {
		t.Errorf("%v", p)
	}
	if p := k.next().GetPublished(); p.GetVersion() != 8 { // which the gate has
		t.Errorf("%v", p)
	}
	k.say(endOf(6, 2))
	if f := k.next(); f.Call != 6 || f.GetUnsubscribed() == nil {
		t.Errorf("%v", f)
	}
	subscribe(2, "b")
	if kind, outcome := kindOf(k.failed(2)); kind != fault.Forbidden || outcome != fault.NotExecuted {
		t.Errorf("a refusal is %v, %v", kind, outcome)
	}
	k.say(endOf(3, 1))
	if f := k.next(); f.Call != 3 || f.GetUnsubscribed() == nil {
		t.Errorf("%v", f)
	}
	c.push(changeOf(t, 1, 9, "nine"))
	k.say(endOf(4, 1))
	if kind, _ := kindOf(k.failed(4)); kind != fault.NotFound {
		t.Errorf("unsubscribed twice: %v", kind)
	}
}

func endOf(number, subscription uint64) *gate_pb.ClientFrame {
	return &gate_pb.ClientFrame{Call: number, Kind: &gate_pb.ClientFrame_Unsubscribe{Unsubscribe: &gate_pb.UnsubscribeRequest{Subscription: subscription}}}
}
