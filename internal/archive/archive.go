package server

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// ListObjects implements object.Records.
func (s *Server) ListObjects(ctx context.Context, objType, after string, limit int) ([]object.Listed, error) {
	return s.Node.ListObjects(ctx, objType, after, limit)
}

// StoredState implements object.Records.
func (s *Server) StoredState(ctx context.Context, ref object.Ref) (object.Record, error) {
	return s.Node.StoredState(ctx, ref)
}

// archive shows operators what is stored. No object comes to life for it.
type archive struct{ object.Records }

func (a archive) handle(mux *http.ServeMux) {
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
func (a archive) list(w http.ResponseWriter, r *http.Request) {
	limit, err := strconv.Atoi(or(r.FormValue("limit"), "0"))
	if err != nil {
		writeFault(w, fault.New(fault.Invalid, "limit is %q; give a number", r.FormValue("limit")))
		return
	}
	objType := r.PathValue("type")
	found, err := a.ListObjects(r.Context(), objType, r.FormValue("after"), limit)
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

// show answers one object's state as it is stored.
func (a archive) show(w http.ResponseWriter, r *http.Request) {
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

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
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
