// Command all measures the same work on Goverse and on others, and prints the table of
// docs/performance.md. See the README of this module.
//
//	go run ./all
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/xiaonanln/goverse/bench/load/child"
	"github.com/xiaonanln/goverse/bench/peers/peer"
)

// callers are the columns of remote calls.
var callers = []int{1, 16, 64, 256}

// options is what is measured.
type options struct {
	peers   []peer.Peer
	rounds  int
	window  time.Duration
	objects int // that each peer makes in its process
	json    bool
}

func main() {
	if role := child.Role(); role != "" {
		if err := serve(role); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	o, err := parse(os.Args[1:], os.Stdout)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "all:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err = run(ctx, o, os.Stdout, os.Stderr)
	if ctx.Err() != nil {
		err = errors.New("interrupted: the table has what was measured until then")
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "all:", err)
		os.Exit(1)
	}
}

const help = `all measures the same work on Goverse and on other systems, each in fresh processes:
calls to another process by 1, 16, 64 and 256 callers, calls within a process, and
the making of objects. The systems take turns; the table has the median of the rounds,
with the least and the most, as Markdown. "goverse of it" is how many times as many calls
Goverse answers, in the same round. "cpu" is the processor time of a call, of all
processes together. Ctrl-C prints what was measured until then.

  go run ./all
  go run ./all -peers goverse,grpc-unary -rounds 9
  go run ./all -o json

Where the time goes: GOVERSE_BENCH_PROFILE names a directory that is there, and each
process writes a profile to it.

  GOVERSE_BENCH_PROFILE=profiles go run ./all -peers goverse -rounds 1 -window 5s
  go tool pprof -top -cum profiles/node-*.prof     # far-*.prof: the callers

`

func parse(args []string, out io.Writer) (o options, err error) {
	var known []string
	for _, p := range peer.All {
		known = append(known, p.Name)
	}
	f := flag.NewFlagSet("all", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	names := f.String("peers", strings.Join(known, ","), "what is measured")
	f.IntVar(&o.rounds, "rounds", 5, "how often each figure is measured")
	f.DurationVar(&o.window, "window", time.Second, "for how long each time")
	f.IntVar(&o.objects, "objects", 20_000, "how many objects are made each time")
	format := f.String("o", "table", "table, or json with every round in it")
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(out, help)
		f.SetOutput(out)
		f.PrintDefaults()
		return o, err
	} else if err != nil {
		return o, fmt.Errorf("%w; see all -help", err)
	}
	for _, name := range strings.Split(*names, ",") {
		p, ok := peer.Find(name)
		if !ok || slices.ContainsFunc(o.peers, func(q peer.Peer) bool { return q.Name == name }) {
			return o, fmt.Errorf("-peers %s: name some of %s, each once", *names, strings.Join(known, ","))
		}
		o.peers = append(o.peers, p)
	}
	if *format != "table" && *format != "json" || f.NArg() > 0 || o.rounds < 1 || o.window <= 0 || o.objects < 1 {
		return o, errors.New("-rounds, -window and -objects must be more than nothing, -o table or json, and nothing else is taken; see all -help")
	}
	o.json = *format == "json"
	return o, nil
}

// run measures and reports, also what was measured before something failed.
func run(ctx context.Context, o options, out, progress io.Writer) (err error) {
	r := results{options: o, rounds: map[string][]round{}}
	defer func() {
		if len(r.rounds) > 0 {
			err = errors.Join(err, r.write(out))
		}
	}()
	for i := range o.rounds {
		for _, p := range o.peers {
			began := time.Now()
			m, err := measure(ctx, o, p)
			if err != nil {
				return fmt.Errorf("%s: %w", p.Name, err)
			}
			r.rounds[p.Name] = append(r.rounds[p.Name], m)
			fmt.Fprintf(progress, "round %d of %d, %s, %.0f s: %v\n", i+1, o.rounds, p.Name, time.Since(began).Seconds(), m)
		}
	}
	return r.failure()
}

// round is one peer, measured once.
type round struct {
	Far  map[int]farAnswer // by callers
	Near nearAnswer        // zero: it has no objects
}

// patience is for how long one peer may take beyond its windows: it starts and stops
// processes, and makes objects.
const patience = 5 * time.Minute

// measure starts a peer's processes and asks them.
func measure(ctx context.Context, o options, p peer.Peer) (m round, err error) {
	limit := patience + 2*time.Duration(len(callers)+1)*o.window
	ctx, stop := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it has not ended within %v", limit))
	defer stop()
	defer func() {
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}()
	m.Far = map[int]farAnswer{}
	err = with(ctx, farRole+p.Name, func(far *child.Process) error {
		for _, n := range callers {
			a, err := ask[farAnswer](ctx, far, farQuestion{Callers: n, Warmup: o.window / 5, Window: o.window})
			if err != nil {
				return fmt.Errorf("%d callers: %w", n, err)
			}
			m.Far[n] = a
		}
		return nil
	})
	if err != nil || p.Open == nil {
		return m, err
	}
	return m, with(ctx, nearRole+p.Name, func(near *child.Process) error {
		m.Near, err = ask[nearAnswer](ctx, near, nearQuestion{Objects: p.Made(o.objects), Window: o.window})
		return err
	})
}

// with calls f with a child that ends afterwards.
func with(ctx context.Context, role string, f func(*child.Process) error) error {
	p, err := child.Start(ctx, role)
	if err != nil {
		return err
	}
	return errors.Join(f(p), p.End())
}
