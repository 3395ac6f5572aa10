// Package operations is the port that a node or a gate has for its operators. Health and
// metrics are for whoever reaches it; profiles, what goes on inside, what is stored, and what
// can be changed are for callers on the same machine.
package operations

import (
	"context"
	"encoding/json"
	"math"
	"net"
	"net/http"
	"strconv"

	"github.com/xiaonanln/goverse/internal/archive"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// Port is what the port answers:
//
//	as Open says         to whoever reaches the port
//	/debug/pprof/        profiles, as runtime/pprof has them
//	/debug/goverse       what goes on inside, as JSON
//	/debug/loglevel      what is logged; PUT changes it
//	/api/v1/push         a POST pushes to clients, at a node
//	/api/v1/objects/     what is stored: see archive.Archive
//
// An error says what is wrong, with the code and the outcome that a gate's API has.
type Port struct {
	Open    map[string]http.HandlerFunc // by path, for GET
	Records object.Records
	// Inside is what /debug/goverse shows. It has a bound, whatever goes on.
	Inside func(context.Context) (any, error)
	// Foreign says why a request is made by a web page of others; see NewForeign.
	Foreign func(*http.Request) error
	// Push carries out an operator's order to push; nil: nothing is pushed from here.
	Push     func(context.Context, PushOrder, object.Push) error
	Listener event.Listener // of who is refused, and of what is changed
}

// Handler serves the port.
func (p *Port) Handler() http.Handler {
	mux := http.NewServeMux()
	for path, h := range p.Open {
		mux.HandleFunc("GET "+path, h)
	}
	archive.Archive{Records: p.Records}.Handle(mux)
	handleProfiles(mux)
	mux.HandleFunc("GET /debug/goverse", p.inside)
	mux.HandleFunc("GET /debug/loglevel", showLevel)
	mux.HandleFunc("PUT /debug/loglevel", p.setLevel)
	if p.Push != nil {
		mux.HandleFunc("POST /api/v1/push", p.push)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := p.check(r); err != nil {
			fail(w, err)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// check keeps web pages out, and what is not open for callers on this machine.
func (p *Port) check(r *http.Request) error {
	if err := p.Foreign(r); err != nil {
		p.denied(r, event.ByOrigin, err)
		return fault.New(fault.Forbidden, "%w", err)
	}
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	if p.Open[r.URL.Path] == nil && !net.ParseIP(host).IsLoopback() {
		p.denied(r, event.ByAddress, nil)
		return fault.New(fault.Forbidden, "profiles, what goes on inside and what is stored are for callers on this machine; this one is at %s", host)
	}
	return nil
}

func (p *Port) denied(r *http.Request, why event.Denial, err error) {
	if on := p.Listener.AccessDenied; on != nil {
		on(event.AccessDenied{Where: event.AtOperations, Why: why, From: r.RemoteAddr, Err: err})
	}
}

// inside shows what goes on, in lines: people read it, too.
func (p *Port) inside(w http.ResponseWriter, r *http.Request) {
	state, err := p.Inside(r.Context())
	if err != nil {
		fail(w, err)
		return
	}
	body, err := json.MarshalIndent(state, "", "  ")
	if err != nil {
		fail(w, err)
		return
	}
	write(w, http.StatusOK, append(body, '\n'))
}

// fail answers with err.
func fail(w http.ResponseWriter, err error) {
	e := fault.Of(err)
	row := e.Kind.Row()
	body, _ := json.Marshal(struct { // strings: it cannot fail
		Error   string `json:"error"`
		Code    string `json:"code"`
		Outcome string `json:"outcome"`
	}{err.Error(), row.Code, fault.OutcomeOf(e).String()})
	if row.HTTP == http.StatusTooManyRequests || row.HTTP == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(e.RetryAfter.Seconds())))))
	}
	write(w, row.HTTP, body)
}

// write answers with JSON.
func write(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(body) // the reader has left
}
