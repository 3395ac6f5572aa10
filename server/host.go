package server

import (
	"context"

	"github.com/xiaonanln/goverse/cluster"
	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/node"
	"github.com/xiaonanln/goverse/object"
)

// HostOf shows a node to the cluster, which does not know nodes.
func HostOf(n *node.Node) cluster.Host { return host{n} }

type host struct{ *node.Node }

// Open implements cluster.Host.
func (h host) Open(ctx context.Context, tenure cluster.Tenure, claims []cluster.Claim) ([]cluster.Refusal, error) {
	refused, err := h.Node.Open(ctx, tenure.Owner, tenure.Trusted, claimsOf(claims))
	return refusalsOf(refused), err
}

// Confirm implements cluster.Host.
func (h host) Confirm(ctx context.Context, tenure cluster.Tenure, claims []cluster.Claim) ([]cluster.Refusal, error) {
	refused, err := h.Node.Confirm(ctx, tenure.Owner, claimsOf(claims))
	return refusalsOf(refused), err
}

func claimsOf(claims []cluster.Claim) []node.Claim {
	list := make([]node.Claim, len(claims))
	for i, c := range claims {
		list[i] = node.Claim(c)
	}
	return list
}

func refusalsOf(refused []object.Fence) []cluster.Refusal {
	list := make([]cluster.Refusal, len(refused))
	for i, f := range refused {
		list[i] = cluster.Refusal{Shard: sharding.ID(f.Shard), Epoch: f.Epoch, Owner: f.Owner}
	}
	return list
}

// Vacate implements cluster.Host.
func (h host) Vacate(ctx context.Context, shard sharding.ID, m cluster.Move) error {
	return h.Node.Vacate(ctx, shard, node.Move(m))
}

// Staged implements cluster.Host.
func (h host) Staged() []cluster.Staging {
	kept := h.Node.Staged()
	list := make([]cluster.Staging, len(kept))
	for i, s := range kept {
		list[i] = cluster.Staging(s)
	}
	return list
}

// Unstage implements cluster.Host.
func (h host) Unstage(list []cluster.Staging) {
	gone := make([]node.Staging, len(list))
	for i, s := range list {
		gone[i] = node.Staging(s)
	}
	h.Node.Unstage(gone)
}
