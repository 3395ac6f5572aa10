package gateserver

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// The request headers of the API.
const (
	clientIDHeader = "X-Client-ID"       // the session that the call is made for
	timeoutHeader  = "X-Goverse-Timeout" // a Go duration, as 500ms; it can only shorten the default
)

// durableHeader is "false" on an answer of a Periodic object, an error of its method too,
// of which not all is stored yet. No other answer has it.
const durableHeader = "X-Goverse-Durable"

// httpDoor is everything below /api/ and, behind it, the program's own pages.
type httpDoor struct {
	calls     *calls
	guard     *guard
	sockets   *socketDoor
	describer *describer
	web       *webDoor
	pages     http.Handler
	heartbeat time.Duration
	patient   time.Duration // how long a client may leave what is sent to it unread
}

// newHTTPServer serves h. Every request's context ends with life.
func newHTTPServer(life context.Context, h http.Handler, complain func(string)) *http.Server {
	return &http.Server{
		Handler:     h,
		BaseContext: func(net.Listener) context.Context { return life },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		ErrorLog:    log.New(complaints(complain), "", 0),
	}
}

type connKey struct{}

// connOf is the connection that r came by.
func connOf(r *http.Request) net.Conn { return r.Context().Value(connKey{}).(net.Conn) }

// complaints makes a function of what net/http would log.
type complaints func(string)

func (c complaints) Write(b []byte) (int, error) {
	c(strings.TrimSpace(string(b)))
	return len(b), nil
}

// ServeHTTP routes by the escaped path as it came: cleaning it would change ids.
func (d *httpDoor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.EscapedPath()
	isWeb := strings.HasPrefix(path, webRoot)
	if !isWeb && !strings.HasPrefix(path, apiRoot) {
		d.pages.ServeHTTP(w, r)
		return
	}
	if d.guard.allow(w, r) {
		return
	}
	if err := d.guard.check(r); err != nil {
		denied(&d.calls.on, event.AccessDenied{Where: doorOf(path), Why: event.ByOrigin, From: r.RemoteAddr, Err: err})
		writeFailure(w, err, object.OpCall)
		return
	}
	r, err := d.calls.receiveRequest(r, path)
	if err != nil {
		writeFailure(w, err, object.OpCall)
		return
	}
	rest, isObject := strings.CutPrefix(path, objectsRoot)
	switch {
	case isWeb:
		d.web.ServeHTTP(w, r)
	case isObject:
		d.object(w, r, rest)
	case strings.HasPrefix(path, settleRoot):
		d.settle(w, r, strings.TrimPrefix(path, settleRoot))
	case path == eventsPath:
		d.events(w, r)
	case path == socketPath:
		d.sockets.serve(w, r)
	case strings.HasPrefix(path, clientRoot):
		clientJS(w, r)
	case path == openapiPath:
		d.openapi(w, r)
	case isTry(path):
		d.try(w, r)
	default:
		writeFailure(w, badPath("nothing is at %s; the API is %s{type}/{id}/{method}, %s{type}/{id}, %s and %s", path, objectsRoot, settleRoot, eventsPath, socketPath), object.OpCall)
	}
}

func (d *httpDoor) object(w http.ResponseWriter, r *http.Request, rest string) {
	t, err := parseTarget(rest)
	if err != nil {
		writeFailure(w, err, object.OpCall)
		return
	}
	p := d.portion(w, r)
	defer p.done()
	op := object.OpCall
	if t.envelope {
		op = t.op
		err = d.envelope(w, r, t, p)
	} else {
		op, err = d.plain(w, r, t, p)
	}
	if err != nil {
		writeFailure(w, about(err, t.ref, t.method), op)
	}
}

// call makes a call for the client, and under the call id, that the request's headers
// name. p is its answer's.
func (d *httpDoor) call(w http.ResponseWriter, r *http.Request, call object.Call, p *portion) (reply object.Payload, err error) {
	if call.ID, err = callIDOf(r.Header); err == nil {
		err = checkCallID(&call)
	}
	if err != nil {
		return object.Payload{}, named(&call, err)
	}
	limit := d.calls.timeouts[call.Op]
	if h := r.Header.Get(timeoutHeader); h != "" {
		asked, err := time.ParseDuration(h)
		if err != nil || asked <= 0 {
			return object.Payload{}, fault.New(fault.Invalid, "the header %s is %q; give a duration, as 500ms or 5s", timeoutHeader, h)
		}
		limit = min(limit, asked)
	}
	ctx, cancel := context.WithTimeout(withPortion(inPlace(r.Context(), r.Header), p), limit)
	defer cancel()
	reply, err = d.calls.do(ctx, r.Header.Get(clientIDHeader), call)
	if call.ID != "" {
		tell(w.Header(), reply, err)
	}
	if reply.Unsaved {
		w.Header().Set(durableHeader, "false")
	}
	return reply, err
}

// read is readBody, and tells of one that is too large.
func (d *httpDoor) read(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	limits := d.calls.visitors.now()
	body, err := readBody(w, r, limits.BodyRate, limits.BodyGrace)
	switch fault.KindOf(err) {
	case fault.TooLarge:
		d.calls.reached(event.MessageBytes, object.Ref{})
	case fault.Deadline:
		d.calls.reached(event.SlowRequests, object.Ref{})
	}
	return body, err
}

func forbidden(format string, args ...any) error {
	return &refusal{status: http.StatusForbidden, code: "ACCESS_DENIED", text: fmt.Sprintf(format, args...)}
}
