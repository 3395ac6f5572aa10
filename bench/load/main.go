// Command load makes calls at a pace and says how many were answered a second, and how
// long the answers took. See load -help.
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

	"github.com/xiaonanln/goverse/bench/load/child"
	"github.com/xiaonanln/goverse/bench/load/fleet"
	"github.com/xiaonanln/goverse/bench/load/plain"
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
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err = child.Profiled("load", func() error { return run(ctx, o, os.Stdout, os.Stderr) })
	if ctx.Err() != nil {
		err = errors.Join(errors.New("interrupted: the table has what was measured until then"), unless(context.Canceled, err))
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

// unless is err, or nil if it is what was to be expected.
func unless(expected, err error) error {
	if errors.Is(err, expected) {
		return nil
	}
	return err
}

// serve is the life of a child.
func serve(role string) error {
	run := fleet.Roles[role]
	if role == "grpc" {
		run = plain.Serve
	}
	if run == nil {
		return fmt.Errorf("there is no role %q", role)
	}
	return fleet.Serve(run)
}

// run measures and reports, also what was measured before something failed.
func run(ctx context.Context, o options, out, progress io.Writer) (err error) {
	r := results{options: o}
	defer func() {
		if len(r.cells) > 0 {
			err = errors.Join(err, r.write(out))
		}
	}()
	s, err := start(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	for round := range o.rounds {
		for _, callers := range o.callers {
			for _, road := range o.roads {
				m, err := s.measure(ctx, road, callers)
				if err != nil {
					return fmt.Errorf("%s with %d callers: %w", road, callers, err)
				}
				r.add(road, callers, m)
				fmt.Fprintf(progress, "round %d of %d, %s, %d callers: %v\n", round+1, o.rounds, road, callers, m)
			}
		}
	}
	return r.failure()
}
