package node

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

// A nested call that waits for long may be part of a circle that goes through other
// nodes. It then asks, again and again, what those wait for who have its turn: the
// question follows the chains from node to node (edge chasing, after Chandy, Misra
// and Haas, "Distributed deadlock detection", 1983). It goes only through chains that
// are smaller than the one that asks, so in each circle one chain finds it and fails.
const (
	probeAfter = 50 * time.Millisecond
	probeEvery = 100 * time.Millisecond
)

// keepProbing looks for a circle through w until stop, which waits for the question
// that is under way: it belongs to the call, and does not outlive it.
func (n *Node) keepProbing(w *waiter) (stop func()) {
	if n.cfg.Probe == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &probing{n: n, w: w, ctx: ctx}
	p.again(probeAfter)
	return func() { cancel(); p.stop() }
}

// probing is the questions of one wait.
type probing struct {
	n   *Node
	w   *waiter
	ctx context.Context // ends with the wait

	asks sync.WaitGroup // what the timer has begun or will begin

	mu    sync.Mutex // protects following field
	timer *time.Timer
}

func (p *probing) again(after time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() == nil {
		p.asks.Add(1)
		p.timer = time.AfterFunc(after, func() { defer p.asks.Done(); p.ask() })
	}
}

// stop follows the end of ctx, so nothing is added any more.
func (p *probing) stop() {
	p.mu.Lock()
	if p.timer.Stop() {
		p.asks.Done()
	}
	p.mu.Unlock()
	p.asks.Wait()
}

// ask fails the wait if it is part of a circle. A wait that ends while it is followed
// can make a circle that never was: what is there twice stands.
func (p *probing) ask() {
	if circle := p.n.circleOf(p.ctx, p.w); circle != nil && p.n.circleOf(p.ctx, p.w) != nil {
		p.w.act.withdraw(p.w, &fault.Error{Kind: fault.Cycle, Path: circle, Err: errCircle})
		return
	}
	p.again(probeEvery)
}

// circleOf is the calls of a circle that w's wait closes, or nil.
func (n *Node) circleOf(ctx context.Context, w *waiter) []string {
	ctx, cancel := context.WithTimeout(ctx, 2*probeEvery)
	defer cancel()
	return n.chase(ctx, w.chain, w.act.holders(), w.act, pathOf(w.path, w.call))
}

// chase follows those who have act's turn to what they have called.
func (n *Node) chase(ctx context.Context, origin callctx.ChainID, holders []callctx.ChainID, act *activation, path []string) []string {
	if len(path) >= peer.MaxCircle {
		return nil
	}
	for _, chain := range holders {
		if bytes.Compare(chain[:], origin[:]) >= 0 {
			continue // a larger one's own question will find the circle
		}
		for _, ref := range act.calledBy(chain) {
			circle, err := n.cfg.Probe(ctx, &peer.Probe{Origin: origin, Chase: chain, At: ref, Path: path})
			if err == nil && circle != nil {
				return circle
			}
		}
	}
	return nil
}

// ServeProbe says what the probe's chain waits for here, and follows that.
func (n *Node) ServeProbe(ctx context.Context, p *peer.Probe) (circle []string, err error) {
	act := n.activationOf(p.At)
	if act == nil {
		return nil, nil
	}
	w, holders, inside := act.standing(p.Chase)
	switch {
	case w != nil:
		path := append(slices.Clone(p.Path), w.call.String())
		if slices.Contains(holders, p.Origin) {
			return path, nil
		}
		return n.chase(ctx, p.Origin, holders, act, path), nil
	case inside:
		return n.chase(ctx, p.Origin, []callctx.ChainID{p.Chase}, act, append(slices.Clone(p.Path), p.At.String())), nil
	}
	return nil, nil
}

// activationOf is the object's activation on this node, or nil.
func (n *Node) activationOf(ref object.Ref) *activation {
	s := n.pinned()
	if _, pinned := sharding.PinnedNode(ref.ID); !pinned {
		s = &n.slots[sharding.GetShardID(ref.ID, n.cfg.NumShards)]
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acts.find(ref)
}

// standing says how a chain stands with the activation: it waits for a turn, which
// holders have, or has one itself.
func (a *activation) standing(chain callctx.ChainID) (w *waiter, holders []callctx.ChainID, inside bool) {
	holders = a.holders()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range a.turns.waiting() {
		if w.chain == chain {
			return w, holders, false
		}
	}
	return nil, holders, a.turns.heldBy(chain) != nil
}

// calledBy is the objects that a chain's methods on this activation have called and
// wait for.
func (a *activation) calledBy(chain callctx.ChainID) []object.Ref {
	var refs []object.Ref
	for _, f := range a.framesOf(chain) {
		f.mu.Lock()
		refs = append(refs, f.outs...)
		f.mu.Unlock()
	}
	return refs
}

func (a *activation) framesOf(chain callctx.ChainID) []*frame {
	a.mu.Lock()
	defer a.mu.Unlock()
	var list []*frame
	for f := a.frames.head; f != nil; f = f.next {
		if f.hold != nil && f.hold.chain == chain {
			list = append(list, f)
		}
	}
	return list
}
