// Command goverse shows what a cluster is doing and says why, drains nodes, and calls
// objects.
//
//	goverse nodes
//	goverse explain object ChatRoom/general
//	goverse drain 10.0.0.1:47000 --wait
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"strings"

	"github.com/spf13/cobra"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager"
)

func main() {
	os.Exit(newProgram(os.Stdin, os.Stdout, os.Stderr).run(context.Background(), os.Args[1:]))
}

// The exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// program is one run of the command line: the world outside it, and the flags that
// all commands share.
type program struct {
	in          io.Reader
	out, err    io.Writer
	environment func(name string) (value string, ok bool)
	dial        func(etcdmanager.Config) (etcdmanager.KV, error)
	terminal    bool   // out is one: it can be drawn anew
	interactive bool   // err is one
	operator    string // who gives orders; "": nobody who is told of

	flags commonFlags
}

func newProgram(in io.Reader, out, err *os.File) *program {
	return &program{
		in: in, out: out, err: err, environment: os.LookupEnv, terminal: isTerminal(out), interactive: isTerminal(err),
		dial: dialEtcd, operator: operator(),
	}
}

// operator is who runs this program, as the system has it: ann@laptop.
func operator() string {
	name, host := "somebody", "an unknown host"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if h, err := os.Hostname(); err == nil {
		host = h
	}
	return name + "@" + host
}

func dialEtcd(cfg etcdmanager.Config) (etcdmanager.KV, error) {
	c, err := etcdmanager.Dial(cfg)
	if err != nil {
		return nil, err // not a nil *Client in an interface
	}
	return c, nil
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// failure is an error of a command that was understood.
type failure struct{ error }

func (f failure) Unwrap() error { return f.error }

// usage is an error of the command line, found while it was carried out.
type usage struct{ error }

func usagef(format string, args ...any) error { return usage{fmt.Errorf(format, args...)} }

// run is the program and returns its exit code.
func (p *program) run(ctx context.Context, args []string) int {
	root := p.root()
	root.SetArgs(args)
	command, err := root.ExecuteContextC(consensusmanager.WithOperator(ctx, p.operator))
	var failed failure
	var wrong usage
	var ended exited
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &ended):
		return ended.code
	case errors.As(err, &failed) && !errors.As(err, &wrong):
		p.complain(err)
		return exitFailed
	}
	p.complain(err)
	fmt.Fprintf(p.err, "%s --help says more\n", command.CommandPath())
	return exitUsage
}

func (p *program) complain(err error) {
	lines := strings.Split(strings.TrimSpace(err.Error()), "\n")
	for i := range lines {
		lines[i] = clean(lines[i])
	}
	fmt.Fprintf(p.err, "goverse: %s\n", strings.Join(lines, "\n"))
}

func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "goverse",
		Short: "See what a Goverse cluster is doing, and why",
		Long: `goverse shows what a Goverse cluster is doing and says why, drains nodes, moves shards and calls objects.

It reads the cluster's etcd. Beside a program with an etcd of its own (go run ./samples/chat)
it needs no flags: it finds that etcd through the program's data directory.

What was asked for is on standard output, everything else on standard error.

An etcd or a gate that encrypts its connections is reached with --etcd-tls-ca and --gate-tls-ca,
which name the authority of its certificate, and ...-cert and ...-key where it wants one.

Flags win over the environment (GOVERSE_ETCD, GOVERSE_ETCD_PREFIX, GOVERSE_ETCD_TLS_CA,
GOVERSE_DATA_DIR, GOVERSE_GATE, GOVERSE_GATE_TLS_CA, GOVERSE_TIMEOUT and so on), and that over
the defaults.

Exit codes:
  0  done
  1  it failed; standard error says why, and whether anything was changed
  2  the command line makes no sense`,
		Example: `  goverse new greeter                           begin a program
  goverse dev                                   run a cluster of it here, and replace it as it changes
  goverse nodes                                 who is there, and how many shards each holds
  goverse shards                                the states of all shards
  goverse explain object ChatRoom/general       where it is, why, and what it waits for
  goverse top                                   how busy nodes, types and objects are
  goverse doctor                                what is wrong, and what to do
  goverse drain 10.0.0.1:47000 --wait           move everything off a node before it is stopped
  goverse move 4711 10.0.0.2:47000              move one shard, with all that is in it
  goverse call ChatRoom/general Join '{"userName":"guest"}'
  source <(goverse completion bash)             completion, also of the nodes' addresses`,
		Args:          cobra.ArbitraryArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("there is no command %q%s", args[0], suggestion(c.SuggestionsFor(args[0])))
			}
			return c.Help()
		},
		PersistentPreRunE: func(c *cobra.Command, _ []string) error { return p.prepare(c) },
	}
	root.SuggestionsMinimumDistance = 2
	root.SetIn(p.in)
	root.SetOut(p.out)
	root.SetErr(p.err)
	p.flags.define(root)
	completeFiles(root)
	for _, own := range []*cobra.Command{p.nodes(), p.gates(), p.shards(), p.objects(), p.top(), p.explain(), p.doctor(), p.drain(), p.move(),
		p.call(), p.createObject(), p.deleteObject(), p.push(), p.logLevel(), p.db(), p.config(), p.cert(), p.dev(), p.newProject(), p.version()} {
		completeFiles(own)
		root.AddCommand(own)
	}
	for _, foreign := range []*cobra.Command{p.gate(), p.inspector()} {
		conceal(root, foreign)
		root.AddCommand(foreign)
	}
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	return root
}

func suggestion(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return "; did you mean " + strings.Join(names, " or ") + "?"
}

// does makes a command's function one whose errors are not about the command line,
// unless it says so.
func does(do func(c *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		if err := do(c, args); err != nil {
			return failure{err}
		}
		return nil
	}
}

// takes checks that a command got the arguments that it names, in words.
func takes(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return fmt.Errorf("%s is missing", names[len(args)])
		case len(args) > len(names):
			return fmt.Errorf("unexpected argument %q", args[len(names)])
		}
		return nil
	}
}
