package gateserver

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/xiaonanln/goverse/object"
)

// apiRoot begins every path that is not a page.
const apiRoot = "/api/"

const (
	objectsRoot = "/api/v1/objects/"
	settleRoot  = "/api/v1/settle/"
	eventsPath  = "/api/v1/events/stream"
	socketPath  = "/api/v1/ws"
	openapiPath = "/api/v1/openapi.json"
	tryPath     = "/api/v1/try"
)

// target is what a path below objectsRoot names. The envelope's three words stand
// where a type's name does in the plain form, and there they win: objects of a type
// called call, create or delete are reached in the envelope form only.
type target struct {
	op       object.Op // of an envelope
	envelope bool
	ref      object.Ref
	method   string // empty when the path names an object
}

var envelopeWords = map[string]object.Op{"call": object.OpCall, "create": object.OpCreate, "delete": object.OpDelete}

// parseTarget reads the rest of an escaped path. Each segment is decoded by itself,
// so an id may hold a slash as %2F.
func parseTarget(rest string) (target, error) {
	segments := strings.Split(rest, "/")
	for i, s := range segments {
		decoded, err := url.PathUnescape(s)
		if err != nil {
			return target{}, badPath("%v", err)
		}
		segments[i] = decoded
	}
	t := target{}
	if t.op, t.envelope = envelopeWords[segments[0]]; t.envelope {
		segments = segments[1:]
	}
	want, form := t.form(len(segments))
	if len(segments) != want {
		return target{}, badPath("it has %d segments after objects; the form is %s%s, with %%2F for a slash inside one", len(segments), objectsRoot, form)
	}
	t.ref = object.Ref{Type: segments[0], ID: segments[1]}
	if want == 3 {
		t.method = segments[2]
	}
	return t, t.check(want == 3)
}

func (t target) form(have int) (segments int, form string) {
	switch {
	case t.envelope && t.op == object.OpCall:
		return 3, "call/{type}/{id}/{method}"
	case t.envelope:
		return 2, t.word() + "/{type}/{id}"
	case have == 2:
		return 2, "{type}/{id}"
	default:
		return 3, "{type}/{id}/{method}"
	}
}

// parseRef reads {type}/{id}, the rest of an escaped path below root.
func parseRef(root, rest string) (object.Ref, error) {
	typ, id, ok := strings.Cut(rest, "/")
	if !ok || strings.Contains(id, "/") {
		return object.Ref{}, badPath("the form is %s{type}/{id}, with %%2F for a slash inside one", root)
	}
	var t target
	var wrong [2]error
	t.ref.Type, wrong[0] = url.PathUnescape(typ)
	t.ref.ID, wrong[1] = url.PathUnescape(id)
	if err := errors.Join(wrong[:]...); err != nil {
		return object.Ref{}, badPath("%v", err)
	}
	return t.ref, t.check(false)
}

func (t target) word() string {
	if t.op == object.OpCreate {
		return "create"
	}
	return "delete"
}

func (t target) check(withMethod bool) error {
	if err := object.ValidName(t.ref.Type); err != nil {
		return badPath("the object type: %v", err)
	}
	if err := object.ValidID(t.ref.ID); err != nil {
		return badPath("%v", err)
	}
	if !withMethod {
		return nil
	}
	if err := object.ValidName(t.method); err != nil {
		return badPath("the method: %v", err)
	}
	return nil
}

func badPath(format string, args ...any) *refusal {
	return &refusal{status: http.StatusBadRequest, code: "INVALID_PATH", text: "invalid path: " + fmt.Sprintf(format, args...)}
}
