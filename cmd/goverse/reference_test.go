package main

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/xiaonanln/goverse/cmd/gate/gatecmd"
	"github.com/xiaonanln/goverse/cmd/inspector/inspectorcmd"
	"github.com/xiaonanln/goverse/goverseapi"
	"github.com/xiaonanln/goverse/internal/conf"
)

var update = flag.Bool("update", false, "write docs/reference/cli.md anew")

// docs/reference/cli.md is what the programs say of themselves.
func TestReference(t *testing.T) {
	const path = "../../docs/reference/cli.md"
	want := reference(t)
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != want {
		t.Errorf("%s is not what the commands say; go test ./cmd/goverse -run TestReference -update writes it (%v)", path, err)
	}
}

const referenceHead = `<!-- Written by cmd/goverse from the commands and their flags; go test ./cmd/goverse -run TestReference -update writes it anew. -->
# Command line

Every command of ` + "`goverse`" + `, and the flags of the programs: [nodes](#programs-that-host-objects), ` +
	"[gates](#goverse-gate) and the [inspector](#goverse-inspector)" + `. ` + "`--help`" + ` says the same. A command has the flags of those above it too. A flag is written
` + "`--name value` or `--name=value`" + `. One that has a variable in the environment may be left out for it: the flag wins over the variable,
and that over the default; an empty variable is none. In between stands the [file](config.md) of the programs that read one.

The exit codes of all of them:

| code | means |
|---|---|
| %d | It is done; a program that serves was told to stop, by SIGINT or SIGTERM, and has. |
| %d | It failed. Standard error says why, and of a command whether anything was changed. |
| %d | The command line, the environment or the file makes no sense. Nothing was begun. |

| command | what it does |
|---|---|
`

// reference is the page.
func reference(t *testing.T) string {
	root := (&program{in: strings.NewReader(""), out: io.Discard, err: io.Discard}).root()
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	var b strings.Builder
	fmt.Fprintf(&b, referenceHead, exitOK, exitFailed, exitUsage)
	commands := under(root)
	for _, c := range commands[1:] {
		fmt.Fprintf(&b, "| [`%s`](#%s) | %s |\n", c.CommandPath(), strings.ReplaceAll(c.CommandPath(), " ", "-"), cell(c.Short))
	}
	for _, c := range commands {
		writeCommand(t, &b, c)
	}
	writeNodes(t, &b)
	return b.String()
}

// under is c and the commands below it that carry something out, each before its own.
func under(c *cobra.Command) (list []*cobra.Command) {
	list = append(list, c)
	for _, below := range c.Commands() {
		if !below.Hidden {
			list = append(list, under(below)...)
		}
	}
	return list
}

// programs of their own, below goverse: their flags, and which of them have a variable.
var foreignFlags = map[string]struct {
	flags *flag.FlagSet
	has   func(flag string) bool
}{
	"gate":      {gatecmd.Flags(), func(string) bool { return true }},
	"inspector": {inspectorcmd.Flags(), inspectorcmd.HasVariable},
}

func writeCommand(t *testing.T, b *strings.Builder, c *cobra.Command) {
	fmt.Fprintf(b, "\n## %s\n\n", c.CommandPath())
	if own, foreign := foreignFlags[c.Name()]; foreign {
		head, _, _ := strings.Cut(execute(t, nil, c.Name(), "--help").stdout, "\nFlags:\n")
		block(b, head)
		fmt.Fprintf(b, "\nThe program `%s` is the same.\n", c.Name())
		table(b, goRows(own.flags, own.has))
		return
	}
	fmt.Fprintf(b, "`%s`\n\n", c.UseLine())
	block(b, cmp.Or(c.Long, c.Short))
	if c.Example != "" {
		b.WriteString("\n")
		block(b, unindented(c.Example))
	}
	own := rows(c.LocalNonPersistentFlags())
	if c.HasParent() {
		table(b, append(own, rows(c.PersistentFlags())...))
		return
	}
	b.WriteString("\nFlags of every command:\n")
	table(b, append(own, rows(c.PersistentFlags())...))
}

func block(b *strings.Builder, text string) {
	fmt.Fprintf(b, "```text\n%s\n```\n", strings.TrimRight(text, "\n"))
}

func unindented(text string) string {
	return strings.ReplaceAll(strings.TrimPrefix(text, "  "), "\n  ", "\n")
}

const nodesHead = `
## Programs that host objects

A program that calls ` + "`goverseapi.NewServer`" + `, or ` + "`goverseapi.NewConfigLoader`" + `, has these flags beside its own:
`

const mainHead = `
One that is ` + "`goverseapi.Main`" + ` has a gate in its process too, and so these besides, or in another sense:
`

func writeNodes(t *testing.T, b *strings.Builder) {
	fs := flag.NewFlagSet("node", flag.ContinueOnError)
	goverseapi.NewConfigLoader(fs)
	node := goRows(fs, func(string) bool { return true })
	b.WriteString(nodesHead)
	table(b, node)
	b.WriteString(mainHead)
	table(b, slices.DeleteFunc(mainRows(t), func(row string) bool { return slices.Contains(node, row) }))
}

// mainRows is the flags of a program that is goverseapi.Main, which such a process says.
func mainRows(t *testing.T) []string {
	c := command(t, []string{asMain + "=1"}, "--help")
	out, err := c.Output()
	if len(out) == 0 {
		t.Fatal(err)
	}
	return slices.Collect(strings.Lines(string(out)))
}

// sayFlags is a program that is goverseapi.Main, whose help is the rows of its flags.
func sayFlags() {
	flag.CommandLine = flag.NewFlagSet("program", flag.ContinueOnError)
	flag.CommandLine.Usage = func() {
		fmt.Print(strings.Join(goRows(flag.CommandLine, func(string) bool { return true }), ""))
	}
	goverseapi.Main()
}

func table(b *strings.Builder, rows []string) {
	if len(rows) > 0 {
		b.WriteString("\n| flag | default | environment | meaning |\n|---|---|---|---|\n")
		b.WriteString(strings.Join(rows, ""))
	}
}

// rows are a table's, one for each of a command's flags.
func rows(fs *pflag.FlagSet) (list []string) {
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" {
			return
		}
		name, usage := pflag.UnquoteUsage(f)
		short := ""
		if f.Shorthand != "" {
			short = "-" + f.Shorthand + ", "
		}
		list = append(list, row(short+strings.TrimSpace("--"+f.Name+" "+name), f.DefValue, f.Name, slices.Contains(variables, f.Name), usage))
	})
	return list
}

// goRows is rows of a set of Go's own package.
func goRows(fs *flag.FlagSet, has func(name string) bool) (list []string) {
	fs.VisitAll(func(f *flag.Flag) {
		name, usage := flag.UnquoteUsage(f)
		list = append(list, row(strings.TrimSpace("--"+f.Name+" "+name), f.DefValue, f.Name, has(f.Name), usage))
	})
	return list
}

func row(written, standard, name string, inEnvironment bool, usage string) string {
	variable := ""
	if inEnvironment {
		variable = "`" + conf.Variable(name) + "`"
	}
	if slices.Contains([]string{"", "false", "0", "0s", "[]"}, standard) || strings.Contains(usage, "(default") {
		standard = "" // it is nothing, or the words say what it is
	} else {
		standard = "`" + cell(standard) + "`"
	}
	return fmt.Sprintf("| `%s` | %s | %s | %s |\n", written, standard, variable, cell(usage))
}

// cell is text as it may stand in a table.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;").Replace(text)
}

// Whoever reads the page finds every command, and each has words for what it does.
func TestEveryCommandIsExplained(t *testing.T) {
	var out bytes.Buffer
	root := (&program{in: strings.NewReader(""), out: &out, err: &out}).root()
	for _, c := range under(root) {
		if c.Short == "" || c.Name() != "db" && !c.HasSubCommands() && c.RunE == nil {
			t.Errorf("%s: %q", c.CommandPath(), c.Short)
		}
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s --%s has no words", c.CommandPath(), f.Name)
			}
		})
	}
}
