package consensusmanager

import (
	"slices"
	"strings"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/sharding"
)

// MaxBatch is how many shards one transaction may change, and MaxGuards how many other
// guards it may have. Together they are no more than etcd takes.
const (
	MaxBatch  = 120
	MaxGuards = 32
)

// claimGuards, planGuards and handGuards are how many guards T-CLAIM, T-PLAN and
// T-HAND have beside one for each dead holder or live target, and one for each shard.
const (
	claimGuards = 3
	planGuards  = 4
	handGuards  = 2
)

// The transactions of docs/format/etcd.md. Each is a function of values; the
// guards are the protocol's, and no more.

// bootstrapTxn creates the cluster. hold is the lease of the lock-delay, or zero.
func bootstrapTxn(k keys, meta []byte, hold etcdmanager.LeaseID) etcdmanager.Txn {
	t := etcdmanager.Txn{
		If:   []etcdmanager.Guard{etcdmanager.Absent(k.meta())},
		Then: []etcdmanager.Op{etcdmanager.Put(k.meta(), meta, 0)},
		Else: []etcdmanager.Op{etcdmanager.Get(k.meta())},
	}
	if hold != 0 {
		t.Then = append(t.Then, etcdmanager.Put(k.hold(), []byte("{}"), hold))
	}
	return t
}

// registerTxn is T-REG: key is the node's or the gate's own. hold is the lease of
// the lock-delay, or zero.
func registerTxn(k keys, key string, value, meta []byte, lease, hold etcdmanager.LeaseID) etcdmanager.Txn {
	t := etcdmanager.Txn{
		If:   []etcdmanager.Guard{etcdmanager.ValueIs(k.meta(), meta), etcdmanager.Absent(key)},
		Then: []etcdmanager.Op{etcdmanager.Put(key, value, lease)},
		Else: []etcdmanager.Op{etcdmanager.Get(k.meta()), etcdmanager.Get(key)},
	}
	if hold != 0 {
		t.Then = append(t.Then, etcdmanager.Put(k.hold(), []byte("{}"), hold))
	}
	return t
}

// alsoReg adds the registration key that makes a node's lease visible by its name.
func alsoReg(t etcdmanager.Txn, k keys, x, address string, lease etcdmanager.LeaseID) etcdmanager.Txn {
	t.Then = append(t.Then, etcdmanager.Put(k.reg(x), []byte(address), lease))
	return t
}

// writer is who writes: a live registration in one life of the cluster.
type writer struct {
	keys keys
	self Self
	meta []byte
}

func (w writer) sameCluster() etcdmanager.Guard { return etcdmanager.ValueIs(w.keys.meta(), w.meta) }
func (w writer) alive() etcdmanager.Guard       { return etcdmanager.Alive(w.keys.reg(w.self.Registration)) }

// smallest holds while no registered address sorts before the writer's own.
func (w writer) smallest() etcdmanager.Guard {
	return etcdmanager.RangeEmpty(w.keys.nodes(), w.keys.node(w.self.Address))
}

func (w writer) leads(term int64) etcdmanager.Guard {
	return etcdmanager.CreatedAt(w.keys.leader(), term)
}

// unchanged holds while the record has exactly the bytes that s was read from.
func (w writer) unchanged(s *sharding.Shard) etcdmanager.Guard {
	if s.Raw() == nil {
		return etcdmanager.Absent(w.keys.shard(s.ID))
	}
	return etcdmanager.ValueIs(w.keys.shard(s.ID), s.Raw())
}

func (w writer) put(s *sharding.Shard) etcdmanager.Op {
	return etcdmanager.Put(w.keys.shard(s.ID), s.Encode(nonce()), 0)
}

// lead is T-LEAD.
func (w writer) lead(lease etcdmanager.LeaseID) etcdmanager.Txn {
	value := encodeJSON(Leader{Address: w.self.Address, Registration: w.self.Registration})
	return etcdmanager.Txn{
		If:   []etcdmanager.Guard{w.sameCluster(), w.alive(), etcdmanager.Absent(w.keys.leader()), w.smallest()},
		Then: []etcdmanager.Op{etcdmanager.Put(w.keys.leader(), value, lease)},
	}
}

// yield is T-YIELD.
func (w writer) yield(term int64) etcdmanager.Txn {
	return etcdmanager.Txn{
		If:   []etcdmanager.Guard{w.leads(term)},
		Then: []etcdmanager.Op{etcdmanager.Delete(w.keys.leader())},
	}
}

// form writes the formation latch, as the leader.
func (w writer) form(term int64, nodes int) etcdmanager.Txn {
	return etcdmanager.Txn{
		If:   []etcdmanager.Guard{w.sameCluster(), w.leads(term), w.smallest()},
		Then: []etcdmanager.Op{etcdmanager.Put(w.keys.formed(), encodeJSON(map[string]int{"nodes": nodes}), 0)},
	}
}

// plan is T-PLAN: old is the mapping that it follows, next the one that it makes.
func (w writer) plan(term int64, old, next Mapping, v *View, changes []sharding.Change) etcdmanager.Txn {
	t := etcdmanager.Txn{
		If:   []etcdmanager.Guard{w.sameCluster(), w.leads(term), w.smallest(), w.follows(old)},
		Then: []etcdmanager.Op{etcdmanager.Put(w.keys.mapping(), next.raw, 0)},
	}
	for _, target := range targets(changes) {
		m, _ := v.members.Find(target)
		t.If = append(t.If, etcdmanager.Alive(w.keys.reg(m.Registration)))
	}
	for _, c := range changes {
		s := v.Table.Shard(c.Shard)
		next := s.Targeted(c.To)
		t.If = append(t.If, w.unchanged(s))
		t.Then = append(t.Then, w.put(&next))
	}
	return t
}

func (w writer) follows(old Mapping) etcdmanager.Guard {
	if old.raw == nil {
		return etcdmanager.Absent(w.keys.mapping())
	}
	return etcdmanager.ValueIs(w.keys.mapping(), old.raw)
}

func targets(changes []sharding.Change) []string {
	var list []string
	for _, c := range changes {
		if !slices.Contains(list, c.To) {
			list = append(list, c.To)
		}
	}
	return list
}

// claim is T-CLAIM: every shard is free or its holder is dead, and the writer is its
// target.
func (w writer) claim(shards []*sharding.Shard) etcdmanager.Txn {
	t := etcdmanager.Txn{If: []etcdmanager.Guard{w.sameCluster(), etcdmanager.Absent(w.keys.hold()), w.alive()}}
	for _, x := range holders(shards) {
		t.If = append(t.If, etcdmanager.Absent(w.keys.reg(x)))
	}
	for _, s := range shards {
		next := s.Claimed(w.self.Address, w.self.Registration)
		t.If = append(t.If, w.unchanged(s))
		t.Then = append(t.Then, w.put(&next))
	}
	return t
}

// holders is the distinct registrations that hold the shards by their records.
func holders(shards []*sharding.Shard) []string {
	var list []string
	for _, s := range shards {
		if s.Registration != "" && !slices.Contains(list, s.Registration) {
			list = append(list, s.Registration)
		}
	}
	return list
}

// hand is T-HAND: the writer holds every shard, and each goes to its target. records
// is the receivers' own, by which they live and do not leave: one that is about to go
// would take with it what was laid there.
func (w writer) hand(batch []Handover, records map[Self][]byte) etcdmanager.Txn {
	t := etcdmanager.Txn{If: []etcdmanager.Guard{w.sameCluster(), w.alive()}}
	for _, y := range receivers(batch) {
		t.If = append(t.If, etcdmanager.ValueIs(w.keys.node(y.Address), records[y]))
	}
	for _, h := range batch {
		next := h.Shard.HandedTo(h.To.Address, h.To.Registration, h.ID)
		t.If = append(t.If, w.unchanged(h.Shard))
		t.Then = append(t.Then, w.put(&next))
	}
	return t
}

func receivers(batch []Handover) []Self {
	var list []Self
	for _, h := range batch {
		if !slices.Contains(list, h.To) {
			list = append(list, h.To)
		}
	}
	return list
}

// poison is T-RESOLVE of a shard that the writer holds by its record: fresh bytes for
// the same record, which no transaction that compares the old ones survives.
func (w writer) poison(s *sharding.Shard, fresh []byte) etcdmanager.Txn {
	return etcdmanager.Txn{
		If:   []etcdmanager.Guard{w.sameCluster(), w.alive(), w.unchanged(s)},
		Then: []etcdmanager.Op{etcdmanager.Put(w.keys.shard(s.ID), fresh, 0)},
		Else: []etcdmanager.Op{etcdmanager.Get(w.keys.shard(s.ID))},
	}
}

// release is T-RELEASE of shards that the writer holds.
func (w writer) release(shards []*sharding.Shard) etcdmanager.Txn {
	return w.rewrite(shards, (*sharding.Shard).Released)
}

// bump is T-BUMP of shards that the writer holds: floors are the epochs that the
// store knows.
func (w writer) bump(shards []*sharding.Shard, floors map[sharding.ID]uint64) etcdmanager.Txn {
	return w.rewrite(shards, func(s *sharding.Shard) sharding.Shard { return s.Bumped(floors[s.ID]) })
}

func (w writer) rewrite(shards []*sharding.Shard, to func(*sharding.Shard) sharding.Shard) etcdmanager.Txn {
	t := etcdmanager.Txn{If: []etcdmanager.Guard{w.sameCluster(), w.alive()}}
	for _, s := range shards {
		next := to(s)
		t.If = append(t.If, w.unchanged(s))
		t.Then = append(t.Then, w.put(&next))
	}
	return t
}

// drain writes that the node is leaving.
func (w writer) drain(value []byte, lease etcdmanager.LeaseID) etcdmanager.Txn {
	return etcdmanager.Txn{
		If:   []etcdmanager.Guard{w.alive()},
		Then: []etcdmanager.Op{etcdmanager.Put(w.keys.node(w.self.Address), value, lease)},
	}
}

// PlanBatches cuts a plan into transactions: at most MaxBatch shards, fewer of
// very many targets.
func PlanBatches(changes []sharding.Change) [][]sharding.Change {
	sorted := slices.SortedStableFunc(slices.Values(changes), func(a, b sharding.Change) int { return strings.Compare(a.To, b.To) })
	return batches(sorted, func(c sharding.Change) string { return c.To }, planGuards)
}

// ClaimBatches cuts claims into transactions: at most MaxBatch shards, fewer of
// very many dead holders.
func ClaimBatches(shards []*sharding.Shard) [][]*sharding.Shard {
	sorted := slices.SortedStableFunc(slices.Values(shards), func(a, b *sharding.Shard) int { return strings.Compare(a.Registration, b.Registration) })
	return batches(sorted, func(s *sharding.Shard) string { return s.Registration }, claimGuards)
}

// HandBatches cuts hand-overs into transactions: at most MaxBatch shards, fewer
// of very many receivers.
func HandBatches(list []Handover) [][]Handover {
	sorted := slices.SortedStableFunc(slices.Values(list), func(a, b Handover) int { return strings.Compare(a.To.Registration, b.To.Registration) })
	return batches(sorted, func(h Handover) string { return h.To.Registration }, handGuards)
}

// batches cuts a list, in which equal groups stand together, before the element that
// would be one too many, itself or with the guard of its group. There are guards
// already.
func batches[E any](list []E, group func(E) string, guards int) [][]E {
	var cut [][]E
	for start := 0; start < len(list); {
		end, others := start, guards
		for ; end < len(list) && end-start < MaxBatch; end++ {
			if end == start || group(list[end]) != group(list[end-1]) {
				others++
			}
			if others > MaxGuards || end-start+1+others > etcdmanager.MaxTxnOps {
				break
			}
		}
		cut = append(cut, list[start:end])
		start = end
	}
	return cut
}
