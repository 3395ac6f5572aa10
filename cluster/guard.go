package cluster

import (
	"context"

	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

// maxRelays bounds how many processes may pass a call or a stage on.
const maxRelays = 2

// Serve is host as the node's peers should see it: behind checks that need the
// picture of the cluster. Give it to the listener; Run gets host itself.
func (c *Cluster) Serve(host Host) peer.Service { return &guard{Host: host, c: c} }

type guard struct {
	Host
	c *Cluster
}

// ServeCall implements peer.Service.
func (g *guard) ServeCall(ctx context.Context, req *peer.Request) (object.Payload, error) {
	if err := g.zombie(ctx); err != nil {
		return object.Payload{}, err.On(req.Op.String(), req.Subject())
	}
	if err := g.c.refuses(ctx); err != nil {
		return object.Payload{}, err.On(req.Op.String(), req.Subject())
	}
	if req.Relay != "" && req.Relay != g.c.cfg.Address {
		return g.passOn(ctx, req)
	}
	return g.Host.ServeCall(ctx, req)
}

// zombie refuses a call of a chain that holds a turn which is void: its shard has
// been taken up by somebody else, who does not know of this chain.
func (g *guard) zombie(ctx context.Context) *fault.Error {
	path := callctx.From(ctx).Chain.Path
	if len(path) == 0 {
		return nil
	}
	table := g.c.View().Table
	for _, t := range path {
		if t.Shard >= table.Len() {
			continue // pinned to its node
		}
		if s := table.Shard(sharding.ID(t.Shard)); s.Epoch > t.Epoch {
			return fault.New(fault.StaleCaller, "%v ran at epoch %d of shard %d, which is at epoch %d", t, t.Epoch, t.Shard, s.Epoch)
		}
	}
	return nil
}

// passOn relays a call for a sender that has no way to the holder itself.
func (g *guard) passOn(ctx context.Context, req *peer.Request) (object.Payload, error) {
	if req.Hops >= maxRelays || !g.c.View().Members().Has(req.Relay) {
		return object.Payload{}, fault.New(fault.NotReady, "%s knows no way to %s", g.c.cfg.Address, req.Relay)
	}
	conn, err := g.c.conns.to(req.Relay)
	if err != nil {
		return object.Payload{}, fault.New(fault.NotReady, "%w", err)
	}
	next := *req
	next.Hops++
	return conn.ServeCall(ctx, &next)
}

// ServeStage implements peer.Service. State that was meant for an earlier
// registration of this address is of no use.
func (g *guard) ServeStage(ctx context.Context, stage *peer.Stage) error {
	if stage.Relay != "" && stage.Relay != g.c.cfg.Address {
		return g.carryOn(ctx, stage)
	}
	if self := g.c.Self(); self.Registration != stage.Target {
		return fault.New(fault.WrongHolder, "the stage is for registration %s, and this is %s", stage.Target, or(self.Registration, "not registered"))
	}
	return g.Host.ServeStage(ctx, stage)
}

// carryOn relays a stage for a holder that has no way to the target itself.
func (g *guard) carryOn(ctx context.Context, stage *peer.Stage) error {
	if stage.Hops >= maxRelays || !g.c.View().Members().Has(stage.Relay) {
		return fault.New(fault.NotReady, "%s knows no way to %s", g.c.cfg.Address, stage.Relay)
	}
	conn, err := g.c.conns.to(stage.Relay)
	if err != nil {
		return fault.New(fault.NotReady, "%w", err)
	}
	next := *stage
	next.Hops++
	return conn.ServeStage(ctx, &next)
}
