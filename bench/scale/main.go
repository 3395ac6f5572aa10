// Command scale measures the same work on one, two and four node processes: clients
// call objects through a gate, each in a process of its own, over one etcd.
//
//	go run ./bench/scale
//
// All of it shares this machine's cores, so calls a second say little about more
// machines. What a node costs does: calls for each second of processor time that the
// nodes used, and that nodes and gate used together. The cluster sizes take turns, and
// each figure is the median of its runs, with the least and the most.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"syscall"
	"text/tabwriter"
	"time"
)

// options is what is measured.
type options struct {
	runs    int
	window  time.Duration
	callers int
	objects int
}

// sizes are how many nodes do the work.
var sizes = []int{1, 2, 4}

func main() {
	if role := os.Getenv(roleEnv); role != "" {
		if err := child(role); err != nil {
			fmt.Fprintln(os.Stderr, "scale:", role+":", err)
			os.Exit(1)
		}
		return
	}
	var o options
	flag.IntVar(&o.runs, "runs", 5, "how often each size is measured")
	flag.DurationVar(&o.window, "window", 3*time.Second, "for how long each time")
	flag.IntVar(&o.callers, "callers", 128, "calls under way at once")
	flag.IntVar(&o.objects, "objects", 4096, "objects that are called, each as often as the others")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, o, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, out io.Writer) error {
	if o.runs < 1 || o.window <= 0 || o.callers < 1 || o.objects < 1 {
		return fmt.Errorf("-runs, -window, -callers and -objects must be more than nothing")
	}
	measured := map[int][]sample{}
	for i := range o.runs {
		for _, n := range sizes {
			s, err := measure(ctx, o, n)
			if err != nil {
				return fmt.Errorf("%d nodes: %w", n, err)
			}
			measured[n] = append(measured[n], s)
			fmt.Fprintf(os.Stderr, "run %d of %d, %d nodes: %v\n", i+1, o.runs, n, s)
		}
	}
	return report(out, o, measured)
}

func report(out io.Writer, o options, measured map[int][]sample) error {
	fmt.Fprintf(out, "%d callers, %d objects, %d runs of %v, %d cores\n\n", o.callers, o.objects, o.runs, o.window, runtime.NumCPU())
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "nodes\tcalls/s\tcalls per core second of the nodes\tof nodes and gate\tcores of the nodes\tof the gate\tlargest share of a node")
	for _, n := range sizes {
		of := func(f func(sample) float64) string { return spread(measured[n], f) }
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\n", n,
			of(sample.rate), of(sample.perNodeCore), of(sample.perCore), of(sample.nodeCores), of(sample.gateCores), of(sample.largest))
	}
	return w.Flush()
}

// spread is the median of a figure, with the least and the most.
func spread(list []sample, f func(sample) float64) string {
	var values []float64
	for _, s := range list {
		values = append(values, f(s))
	}
	slices.Sort(values)
	return fmt.Sprintf("%s (%s to %s)", figure(values[len(values)/2]), figure(values[0]), figure(values[len(values)-1]))
}

func figure(v float64) string {
	if v >= 100 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// sample is one measurement.
type sample struct {
	calls int
	took  time.Duration
	nodes []time.Duration // processor time of each
	gate  time.Duration
}

func (s sample) total() (cpu time.Duration) {
	for _, n := range s.nodes {
		cpu += n
	}
	return cpu
}

func (s sample) rate() float64        { return float64(s.calls) / s.took.Seconds() }
func (s sample) perNodeCore() float64 { return float64(s.calls) / s.total().Seconds() }
func (s sample) perCore() float64     { return float64(s.calls) / (s.total() + s.gate).Seconds() }
func (s sample) nodeCores() float64   { return s.total().Seconds() / s.took.Seconds() }
func (s sample) gateCores() float64   { return s.gate.Seconds() / s.took.Seconds() }
func (s sample) largest() float64     { return slices.Max(s.nodes).Seconds() / s.total().Seconds() }

// String is the sample in a line.
func (s sample) String() string {
	return fmt.Sprintf("%.0f calls/s, %.0f per core second of the nodes", s.rate(), s.perNodeCore())
}
