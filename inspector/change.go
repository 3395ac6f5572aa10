package inspector

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/diagnosis"
)

// Change is something that happened to the cluster, and why.
type Change struct {
	Number uint64 `json:"number"`
	At     int64  `json:"at"` // unix milliseconds, of the inspector's clock
	Kind   Kind   `json:"kind"`
	Text   string `json:"text"`
	Reason string `json:"reason,omitempty"`
	Node   string `json:"node,omitempty"`   // that it is about
	From   string `json:"from,omitempty"`   // of shards: who held them
	Count  int    `json:"count,omitempty"`  // of shards
	Shards []int  `json:"shards,omitempty"` // the first of them
}

// Kind says what a change is about.
type Kind string

// The kinds.
const (
	OfNode    Kind = "node"
	OfGate    Kind = "gate"
	OfLeader  Kind = "leader"
	OfCluster Kind = "cluster"
	OfShards  Kind = "shards"
	OfAction  Kind = "action" // an operator's
)

// someShards is how many shards a change names.
const someShards = 32

// changesBetween says what happened from one scene to a later one, in the order in
// which it may have happened. It is pure.
func changesBetween(was, is *Scene) []Change {
	var list []Change
	list = append(list, formedChanges(was, is)...)
	list = append(list, actChanges(was, is)...)
	list = append(list, nodeChanges(was, is)...)
	list = append(list, gateChanges(was, is)...)
	list = append(list, leaderChanges(was, is)...)
	return append(list, shardChanges(was, is)...)
}

func formedChanges(was, is *Scene) []Change {
	switch {
	case was.Cluster != is.Cluster && is.Cluster != "":
		return []Change{{Kind: OfCluster, Text: "this is the cluster " + is.Cluster}}
	case !was.Formed && is.Formed:
		return []Change{{Kind: OfCluster, Text: "the cluster formed", Reason: "its quorum of nodes was there for the stability delay"}}
	}
	return nil
}

// actChanges is what operators ordered, with the command line or through an inspector,
// from anywhere.
func actChanges(was, is *Scene) (list []Change) {
	for _, a := range is.acts {
		if !slices.Contains(was.acts, a) {
			list = append(list, Change{Kind: OfAction, Text: "an operator ordered: " + a.String(), Reason: "it was " + a.Who})
		}
	}
	return list
}

func nodeChanges(was, is *Scene) (list []Change) {
	for _, n := range was.Nodes {
		after := is.node(n.Address)
		switch {
		case after == nil && n.State == consensusmanager.StateDraining:
			list = append(list, Change{Kind: OfNode, Node: n.Address, Text: n.Address + " left", Reason: "it had drained and gave its lease back"})
		case after == nil:
			list = append(list, Change{Kind: OfNode, Node: n.Address, Text: n.Address + " is gone", Reason: "its lease ended: the process died, hung, or lost etcd"})
		case after.Registration != n.Registration:
			list = append(list, Change{Kind: OfNode, Node: n.Address, Text: n.Address + " was started anew", Reason: "another process has its address"})
		case after.State != n.State:
			list = append(list, Change{Kind: OfNode, Node: n.Address, Text: n.Address + " is " + after.State, Reason: whyState(&n, after)})
		}
	}
	for _, n := range is.Nodes {
		if was.node(n.Address) == nil {
			list = append(list, Change{Kind: OfNode, Node: n.Address, Text: n.Address + " joined", Reason: "its process registered"})
		}
	}
	return list
}

func whyState(was, is *Node) string {
	switch {
	case is.State == consensusmanager.StateDraining && is.ByOperator:
		return "an operator said so"
	case is.State == consensusmanager.StateDraining:
		return "its process is stopping"
	case was.ByOperator:
		return "an operator took the order to drain back"
	}
	return ""
}

func gateChanges(was, is *Scene) (list []Change) {
	for _, g := range was.Gates {
		if !slices.Contains(is.Gates, g) {
			list = append(list, Change{Kind: OfGate, Text: "the gate " + g + " is gone"})
		}
	}
	for _, g := range is.Gates {
		if !slices.Contains(was.Gates, g) {
			list = append(list, Change{Kind: OfGate, Text: "the gate " + g + " joined"})
		}
	}
	return list
}

func leaderChanges(was, is *Scene) []Change {
	switch {
	case was.Term == is.Term:
		return nil
	case is.Leader == "":
		return []Change{{Kind: OfLeader, Text: "nobody leads", Reason: "the leader " + was.Leader + " is gone or gave it up"}}
	case was.Leader != "" && is.node(was.Leader) == nil:
		return []Change{{Kind: OfLeader, Node: is.Leader, Text: is.Leader + " leads", Reason: was.Leader + ", which led, is gone"}}
	}
	return []Change{{Kind: OfLeader, Node: is.Leader, Text: is.Leader + " leads", Reason: "the smallest address of those that are ready takes the lead"}}
}

// move is what happened to a shard, the same for many.
type move struct{ verb, from, to, reason string }

// shardChanges groups what happened to shards.
func shardChanges(was, is *Scene) (list []Change) {
	moves := map[move][]int{}
	for i := range is.Shards {
		var before Shard
		if i < len(was.Shards) {
			before = was.Shards[i]
		}
		if m, ok := moveOf(was, is, &before, &is.Shards[i]); ok {
			moves[m] = append(moves[m], i)
		}
	}
	for m, ids := range moves {
		list = append(list, Change{
			Kind: OfShards, Node: m.to, From: m.from, Count: len(ids), Shards: ids[:min(len(ids), someShards)],
			Text: fmt.Sprintf(m.verb, diagnosis.Some(len(ids), "shard")), Reason: m.reason,
		})
	}
	slices.SortFunc(list, func(a, b Change) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Text, b.Text))
	})
	return list
}

func moveOf(was, is *Scene, before, after *Shard) (move, bool) {
	same := before.Current == after.Current && before.registration == after.registration
	switch {
	case before.Epoch == after.Epoch && same:
		return move{}, false
	case after.Current == "":
		m := move{verb: before.Current + " released %s", from: before.Current, reason: "no node is to take them"}
		if after.Target != "" {
			m.reason = after.Target + " is to take them"
		}
		return m, true
	case before.Current == "":
		return move{verb: after.Current + " claimed %s", to: after.Current, reason: "nobody held them"}, true
	case same:
		return move{verb: after.Current + " holds %s at a new epoch", to: after.Current, reason: "its store knew of a later one"}, true
	}
	m := move{from: before.Current, to: after.Current, verb: before.Current + " handed %s to " + after.Current}
	holder, now := was.node(before.Current), is.node(before.Current)
	draining := holder != nil && holder.State == consensusmanager.StateDraining || now != nil && now.State == consensusmanager.StateDraining
	switch {
	case draining:
		m.reason = before.Current + " is draining"
	case !is.alive(before):
		m.verb = after.Current + " took %s over from " + before.Current
		m.reason = before.Current + " is gone"
	case before.wanted == after.Current:
		m.reason = "an operator wants them there"
	default:
		m.reason = "to even the load out"
	}
	return m, true
}
