package gateserver

import (
	"context"
	"errors"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/xiaonanln/goverse/gate"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
)

// Bounds of the program's EventHandler.
const (
	handlerTime   = 5 * time.Second // for one call of it
	maxAuthorise  = 256             // calls of OnClientAuthorise at once
	maxFarewells  = 64              // calls of OnClientDisconnect at once
	maxUnfarewell = 100_000         // ended sessions that wait for theirs: no new one is let in
)

// authority asks the program's EventHandler, within bounds: one that hangs keeps a place,
// and no client of others waits for it for longer than handlerTime.
type authority struct {
	handler gate.EventHandler
	places  chan struct{} // of OnClientAuthorise
	on      *event.Listener

	requestOnly map[string]bool // lower-case names that only a request's own headers say

	mu       sync.Mutex
	waiting  []*gate.Session // whose OnClientDisconnect is yet to be called
	at       int             // calls of it
	overlong bool            // it was told that they do not end
	idle     chan struct{}   // closed when nothing waits or runs, for who stops; nil: nobody does
}

func newAuthority(h gate.EventHandler, requestOnly []string, on *event.Listener) *authority {
	if h == nil {
		return nil
	}
	only := map[string]bool{"host": true}
	for _, name := range requestOnly {
		only[strings.ToLower(name)] = true
	}
	return &authority{handler: h, requestOnly: only, places: make(chan struct{}, maxAuthorise), on: on}
}

// ended is what hears of sessions that have ended; nil: nobody.
func (a *authority) ended() func(*gate.Session) {
	if a == nil {
		return nil
	}
	return a.farewell
}

// authorise says who comes with headers; the error is a *fault.Error.
func (a *authority) authorise(ctx context.Context, headers map[string][]string) (who *gate.CallerIdentity, why event.Denial, err error) {
	ctx, cancel := context.WithTimeout(ctx, handlerTime)
	defer cancel()
	select {
	case a.places <- struct{}{}:
	case <-ctx.Done():
		return nil, event.HandlerFail, fault.Waited(ctx, "too many clients authenticate at once")
	}
	if a.isBehind() {
		<-a.places
		return nil, event.HandlerFail, fault.New(fault.Overloaded, "the gate has yet to tell the program of %d clients that left; come again later", maxUnfarewell)
	}
	type answer struct {
		who *gate.CallerIdentity
		err error
	}
	answered := make(chan answer, 1)
	go func() {
		defer func() { <-a.places }()
		var r answer
		panicked := !a.contain("OnClientAuthorise", func() { r.who, r.err = a.handler.OnClientAuthorise(ctx, headers) })
		if panicked {
			r = answer{err: errHandler}
		}
		answered <- r
	}()
	select {
	case r := <-answered:
		switch {
		case errors.Is(r.err, errHandler):
			return nil, event.HandlerFail, errHandler
		case r.err != nil:
			return nil, event.ByHandler, refusedBy(r.err)
		case r.who.Check() != nil:
			return nil, event.ByExpiry, r.who.Check()
		}
		return r.who, 0, nil
	case <-ctx.Done():
		return nil, event.HandlerFail, fault.Waited(ctx, "the program did not say in time who the client is")
	}
}

// errHandler tells nothing of the program's trouble.
var errHandler = fault.New(fault.Unauthenticated, "the program failed to say who the client is")

// contain calls f and says whether it returned.
func (a *authority) contain(method string, f func()) (returned bool) {
	defer func() {
		v := recover()
		if on := a.on.MethodPanicked; v != nil && on != nil {
			on(event.MethodPanicked{Type: "EventHandler", Method: method, Value: fault.Thrown(v), Stack: debug.Stack()})
		}
	}()
	f()
	return true
}

// refusedBy makes a fault of what the handler says. What it says of another call that it
// made is a cause like any.
func refusedBy(err error) *fault.Error {
	var e *fault.Error
	if errors.As(err, &e) {
		switch e.Kind {
		case fault.Unauthenticated, fault.Forbidden, fault.Overloaded, fault.Invalid, fault.NotReady:
			if e.Op == "" && e.Subject == "" {
				c := *e
				return c.With(fault.NotExecuted)
			}
		}
		return fault.New(fault.Unauthenticated, "%w", err)
	}
	if st, ok := status.FromError(err); ok {
		if kind, ok := ofStatus[st.Code()]; ok {
			return fault.New(kind, "%s", st.Message())
		}
	}
	return fault.New(fault.Unauthenticated, "%w", err)
}

// ofStatus is what a handler may say with a gRPC status.
var ofStatus = map[codes.Code]fault.Kind{
	codes.PermissionDenied: fault.Forbidden, codes.ResourceExhausted: fault.Overloaded,
	codes.InvalidArgument: fault.Invalid, codes.Unavailable: fault.NotReady, codes.Unauthenticated: fault.Unauthenticated,
}

func (a *authority) isBehind() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.waiting) >= maxUnfarewell
}

// farewell sees to it that the handler hears of the session's end. It does not wait.
func (a *authority) farewell(s *gate.Session) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting = append(a.waiting, s)
	if a.at < maxFarewells {
		a.at++
		go a.tellAll()
	}
}

// tellAll tells the handler of sessions while there are any.
func (a *authority) tellAll() {
	for {
		a.mu.Lock()
		if len(a.waiting) == 0 {
			a.waiting = nil
			if a.at--; a.at == 0 && a.idle != nil {
				close(a.idle)
				a.idle = nil
			}
			a.mu.Unlock()
			return
		}
		s := a.waiting[0]
		a.waiting[0] = nil
		a.waiting = a.waiting[1:]
		a.mu.Unlock()
		a.tell(s)
	}
}

func (a *authority) tell(s *gate.Session) {
	ctx, cancel := context.WithTimeout(context.Background(), handlerTime)
	defer cancel()
	late := time.AfterFunc(2*handlerTime, a.sayOverlong)
	defer late.Stop()
	a.contain("OnClientDisconnect", func() { a.handler.OnClientDisconnect(ctx, s.ID(), s.Identity()) })
}

// sayOverlong tells once that a handler does not heed its context.
func (a *authority) sayOverlong() {
	a.mu.Lock()
	said := a.overlong
	a.overlong = true
	a.mu.Unlock()
	if on := a.on.Notice; !said && on != nil {
		on(event.Notice{Severity: event.Alarm, From: "gate", Text: "OnClientDisconnect does not return when its context has ended: it keeps one of the places that there are for it"})
	}
}

// close waits until the handler has heard of every session, within ctx.
func (a *authority) close(ctx context.Context) {
	if a == nil {
		return
	}
	a.mu.Lock()
	idle := make(chan struct{})
	if a.at == 0 {
		close(idle)
	} else if a.idle == nil {
		a.idle = idle
	} else {
		idle = a.idle
	}
	a.mu.Unlock()
	select {
	case <-idle:
	case <-ctx.Done():
	}
}
