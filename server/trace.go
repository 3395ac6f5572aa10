package server

import (
	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/telemetry"
)

// TracerProvider is OpenTelemetry's trace.TracerProvider.
type TracerProvider = telemetry.TracerProvider

// Tracing says where spans go.
type Tracing = telemetry.Tracing

// trace gives the node its tracer, which ends behind everything else.
func (r *assembly) trace() (callctx.Tracer, error) {
	t, end, err := r.cfg.Tracing.Open(r.cfg.TracerProvider, "node", r.cfg.AdvertiseAddress, r.events)
	if err != nil {
		return nil, err
	}
	r.closers.add(func() error { end(); return nil })
	r.Node.SetTracer(t)
	return t, nil
}
