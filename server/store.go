package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/node"
	"github.com/xiaonanln/goverse/object"
)

// store is what the cluster has to know of the node's store.
type store struct {
	id      string // its identity; "" for one that has none
	cluster string // that it has served before; "" for none
	// bind makes it a cluster's, unless it is another's, and returns whose it is; nil for
	// a store that does not remember that.
	bind func(ctx context.Context, cluster string) (string, error)
}

// openStore makes sure that the node has its store, and settles it.
func (r *assembly) openStore(ctx context.Context) (st store, err error) {
	if r.Node.PersistenceProvider() == nil && r.cfg.OpenStore != nil {
		warn := func(text string, err error) { r.notice(event.Alarm, err, "%s", text) }
		provider, closer, err := r.cfg.OpenStore(ctx, r.cfg.DataDir, warn)
		if err != nil {
			return st, err
		}
		r.closers.add(closer.Close)
		r.Node.SetPersistenceProvider(provider)
	}
	provider := r.Node.PersistenceProvider()
	if fenced, ok := provider.(object.FencedProvider); ok {
		if st.id, err = fenced.StoreID(ctx); err != nil {
			return st, err
		}
	}
	if binder, ok := provider.(object.ClusterBinder); ok {
		if st.cluster, err = binder.BindCluster(ctx, ""); err != nil {
			return st, fmt.Errorf("the store does not say which cluster it belongs to: %w", err)
		}
		st.bind = func(ctx context.Context, cluster string) (string, error) { return BindStore(ctx, r.Node, cluster) }
	}
	r.Node.Start()
	if node.DegradedMode(r.cfg.DegradedMode) == node.DegradedOn && !r.Node.Degrades() {
		return st, errors.New("DegradedMode (--degraded-mode) is on, and the store cannot tell a node that it is still the holder; use PostgreSQL or SQLite, or leave it out")
	}
	return st, nil
}

// BindStore makes a node's store a cluster's, unless it is another's, and returns whose
// it is; without a store that remembers it, cluster. The node must not hold a shard: a
// store that was put back is gone on with.
func BindStore(ctx context.Context, n *node.Node, cluster string) (string, error) {
	binder, ok := n.PersistenceProvider().(object.ClusterBinder)
	if !ok {
		return cluster, nil
	}
	owner, err := binder.BindCluster(ctx, cluster)
	if errors.Is(err, object.ErrOtherHistory) {
		if err := n.Adopt(ctx); err != nil {
			return "", err
		}
		owner, err = binder.BindCluster(ctx, cluster)
	}
	return owner, err
}
