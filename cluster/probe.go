package cluster

import (
	"context"

	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
)

// Probe asks the node where the probe's object lives, and returns the circle that it
// found, or nil. It is asked once: whoever still waits asks again.
func (c *Cluster) Probe(ctx context.Context, probe *peer.Probe) (circle []string, err error) {
	v := c.View()
	if v.Table.Len() == 0 {
		return nil, nil
	}
	holder, pinned := sharding.PinnedNode(probe.At.ID)
	if !pinned {
		holder, _ = v.Holder(sharding.ID(sharding.GetShardID(probe.At.ID, v.Table.Len())))
	}
	if holder == "" || !v.Members().Has(holder) {
		return nil, nil
	}
	conn, err := c.conns.to(holder)
	if err != nil {
		return nil, fault.New(fault.NotReady, "%w", err)
	}
	return conn.ServeProbe(ctx, probe)
}
