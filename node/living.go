package node

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

// LiveObjects implements peer.Census. It goes through all that live here, one page after
// another and one asker at a time.
func (n *Node) LiveObjects(ctx context.Context, q peer.LiveQuery) ([]peer.LiveObject, error) {
	if q.Limit < 1 || q.Limit > peer.MaxLive {
		return nil, fault.New(fault.Invalid, "a page of %d live objects is not possible: ask for 1 to %d, and for more after the last", q.Limit, peer.MaxLive).On("LiveObjects", q.Type)
	}
	select {
	case n.census.pages <- struct{}{}:
		defer func() { <-n.census.pages }()
	case <-ctx.Done():
		return nil, fault.Waited(ctx, "while others were told of the live objects").On("LiveObjects", q.Type)
	}
	p := page{q: q}
	for i := range n.slots {
		if i%256 == 0 && ctx.Err() != nil {
			return nil, fault.Waited(ctx, "while the live objects were looked through").On("LiveObjects", q.Type)
		}
		s := &n.slots[i]
		s.mu.Lock()
		for a := range s.acts.all() {
			if p.wants(a.ref) {
				p.add(a)
			}
		}
		s.mu.Unlock()
	}
	p.cut()
	return p.list, nil
}

// page gathers the first of many objects.
type page struct {
	q    peer.LiveQuery
	list []peer.LiveObject
	last object.Ref // whoever is behind it is not on the page; zero: nobody knows yet
}

func (p *page) wants(ref object.Ref) bool {
	return (p.q.Type == "" || ref.Type == p.q.Type) && strings.HasPrefix(ref.ID, p.q.Prefix) &&
		compareRefs(ref, p.q.After) > 0 && (p.last == object.Ref{} || compareRefs(ref, p.last) < 0)
}

func (p *page) add(a *activation) {
	a.mu.Lock()
	o := peer.LiveObject{Ref: a.ref, Shard: a.slot.shard, LastUsed: a.node.executions.moment(a.lastUsed), Queued: len(a.turns.waiting())}
	a.mu.Unlock()
	if p.list = append(p.list, o); len(p.list) >= 4*p.q.Limit {
		p.cut()
	}
}

// cut keeps the first of what was gathered so far.
func (p *page) cut() {
	slices.SortFunc(p.list, func(a, b peer.LiveObject) int { return compareRefs(a.Ref, b.Ref) })
	if len(p.list) >= p.q.Limit {
		p.list = p.list[:p.q.Limit]
		p.last = p.list[p.q.Limit-1].Ref
	}
}

func compareRefs(a, b object.Ref) int {
	return cmp.Or(strings.Compare(a.Type, b.Type), strings.Compare(a.ID, b.ID))
}
