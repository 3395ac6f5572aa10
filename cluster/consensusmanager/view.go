package consensusmanager

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/secure"
)

// View is the cluster at one revision: members, leader and shards. It is immutable,
// and each one that a Manager publishes is newer than the one before.
type View struct {
	Revision int64
	Meta     *Meta           // nil: no node has created the cluster yet
	Formed   bool            // the cluster once had its quorum: shards are mapped
	Hold     bool            // nothing may be claimed yet: an earlier holder may still be speaking
	Leader   Leader          // zero: nobody leads
	Table    *sharding.Table // empty while Meta is nil

	mapping Mapping
	secret  secure.Secret
	nodes   map[string]*Member // by address
	gates   map[string]*Gate
	orders  map[sharding.ID]Order
	acts    []Act
	regs    map[string]string           // registration → address
	members sharding.Members            // the live nodes, sorted
	lives   map[string]life             // address → what is known of the nodes there
	damage  map[string]string           // key → what is wrong with its value
	values  map[string]etcdmanager.Item // what v was made from, but for the shards' records
	partial bool                        // shards may have records that v was not made from

	census     atomic.Pointer[sharding.Census] // nil: nobody has asked for it yet
	superseded chan struct{}
}

// newView is what is known before anything was read.
func newView() *View {
	return &View{Table: sharding.NewTable(0), superseded: make(chan struct{})}
}

// Read is the cluster as it stands now, for one look: nothing supersedes the view.
func Read(ctx context.Context, kv etcdmanager.KV, prefix string) (*View, error) {
	k := newKeys(prefix)
	page, err := kv.Range(ctx, string(k))
	if err != nil {
		return nil, fmt.Errorf("read the cluster at %s: %w", prefix, err)
	}
	v, _ := newView().Load(k, page, time.Now())
	return v, nil
}

// Superseded is closed once a newer view is published.
func (v *View) Superseded() <-chan struct{} { return v.superseded }

// Members is the live nodes, sorted by address. It must not be changed.
func (v *View) Members() sharding.Members { return v.members }

// Member is the live node at address.
func (v *View) Member(address string) (*Member, bool) {
	m, ok := v.nodes[address]
	return m, ok && v.regs[m.Registration] == address
}

// Gates is the addresses of the live gates, sorted.
func (v *View) Gates() []string { return slices.Sorted(maps.Keys(v.gates)) }

// HTTPGates are the roots of the live gates' ports for HTTP, by the gates' addresses, of
// those that tell them.
func (v *View) HTTPGates() map[string]string {
	roots := map[string]string{}
	for address, g := range v.gates {
		if g.HTTP != "" {
			roots[address] = g.HTTP
		}
	}
	return roots
}

// Registered says whether a registration lives: its lease has not ended.
func (v *View) Registered(registration string) bool {
	_, ok := v.regs[registration]
	return ok
}

// Holder is the live node that holds a shard, and the epoch at which it does; ""
// while the shard is between holders.
func (v *View) Holder(id sharding.ID) (address string, epoch uint64) {
	if int(id) >= v.Table.Len() {
		return "", 0
	}
	s := v.Table.Shard(id)
	if s.Current == "" || !v.members.Registered(s.Current, s.Registration) {
		return "", s.Epoch
	}
	return s.Current, s.Epoch
}

// Ready counts the nodes that take shards.
func (v *View) Ready() int {
	n := 0
	for _, m := range v.members {
		if !m.Draining {
			n++
		}
	}
	return n
}

// Census counts the shards by state. Once somebody has asked, later views with the same
// members count on from there.
func (v *View) Census() sharding.Census {
	c := v.census.Load()
	if c == nil {
		counted := v.Table.Census(v.members)
		c = &counted
		v.census.Store(c)
	}
	return *c
}

// Damage lists the keys whose values make no sense, with what is wrong.
func (v *View) Damage() []string {
	var list []string
	for _, key := range slices.Sorted(maps.Keys(v.damage)) {
		list = append(list, key+": "+v.damage[key])
	}
	return list
}

// String is the view in a few lines.
func (v *View) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "formed=%v hold=%v leader=%s shards=%d: %v\n", v.Formed, v.Hold, v.Leader.Address, v.Table.Len(), v.Census())
	for _, m := range v.members {
		state := StateReady
		if m.Draining {
			state = StateDraining
		}
		fmt.Fprintf(&b, "node %s#%s %s\n", m.Address, m.Registration, state)
	}
	for _, g := range v.Gates() {
		fmt.Fprintf(&b, "gate %s\n", g)
	}
	for _, o := range v.Orders() {
		fmt.Fprintf(&b, "order %v\n", o)
	}
	for _, d := range v.Damage() {
		fmt.Fprintf(&b, "damaged %s\n", d)
	}
	return b.String()
}

// Apply is the view after one revision's changes; what alarms a person is returned
// beside it. A batch that is not newer changes nothing. A value that makes no sense
// leaves the thing it was about as it last was.
func (v *View) Apply(k keys, batch etcdmanager.Batch, now time.Time) (*View, []string) {
	if batch.Revision <= v.Revision {
		return v, nil
	}
	return v.with(k, batch, now)
}

func (v *View) with(k keys, batch etcdmanager.Batch, now time.Time) (*View, []string) {
	e := edit{keys: k, now: now, old: v, next: &View{
		Revision: batch.Revision, Meta: v.Meta, Formed: v.Formed, Hold: v.Hold, Leader: v.Leader, Table: v.Table,
		mapping: v.mapping, secret: v.secret, nodes: v.nodes, gates: v.gates, orders: v.orders, acts: v.acts, regs: v.regs, members: v.members, lives: v.lives,
		damage: v.damage, values: v.values, partial: v.partial,
		superseded: make(chan struct{}),
	}}
	e.meta(batch.Events) // first, because it says how many shards there are
	for _, ev := range batch.Events {
		e.apply(ev)
	}
	return e.done()
}

// Load is the view that a picture of the whole prefix makes of v: keys that are not
// in it are gone. Shards whose records vanished or became unreadable keep their last
// good fields, unless this is another life of the cluster.
func (v *View) Load(k keys, page etcdmanager.Page, now time.Time) (*View, []string) {
	if page.Revision < v.Revision {
		return v, nil
	}
	batch := etcdmanager.Batch{Revision: page.Revision}
	present := make(map[string]bool, len(page.Items))
	for _, item := range page.Items {
		present[item.Key] = true
		if !v.knows(k, item) {
			batch.Events = append(batch.Events, etcdmanager.Event{Item: item})
		}
	}
	for _, key := range v.keys(k) {
		if !present[key] {
			batch.Events = append(batch.Events, etcdmanager.Event{Item: etcdmanager.Item{Key: key}, Deleted: true})
		}
	}
	if page.Revision == v.Revision && len(batch.Events) == 0 {
		return v, nil
	}
	next, alarms := v.with(k, batch, now)
	next.partial = v.Meta != nil && next.Meta != nil && !v.Meta.Same(next.Meta)
	return next, alarms
}

// contradicts says what in a later picture cannot be if it continues the history that
// v is of, or "": a key that was last written at a revision that v has, and with
// another value than v has. Then etcd has forgotten what v was made from and put
// something else in its place: it was restored from an older snapshot. (Keys that are
// merely gone may have been deleted since. After the load v is right about them.)
func (v *View) contradicts(k keys, page etcdmanager.Page) string {
	if page.Revision < v.Revision {
		return fmt.Sprintf("etcd went back from revision %d to %d", v.Revision, page.Revision)
	}
	for _, item := range page.Items {
		if item.ModRevision > v.Revision || v.knows(k, item) {
			continue
		}
		if f, _ := k.parse(item.Key); f == shardKey && v.partial {
			continue
		}
		return fmt.Sprintf("%s has a value of revision %d that it did not have at revision %d", item.Key, item.ModRevision, v.Revision)
	}
	return ""
}

// knows says whether v was made from this very value.
func (v *View) knows(k keys, item etcdmanager.Item) bool {
	if s := v.shardAt(k, item.Key); s != nil {
		return s.Raw() != nil && bytes.Equal(s.Raw(), item.Value)
	}
	if f, _ := k.parse(item.Key); f == foreign {
		return true // there is nothing to know of it
	}
	was, ok := v.values[item.Key]
	return ok && was.CreateRevision == item.CreateRevision && bytes.Equal(was.Value, item.Value)
}

// hasShards says whether v was made from shards' records while it had no table.
func (v *View) hasShards(k keys) bool {
	for key := range v.values {
		if f, _ := k.parse(key); f == shardKey {
			return true
		}
	}
	return false
}

// shardAt is the record that key is of, or nil.
func (v *View) shardAt(k keys, key string) *sharding.Shard {
	f, name := k.parse(key)
	if f != shardKey {
		return nil
	}
	if id, ok := shardOf(name, v.Table.Len()); ok {
		return v.Table.Shard(id)
	}
	return nil
}

// keys is every key that v was made from.
func (v *View) keys(k keys) []string {
	all := slices.Collect(maps.Keys(v.values))
	for _, s := range v.Table.All() {
		if s.Raw() != nil {
			all = append(all, k.shard(s.ID))
		}
	}
	return all
}
