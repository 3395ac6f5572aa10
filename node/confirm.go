package node

import (
	"context"

	"github.com/xiaonanln/goverse/object"
)

// Confirm stamps the fences of shards that are open here once more, and changes nothing
// else. Those that the store refuses have been somebody else's meanwhile and are
// returned with the fence they have: what lives in them is void, and Drop must follow.
func (n *Node) Confirm(ctx context.Context, owner string, claims []Claim) (refused []object.Fence, err error) {
	if n.commits == nil || len(claims) == 0 {
		return nil, ctx.Err()
	}
	return n.stamp(ctx, owner, claims)
}

func fencesOf(owner string, claims []Claim) []object.Fence {
	fences := make([]object.Fence, len(claims))
	for i, c := range claims {
		fences[i] = object.Fence{Shard: int(c.Shard), Epoch: c.Epoch, Owner: owner}
	}
	return fences
}
