package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/xiaonanln/goverse/cmd/gate/gatecmd"
	"github.com/xiaonanln/goverse/cmd/inspector/inspectorcmd"
)

// gate and inspector are programs of their own, which this one has too: they read their
// command lines themselves.

func (p *program) gate() *cobra.Command {
	return p.foreign("gate", "Run a gate: the door through which clients reach the objects", gatecmd.Run, gatecmd.Flags)
}

func (p *program) inspector() *cobra.Command {
	return p.foreign("inspector", "Show a living cluster in a browser", inspectorcmd.Run, inspectorcmd.Flags)
}

// exited is the end of a program that has said for itself why it ended.
type exited struct{ code int }

func (e exited) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// foreign is a command that is a program.
func (p *program) foreign(name, short string, run func(ctx context.Context, name string, args []string, stdout, stderr io.Writer) int, flags func() *flag.FlagSet) *cobra.Command {
	full := "goverse " + name
	c := &cobra.Command{
		Use:                name,
		Short:              short,
		DisableFlagParsing: true,
		PersistentPreRunE:  func(*cobra.Command, []string) error { return nil }, // its flags are not ours
		RunE: func(c *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			if code := run(ctx, full, args, p.out, p.err); code != exitOK {
				return exited{code}
			}
			return nil
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			return completeFlags(flags(), args, typed)
		},
	}
	c.SetHelpFunc(func(c *cobra.Command, _ []string) { run(c.Context(), full, []string{"--help"}, p.out, p.err) })
	return c
}

// conceal keeps shells from offering goverse's own flags behind a program that does not
// have them.
func conceal(root, foreign *cobra.Command) {
	root.PersistentFlags().VisitAll(func(f *pflag.Flag) {
		own := *f
		own.Hidden = true
		foreign.Flags().AddFlag(&own)
	})
}
