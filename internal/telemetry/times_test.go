package telemetry

import (
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/xiaonanln/goverse/internal/event"
)

// read collects as Prometheus does that asks for a format, and parses what comes.
func read(t *testing.T, m *Metrics, format expfmt.Format) map[string]*dto.MetricFamily {
	t.Helper()
	r := httptest.NewRequest("GET", "/metrics", nil)
	r.Header.Set("Accept", string(format))
	w := httptest.NewRecorder()
	m.ServeHTTP(w, r)
	families := map[string]*dto.MetricFamily{}
	for d := expfmt.NewDecoder(w.Body, expfmt.ResponseFormat(w.Header())); ; {
		f := new(dto.MetricFamily)
		if err := d.Decode(f); err == io.EOF {
			return families
		} else if err != nil {
			t.Fatal(err)
		}
		families[f.GetName()] = f
	}
}

// A call of a trace that is kept leaves the trace's id in its bucket, and nothing else of
// the call; who asks for the old text format gets none.
func TestACallsTraceIsItsExemplar(t *testing.T) {
	m := NewMetrics(nil)
	l := m.Listener()
	before := time.Now()
	l.CallDone(event.CallDone{Type: "Room", ID: "secret", Method: "Join", Took: 3 * time.Millisecond, Trace: &[16]byte{0xab, 15: 1}})
	l.CallDone(event.CallDone{Type: "Room", ID: "secret", Method: "Join", Took: 3 * time.Millisecond})
	l.CallDone(event.CallDone{Type: "Room", ID: "secret", Method: "Join", Took: time.Second})
	h := read(t, m, expfmt.NewFormat(expfmt.TypeProtoDelim))["goverse_call_duration_seconds"].GetMetric()[0].GetHistogram()
	traced := 0
	for _, b := range h.GetBucket() {
		e := b.GetExemplar()
		if e == nil {
			continue
		}
		traced++
		if b.GetUpperBound() != 0.005 || e.GetValue() != 0.003 || e.GetTimestamp().AsTime().Before(before) || len(e.GetLabel()) != 1 ||
			e.GetLabel()[0].GetName() != "trace_id" || e.GetLabel()[0].GetValue() != "ab000000000000000000000000000001" {
			t.Errorf("bucket %v has %v", b.GetUpperBound(), e)
		}
	}
	if traced != 1 || h.GetSampleCount() != 3 {
		t.Errorf("%d exemplars of %d calls", traced, h.GetSampleCount())
	}
	for accept, want := range map[string]int{"text/plain;version=0.0.4": 0, "application/openmetrics-text;version=1.0.0": 1} {
		r := httptest.NewRequest("GET", "/metrics", nil)
		r.Header.Set("Accept", accept)
		w := httptest.NewRecorder()
		m.ServeHTTP(w, r)
		if got := strings.Count(w.Body.String(), `# {trace_id="ab000000000000000000000000000001"} 0.003 `); got != want || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%s: %d exemplars in\n%s", accept, got, w.Body.String())
		}
	}
}

// What is counted while somebody collects is neither lost nor counted twice.
func TestTimesAreCollectedWhileTheyAreCounted(t *testing.T) {
	const writers, each = 4, 5000
	registry := prometheus.NewRegistry()
	m := NewMetrics(registry)
	var writing, collecting sync.WaitGroup
	done := make(chan struct{})
	for w := range 2 {
		collecting.Go(func() {
			for last := uint64(0); ; {
				h := read(t, m, expfmt.NewFormat(expfmt.TypeProtoDelim))["goverse_turn_duration_seconds"].GetMetric()
				if len(h) > 0 {
					now := h[0].GetHistogram().GetSampleCount()
					if now < last || h[0].GetHistogram().GetBucket()[len(bounds)-1].GetCumulativeCount() > now {
						t.Errorf("collector %d: %d after %d", w, now, last)
					}
					last = now
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	l := m.Listener()
	for range writers {
		writing.Go(func() {
			for range each {
				l.TurnDone(event.TurnDone{Type: "Room", Held: time.Millisecond})
			}
		})
	}
	writing.Wait()
	close(done)
	collecting.Wait()
	h := read(t, m, expfmt.NewFormat(expfmt.TypeProtoDelim))["goverse_turn_duration_seconds"].GetMetric()[0].GetHistogram()
	if sum := h.GetSampleSum(); h.GetSampleCount() != writers*each || sum < 19.999 || sum > 20.001 {
		t.Errorf("%d turns of %v s", h.GetSampleCount(), sum)
	}
}

// Names that share a place on the shelf are counted apart.
func TestNamesThatLookAlike(t *testing.T) {
	m := NewMetrics(nil)
	l := m.Listener()
	alike := []string{"aXbYc", "aZbWc", "a1b2c", "aXbYc"} // of one length, and with the letters that count
	for range 3 {
		for _, name := range alike {
			l.CallDone(event.CallDone{Type: "Room", Method: name})
			l.TurnDone(event.TurnDone{Type: name})
		}
		l.CallDone(event.CallDone{})
	}
	for i, want := range []int{6, 3, 3} {
		holds(t, m, fmt.Sprintf(`goverse_call_duration_seconds_count{method="%s",outcome="ok",type="Room"} %d`, alike[i], want))
		holds(t, m, fmt.Sprintf(`goverse_turn_duration_seconds_count{type="%s"} %d`, alike[i], want))
	}
	holds(t, m, `goverse_call_duration_seconds_count{method="",outcome="ok",type=""} 3`)
}
