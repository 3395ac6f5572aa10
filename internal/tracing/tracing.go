// Package tracing makes OpenTelemetry spans of what calls go through. It knows
// OpenTelemetry's interface alone, so that clients can link it; who collects the spans is
// the TracerProvider's business.
package tracing

import (
	"context"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/fault"
)

// Provider is OpenTelemetry's trace.TracerProvider.
type Provider = trace.TracerProvider

// scope is what spans say that they were made by.
const scope = "github.com/xiaonanln/goverse"

// New returns a tracer whose spans a provider collects, and says of each on whose behalf
// it was made: "node", "gate" or "client", and its address if it has one. It is nil for no
// provider. The provider's sampler decides where a trace begins, of those that may pass
// first: nil is all.
func New(provider trace.TracerProvider, role, address string, may func() bool) callctx.Tracer {
	if provider == nil {
		return nil
	}
	own := []attribute.KeyValue{attribute.String("goverse.role", role)}
	if address != "" {
		own = append(own, attribute.String("goverse.address", address))
	}
	return &tracer{spans: provider.Tracer(scope), own: own, may: may}
}

type tracer struct {
	spans trace.Tracer
	own   []attribute.KeyValue
	may   func() bool
}

var spanKinds = [callctx.NumStretches]trace.SpanKind{
	callctx.Asked: trace.SpanKindServer, callctx.Calling: trace.SpanKindClient, callctx.Serving: trace.SpanKindServer,
	callctx.Waiting: trace.SpanKindInternal, callctx.Loading: trace.SpanKindInternal, callctx.Saving: trace.SpanKindInternal,
}

// Begin implements callctx.Tracer. The parent is the span that ctx has from the program's
// own code if that is kept, else where the call's Info says that it belongs.
func (t *tracer) Begin(ctx context.Context, s callctx.Stretch) (context.Context, callctx.Span) {
	info, own, below := callctx.From(ctx), trace.SpanContextFromContext(ctx), ctx
	switch {
	case info.Trace.Given() && !belongs(own, info.Trace, s.Kind):
		below = trace.ContextWithRemoteSpanContext(ctx, remote(info.Trace))
	case info.Trace.Given(), own.IsSampled() && s.Kind == callctx.Calling:
	case s.Root && info.Trace == nil && (own.IsValid() || t.may == nil || t.may()):
	default:
		return ctx, nil
	}
	within, span := t.spans.Start(below, name(&s), trace.WithSpanKind(spanKinds[s.Kind]))
	at := span.SpanContext()
	if !at.IsSampled() || !span.IsRecording() {
		return ctx, nil
	}
	span.SetAttributes(t.own...)
	span.SetAttributes(attributes(&s)...)
	inner := *info
	inner.Trace = placeOf(at)
	return callctx.With(within, &inner), &recording{span, s}
}

// belongs says that a span of ctx is one of the call's own, or one that the program has
// begun within it.
func belongs(own trace.SpanContext, at *callctx.Trace, kind callctx.StretchKind) bool {
	return own.IsSampled() && (kind == callctx.Calling || own.TraceID() == trace.TraceID(at.ID))
}

// name is few words: what a client asks for it may have made up.
func name(s *callctx.Stretch) string {
	switch s.Kind {
	case callctx.Waiting, callctx.Loading, callctx.Saving:
		return s.Kind.String()
	}
	return s.Kind.String() + " " + s.Op
}

// maxText bounds what is told of names that a stranger may have chosen, in bytes.
const maxText = 256

func attributes(s *callctx.Stretch) []attribute.KeyValue {
	list := make([]attribute.KeyValue, 0, 3)
	for _, a := range [...]struct{ key, value string }{
		{"goverse.object.type", s.Type}, {"goverse.object.id", s.ID}, {"rpc.method", s.Method},
	} {
		if a.value != "" {
			list = append(list, attribute.String(a.key, cut(a.value)))
		}
	}
	return list
}

// cut is the beginning of a text, without what is no UTF-8: a collector takes no span, and
// none of those that are sent with it, with such a text.
func cut(text string) string { return strings.ToValidUTF8(text[:min(len(text), maxText)], "") }

func remote(t *callctx.Trace) trace.SpanContext {
	state, err := trace.ParseTraceState(t.State)
	if err != nil { // as if there were none
		state = trace.TraceState{}
	}
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: t.ID, SpanID: t.Span, TraceFlags: trace.FlagsSampled, TraceState: state, Remote: true})
}

func placeOf(at trace.SpanContext) *callctx.Trace {
	t := &callctx.Trace{ID: at.TraceID(), Span: at.SpanID()}
	if state := at.TraceState().String(); len(state) <= callctx.MaxTraceState {
		t.State = state
	}
	return t
}

// recording is a span that has begun.
type recording struct {
	span trace.Span
	of   callctx.Stretch
}

// End implements callctx.Span. What an error says stays here: its words may be anybody's.
// A method that surely ran exists, so the span is called by it.
func (r *recording) End(err error) {
	if err != nil {
		kind := fault.KindOf(err)
		r.span.SetStatus(codes.Error, kind.String())
		r.span.SetAttributes(attribute.String("error.type", kind.String()), attribute.String("goverse.outcome", fault.OutcomeOf(err).String()))
	}
	if r.of.Method != "" && (err == nil || fault.OutcomeOf(err) == fault.Executed) {
		r.span.SetName(r.of.Kind.String() + " " + r.of.Type + "." + r.of.Method)
	}
	r.span.End()
}
