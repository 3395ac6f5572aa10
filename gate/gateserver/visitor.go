package gateserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/xiaonanln/goverse/gate"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
)

// authHeader carries headers for whoever cannot set them: a JSON object of name → value.
const authHeader = "X-Goverse-Auth"

// visitor is who came by a door: with one request, or over one connection. It is in the
// context of what the door asks for it, where a gate has an EventHandler.
type visitor struct {
	door    event.Door
	from    string
	headers map[string][]string // lower-case names
	wrong   error               // of the headers
	ask     *authority

	once     sync.Once
	identity *gate.CallerIdentity
	err      error

	mu      sync.Mutex
	session *gate.Session // that it has opened; nil: none
}

type visitorKey struct{}

// visitorOf is the visitor of ctx, or nil.
func visitorOf(ctx context.Context) *visitor {
	v, _ := ctx.Value(visitorKey{}).(*visitor)
	return v
}

// receive puts a visitor into ctx. Where nobody asks who comes, there is none.
func (c *calls) receive(ctx context.Context, door event.Door, from string, headers map[string][]string) context.Context {
	if c.authority == nil {
		return ctx
	}
	v := &visitor{door: door, from: from, ask: c.authority, headers: make(map[string][]string, len(headers))}
	for name, values := range headers {
		name = strings.ToLower(name)
		v.headers[name] = append(v.headers[name], values...)
	}
	texts := v.headers[strings.ToLower(authHeader)]
	delete(v.headers, strings.ToLower(authHeader))
	for _, text := range texts {
		v.addText([]byte(text))
	}
	return context.WithValue(ctx, visitorKey{}, v)
}

// addText takes the headers of an authHeader. What is wrong with them refuses the visitor.
func (v *visitor) addText(text []byte) {
	more, err := parseAuth(text)
	if err == nil {
		err = v.add(more)
	}
	if err != nil {
		v.wrong = fault.New(fault.Invalid, "the headers in %s: %w", authHeader, err)
	}
}

// add takes headers that came in another way. What a header says already nobody else may
// say: a proxy may have set it.
func (v *visitor) add(more map[string][]string) error {
	for name := range more {
		if v.ask.requestOnly[name] || strings.HasPrefix(name, ":") {
			return errors.New("it names " + name + ", which only the request itself may carry")
		}
		if v.headers[name] != nil {
			return errors.New("it names " + name + ", which is a header of the request already: give it once")
		}
	}
	for name, values := range more {
		v.headers[name] = values
	}
	return nil
}

// Bounds of parseAuth.
const (
	maxAuthBytes   = 32 << 10
	maxAuthHeaders = 64
)

// parseAuth reads a JSON object of header name → value, or list of values. Its names come
// in lower case.
func parseAuth(text []byte) (map[string][]string, error) {
	if len(text) > maxAuthBytes {
		return nil, errors.New("it has too many bytes")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	var raw map[string]json.RawMessage
	if err := d.Decode(&raw); err != nil || raw == nil {
		return nil, errors.New("it is not a JSON object of header name and value")
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("something follows its JSON object")
	}
	if len(raw) > maxAuthHeaders {
		return nil, errors.New("it names too many headers")
	}
	headers := make(map[string][]string, len(raw))
	for name, value := range raw {
		var one string
		var list []string
		if json.Unmarshal(value, &one) == nil && !bytes.Equal(bytes.TrimSpace(value), []byte("null")) {
			list = []string{one}
		} else if json.Unmarshal(value, &list) != nil || list == nil {
			return nil, errors.New("a value in it is neither a string nor a list of strings")
		}
		lower := strings.ToLower(name)
		if lower == "" || headers[lower] != nil || lower == strings.ToLower(authHeader) {
			return nil, errors.New("a name in it is empty, comes twice, or is its own")
		}
		headers[lower] = list
	}
	return headers, nil
}

// authorise asks once who it is; nobody in particular, where nobody asks.
func (v *visitor) authorise(ctx context.Context) (*gate.CallerIdentity, error) {
	v.once.Do(func() {
		if v.err = v.wrong; v.err != nil {
			return
		}
		var why event.Denial
		if v.identity, why, v.err = v.ask.authorise(ctx, v.headers); v.err != nil {
			v.deny(event.AccessDenied{Why: why, Err: v.err})
		}
	})
	return v.identity, v.err
}

// deny tells of what it may not do.
func (v *visitor) deny(e event.AccessDenied) {
	if on := v.ask.on.AccessDenied; on != nil {
		e.Where, e.From = v.door, v.from
		on(e)
	}
}

// opened notes its session, which then says who it is.
func (v *visitor) opened(s *gate.Session) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.session = s
}

func (v *visitor) ownSession() *gate.Session {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.session
}

// admit asks who a request comes from before the door does any work for it.
func (c *calls) admit(ctx context.Context) error {
	if c.authority == nil {
		return nil
	}
	v := visitorOf(ctx)
	if v == nil {
		return errNoVisitor
	}
	if a := askerOf(ctx); a != nil {
		if refusal := a.address.ask(); refusal != nil {
			return refusal
		}
		defer a.address.asked()
	}
	_, err := v.authorise(ctx)
	return err
}

// errNoVisitor refuses what came by a door that does not say who comes.
var errNoVisitor = fault.New(fault.Unauthenticated, "the gate does not know who asks")

// receiveRequest is receive and admit for a request, before its body is read. A WebSocket's
// client may say who it is in its first frame; the session asks then.
func (c *calls) receiveRequest(r *http.Request, path string) (*http.Request, error) {
	if c.authority == nil || strings.HasPrefix(path, clientRoot) { // that code is everybody's
		return r, nil
	}
	ctx := c.receive(r.Context(), doorOf(path), r.RemoteAddr, r.Header)
	r = r.WithContext(ctx)
	if path == socketPath && r.URL.Query().Get("hello") == "1" {
		return r, nil
	}
	return r, c.admit(ctx)
}

// stay is life with the visitor of ctx, who outlives the request that brought him, and with
// his connection, whose certificate may say who he is.
func stay(life, ctx context.Context) context.Context {
	if conn := ctx.Value(connKey{}); conn != nil {
		life = context.WithValue(life, connKey{}, conn)
	}
	if v := visitorOf(ctx); v != nil {
		return context.WithValue(life, visitorKey{}, v)
	}
	return life
}

// doorOf is which of HTTP's doors a path leads to.
func doorOf(path string) event.Door {
	switch path {
	case eventsPath:
		return event.AtEvents
	case socketPath:
		return event.AtWebSocket
	}
	return event.AtHTTP
}

// receiveGRPC is receive for a call or a stream.
func (c *calls) receiveGRPC(ctx context.Context) context.Context {
	if c.authority == nil {
		return ctx
	}
	headers, _ := metadata.FromIncomingContext(ctx)
	from := ""
	if p, ok := peer.FromContext(ctx); ok {
		from = p.Addr.String()
	}
	return c.receive(ctx, event.AtGRPC, from, headers)
}

// unary is the reception of gRPC's calls. Health and reflection are open.
func (d *grpcDoor) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	if info.Server == any(d) {
		ctx = d.calls.receiveGRPC(ctx)
		if err := d.calls.admit(ctx); err != nil {
			return nil, err
		}
	}
	return handle(ctx, req)
}

// streams is the reception of gRPC's streams.
func (d *grpcDoor) streams(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	if srv != any(d) || d.calls.authority == nil {
		return handle(srv, stream)
	}
	ctx := d.calls.receiveGRPC(stream.Context())
	if err := d.calls.admit(ctx); err != nil {
		return err
	}
	return handle(srv, &received{stream, ctx})
}

// received is a stream whose context knows its visitor.
type received struct {
	grpc.ServerStream
	ctx context.Context
}

// Context implements grpc.ServerStream.
func (r *received) Context() context.Context { return r.ctx }
