package cluster

import (
	"context"
	"time"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
)

// reportPatience is how long one node may take, before another is told.
const reportPatience = 300 * time.Millisecond

// Report brings what a gate has counted to a node, where those who survey the nodes find
// it: this process's own, or else the first that takes it. watched says that somebody
// does.
func (c *Cluster) Report(ctx context.Context, g peer.GateSurvey) (watched bool, err error) {
	members := c.View().Members()
	addresses := make([]string, 0, len(members))
	for _, m := range members {
		if m.Address == c.cfg.Address {
			addresses = append([]string{m.Address}, addresses...)
			continue
		}
		addresses = append(addresses, m.Address)
	}
	err = fault.New(fault.NotReady, "no node is running")
	for _, address := range addresses {
		if watched, err = c.reportTo(ctx, address, g); err == nil || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return false, fault.Of(err).On("Report", g.Address)
	}
	return watched, nil
}

func (c *Cluster) reportTo(ctx context.Context, address string, g peer.GateSurvey) (watched bool, err error) {
	conn, err := c.conns.to(address)
	if err != nil {
		return false, fault.New(fault.NotReady, "%w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, reportPatience)
	defer cancel()
	return conn.Report(ctx, g)
}
