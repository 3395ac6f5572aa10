package server

import (
	"cmp"
	"context"
	"time"

	"github.com/xiaonanln/goverse/cluster"
	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/operations"
	"github.com/xiaonanln/goverse/object"
)

// recordWithin bounds how long an operator's push waits for etcd to take down that it was
// ordered. The log has it in any case.
const recordWithin = 2 * time.Second

// pushOrdered pushes for an operator, and has the cluster remember it.
func (s *Server) pushOrdered(ctx context.Context, c *cluster.Cluster, o operations.PushOrder, push object.Push) error {
	if err := s.Node.Push(ctx, push); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, recordWithin)
	defer cancel()
	ctx = consensusmanager.WithOperator(ctx, cmp.Or(o.Operator, "somebody on "+s.cfg.AdvertiseAddress))
	if err := consensusmanager.Record(ctx, c.KV(), s.cfg.EtcdPrefix, consensusmanager.Pushes, "to "+cmp.Or(o.Client, "all clients")); err != nil {
		s.notice(event.Warn, err, "an operator's push is not on the cluster's timeline")
	}
	return nil
}
