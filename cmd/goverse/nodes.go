package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/diagnosis"
)

func (p *program) nodes() *cobra.Command {
	var watch bool
	c := &cobra.Command{
		Use:   "nodes",
		Short: "List the live nodes: state, leader, shards, types, version",
		Long: `nodes lists the live nodes of the cluster.

HELD is how many shards the node holds, TARGET how many it should hold; IN is those that are
still to come to it, OUT those that are to leave it: HELD + IN - OUT = TARGET.

With -o json: {"prefix", "cluster", "revision", "formed", "leader", "warnings": [text],
"nodes": [{"address", "registration", "state": "ready" or "draining", "leader": bool, "held",
"target", "in", "out", "types": [name], "version", "store"}]}. With --watch, one such object
in a line for each change.`,
		Example: `  goverse nodes
  goverse nodes --watch
  goverse nodes -o json | jq -r '.nodes[] | select(.state == "draining") | .address'`,
		Args: takes(),
		RunE: does(func(c *cobra.Command, _ []string) error {
			if watch {
				return p.watchNodes(c.Context())
			}
			return p.withView(c.Context(), func(v *picture) error {
				l := newNodeList(p.flags.prefix, v)
				p.warn(l.Warnings)
				return p.show(l)
			})
		}),
	}
	c.Flags().BoolVarP(&watch, "watch", "w", false, "draw it anew whenever it changes, until Ctrl-C")
	return c
}

// nodeList is the answer of nodes.
type nodeList struct {
	Prefix   string              `json:"prefix"`
	Cluster  string              `json:"cluster"`
	Revision int64               `json:"revision"`
	Formed   bool                `json:"formed"`
	Leader   string              `json:"leader"`
	Warnings []string            `json:"warnings"`
	Nodes    []diagnosis.NodeRow `json:"nodes"`
}

// load is the shards of one node.
type load = diagnosis.Load

func newNodeList(prefix string, v *picture) nodeList {
	l := nodeList{Prefix: prefix, Revision: v.Revision, Formed: v.Formed, Leader: v.Leader.Address, Warnings: v.Warnings(), Nodes: v.NodeRows()}
	if v.Meta != nil {
		l.Cluster = v.Meta.Cluster
	}
	return l
}

func (l nodeList) table(w io.Writer) {
	rows := [][]string{{"ADDRESS", "STATE", "LEADER", "HELD", "TARGET", "IN", "OUT", "VERSION", "TYPES"}}
	for _, n := range l.Nodes {
		mark := ""
		if n.Leader {
			mark = "*"
		}
		rows = append(rows, append([]string{n.Address, n.State, cmp.Or(mark, "-")}, append(cells(n.Load), cmp.Or(n.Version, "-"), cmp.Or(strings.Join(n.Types, ","), "-"))...))
	}
	columns(w, rows)
}

func cells(l load) []string {
	return []string{strconv.Itoa(l.Held), strconv.Itoa(l.Target), strconv.Itoa(l.In), strconv.Itoa(l.Out)}
}

// watchNodes draws the list whenever it says something new.
func (p *program) watchNodes(ctx context.Context) error {
	kv, err := p.connect()
	if err != nil {
		return err
	}
	defer kv.Close()
	if _, err := p.read(ctx, kv); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	var last []byte
	err = consensusmanager.Follow(ctx, kv, p.flags.prefix, func(v *consensusmanager.View) bool {
		picture := p.draw(p.picture(v))
		if !bytes.Equal(picture, last) {
			_, err := p.out.Write(append(p.clear(last == nil), picture...))
			last = picture
			return err == nil // else nobody reads any more
		}
		return true
	})
	if ctx.Err() != nil {
		return nil // Ctrl-C is how it ends
	}
	return err
}

// draw is the list as text, without what changes with every write.
func (p *program) draw(v *picture) []byte {
	l := newNodeList(p.flags.prefix, v)
	var b bytes.Buffer
	if p.flags.output == "json" {
		l.Revision = 0
		line, err := json.Marshal(l)
		if err != nil {
			panic(err) // it is made of strings and numbers
		}
		return append(line, '\n')
	}
	l.table(&b)
	fmt.Fprintf(&b, "%d shards: %v\n", v.Table.Len(), cmp.Or(v.Census().String(), "none"))
	for _, w := range l.Warnings {
		fmt.Fprintln(&b, "note:", clean(w))
	}
	return b.Bytes()
}

// clear begins a new picture: on a terminal over the old one.
func (p *program) clear(first bool) []byte {
	switch {
	case p.flags.output == "table" && p.terminal:
		return []byte("\x1b[H\x1b[2J")
	case p.flags.output == "json" || first:
		return nil
	}
	return []byte("\n")
}

// unknownNode says that no live node has the address, and which there are.
func unknownNode(v *picture, address string) error {
	known := v.Addresses()
	if len(known) == 0 {
		return fmt.Errorf("no node is registered as %s, nor is any other", address)
	}
	all := strings.Join(known[:min(len(known), someNodes)], ", ")
	if more := len(known) - someNodes; more > 0 {
		all += fmt.Sprintf(" and %d more", more)
	}
	return fmt.Errorf("no node is registered as %s%s; registered: %s", address, suggestion(alike(address, known)), all)
}

const someNodes = 10

// alike is those of known that the operator may have meant: the same port, the same
// host, or the same end.
func alike(address string, known []string) []string {
	host, port, split := strings.Cut(address, ":")
	var list []string
	for _, k := range known {
		h, q, _ := strings.Cut(k, ":")
		if h == host && host != "" || split && q == port && strings.HasSuffix(h, host) || !split && q == address {
			list = append(list, k)
		}
	}
	if len(list) > 3 {
		return nil
	}
	return list
}
