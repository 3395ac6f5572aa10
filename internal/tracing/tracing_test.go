package tracing

import (
	"context"
	"strings"
	"testing"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/fault"
)

var (
	asked   = callctx.Stretch{Kind: callctx.Asked, Root: true, Op: "CallObject", Type: "Room", ID: "x", Method: "Join"}
	calling = callctx.Stretch{Kind: callctx.Calling, Op: "CallObject", Type: "Room", ID: "x", Method: "Join"}
	serving = callctx.Stretch{Kind: callctx.Serving, Op: "CallObject", Type: "Room", ID: "x", Method: "Join"}
)

// keep returns a tracer and what it made.
func keep(t *testing.T, options ...sdktrace.TracerProviderOption) (callctx.Tracer, *tracetest.SpanRecorder, *sdktrace.TracerProvider) {
	t.Helper()
	kept := tracetest.NewSpanRecorder()
	p := sdktrace.NewTracerProvider(append(options, sdktrace.WithSpanProcessor(kept))...)
	t.Cleanup(func() { _ = p.Shutdown(context.Background()) })
	return New(p, "node", "n:1", nil), kept, p
}

// Each span is below the one that it was begun in, also where a process lies between.
func TestSpansAreBelowEachOther(t *testing.T) {
	tracer, kept, _ := keep(t)
	gate, a := tracer.Begin(t.Context(), asked)
	routed, b := tracer.Begin(gate, calling)
	far := callctx.With(t.Context(), callctx.From(routed)) // what a peer hears
	node, c := tracer.Begin(far, serving)
	near, d := tracer.Begin(routed, serving) // what the same process hears
	_, e := tracer.Begin(node, callctx.Stretch{Kind: callctx.Waiting})
	for _, span := range []callctx.Span{e, d, c, b, a} {
		span.End(nil)
	}
	spans := kept.Ended()
	for i, want := range []struct {
		name   string
		parent int
	}{{"turn", 2}, {"serve Room.Join", 3}, {"serve Room.Join", 3}, {"call Room.Join", 4}, {"gate Room.Join", -1}} {
		got := spans[i]
		if got.Name() != want.name || got.SpanContext().TraceID() != spans[4].SpanContext().TraceID() {
			t.Errorf("span %d is %s of %s", i, got.Name(), got.SpanContext().TraceID())
		}
		if want.parent >= 0 && got.Parent().SpanID() != spans[want.parent].SpanContext().SpanID() || want.parent < 0 && got.Parent().IsValid() {
			t.Errorf("span %d is below %s", i, got.Parent().SpanID())
		}
	}
	if callctx.From(near).Trace.String() == callctx.From(node).Trace.String() {
		t.Error("two spans have one place")
	}
}

// A span that the program began in its method is where its call belongs, also one of a
// trace of its own; but not one that is not kept.
func TestTheProgramsOwnSpanIsTheParent(t *testing.T) {
	tracer, kept, p := keep(t)
	served, span := tracer.Begin(callctx.With(t.Context(), &callctx.Info{Trace: callctx.ParseTrace("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "a=1")}), serving)
	own, mine := p.Tracer("mine").Start(served, "mine")
	_, call := tracer.Begin(own, calling)
	call.End(nil)
	apart, other := p.Tracer("mine").Start(served, "other", trace.WithNewRoot())
	elsewhere, call := tracer.Begin(apart, calling)
	call.End(nil)
	_, never := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample())).Tracer("x").Start(served, "x")
	_, call = tracer.Begin(trace.ContextWithSpan(served, never), calling)
	call.End(nil)
	mine.End()
	other.End()
	span.End(nil)
	spans := kept.Ended()
	for i, parent := range []trace.Span{mine, other, trace.SpanFromContext(served)} {
		if got := spans[i].Parent().SpanID(); got != parent.SpanContext().SpanID() {
			t.Errorf("call %d is below %s and not %s", i, got, parent.SpanContext().SpanID())
		}
	}
	if got := callctx.From(elsewhere).Trace; got.ID != other.SpanContext().TraceID() {
		t.Errorf("the call goes on in %v", got)
	}
	if got := callctx.From(served).Trace.State; got != "a=1" {
		t.Errorf("the state is %q", got)
	}
}

// Where a trace is not kept nothing is made, and the context stays as it was.
func TestWhoIsNotTraced(t *testing.T) {
	tracer, kept, _ := keep(t, sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.NeverSample())))
	always, alsoKept, _ := keep(t)
	for name, c := range map[string]struct {
		tracer callctx.Tracer
		info   *callctx.Info
		what   callctx.Stretch
	}{
		"the sampler":       {tracer, &callctx.Info{}, asked},
		"no root":           {always, &callctx.Info{}, serving},
		"within a call":     {always, &callctx.Info{}, calling},
		"decided elsewhere": {always, &callctx.Info{Trace: callctx.Untraced}, asked},
		"the budget":        {New(sdktrace.NewTracerProvider(), "gate", "", func() bool { return false }), &callctx.Info{}, asked},
	} {
		ctx := callctx.With(t.Context(), c.info)
		if got, span := c.tracer.Begin(ctx, c.what); span != nil || got != ctx {
			t.Errorf("%s: %v", name, span)
		}
	}
	if New(nil, "node", "", nil) != nil {
		t.Error("a tracer without a provider")
	}
	if len(kept.Started())+len(alsoKept.Started()) > 0 {
		t.Error("spans were begun")
	}
}

// What failed says how, in our words; what a stranger made up names no span, and is cut off.
func TestSpansOfWhatFails(t *testing.T) {
	tracer, kept, _ := keep(t)
	long := asked
	long.Type, long.ID, long.Method = strings.Repeat("x", 10_000), "x"+strings.Repeat("é", 5_000), "a\xffb"
	for _, c := range []struct {
		of  callctx.Stretch
		err error
	}{{long, fault.New(fault.UnknownType, "secret words")}, {asked, fault.New(fault.Failed, "secret words")}} {
		_, span := tracer.Begin(t.Context(), c.of)
		span.End(c.err)
	}
	spans := kept.Ended()
	for i, want := range []struct{ name, kind, outcome, id, method string }{
		{"gate CallObject", "unknown type", "NotExecuted", "x" + strings.Repeat("é", 127), "ab"},
		{"gate Room.Join", "failed", "Executed", "x", "Join"},
	} {
		s := spans[i]
		if s.Name() != want.name || s.Status().Code != codes.Error || s.Status().Description != want.kind {
			t.Errorf("%s, %v", s.Name(), s.Status())
		}
		set := attribute.NewSet(s.Attributes()...)
		for key, want := range map[attribute.Key]string{"goverse.object.id": want.id, "rpc.method": want.method} {
			if v, _ := set.Value(key); v.AsString() != want {
				t.Errorf("%s is %q", key, v.AsString())
			}
		}
		if v, _ := set.Value("goverse.outcome"); v.AsString() != want.outcome {
			t.Errorf("the outcome is %s", v.AsString())
		}
		if v, _ := set.Value("goverse.address"); v.AsString() != "n:1" {
			t.Errorf("the address is %s", v.AsString())
		}
		for _, a := range s.Attributes() {
			if len(a.Value.AsString()) > maxText || !utf8.ValidString(a.Value.AsString()) || strings.Contains(a.Value.AsString(), "secret") {
				t.Errorf("%s is %s", a.Key, a.Value.AsString())
			}
		}
	}
}
