package consensusmanager

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/secure"
)

// edit makes one view out of another. It copies what it changes and shares the rest.
type edit struct {
	keys keys
	now  time.Time
	old  *View
	next *View

	decoder sharding.Decoder
	shards  []*sharding.Shard
	alarms  []string
	copied  [numFamilies]bool // maps that are next's own; damage is that of foreign
	living  bool              // nodes or regs changed
}

// meta applies what happened to P/meta. Another value is another life of the keys:
// nothing that was known of shards is true of it.
func (e *edit) meta(events []etcdmanager.Event) {
	for _, ev := range events {
		if f, _ := e.keys.parse(ev.Item.Key); f != metaKey {
			continue
		}
		if ev.Deleted {
			e.mended(ev.Item.Key)
			if e.next.Meta != nil {
				e.alarm("%s was deleted: this cluster's keys are gone", ev.Item.Key)
			}
			e.next.partial = e.next.partial || e.next.Table.Len() > 0
			e.next.Meta, e.next.Table = nil, sharding.NewTable(0)
			continue
		}
		meta, err := decodeMeta(ev.Item.Value)
		if !e.readable(ev.Item.Key, err) {
			continue
		}
		if old := e.next.Meta; old == nil || !old.Same(meta) {
			if old != nil {
				e.alarm("%s changed: these are the keys of another life of the cluster", ev.Item.Key)
			}
			e.next.partial = e.next.partial || old != nil || e.next.hasShards(e.keys)
			e.next.Meta, e.next.Table = meta, sharding.NewTable(meta.Shards)
		}
	}
}

func (e *edit) apply(ev etcdmanager.Event) {
	f, name := e.keys.parse(ev.Item.Key)
	if f != foreign && e.next.shardAt(e.keys, ev.Item.Key) == nil {
		e.remember(ev)
	}
	switch f {
	case formedKey:
		e.next.Formed = !ev.Deleted
	case holdKey:
		e.next.Hold = !ev.Deleted
	case leaderKey:
		e.leader(ev)
	case mappingKey:
		e.mapping(ev)
	case secretKey:
		e.secret(ev)
	case nodeKey:
		e.node(name, ev)
	case gateKey:
		e.gate(name, ev)
	case regKey:
		e.reg(name, ev)
	case shardKey:
		e.shard(name, ev)
	case orderKey:
		e.order(name, ev)
	case actsKey:
		e.acts(ev)
	}
}

// remember keeps what the view is made from, so that a full load finds what differs.
func (e *edit) remember(ev etcdmanager.Event) {
	own(e, allKeys, &e.next.values)
	if ev.Deleted {
		delete(e.next.values, ev.Item.Key)
	} else {
		e.next.values[ev.Item.Key] = ev.Item
	}
}

func (e *edit) leader(ev etcdmanager.Event) {
	if ev.Deleted {
		e.next.Leader = Leader{}
		e.mended(ev.Item.Key)
		return
	}
	leader, err := decodeLeader(ev.Item.Value, ev.Item.CreateRevision)
	e.readable(ev.Item.Key, err)
	e.next.Leader = leader // a key that nobody can read still keeps others from leading
}

func (e *edit) mapping(ev etcdmanager.Event) {
	if ev.Deleted {
		e.next.mapping = Mapping{Epoch: e.next.mapping.Epoch}
		e.mended(ev.Item.Key)
		return
	}
	mapping, err := decodeMapping(ev.Item.Value)
	if !e.readable(ev.Item.Key, err) {
		mapping = Mapping{Epoch: e.next.mapping.Epoch, raw: ev.Item.Value}
	}
	e.next.mapping = mapping
}

// secret keeps the last good one while the record is damaged: connections must go on.
func (e *edit) secret(ev etcdmanager.Event) {
	if ev.Deleted {
		e.next.secret = secure.Secret{}
		e.mended(ev.Item.Key)
		return
	}
	if secret, err := decodeSecret(ev.Item.Value); e.readable(ev.Item.Key, err) {
		e.next.secret = secret
	}
}

// acts keeps the last good ones while the record is damaged.
func (e *edit) acts(ev etcdmanager.Event) {
	if ev.Deleted {
		e.next.acts = nil
		e.mended(ev.Item.Key)
		return
	}
	if list, err := decodeActs(ev.Item.Value); e.readable(ev.Item.Key, err) {
		e.next.acts = list
	}
}

func (e *edit) node(address string, ev etcdmanager.Event) {
	own(e, nodeKey, &e.next.nodes)
	if ev.Deleted {
		delete(e.next.nodes, address)
		e.mended(ev.Item.Key)
		e.living = true
		return
	}
	m, err := decodeMember(address, ev.Item.Value)
	if e.readable(ev.Item.Key, err) {
		e.next.nodes[address] = m
		e.living = true
	}
}

func (e *edit) gate(address string, ev etcdmanager.Event) {
	own(e, gateKey, &e.next.gates)
	if ev.Deleted {
		delete(e.next.gates, address)
		e.mended(ev.Item.Key)
		return
	}
	g, err := decodeGate(address, ev.Item.Value)
	if e.readable(ev.Item.Key, err) {
		e.next.gates[address] = g
	}
}

func (e *edit) order(name string, ev etcdmanager.Event) {
	id, ok := shardOf(name, sharding.NumShards)
	switch {
	case !ok && ev.Deleted:
		e.mended(ev.Item.Key)
		return
	case !ok:
		e.readable(ev.Item.Key, fmt.Errorf("there is no such shard: want four digits below %d", sharding.NumShards))
		return
	}
	own(e, orderKey, &e.next.orders)
	if ev.Deleted {
		delete(e.next.orders, id)
		e.mended(ev.Item.Key)
		return
	}
	if o, err := decodeOrder(id, ev.Item.Value); e.readable(ev.Item.Key, err) {
		e.next.orders[id] = o
	}
}

func (e *edit) reg(x string, ev etcdmanager.Event) {
	own(e, regKey, &e.next.regs)
	e.living = true
	if ev.Deleted {
		delete(e.next.regs, x)
		return
	}
	e.next.regs[x] = string(ev.Item.Value)
}

func (e *edit) shard(name string, ev etcdmanager.Event) {
	key := ev.Item.Key
	id, ok := shardOf(name, e.next.Table.Len())
	switch {
	case !ok && (ev.Deleted || e.next.Meta == nil): // without meta nobody knows how many there are
		e.mended(key)
		return
	case !ok:
		e.readable(key, fmt.Errorf("there is no such shard: the cluster has %d", e.next.Table.Len()))
		return
	}
	before := e.next.Table.Shard(id)
	if ev.Deleted {
		if before.Raw() != nil {
			e.alarm("%s was deleted, which nothing in Goverse does: the leader writes it anew", key)
			e.shards = append(e.shards, before.Lost(nil))
		}
		e.mended(key)
		return
	}
	after, err := e.decoder.Decode(id, ev.Item.Value)
	if !e.readable(key, err) {
		e.shards = append(e.shards, before.Lost(ev.Item.Value))
		return
	}
	if err := before.Follows(after); err != nil {
		e.alarm("%s: %v", key, err)
	}
	e.shards = append(e.shards, after)
}

// readable notes whether the value of key made sense, and alarms once if not.
func (e *edit) readable(key string, err error) bool {
	if err == nil {
		e.mended(key)
		return true
	}
	if e.next.damage[key] != err.Error() {
		e.alarm("%s is unreadable and ignored: %v", key, err)
		own(e, foreign, &e.next.damage)
		e.next.damage[key] = err.Error()
	}
	return false
}

func (e *edit) mended(key string) {
	if _, damaged := e.next.damage[key]; damaged {
		own(e, foreign, &e.next.damage)
		delete(e.next.damage, key)
	}
}

func (e *edit) alarm(format string, args ...any) {
	e.alarms = append(e.alarms, fmt.Sprintf(format, args...))
}

// own makes a map next's own before its first change.
func own[M ~map[K]V, K comparable, V any](e *edit, f family, m *M) {
	if e.copied[f] {
		return
	}
	e.copied[f] = true
	if *m = maps.Clone(*m); *m == nil {
		*m = M{}
	}
}

func (e *edit) done() (*View, []string) {
	before := e.next.Table
	e.next.Table = before.With(e.shards...)
	if e.living {
		e.next.members = live(e.next)
		e.next.lives = livesAfter(e.old.lives, e.old.members, e.next.members, e.now)
	}
	e.census(before)
	return e.next, e.alarms
}

// census counts on from the old view's, if that was asked for and nothing but shards has
// changed.
func (e *edit) census(before *sharding.Table) {
	if was := e.old.census.Load(); was != nil && !e.living && before == e.old.Table {
		counted := e.next.Table.CensusAfter(before, *was, e.next.members)
		e.next.census.Store(&counted)
	}
}

// live derives the nodes whose registration lives.
func live(v *View) sharding.Members {
	var members sharding.Members
	for address, m := range v.nodes {
		if v.regs[m.Registration] == address {
			members = append(members, sharding.Member{Address: address, Registration: m.Registration, Draining: m.State != StateReady})
		}
	}
	slices.SortFunc(members, func(a, b sharding.Member) int { return strings.Compare(a.Address, b.Address) })
	return members
}
