package gateserver

import (
	"encoding/json"
	"net/http"
	"net/url"
	"unicode/utf8"

	"github.com/xiaonanln/goverse/object"
)

// plain is the JSON that people write: the path names the object and the method,
// the body is the request and the answer the response. The gate does not know the
// messages; the node that has the type does.
func (d *httpDoor) plain(w http.ResponseWriter, r *http.Request, t target, p *portion) (object.Op, error) {
	call := object.Call{Ref: t.ref, Method: t.method}
	if t.method == "" {
		return d.plainLife(w, r, call, p)
	}
	var err error
	switch r.Method {
	case http.MethodPost:
		call.Payload, err = d.jsonBody(w, r)
	case http.MethodGet, http.MethodHead:
		call.ReadOnly = true
		call.Payload, err = jsonQuery(r.URL.RawQuery)
	default:
		err = notAllowed("GET, POST")
	}
	if err != nil {
		return call.Op, err
	}
	reply, err := d.call(w, r, call, p)
	if err == nil {
		err = d.answer(w, &call, p, reply.JSON)
	}
	return call.Op, err
}

// plainLife creates and deletes.
func (d *httpDoor) plainLife(w http.ResponseWriter, r *http.Request, call object.Call, p *portion) (object.Op, error) {
	status, answer := http.StatusCreated, createdJSON(call.Ref.ID)
	switch r.Method {
	case http.MethodPut:
		call.Op = object.OpCreate
	case http.MethodDelete:
		call.Op = object.OpDelete
		status, answer = http.StatusOK, deletedJSON
	default:
		return object.OpCall, notAllowed("DELETE, PUT")
	}
	if _, err := d.call(w, r, call, p); err != nil {
		return call.Op, err
	}
	writeJSON(w, status, answer)
	return call.Op, nil
}

var deletedJSON = []byte(`{"success":true}`)

func createdJSON(id string) []byte {
	b, _ := json.Marshal(struct { // a string: it cannot fail
		ID string `json:"id"`
	}{id})
	return b
}

func (d *httpDoor) jsonBody(w http.ResponseWriter, r *http.Request) (object.Payload, error) {
	body, err := d.read(w, r)
	if err != nil || len(body) == 0 {
		return object.OfJSON(nil), err
	}
	if err := checkJSON(body); err != nil {
		return object.Payload{}, err
	}
	return object.OfJSON(body), nil
}

// checkJSON refuses early what no node could read.
func checkJSON(b []byte) error {
	if !utf8.Valid(b) {
		return badJSON("it is not valid UTF-8")
	}
	if json.Valid(b) {
		return nil
	}
	var anything json.RawMessage
	return badJSON("%v", json.Unmarshal(b, &anything))
}

// jsonQuery makes an object of query parameters: a string each, a list of strings
// for one that comes several times. The node, which has the message, makes of it what
// the message says.
func jsonQuery(query string) (object.Payload, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return object.Payload{}, badPath("the query: %v", err)
	}
	if len(values) == 0 {
		return object.OfJSON(nil), nil
	}
	fields := make(map[string]any, len(values))
	for name, list := range values {
		for _, s := range append(list, name) {
			if !utf8.ValidString(s) {
				return object.Payload{}, badPath("the query is not valid UTF-8: %q", s)
			}
		}
		fields[name] = list
		if len(list) == 1 {
			fields[name] = list[0]
		}
	}
	b, err := json.Marshal(fields)
	return object.OfJSON(b), err
}
