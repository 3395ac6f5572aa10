package node

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

// How a node sees to the objects that the cluster has from its beginning.
const (
	autoLoadEvery  = 5 * time.Second // and whenever a shard opens
	autoLoadWithin = 30 * time.Second
	maxAutoLoading = 16 // at once
)

// loads are the objects that are to live here as long as their shards do.
type loads struct {
	wanted []object.AutoLoad
	wake   chan struct{} // has a token when a shard has opened
	one    map[object.Ref]bool
	shards map[object.Ref]bool      // one per shard, by what their ids end with
	nodes  map[object.Ref]bool      // likewise one per node
	failed []atomic.Pointer[string] // by entry: what was told last of why one could not be created
}

func (l *loads) init(wanted []object.AutoLoad) {
	l.wanted, l.wake = wanted, make(chan struct{}, 1)
	l.one, l.shards, l.nodes = map[object.Ref]bool{}, map[object.Ref]bool{}, map[object.Ref]bool{}
	l.failed = make([]atomic.Pointer[string], len(wanted))
	for _, a := range wanted {
		named := l.one
		switch {
		case a.PerShard:
			named = l.shards
		case a.PerNode:
			named = l.nodes
		}
		named[object.Ref{Type: a.Type, ID: a.ID}] = true
	}
}

// opened has them looked at soon. It waits for nobody.
func (l *loads) opened() {
	if len(l.wanted) == 0 {
		return
	}
	select {
	case l.wake <- struct{}{}:
	default: // it is looked already
	}
}

// autoLoad brings to life what is to live here and does not, until ctx ends.
func (n *Node) autoLoad(ctx context.Context) {
	for ctx.Err() == nil {
		n.autoLoadOnce(ctx)
		over, cancel := context.WithTimeout(ctx, autoLoadEvery) // as in pause
		select {
		case <-n.loads.wake:
		case <-over.Done():
		}
		cancel()
	}
}

// missing is an object that is to live here, and does not.
type missing struct {
	entry int
	ref   object.Ref
}

func (n *Node) autoLoadOnce(ctx context.Context) {
	var creating sync.WaitGroup
	defer creating.Wait()
	places := make(chan struct{}, maxAutoLoading)
	for _, m := range n.missing() {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return
		}
		creating.Go(func() {
			defer func() { <-places }()
			n.autoCreate(ctx, m)
		})
	}
}

// missing looks at the shards that are open here.
func (n *Node) missing() (list []missing) {
	for i, a := range n.loads.wanted {
		look := func(id string) {
			if ref := (object.Ref{Type: a.Type, ID: id}); n.lacks(ref) {
				list = append(list, missing{i, ref})
			}
		}
		switch {
		case a.PerNode:
			look(a.OfNode(n.cfg.Address))
		case a.PerShard:
			for shard := range n.cfg.NumShards {
				look(a.OfShard(shard))
			}
		default:
			look(a.ID)
		}
	}
	return list
}

// lacks says that an object's shard is open here, and the object does not live.
func (n *Node) lacks(ref object.Ref) bool {
	s, err := n.slotOf(ref.ID)
	if err != nil {
		return false // it is another node's
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state == open && s.acts.find(ref) == nil
}

// autoCreate creates an object. One that is stored comes to life by that, too, and is told
// to exist. What passes by itself is not told of: the next look tries again.
func (n *Node) autoCreate(ctx context.Context, m missing) {
	ctx, cancel := context.WithTimeout(ctx, autoLoadWithin)
	defer cancel()
	_, err := n.ServeCall(ctx, &peer.Request{Call: object.Call{Op: object.OpCreate, Ref: m.ref}})
	told := &n.loads.failed[m.entry]
	switch fault.KindOf(err) {
	case 0, fault.Exists:
		told.Store(nil)
		return
	case fault.WrongHolder, fault.Draining, fault.NotReady, fault.Overloaded, fault.Canceled, fault.Fenced:
		return
	}
	text := err.Error()
	if before := told.Swap(&text); before != nil || n.on.Notice == nil {
		return // once, until one succeeds
	}
	n.on.Notice(event.Notice{Severity: event.Warn, From: "node",
		Text: fmt.Sprintf("an object that is to be loaded automatically could not be created, which is tried again every %v", autoLoadEvery), Err: err})
}

// keeps says that an object stays, however long nobody calls it.
func (l *loads) keeps(ref object.Ref) bool {
	if len(l.wanted) == 0 {
		return false
	}
	place, name, _ := strings.Cut(ref.ID, "/")
	last := object.Ref{Type: ref.Type, ID: name}
	_, pinned := sharding.PinnedNode(ref.ID)
	return l.one[ref] || pinned && l.nodes[last] || strings.HasPrefix(place, sharding.FixedPrefix) && l.shards[last]
}
