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
	fences := make([]object.Fence, len(claims))
	for i, c := range claims {
		fences[i] = object.Fence{Shard: int(c.Shard), Epoch: c.Epoch, Owner: tenure.Owner}
	}
	refused, err := h.Node.Open(ctx, tenure.Owner, tenure.Trusted, fences)
	refusals := make([]cluster.Refusal, len(refused))
	for i, f := range refused {
		refusals[i] = cluster.Refusal{Shard: sharding.ID(f.Shard), Epoch: f.Epoch, Owner: f.Owner}
	}
	return refusals, err
}
