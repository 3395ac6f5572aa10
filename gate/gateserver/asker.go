package gateserver

import (
	"context"
	"net"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/tap"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// askerOf is who makes the calls of ctx; nil: they are not counted.
func askerOf(ctx context.Context) *asker {
	a, _ := ctx.Value(askerKey{}).(*asker)
	return a
}

// asStream is ctx for the calls of a stream that counts them itself, which was opened with
// from.
func asStream(ctx, from context.Context) context.Context {
	if a := askerOf(from); a != nil {
		return context.WithValue(ctx, askerKey{}, a.streaming())
	}
	return ctx
}

// serverOptions bound what gRPC holds for a connection, and find the asker of each request.
func (t *guests) serverOptions() []grpc.ServerOption {
	limits := t.now()
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxConcurrentStreams(uint32(limits.ConnectionStreams)), grpc.MaxHeaderListSize(uint32(limits.HeaderBytes)),
		grpc.ConnectionTimeout(limits.HeaderTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: t.beat, Timeout: 10 * time.Second, MaxConnectionIdle: limits.IdleTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.InTapHandle(t.tap), grpc.ChainUnaryInterceptor(hereAtOnce), grpc.ChainStreamInterceptor(hereWithWords),
	}
}

// tap sees each request's headers before anything is kept of it.
func (t *guests) tap(ctx context.Context, info *tap.Info) (context.Context, error) {
	a := &asker{of: t}
	if p, ok := peer.FromContext(ctx); ok {
		if r, ok := p.Addr.(remote); ok {
			if r.refusal != nil {
				return nil, r.refusal
			}
			a.address, a.unsent = r.guest, r.unsent
			if ip := t.forwarded(remoteIP(r.Addr), info.Header.Get("x-forwarded-for")); ip.IsValid() {
				a.address = t.visit(ip)
				context.AfterFunc(ctx, a.address.leave)
			}
		}
	}
	if info.FullMethodName != gate_pb.GateService_Converse_FullMethodName { // which looks to its client's first words itself
		ctx = t.clock(ctx, a)
	}
	return context.WithValue(ctx, askerKey{}, a), nil
}

// clock ends a request that is too long on its way. gRPC does not show how much of it has
// arrived.
func (t *guests) clock(ctx context.Context, a *asker) context.Context {
	ctx, cancel := context.WithCancelCause(ctx)
	late := time.AfterFunc(t.bodyTime(), func() {
		t.tell(event.SlowRequests)
		cancel(errSlowRequest)
	})
	forget := context.AfterFunc(ctx, func() { late.Stop() })
	a.here = func() bool { return late.Stop() && forget() }
	return ctx
}

var errSlowRequest = fault.New(fault.Deadline, "the request did not arrive in time").With(fault.NotExecuted)

// hereAtOnce stops the clock of a unary request.
func hereAtOnce(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if a := askerOf(ctx); a != nil && a.here != nil {
		a.here()
	}
	return handler(ctx, req)
}

// hereWithWords stops the clock of a stream with its first message.
func hereWithWords(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if a := askerOf(s.Context()); a != nil && a.here != nil {
		s = &firstWords{s, a.here}
	}
	return handler(srv, s)
}

type firstWords struct {
	grpc.ServerStream
	here func() bool
}

func (s *firstWords) RecvMsg(m any) error {
	err := s.ServerStream.RecvMsg(m)
	s.here()
	return err
}

// bound gives a server of HTTP its limits, and each request its asker.
func (t *guests) bound(s *http.Server) {
	limits := t.now()
	s.ReadHeaderTimeout, s.IdleTimeout, s.MaxHeaderBytes = limits.HeaderTimeout, limits.IdleTimeout, limits.HeaderBytes
	s.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: limits.ConnectionStreams, PingTimeout: 10 * time.Second, SendPingTimeout: 20 * time.Second}
	connected := s.ConnContext
	s.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if r, ok := c.RemoteAddr().(remote); ok {
			ctx = context.WithValue(ctx, askerKey{}, &asker{of: t, address: r.guest})
		}
		return connected(ctx, c)
	}
	next := s.Handler
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from, ok := connOf(r).RemoteAddr().(remote)
		if ok && from.refusal != nil {
			w.Header().Set("Connection", "close")
			writeFailure(w, from.refusal, object.OpCall)
			return
		}
		if ip := t.forwarded(remoteIP(from.Addr), r.Header.Values("X-Forwarded-For")); ip.IsValid() {
			a := &asker{of: t, address: t.visit(ip)}
			defer a.address.leave()
			r = r.WithContext(context.WithValue(r.Context(), askerKey{}, a))
		}
		if r.ContentLength != 0 { // also where nobody reads it; who does has a clock of its own
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(t.bodyTime()))
		}
		if r.ProtoMajor < 2 {
			next.ServeHTTP(w, r)
			return
		}
		s := &streamWriter{ResponseWriter: w, slow: http.NewResponseController(w), of: t}
		defer s.extend() // for what net/http still has of the answer
		next.ServeHTTP(s, r)
	})
}
