package gateserver

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc/metadata"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/object"
)

const (
	traceID = "0af7651916cd43dd8448eb211c80319c"
	parent  = "00-" + traceID + "-b7ad6b7169203331-01"
)

// traced starts a gate whose spans are kept, and whose cluster tells each call's place.
func traced(t *testing.T) (*GateServer, *tracetest.SpanRecorder, chan *callctx.Trace) {
	t.Helper()
	kept, places := tracetest.NewSpanRecorder(), make(chan *callctx.Trace, 1)
	p := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.NeverSample())), sdktrace.WithSpanProcessor(kept))
	t.Cleanup(func() { _ = p.Shutdown(context.Background()) })
	s := start(t, newCluster(func(ctx context.Context, call object.Call) (object.Payload, error) {
		places <- callctx.From(ctx).Trace
		return object.Payload{}, nil
	}), func(c *GateServerConfig) { c.TracerProvider = p })
	return s, kept, places
}

func post(t *testing.T, s *GateServer, header ...string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.HTTPAddr()+"/api/v1/objects/Room/x/Join", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Errorf("with %q: %s", header, answer.Status)
	}
}

// A call by HTTP and one by gRPC go on in the trace that their headers name.
func TestACallGoesOnInItsClientsTrace(t *testing.T) {
	s, kept, places := traced(t)
	post(t, s, "traceparent", parent, "tracestate", "v=1")
	byHTTP := <-places
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", parent)
	if _, err := dial(t, s).CallObject(ctx, &gate_pb.CallObjectRequest{Type: "Room", Id: "x", Method: "Join"}); err != nil {
		t.Fatal(err)
	}
	byGRPC := <-places
	spans := kept.Ended()
	if len(spans) != 2 {
		t.Fatalf("%d spans", len(spans))
	}
	for i, at := range []*callctx.Trace{byHTTP, byGRPC} {
		if !strings.HasPrefix(at.String(), "00-"+traceID+"-") || at.String() == parent {
			t.Errorf("the cluster hears %q", at)
		}
		if spans[i].Name() != "gate Room.Join" || spans[i].Parent().SpanID().String() != "b7ad6b7169203331" || spans[i].SpanContext().SpanID() != at.Span {
			t.Errorf("span %d is %s below %s", i, spans[i].Name(), spans[i].Parent().SpanID())
		}
	}
	if byHTTP.State != "v=1" {
		t.Errorf("the state is %q", byHTTP.State)
	}
}

// Headers that are none do no harm, and nobody has more traces kept than the gate allows.
func TestHostileTraces(t *testing.T) {
	s, kept, places := traced(t)
	for _, h := range [][]string{
		nil, {"traceparent", ""}, {"traceparent", "x"}, {"traceparent", strings.Repeat("0", 4000)}, {"traceparent", parent, "traceparent", parent},
		{"traceparent", strings.TrimSuffix(parent, "1") + "0"}, {"traceparent", "00-" + strings.Repeat("0", 32) + "-b7ad6b7169203331-01"},
	} {
		post(t, s, h...)
		if at := <-places; at.Given() {
			t.Errorf("%q is traced as %s", h, at)
		}
	}
	post(t, s, "traceparent", parent, "tracestate", strings.Repeat("a=1,", 1000))
	if at := <-places; !at.Given() || at.State != "" {
		t.Errorf("a long state makes it %+v", at)
	}
	before := len(kept.Ended())
	limited := newTracer(s.tracer)
	for range 10 * maxAsked {
		ctx := context.WithValue(t.Context(), placeKey{}, callctx.ParseTrace(parent, ""))
		if _, span := limited.begin(callctx.With(ctx, new(callctx.Info)), &object.Call{}); span != nil {
			span.End(nil)
		}
	}
	if made := len(kept.Ended()) - before; made < maxAsked || made >= 5*maxAsked {
		t.Errorf("%d spans of %d", made, 10*maxAsked)
	}
}

// Frames of streams name the place of their own call, and of no other; what is none there
// does no harm either.
func TestAFrameNamesItsCallsTrace(t *testing.T) {
	s, _, places := traced(t)
	k, p := talk(t, t.Context(), dial(t, s)), socketTo(t, s)
	ask := func(number uint64, parent, state string) []*callctx.Trace {
		t.Helper()
		f := askFor(number, "Join", nil)
		f.Traceparent, f.Tracestate = parent, state
		k.say(f)
		byStream := <-places
		if a := k.next(); a.Call != number || a.GetCallObject() == nil {
			t.Errorf("%q is answered %v", parent, a)
		}
		p.say(fmt.Sprintf(`{"op":"call","seq":%d,"type":"Room","id":"x","method":"Join","traceparent":%q,"tracestate":%q}`, number, parent, state))
		bySocket := <-places
		if f := p.next(); f.Seq != int64(number) || f.Error != "" {
			t.Errorf("%q is answered %+v", parent, f)
		}
		return []*callctx.Trace{byStream, bySocket}
	}
	for _, at := range ask(1, parent, "v=1") {
		if !strings.HasPrefix(at.String(), "00-"+traceID+"-") || at.String() == parent || at.State != "v=1" {
			t.Errorf("the cluster hears %q %q", at, at.State)
		}
	}
	for i, bad := range []string{"", "x", strings.Repeat("0", 4000), strings.TrimSuffix(parent, "1") + "0"} {
		for _, at := range ask(uint64(2+i), bad, strings.Repeat("a=1,", 1000)) {
			if at.Given() {
				t.Errorf("%.60q is traced as %s", bad, at)
			}
		}
	}
}
