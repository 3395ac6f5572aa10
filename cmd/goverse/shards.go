package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/xiaonanln/goverse/cluster/sharding"
)

// states is every state's name, in the order of the census.
var states = []string{
	sharding.Unassigned.String(), sharding.Assigned.String(), sharding.Held.String(),
	sharding.Moving.String(), sharding.Orphaned.String(), sharding.Adrift.String(),
}

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
				p.warn(warnings(v))
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
	_ = c.RegisterFlagCompletionFunc("state", cobra.FixedCompletions(append(slices.Clone(states), damaged), cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("node", p.completeNodes)
	return c
}

const (
	damaged = "damaged"
	gone    = "gone" // of a node that shards are still meant for
)

// shardFilter says which shards to list.
type shardFilter struct {
	all         bool
	node, state string
}

func (f shardFilter) lists() bool { return f.all || f.node != "" || f.state != "" }

func (f shardFilter) check() error {
	if f.state != "" && f.state != damaged && !slices.Contains(states, f.state) {
		return usagef("--state %q: want one of %s, %s", f.state, strings.Join(states, ", "), damaged)
	}
	return nil
}

func (f shardFilter) of(v *picture) []shardRow {
	list := []shardRow{}
	for _, s := range v.Table.All() {
		row := newShardRow(v, s)
		switch {
		case f.node != "" && s.Current != f.node && s.Target != f.node:
		case f.state == damaged && !s.Damaged:
		case f.state != "" && f.state != damaged && row.State != f.state:
		default:
			list = append(list, row)
		}
	}
	return list
}

// shardRow is one shard's record, and what it means.
type shardRow struct {
	ID           int    `json:"shard"`
	Epoch        uint64 `json:"epoch"`
	Target       string `json:"target"`
	Current      string `json:"current"`
	Registration string `json:"registration"`
	Handover     string `json:"handover"`
	State        string `json:"state"`
	Damaged      bool   `json:"damaged"`

	record string
}

func newShardRow(v *picture, s *sharding.Shard) shardRow {
	return shardRow{
		ID: int(s.ID), Epoch: s.Epoch, Target: s.Target, Current: s.Current, Registration: s.Registration, Handover: s.Handover,
		State: s.State(v.Members()).String(), Damaged: s.Damaged, record: s.String(),
	}
}

// shardList is the answer of shards with a filter.
type shardList struct {
	Shards []shardRow `json:"shards"`
}

func (l shardList) table(w io.Writer) {
	for _, s := range l.Shards {
		fmt.Fprintln(w, clean(s.record), s.State)
	}
}

// census is the answer of shards.
type census struct {
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

func newCensus(v *picture) census {
	counted := v.Census()
	c := census{Total: v.Table.Len(), States: map[string]int{}, Damaged: counted.Damaged, Nodes: []nodeLoad{}}
	for i, name := range states {
		c.States[name] = counted.States[i]
	}
	loads := loadsOf(v)
	for _, m := range v.Members() {
		c.Nodes = append(c.Nodes, nodeLoad{m.Address, stateOf(m), loads[m.Address]})
		delete(loads, m.Address)
	}
	for _, address := range sortedKeys(loads) {
		c.Nodes = append(c.Nodes, nodeLoad{address, gone, loads[address]})
	}
	return c
}

func (c census) table(w io.Writer) {
	rows := [][]string{{"STATE", "SHARDS"}}
	for _, name := range states {
		if n := c.States[name]; n > 0 {
			rows = append(rows, []string{name, strconv.Itoa(n)})
		}
	}
	if c.Damaged > 0 {
		rows = append(rows, []string{damaged, strconv.Itoa(c.Damaged)})
	}
	columns(w, append(rows, []string{"total", strconv.Itoa(c.Total)}))
	fmt.Fprintln(w)
	rows = [][]string{{"NODE", "STATE", "HELD", "TARGET", "IN", "OUT"}}
	for _, n := range c.Nodes {
		rows = append(rows, append([]string{n.Address, n.State}, n.load.cells()...))
	}
	columns(w, rows)
}
