package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/xiaonanln/goverse/cluster/diagnosis"
)

func (p *program) shards() *cobra.Command {
	var f shardFilter
	c := &cobra.Command{
		Use:   "shards",
		Short: "Count the shards by state and node, or list them",
		Long: `shards counts the cluster's shards by state and by node. With --all, --node or --state it lists
them, one in a line: number, epoch, who should and who does hold it, state.

The states:
  unassigned  it was never given to a node                     the leader acts
  assigned    it has no holder                                 its target claims it
  held        its target holds it                              nobody has to act
  moving      its holder is to hand it to another node         the holder acts
  orphaned    its holder is gone                               its target claims it
  adrift      the node that should hold it is gone             the leader acts

With -o json: {"total", "states": {state: count}, "damaged", "nodes": [{"address", "state":
"ready", "draining" or "gone", "held", "target", "in", "out"}]}, and for a list {"shards": [{"shard", "epoch", "target", "current", "registration",
"handover", "state", "damaged": bool}]}.`,
		Example: `  goverse shards
  goverse shards --state moving
  goverse shards --node 10.0.0.1:47000`,
		Args: takes(),
		RunE: does(func(c *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			return p.withView(c.Context(), func(v *picture) error {
				p.warn(v.Warnings())
				if !f.lists() {
					return p.show(newCensus(v))
				}
				list := f.of(v)
				if f.node != "" && len(list) == 0 && f.state == "" && !v.Members().Has(f.node) {
					return unknownNode(v, f.node)
				}
				return p.show(shardList{list})
			})
		}),
	}
	c.Flags().BoolVarP(&f.all, "all", "a", false, "list all shards")
	c.Flags().StringVar(&f.node, "node", "", "list the shards that this node, `host:port`, holds or should hold")
	c.Flags().StringVar(&f.state, "state", "", "list the shards in this `state`, or those that are damaged")
	_ = c.RegisterFlagCompletionFunc("state", cobra.FixedCompletions(append(slices.Clone(diagnosis.States), diagnosis.Damaged), cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("node", p.completesFlag(nodeNames))
	return c
}

const gone = "gone" // of a node that shards are still meant for

// shardFilter says which shards to list.
type shardFilter struct {
	all         bool
	node, state string
}

func (f shardFilter) lists() bool { return f.all || f.node != "" || f.state != "" }

func (f shardFilter) check() error {
	if f.state != "" && f.state != diagnosis.Damaged && !slices.Contains(diagnosis.States, f.state) {
		return usagef("--state %q: want one of %s, %s", f.state, strings.Join(diagnosis.States, ", "), diagnosis.Damaged)
	}
	return nil
}

func (f shardFilter) of(v *picture) []diagnosis.ShardRow {
	list := []diagnosis.ShardRow{}
	for _, s := range v.Table.All() {
		row := diagnosis.ShardRowOf(v, s)
		switch {
		case f.node != "" && s.Current != f.node && s.Target != f.node:
		case f.state == diagnosis.Damaged && !s.Damaged:
		case f.state != "" && f.state != diagnosis.Damaged && row.State != f.state:
		default:
			list = append(list, row)
		}
	}
	return list
}

// shardList is the answer of shards with a filter.
type shardList struct {
	Shards []diagnosis.ShardRow `json:"shards"`
}

func (l shardList) table(w io.Writer) {
	for _, s := range l.Shards {
		fmt.Fprintln(w, clean(s.Record()), s.State)
	}
}

// shardCensus is the answer of shards.
type shardCensus struct {
	Total   int            `json:"total"`
	States  map[string]int `json:"states"`
	Damaged int            `json:"damaged"`
	Nodes   []nodeLoad     `json:"nodes"`
}

type nodeLoad struct {
	Address string `json:"address"`
	State   string `json:"state"`
	load
}

func newCensus(v *picture) shardCensus {
	counted := v.Census()
	c := shardCensus{Total: v.Table.Len(), States: map[string]int{}, Damaged: counted.Damaged, Nodes: []nodeLoad{}}
	for i, name := range diagnosis.States {
		c.States[name] = counted.States[i]
	}
	loads := diagnosis.Loads(v)
	for _, m := range v.Members() {
		c.Nodes = append(c.Nodes, nodeLoad{m.Address, diagnosis.StateOf(m), loads[m.Address]})
		delete(loads, m.Address)
	}
	for _, address := range slices.Sorted(maps.Keys(loads)) {
		c.Nodes = append(c.Nodes, nodeLoad{address, gone, loads[address]})
	}
	return c
}

func (c shardCensus) table(w io.Writer) {
	rows := [][]string{{"STATE", "SHARDS"}}
	for _, name := range diagnosis.States {
		if n := c.States[name]; n > 0 {
			rows = append(rows, []string{name, strconv.Itoa(n)})
		}
	}
	if c.Damaged > 0 {
		rows = append(rows, []string{diagnosis.Damaged, strconv.Itoa(c.Damaged)})
	}
	columns(w, append(rows, []string{"total", strconv.Itoa(c.Total)}))
	fmt.Fprintln(w)
	rows = [][]string{{"NODE", "STATE", "HELD", "TARGET", "IN", "OUT"}}
	for _, n := range c.Nodes {
		rows = append(rows, append([]string{n.Address, n.State}, cells(n.load)...))
	}
	columns(w, rows)
}
