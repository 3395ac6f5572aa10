package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/xiaonanln/goverse/bench/load/meter"
	"github.com/xiaonanln/goverse/bench/peers/peer"
)

// The peers that others are compared with.
const reference, own = "grpc-unary", "goverse"

// results is what was measured of each peer, round by round.
type results struct {
	options options
	rounds  map[string][]round // by the peer's name
}

// String is the round in a line.
func (m round) String() string {
	var b strings.Builder
	for i, n := range callers {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%d: %s/s", n, meter.Figure(m.Far[n].Rate))
	}
	if m.Near.Calls > 0 {
		fmt.Fprintf(&b, "; local %s ns", meter.Figure(m.Near.Call))
	}
	return b.String()
}

func (r *results) write(out io.Writer) error {
	if r.options.json {
		return r.writeJSON(out)
	}
	return r.writeTable(out)
}

// writeJSON is every round, for programs.
func (r *results) writeJSON(out io.Writer) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(struct {
		Time   time.Time          `json:"time"`
		Cores  int                `json:"cores"`
		Go     string             `json:"go"`
		Window float64            `json:"window_s"`
		Rounds map[string][]round `json:"rounds"`
	}{time.Now().UTC(), runtime.NumCPU(), runtime.Version(), r.options.window.Seconds(), r.rounds})
}

// writeTable is the table, as Markdown.
func (r *results) writeTable(out io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%d cores, %s, %s/%s; %d rounds of %v in turns: median (least–most)\n\n",
		runtime.NumCPU(), runtime.Version(), runtime.GOOS, runtime.GOARCH, r.options.rounds, r.options.window)
	row := func(cells ...string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	head := []string{"remote calls/s by callers"}
	for _, n := range callers {
		head = append(head, fmt.Sprint(n))
	}
	head = append(head, "of grpc-unary at 64 / 256", "goverse of it at 64 / 256", "p50 at 1, µs", "p50 at 64, µs", "p99 at 64, µs", "cpu at 64, µs")
	row(head...)
	row(slices.Repeat([]string{"---"}, len(head))...)
	for _, p := range r.options.peers {
		if len(r.rounds[p.Name]) > 0 {
			row(r.far(p)...)
		}
	}
	b.WriteString("\n")
	row("local", "call, ns", "allocations", "making an object and its first answer, µs", "bytes of an idle object")
	row("---", "---", "---", "---", "---")
	for _, p := range r.options.peers {
		if p.Open != nil && len(r.rounds[p.Name]) > 0 {
			row(r.near(p)...)
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// far is a peer's row of remote calls.
func (r *results) far(p peer.Peer) []string {
	over := func(f func(round) float64) string { return meter.SpreadOf(r.rounds[p.Name], f).String() }
	cells := []string{p.Name + " (" + p.Version + ")"}
	for _, n := range callers {
		cells = append(cells, over(func(m round) float64 { return m.Far[n].Rate }))
	}
	return append(cells,
		r.compare(p.Name, reference, 64)+" / "+r.compare(p.Name, reference, 256),
		r.compare(own, p.Name, 64)+" / "+r.compare(own, p.Name, 256),
		over(func(m round) float64 { return meter.Micros(m.Far[1].P50) }),
		over(func(m round) float64 { return meter.Micros(m.Far[64].P50) }),
		over(func(m round) float64 { return meter.Micros(m.Far[64].P99) }),
		over(func(m round) float64 { return meter.Micros(m.Far[64].CPU) }))
}

// compare is one peer's rate to that of another in the same round.
func (r *results) compare(one, other string, callers int) string {
	var ratios []float64
	for i := range min(len(r.rounds[one]), len(r.rounds[other])) {
		ratios = append(ratios, r.rounds[one][i].Far[callers].Rate/r.rounds[other][i].Far[callers].Rate)
	}
	if len(ratios) == 0 || one == other {
		return "–"
	}
	return meter.SpreadOf(ratios, func(v float64) float64 { return v }).String()
}

// failure says that calls have failed, and what the first failed of.
func (r *results) failure() error {
	var problems []error
	for _, p := range r.options.peers {
		for _, m := range r.rounds[p.Name] {
			for _, n := range callers {
				if a := m.Far[n]; a.Failed > 0 {
					problems = append(problems, fmt.Errorf("%s with %d callers: %d of %d calls failed, the first: %s", p.Name, n, a.Failed, a.Failed+a.Calls, a.Failure))
				}
			}
		}
	}
	return errors.Join(problems...)
}

// near is a peer's row of what happens within one process.
func (r *results) near(p peer.Peer) []string {
	over := func(f func(nearAnswer) float64) string {
		return meter.SpreadOf(r.rounds[p.Name], func(m round) float64 { return f(m.Near) }).String()
	}
	name := p.Name
	if made := p.Made(r.options.objects); made < r.options.objects {
		name = fmt.Sprintf("%s (of %d, not %d, objects)", name, made, r.options.objects)
	}
	return []string{
		name,
		over(func(a nearAnswer) float64 { return a.Call }),
		over(func(a nearAnswer) float64 { return a.Allocs }),
		over(func(a nearAnswer) float64 { return a.Make / 1000 }),
		over(func(a nearAnswer) float64 { return a.Bytes }),
	}
}
