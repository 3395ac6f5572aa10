package gateserver

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// envelope is the older form of the API: the request and the response are Anys, in
// base64, in JSON.
func (d *httpDoor) envelope(w http.ResponseWriter, r *http.Request, t target, p *portion) error {
	if r.Method != http.MethodPost {
		return notAllowed("POST")
	}
	call := object.Call{Op: t.op, Ref: t.ref, Method: t.method}
	if t.op == object.OpCall {
		body, err := d.read(w, r)
		if err != nil {
			return err
		}
		request, err := openEnvelope(body)
		if err != nil {
			return err
		}
		call.Payload = object.OfBinary(request)
	}
	reply, err := d.call(w, r, call, p)
	if err != nil {
		return err
	}
	answer, err := sealEnvelope(call, reply)
	if err != nil {
		return err
	}
	return d.answer(w, &call, p, answer)
}

// openEnvelope reads {"request": base64 of an Any}. No body and no request are an
// absent message.
func openEnvelope(body []byte) (*anypb.Any, error) {
	if len(body) == 0 {
		return nil, nil
	}
	if err := checkJSON(body); err != nil {
		return nil, err
	}
	var e struct {
		Request string `json:"request"`
	}
	if err := json.Unmarshal(body, &e); err != nil {
		return nil, refuseBody("INVALID_BODY", `the body is not {"request": "<base64>"}: %v`, err)
	}
	raw, err := base64.StdEncoding.DecodeString(e.Request)
	if err != nil {
		return nil, refuseBody("INVALID_BASE64", "the request is not standard base64: %v", err)
	}
	if len(raw) == 0 {
		return nil, nil
	}
	request := new(anypb.Any)
	if err := proto.Unmarshal(raw, request); err != nil {
		return nil, refuseBody("INVALID_PROTOBUF", "the request is not a google.protobuf.Any: %v", err)
	}
	return request, nil
}

func sealEnvelope(call object.Call, reply object.Payload) ([]byte, error) {
	switch call.Op {
	case object.OpCreate:
		return createdJSON(call.Ref.ID), nil
	case object.OpDelete:
		return deletedJSON, nil
	}
	response, err := base64Any(reply.Binary)
	if err != nil {
		return nil, fault.New(fault.Failed, "the response cannot be encoded: %w", err).On(call.Op.String(), call.Subject())
	}
	return json.Marshal(struct {
		Response string `json:"response"`
	}{response})
}

// base64Any is how this form carries a message; an absent one is empty.
func base64Any(a *anypb.Any) (string, error) {
	if a == nil {
		return "", nil
	}
	b, err := proto.Marshal(a)
	return base64.StdEncoding.EncodeToString(b), err
}

func refuseBody(code, format string, args ...any) *refusal {
	return &refusal{status: http.StatusBadRequest, code: code, text: fmt.Sprintf(format, args...)}
}

func badJSON(format string, args ...any) *refusal {
	return refuseBody("INVALID_JSON", "the body is not valid JSON: "+format, args...)
}
