package main

import (
	"cmp"
	"flag"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/xiaonanln/goverse/cluster/diagnosis"
	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/goverseapi"
)

// What a shell is offered of the cluster is read for so long at most: then it is nothing.
const offerPatience = time.Second

// offeredShards bounds the shards that are offered at once.
const offeredShards = 100

// offer is what could be typed, of the cluster as it stands, each perhaps with a tab and
// words about it.
type offer func(v *picture) []string

// completes offers a command's arguments, one after the other; behind them nothing.
func (p *program) completes(offers ...offer) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= len(offers) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return p.offered(c, offers[len(args)], typed)
	}
}

// completesFlag offers a flag's value, whatever the arguments are.
func (p *program) completesFlag(o offer) cobra.CompletionFunc {
	return func(c *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		return p.offered(c, o, typed)
	}
}

// offered is what an offer has that begins as typed. An etcd that is not there offers nothing.
func (p *program) offered(c *cobra.Command, o offer, typed string) (list []string, how cobra.ShellCompDirective) {
	how = cobra.ShellCompDirectiveNoFileComp
	if p.prepare(c) != nil {
		return nil, how
	}
	p.flags.timeout = min(p.flags.timeout, offerPatience)
	if err := p.withView(c.Context(), func(v *picture) error { list = o(v); return nil }); err != nil {
		return nil, how
	}
	list = slices.DeleteFunc(list, func(s string) bool { return !strings.HasPrefix(s, typed) })
	list = list[:min(len(list), offeredShards)]
	if len(list) > 0 && !slices.ContainsFunc(list, func(s string) bool { return !strings.HasSuffix(s, "/") }) {
		how |= cobra.ShellCompDirectiveNoSpace // an object's id follows
	}
	return list, how
}

func nodeNames(v *picture) []string { return v.Addresses() }

func typeNames(v *picture) (list []string) {
	for _, n := range v.NodeRows() {
		list = append(list, n.Types...)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// objectTypes is the beginnings of objects' names.
func objectTypes(v *picture) (list []string) {
	for _, t := range typeNames(v) {
		list = append(list, t+"/")
	}
	return list
}

// shardNumbers is all shards, those first that somebody has to do something about.
func shardNumbers(v *picture) []string {
	var waiting, held []string
	for _, s := range v.Table.All() {
		r := diagnosis.ShardRowOf(v, s)
		text := strconv.Itoa(r.ID) + "\t" + strings.TrimSpace(r.State+" "+cmp.Or(r.Current, r.Target))
		if r.State == sharding.Held.String() {
			held = append(held, text)
		} else {
			waiting = append(waiting, text)
		}
	}
	return append(waiting, held...)
}

// movable is what can be moved: shards, and objects.
func movable(v *picture) []string { return append(shardNumbers(v), objectTypes(v)...) }

// nodeFlags is the flags of programs that host objects.
func nodeFlags() *flag.FlagSet {
	fs := flag.NewFlagSet("node", flag.ContinueOnError)
	goverseapi.NewConfigLoader(fs)
	return fs
}

// completeBehindDash offers what a program that has the flags fs may be given behind --. ok
// says whether that is where one types: there alone cobra leaves arguments with a dash.
func completeBehindDash(fs *flag.FlagSet, args []string, typed string) (list []string, how cobra.ShellCompDirective, ok bool) {
	dashed := func(s string) bool { return strings.HasPrefix(s, "-") }
	if !dashed(typed) && !slices.ContainsFunc(args, dashed) {
		return nil, cobra.ShellCompDirectiveNoFileComp, false
	}
	list, how = completeFlags(fs, args, typed)
	return list, how, true
}

// choices is the values that flags of programs take, where they are few.
var choices = map[string][]string{
	"log-level":        {"debug", "info", "warn", "error", "off"},
	"log-format":       {"text", "json"},
	"quorum-loss":      {"continue", "freeze", "stop"},
	"degraded-mode":    {"on", "off"},
	"postgres-sslmode": {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"},
}

// completeFlags is what may follow args on the command line of a program that has the
// flags fs.
func completeFlags(fs *flag.FlagSet, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if name, value, joined := strings.Cut(typed, "="); joined {
		list, how := completeValue(fs.Lookup(strings.TrimLeft(name, "-")), value)
		for i := range list {
			list[i] = name + "=" + list[i]
		}
		return list, how
	}
	if len(args) > 0 {
		if f := unfinished(fs, args[len(args)-1]); f != nil {
			return completeValue(f, typed)
		}
	}
	return flagNames(fs, typed), cobra.ShellCompDirectiveNoFileComp
}

// unfinished is the flag that an argument names, if its value is the next argument.
func unfinished(fs *flag.FlagSet, arg string) *flag.Flag {
	name := strings.TrimLeft(arg, "-")
	f := fs.Lookup(name)
	if f == nil || len(arg) == len(name) {
		return nil
	}
	if b, ok := f.Value.(interface{ IsBoolFlag() bool }); ok && b.IsBoolFlag() {
		return nil
	}
	return f
}

func completeValue(f *flag.Flag, typed string) (list []string, how cobra.ShellCompDirective) {
	if f == nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	for _, choice := range choices[f.Name] {
		if strings.HasPrefix(choice, typed) {
			list = append(list, choice)
		}
	}
	what, _ := flag.UnquoteUsage(f)
	return list, completePaths(what)
}

// completePaths is how a shell completes a value by what it is called.
func completePaths(what string) cobra.ShellCompDirective {
	switch what {
	case "file":
		return cobra.ShellCompDirectiveDefault
	case "directory":
		return cobra.ShellCompDirectiveFilterDirs
	}
	return cobra.ShellCompDirectiveNoFileComp
}

// flagNames is the flags that begin as typed, each with what it is for.
func flagNames(fs *flag.FlagSet, typed string) (names []string) {
	fs.VisitAll(func(f *flag.Flag) {
		if name := "--" + f.Name; strings.HasPrefix(name, typed) {
			_, usage := flag.UnquoteUsage(f)
			names = append(names, name+"\t"+usage)
		}
	})
	return names
}

// completeFiles has shells offer files, or directories, for the flags of c and of the
// commands below it that are called so.
func completeFiles(c *cobra.Command) {
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if what, _ := pflag.UnquoteUsage(f); what == "file" || what == "directory" {
			_ = c.RegisterFlagCompletionFunc(f.Name, func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
				return nil, completePaths(what)
			})
		}
	})
	for _, below := range c.Commands() {
		completeFiles(below)
	}
}
