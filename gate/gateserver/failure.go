package gateserver

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// refusal is a failure that the door itself finds, before there is a call.
type refusal struct {
	status int
	code   string
	text   string
	path   string // of what the request named, as far as it did
	allow  string // 405: the methods that are
}

func (r *refusal) Error() string { return r.text }

func notAllowed(allow string) *refusal {
	return &refusal{status: http.StatusMethodNotAllowed, code: "METHOD_NOT_ALLOWED", text: "this path answers " + allow + " only", allow: allow}
}

// failure is how every JSON door says that something went wrong.
type failure struct {
	Error   string `json:"error"`
	Code    string `json:"code"`
	Outcome string `json:"outcome"`
	Path    string `json:"path,omitempty"` // what was tried on: Type/id.Method
	Kind    string `json:"kind,omitempty"` // which CONFLICT: CALL_ID_REUSED, EXPIRED_CALL_ID, CALL_SETTLED, ...
}

// describe is err in HTTP's words: a refusal as it is, anything else from the one table.
func describe(err error, op object.Op) (status int, f failure) {
	var r *refusal
	if errors.As(err, &r) {
		return r.status, failure{Error: r.text, Code: r.code, Outcome: fault.NotExecuted.String(), Path: r.path}
	}
	e := fault.Of(err)
	row := e.Kind.Row()
	f = failure{Error: err.Error(), Code: codeFor(row.Code, op), Outcome: fault.OutcomeOf(e).String(), Path: e.Subject}
	if f.Code == "CONFLICT" {
		f.Kind = strings.ToUpper(strings.ReplaceAll(row.Name, " ", "_"))
	}
	return row.HTTP, f
}

// codeFor names what failed: the table's CALL_FAILED is of calls.
func codeFor(code string, op object.Op) string {
	if code != "CALL_FAILED" {
		return code
	}
	return [...]string{object.OpCall: "CALL_FAILED", object.OpCreate: "CREATE_FAILED", object.OpDelete: "DELETE_FAILED", object.OpSettle: "CALL_FAILED"}[op]
}

// writeFailure answers a request with err.
func writeFailure(w http.ResponseWriter, err error, op object.Op) {
	status, f := describe(err, op)
	if allow := allowed(err); allow != "" {
		w.Header().Set("Allow", allow)
	}
	if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", retryAfter(fault.Of(err)))
	}
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	body, _ := json.Marshal(f) // strings: it cannot fail
	writeJSON(w, status, body)
}

// allowed is the methods that a request should have had, when that is what is wrong.
func allowed(err error) string {
	var r *refusal
	switch {
	case errors.As(err, &r):
		return r.allow
	case fault.KindOf(err) == fault.NotReadOnly:
		return "POST"
	}
	return ""
}

// about names what a refusal is about.
func about(err error, ref object.Ref, method string) error {
	var r *refusal
	if !errors.As(err, &r) || r.path != "" {
		return err
	}
	named := *r
	if named.path = ref.String(); method != "" {
		named.path += "." + method
	}
	return &named
}

func retryAfter(e *fault.Error) string {
	return strconv.Itoa(max(1, int(math.Ceil(e.RetryAfter.Seconds()))))
}

// writeJSON answers with body. A client that takes nothing of it is given up: doorConn.
func writeJSON(w http.ResponseWriter, status int, body []byte) {
	if len(body) == 0 {
		body = []byte("{}")
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(body) // an error means that the client is gone, and nobody is left to tell
}
