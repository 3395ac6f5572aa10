package gateserver

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/anypb"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/internal/batch"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// webRoot begins the paths of gate.GateService on the HTTP port.
const webRoot = "/gate.GateService/"

// webDoor is gate.GateService as a browser's generated client can speak it: gRPC-Web, and
// the Connect protocol in protobuf and in JSON. Each call is one of the grpcDoor. Converse
// is not among them: it takes a stream from the client, which no browser sends.
type webDoor struct {
	methods map[string]http.Handler // by path
	calls   *calls
}

// webTalk bounds how long a request's body may take to arrive, and each write of an answer.
const webTalk = 30 * time.Second

func newWebDoor(d *grpcDoor, types *describer) *webDoor {
	options := connect.WithHandlerOptions(
		connect.WithReadMaxBytes(maxMessage), // checkReply bounds what is sent, and says that the call ran
		connect.WithCodec(jsonCodec{"json", types}), connect.WithCodec(jsonCodec{"json; charset=utf-8", types}),
	)
	return &webDoor{calls: d.calls, methods: map[string]http.Handler{
		gate_pb.GateService_CallObject_FullMethodName:         unary(d.calls, gate_pb.GateService_CallObject_FullMethodName, d.CallObject, options),
		gate_pb.GateService_CreateObject_FullMethodName:       unary(d.calls, gate_pb.GateService_CreateObject_FullMethodName, d.CreateObject, options),
		gate_pb.GateService_DeleteObject_FullMethodName:       unary(d.calls, gate_pb.GateService_DeleteObject_FullMethodName, d.DeleteObject, options),
		gate_pb.GateService_ReliableCallObject_FullMethodName: unary(d.calls, gate_pb.GateService_ReliableCallObject_FullMethodName, d.ReliableCallObject, options),
		gate_pb.GateService_Settle_FullMethodName:             unary(d.calls, gate_pb.GateService_Settle_FullMethodName, d.Settle, options),
		gate_pb.GateService_Register_FullMethodName:           streamed(gate_pb.GateService_Register_FullMethodName, d.Register, options),
	}}
}

// ServeHTTP implements http.Handler.
func (d *webDoor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := d.methods[r.URL.Path]
	if h == nil {
		writeFailure(w, badPath("browsers cannot call %s here; there are CallObject, CreateObject, DeleteObject, ReliableCallObject, Settle and Register below %s", r.URL.Path, webRoot), object.OpCall)
		return
	}
	own := &webWriter{ResponseWriter: w, slow: http.NewResponseController(w)}
	own.portion = d.calls.untaken.portionOf(askerOf(r.Context()), own.cut)
	defer own.portion.done()
	_ = own.slow.SetReadDeadline(time.Now().Add(webTalk)) // a test's recorder has none
	h.ServeHTTP(own, r.WithContext(context.WithValue(r.Context(), webKey{}, own)))
}

// webKey finds the *webWriter of a request in its context.
type webKey struct{}

func webWriterOf(ctx context.Context) *webWriter { return ctx.Value(webKey{}).(*webWriter) }

// arrived is a request's context once its body is read: with its headers where the doors
// look for a gRPC client's, and without the deadline for the body.
func arrived(ctx context.Context, h http.Header) context.Context {
	_ = webWriterOf(ctx).slow.SetReadDeadline(time.Time{})
	md := metadata.MD{}
	for name, values := range h {
		md[strings.ToLower(name)] = values
	}
	return metadata.NewIncomingContext(ctx, md)
}

// webWriter gives a client up that takes nothing of what is written.
type webWriter struct {
	http.ResponseWriter
	slow  *http.ResponseController
	taken func() // if not nil, called when a part was taken; of who writes
	// portion is the answer's that is written, of a call that has one answer.
	portion *portion
	isCut   atomic.Bool
}

// cut breaks off what is being written, and what is written from now on.
func (w *webWriter) cut() {
	w.isCut.Store(true)
	_ = w.slow.SetWriteDeadline(time.Unix(1, 0))
}

// webPart is how much is written at a time, in bytes.
const webPart = 32 << 10

func (w *webWriter) Write(b []byte) (n int, err error) {
	for first := true; err == nil && (first || n < len(b)); first = false {
		_ = w.slow.SetWriteDeadline(time.Now().Add(webTalk))
		if w.isCut.Load() {
			_ = w.slow.SetWriteDeadline(time.Unix(1, 0))
		}
		var more int
		more, err = w.ResponseWriter.Write(b[n:min(n+webPart, len(b))])
		if n += more; err != nil {
			break
		}
		if w.taken != nil {
			w.taken()
		}
		if !w.portion.took() {
			err = errCut
		}
	}
	return n, err
}

// Flush implements http.Flusher.
func (w *webWriter) Flush() { _ = w.slow.Flush() }

// Unwrap is what http.ResponseController asks for.
func (w *webWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func unary[Req, Resp any](c *calls, name string, call func(context.Context, *Req) (*Resp, error), options connect.HandlerOption) http.Handler {
	return connect.NewUnaryHandler(name, func(ctx context.Context, r *connect.Request[Req]) (*connect.Response[Resp], error) {
		p := webWriterOf(ctx).portion
		reply, err := call(withPortion(arrived(ctx, r.Header()), p), r.Msg)
		if err == nil {
			size := answerBytes(reply)
			c.sizes.note(unaryMethodOf(r.Msg), size)
			err = p.keep(size)
		}
		if err != nil {
			return nil, webError(err)
		}
		return connect.NewResponse(reply), nil
	}, options)
}

func streamed[Req any](name string, call func(*Req, grpc.ServerStreamingServer[anypb.Any]) error, options connect.HandlerOption) http.Handler {
	return connect.NewServerStreamHandler(name, func(ctx context.Context, r *connect.Request[Req], out *connect.ServerStream[anypb.Any]) error {
		ctx, cancel := context.WithCancel(arrived(ctx, r.Header()))
		s := &webStream{ctx: ctx, out: out, wire: webWriterOf(ctx)}
		defer s.end()
		defer cancel()
		if err := call(r.Msg, s); err != nil {
			return webError(err)
		}
		return nil
	}, options)
}

// webStream is a stream to a browser as the grpcDoor knows streams.
type webStream struct {
	grpc.ServerStream // nothing else of it is asked for
	ctx               context.Context
	out               *connect.ServerStream[anypb.Any]
	wire              *webWriter

	mu    sync.Mutex // held while something is sent
	ended bool
}

// Context implements grpc.ServerStream.
func (s *webStream) Context() context.Context { return s.ctx }

// SendMsg implements grpc.ServerStream, for what the grpcDoor sends.
func (s *webStream) SendMsg(m any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	watched := m.(*batch.Watched)
	if s.ended {
		return errVanished
	}
	s.wire.taken = watched.Taken
	return s.out.Send(watched.Message.(*anypb.Any))
}

// Send implements grpc.ServerStreamingServer.
func (s *webStream) Send(a *anypb.Any) error { return s.SendMsg(&batch.Watched{Message: a}) }

// end returns when nobody sends any more: what HTTP answers with is gone then. A Send that
// the client holds up is broken off.
func (s *webStream) end() {
	if !s.mu.TryLock() {
		s.wire.cut()
		s.mu.Lock()
	}
	s.ended, s.wire.taken = true, nil
	s.mu.Unlock()
}

// webError is err in Connect's words: gRPC's code, message and details.
func webError(err error) error {
	st := fault.Of(err).GRPCStatus()
	out := connect.NewError(connect.Code(st.Code()), errors.New(st.Message()))
	for _, packed := range st.Proto().GetDetails() {
		if detail, err := connect.NewErrorDetail(packed); err == nil { // one that cannot be packed is left out
			out.AddDetail(detail)
		}
	}
	return out
}
