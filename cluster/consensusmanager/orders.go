package consensusmanager

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/sharding"
)

// Order is P/orders/<shard>: where an operator wants a shard to be. While it stands, and
// its node lives and does not drain, the leader gives the shard to that node and leaves it
// there; else the shard is placed like any other. It changes nothing but the target.
//
// A pin names an address, and stands until it is taken back. A move names one life of a
// node: it stands until its lease ends, or that process does, so that what it has moved is
// not evened out again at once, and is like any other later on.
type Order struct {
	Shard        sharding.ID `json:"-"`
	To           string      `json:"to"`
	Pin          bool        `json:"pin,omitempty"`
	Registration string      `json:"reg,omitempty"` // of a move: which life of To is meant
}

func decodeOrder(id sharding.ID, raw []byte) (Order, error) {
	o := Order{Shard: id}
	if err := decodeJSON(raw, &o); err != nil {
		return o, err
	}
	if o.To == "" || o.Pin == (o.Registration != "") {
		return o, errors.New("it names no node, or is neither a pin nor a move")
	}
	return o, nil
}

// String is the order in a line.
func (o Order) String() string {
	if o.Pin {
		return fmt.Sprintf("%04d pinned to %s", o.Shard, o.To)
	}
	return fmt.Sprintf("%04d moved to %s#%s", o.Shard, o.To, o.Registration)
}

// Order is what an operator wants of a shard, if anything.
func (v *View) Order(id sharding.ID) (Order, bool) {
	o, ok := v.orders[id]
	return o, ok && int(id) < v.Table.Len()
}

// Orders is what operators want, by shard.
func (v *View) Orders() []Order {
	var list []Order
	for _, id := range slices.Sorted(maps.Keys(v.orders)) {
		if o, ok := v.Order(id); ok {
			list = append(list, o)
		}
	}
	return list
}

// Void says that the order will never count again: it moved a shard to a process that has
// ended.
func (v *View) Void(o Order) bool {
	return !o.Pin && !v.members.Registered(o.To, o.Registration)
}

// wanted is the orders as plans see them.
func (v *View) wanted() map[sharding.ID]string {
	if len(v.orders) == 0 {
		return nil
	}
	wanted := make(map[sharding.ID]string, len(v.orders))
	for id, o := range v.orders {
		if !v.Void(o) {
			wanted[id] = o.To
		}
	}
	return wanted
}

// Why an order about a shard is not carried out, beside what may keep a node from being
// marked.
var (
	// ErrNoShard: the cluster has fewer, or the order is about none.
	ErrNoShard = errors.New("no such shard")
	// ErrDraining: the node gives up its shards and takes none.
	ErrDraining = errors.New("the node is draining")
	// ErrTooMany: an order is about MaxOrdered shards at most.
	ErrTooMany = errors.New("too many shards for one order")
)

// MaxOrdered bounds the shards of one order, which is written in one transaction: they are
// all ordered, or none is.
const MaxOrdered = 100

// The stay of a moved shard: for how long it is not evened out again.
const (
	DefaultStay = time.Hour
	MinStay     = time.Minute
	MaxStay     = 30 * 24 * time.Hour
)

// Move has the leader give a shard to the node at address, and leave it there for stay,
// or as long as that process lives. stay is from MinStay to MaxStay; it may become longer
// if etcd changes its leader. It takes the place of an earlier order. Mark.Changed says
// that the order was written, not that the shard has moved. May be called concurrently: the
// last order counts.
func Move(ctx context.Context, kv etcdmanager.KV, prefix string, shard sharding.ID, address string, stay time.Duration) (Mark, error) {
	return MoveAll(ctx, kv, prefix, []sharding.ID{shard}, address, stay)
}

// MoveAll is Move of up to MaxOrdered shards at once: of all, or of none.
func MoveAll(ctx context.Context, kv etcdmanager.KV, prefix string, shards []sharding.ID, address string, stay time.Duration) (Mark, error) {
	if stay < MinStay || stay > MaxStay {
		return Mark{}, fmt.Errorf("%w: a moved shard can stay for %v to %v, not %v", etcdmanager.ErrNotApplied, MinStay, MaxStay, stay)
	}
	lease, _, err := kv.Grant(ctx, stay)
	if err != nil {
		return Mark{}, fmt.Errorf("%w: a lease for the order: %w", etcdmanager.ErrNotApplied, err)
	}
	mark, err := place(ctx, kv, prefix, shards, address, lease, Moves)
	if !mark.Changed && !errors.Is(err, ErrUnknownOutcome) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
		defer cancel()
		_ = kv.Revoke(ctx, lease) // nothing is on it, and it ends by itself
	}
	return mark, err
}

// Pin has the leader give a shard to the node at address whenever that lives and does not
// drain, until Unpin. It takes the place of an earlier order. May be called concurrently:
// the last order counts.
func Pin(ctx context.Context, kv etcdmanager.KV, prefix string, shard sharding.ID, address string) (Mark, error) {
	return PinAll(ctx, kv, prefix, []sharding.ID{shard}, address)
}

// PinAll is Pin of up to MaxOrdered shards at once: of all, or of none.
func PinAll(ctx context.Context, kv etcdmanager.KV, prefix string, shards []sharding.ID, address string) (Mark, error) {
	return place(ctx, kv, prefix, shards, address, 0, Pins)
}

// place writes an order: without a lease it is a pin.
func place(ctx context.Context, kv etcdmanager.KV, prefix string, shards []sharding.ID, address string, lease etcdmanager.LeaseID, what Verb) (Mark, error) {
	return carryOut(ctx, kv, prefix, subjectOf(shards), what, toldOf(shards, address), func(k keys, v *View) (etcdmanager.Txn, error) {
		return placeTxn(k, v, shards, address, lease)
	})
}

func subjectOf(shards []sharding.ID) string {
	if len(shards) == 1 {
		return fmt.Sprintf("shard %d", shards[0])
	}
	return fmt.Sprintf("%d shards", len(shards))
}

// toldOf is what an order is about, as it is told of: where to, then which shards.
func toldOf(shards []sharding.ID, address string) string {
	text := subjectOf(shards)
	if address != "" {
		text += " to " + address
	}
	if len(shards) > 1 {
		text += fmt.Sprintf(": %v", shards)
	}
	return text
}

// placeTxn is empty where there are those pins already.
func placeTxn(k keys, v *View, shards []sharding.ID, address string, lease etcdmanager.LeaseID) (etcdmanager.Txn, error) {
	if err := orderable(v, shards); err != nil {
		return etcdmanager.Txn{}, err
	}
	m, ok := v.Member(address)
	switch {
	case !ok:
		return etcdmanager.Txn{}, fmt.Errorf("%w: %s", ErrNoNode, address)
	case m.State == StateDraining:
		return etcdmanager.Txn{}, fmt.Errorf("%w: %s", ErrDraining, address)
	}
	o := Order{To: address, Pin: lease == 0}
	if !o.Pin {
		o.Registration = m.Registration
	}
	var changed []sharding.ID
	var ops []etcdmanager.Op
	for _, shard := range shards {
		if old, given := v.Order(shard); given && o.Pin && old.Pin && old.To == address {
			continue
		}
		changed = append(changed, shard)
		ops = append(ops, etcdmanager.Put(k.order(shard), rewrite(without(v.values[k.order(shard)].Value, "pin", "reg"), o), lease))
	}
	if len(ops) == 0 {
		return etcdmanager.Txn{}, nil
	}
	t := orderTxn(k, v, changed)
	t.If = append(t.If, etcdmanager.ValueIs(k.node(address), m.raw), etcdmanager.Alive(k.reg(m.Registration)))
	t.Then = ops
	return t, nil
}

// orderable says why these shards cannot be ordered together.
func orderable(v *View, shards []sharding.ID) error {
	if len(shards) == 0 {
		return fmt.Errorf("%w: none was named", ErrNoShard)
	}
	if len(shards) > MaxOrdered {
		return fmt.Errorf("%w: %d, and %d at most", ErrTooMany, len(shards), MaxOrdered)
	}
	named := map[sharding.ID]bool{}
	for _, shard := range shards {
		if shard < 0 || int(shard) >= v.Table.Len() {
			return fmt.Errorf("%w: %d", ErrNoShard, shard)
		}
		if named[shard] {
			return fmt.Errorf("shard %d is named twice", shard)
		}
		named[shard] = true
	}
	return nil
}

// Unpin takes an order about a shard back, a move's too. The shard stays where it is until
// the leader evens out. May be called concurrently.
func Unpin(ctx context.Context, kv etcdmanager.KV, prefix string, shard sharding.ID) (Mark, error) {
	return UnpinAll(ctx, kv, prefix, []sharding.ID{shard})
}

// UnpinAll is Unpin of up to MaxOrdered shards at once: of all, or of none.
func UnpinAll(ctx context.Context, kv etcdmanager.KV, prefix string, shards []sharding.ID) (Mark, error) {
	return carryOut(ctx, kv, prefix, subjectOf(shards), Unpins, toldOf(shards, ""), func(k keys, v *View) (etcdmanager.Txn, error) {
		if err := orderable(v, shards); err != nil {
			return etcdmanager.Txn{}, err
		}
		var ordered []sharding.ID
		for _, shard := range shards {
			if _, there := v.values[k.order(shard)]; there {
				ordered = append(ordered, shard)
			}
		}
		if len(ordered) == 0 {
			return etcdmanager.Txn{}, nil
		}
		return unpinTxn(k, v, ordered), nil
	})
}

func unpinTxn(k keys, v *View, shards []sharding.ID) etcdmanager.Txn {
	t := orderTxn(k, v, shards)
	for _, shard := range shards {
		t.Then = append(t.Then, etcdmanager.Delete(k.order(shard)))
	}
	return t
}

// orderTxn is an order about shards without what it writes: the cluster, and the orders
// before, are as v has them.
func orderTxn(k keys, v *View, shards []sharding.ID) etcdmanager.Txn {
	t := etcdmanager.Txn{If: []etcdmanager.Guard{etcdmanager.ValueIs(k.meta(), v.Meta.raw)}}
	for _, shard := range shards {
		guard := etcdmanager.Absent(k.order(shard))
		if before, there := v.values[k.order(shard)]; there {
			guard = etcdmanager.ValueIs(k.order(shard), before.Value)
		}
		t.If = append(t.If, guard)
	}
	return t
}
