package goverseclient

import (
	"context"

	"google.golang.org/grpc/metadata"

	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/tracing"
)

// TracerProvider is OpenTelemetry's trace.TracerProvider.
type TracerProvider = tracing.Provider

// WithTracerProvider makes a span of each call, its repetitions included, below the span of
// the call's context or else where the provider's sampler begins a trace. The call goes on
// in it through the gate and the nodes, as far as these have providers. Calls that are not
// sampled cost nothing and tell the gate nothing. What is pushed, and subscriptions, are in no trace.
func WithTracerProvider(p TracerProvider) Option {
	return func(c *config) { c.tracer = tracing.New(p, "client", "", nil) }
}

// traced begins the span of a call; nil: it is in no trace that is kept.
func (c *Client) traced(ctx context.Context, f *flight) (context.Context, callctx.Span) {
	if c.cfg.tracer == nil {
		return ctx, nil
	}
	within, span := c.cfg.tracer.Begin(ctx, callctx.Stretch{
		Kind: callctx.Calling, Root: true, Op: f.op, Type: f.ref.Type, ID: f.ref.ID, Method: f.method,
	})
	if span != nil {
		f.place = callctx.From(within).Trace
	}
	return within, span
}

// outcome is what the span of a flight that ended with err says.
func (f *flight) outcome(err error) error {
	if err == nil && f.verdict != nil {
		return f.verdict()
	}
	return err
}

// beside is the context of a unary call, whose headers name its place in a trace, unless
// the program's own do.
func beside(ctx context.Context) context.Context {
	t, ok := ctx.Value(traceKey{}).(*trace)
	if !ok || !t.place.Given() {
		return ctx
	}
	if own, _ := metadata.FromOutgoingContext(ctx); len(own.Get("traceparent")) > 0 {
		return ctx
	}
	ctx = metadata.AppendToOutgoingContext(ctx, "traceparent", t.place.String())
	if t.place.State != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "tracestate", t.place.State)
	}
	return ctx
}
