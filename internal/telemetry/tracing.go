package telemetry

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/tracing"
)

// TracerProvider is OpenTelemetry's.
type TracerProvider = trace.TracerProvider

// Tracing says where spans go. What it leaves open OpenTelemetry's variables in the
// environment say (OTEL_EXPORTER_OTLP_…, OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME,
// OTEL_RESOURCE_ATTRIBUTES, OTEL_BSP_…; OTEL_SDK_DISABLED turns it off).
type Tracing struct {
	// Endpoint is a collector that speaks OTLP over gRPC: host:port or http://host:port in
	// plain text, https://host:port with TLS.
	Endpoint string
	// Ratio is the part of the traces that begin here which is kept, 0 to 1; what others
	// have begun is kept where they keep it. 0: OTEL_TRACES_SAMPLER, else 0.01.
	Ratio float64
}

// Check tells what is wrong.
func (t Tracing) Check() error {
	var errs []error
	if t.Ratio < 0 || t.Ratio > 1 || t.Ratio != t.Ratio {
		errs = append(errs, fmt.Errorf("Tracing.Ratio (--trace-ratio) is %v; it is a part of all traces, 0 to 1", t.Ratio))
	}
	if t.Endpoint != "" {
		u, err := url.Parse(t.url())
		if err != nil || u.Port() == "" || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
			errs = append(errs, fmt.Errorf("Tracing.Endpoint (--trace-otlp) is %q; give host:port of a collector that speaks OTLP over gRPC, as in localhost:4317", t.Endpoint))
		}
	}
	return errors.Join(errs...)
}

func (t Tracing) url() string {
	if strings.Contains(t.Endpoint, "://") {
		return t.Endpoint
	}
	return "http://" + t.Endpoint
}

// wanted says that somebody has named a collector.
func (t Tracing) wanted() bool {
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") || strings.EqualFold(os.Getenv("OTEL_TRACES_EXPORTER"), "none") {
		return false
	}
	return t.Endpoint != "" || os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
}

const (
	defaultRatio = 0.01
	lastSpans    = 2 * time.Second // for what waits to be sent, at the end
)

// Open returns the tracer of a "node" or a "gate" at an address, by a program's own
// provider or else by what t says, nil where nothing is traced; and what ends it, which
// waits 2 s at the longest for what was not sent. A collector that does not answer holds up
// no call: what does not fit into the exporter's queue is dropped.
func (t Tracing) Open(given TracerProvider, role, address string, on event.Listener) (callctx.Tracer, func(), error) {
	if given != nil || !t.wanted() {
		return tracing.New(given, role, address, nil), func() {}, nil
	}
	options := []otlptracegrpc.Option{otlptracegrpc.WithTimeout(5 * time.Second)}
	if t.Endpoint != "" {
		options = append(options, otlptracegrpc.WithEndpointURL(t.url()))
	}
	exporter, err := otlptracegrpc.New(context.Background(), options...) // it connects later
	if err != nil {
		return nil, nil, fmt.Errorf("traces cannot be sent to %s: %w", t.Endpoint, err)
	}
	may, sampling := t.sampling()
	p := sdktrace.NewTracerProvider(append(sampling, sdktrace.WithBatcher(told{exporter, on}), sdktrace.WithResource(origin(role, address)))...)
	return tracing.New(p, role, address, may), func() {
		ctx, cancel := context.WithTimeout(context.Background(), lastSpans)
		defer cancel()
		_ = p.Shutdown(ctx) // told has said what it failed of
	}, nil
}

// sampling is the program's word, then the environment's, then the default. What is ours
// to decide is decided before OpenTelemetry is asked, for which a trace that is not kept costs
// nearly as much as a call.
func (t Tracing) sampling() (may func() bool, options []sdktrace.TracerProviderOption) {
	ratio := t.Ratio
	if ratio == 0 {
		if os.Getenv("OTEL_TRACES_SAMPLER") != "" {
			return nil, nil
		}
		ratio = defaultRatio
	}
	may = func() bool { return rand.Float64() < ratio }
	return may, []sdktrace.TracerProviderOption{sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.AlwaysSample()))}
}

// origin is who sends the spans; the environment's word is the last.
func origin(role, address string) *resource.Resource {
	own := resource.NewSchemaless(attribute.String("service.name", "goverse-"+role), attribute.String("service.instance.id", address))
	environment, err := resource.New(context.Background(), resource.WithFromEnv(), resource.WithTelemetrySDK())
	if err != nil {
		return own
	}
	both, err := resource.Merge(own, environment)
	if err != nil {
		return own
	}
	return both
}

// told tells of spans that could not be sent.
type told struct {
	sdktrace.SpanExporter
	on event.Listener
}

// ExportSpans implements sdktrace.SpanExporter.
func (t told) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := t.SpanExporter.ExportSpans(ctx, spans)
	if err != nil && t.on.Notice != nil {
		t.on.Notice(event.Notice{Severity: event.Warn, From: "traces", Text: fmt.Sprintf("%d spans are lost", len(spans)), Err: err})
	}
	return nil
}
