package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/xiaonanln/goverse/util/logger"
)

func (p *program) logLevel() *cobra.Command {
	var port string
	c := &cobra.Command{
		Use:   "loglevel [LEVEL]",
		Short: "Show what a node or a gate logs, or change it while it runs",
		Long: `loglevel shows from which level on a process writes lines: debug, info, warn, error or off. With a
LEVEL it changes that at once, until the process ends, or the level changes in its configuration file.

It goes through the operations port (--ops-listen) of one node or gate, which only takes orders from its own
machine: run it there. That the level was changed is in that process's log, if its level then shows it.

With -o json: {"level"}.`,
		Example: `  goverse loglevel
  goverse loglevel debug --ops localhost:48200`,
		Args:      cobra.MaximumNArgs(1),
		ValidArgs: []string{"debug", "info", "warn", "error", "off"},
		RunE: does(func(c *cobra.Command, args []string) error {
			r, err := p.levelRequest(port, args)
			if err != nil {
				return err
			}
			body, err := p.exchange(c.Context(), r)
			if err != nil {
				return err
			}
			var level logLevel
			if err := json.Unmarshal(body, &level); err != nil {
				return fmt.Errorf("%s: its answer is no level: %w", r.gate, err)
			}
			return p.show(level)
		}),
	}
	c.Flags().StringVar(&port, "ops", "http://localhost:48100", "the operations port of a node or a gate on this machine, `URL` or host:port")
	return c
}

// levelRequest asks for the level, or orders one.
func (p *program) levelRequest(port string, args []string) (r request, err error) {
	r.ops = true
	if r.gate, err = p.portURL("--ops", port); err != nil {
		return r, err
	}
	r.verb, r.url = http.MethodGet, r.gate+"/debug/loglevel"
	if len(args) == 0 {
		return r, nil
	}
	if _, err := logger.ParseLevel(args[0]); err != nil {
		return r, usagef("%v", err)
	}
	r.verb = http.MethodPut
	r.body, err = json.Marshal(logLevel{args[0]})
	return r, err
}

// logLevel is the answer of loglevel.
type logLevel struct {
	Level string `json:"level"`
}

func (l logLevel) table(w io.Writer) { fmt.Fprintln(w, clean(l.Level)) }
