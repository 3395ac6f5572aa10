package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/xiaonanln/goverse/bench/load/meter"
)

// The roads that a call can take.
const (
	roadGRPC = "grpc"
	roadNode = "node"
	roadGate = "gate"
)

var allRoads = []string{roadGRPC, roadNode, roadGate}

// options is what is measured, and how.
type options struct {
	roads   []string
	callers []int
	rate    float64
	window  time.Duration
	warmup  time.Duration
	rounds  int
	size    int
	objects int // 0: a new one for each call
	json    bool
}

const help = `load measures calls between processes on this machine.

  go run ./bench/load
  go run ./bench/load -callers 64,256 -rounds 7
  go run ./bench/load -roads node,gate -rate 5000 -callers 128
  go run ./bench/load -roads node -objects random -window 5s -o json

It starts everything itself: an etcd, a node, a gate and a plain gRPC server, each in
a process of its own. It is the last process: one more node, a client of the gate, and a
client of the gRPC server. What is called echoes its request. Each answer is checked.

The roads take turns, so that what else the machine does hits all of them. The table has
the median of the rounds, with the least and the most. "of grpc" behind a figure compares it with the
plain gRPC of the same round; it is the one to remember, the others move with the machine.
"cpu" is the processor time of all processes for a call.

Closed loop (the default): each caller calls again once it has its answer. That finds
out how much can be done, but a slow answer also delays the calls behind it, which then
do not count as slow. Open loop (-rate): calls are planned evenly over time and a latency
counts from the planned time, so that waiting shows. Use it for the latency at a load
that the service can bear, with more callers than calls under way at once. "late" is how
far behind its plan the program was with making a call (99 of 100); where that is much,
or calls were unsent, there were too few callers, or the machine is too slow for the rate.

Where the time goes: GOVERSE_BENCH_PROFILE names a directory that is there, and each
process writes a profile to it.

  mkdir -p profiles
  GOVERSE_BENCH_PROFILE=profiles go run ./bench/load -roads node -callers 64
  go tool pprof -top -cum profiles/node-*.prof     # the called; load-*.prof: the caller

Ctrl-C ends the processes and shows what was measured until then.

`

func parse(args []string, out io.Writer) (o options, err error) {
	f := flag.NewFlagSet("load", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	roads := f.String("roads", strings.Join(allRoads, ","), "ways to be measured: grpc (a unary method of grpc-go, the reference), node (from a node\nto an object on another), gate (from a client through a gate to an object)")
	callers := f.String("callers", "1,16,64,256", "how many calls may be under way at once; several numbers are measured each")
	f.Float64Var(&o.rate, "rate", 0, "calls a second that are planned (open loop); 0: as many as the callers can make (closed loop)")
	f.DurationVar(&o.window, "window", 2*time.Second, "for how long each figure is measured")
	f.DurationVar(&o.warmup, "warmup", 300*time.Millisecond, "for how long calls are made before that, and not counted")
	f.IntVar(&o.rounds, "rounds", 5, "how often each figure is measured")
	f.IntVar(&o.size, "size", 60, "bytes in a request and in its reply; protobuf adds 2 to 60")
	objects := f.String("objects", "1024", "how many objects are called, in turn: a number, hot (one), or random (a new one for each call,\nwhich has to be made first, and is gone after 2 s)")
	format := f.String("o", "table", "table, or json with every round in it")
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(out, help)
		f.SetOutput(out)
		f.PrintDefaults()
		return o, err
	} else if err != nil {
		return o, fmt.Errorf("%w; see load -help", err)
	}
	var problems []error
	complain := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if f.NArg() > 0 {
		complain("%q is no flag", f.Arg(0))
	}
	for _, road := range strings.Split(*roads, ",") {
		if !slices.Contains(allRoads, road) || slices.Contains(o.roads, road) {
			complain("-roads %s: name some of %s, each once", *roads, strings.Join(allRoads, ", "))
			break
		}
		o.roads = append(o.roads, road)
	}
	for _, text := range strings.Split(*callers, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 100_000 || slices.Contains(o.callers, n) {
			complain("-callers %s: give different numbers from 1 to 100000, as in 1,64", *callers)
			break
		}
		o.callers = append(o.callers, n)
	}
	switch n, err := strconv.Atoi(*objects); {
	case *objects == "hot":
		o.objects = 1
	case *objects == "random":
		o.objects = 0
	case err != nil || n < 1 || n > 1_000_000:
		complain("-objects %s: give a number from 1 to 1000000, hot or random", *objects)
	default:
		o.objects = n
	}
	switch *format {
	case "table", "json":
		o.json = *format == "json"
	default:
		complain("-o %s: give table or json", *format)
	}
	if !(o.rate == 0 || o.rate > 0 && o.rate <= 1e7) {
		complain("-rate %v: give calls a second, up to ten million, or 0", o.rate)
	}
	if o.rate > 0 && o.rate*o.window.Seconds() < 1 {
		complain("-rate %v for %v plans not even one call", o.rate, o.window)
	}
	if o.window <= 0 || o.warmup < 0 || o.rounds < 1 {
		complain("-window and -rounds must be more than nothing, -warmup not less")
	}
	if o.size < meter.LeastSize || o.size > 1<<20 {
		complain("-size %d: give %d to %d bytes", o.size, meter.LeastSize, 1<<20)
	}
	return o, errors.Join(problems...)
}
