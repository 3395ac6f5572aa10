package main

import (
	"io"

	"github.com/spf13/cobra"
)

func (p *program) gates() *cobra.Command {
	return &cobra.Command{
		Use:   "gates",
		Short: "List the live gates",
		Long: `gates lists the live gates of the cluster.

With -o json: {"prefix", "revision", "gates": [{"address"}]}.`,
		Example: "  goverse gates",
		Args:    takes(),
		RunE: does(func(c *cobra.Command, _ []string) error {
			return p.withView(c.Context(), func(v *picture) error {
				l := gateList{Prefix: p.flags.prefix, Revision: v.Revision, Gates: []gateRow{}}
				for _, address := range v.Gates() {
					l.Gates = append(l.Gates, gateRow{address})
				}
				p.warn(v.Damages())
				if len(l.Gates) == 0 {
					p.warn([]string{"no gate has a process of its own; programs that run a gate beside their node are listed by goverse nodes"})
				}
				return p.show(l)
			})
		}),
	}
}

// gateList is the answer of gates.
type gateList struct {
	Prefix   string    `json:"prefix"`
	Revision int64     `json:"revision"`
	Gates    []gateRow `json:"gates"`
}

type gateRow struct {
	Address string `json:"address"`
}

func (l gateList) table(w io.Writer) {
	rows := [][]string{{"ADDRESS"}}
	for _, g := range l.Gates {
		rows = append(rows, []string{g.Address})
	}
	columns(w, rows)
}
