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
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/xiaonanln/goverse/cluster/census"
)

func (p *program) top() *cobra.Command {
	var every time.Duration
	var times int
	c := &cobra.Command{
		Use:   "top",
		Short: "Show how busy nodes, gates, types and objects are",
		Long: `top draws anew every second what the nodes and gates do: calls and errors per second, latencies,
calls that wait for a turn, commits; the types that are called most, and the busiest objects. Ctrl-C ends it.

Nodes count only while somebody looks, so the first picture shows no rates. It asks them as a member does, by the
secret that is in etcd: whoever can read the cluster's etcd can ask.

With -o json, a line for each picture: {"at": unix milliseconds, "nodes": [{"address", "silent", "objects", "calls",
"errors", "p50", "p99", "queued", "commits"}], "gates": [{"address", "clients", "calls", "pushes"}], "types": [[type,
node, objects, calls, errors]], "edges": [[from, to, calls]], "top": [{"type", "id", "node", "calls"}]}; rates per second,
latencies in microseconds.`,
		Example: `  goverse top
  goverse top --every 5s
  goverse top --times 2 -o json | tail -1 | jq .top`,
		Args: takes(),
	}
	c.Flags().DurationVar(&every, "every", time.Second, "how long between two pictures, 1s to 8s")
	c.Flags().IntVar(&times, "times", 0, "end after so `many` pictures (default: never)")
	p.nodeFlags(c)
	c.RunE = does(func(c *cobra.Command, _ []string) error {
		if every < time.Second || every > 8*time.Second { // later a node counts no more
			return usagef("--every %v: want 1s to 8s", every)
		}
		ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		err := p.watchRates(ctx, every, times)
		if ctx.Err() != nil {
			return nil // Ctrl-C is how it ends
		}
		return err
	})
	return c
}

// watchRates draws rates until ctx ends, or so often.
func (p *program) watchRates(ctx context.Context, every time.Duration, times int) error {
	kv, err := p.connect()
	if err != nil {
		return err
	}
	defer kv.Close()
	v, err := p.read(ctx, kv)
	if err != nil {
		return err
	}
	peers, err := p.peers(v)
	if err != nil {
		return err
	}
	defer peers.Close()
	var meter census.Meter
	for n := 1; ; n++ {
		pause, cancel := context.WithTimeout(ctx, every)
		peers.Keep(v.Addresses())
		r := meter.Rates(time.Now(), peers.Survey(ctx, v.Addresses()), v.Gates())
		err := p.drawRates(r, n == 1)
		if err == nil && n != times {
			<-pause.Done()
		}
		cancel()
		if err != nil || n == times || ctx.Err() != nil {
			return err
		}
		if v, err = p.read(ctx, kv); err != nil {
			return err
		}
	}
}

func (p *program) drawRates(r *census.Rates, first bool) error {
	var b bytes.Buffer
	b.Write(p.clear(first))
	if p.flags.output == "json" {
		if err := json.NewEncoder(&b).Encode(r); err != nil {
			return err
		}
	} else {
		busy{r}.table(&b)
	}
	_, err := p.out.Write(b.Bytes())
	return err
}

// busy is rates as a table.
type busy struct{ *census.Rates }

const someBusy = 10

func (r busy) table(w io.Writer) {
	rows := [][]string{{"NODE", "OBJECTS", "CALLS/S", "ERRORS/S", "P50", "P99", "QUEUED", "COMMITS/S"}}
	for _, n := range r.Nodes {
		if n.Silent != "" {
			rows = append(rows, []string{n.Address, "silent: " + n.Silent})
			continue
		}
		rows = append(rows, []string{n.Address, strconv.FormatInt(n.Objects, 10), rate(n.Calls), rate(n.Errors), micros(n.P50), micros(n.P99), strconv.FormatInt(n.Queued, 10), rate(n.Commits)})
	}
	columns(w, rows)
	if len(r.Gates) > 0 {
		rows = [][]string{{"GATE", "CLIENTS", "CALLS/S", "PUSHES/S"}}
		for _, g := range r.Gates {
			rows = append(rows, []string{g.Address, strconv.FormatInt(g.Clients, 10), rate(g.Calls), cmp.Or(rate(g.Pushes), g.Silent)})
		}
		section(w, rows)
	}
	rows = [][]string{{"TYPE", "NODE", "OBJECTS", "CALLS/S", "ERRORS/S"}}
	for _, t := range r.Types[:min(len(r.Types), 3*someBusy)] {
		rows = append(rows, []string{t.Type, t.Node, strconv.FormatInt(t.Objects, 10), rate(t.Calls), rate(t.Errors)})
	}
	section(w, rows)
	rows = [][]string{{"BUSIEST", "NODE", "CALLS/S"}}
	for _, o := range r.Top[:min(len(r.Top), someBusy)] {
		rows = append(rows, []string{o.Type + "/" + o.ID, o.Node, rate(o.Calls)})
	}
	section(w, rows)
}

// section is a table behind another, if it has rows.
func section(w io.Writer, rows [][]string) {
	if len(rows) > 1 {
		fmt.Fprintln(w)
		columns(w, rows)
	}
}

func rate(f float64) string { return strconv.FormatFloat(f, 'f', 1, 64) }

func micros(n int64) string {
	if n == 0 {
		return "-"
	}
	return (time.Duration(n) * time.Microsecond).String()
}
