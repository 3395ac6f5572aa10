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
	MinQuorum int           // ready nodes that form the cluster
	Stability time.Duration // for how long they must have been the same
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
	changes := sharding.Plan(sharding.Input{Table: v.Table, Nodes: v.members})
	if len(changes) == 0 {
		return nil
	}
	return []Intent{{Kind: Retarget, Changes: changes}}
}

// form waits for a quorum that lasts. Only the first mapping waits for it: a formed
// cluster repairs itself whatever its size.
func form(v *View, rules Rules, now time.Time) []Intent {
	if v.Ready() < rules.MinQuorum {
		return nil
	}
	if due := v.Since.Add(rules.Stability); now.Before(due) {
		return []Intent{{Kind: Wait, Until: due}}
	}
	return []Intent{{Kind: Form}}
}
