package telemetry

import (
	"encoding/hex"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// times is a histogram of how long things took, by up to three labels. It is Prometheus'
// to look at, and cheaper to add to than Prometheus' own: two additions, where most
// calls pass by. All methods may be called concurrently.
type times struct {
	desc *prometheus.Desc

	known atomic.Pointer[map[labels]*series] // never changed in place: there are few
	mu    sync.Mutex                         // of who adds to known, or collects
}

// labels are the values of one series, those that it has; the others are empty.
type labels [3]string

// bounds are the upper ends of the buckets: of what takes as long as a call, from a local
// one to its deadline.
var bounds = [...]time.Duration{
	50 * time.Microsecond, 100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second,
	10 * time.Second, 30 * time.Second,
}

// series is the counts of one set of labels.
type series struct {
	values  []string
	counts  [len(bounds) + 1]atomic.Uint64 // by bucket; the last is beyond all bounds
	sum     atomic.Int64                   // nanoseconds, since somebody collected it
	samples [len(bounds) + 1]atomic.Pointer[sample]

	before float64 // seconds that were collected; its histogram's mu protects it
}

// sample is one of a bucket, and the trace that tells of it.
type sample struct {
	trace [16]byte
	took  time.Duration
	at    time.Time
}

func newTimes(name, help string, names ...string) *times {
	t := &times{desc: prometheus.NewDesc(name, help, names, nil)}
	t.known.Store(&map[labels]*series{})
	return t
}

// of is the series of some values, as many as the histogram has labels.
func (t *times) of(values ...string) *series {
	var key labels
	copy(key[:], values)
	if s, ok := (*t.known.Load())[key]; ok {
		return s
	}
	return t.add(key, len(values))
}

func (t *times) add(key labels, many int) *series {
	t.mu.Lock()
	defer t.mu.Unlock()
	known := *t.known.Load()
	if s, ok := known[key]; ok {
		return s
	}
	grown := maps.Clone(known)
	s := &series{values: append([]string(nil), key[:many]...)}
	grown[key] = s
	t.known.Store(&grown)
	return s
}

// note counts something that took so long.
func (s *series) note(took time.Duration) {
	s.counts[bucketOf(took)].Add(1)
	s.sum.Add(int64(took))
}

// noteIn is note of something that a trace tells of; nil: none does.
func (s *series) noteIn(trace *[16]byte, took time.Duration) {
	s.note(took)
	if trace != nil {
		s.samples[bucketOf(took)].Store(&sample{*trace, took, time.Now()})
	}
}

func bucketOf(took time.Duration) int {
	for i := range bounds { // what is quick is found quickly
		if took <= bounds[i] {
			return i
		}
	}
	return len(bounds)
}

// Describe implements prometheus.Collector.
func (t *times) Describe(to chan<- *prometheus.Desc) { to <- t.desc }

// Collect implements prometheus.Collector.
func (t *times) Collect(to chan<- prometheus.Metric) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range *t.known.Load() {
		to <- s.metric(t.desc)
	}
}

// metric is how the series stands. Its histogram's mu is held.
func (s *series) metric(desc *prometheus.Desc) prometheus.Metric {
	s.before += float64(s.sum.Swap(0)) / float64(time.Second) // before it can overflow
	var count uint64
	upTo := make(map[float64]uint64, len(bounds))
	for i := range s.counts {
		count += s.counts[i].Load()
		if i < len(bounds) {
			upTo[bounds[i].Seconds()] = count
		}
	}
	m := prometheus.MustNewConstHistogram(desc, count, s.before, upTo, s.values...)
	if traced := s.exemplars(); len(traced) > 0 {
		return prometheus.MustNewMetricWithExemplars(m, traced...)
	}
	return m
}

func (s *series) exemplars() (list []prometheus.Exemplar) {
	for i := range s.samples {
		if e := s.samples[i].Load(); e != nil {
			list = append(list, prometheus.Exemplar{
				Value: e.took.Seconds(), Timestamp: e.at, Labels: prometheus.Labels{"trace_id": hex.EncodeToString(e.trace[:])},
			})
		}
	}
	return list
}
