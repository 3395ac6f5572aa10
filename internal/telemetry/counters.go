package telemetry

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/xiaonanln/goverse/internal/event"
)

// Counters counts what happens since the process began, for tools that collect it over
// HTTP in Prometheus' text format. The zero value is ready; it may be used concurrently.
type Counters struct {
	limits    [event.NumLimits]atomic.Int64
	denied    [event.NumDenials]atomic.Int64
	sensitive [event.NumSensitive]atomic.Int64
}

// Listener is what counts.
func (c *Counters) Listener() event.Listener {
	return event.Listener{
		LimitReached:       func(e event.LimitReached) { c.limits[e.Limit].Add(1) },
		AccessDenied:       func(e event.AccessDenied) { c.denied[e.Why].Add(1) },
		SensitiveOperation: func(e event.SensitiveOperation) { c.sensitive[e.What].Add(1) },
	}
}

// ServeHTTP implements http.Handler.
func (c *Counters) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = io.WriteString(w, c.String()) // the reader may have left
}

// String is what ServeHTTP answers. Each limit and each kind of event has a line, also one
// that never was.
func (c *Counters) String() string {
	var b strings.Builder
	series(&b, "goverse_limit_reached_total", "How often something was refused, given up or sent away because of a bound.", "limit", event.Limit.String, c.limits[:])
	series(&b, "goverse_access_denied_total", "How often somebody was refused what is not for him.", "reason", event.Denial.String, c.denied[:])
	series(&b, "goverse_sensitive_operations_total", "What clients created and deleted, and operators looked into.", "operation", event.Sensitive.String, c.sensitive[:])
	return b.String()
}

// series writes the counters of one kind.
func series[K ~uint8](b *strings.Builder, name, help, label string, value func(K) string, counts []atomic.Int64) {
	fmt.Fprintf(b, "# HELP %s %s\n# TYPE %s counter\n", name, help, name)
	for i := range counts {
		fmt.Fprintf(b, "%s{%s=%q} %d\n", name, label, value(K(i)), counts[i].Load())
	}
}
