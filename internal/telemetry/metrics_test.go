package telemetry

import (
	"flag"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
)

var update = flag.Bool("update", false, "write docs/reference/metrics.md and logs.md anew")

// scrape reads the page as Prometheus does: the number of series of each metric.
func scrape(t *testing.T, m *Metrics) map[string]int {
	t.Helper()
	w := httptest.NewRecorder()
	m.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	series := map[string]int{}
	for name, f := range families {
		series[name] = len(f.GetMetric())
	}
	return series
}

// holds says that the page has a line.
func holds(t *testing.T, m *Metrics, want string) {
	t.Helper()
	if text := m.String(); !strings.Contains(text, want+"\n") {
		t.Errorf("%s is missing in\n%s", want, text)
	}
}

// Each event is counted where it belongs.
func TestMetrics(t *testing.T) {
	m := NewMetrics(nil)
	l := m.Listener()
	failed := fault.New(fault.StoreFailed, "no")
	l.CallDone(event.CallDone{Type: "Room", Method: "Join", Took: 3 * time.Millisecond})
	l.CallDone(event.CallDone{Type: "Room", Method: "Join", Took: time.Second, Err: fault.New(fault.Failed, "no")})
	l.CommitDone(event.CommitDone{Objects: 3, Took: time.Millisecond})
	l.CommitDone(event.CommitDone{Objects: 1, Took: time.Millisecond, Err: failed})
	l.HandoverDone(event.HandoverDone{Took: time.Second})
	l.TurnDone(event.TurnDone{Type: "Room", Held: 50 * time.Microsecond})
	l.TurnDone(event.TurnDone{Type: "Room", Held: 50*time.Microsecond + 1})
	l.TurnDone(event.TurnDone{Type: "Room", Held: time.Hour})
	l.TurnAwaited(event.TurnAwaited{Type: "Room", Took: time.Second, Err: failed})
	l.StoreDone(event.StoreDone{Operation: event.StoreFindCall, Took: time.Second})
	l.EtcdDone(event.EtcdDone{Operation: event.EtcdCommit, Took: time.Second, Refused: true})
	l.EtcdDone(event.EtcdDone{Operation: event.EtcdKeepAlive, Took: time.Second, Err: failed})
	l.PushPassed(event.PushPassed{Leg: event.ToClient, Took: 2 * time.Second})
	for range 3 {
		l.ObjectActivated(event.ObjectActivated{Type: "Room"})
		l.ShardOpened(event.ShardOpened{})
		l.SessionOpened(event.SessionOpened{})
		l.LimitReached(event.LimitReached{Limit: event.QueueBytes, Type: "Room", ID: "x"})
	}
	l.ObjectDeactivated(event.ObjectDeactivated{Type: "Room"})
	l.ShardClosed(event.ShardClosed{})
	l.SessionClosed(event.SessionClosed{})
	l.MethodPanicked(event.MethodPanicked{Type: "Room"})
	l.MethodStuck(event.MethodStuck{Type: "Room"})
	l.PushDropped(event.PushDropped{ClientID: "g:1", Count: 4})
	l.PushDropped(event.PushDropped{ClientID: "g:1/c", Count: 5})
	l.ViewChanged(event.ViewChanged{Revision: 17})
	l.LeaderChanged(event.LeaderChanged{})
	l.Coordination(event.Coordination{Step: "claim", Err: failed})
	for _, want := range []string{
		`goverse_call_duration_seconds_count{method="Join",outcome="ok",type="Room"} 1`,
		`goverse_call_duration_seconds_bucket{method="Join",outcome="ok",type="Room",le="0.0025"} 0`,
		`goverse_call_duration_seconds_bucket{method="Join",outcome="ok",type="Room",le="0.005"} 1`,
		`goverse_call_duration_seconds_sum{method="Join",outcome="failed",type="Room"} 1`,
		`goverse_commit_duration_seconds_count{outcome="ok"} 1`, `goverse_commit_duration_seconds_count{outcome="failed"} 1`, `goverse_commit_objects_sum 4`,
		`goverse_handover_duration_seconds_count{outcome="ok"} 1`,
		`goverse_turn_duration_seconds_bucket{type="Room",le="5e-05"} 1`, `goverse_turn_duration_seconds_bucket{type="Room",le="30"} 2`,
		`goverse_turn_duration_seconds_bucket{type="Room",le="+Inf"} 3`, `goverse_turn_duration_seconds_count{type="Room"} 3`,
		`goverse_turn_duration_seconds_sum{type="Room"} 3600.000100001`,
		`goverse_turn_wait_duration_seconds_sum{outcome="failed",type="Room"} 1`,
		`goverse_store_operation_duration_seconds_count{operation="find_call",outcome="ok"} 1`,
		`goverse_etcd_operation_duration_seconds_count{operation="commit",outcome="refused"} 1`,
		`goverse_etcd_operation_duration_seconds_count{operation="keep_alive",outcome="failed"} 1`,
		`goverse_push_duration_seconds_sum{where="gate"} 2`, `goverse_push_duration_seconds_count{where="node"} 0`,
		`goverse_object_activations_total{type="Room"} 3`, `goverse_objects_active{type="Room"} 2`,
		`goverse_shards_open 2`, `goverse_sessions 2`, `goverse_sessions_opened_total 3`,
		`goverse_method_panics_total{type="Room"} 1`, `goverse_methods_stuck_total{type="Room"} 1`,
		`goverse_pushes_dropped_total{where="node"} 4`, `goverse_pushes_dropped_total{where="gate"} 5`,
		`goverse_view_revision 17`, `goverse_leader_changes_total 1`, `goverse_coordination_steps_total{outcome="failed",step="claim"} 1`,
		`goverse_limit_reached_total{limit="queue_bytes"} 3`, `goverse_limit_reached_total{limit="retries"} 0`,
	} {
		holds(t, m, want)
	}
	if series := scrape(t, m); series["goverse_limit_reached_total"] != event.NumLimits || series["go_goroutines"] != 1 {
		t.Errorf("%v", series)
	}
}

// A client that invents names, also concurrently with calls that run, adds no series.
func TestStrangersAddNoSeries(t *testing.T) {
	m := NewMetrics(nil)
	l := m.Listener()
	l.CallDone(event.CallDone{Type: "Room", Method: "Join"})
	var all sync.WaitGroup
	for w := range 4 {
		all.Go(func() {
			for i := range 500 {
				name := fmt.Sprintf("x%d-%d", w, i)
				l.CallDone(event.CallDone{Type: name, ID: name, Method: name, Err: fault.New(fault.UnknownType, "no")})
				l.CallDone(event.CallDone{Type: "Room", ID: name, Method: name, Err: fault.New(fault.UnknownMethod, "no")})
				l.CallDone(event.CallDone{Type: "Room", ID: name, Method: "Join", Err: fault.New(fault.Overloaded, "no")})
				l.CallDone(event.CallDone{Type: "Room", ID: name, Method: "Join", Trace: &[16]byte{byte(i), byte(w), 1}})
				l.MethodPanicked(event.MethodPanicked{Type: name})
				l.LimitReached(event.LimitReached{Type: name, ID: name})
				l.AccessDenied(event.AccessDenied{Type: name, ID: name, User: name, Method: name})
			}
		})
	}
	all.Wait()
	series := scrape(t, m)
	// Room.Join ok and overloaded; other of two kinds, and the one that ended well, of which there is none.
	if series["goverse_call_duration_seconds"] != 5 || series["goverse_method_panics_total"] != 1 {
		t.Errorf("%v", series)
	}
	holds(t, m, `goverse_call_duration_seconds_count{method="Join",outcome="overloaded",type="Room"} 2000`)
	holds(t, m, `goverse_call_duration_seconds_count{method="other",outcome="ok",type="other"} 0`)
}

func TestACallThatIsKnownCostsNoMemory(t *testing.T) {
	l := NewMetrics(nil).Listener()
	e := event.CallDone{Type: "Room", ID: "x", Method: "Join", Took: time.Millisecond}
	once := func() {
		l.CallDone(e)
		l.TurnDone(event.TurnDone{Type: "Room", Held: time.Millisecond})
		l.TurnAwaited(event.TurnAwaited{Type: "Room"})
		l.StoreDone(event.StoreDone{})
		l.PushPassed(event.PushPassed{})
		l.LimitReached(event.LimitReached{})
	}
	once()
	if got := testing.AllocsPerRun(100, once); got > 0 {
		t.Errorf("%v allocations", got)
	}
}

// A node and a gate of one program share its registry, and count together.
func TestARegistryIsShared(t *testing.T) {
	registry := prometheus.NewRegistry()
	a, b := NewMetrics(registry), NewMetrics(registry)
	a.Listener().ShardOpened(event.ShardOpened{})
	b.Listener().ShardOpened(event.ShardOpened{})
	b.Listener().CallDone(event.CallDone{Type: "Room", Method: "Join"})
	holds(t, a, "goverse_shards_open 2")
	holds(t, a, `goverse_call_duration_seconds_count{method="Join",outcome="ok",type="Room"} 1`)
	if series := scrape(t, a); series["go_goroutines"] != 0 {
		t.Error("a program's registry is its own")
	}
	taken := prometheus.NewRegistry()
	taken.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "goverse_shards_open", Help: "mine"}))
	defer func() {
		if recover() == nil {
			t.Error("a program's own metric by our name passed")
		}
	}()
	NewMetrics(taken)
}

func TestReference(t *testing.T) {
	const path = "../../docs/reference/metrics.md"
	if *update {
		if err := os.WriteFile(path, []byte(Reference()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != Reference() {
		t.Errorf("%s is not what the code says; go test ./internal/telemetry -update writes it (%v)", path, err)
	}
}

// Whatever the dashboard and the alerts name is measured, and the other way round.
func TestTheDashboardAndTheAlertsNameWhatThereIs(t *testing.T) {
	known := map[string]bool{}
	for _, d := range NewMetrics(prometheus.NewRegistry()).described() {
		known[d.name] = true
		if d.kind == "histogram" {
			known[d.name+"_bucket"], known[d.name+"_sum"], known[d.name+"_count"] = true, true, true
		}
		if strings.HasSuffix(d.name, "_total") != (d.kind == "counter") {
			t.Errorf("%s is a %s", d.name, d.kind)
		}
	}
	seen := map[string]bool{}
	for _, file := range []string{"dashboard.json", "alerts.yaml"} {
		text, err := os.ReadFile(filepath.Join("../../deploy/grafana", file))
		if err != nil {
			t.Fatal(err)
		}
		names := regexp.MustCompile(`goverse_[a-z_]+`).FindAllString(string(text), -1)
		if len(names) < 10 {
			t.Errorf("%s names only %q", file, names)
		}
		for _, name := range names {
			if !known[name] {
				t.Errorf("%s names %s, which nobody measures", file, name)
			}
			seen[name] = true
		}
	}
	for name := range known {
		base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")
		if !seen[base] && !seen[base+"_bucket"] && !seen[base+"_count"] {
			t.Errorf("nobody looks at %s", name)
		}
	}
}
