package consensusmanager

import (
	"fmt"
	"time"

	"github.com/xiaonanln/goverse/cluster/sharding"
)

// Self is who decides.
type Self struct {
	Address      string
	Registration string
}

// Rules are the settings that decisions depend on.
type Rules struct {
	MinQuorum  int           // ready nodes that form the cluster, and should not become fewer
	QuorumLoss QuorumLoss    // what happens if they do
	Stability  time.Duration // for how long a node must have been there to count as steady
	InFlight   int           // shards of one node that move at a time: sharding.DefaultInFlight if zero
	Still      bool          // nothing moves that need not

	Slow map[sharding.ID]bool // moves that take so long that others do not wait for them
}

// QuorumLoss is what a cluster that was formed does while fewer nodes are ready than
// MinQuorum. Held shards keep serving in any case: what keeps two holders apart is
// etcd, not this.
type QuorumLoss string

const (
	QuorumContinue QuorumLoss = "continue" // all goes on; the default
	QuorumFreeze   QuorumLoss = "freeze"   // nothing is taken over or balanced; leaving nodes hand over
	QuorumStop     QuorumLoss = "stop"     // as QuorumFreeze, and gates take no calls
)

// Quorate says whether v is of a formed cluster with as many ready nodes as it should
// have.
func (r Rules) Quorate(v *View) bool { return v.Formed && v.Ready() >= r.MinQuorum }

// Frozen says whether no shard may be taken over from a dead holder now.
func (r Rules) Frozen(v *View) bool {
	return v.Formed && !r.Quorate(v) && (r.QuorumLoss == QuorumFreeze || r.QuorumLoss == QuorumStop)
}

// Refuses says whether gates must take no calls now: before the cluster is formed, and
// while it is below its quorum if it is to stop then.
func (r Rules) Refuses(v *View) bool {
	return !v.Formed || r.QuorumLoss == QuorumStop && !r.Quorate(v)
}

// Intent is one thing that this node should do as, or to become, the leader.
type Intent struct {
	Kind    IntentKind
	Changes []sharding.Change // Retarget
	Until   time.Time         // Wait
}

// IntentKind is what an Intent is about.
type IntentKind uint8

const (
	Lead     IntentKind = iota + 1 // take the leadership (T-LEAD)
	Yield                          // leave it to a smaller node (T-YIELD)
	Form                           // write that the cluster has its quorum
	Retarget                       // give shards another target (T-PLAN)
	Wait                           // nothing before Until
)

// String is the intent in a line.
func (i Intent) String() string {
	switch i.Kind {
	case Lead:
		return "lead"
	case Yield:
		return "yield"
	case Form:
		return "form"
	case Retarget:
		return fmt.Sprintf("retarget %d shards", len(i.Changes))
	}
	return "wait until " + i.Until.Format(time.TimeOnly)
}

// Decide says what the node should do about the cluster's leadership and mapping,
// seeing v at now. It is pure: the transactions that carry it out check again.
func Decide(v *View, self Self, rules Rules, now time.Time) []Intent {
	smallest := len(v.members) > 0 && v.members[0].Address == self.Address
	switch {
	case v.Meta == nil || !v.members.Registered(self.Address, self.Registration):
		return nil
	case v.Leader.Term == 0 && smallest:
		return []Intent{{Kind: Lead}}
	case v.Leader.Registration != self.Registration:
		return nil
	case !smallest:
		return []Intent{{Kind: Yield}}
	case !v.Formed:
		return form(v, rules, now)
	}
	members := v.aged(rules.Stability, now)
	changes := sharding.Plan(sharding.Input{
		Table: v.Table, Nodes: members, Balance: !rules.Still, InFlight: rules.InFlight, Slow: rules.Slow, Frozen: rules.Frozen(v),
		Orders: v.wanted(),
	})
	if len(changes) > 0 {
		return []Intent{{Kind: Retarget, Changes: changes}}
	}
	if due := v.nextSteady(members, rules.Stability); !due.IsZero() {
		return []Intent{{Kind: Wait, Until: due}}
	}
	return nil
}

// form waits until a quorum has been there for the stability delay, each node of it for
// itself: one that comes and goes keeps no cluster from forming. Only the first mapping
// waits for it: a formed cluster repairs itself at once.
func form(v *View, rules Rules, now time.Time) []Intent {
	quorum := max(1, rules.MinQuorum)
	if v.Ready() < quorum {
		return nil
	}
	if due := v.steadyBy(quorum, rules.Stability); now.Before(due) {
		return []Intent{{Kind: Wait, Until: due}}
	}
	return []Intent{{Kind: Form}}
}
