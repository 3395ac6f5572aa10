package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/diagnosis"
	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/sharding"
)

// moveFlags is how a shard is to be moved.
type moveFlags struct {
	pin, unpin, wait bool
	stay             time.Duration
}

func (p *program) move() *cobra.Command {
	var f moveFlags
	c := &cobra.Command{
		Use:   "move SHARD|Type/id NODE",
		Short: "Move a shard to a node, or pin it there",
		Long: `move orders that a shard, or the shard that an object is in, goes to a node: with all objects that
are in it, live, without a failed call, as any planned move.

It then stays there for an hour (--for), or until that process ends: meanwhile the cluster evens out
the other shards around it. After that it is a shard like any other.

With --pin it stays there until --unpin: when the node leaves or dies the shard goes to another, and
comes back when a node with that address is there again. --unpin takes an order back, a move's
too; the shard stays where it is until the cluster evens out.

The order is in etcd, and the leader carries it out as soon as the node has been there for the
stability delay. goverse explain shard N says how far it is; goverse move --list shows all orders.

With -o json: {"shard", "order": "move", "pin" or "none", "node", "changed": bool, "holder"}; with
--list {"orders": [{"shard", "order", "node", "holder", "counts": bool}]}.`,
		Example: `  goverse move 4711 10.0.0.2:47000 --wait
  goverse move ChatRoom/general 10.0.0.2:47000 --for 8h
  goverse move 4711 10.0.0.2:47000 --pin
  goverse move 4711 --unpin
  goverse move --list`,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: p.completes(movable, nodeNames),
	}
	list := c.Flags().Bool("list", false, "show all orders")
	c.Flags().BoolVar(&f.pin, "pin", false, "it stays there until --unpin")
	c.Flags().BoolVar(&f.unpin, "unpin", false, "take back what was ordered of the shard")
	c.Flags().BoolVar(&f.wait, "wait", false, "wait until the node holds it; Ctrl-C ends the waiting, not the order")
	c.Flags().DurationVar(&f.stay, "for", consensusmanager.DefaultStay, "how long it stays there at least, if nothing else happens")
	c.RunE = does(func(c *cobra.Command, args []string) error {
		if *list {
			if err := takes()(c, args); err != nil {
				return usage{err}
			}
			return p.withView(c.Context(), func(v *picture) error { return p.show(newOrderList(v)) })
		}
		if err := f.check(c, args); err != nil {
			return usage{err}
		}
		kv, err := p.connect()
		if err != nil {
			return err
		}
		defer kv.Close()
		return p.moveShard(c.Context(), kv, args, f)
	})
	return c
}

func (f moveFlags) check(c *cobra.Command, args []string) error {
	want := []string{"the shard's number, or an object, Type/id,", "the node's address"}
	if f.unpin {
		want = want[:1]
	}
	switch {
	case f.unpin && (f.pin || f.wait || c.Flags().Changed("for")):
		return errors.New("--unpin goes with no other flag")
	case f.pin && c.Flags().Changed("for"):
		return errors.New("--pin and --for: a pin stays until --unpin; give one")
	case f.stay < consensusmanager.MinStay || f.stay > consensusmanager.MaxStay:
		return fmt.Errorf("--for %v: want %v to %v", f.stay, consensusmanager.MinStay, consensusmanager.MaxStay)
	}
	return takes(want...)(c, args)
}

// placed is the answer of move.
type placed struct {
	Shard   int    `json:"shard"`
	Order   string `json:"order"`
	Node    string `json:"node"`
	Changed bool   `json:"changed"`
	Holder  string `json:"holder"`

	text string
}

func (m placed) table(w io.Writer) { fmt.Fprintln(w, clean(m.text)) }

// moveShard gives the order and says what came of it.
func (p *program) moveShard(ctx context.Context, kv etcdmanager.KV, args []string, f moveFlags) error {
	v, err := p.read(ctx, kv)
	if err != nil {
		return err
	}
	shard, err := shardOf(v, args[0])
	if err != nil {
		return err
	}
	address := ""
	if !f.unpin {
		address = args[1]
	}
	mark, err := p.givePlace(ctx, kv, shard, address, f)
	if err != nil {
		return notMoved(p.picture(cmp.Or(mark.Before, v.View)), shard, address, err)
	}
	holder, _ := mark.Before.Holder(shard)
	m := placed{Shard: int(shard), Order: "move", Node: address, Changed: mark.Changed, Holder: holder}
	here := ""
	if holder == address {
		here = ", which holds it already"
	}
	switch {
	case f.unpin && mark.Changed:
		m.Order, m.text = "none", fmt.Sprintf("what was ordered of shard %d is taken back; it stays where it is until the cluster evens out", shard)
	case f.unpin:
		m.Order, m.text = "none", fmt.Sprintf("nothing was ordered of shard %d; nothing was changed", shard)
	case f.pin && mark.Changed:
		m.Order, m.text = "pin", fmt.Sprintf("shard %d is pinned to %s%s", shard, address, here)
	case f.pin:
		m.Order, m.text = "pin", fmt.Sprintf("shard %d was pinned to %s already", shard, address)
	default:
		m.text = fmt.Sprintf("shard %d is to go to %s%s, and stays there for %v", shard, address, here, f.stay)
	}
	if !f.wait {
		return p.show(m)
	}
	fmt.Fprintln(p.err, m.text)
	if err := p.arrives(ctx, kv, &m, shard); err != nil {
		return err
	}
	return p.show(m)
}

func (p *program) givePlace(ctx context.Context, kv etcdmanager.KV, shard sharding.ID, address string, f moveFlags) (consensusmanager.Mark, error) {
	ctx, cancel := context.WithTimeout(ctx, p.flags.timeout)
	defer cancel()
	switch {
	case f.unpin:
		return consensusmanager.Unpin(ctx, kv, p.flags.prefix, shard)
	case f.pin:
		return consensusmanager.Pin(ctx, kv, p.flags.prefix, shard, address)
	}
	return consensusmanager.Move(ctx, kv, p.flags.prefix, shard, address, f.stay)
}

// shardOf reads a shard's number, or an object whose shard is meant.
func shardOf(v *picture, name string) (sharding.ID, error) {
	if n, err := strconv.Atoi(name); err == nil {
		if n < 0 || n >= v.Table.Len() {
			return 0, noSuchShard(v, n)
		}
		return sharding.ID(n), nil
	}
	if !strings.Contains(name, "/") {
		return 0, usagef("%q: want a shard's number, or an object, as ChatRoom/general", name)
	}
	ref, err := parseRef(name)
	if err != nil {
		return 0, err
	}
	if address, pinned := sharding.PinnedNode(ref.ID); pinned {
		return 0, usagef("object %q: its id names the node %s, and it is in no shard: it cannot be moved", name, address)
	}
	if v.Meta == nil {
		return 0, noSuchShard(v, 0)
	}
	return sharding.Of(ref.ID, v.Table.Len()), nil
}

// notMoved says why an order was not given, and what to do.
func notMoved(v *picture, shard sharding.ID, address string, err error) error {
	switch {
	case errors.Is(err, consensusmanager.ErrNoNode):
		return fmt.Errorf("shard %d stays as it is: %w", shard, unknownNode(v, address))
	case errors.Is(err, consensusmanager.ErrDraining):
		return fmt.Errorf("shard %d stays as it is: %s is draining, and takes no shards; goverse explain node %[2]s says why", shard, address)
	case errors.Is(err, consensusmanager.ErrUnknownOutcome):
		return fmt.Errorf("it is not known whether the order about shard %d was given: give it again, which does no harm: %w", shard, err)
	}
	return fmt.Errorf("shard %d stays as it is: %w", shard, err)
}

// arrives waits until the node to which a shard is to go holds it.
func (p *program) arrives(ctx context.Context, kv etcdmanager.KV, m *placed, shard sharding.ID) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	report := newReport(p.err, p.interactive)
	defer report.end()
	var ended error
	err := consensusmanager.Follow(ctx, kv, p.flags.prefix, func(view *consensusmanager.View) bool {
		v := p.picture(view)
		m.Holder, _ = v.Holder(shard)
		order, given := v.Order(shard)
		switch {
		case m.Holder == m.Node:
			m.text = fmt.Sprintf("%s holds shard %d", m.Node, shard)
			return false
		case !given || order.To != m.Node:
			ended = errors.New("somebody took the order back, or gave another")
			return false
		case !order.Pin && v.Void(order):
			ended = fmt.Errorf("%s is gone: the order counts no more", m.Node)
			return false
		}
		e := diagnosis.Shard(v, int(shard))
		report.say(strings.Join(append([]string{e.Summary}, e.Waits...), "; "))
		return true
	})
	switch {
	case ended != nil:
		return ended
	case ctx.Err() != nil:
		return fmt.Errorf("no longer waiting; the order stands, and --unpin takes it back")
	case err != nil:
		return fmt.Errorf("the order stands, but cannot be watched any more: %w", err)
	}
	return nil
}

// orderList is the answer of move --list.
type orderList struct {
	Orders []orderRow `json:"orders"`
}

type orderRow struct {
	Shard  int    `json:"shard"`
	Order  string `json:"order"`
	Node   string `json:"node"`
	Holder string `json:"holder"`
	Counts bool   `json:"counts"`
}

func newOrderList(v *picture) orderList {
	l := orderList{Orders: []orderRow{}}
	for _, o := range v.Orders() {
		holder, _ := v.Holder(o.Shard)
		node, alive := v.Members().Find(o.To)
		row := orderRow{Shard: int(o.Shard), Order: "move", Node: o.To, Holder: holder, Counts: alive && !node.Draining && !v.Void(o)}
		if o.Pin {
			row.Order = "pin"
		}
		l.Orders = append(l.Orders, row)
	}
	return l
}

func (l orderList) table(w io.Writer) {
	rows := [][]string{{"SHARD", "ORDER", "NODE", "HOLDER", "COUNTS"}}
	for _, o := range l.Orders {
		counts := "yes"
		if !o.Counts {
			counts = "no"
		}
		rows = append(rows, []string{strconv.Itoa(o.Shard), o.Order, o.Node, cmp.Or(o.Holder, "-"), counts})
	}
	columns(w, rows)
}
