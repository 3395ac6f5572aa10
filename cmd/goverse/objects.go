package main

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/xiaonanln/goverse/cluster/census"
	"github.com/xiaonanln/goverse/cluster/diagnosis"
	"github.com/xiaonanln/goverse/internal/peer"
)

func (p *program) objects() *cobra.Command {
	var node string
	q := peer.LiveQuery{}
	c := &cobra.Command{
		Use:   "objects [TYPE]",
		Short: "List the objects that live on the nodes now",
		Long: `objects lists the objects that live in the memory of the nodes now, in the order of their types and
ids. What is stored and not in use is not among them: it lives from its next call on.

It asks the nodes themselves, as a member does, by the secret that is in etcd: whoever can read
the cluster's etcd can ask. A node that does not answer is named on standard error, and the exit code is 1.

With -o json: {"objects": [{"type", "id", "node", "shard", "last_used": RFC 3339, "queued"}], "more": bool,
"silent": [{"address", "error"}]}.`,
		Example: `  goverse objects
  goverse objects ChatRoom --prefix gen
  goverse objects --node 10.0.0.1:47000 --limit 1000`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: p.completes(typeNames),
	}
	c.Flags().StringVar(&node, "node", "", "only those on this node, `host:port`")
	c.Flags().StringVar(&q.Prefix, "prefix", "", "only those whose `ids` begin so")
	c.Flags().IntVar(&q.Limit, "limit", 100, fmt.Sprintf("how `many`, 1 to %d", peer.MaxLive))
	p.nodeFlags(c)
	_ = c.RegisterFlagCompletionFunc("node", p.completesFlag(nodeNames))
	c.RunE = does(func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			q.Type = args[0]
		}
		if q.Limit < 1 || q.Limit > peer.MaxLive {
			return usagef("--limit %d: want 1 to %d", q.Limit, peer.MaxLive)
		}
		return p.withView(c.Context(), func(v *picture) error {
			nodes := v.Addresses()
			if node != "" {
				if !v.Members().Has(node) {
					return unknownNode(v, node)
				}
				nodes = []string{node}
			}
			peers, err := p.peers(v)
			if err != nil {
				return err
			}
			defer peers.Close()
			found, silent, err := peers.Objects(c.Context(), nodes, q)
			if err != nil {
				return err
			}
			return p.showFound(newObjectList(found, silent, q.Limit))
		})
	})
	return c
}

// showFound shows a list, and fails where it may not be all.
func (p *program) showFound(l objectList) error {
	if err := p.show(l); err != nil {
		return err
	}
	for _, s := range l.Silent {
		p.warn([]string{fmt.Sprintf("%s does not say what lives there: %s", s.Address, s.Error)})
	}
	if len(l.Silent) > 0 {
		return fmt.Errorf("the list lacks what lives on %s", diagnosis.Some(len(l.Silent), "node"))
	}
	return nil
}

// objectList is the answer of objects.
type objectList struct {
	Objects []objectRow     `json:"objects"`
	More    bool            `json:"more"`
	Silent  []census.Silent `json:"silent"`
}

type objectRow struct {
	Type     string    `json:"type"`
	ID       string    `json:"id"`
	Node     string    `json:"node"`
	Shard    int       `json:"shard"`
	LastUsed time.Time `json:"last_used"`
	Queued   int       `json:"queued"`
}

func newObjectList(found []census.Found, silent []census.Silent, limit int) objectList {
	l := objectList{Objects: []objectRow{}, More: len(found) == limit, Silent: append([]census.Silent{}, silent...)}
	for _, o := range found {
		l.Objects = append(l.Objects, objectRow{o.Ref.Type, o.Ref.ID, o.Node, o.Shard, o.LastUsed.UTC(), o.Queued})
	}
	return l
}

func (l objectList) table(w io.Writer) {
	rows := [][]string{{"TYPE", "ID", "NODE", "SHARD", "QUEUED", "LAST USED"}}
	for _, o := range l.Objects {
		shard := strconv.Itoa(o.Shard)
		if o.Shard < 0 {
			shard = "-"
		}
		rows = append(rows, []string{o.Type, o.ID, o.Node, shard, strconv.Itoa(o.Queued), o.LastUsed.Format(time.RFC3339)})
	}
	columns(w, rows)
	if l.More {
		fmt.Fprintln(w, "There may be more: --limit, --prefix or a type show others.")
	}
}
