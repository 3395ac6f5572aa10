package inspector

import (
	"slices"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/diagnosis"
	"github.com/xiaonanln/goverse/cluster/sharding"
)

// Scene is what a viewer sees: the cluster at one revision. It is immutable.
type Scene struct {
	Prefix   string   `json:"prefix"`
	Cluster  string   `json:"cluster"`
	Revision int64    `json:"revision"`
	Formed   bool     `json:"formed"`
	Leader   string   `json:"leader"`
	Term     int64    `json:"term"`
	Health   Health   `json:"health"`
	Nodes    []Node   `json:"nodes"`
	Gates    []string `json:"gates"`
	Shards   []Shard  `json:"-"`

	acts []consensusmanager.Act // of operators
}

// Health is one word, and the sentences that it stands for.
type Health struct {
	Level   Level    `json:"level"`
	Reasons []string `json:"reasons"`
}

// Level ranks a cluster's health.
type Level string

// The levels.
const (
	Well      Level = "well"      // nobody has to act
	Working   Level = "working"   // it is on its way to where it should be
	Troubled  Level = "troubled"  // something stands in the way
	Suffering Level = "suffering" // calls wait
)

// Node is a live node.
type Node struct {
	diagnosis.NodeRow
	ByOperator bool `json:"by_operator"` // an operator drains it
}

// Shard is where one shard is. The numbers of addresses are of the feed's names.
type Shard struct {
	Epoch   uint64
	Current string // the holder, alive or not; "" is none
	Target  string
	State   sharding.State
	Damaged bool

	registration string // of the holder
	wanted       string // the node where an operator wants it; "" is none
	pinned       bool   // for good, not as a move
}

// sceneOf is the scene of a picture.
func sceneOf(v *diagnosis.Picture) *Scene {
	s := &Scene{
		Prefix: v.Prefix, Revision: v.Revision, Formed: v.Formed, Leader: v.Leader.Address, Term: v.Leader.Term,
		Nodes: []Node{}, Gates: append([]string{}, v.Gates()...), Shards: make([]Shard, v.Table.Len()), acts: v.Acts(),
	}
	if v.Meta != nil {
		s.Cluster = v.Meta.Cluster
	}
	for _, row := range v.NodeRows() {
		m, _ := v.Member(row.Address)
		s.Nodes = append(s.Nodes, Node{row, m != nil && m.DrainedByOperator()})
	}
	for i, r := range v.Table.All() {
		s.Shards[i] = Shard{
			Epoch: r.Epoch, Current: r.Current, Target: r.Target, State: r.State(v.Members()), Damaged: r.Damaged, registration: r.Registration,
		}
	}
	for _, o := range v.Orders() {
		s.Shards[o.Shard].wanted, s.Shards[o.Shard].pinned = o.To, o.Pin
	}
	s.Health = healthOf(v)
	return s
}

// healthOf says how the cluster is, worst first.
func healthOf(v *diagnosis.Picture) Health {
	h := Health{Level: Well, Reasons: []string{}}
	say := func(l Level, reason string) {
		if rank(l) > rank(h.Level) {
			h.Level = l
		}
		h.Reasons = append(h.Reasons, reason)
	}
	if v.Meta == nil && len(v.Damage()) == 0 {
		say(Troubled, "there is no cluster under "+v.Prefix+" yet: start a node with this etcd and prefix")
		return h
	}
	c := v.Census()
	if waiting := v.Table.Len() - c.Served(); waiting > 0 && v.Formed {
		say(Suffering, diagnosis.Some(waiting, "shard")+" without a live holder: calls to their objects wait")
	}
	for _, w := range v.Warnings() {
		say(Troubled, w)
	}
	if moving := c.States[sharding.Moving]; moving > 0 {
		say(Working, diagnosis.Some(moving, "shard")+" on the way to another node")
	}
	for _, n := range v.NodeRows() {
		if n.State == consensusmanager.StateDraining {
			say(Working, n.Address+" is draining: "+diagnosis.Some(n.Held, "shard")+" left")
		}
	}
	return h
}

func rank(l Level) int { return slices.Index([]Level{Well, Working, Troubled, Suffering}, l) }

// node is the live node at address, or nil.
func (s *Scene) node(address string) *Node {
	for i := range s.Nodes {
		if s.Nodes[i].Address == address {
			return &s.Nodes[i]
		}
	}
	return nil
}

// alive says whether the holder of a shard still lives.
func (s *Scene) alive(h *Shard) bool {
	n := s.node(h.Current)
	return n != nil && n.Registration == h.registration
}
