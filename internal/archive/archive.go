// Package archive shows operators of nodes and gates what is stored, over HTTP. No object
// comes to life for it.
package archive

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// Archive is records as an operations port shows them:
//
//	GET /api/v1/objects/{type}?after=&limit=   a page of a type's objects, in the order of their ids
//	GET /api/v1/objects/{type}/{id}            one object's state as JSON, as it is stored
//
// A page has "next" where there may be more: what to give as after. An error says what is
// wrong, with the code and the outcome that a gate's API has.
type Archive struct{ object.Records }

// Handle adds the archive to an operations port.
func (a Archive) Handle(mux *http.ServeMux) {
	mux.HandleFunc("GET /api/v1/objects/{type}", a.list)
	mux.HandleFunc("GET /api/v1/objects/{type}/{id...}", a.show)
}

// listedObject is one line of a list.
type listedObject struct {
	ID      string     `json:"id"`
	Version uint64     `json:"version"`
	Created *time.Time `json:"created,omitempty"`
	Updated *time.Time `json:"updated,omitempty"`
}

// list answers ?after=&limit=. "next" is what to ask for the objects behind it.
func (a Archive) list(w http.ResponseWriter, r *http.Request) {
	after, limit, err := bounds(r.URL.RawQuery)
	if err != nil {
		writeFault(w, err)
		return
	}
	objType := r.PathValue("type")
	found, err := a.ListObjects(r.Context(), objType, after, limit)
	if err != nil {
		writeFault(w, err)
		return
	}
	page := struct {
		Type    string         `json:"type"`
		Objects []listedObject `json:"objects"`
		Next    string         `json:"next,omitempty"`
	}{Type: objType, Objects: make([]listedObject, len(found))}
	for i, o := range found {
		page.Objects[i] = listedObject{ID: o.Ref.ID, Version: o.Version, Created: moment(o.Created), Updated: moment(o.Updated)}
	}
	if n := len(found); n > 0 && (n == limit || limit == 0 && n == object.DefaultListed) {
		page.Next = found[n-1].Ref.ID
	}
	writeJSON(w, http.StatusOK, page)
}

// bounds reads which page a query asks for. What it does not know it refuses: a page that
// begins anywhere else is asked for without end.
func bounds(query string) (after string, limit int, err error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return "", 0, fault.New(fault.Invalid, "the query cannot be read: %w", err)
	}
	for name, list := range values {
		switch {
		case len(list) > 1:
			return "", 0, fault.New(fault.Invalid, "%s is given %d times; give it once", name, len(list))
		case name == "after":
			after = list[0]
		case name == "limit":
			if limit, err = strconv.Atoi(list[0]); err != nil {
				return "", 0, fault.New(fault.Invalid, "limit is %q; give a number", list[0])
			}
		default:
			return "", 0, fault.New(fault.Invalid, "the query asks for %q; it can say after and limit", name)
		}
	}
	return after, limit, nil
}

// show answers one object's state as it is stored.
func (a Archive) show(w http.ResponseWriter, r *http.Request) {
	ref := object.Ref{Type: r.PathValue("type"), ID: r.PathValue("id")}
	record, err := a.StoredState(r.Context(), ref)
	if err != nil {
		writeFault(w, err)
		return
	}
	writeJSON(w, http.StatusOK, struct {
		Type string `json:"type"`
		listedObject
		State json.RawMessage `json:"state"`
	}{ref.Type, listedObject{ID: ref.ID, Version: record.Version, Created: moment(record.Created)}, record.Data})
}

// moment leaves out a time that is not known.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func writeFault(w http.ResponseWriter, err error) {
	row := fault.KindOf(err).Row()
	writeJSON(w, row.HTTP, struct {
		Error   string `json:"error"`
		Code    string `json:"code"`
		Outcome string `json:"outcome"`
	}{err.Error(), row.Code, fault.OutcomeOf(err).String()})
}

// writeJSON answers with body. A stored state that is no JSON, which only a store of
// somebody's own could hand out, is an error of the store's.
func writeJSON(w http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		status = http.StatusServiceUnavailable
		text, _ = json.Marshal(map[string]string{"error": "what the store has is not JSON: " + err.Error(), "code": "NOT_READY", "outcome": "NotExecuted"})
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n')) // the reader has left
}
