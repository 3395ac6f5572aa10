package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/xiaonanln/goverse/cluster/diagnosis"
	"github.com/xiaonanln/goverse/object"
)

func (p *program) explain() *cobra.Command {
	c := &cobra.Command{
		Use:   "explain",
		Short: "Say why a shard, an object or a node is where it is, and what it waits for",
		Long: `explain says why a shard, an object or a node is where it is, what is to happen next, who has to
do it, and what stands in the way.

With -o json: {"subject", "object": {"type", "id", "placement": "hash", "shard" or "node"},
"shard": as in goverse shards, "node": as in goverse nodes, "facts": {name: text}, "summary",
"acts": who has to act next, or "nobody", "how", "waits_for": [text], "notes": [text]}.`,
		Example: `  goverse explain object ChatRoom/general
  goverse explain shard 4711
  goverse explain node 10.0.0.1:47000`,
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("explain what? shard N, object Type/id or node host:port")
			}
			return usagef("explain %q: want shard N, object Type/id or node host:port", args[0])
		},
	}
	c.AddCommand(p.explainShard(), p.explainObject(), p.explainNode())
	return c
}

func (p *program) explainShard() *cobra.Command {
	return &cobra.Command{
		Use:               "shard N",
		Short:             "Explain a shard by its number",
		Example:           "  goverse explain shard 4711",
		Args:              takes("the shard's number"),
		ValidArgsFunction: p.completes(shardNumbers),
		RunE: does(func(c *cobra.Command, args []string) error {
			n, err := strconv.Atoi(args[0])
			if err != nil || n < 0 {
				return usagef("shard %q: want a number from 0", args[0])
			}
			return p.withView(c.Context(), func(v *picture) error {
				if n >= v.Table.Len() {
					return noSuchShard(v, n)
				}
				p.warn(v.Damages())
				return p.show(explained{diagnosis.Shard(v, n)})
			})
		}),
	}
}

func noSuchShard(v *picture, n int) error {
	if v.Meta == nil {
		return fmt.Errorf("there are no shards: what the cluster is cannot be read")
	}
	return usagef("there is no shard %d: the cluster has %d, 0 to %d", n, v.Table.Len(), v.Table.Len()-1)
}

func (p *program) explainObject() *cobra.Command {
	return &cobra.Command{
		Use:   "object Type/id",
		Short: "Explain where an object is by its type and id",
		Long: `object says in which shard an object is, and why it is where it is.

It cannot tell whether the object exists: that is known to its store alone.`,
		Example: `  goverse explain object ChatRoom/general
  goverse explain object Counter/shard#17/apples`,
		Args:              takes("the object, Type/id,"),
		ValidArgsFunction: p.completes(objectTypes),
		RunE: does(func(c *cobra.Command, args []string) error {
			ref, err := parseRef(args[0])
			if err != nil {
				return err
			}
			return p.withView(c.Context(), func(v *picture) error {
				if v.Meta == nil {
					return noSuchShard(v, 0)
				}
				p.warn(v.Damages())
				return p.show(explained{diagnosis.Object(v, ref)})
			})
		}),
	}
}

// parseRef reads Type/id. The id may hold more slashes.
func parseRef(s string) (object.Ref, error) {
	t, id, ok := strings.Cut(s, "/")
	if !ok {
		return object.Ref{}, usagef("object %q: want Type/id, as ChatRoom/general", s)
	}
	if err := object.ValidName(t); err != nil {
		return object.Ref{}, usagef("object %q: the type: %w", s, err)
	}
	if err := object.ValidID(id); err != nil {
		return object.Ref{}, usagef("object %q: %w", s, err)
	}
	return object.Ref{Type: t, ID: id}, nil
}

func (p *program) explainNode() *cobra.Command {
	return &cobra.Command{
		Use:               "node host:port",
		Short:             "Explain a node by its address",
		Example:           "  goverse explain node 10.0.0.1:47000",
		Args:              takes("the node's address"),
		ValidArgsFunction: p.completes(nodeNames),
		RunE: does(func(c *cobra.Command, args []string) error {
			return p.withView(c.Context(), func(v *picture) error {
				e, known := diagnosis.Node(v, args[0])
				if !known {
					return unknownNode(v, args[0])
				}
				p.warn(v.Damages())
				return p.show(explained{e})
			})
		}),
	}
}

// explained is the answer of explain.
type explained struct{ *diagnosis.Explanation }

func (e explained) table(w io.Writer) {
	fmt.Fprintf(w, "%s\n\n", clean(e.Subject))
	width := 0
	for _, name := range e.Order() {
		width = max(width, len(name))
	}
	for _, name := range e.Order() {
		fmt.Fprintf(w, "  %-*s  %s\n", width, name, clean(e.Facts[name]))
	}
	fmt.Fprintf(w, "\n%s\n", sentence(e.Summary))
	if e.Acts == diagnosis.Nobody {
		fmt.Fprintf(w, "Nobody has to act.\n")
	} else {
		fmt.Fprintf(w, "Next: %s\n", sentence(e.Acts+" "+e.How))
	}
	for _, why := range e.Waits {
		fmt.Fprintf(w, "In the way: %s\n", sentence(why))
	}
	for _, n := range e.Notes {
		fmt.Fprintf(w, "Note: %s\n", sentence(n))
	}
}

func sentence(s string) string { return clean(strings.TrimRight(s, ".")) + "." }
