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
	limits [event.NumLimits]atomic.Int64
}

// Listener is what counts.
func (c *Counters) Listener() event.Listener {
	return event.Listener{
		LimitReached: func(e event.LimitReached) { c.limits[e.Limit].Add(1) },
	}
}

// ServeHTTP implements http.Handler.
func (c *Counters) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = io.WriteString(w, c.String()) // the reader may have left
}

// String is what ServeHTTP answers. Each limit has a line, also one that was never reached.
func (c *Counters) String() string {
	var b strings.Builder
	const name = "goverse_limit_reached_total"
	fmt.Fprintf(&b, "# HELP %s How often something was refused, given up or sent away because of a bound.\n# TYPE %s counter\n", name, name)
	for l := range event.Limit(event.NumLimits) {
		fmt.Fprintf(&b, "%s{limit=%q} %d\n", name, l.String(), c.limits[l].Load())
	}
	return b.String()
}
