package gateserver

import (
	"context"
	"net/http"

	"golang.org/x/time/rate"
	"google.golang.org/grpc/metadata"

	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/telemetry"
	"github.com/xiaonanln/goverse/object"
)

// TracerProvider is OpenTelemetry's trace.TracerProvider.
type TracerProvider = telemetry.TracerProvider

// Tracing says where spans go.
type Tracing = telemetry.Tracing

// The headers of W3C Trace Context.
const (
	parentHeader = "traceparent"
	stateHeader  = "tracestate"
)

// maxAsked is how many traces a second clients may have this gate keep: any client can ask
// for one with each call. Calls beyond it are served untraced.
const maxAsked = 100

// tracer makes the spans of a gate's calls.
type tracer struct {
	callctx.Tracer
	asked *rate.Limiter
}

func newTracer(t callctx.Tracer) *tracer {
	if t == nil {
		return nil
	}
	return &tracer{t, rate.NewLimiter(maxAsked, maxAsked)}
}

// begin begins the span of a call that was let in. ctx carries its Info.
func (t *tracer) begin(ctx context.Context, call *object.Call) (context.Context, callctx.Span) {
	if t == nil {
		return ctx, nil
	}
	if at := place(ctx); at != nil {
		if at.Given() && !t.asked.Allow() {
			at = callctx.Untraced
		}
		info := *callctx.From(ctx)
		info.Trace = at
		ctx = callctx.With(ctx, &info)
	}
	return t.Begin(ctx, callctx.Stretch{
		Kind: callctx.Asked, Root: true, Op: call.Op.String(), Type: call.Ref.Type, ID: call.Ref.ID, Method: call.Method,
	})
}

// placeKey finds the *callctx.Trace that a request of HTTP or a frame of a stream named.
type placeKey struct{}

// inPlace puts the place that a request names into ctx.
func inPlace(ctx context.Context, h http.Header) context.Context {
	parents := h.Values(parentHeader)
	if len(parents) != 1 {
		return ctx
	}
	if at := callctx.ParseTrace(parents[0], h.Get(stateHeader)); at != nil {
		return context.WithValue(ctx, placeKey{}, at)
	}
	return ctx
}

// within puts the place that a frame of a stream names into ctx.
func (t *tracer) within(ctx context.Context, parent, state string) context.Context {
	if t == nil || parent == "" {
		return ctx
	}
	if at := callctx.ParseTrace(parent, state); at != nil {
		return context.WithValue(ctx, placeKey{}, at)
	}
	return ctx
}

// place is where a call says that it belongs. What opened a stream says nothing of the
// calls on it.
func place(ctx context.Context) *callctx.Trace {
	if at, ok := ctx.Value(placeKey{}).(*callctx.Trace); ok {
		return at
	}
	if a := askerOf(ctx); a != nil && a.stream {
		return nil
	}
	parents := metadata.ValueFromIncomingContext(ctx, parentHeader)
	if len(parents) != 1 {
		return nil
	}
	state := ""
	if states := metadata.ValueFromIncomingContext(ctx, stateHeader); len(states) == 1 {
		state = states[0]
	}
	return callctx.ParseTrace(parents[0], state)
}
