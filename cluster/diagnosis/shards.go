package diagnosis

import "github.com/xiaonanln/goverse/cluster/sharding"

// States is every state's name, in the order of the census.
var States = []string{
	sharding.Unassigned.String(), sharding.Assigned.String(), sharding.Held.String(),
	sharding.Moving.String(), sharding.Orphaned.String(), sharding.Adrift.String(),
}

// Damaged stands in place of a state where the record makes no sense.
const Damaged = "damaged"

// ShardRow is one shard's record, and what it means.
type ShardRow struct {
	ID           int    `json:"shard"`
	Epoch        uint64 `json:"epoch"`
	Target       string `json:"target"`
	Current      string `json:"current"`
	Registration string `json:"registration"`
	Handover     string `json:"handover"`
	State        string `json:"state"`
	Damaged      bool   `json:"damaged"`

	record string
}

// ShardRowOf is the row of s, which is of v.
func ShardRowOf(v *Picture, s *sharding.Shard) ShardRow {
	return ShardRow{
		ID: int(s.ID), Epoch: s.Epoch, Target: s.Target, Current: s.Current, Registration: s.Registration, Handover: s.Handover,
		State: s.State(v.Members()).String(), Damaged: s.Damaged, record: s.String(),
	}
}

// Record is the shard's record in etcd, as text.
func (r ShardRow) Record() string { return r.record }
