package main

import (
	"context"
	"errors"
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
	"github.com/xiaonanln/goverse/cluster/etcdmanager"
)

// drainFlags is how to drain.
type drainFlags struct{ wait, undo, force bool }

func (p *program) drain() *cobra.Command {
	var f drainFlags
	c := &cobra.Command{
		Use:   "drain host:port",
		Short: "Move everything off a node, without stopping it; or take that back",
		Long: `drain marks a node as draining: the leader gives its shards to the other nodes, and it hands them
over, one by one, without a failed call. Its process goes on, and answers calls that are on their
way, until it is stopped. Objects whose id names the node do not move: they end with its process.

It need not be done before a planned stop: a node that gets SIGTERM drains by itself.

With -o json: {"address", "state": "ready" or "draining", "changed": bool, "held", "target"}, the
shards as they were when the order was given, or with --wait as they are at the end.`,
		Example: `  goverse drain 10.0.0.1:47000 --wait
  goverse drain 10.0.0.1:47000 --undo`,
		Args:              takes("the node's address"),
		ValidArgsFunction: p.completes(nodeNames),
		RunE: does(func(c *cobra.Command, args []string) error {
			if f.wait && f.undo {
				return usagef("--wait and --undo: one of them only")
			}
			kv, err := p.connect()
			if err != nil {
				return err
			}
			defer kv.Close()
			return p.order(c.Context(), kv, args[0], f)
		}),
	}
	c.Flags().BoolVar(&f.wait, "wait", false, "wait until the node has no shard left; Ctrl-C ends the waiting, not the draining")
	c.Flags().BoolVar(&f.undo, "undo", false, "make the node ready again: it gets shards again as the cluster balances itself")
	c.Flags().BoolVar(&f.force, "force", false, "also the last ready node; with --undo, also a node whose process is stopping")
	return c
}

// ordered is the answer of drain.
type ordered struct {
	Address string `json:"address"`
	State   string `json:"state"`
	Changed bool   `json:"changed"`
	Held    int    `json:"held"`
	Target  int    `json:"target"`

	text string
}

func (o ordered) table(w io.Writer) { fmt.Fprintln(w, o.text) }

// order gives the order and says what came of it.
func (p *program) order(ctx context.Context, kv etcdmanager.KV, address string, f drainFlags) error {
	mark, err := p.give(ctx, kv, address, f)
	if err != nil {
		return p.refused(ctx, kv, mark, address, err)
	}
	l := diagnosis.Loads(p.picture(mark.Before))[address]
	o := ordered{Address: address, State: consensusmanager.StateReady, Changed: mark.Changed, Held: l.Held, Target: l.Target}
	switch {
	case f.undo && mark.Changed:
		o.text = fmt.Sprintf("%s is ready again: it gets shards again as the cluster balances itself", address)
	case f.undo:
		o.text = fmt.Sprintf("%s is not draining; nothing was changed", address)
	default:
		return p.drained(ctx, kv, mark, o, f)
	}
	return p.show(o)
}

func (p *program) give(ctx context.Context, kv etcdmanager.KV, address string, f drainFlags) (consensusmanager.Mark, error) {
	ctx, cancel := context.WithTimeout(ctx, p.flags.timeout)
	defer cancel()
	if f.undo {
		return consensusmanager.Undrain(ctx, kv, p.flags.prefix, address, f.force)
	}
	return consensusmanager.Drain(ctx, kv, p.flags.prefix, address, f.force)
}

// refused says why an order was not carried out, and what to do.
func (p *program) refused(ctx context.Context, kv etcdmanager.KV, mark consensusmanager.Mark, address string, err error) error {
	if mark.Before == nil {
		return fmt.Errorf("%s was not marked: %w", address, err)
	}
	v := p.picture(mark.Before)
	switch {
	case errors.Is(err, consensusmanager.ErrNoCluster) && len(v.Damage()) > 0:
		return fmt.Errorf("%s was not marked: what the cluster is cannot be read: %s", address, strings.Join(v.Damage(), "; "))
	case errors.Is(err, consensusmanager.ErrNoCluster):
		ctx, cancel := context.WithTimeout(ctx, p.flags.timeout)
		defer cancel()
		return p.nothingThere(ctx, kv)
	case errors.Is(err, consensusmanager.ErrNoNode):
		return unknownNode(v, address)
	case errors.Is(err, consensusmanager.ErrLastReady):
		held := diagnosis.Loads(v)[address].Held
		return fmt.Errorf("%s is the last ready node: what it holds (%s) would have nowhere to go and stay. Start another node, or take the draining of another back (--undo); --force marks it all the same", address, diagnosis.Some(held, "shard"))
	case errors.Is(err, consensusmanager.ErrStopping):
		return fmt.Errorf("%s drains because its process is stopping, not because of an order: it would get shards that it is about to give back. --force marks it all the same", address)
	case errors.Is(err, consensusmanager.ErrUnknownOutcome):
		return fmt.Errorf("it is not known whether %s was marked: give the same order again, which does no harm: %w", address, err)
	}
	return fmt.Errorf("%s was not marked: %w", address, err)
}

// drained says what will happen now, or waits until it has.
func (p *program) drained(ctx context.Context, kv etcdmanager.KV, mark consensusmanager.Mark, o ordered, f drainFlags) error {
	o.State = consensusmanager.StateDraining
	text := "is draining"
	if !mark.Changed {
		text = "was draining already"
	}
	switch others := othersReady(p.picture(mark.Before), o.Address); {
	case o.Held == 0 && o.Target == 0:
		o.text = fmt.Sprintf("%s %s, and holds no shard", o.Address, text)
	case others == 0:
		o.text = fmt.Sprintf("%s %s, but no other node is ready to take what it holds: %s", o.Address, text, diagnosis.Some(o.Held, "shard"))
	default:
		o.text = fmt.Sprintf("%s %s: %s to go, to %s", o.Address, text, diagnosis.Some(o.Held, "shard"), diagnosis.Some(others, "ready node"))
	}
	if !f.wait {
		return p.show(o)
	}
	fmt.Fprintln(p.err, o.text)
	if err := p.empty(ctx, kv, mark, &o); err != nil {
		return err
	}
	return p.show(o)
}

func othersReady(v *picture, address string) int {
	n := 0
	for _, m := range v.Members() {
		if m.Address != address && !m.Draining {
			n++
		}
	}
	return n
}

// empty waits until the node that was marked has no shard left.
func (p *program) empty(ctx context.Context, kv etcdmanager.KV, mark consensusmanager.Mark, o *ordered) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	marked, _ := mark.Before.Members().Find(o.Address)
	report := newReport(p.err, p.interactive)
	defer report.end()
	var ended error
	err := consensusmanager.Follow(ctx, kv, p.flags.prefix, func(view *consensusmanager.View) bool {
		v := p.picture(view)
		now, alive := v.Members().Find(o.Address)
		l := diagnosis.Loads(v)[o.Address]
		o.Held, o.Target = l.Held, l.Target
		switch {
		case !alive:
			o.State, o.text = gone, fmt.Sprintf("%s is gone: its process has ended", o.Address)
			return false
		case now.Registration != marked.Registration:
			ended = fmt.Errorf("%s was started anew, and is %s", o.Address, diagnosis.StateOf(now))
			return false
		case !now.Draining:
			ended = fmt.Errorf("%s is ready again: somebody took the order back", o.Address)
			return false
		case l.Held == 0 && l.Target == 0:
			o.text = fmt.Sprintf("%s has no shard left: its process can be stopped", o.Address)
			return false
		}
		report.say(progress(v, o.Address, l))
		return true
	})
	switch {
	case ended != nil:
		return ended
	case ctx.Err() != nil:
		return fmt.Errorf("no longer waiting; %s goes on draining (%s left), and --undo takes that back", o.Address, diagnosis.Some(o.Held, "shard"))
	case err != nil:
		return fmt.Errorf("%s goes on draining, but cannot be watched any more: %w", o.Address, err)
	}
	return nil
}

// progress is one line of how far a node is.
func progress(v *picture, address string, l load) string {
	left := diagnosis.Some(l.Held, "shard") + " left"
	switch {
	case v.Ready() == 0:
		return left + "; no other node is ready to take them"
	case l.Held > l.Out && v.Leaderless() != "":
		return left + "; " + v.Leaderless()
	case l.Held > 0 && l.Held <= few:
		return left + ": " + numbers(v, address)
	}
	return left
}

// few is how many shards are named by their numbers: those that do not want to go.
const few = 8

func numbers(v *picture, address string) string {
	var list []string
	for _, s := range v.Table.All() {
		if s.Current == address && v.Members().Registered(address, s.Registration) {
			list = append(list, strconv.Itoa(int(s.ID)))
		}
	}
	return strings.Join(list, ", ")
}
