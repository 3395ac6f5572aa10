package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/xiaonanln/goverse/cluster/diagnosis"
	"github.com/xiaonanln/goverse/cmd/gate/gatecmd"
	"github.com/xiaonanln/goverse/cmd/gate/gateconfig"
	"github.com/xiaonanln/goverse/goverseapi"
	"github.com/xiaonanln/goverse/internal/conf"
)

func (p *program) config() *cobra.Command {
	c := &cobra.Command{
		Use:   "config",
		Short: "Check a cluster's configuration, and show what a program makes of it",
		Long: `config is about the YAML file that describes a cluster: nodes and gates read it with
--config. docs/reference/config.md lists its keys. No etcd is needed.`,
	}
	c.AddCommand(p.configCheck(), p.configShow())
	return c
}

func (p *program) configCheck() *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE",
		Short: "Tell everything that is wrong with a file",
		Long: `check reads a file as nodes and gates do, for each of its entries, and tells everything that
is wrong with it, with its lines. The environment does not count. The exit code is 1 if
anything is wrong.

Flags below node_flags, gate_flags and flags that the standard programs do not have are
notes on standard error: a program may have flags of its own.

With -o json: {"file", "problems": [{"file", "line", "key", "problem"}]}.`,
		Example: "  goverse config check cluster.yaml",
		Args:    takes("FILE"),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return []string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
		},
		RunE: does(func(_ *cobra.Command, args []string) error { return p.checkConfig(args[0]) }),
	}
}

func (p *program) checkConfig(file string) error {
	problems, notes, err := problemsOf(file)
	if err != nil {
		return err
	}
	p.warn(notes)
	if err := p.show(checked{file, problems}); err != nil {
		return err
	}
	if len(problems) > 0 {
		return fmt.Errorf("%s has %s", file, diagnosis.Some(len(problems), "problem"))
	}
	return nil
}

// checked is the answer of config check.
type checked struct {
	File     string         `json:"file"`
	Problems []conf.Problem `json:"problems"`
}

func (c checked) table(w io.Writer) {
	for _, problem := range c.Problems {
		fmt.Fprintln(w, clean(problem.Error()))
	}
	if len(c.Problems) == 0 {
		fmt.Fprintf(w, "%s is right\n", c.File)
	}
}

// problemsOf reads a file as each program does that it describes.
func problemsOf(file string) (problems []conf.Problem, notes []string, err error) {
	document, err := conf.Read(file)
	var wrong conf.Problems
	switch {
	case errors.As(err, &wrong):
		return wrong, nil, nil
	case err != nil:
		return nil, nil, err
	}
	f := verdicts{document: document, seen: map[string]bool{}, problems: []conf.Problem{}}
	for i, n := range document.Nodes {
		f.add(fmt.Sprintf("nodes[%d]", i), checkNode("--config", file, "--node-id", n.ID))
	}
	if len(document.Nodes) == 0 {
		f.add("", checkNode("--config", file))
	}
	for i, g := range document.Gates {
		f.add(fmt.Sprintf("gates[%d]", i), checkGate("--config", file, "--gate-id", g.ID))
	}
	return f.problems, f.notes, nil
}

// verdicts are the problems of several programs with one file, each once.
type verdicts struct {
	document *conf.Document
	seen     map[string]bool
	problems []conf.Problem
	notes    []string
}

// add takes what is wrong with the program of an entry.
func (f *verdicts) add(entry string, err error) {
	for _, one := range conf.Each(f.document.Name, err) {
		var unknown conf.UnknownFlag
		var problem conf.Problem
		if errors.As(one, &problem) && problem.Path == "" {
			problem.Path, problem.Line = entry, f.document.Lines[entry]
			one = problem
		}
		switch text := one.Error(); {
		case f.seen[text]:
		case errors.As(one, &unknown):
			f.seen[text] = true
			f.notes = append(f.notes, text)
		default:
			f.seen[text] = true
			f.problems = append(f.problems, problem)
		}
	}
}

func noVariables(string) (string, bool) { return "", false }

func checkNode(args ...string) error {
	cfg, err := nodeProgram().LoadIn(noVariables, args)
	if cfg == nil {
		return err
	}
	return errors.Join(err, cfg.Validate())
}

func checkGate(args ...string) error {
	cfg, err := gateconfig.NewLoader(nil).LoadIn(noVariables, args)
	if cfg == nil {
		return err
	}
	return errors.Join(err, cfg.Validate())
}

// nodeProgram has the flags of every program that hosts objects: also those of one that
// has a gate.
func nodeProgram() *goverseapi.ConfigLoader {
	fs := flag.NewFlagSet("node", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.String("http-listen", "", "")
	fs.String("gate-listen", "", "")
	return goverseapi.NewConfigLoader(fs)
}

func (p *program) configShow() *cobra.Command {
	var file, node, gate string
	var all bool
	c := &cobra.Command{
		Use:   "show [--config FILE] [--node-id ID | --gate-id ID] [--all] [-- FLAGS]",
		Short: "Show the values that a program would have, and where they came from",
		Long: `show tells what a node program, or with --gate-id a gate, would make of its configuration:
the flags after --, over the environment as it is here, over the file, over the defaults,
which it shows with --all. Passwords are not shown.

With -o json: {"settings": [{"flag", "value", "from", "key"}]}; from is "default",
"FILE:LINE", "GOVERSE_..." or "--flag"; key is the file's, if the file says something.`,
		Example: `  goverse config show --config cluster.yaml --node-id n1
  goverse config show --config cluster.yaml --gate-id g1 -- --listen :49001`,
		Args: func(c *cobra.Command, args []string) error {
			if at := c.ArgsLenAtDash(); len(args) > 0 && at != 0 {
				return fmt.Errorf("unexpected argument %q; the program's own flags stand after --", args[0])
			}
			return nil
		},
		RunE: does(func(c *cobra.Command, args []string) error { return p.showConfig(file, node, gate, args, all) }),
	}
	c.Flags().StringVar(&file, "config", "", "`file` that describes the cluster (default: $GOVERSE_CONFIG)")
	c.Flags().StringVar(&node, "node-id", "", "which `entry` of its nodes is meant (default: $GOVERSE_NODE_ID, or the only one)")
	c.Flags().StringVar(&gate, "gate-id", "", "which `entry` of its gates is meant")
	c.Flags().BoolVar(&all, "all", false, "show the defaults too")
	c.MarkFlagsMutuallyExclusive("node-id", "gate-id")
	c.ValidArgsFunction = func(_ *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		flags := nodeFlags()
		if gate != "" {
			flags = gatecmd.Flags()
		}
		list, how, _ := completeBehindDash(flags, args, typed)
		return list, how
	}
	return c
}

func (p *program) showConfig(file, node, gate string, own []string, all bool) error {
	var args []string
	for _, f := range []struct{ flag, value string }{{"--config", file}, {"--node-id", node}, {"--gate-id", gate}} {
		if f.value != "" {
			args = append(args, f.flag, f.value)
		}
	}
	args = append(args, own...)
	if gate != "" {
		l := gateconfig.NewLoader(nil)
		if _, err := l.LoadIn(p.environment, args); err != nil {
			return err
		}
		return p.show(effectiveOf(l.Settings(), all))
	}
	l := goverseapi.NewConfigLoader(nil)
	if _, err := l.LoadIn(p.environment, args); err != nil {
		return err
	}
	return p.show(effectiveOf(l.Settings(), all))
}

// effective is the answer of config show.
type effective struct {
	Settings []conf.Setting `json:"settings"`
}

func effectiveOf(settings []conf.Setting, all bool) effective {
	e := effective{Settings: []conf.Setting{}}
	for _, s := range settings {
		if all || s.From != conf.Default {
			e.Settings = append(e.Settings, s)
		}
	}
	return e
}

func (e effective) table(w io.Writer) {
	rows := [][]string{{"FLAG", "VALUE", "FROM", "KEY"}}
	for _, s := range e.Settings {
		rows = append(rows, []string{s.Flag, cmp.Or(s.Value, "-"), s.From, cmp.Or(s.Key, "-")})
	}
	columns(w, rows)
}
