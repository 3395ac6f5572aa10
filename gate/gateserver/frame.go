package gateserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"unicode/utf8"

	"github.com/xiaonanln/goverse/gate"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// The frames of the WebSocket, each a JSON object in a text message.
//
// From the client, where op is call, create or delete (these without a method and
// a request; create may leave the id out):
//
//	{"op":"call", "seq":1, "type":"ChatRoom", "id":"general", "method":"Join", "request":{...}}
//
// A call with a "callId" runs once, however often it is made, and its reply has two
// fields more, as {"op":"reply", "seq":1, "status":"SUCCESS", "replayed":true, ...}: see
// goverse.ReliableCallStatus, and replayedHeader.
//
// Where register says "traces", a call or a settle may have its place in a trace, as W3C
// Trace Context has it: "traceparent" and "tracestate".
//
// To settle such a call: a reply without an error has its response, or says SKIPPED.
//
//	{"op":"settle", "seq":1, "type":"ChatRoom", "id":"general", "callId":"..."}
//
// A socket that is opened with ?hello=1 has a session that outlives it (see
// gate.Gate.OpenResumable). Its first frame is, with the token and the last seq of an earlier
// session to go on with, if there is one,
//
//	{"op":"hello", "token":"...", "last":17}
//
// which may also have the "headers" of a client that can set none, as authHeader has them,
// and now and then, or the gate runs out of room and drops the oldest messages that it
// keeps: every message up to this seq has come. Closing with 1000 ends the session for good.
//
//	{"op":"ack", "last":18}
//
// From the gate, replies in any order:
//
//	{"op":"register", "clientId":"...", "unixMillis":1700000000000, "traces":true}   first; the gate's time
//	{"op":"reply", "seq":1, "response":{...}}
//	{"op":"reply", "seq":1, "error":"...", "code":"...", "outcome":"..."}
//	{"op":"message", "type":"type.googleapis.com/...", "message":{...}}
//	{"op":"heartbeat"}                                        after 20 s of silence
//
// With ?hello=1 register has three fields more; each message has a seq, one more than the
// one before; a reset stands for messages that are lost, for the program to read anew what
// they told of ("to":0: of a session that is gone, nobody knows how many); and a goodbye
// comes before the end, from a gate that leaves with where else to go. In place of register
// it says why a hello is not taken.
//
//	{"op":"register", ..., "token":"...", "resumed":true, "resumeMillis":60000}
//	{"op":"message", "seq":18, ...}
//	{"op":"reset", "from":19, "to":25, "reason":"..."}
//	{"op":"goodbye", "error":"...", "code":"...", "outcome":"...", "gates":["http://..."]}
//
// A message that the node could not write as JSON comes as "payload", the base64 of
// its Any, in place of "message". A reply says "durable":false where durableHeader does.

// askFrame is a frame from the client.
type askFrame struct {
	Op      string          `json:"op"`
	Seq     *int64          `json:"seq"`
	Type    string          `json:"type"`
	ID      string          `json:"id"`
	Method  string          `json:"method"`
	CallID  *string         `json:"callId"`
	Request json.RawMessage `json:"request"`

	TraceParent string `json:"traceparent"`
	TraceState  string `json:"tracestate"`
}

// decode reads a frame. A seq of less than 0 says that none could be read, and so that an
// error cannot be answered.
func (f *askFrame) decode(data []byte) (seq int64, call object.Call, err error) {
	if !utf8.Valid(data) {
		return -1, call, badFrame("it is not valid UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err = d.Decode(f); err != nil {
		f.Seq = rescueSeq(data)
	} else if d.More() {
		err = errors.New("something follows its JSON object")
	}
	switch {
	case f.Seq == nil && err == nil:
		return -1, call, badFrame(`it has no "seq"`)
	case f.Seq == nil:
		return -1, call, badFrame("%v", err)
	case *f.Seq < 0:
		return -1, call, badFrame("its seq is %d; it cannot be negative", *f.Seq)
	case err != nil:
		return *f.Seq, call, badFrame("%v", err)
	}
	call, err = f.call()
	return *f.Seq, call, err
}

// rescueSeq finds the seq of a frame that is JSON but no frame.
func rescueSeq(data []byte) *int64 {
	var f struct {
		Seq *int64 `json:"seq"`
	}
	if json.Unmarshal(data, &f) != nil {
		return nil
	}
	return f.Seq
}

func (f *askFrame) call() (object.Call, error) {
	if f.Op == "settle" {
		return f.settle()
	}
	op, ok := envelopeWords[f.Op]
	if !ok {
		return object.Call{}, badFrame("op %q does not exist; it is call, create, delete or settle", f.Op)
	}
	call := object.Call{Op: op, Ref: object.Ref{Type: f.Type, ID: f.ID}}
	if op != object.OpCall {
		if f.Method != "" || f.Request != nil || f.CallID != nil {
			return object.Call{}, badFrame("%s has no method, no request and no callId", f.Op)
		}
		if op == object.OpCreate && f.ID == "" {
			call.Ref.ID = object.NewID()
		}
		return call, nil
	}
	if f.CallID != nil {
		if err := object.ValidCallID(*f.CallID); err != nil {
			return object.Call{}, badFrame("%v", err)
		}
		call.ID = *f.CallID
	}
	call.Method = f.Method
	if string(f.Request) == "null" {
		f.Request = nil
	}
	call.Payload = object.OfJSON(f.Request)
	return call, nil
}

func (f *askFrame) settle() (object.Call, error) {
	if f.Method != "" || f.Request != nil || f.CallID == nil {
		return object.Call{}, badFrame("settle has a callId, no method and no request")
	}
	if err := object.ValidCallID(*f.CallID); err != nil {
		return object.Call{}, badFrame("%v", err)
	}
	return object.Call{Op: object.OpSettle, Ref: object.Ref{Type: f.Type, ID: f.ID}, ID: *f.CallID, Payload: object.OfJSON(nil)}, nil
}

func badFrame(format string, args ...any) *refusal {
	return refuseBody("INVALID_JSON", "the frame cannot be read: "+format, args...)
}

func registerFrame(session *gate.Session) []byte {
	b, _ := json.Marshal(struct { // a string and a number: it cannot fail
		Op string `json:"op"`
		welcome
		Traces bool `json:"traces"`
	}{"register", welcomeOf(session), true})
	return b
}

var heartbeatFrame = []byte(`{"op":"heartbeat"}`)

// told is what a reply says of itself: of a call that has an id, or of an answer that is
// not all stored yet.
type told struct {
	Status   string `json:"status,omitempty"`
	Replayed *bool  `json:"replayed,omitempty"`
	Durable  *bool  `json:"durable,omitempty"`
}

func toldOf(call *object.Call, reply object.Payload, err error) (t told) {
	if call.ID != "" {
		replayed := reply.Replayed
		t.Status, t.Replayed = fault.StatusOf(err).String(), &replayed
	}
	if reply.Unsaved {
		t.Durable = new(bool)
	}
	return t
}

func (t *told) append(b []byte) []byte {
	if t.Replayed != nil {
		b = append(b, `,"status":"`...)
		b = append(b, t.Status...)
		b = append(b, `","replayed":`...)
		b = strconv.AppendBool(b, *t.Replayed)
	}
	if t.Durable != nil {
		b = append(b, `,"durable":`...)
		b = strconv.AppendBool(b, *t.Durable)
	}
	return b
}

// replyFrame answers the call of seq with JSON that is passed on as it is.
func replyFrame(seq int64, t told, response []byte) []byte {
	if len(response) == 0 {
		response = []byte("{}")
	}
	b := make([]byte, 0, len(response)+80)
	b = append(b, `{"op":"reply","seq":`...)
	b = strconv.AppendInt(b, seq, 10)
	b = t.append(b)
	b = append(b, `,"response":`...)
	b = append(b, response...)
	return append(b, '}')
}

func errorFrame(seq int64, t told, err error, op object.Op) []byte {
	_, f := describe(err, op)
	b, _ := json.Marshal(struct { // strings and a number: it cannot fail
		Op  string `json:"op"`
		Seq int64  `json:"seq"`
		told
		failure
	}{"reply", seq, t, f})
	return b
}

func messageFrame(m gate.Message) ([]byte, error) {
	if m.Reset != nil {
		return resetFrame(m.Reset), nil
	}
	name, err := json.Marshal(m.Any.GetTypeUrl())
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, len(m.JSON)+len(name)+48)
	b = append(b, `{"op":"message",`...)
	if m.Seq > 0 {
		b = append(b, `"seq":`...)
		b = strconv.AppendUint(b, m.Seq, 10)
		b = append(b, ',')
	}
	b = append(b, `"type":`...)
	b = append(b, name...)
	if len(m.JSON) > 0 {
		b = append(b, `,"message":`...)
		b = append(b, m.JSON...)
		return append(b, '}'), nil
	}
	payload, err := base64Any(m.Any)
	b = append(b, `,"payload":"`...)
	b = append(b, payload...)
	return append(b, `"}`...), err
}
