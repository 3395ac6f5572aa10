package telemetry

import (
	"context"
	"net"
	"os"
	"strings"
	"sync"
	"testing"

	collector_pb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/event"
)

// collector takes spans, or refuses all.
type collector struct {
	collector_pb.UnimplementedTraceServiceServer
	refuse error
	got    chan *collector_pb.ExportTraceServiceRequest
}

func (c *collector) Export(_ context.Context, r *collector_pb.ExportTraceServiceRequest) (*collector_pb.ExportTraceServiceResponse, error) {
	c.got <- r
	return new(collector_pb.ExportTraceServiceResponse), c.refuse
}

// collect starts a collector and returns its address.
func collect(t *testing.T, c *collector) string {
	t.Helper()
	for _, name := range []string{"SDK_DISABLED", "TRACES_EXPORTER", "TRACES_SAMPLER", "SERVICE_NAME", "RESOURCE_ATTRIBUTES", "EXPORTER_OTLP_ENDPOINT", "EXPORTER_OTLP_TRACES_ENDPOINT"} {
		t.Setenv("OTEL_"+name, "") // which puts it back
		if err := os.Unsetenv("OTEL_" + name); err != nil {
			t.Fatal(err)
		}
	}
	c.got = make(chan *collector_pb.ExportTraceServiceRequest, 100)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	collector_pb.RegisterTraceServiceServer(s, c)
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(l) })
	t.Cleanup(func() { s.Stop(); serving.Wait() })
	return l.Addr().String()
}

var asked = callctx.Stretch{Kind: callctx.Asked, Root: true, Op: "CallObject", Type: "Room", ID: "x", Method: "Join"}

// notices keeps what is said.
func notices() (event.Listener, chan event.Notice) {
	said := make(chan event.Notice, 100)
	return event.Listener{Notice: func(n event.Notice) { said <- n }}, said
}

// What was not sent when the process ends still reaches the collector, and says who sent it.
func TestSpansReachACollector(t *testing.T) {
	c := new(collector)
	address := collect(t, c)
	on, said := notices()
	for _, by := range []string{"the program", "the environment"} {
		tracing := Tracing{Endpoint: address, Ratio: 1}
		if by == "the environment" {
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+address)
			t.Setenv("OTEL_SERVICE_NAME", "shop")
			tracing.Endpoint = ""
		}
		tracer, end, err := tracing.Open(nil, "gate", "g:1", on)
		if err != nil {
			t.Fatal(err)
		}
		_, span := tracer.Begin(t.Context(), asked)
		span.End(nil)
		end()
		if len(c.got) != 1 || len(said) > 0 {
			t.Fatalf("by %s: %d requests, %d notices", by, len(c.got), len(said))
		}
		got := (<-c.got).ResourceSpans[0]
		of := map[string]string{}
		for _, a := range got.Resource.Attributes {
			of[a.Key] = a.Value.GetStringValue()
		}
		want := map[string]string{"the program": "goverse-gate", "the environment": "shop"}[by]
		if of["service.name"] != want || of["service.instance.id"] != "g:1" {
			t.Errorf("by %s: the spans are of %v", by, of)
		}
		if s := got.ScopeSpans[0].Spans; len(s) != 1 || s[0].Name != "gate Room.Join" {
			t.Errorf("by %s: %v", by, s)
		}
	}
}

// Spans that a collector refuses are told of.
func TestSpansThatAreLost(t *testing.T) {
	c := &collector{refuse: status.Error(codes.InvalidArgument, "no room")}
	address := collect(t, c)
	on, said := notices()
	tracer, end, err := Tracing{Endpoint: address, Ratio: 1}.Open(nil, "node", "n:1", on)
	if err != nil {
		t.Fatal(err)
	}
	_, span := tracer.Begin(t.Context(), asked)
	span.End(nil)
	end()
	if len(said) != 1 {
		t.Fatalf("%d notices", len(said))
	}
	if n := <-said; n.Severity != event.Warn || n.Text != "1 spans are lost" || !strings.Contains(n.Err.Error(), "no room") {
		t.Errorf("it says %+v", n)
	}
}

// Nothing is made where nobody named a collector or gave a provider, or OpenTelemetry is
// turned off; and where only the ratio is not given, few traces are kept.
func TestWithoutACollector(t *testing.T) {
	address := collect(t, new(collector))
	if tracer, end, err := (Tracing{Ratio: 1}).Open(nil, "node", "n:1", event.Listener{}); tracer != nil || err != nil {
		t.Errorf("without an endpoint: %v %v", tracer, err)
	} else {
		end()
	}
	tracer, end, err := Tracing{Endpoint: address}.Open(nil, "node", "n:1", event.Listener{})
	if err != nil {
		t.Fatal(err)
	}
	kept := 0
	for range 1000 {
		if _, span := tracer.Begin(t.Context(), asked); span != nil {
			span.End(nil)
			kept++
		}
	}
	if end(); kept > 100 { // 10 are expected
		t.Errorf("%d of 1000 traces are kept", kept)
	}
	t.Setenv("OTEL_SDK_DISABLED", "true")
	if tracer, _, err := (Tracing{Endpoint: address, Ratio: 1}).Open(nil, "node", "n:1", event.Listener{}); tracer != nil || err != nil {
		t.Errorf("turned off: %v %v", tracer, err)
	}
}

func TestTracingIsChecked(t *testing.T) {
	for _, bad := range []Tracing{{Ratio: -0.1}, {Ratio: 1.1}, {Endpoint: "collector"}, {Endpoint: ":4317"}, {Endpoint: "ftp://c:4317"}, {Endpoint: "a b:1"}} {
		if bad.Check() == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
	for _, good := range []Tracing{{}, {Ratio: 1}, {Endpoint: "localhost:4317"}, {Endpoint: "[::1]:4317", Ratio: 0.5}, {Endpoint: "https://c.example:4317"}} {
		if err := good.Check(); err != nil {
			t.Error(err)
		}
	}
}
