package check

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/exemplar"
	series "github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

// What Prometheus asks for, and what it may be told in an exemplar.
const (
	openMetrics = "application/openmetrics-text;version=1.0.0"
	plainText   = "text/plain;version=0.0.4"
	traceID     = "4bf92f3577b34da6a3ce929d0e0e4736"
)

// A node, a gate and an inspector that live are scraped by Prometheus' own parsers, in both
// text formats. What they tell is what docs/reference/metrics.md says, and nothing else.
func TestScrape(t *testing.T) {
	listed := reference(t)
	for name, url := range liveCluster(t) {
		for _, format := range []string{openMetrics, plainText} {
			p := scrape(t, url, format)
			p.check(t, name+", "+format, listed)
			if traced := p.traced(traceID); traced != (name == "node" && format == openMetrics) {
				t.Errorf("%s, %s: the call's trace is there: %v", name, format, traced)
			}
		}
	}
}

// metric is one in the words of the reference, or of a page.
type metric struct {
	kind, help string
	labels     []string
}

// reference is what docs/reference/metrics.md lists.
func reference(t *testing.T) map[string]metric {
	t.Helper()
	text, err := os.ReadFile("../../docs/reference/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]metric{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(goverse_[a-z_]+)` \\| ([a-z]+) \\| (.*?) \\| (.*) \\|$").FindAllStringSubmatch(string(text), -1) {
		m := metric{kind: row[2], help: row[4]}
		if row[3] != "" {
			m.labels = strings.Split(row[3], ", ")
		}
		listed[row[1]] = m
	}
	if len(listed) < 20 {
		t.Fatalf("the reference lists only %d metrics", len(listed))
	}
	return listed
}

// page is what a process tells.
type page struct {
	metrics   map[string]*metric
	exemplars []string
}

// scrape reads a process's metrics as Prometheus does.
func scrape(t *testing.T, url, format string) *page {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", format)
	reply, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	body, err := io.ReadAll(reply.Body)
	media, _, _ := strings.Cut(format, ";")
	if kind := reply.Header.Get("Content-Type"); err != nil || reply.StatusCode != http.StatusOK || !strings.HasPrefix(kind, media) {
		t.Fatalf("%s: %s, %s, %v", url, reply.Status, kind, err)
	}
	parser, err := textparse.New(body, reply.Header.Get("Content-Type"), "", false, false, false, series.NewSymbolTable())
	if err != nil {
		t.Fatal(err)
	}
	p := &page{metrics: map[string]*metric{}}
	for {
		entry, err := parser.Next()
		if errors.Is(err, io.EOF) {
			return p
		}
		if err != nil {
			t.Fatalf("%s, %s: %v in\n%s", url, format, err, body)
		}
		p.take(entry, parser)
	}
}

// take adds an entry of the page.
func (p *page) take(entry textparse.Entry, parser textparse.Parser) {
	switch entry {
	case textparse.EntryHelp:
		name, help := parser.Help()
		p.of(string(name)).help = string(help)
	case textparse.EntryType:
		name, kind := parser.Type()
		p.of(string(name)).kind = string(kind)
	case textparse.EntrySeries:
		var l series.Labels
		parser.Labels(&l)
		m := p.of(family(l.Get(series.MetricName), p.metrics))
		l.Range(func(one series.Label) {
			if one.Name != series.MetricName && one.Name != "le" && one.Name != "quantile" && !slices.Contains(m.labels, one.Name) {
				m.labels = append(m.labels, one.Name)
			}
		})
		var e exemplar.Exemplar
		for parser.Exemplar(&e) {
			p.exemplars = append(p.exemplars, e.Labels.String())
		}
	}
}

func (p *page) of(name string) *metric {
	if p.metrics[name] == nil {
		p.metrics[name] = new(metric)
	}
	return p.metrics[name]
}

// family is the metric that a series is of.
func family(name string, known map[string]*metric) string {
	for _, suffix := range []string{"", "_total", "_bucket", "_sum", "_count"} {
		if base := strings.TrimSuffix(name, suffix); known[base] != nil {
			return base
		}
	}
	return name
}

func (p *page) traced(trace string) bool {
	return slices.ContainsFunc(p.exemplars, func(e string) bool { return strings.Contains(e, trace) })
}

// check holds the page against the reference.
func (p *page) check(t *testing.T, where string, listed map[string]metric) {
	t.Helper()
	told := map[string]bool{}
	for name, m := range p.metrics {
		if strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_") {
			continue
		}
		if _, ok := listed[name]; !ok {
			name += "_total" // OpenMetrics says it of the series alone
		}
		want, ok := listed[name]
		slices.Sort(m.labels)
		if !ok || m.kind != want.kind || m.help != want.help || len(m.labels) > 0 && !slices.Equal(m.labels, want.labels) {
			t.Errorf("%s: %s is %+v, and in the reference %+v", where, name, *m, want)
		}
		told[name] = true
	}
	for name, want := range listed {
		if len(want.labels) == 0 && !told[name] {
			t.Errorf("%s: %s is not told", where, name)
		}
	}
	if p.metrics["go_goroutines"] == nil || p.metrics["process_open_fds"] == nil && p.metrics["process_resident_memory_bytes"] == nil {
		t.Errorf("%s: what the reference says of the Go runtime and the process is not told", where)
	}
}

// liveCluster runs a node, a gate and an inspector, each a process, until the test ends,
// and calls an object in a trace. It returns where they tell their metrics.
func liveCluster(t *testing.T) map[string]string {
	t.Helper()
	binaries, data := t.TempDir(), filepath.Join(t.TempDir(), "data")
	build := exec.Command("go", "build", "-o", binaries, "./samples/counter", "./cmd/gate", "./cmd/inspector")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	at := freePorts(t, 8)
	start(t, filepath.Join(binaries, "counter"), "--data-dir", data, "--listen", at[0], "--http-listen", at[1], "--gate-listen", at[2], "--ops-listen", at[3],
		"--trace-otlp", at[7], "--trace-ratio", "1") // nobody collects them
	await(t, "http://"+at[3]+"/ready")
	text, err := os.ReadFile(filepath.Join(data, "goverse.lock"))
	var lock struct{ Endpoint string }
	if err := errors.Join(err, json.NewDecoder(strings.NewReader(string(text))).Decode(&lock)); err != nil {
		t.Fatal(err)
	}
	start(t, filepath.Join(binaries, "gate"), "--etcd", lock.Endpoint, "--listen", at[4], "--http-listen", "off", "--ops-listen", at[5])
	start(t, filepath.Join(binaries, "inspector"), "--etcd", lock.Endpoint, "--listen", at[6])
	await(t, "http://"+at[5]+"/ready")
	await(t, "http://"+at[6]+"/healthz")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+at[1]+"/api/v1/objects/Counter/apples/Add", strings.NewReader(`{"amount":1}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Traceparent", "00-"+traceID+"-00f067aa0ba902b7-01")
	reply, err := http.DefaultClient.Do(r)
	if err != nil || reply.StatusCode != http.StatusOK {
		t.Fatal(reply, err)
	}
	reply.Body.Close()
	return map[string]string{"node": "http://" + at[3] + "/metrics", "gate": "http://" + at[5] + "/metrics", "inspector": "http://" + at[6] + "/metrics"}
}

// start runs a program until the test ends, which it has to do well.
func start(t *testing.T, binary string, args ...string) {
	t.Helper()
	var said strings.Builder
	c := exec.Command(binary, args...)
	c.Dir = t.TempDir()
	c.Stdout, c.Stderr = &said, &said
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Signal(syscall.SIGTERM)
		if err := c.Wait(); err != nil || t.Failed() {
			t.Errorf("%s: %v\n%s", filepath.Base(binary), err, said.String())
		}
	})
}

// await waits until a process says that it is there.
func await(t *testing.T, url string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; <-time.After(20 * time.Millisecond) { // until its port is open
		reply, err := http.Get(url)
		if err == nil {
			reply.Body.Close()
			if reply.StatusCode == http.StatusOK {
				return
			}
			err = fmt.Errorf("%s", reply.Status)
		}
		if time.Now().After(end) {
			t.Fatalf("%s: %v", url, err)
		}
	}
}

func freePorts(t *testing.T, n int) (addresses []string) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		addresses = append(addresses, l.Addr().String())
	}
	return addresses
}
