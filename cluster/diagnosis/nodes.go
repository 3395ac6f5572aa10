package diagnosis

import (
	"slices"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/sharding"
)

// NodeRow is a live node.
type NodeRow struct {
	Address      string `json:"address"`
	Registration string `json:"registration"`
	State        string `json:"state"`
	Leader       bool   `json:"leader"`
	Load
	Types   []string `json:"types"`
	Version string   `json:"version"`
	Store   string   `json:"store"`
}

// Load is the shards of one node: Held + In - Out = Target.
type Load struct {
	Held   int `json:"held"`
	Target int `json:"target"`
	In     int `json:"in"`
	Out    int `json:"out"`
}

// NodeRows is the live nodes, by address.
func (v *Picture) NodeRows() []NodeRow {
	rows, loads := []NodeRow{}, Loads(v)
	for _, m := range v.Members() {
		rows = append(rows, nodeRowOf(v, m, loads[m.Address]))
	}
	return rows
}

func nodeRowOf(v *Picture, m sharding.Member, l Load) NodeRow {
	row := NodeRow{Address: m.Address, Registration: m.Registration, State: StateOf(m), Leader: v.Leader.Registration == m.Registration, Load: l, Types: []string{}}
	if r, ok := v.Member(m.Address); ok {
		row.Types = append(row.Types, slices.Sorted(slices.Values(r.Types))...)
		row.Version, row.Store = r.Version, r.Store
	}
	return row
}

// StateOf is a member's state in etcd's word.
func StateOf(m sharding.Member) string {
	if m.Draining {
		return consensusmanager.StateDraining
	}
	return consensusmanager.StateReady
}

// Loads counts the shards of every live node.
func Loads(v *Picture) map[string]Load {
	loads := map[string]Load{}
	for _, s := range v.Table.All() {
		holder := ""
		if v.Members().Registered(s.Current, s.Registration) {
			holder = s.Current
		}
		if holder != "" {
			l := loads[holder]
			l.Held++
			if s.Target != holder {
				l.Out++
			}
			loads[holder] = l
		}
		if s.Target != "" {
			l := loads[s.Target]
			l.Target++
			if s.Target != holder {
				l.In++
			}
			loads[s.Target] = l
		}
	}
	return loads
}
