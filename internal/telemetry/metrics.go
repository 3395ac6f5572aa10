package telemetry

import (
	"errors"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/expfmt"

	"github.com/xiaonanln/goverse/internal/event"
)

// Metrics counts and measures what happens, for tools that collect it over HTTP as
// Prometheus does. Its labels are types, methods and words of ours, never ids, and no
// stranger can add to them. All methods may be called concurrently.
type Metrics struct {
	registry *prometheus.Registry
	calls    calls

	turns        *times
	often        shelf // of turns
	turnWaits    *times
	commits      *times
	commitSize   prometheus.Histogram
	handovers    *times
	stores       *times
	etcds        *times
	passed       [event.NumLegs]*series
	activations  *prometheus.CounterVec
	active       *prometheus.GaugeVec
	panics       *prometheus.CounterVec
	stuck        *prometheus.CounterVec
	shards       prometheus.Gauge
	sessions     prometheus.Gauge
	opened       prometheus.Counter
	pushes       *prometheus.CounterVec
	revision     prometheus.Gauge
	leaders      prometheus.Counter
	coordination *prometheus.CounterVec

	limits    [event.NumLimits]prometheus.Counter
	denied    [event.NumDenials]prometheus.Counter
	sensitive [event.NumSensitive]prometheus.Counter
}

// NewMetrics keeps its metrics in registry; nil is one of its own, with those of the Go
// runtime and of the process. Several may share one registry, and then count together. It
// panics when the registry has other metrics by our names: that is a mistake in the
// program.
func NewMetrics(registry *prometheus.Registry) *Metrics {
	if registry == nil {
		registry = prometheus.NewRegistry()
		registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	}
	m := &Metrics{registry: registry}
	m.calls.init(m.histogram("goverse_call_duration_seconds", "How long calls of methods took on the node of their object, its queue included.", "type", "method", "outcome"))
	m.turns = m.histogram("goverse_turn_duration_seconds", "How long objects' turns were held; methods of Concurrent types take none.", "type")
	m.turnWaits = m.histogram("goverse_turn_wait_duration_seconds", "How long calls waited for their object's turn, of those that had to wait.", "type", "outcome")
	m.commits = m.histogram("goverse_commit_duration_seconds", "How long the store took for a group commit.", "outcome")
	m.commitSize = of(m, prometheus.NewHistogram(prometheus.HistogramOpts{Name: "goverse_commit_objects", Help: "How many objects a group commit saved.", Buckets: prometheus.ExponentialBuckets(1, 2, 12)}))
	m.handovers = m.histogram("goverse_handover_duration_seconds", "How long a shard took to be emptied, and what it held to be laid at the next node.", "outcome")
	m.stores = m.histogram("goverse_store_operation_duration_seconds", "How long the store took for what a node asked of it.", "operation", "outcome")
	m.etcds = m.histogram("goverse_etcd_operation_duration_seconds", "How long etcd took for a request; refused: what it was to depend on was not so.", "operation", "outcome")
	passed := m.histogram("goverse_push_duration_seconds", "How long pushes took, on the object's node until they left for a gate (its commit included), and on a gate until the client's connection took them.", "where")
	for leg := range m.passed {
		m.passed[leg] = passed.of(event.Leg(leg).String())
	}
	m.activations = m.counter("goverse_object_activations_total", "How often objects came to life.", "type")
	m.active = of(m, prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "goverse_objects_active", Help: "How many objects live in memory."}, []string{"type"}))
	m.panics = m.counter("goverse_method_panics_total", "How often methods panicked.", "type")
	m.stuck = m.counter("goverse_methods_stuck_total", "How often methods ran for three times as long as their type allows.", "type")
	m.shards = m.gauge("goverse_shards_open", "How many shards this node serves.")
	m.sessions = m.gauge("goverse_sessions", "How many clients have a session at this gate.")
	m.opened = of(m, prometheus.NewCounter(prometheus.CounterOpts{Name: "goverse_sessions_opened_total", Help: "How many sessions were opened."}))
	m.pushes = m.counter("goverse_pushes_dropped_total", "How many pushed messages were given up, by nodes on their way to a gate and by gates on their way to a client.", "where")
	m.revision = m.gauge("goverse_view_revision", "The revision of etcd that this member's picture of the cluster is at.")
	m.leaders = of(m, prometheus.NewCounter(prometheus.CounterOpts{Name: "goverse_leader_changes_total", Help: "How often this member saw another leader, or none."}))
	m.coordination = m.counter("goverse_coordination_steps_total", "The steps of shards' and members' lives that this member took.", "step", "outcome")
	words(m, m.limits[:], "goverse_limit_reached_total", "How often something was refused, given up or sent away because of a bound.", "limit", event.Limit.String)
	words(m, m.denied[:], "goverse_access_denied_total", "How often somebody was refused what is not for him.", "reason", event.Denial.String)
	words(m, m.sensitive[:], "goverse_sensitive_operations_total", "What clients created and deleted, and operators looked into and ordered.", "operation", event.Sensitive.String)
	return m
}

// of registers a collector, or takes the one that is registered by that name.
func of[C prometheus.Collector](m *Metrics, c C) C {
	var there prometheus.AlreadyRegisteredError
	switch err := m.registry.Register(c); {
	case err == nil:
		return c
	case errors.As(err, &there):
		if same, ok := there.ExistingCollector.(C); ok {
			return same
		}
		fallthrough
	default:
		panic("goverse: MetricsRegistry: " + err.Error())
	}
}

func (m *Metrics) histogram(name, help string, labels ...string) *times {
	return of(m, newTimes(name, help, labels...))
}

func (m *Metrics) counter(name, help string, labels ...string) *prometheus.CounterVec {
	return of(m, prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels))
}

func (m *Metrics) gauge(name, help string) prometheus.Gauge {
	return of(m, prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help}))
}

// words makes a counter with a series for each word that there is, from the beginning.
func words[K ~uint8](m *Metrics, to []prometheus.Counter, name, help, label string, word func(K) string) {
	vec := m.counter(name, help, label)
	for i := range to {
		to[i] = vec.WithLabelValues(word(K(i)))
	}
}

// Listener is what counts.
func (m *Metrics) Listener() event.Listener {
	return event.Listener{
		CallDone: m.calls.done,
		CommitDone: func(e event.CommitDone) {
			m.commits.of(outcome(e.Err)).note(e.Took)
			m.commitSize.Observe(float64(e.Objects))
		},
		HandoverDone: func(e event.HandoverDone) {
			m.handovers.of(outcome(e.Err)).note(e.Took)
		},
		TurnDone:    func(e event.TurnDone) { m.turnOf(e.Type).note(e.Held) },
		TurnAwaited: func(e event.TurnAwaited) { m.turnWaits.of(e.Type, outcome(e.Err)).note(e.Took) },
		StoreDone:   func(e event.StoreDone) { m.stores.of(e.Operation.String(), outcome(e.Err)).note(e.Took) },
		EtcdDone:    func(e event.EtcdDone) { m.etcds.of(e.Operation.String(), etcdOutcome(e)).note(e.Took) },
		PushPassed:  func(e event.PushPassed) { m.passed[e.Leg].note(e.Took) },
		ObjectActivated: func(e event.ObjectActivated) {
			m.activations.WithLabelValues(e.Type).Inc()
			m.active.WithLabelValues(e.Type).Inc()
		},
		ObjectDeactivated: func(e event.ObjectDeactivated) { m.active.WithLabelValues(e.Type).Dec() },
		MethodPanicked:    func(e event.MethodPanicked) { m.panics.WithLabelValues(m.calls.typeOf(e.Type)).Inc() },
		MethodStuck:       func(e event.MethodStuck) { m.stuck.WithLabelValues(e.Type).Inc() },
		ShardOpened:       func(event.ShardOpened) { m.shards.Inc() },
		ShardClosed:       func(event.ShardClosed) { m.shards.Dec() },
		SessionOpened:     func(event.SessionOpened) { m.sessions.Inc(); m.opened.Inc() },
		SessionClosed:     func(event.SessionClosed) { m.sessions.Dec() },
		PushDropped:       func(e event.PushDropped) { m.pushes.WithLabelValues(where(e)).Add(float64(e.Count)) },
		ViewChanged:       func(e event.ViewChanged) { m.revision.Set(float64(e.Revision)) },
		LeaderChanged:     func(event.LeaderChanged) { m.leaders.Inc() },
		Coordination:      func(e event.Coordination) { m.coordination.WithLabelValues(e.Step, outcome(e.Err)).Inc() },

		LimitReached:       func(e event.LimitReached) { m.limits[e.Limit].Inc() },
		AccessDenied:       func(e event.AccessDenied) { m.denied[e.Why].Inc() },
		SensitiveOperation: func(e event.SensitiveOperation) { m.sensitive[e.What].Inc() },
	}
}

func (m *Metrics) turnOf(typ string) *series {
	s := m.often.find(typ, "")
	if s == nil {
		s = m.turns.of(typ)
		m.often.keep(typ, "", s)
	}
	return s
}

// outcome is ok or failed.
func outcome(err error) string {
	if err != nil {
		return "failed"
	}
	return "ok"
}

// etcdOutcome is also refused, of a commit whose guards did not hold.
func etcdOutcome(e event.EtcdDone) string {
	if e.Refused {
		return "refused"
	}
	return outcome(e.Err)
}

// where a push was dropped: a client's id has a slash, a gate's address has none.
func where(e event.PushDropped) string {
	if strings.Contains(e.ClientID, "/") {
		return "gate"
	}
	return "node"
}

// ServeHTTP implements http.Handler.
func (m *Metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{EnableOpenMetrics: true}).ServeHTTP(w, r)
}

// String is all metrics in Prometheus' text format.
func (m *Metrics) String() string {
	families, _ := m.registry.Gather() // what could not be collected is left out
	var b strings.Builder
	for _, f := range families {
		_, _ = expfmt.MetricFamilyToText(&b, f) // into memory
	}
	return b.String()
}
