package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/xiaonanln/goverse/cluster/diagnosis"
	"github.com/xiaonanln/goverse/cluster/etcdmanager"
)

func (p *program) doctor() *cobra.Command {
	var database string
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Check the cluster, and say what to do",
		Long: `doctor checks a cluster and says of each thing that is wrong what to do about it: whether each endpoint
of etcd answers, and how fast, with a leader, without an alarm and with room in its database; whether the
keys in it make sense; whether somebody leads and all shards have a live holder; whether all nodes run one
version on one store; whether the ports of nodes and gates are reached from here; whether their clocks and this machine's agree;
where certificates are named, whether those that etcd, nodes and gates show are in time, for the right host
and from the authority; where the database is named, whether it is this cluster's.

It changes nothing. The exit code is 1 if something is wrong.

With -o json: {"well": bool, "findings": [{"check", "level": "well", "note" or "wrong", "text", "do"}]}.`,
		Example: `  goverse doctor
  goverse doctor -o json | jq '.findings[] | select(.level == "wrong")'`,
		Args: takes(),
		RunE: does(func(c *cobra.Command, _ []string) error {
			x := p.examine(c.Context(), database)
			if err := p.show(x); err != nil {
				return err
			}
			if !x.Well {
				return errors.New("something is wrong")
			}
			return nil
		}),
	}
	p.nodeFlags(c)
	p.certificateFlags(c)
	c.Flags().StringVar(&database, "postgres", "", "`URL` of the database that keeps the objects (default: $"+postgresVariable+"); without it the store is not looked at")
	return c
}

// examination is the answer of doctor.
type examination struct {
	Well     bool      `json:"well"`
	Findings []finding `json:"findings"`
}

type finding struct {
	Check string `json:"check"`
	Level string `json:"level"`
	Text  string `json:"text"`
	Do    string `json:"do"`
}

func (x *examination) well(check, format string, args ...any) {
	x.Findings = append(x.Findings, finding{check, "well", fmt.Sprintf(format, args...), ""})
}

func (x *examination) note(check, do, format string, args ...any) {
	x.Findings = append(x.Findings, finding{check, "note", fmt.Sprintf(format, args...), do})
}

func (x *examination) wrong(check, do, format string, args ...any) {
	x.Well = false
	x.Findings = append(x.Findings, finding{check, "wrong", fmt.Sprintf(format, args...), do})
}

func (x *examination) table(w io.Writer) {
	for _, f := range x.Findings {
		fmt.Fprintf(w, "%-6s %-9s %s\n", f.Level, f.Check, clean(f.Text))
		if f.Do != "" {
			fmt.Fprintf(w, "%16s -> %s\n", "", clean(f.Do))
		}
	}
}

// slowEtcd is when an answer of etcd takes so long that leases are in danger.
const slowEtcd = 500 * time.Millisecond

func (p *program) examine(ctx context.Context, database string) *examination {
	x := &examination{Well: true}
	p.etcdCertificates(ctx, x)
	kv, err := p.connect()
	if err != nil {
		x.wrong("etcd", "start etcd, or name the right one with --etcd or GOVERSE_ETCD", "%v", err)
		return x
	}
	defer kv.Close()
	x.etcd(ctx, kv)
	v, took, err := p.readTimed(ctx, kv)
	switch {
	case err != nil:
		x.wrong("etcd", "give --etcd and --etcd-prefix of the cluster, or mend what it says", "%v", err)
		return x
	case took > slowEtcd:
		x.wrong("etcd", "look at its disk (etcd wants an SSD of its own), its load and the network between", "all keys were read in %v: leases may end that should not", took.Round(time.Millisecond))
	default:
		x.well("etcd", "it answers")
	}
	x.keys(v)
	x.shards(v)
	x.versions(v)
	p.ports(ctx, x, v)
	p.memberCertificates(ctx, x, v)
	p.store(ctx, x, v, database)
	return x
}

// readTimed is the cluster, and how long etcd takes to tell it: the quickest of a few, so that
// it is not this machine that was busy.
func (p *program) readTimed(ctx context.Context, kv etcdmanager.KV) (v *picture, took time.Duration, err error) {
	took = time.Duration(math.MaxInt64)
	for n := 0; n < 5 && took > slowEtcd; n++ {
		begun := time.Now()
		if v, err = p.read(ctx, kv); err != nil {
			return nil, 0, err
		}
		took = min(took, time.Since(begun))
	}
	return v, took, nil
}

// keys judges what stands in etcd, and who leads.
func (x *examination) keys(v *picture) {
	damages := v.Damages()
	for _, d := range damages {
		x.wrong("keys", "a shard's record is written anew by the leader; of any other key, delete it, or put back what was there", "%s", d)
	}
	if len(damages) == 0 {
		x.well("keys", "all make sense")
	}
	for _, w := range v.Warnings()[len(damages):] {
		x.wrong("cluster", "goverse nodes and the logs of the nodes say more", "%s", w)
	}
	void := 0
	for _, o := range v.Orders() {
		if _, alive := v.Members().Find(o.To); !alive && o.Pin {
			void++
		}
	}
	if void > 0 {
		x.note("orders", "goverse move --list shows them, goverse move N --unpin takes one back", "%s pinned to nodes that are gone", diagnosis.Some(void, "shard"))
	}
}

// shards judges where they are.
func (x *examination) shards(v *picture) {
	if v.Meta == nil || !v.Formed {
		return
	}
	c := v.Census()
	waiting := v.Table.Len() - c.Served()
	switch {
	case waiting > 0:
		x.wrong("shards", "if that lasts more than some seconds: goverse shards, then goverse explain shard N", "calls wait to %s of %d, which no live node holds", diagnosis.Some(waiting, "shard"), v.Table.Len())
	default:
		x.well("shards", "all %d have a live holder", v.Table.Len())
	}
	if v.Ready() == 1 && len(v.Members()) > 1 {
		x.note("nodes", "take an order to drain back (goverse drain NODE --undo), or start another node", "one node alone takes shards; if it dies nobody takes over")
	}
}

// versions judges whether the nodes are alike.
func (x *examination) versions(v *picture) {
	versions, stores := map[string][]string{}, map[string][]string{}
	for _, n := range v.NodeRows() {
		versions[n.Version] = append(versions[n.Version], n.Address)
		stores[n.Store] = append(stores[n.Store], n.Address)
	}
	switch {
	case len(versions) > 1:
		x.note("versions", "well during a rolling update; after it, update the nodes that lag behind", "%s", groups(versions))
	case len(versions) == 1:
		x.well("versions", "%s, all of one version", diagnosis.Some(len(v.Members()), "node"))
	}
	if len(stores) > 1 {
		x.wrong("stores", "stop the nodes whose store is not the cluster's: what they save is not seen by the others", "%s", groups(stores))
	}
}

func groups(by map[string][]string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(by)) {
		word := name
		if word == "" {
			word = "not told"
		}
		parts = append(parts, fmt.Sprintf("%s: %s", word, strings.Join(by[name], ", ")))
	}
	return strings.Join(parts, "; ")
}

// ports tries to reach nodes and gates, and judges what they answer.
func (p *program) ports(ctx context.Context, x *examination, v *picture) {
	if len(v.Members()) == 0 {
		return
	}
	peers, err := p.peers(v)
	if err != nil {
		x.wrong("ports", "start a node; with TLS, give --node-tls-cert, --node-tls-key and --node-tls-ca", "%v", err)
		return
	}
	defer peers.Close()
	reached := 0
	answers := peers.Survey(ctx, v.Addresses())
	for _, a := range answers {
		if a.Err != nil {
			x.wrong("ports", "its lease lives, so it runs: look at the network and at its log; with TLS, give --node-tls-cert, --node-tls-key and --node-tls-ca", "the node %s does not answer from here: %v", a.Address, a.Err)
			continue
		}
		reached++
	}
	for _, address := range v.Gates() {
		d := net.Dialer{Timeout: min(p.flags.timeout, 3*time.Second)}
		c, err := d.DialContext(ctx, "tcp", address)
		if err != nil {
			x.wrong("ports", "its lease lives, so it runs: look at the network, and at the address that it advertises", "the gate %s is not reached from here: %v", address, err)
			continue
		}
		c.Close()
		reached++
	}
	if all := len(v.Members()) + len(v.Gates()); reached == all {
		x.well("ports", "%s answered from here", diagnosis.Some(all, "port"))
	}
	x.clocks(answers, v.Gates())
}
