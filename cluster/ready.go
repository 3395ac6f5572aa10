package cluster

import (
	"context"
	"fmt"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/fault"
)

// progress is how far a node is with the shards that are to be its own.
type progress struct {
	view    *consensusmanager.View // by which it was measured
	missing int                    // shards that are to be the node's and are not open
	leaving bool
	doubt   bool  // the trust has lapsed, and the store has not confirmed what the node holds
	trouble error // why the last attempt to open or confirm some failed
}

// Problems is why the process cannot take calls now; empty when it can. The reasons
// are for people.
func (c *Cluster) Problems() []string {
	v := c.View()
	list := c.problems(v)
	if len(list) > 0 {
		list = append(list, v.Damage()...)
	}
	return list
}

// Degraded is what an operator should look into although calls are taken; empty when
// all is well.
func (c *Cluster) Degraded() []string {
	list := c.m.Degraded()
	if r := c.registration.Load(); r != nil && c.degraded(r) {
		list = append(list, "etcd does not answer: durable objects are served by the store's word, all others are not, and nothing is taken over")
	}
	return list
}

// degraded says that the host serves without the lease: it was trusted once, and is not
// known to be lost.
func (c *Cluster) degraded(r *consensusmanager.Registration) bool {
	if !c.cfg.DegradedMode || r.Trusted() {
		return false
	}
	select {
	case <-r.Lost():
		return false
	case <-r.Confirmed():
		return true
	default:
		return false
	}
}

// refuses says why clients' calls are not taken now, which a cluster that has lost its
// quorum may have been told to do.
func (c *Cluster) refuses(ctx context.Context) *fault.Error {
	if c.cfg.QuorumLoss != consensusmanager.QuorumStop {
		return nil
	}
	if info := callctx.From(ctx); !info.Caller.Client || len(info.Chain.Path) > 0 {
		return nil
	}
	v, rules := c.View(), c.m.Rules()
	if !v.Formed || !rules.Refuses(v) {
		return nil // before it is formed calls wait
	}
	return fault.New(fault.NotReady, "%d nodes are ready, fewer than the quorum of %d, and the cluster is to stop then", v.Ready(), rules.MinQuorum)
}

func (c *Cluster) problems(v *consensusmanager.View) []string {
	r := c.registration.Load()
	switch {
	case r == nil:
		return []string{"not registered: " + or(c.m.Waiting(), "the registration is on its way")}
	case !r.Trusted() && !c.degraded(r):
		return []string{"the lease is not confirmed: etcd does not answer"}
	case !v.Formed && v.Ready() < c.quorum():
		return []string{fmt.Sprintf("%d of the %d nodes that form the cluster are there", v.Ready(), c.quorum())}
	case !v.Formed:
		return []string{"the cluster is waiting for its nodes to stay the same for a while"}
	}
	if c.cfg.Gate {
		return c.gateProblems(v)
	}
	return c.nodeProblems()
}

func (c *Cluster) quorum() int { return max(1, c.cfg.MinQuorum) }

func (c *Cluster) gateProblems(v *consensusmanager.View) []string {
	if between := v.Table.Len() - v.Census().Served(); between > 0 {
		return []string{fmt.Sprintf("%d of %d shards are between holders", between, v.Table.Len())}
	}
	return nil
}

// nodeProblems judges by the view that the reconciler saw, so that it never takes
// an old count for an answer to a new view.
func (c *Cluster) nodeProblems() []string {
	p := c.shards.Load()
	switch {
	case p == nil:
		return []string{"no shard was looked at yet"}
	case p.leaving:
		return []string{"this node is leaving"}
	case p.doubt && p.trouble != nil:
		return []string{fmt.Sprintf("the lease was not trusted for a while, and the store has not confirmed this node's shards: %v", p.trouble)}
	case p.doubt:
		return []string{"the lease was not trusted for a while, and the store has not confirmed this node's shards yet"}
	case p.missing > 0 && p.trouble != nil:
		return []string{fmt.Sprintf("%d shards of this node are not open: %v", p.missing, p.trouble)}
	case p.missing > 0:
		return []string{fmt.Sprintf("%d shards of this node are not open yet", p.missing)}
	}
	if n := p.view.Census().Untargeted(); n > 0 {
		return []string{fmt.Sprintf("%d of %d shards have no node yet", n, p.view.Table.Len())}
	}
	return nil
}

// checkReady closes Ready the first time that nothing stands in the way.
func (c *Cluster) checkReady() {
	select {
	case <-c.ready:
		return
	default:
	}
	if len(c.problems(c.View())) == 0 {
		c.once.Do(func() { close(c.ready) })
	}
}

// describe says for an error's text why a shard has no holder.
func describe(v *consensusmanager.View, id sharding.ID) string {
	switch {
	case v.Revision == 0:
		return "etcd has not answered yet"
	case v.Meta == nil:
		return "no node has created the cluster yet"
	case !v.Formed:
		return "the cluster has not formed yet"
	}
	s := v.Table.Shard(id)
	return fmt.Sprintf("shard %d is %v", id, s.State(v.Members()))
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
