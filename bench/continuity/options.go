package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// The parts of a run.
const (
	partFaults      = "faults"
	partDisconnects = "disconnects"
	partStorms      = "storms"
	partStream      = "stream"
)

var allParts = []string{partFaults, partDisconnects, partStorms, partStream}

// options is what is shown, and how much of it.
type options struct {
	parts []string
	seed  uint64
	logs  string // a directory; empty: the processes log nothing

	program string // what the processes are; empty: this one

	readers int
	deaf    float64 // the share of readers that do not read
	boards  int
	rate    float64 // changes a second
	size    int     // bytes said along with each
	turns   int     // of measuring without and with those who do not read
	turn    time.Duration
	faults  time.Duration
	stalled time.Duration // how long a gate bears who reads nothing

	disconnects int
	storms      int
	storm       int // clients of each
	limited     bool
	stream      time.Duration
	quick       bool // the stream's timeouts are short
}

const help = `continuity shows that clients hear everything, or are told what they missed.

  go run ./bench/continuity                          all parts, the long form: about ten minutes
  go run ./bench/continuity -parts faults            5,000 readers, gates and nodes that fail
  go run ./bench/continuity -readers 200 -boards 10 -turns 0 -faults 20s -seed 7
  go run ./bench/continuity -parts storms -limited   what a gate says to whom it cannot take

It starts everything itself: an etcd, three nodes that share a store, and two gates, each a process of its
own. It is itself the clients: half of them on WebSockets, half on gRPC streams, a connection each.

faults       Readers join a board and follow it. Boards are durable objects that count, push each number to
             who has joined, and publish it. Meanwhile nodes and gates are killed, leave, are stopped, and
             are cut off, at once; and connections break. A part of the clients never reads.
             Checked for each reader: every number of a session, every version of a subscription and every
             count is one more than the one before, or a reset or a snapshot says that some are missing; none comes twice
             or behind a later one; and in the end each knows its board's state.
             Before that: the delay of what is said, without and with those who do not read, in turns.
disconnects  Clients come, are pushed to, and hang up in the midst of it. Those who stay hear everything
             without a reset, and afterwards the gate has no session and no goroutine more than before.
storms       Many clients at once, again and again, until all are in.
stream       One Server-Sent Events stream that lives for long.

What should not be is told at the end, and the program ends with 1. A seed says what happens and to whom, not when:
the machine decides that. Logs of all processes: -logs directory.

`

func parse(args []string, out io.Writer) (o options, err error) {
	f := flag.NewFlagSet("continuity", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	parts := f.String("parts", strings.Join(allParts, ","), "what is shown")
	f.Uint64Var(&o.seed, "seed", 0, "what the faults are made of; 0: a new one, which is told")
	f.StringVar(&o.logs, "logs", "", "directory for the processes' logs, which has to be there; none without it")
	f.IntVar(&o.readers, "readers", 5000, "faults: clients, those who never read among them")
	f.Float64Var(&o.deaf, "deaf", 0.05, "faults: share of the clients that never read")
	f.IntVar(&o.boards, "boards", 50, "faults: boards; each reader has one")
	f.Float64Var(&o.rate, "rate", 20, "faults: changes a second, of all boards together")
	f.IntVar(&o.size, "size", 100, "faults: bytes that are said along with each change")
	f.IntVar(&o.turns, "turns", 3, "faults: how often the delay is measured without and with those who do not read")
	f.DurationVar(&o.turn, "turn", 4*time.Second, "faults: for how long each time")
	f.DurationVar(&o.faults, "faults", 30*time.Second, "faults: for how long something fails")
	f.DurationVar(&o.stalled, "stalled", 0, "faults: after how long a gate hangs up on who reads nothing; 0: the default, 10 s")
	f.IntVar(&o.disconnects, "disconnects", 10_000, "disconnects: how many")
	f.IntVar(&o.storms, "storms", 20, "storms: how many")
	f.IntVar(&o.storm, "storm", 2000, "storms: clients of each")
	f.BoolVar(&o.limited, "limited", false, "storms: the gate's limits for an address count here, too")
	f.DurationVar(&o.stream, "stream", 5*time.Minute, "stream: how long it lives")
	f.BoolVar(&o.quick, "quick", false, "stream: the gate's timeouts are a second or less")
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(out, help)
		f.SetOutput(out)
		f.PrintDefaults()
		return o, err
	} else if err != nil {
		return o, fmt.Errorf("%w; see continuity -help", err)
	}
	var problems []error
	complain := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if f.NArg() > 0 {
		complain("%q is no flag", f.Arg(0))
	}
	for _, part := range strings.Split(*parts, ",") {
		if !slices.Contains(allParts, part) || slices.Contains(o.parts, part) {
			complain("-parts %s: name some of %s, each once", *parts, strings.Join(allParts, ", "))
			break
		}
		o.parts = append(o.parts, part)
	}
	for _, n := range []struct {
		name        string
		value, most int
	}{{"readers", o.readers, 20_000}, {"boards", o.boards, 1000}, {"disconnects", o.disconnects, 1_000_000}, {"storms", o.storms, 1000}, {"storm", o.storm, 20_000}} {
		if n.value < 1 || n.value > n.most {
			complain("-%s %d: give 1 to %d", n.name, n.value, n.most)
		}
	}
	if !(o.deaf >= 0 && o.deaf < 1) {
		complain("-deaf %v: give a share of 0 to less than 1", o.deaf)
	}
	if !(o.rate > 0 && o.rate <= 10_000) {
		complain("-rate %v: give changes a second, up to 10000", o.rate)
	}
	if o.size < 0 || o.size > 64<<10 {
		complain("-size %d: give 0 to %d bytes", o.size, 64<<10)
	}
	if o.turns < 0 || o.turn <= 0 || o.faults < 0 || o.stalled < 0 || o.stream <= 0 {
		complain("-turns, -faults and -stalled must not be less than nothing, -turn and -stream more")
	}
	if o.seed == 0 {
		o.seed = rand.Uint64N(1 << 32)
	}
	return o, errors.Join(problems...)
}
