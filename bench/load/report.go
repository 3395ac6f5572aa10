package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/xiaonanln/goverse/bench/load/meter"
)

// cell is one road with a number of callers, round by round.
type cell struct {
	road    string
	callers int
	rounds  []measurement
}

// results is what was measured, in the order of the table.
type results struct {
	options options
	cells   []*cell
}

func (r *results) add(road string, callers int, m measurement) {
	c := r.cell(road, callers)
	if c == nil {
		c = &cell{road: road, callers: callers}
		r.cells = append(r.cells, c)
	}
	c.rounds = append(c.rounds, m)
}

func (r *results) cell(road string, callers int) *cell {
	for _, c := range r.cells {
		if c.road == road && c.callers == callers {
			return c
		}
	}
	return nil
}

// failure says that calls have failed, and what the first failed of.
func (r *results) failure() error {
	var problems []error
	for _, c := range r.cells {
		for _, m := range c.rounds {
			if m.Failed > 0 {
				problems = append(problems, fmt.Errorf("%s with %d callers: %d calls failed, the first: %w", c.road, c.callers, m.Failed, m.Failure))
			}
		}
	}
	return errors.Join(problems...)
}

// figures is a cell in numbers. Times are in microseconds.
type figures struct {
	Road     string       `json:"road"`
	Callers  int          `json:"callers"`
	Rounds   int          `json:"rounds"`
	Rate     meter.Spread `json:"calls_per_s"`
	OfGRPC   meter.Spread `json:"rate_of_grpc"` // zero: not measured beside it
	P50      meter.Spread `json:"p50_us"`
	P90      meter.Spread `json:"p90_us"`
	P99      meter.Spread `json:"p99_us"`
	P999     meter.Spread `json:"p99.9_us"`
	Max      meter.Spread `json:"max_us"`
	P50Of    meter.Spread `json:"p50_of_grpc"`
	P99Of    meter.Spread `json:"p99_of_grpc"`
	CPU      meter.Spread `json:"cpu_us_per_call"`
	Late     meter.Spread `json:"late_p99_us"` // open loop
	Unsent   int          `json:"unsent"`      // open loop
	Failed   int          `json:"failed"`
	EachRate []float64    `json:"each_calls_per_s"`
	EachP99  []float64    `json:"each_p99_us"`
}

func (r *results) figures(c *cell) figures {
	over := func(f func(measurement) float64) meter.Spread { return meter.SpreadOf(c.rounds, f) }
	at := func(q float64) func(measurement) float64 {
		return func(m measurement) float64 { return m.quantile(q) }
	}
	f := figures{
		Road: c.road, Callers: c.callers, Rounds: len(c.rounds), Rate: over(rate),
		P50: over(at(0.5)), P90: over(at(0.9)), P99: over(at(0.99)), P999: over(at(0.999)), Max: over(at(1)),
		OfGRPC: r.ofGRPC(c, rate), P50Of: r.ofGRPC(c, at(0.5)), P99Of: r.ofGRPC(c, at(0.99)), CPU: over(measurement.perCall),
		Late: over(func(m measurement) float64 { return meter.Micros(m.Late.Quantile(0.99)) }),
	}
	for _, m := range c.rounds {
		f.Unsent += m.Unsent
		f.Failed += m.Failed
		f.EachRate = append(f.EachRate, m.Rate())
		f.EachP99 = append(f.EachP99, m.quantile(0.99))
	}
	return f
}

func rate(m measurement) float64 { return m.Rate() }

// ofGRPC compares each round with plain gRPC in the same round.
func (r *results) ofGRPC(c *cell, of func(measurement) float64) meter.Spread {
	reference := r.cell(roadGRPC, c.callers)
	if reference == nil {
		return meter.Spread{}
	}
	var ratios []float64
	for i := range min(len(c.rounds), len(reference.rounds)) {
		ratios = append(ratios, of(c.rounds[i])/of(reference.rounds[i]))
	}
	return meter.SpreadOf(ratios, func(v float64) float64 { return v })
}

func (r *results) write(out io.Writer) error {
	if r.options.json {
		return r.writeJSON(out)
	}
	return r.writeTable(out)
}

// writeJSON is for programs: one object.
func (r *results) writeJSON(out io.Writer) error {
	report := struct {
		Time    time.Time `json:"time"`
		Cores   int       `json:"cores"`
		Go      string    `json:"go"`
		System  string    `json:"system"`
		Size    int       `json:"size"`
		Objects int       `json:"objects"` // 0: a new one for each call
		Rate    float64   `json:"rate"`    // 0: closed loop
		Window  float64   `json:"window_s"`
		Rows    []figures `json:"rows"`
	}{
		time.Now().UTC(), runtime.NumCPU(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH,
		r.options.size, r.options.objects, r.options.rate, r.options.window.Seconds(), nil,
	}
	for _, c := range r.cells {
		report.Rows = append(report.Rows, r.figures(c))
	}
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(report)
}

// writeTable is for people.
func (r *results) writeTable(out io.Writer) error {
	o := r.options
	objects := strconv.Itoa(o.objects)
	if o.objects == 0 {
		objects = "new"
	}
	loop := "closed loop"
	if o.rate > 0 {
		loop = fmt.Sprintf("open loop, %s calls/s planned", meter.Figure(o.rate))
	}
	fmt.Fprintf(out, "%s; %d bytes, %s objects, windows of %v, %d cores; times in µs\n\n", loop, o.size, objects, o.window, runtime.NumCPU())
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "callers\troad\tcalls/s\tof grpc\tp50\tof grpc\tp90\tp99\tof grpc\tp99.9\tmax\tcpu")
	if o.rate > 0 {
		fmt.Fprint(w, "\tlate\tunsent")
	}
	fmt.Fprintln(w)
	for _, c := range r.cells {
		f := r.figures(c)
		of := func(s meter.Spread) string {
			if s.Median > 0 && c.road != roadGRPC {
				return s.String()
			}
			return "–"
		}
		median := func(s meter.Spread) string { return meter.Figure(s.Median) }
		fmt.Fprintf(w, "%d\t%s\t%v\t%s\t%v\t%s\t%s\t%v\t%s\t%s\t%s\t%s", c.callers, c.road,
			f.Rate, of(f.OfGRPC), f.P50, of(f.P50Of), median(f.P90), f.P99, of(f.P99Of), median(f.P999), median(f.Max), median(f.CPU))
		if o.rate > 0 {
			fmt.Fprintf(w, "\t%s\t%d", median(f.Late), f.Unsent)
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}
