package gateserver

import (
	"encoding/json"
	"net/http"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// verdict is what Settle answers in JSON.
type verdict struct {
	Status   string          `json:"status"`
	Response json.RawMessage `json:"response,omitempty"`
	Error    string          `json:"error,omitempty"` // the method's words
}

// settle answers POST settleRoot{type}/{id}, with the call's id in its header.
func (d *httpDoor) settle(w http.ResponseWriter, r *http.Request, rest string) {
	if err := d.trySettle(w, r, rest); err != nil {
		writeFailure(w, err, object.OpSettle)
	}
}

func (d *httpDoor) trySettle(w http.ResponseWriter, r *http.Request, rest string) error {
	if r.Method != http.MethodPost {
		return notAllowed("POST")
	}
	ref, err := parseRef(settleRoot, rest)
	if err != nil {
		return err
	}
	p := d.portion(w, r)
	defer p.done()
	call := object.Call{Op: object.OpSettle, Ref: ref, Payload: object.OfJSON(nil)}
	reply, err := d.call(w, r, call, p)
	if !isSettled(err) {
		return err
	}
	v := verdict{Status: fault.StatusOf(err).String(), Response: reply.JSON}
	if e := fault.Of(err); e != nil && e.Kind == fault.Failed {
		v.Error = ownWords(e)
	}
	body, err := json.Marshal(v)
	if err != nil {
		return fault.New(fault.Failed, "the call ran, but its reply is no JSON: %w", err).On(object.OpSettle.String(), ref.String())
	}
	return d.answer(w, &call, p, body)
}
