package telemetry

import (
	"fmt"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// Reference is docs/reference/metrics.md.
func Reference() string {
	var b strings.Builder
	b.WriteString(referenceHead)
	for _, d := range NewMetrics(prometheus.NewRegistry()).described() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", d.name, d.kind, strings.Join(d.labels, ", "), d.help)
	}
	return b.String()
}

const referenceHead = `<!-- Written by internal/telemetry; go test ./internal/telemetry -update writes it anew. -->
# Metrics

Nodes and gates show these at ` + "`/metrics`" + ` of their operations port, as Prometheus collects them, beside those of the Go runtime and the
process; ` + "`goverse inspector`" + ` does at ` + "`/metrics`" + ` of its page, to those whom the page is shown. A program that has a registry of
its own gives it to ` + "`ServerConfig.MetricsRegistry`" + ` and ` + "`GateServerConfig.MetricsRegistry`" + `.

Times are in seconds. Labels are names of types and methods and words of this list, never ids; a type or method that no call
has ever run counts as ` + "`other`" + `, so that clients cannot add series. The outcome of a call is ` + "`ok`" + ` or the kind of its error.
` + "`deploy/grafana`" + ` has a dashboard and alert rules.

| metric | type | labels | meaning |
|---|---|---|---|
`

// description is one metric in words.
type description struct {
	name, kind, help string
	labels           []string
}

// described is what each metric is, by name. It makes a series of each: it is for a
// registry that nobody collects.
func (m *Metrics) described() (list []description) {
	m.calls.times.of("x", "x", "x")
	for _, t := range []*times{m.turns, m.commits, m.handovers} {
		t.of("x")
	}
	for _, t := range []*times{m.turnWaits, m.stores, m.etcds} {
		t.of("x", "x")
	}
	m.active.WithLabelValues("x")
	for _, c := range []*prometheus.CounterVec{m.activations, m.panics, m.stuck, m.pushes} {
		c.WithLabelValues("x")
	}
	m.coordination.WithLabelValues("x", "x")
	families, _ := m.registry.Gather() // all are ours, and consistent
	for _, f := range families {
		d := description{name: f.GetName(), kind: strings.ToLower(f.GetType().String()), help: f.GetHelp()}
		for _, l := range f.GetMetric()[0].GetLabel() {
			d.labels = append(d.labels, l.GetName())
		}
		list = append(list, d)
	}
	slices.SortFunc(list, func(a, b description) int { return strings.Compare(a.name, b.name) })
	return list
}
