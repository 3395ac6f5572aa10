// Command continuity shows that a client hears everything that it was promised, or is told
// what it missed, while gates and nodes fail. See continuity -help.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/xiaonanln/goverse/bench/load/child"
)

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
		fmt.Fprintln(os.Stderr, "continuity:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err = child.Profiled("continuity", func() error { return run(ctx, o, os.Stdout) })
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "continuity:", err)
		os.Exit(1)
	}
}

// run shows the parts. The error has all that should not have been.
func run(ctx context.Context, o options, out io.Writer) error {
	tell := newTeller(out)
	show := map[string]func(context.Context, options, *teller) error{
		partFaults: showFaults, partDisconnects: showDisconnects, partStorms: showStorms, partStream: showStream,
	}
	tell.say("seed %d", o.seed)
	var problems []error
	for _, part := range o.parts {
		if err := show[part](ctx, o, tell); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", part, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(problems...)
}

// teller says what happens, and when.
type teller struct {
	out   io.Writer
	began time.Time
}

func newTeller(out io.Writer) *teller { return &teller{out, time.Now()} }

// say may be called concurrently if out may be written to so.
func (t *teller) say(format string, args ...any) {
	fmt.Fprintf(t.out, "%6.1f  %s\n", time.Since(t.began).Seconds(), fmt.Sprintf(format, args...))
}

// anomalies are what should not have been, the first few in words.
type anomalies []string

func (a anomalies) failure() error {
	if len(a) == 0 {
		return nil
	}
	const few = 10
	err := fmt.Errorf("%d anomalies", len(a))
	for _, text := range a[:min(few, len(a))] {
		err = fmt.Errorf("%w\n  %s", err, text)
	}
	return err
}
