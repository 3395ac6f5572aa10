// Package census asks the nodes of a cluster what they have counted, which objects live
// on them, and what they know of one. It is for those who look at a cluster: the
// inspector and the command line. Each node is asked beside the others and within its own
// time, so one that hangs holds up nobody.
package census

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/internal/secure"
	"github.com/xiaonanln/goverse/object"
)

// Patience is how long a node may take to say what it has counted.
const Patience = 900 * time.Millisecond

// atOnce is how many nodes are asked at a time.
const atOnce = 64

// NewDialer reaches the nodes of the cluster whose secret is given, which is in its etcd:
// whoever can read that is taken for a member. name is by what host the nodes know this
// process; with TLS its certificate has to name it. files may be nil.
func NewDialer(name string, secret func(context.Context) (secure.Secret, error), files *secure.Files, on event.Listener) peer.Dialer {
	m := &peer.Membership{Address: name, Secret: secret, TLS: files, Listener: on}
	return m.Dialer(on)
}

// Peers is the connections to the nodes of a cluster, made when first needed. All methods
// may be called concurrently. Close it.
type Peers struct {
	dialer peer.Dialer

	mu     sync.Mutex // protects following fields
	conns  map[string]peer.Conn
	closed bool
}

// NewPeers dials nobody yet.
func NewPeers(d peer.Dialer) *Peers { return &Peers{dialer: d, conns: map[string]peer.Conn{}} }

// To is the way to the node at an address.
func (p *Peers) To(address string) (peer.Census, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.conns[address]; c != nil {
		return c, nil
	}
	if p.closed {
		return nil, fault.New(fault.NotReady, "nobody asks any more")
	}
	c, err := p.dialer.Dial(address)
	if err != nil {
		return nil, err
	}
	p.conns[address] = c
	return c, nil
}

// Keep closes the connections to all but these nodes.
func (p *Peers) Keep(addresses []string) {
	p.mu.Lock()
	var gone []peer.Conn
	for address, c := range p.conns {
		if !slices.Contains(addresses, address) {
			gone = append(gone, c)
			delete(p.conns, address)
		}
	}
	p.mu.Unlock()
	for _, c := range gone {
		_ = c.Close() // nothing is expected of it
	}
}

// Close closes all connections, for good.
func (p *Peers) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.Keep(nil)
}

// Answer is what one node has said, or why it has not.
type Answer struct {
	Address string
	Survey  *peer.Survey // nil with Err
	Err     error
	Asked   time.Time
	Took    time.Duration // from then to the answer
}

// Survey asks nodes what they have counted. Answers are in the order of addresses.
func (p *Peers) Survey(ctx context.Context, addresses []string) []Answer {
	answers := make([]Answer, len(addresses))
	p.each(ctx, addresses, func(ctx context.Context, i int, c peer.Census) (err error) {
		answers[i].Asked = time.Now()
		answers[i].Survey, err = c.Survey(ctx)
		answers[i].Took = time.Since(answers[i].Asked)
		return err
	}, func(i int, err error) { answers[i].Address, answers[i].Err = addresses[i], err })
	return answers
}

// each asks all nodes, some at a time, each for Patience at most.
func (p *Peers) each(ctx context.Context, addresses []string, ask func(context.Context, int, peer.Census) error, done func(int, error)) {
	var asking sync.WaitGroup
	seats := make(chan struct{}, atOnce)
	for i, address := range addresses {
		seats <- struct{}{}
		asking.Go(func() {
			defer func() { <-seats }()
			ctx, cancel := context.WithTimeout(ctx, Patience)
			defer cancel()
			c, err := p.To(address)
			if err == nil {
				err = ask(ctx, i, c)
			}
			if fault.KindOf(err) == fault.Deadline {
				err = fmt.Errorf("it did not answer within %v", Patience)
			}
			done(i, err)
		})
	}
	asking.Wait()
}

// Found is a live object, and where.
type Found struct {
	peer.LiveObject
	Node string
}

// Silent is a node that did not answer, and why.
type Silent struct {
	Address string `json:"address"`
	Error   string `json:"error"`
}

// Objects is a page of the objects that live on nodes, in the order of their types and
// ids. One that is on its way may be on two of them or on none. The page ends the list if
// it is shorter than q.Limit.
func (p *Peers) Objects(ctx context.Context, addresses []string, q peer.LiveQuery) (page []Found, silent []Silent, err error) {
	if q.Limit < 1 || q.Limit > peer.MaxLive {
		return nil, nil, fmt.Errorf("a page of %d objects is not possible: ask for 1 to %d", q.Limit, peer.MaxLive)
	}
	lists, errs := make([][]peer.LiveObject, len(addresses)), make([]error, len(addresses))
	p.each(ctx, addresses, func(ctx context.Context, i int, c peer.Census) (err error) {
		lists[i], err = c.LiveObjects(ctx, q)
		return err
	}, func(i int, err error) { errs[i] = err })
	for i, address := range addresses {
		if errs[i] != nil {
			silent = append(silent, Silent{address, errs[i].Error()})
			continue
		}
		for _, o := range lists[i] {
			page = append(page, Found{o, address})
		}
	}
	slices.SortFunc(page, func(a, b Found) int {
		return cmp.Or(strings.Compare(a.Ref.Type, b.Ref.Type), strings.Compare(a.Ref.ID, b.Ref.ID), strings.Compare(a.Node, b.Node))
	})
	return page[:min(len(page), q.Limit)], silent, nil
}

// ErrNoHolder says that no node is there to be asked about an object.
var ErrNoHolder = errors.New("no live node holds the object's shard at the moment")

// Holder is the node to ask about an object: the one that its id is pinned to, or that
// holds its shard.
func Holder(v *consensusmanager.View, ref object.Ref) (address string, err error) {
	if pinned, ok := sharding.PinnedNode(ref.ID); ok {
		if v.Members().Has(pinned) {
			return pinned, nil
		}
		return "", fmt.Errorf("%w: its id is pinned to %s, which is no live node", ErrNoHolder, pinned)
	}
	s := v.Table.Shard(sharding.ID(sharding.GetShardID(ref.ID, v.Table.Len())))
	if s.Current == "" || !v.Members().Has(s.Current) {
		return "", ErrNoHolder
	}
	return s.Current, nil
}
