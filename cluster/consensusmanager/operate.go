package consensusmanager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
)

// Why an operator's order is not carried out.
var (
	// ErrNoCluster: nothing is under the prefix.
	ErrNoCluster = errors.New("no cluster")
	// ErrNoNode: no live node has the address.
	ErrNoNode = errors.New("no such node")
	// ErrLastReady: no other node would be left to take shards.
	ErrLastReady = errors.New("the last ready node")
	// ErrStopping: the node drains because its process is stopping, not because an
	// operator said so.
	ErrStopping = errors.New("the node's process is stopping")
	// ErrUnknownOutcome: etcd did not answer in time. The order may be carried out
	// later; giving it again does no harm.
	ErrUnknownOutcome = errors.New("unknown outcome")
)

// byOperator stands in P/nodes/<address> while it is an operator who drains the node.
const byOperator = "operator"

// Mark is what became of an order.
type Mark struct {
	Before  *View // by which it was decided
	Changed bool  // false: the node was so already
}

// orderAttempts bounds how often an order is tried while the cluster changes under it.
const orderAttempts = 5

// Drain marks the node at address as draining: the leader gives its shards to others
// and it hands them over, but its process goes on. The last ready node is marked only
// with force: nobody could take its shards. May be called concurrently, also for nodes
// that are each other's last: one of two calls is refused.
func Drain(ctx context.Context, kv etcdmanager.KV, prefix, address string, force bool) (Mark, error) {
	return order(ctx, kv, prefix, address, Drains, func(k keys, v *View, m *Member) (etcdmanager.Txn, error) {
		if m.State == StateDraining {
			return etcdmanager.Txn{}, nil
		}
		witness := otherReady(v, address)
		if witness == nil && !force {
			return etcdmanager.Txn{}, fmt.Errorf("%w: %s", ErrLastReady, address)
		}
		return drainTxn(k, v, m, witness), nil
	})
}

// Undrain takes back what Drain did: the node is ready and is given shards again. A
// node that is leaving by itself is marked only with force.
func Undrain(ctx context.Context, kv etcdmanager.KV, prefix, address string, force bool) (Mark, error) {
	return order(ctx, kv, prefix, address, Undrains, func(k keys, v *View, m *Member) (etcdmanager.Txn, error) {
		switch {
		case m.State == StateReady:
			return etcdmanager.Txn{}, nil
		case !m.DrainedByOperator() && !force:
			return etcdmanager.Txn{}, fmt.Errorf("%w: %s", ErrStopping, address)
		}
		return markTxn(k, v, m, undrained(m.raw)), nil
	})
}

// order carries out one change of a node's record: txn makes it from what stands
// there, or is empty where there is nothing to do.
func order(ctx context.Context, kv etcdmanager.KV, prefix, address string, what Verb, txn func(keys, *View, *Member) (etcdmanager.Txn, error)) (Mark, error) {
	return carryOut(ctx, kv, prefix, "node "+address, what, address, func(k keys, v *View) (etcdmanager.Txn, error) {
		m, ok := v.Member(address)
		if !ok {
			return etcdmanager.Txn{}, fmt.Errorf("%w: %s", ErrNoNode, address)
		}
		return txn(k, v, m)
	})
}

// carryOut writes what an order makes of the cluster as it stands, and looks again if
// that has changed meanwhile. An empty transaction is that nothing is to be done. what
// and on are how it is told of.
func carryOut(ctx context.Context, kv etcdmanager.KV, prefix, subject string, what Verb, on string, txn func(keys, *View) (etcdmanager.Txn, error)) (Mark, error) {
	k := newKeys(prefix)
	for range orderAttempts {
		v, err := Read(ctx, kv, prefix)
		if err != nil {
			return Mark{}, err
		}
		if v.Meta == nil {
			return Mark{Before: v}, fmt.Errorf("%w at %s", ErrNoCluster, prefix)
		}
		t, err := txn(k, v)
		if err != nil || len(t.If) == 0 {
			return Mark{Before: v}, err
		}
		t = signed(ctx, k, v, t, what, on)
		result, err := kv.Commit(ctx, t)
		switch {
		case errors.Is(err, etcdmanager.ErrLeaseNotFound):
			continue // whose lease it is has just died
		case errors.Is(err, etcdmanager.ErrNotApplied):
			return Mark{Before: v}, err
		case err != nil:
			return Mark{Before: v}, fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
		case result.Held:
			return Mark{Before: v, Changed: true}, nil
		}
	}
	return Mark{}, fmt.Errorf("what is known of %s has changed %d times while the order was given: %w", subject, orderAttempts, errRefused)
}

// otherReady is a ready node beside the one at address, or nil.
func otherReady(v *View, address string) *Member {
	for _, m := range v.members {
		if m.Address != address && !m.Draining {
			return v.nodes[m.Address]
		}
	}
	return nil
}

// markTxn rewrites the record of a live node, on the lease that it is on, if it has
// not changed and its registration lives.
func markTxn(k keys, v *View, m *Member, value []byte) etcdmanager.Txn {
	key := k.node(m.Address)
	return etcdmanager.Txn{
		If: []etcdmanager.Guard{
			etcdmanager.ValueIs(k.meta(), v.Meta.raw), etcdmanager.ValueIs(key, m.raw), etcdmanager.Alive(k.reg(m.Registration)),
		},
		Then: []etcdmanager.Op{etcdmanager.Put(key, value, v.values[key].Lease)},
	}
}

// drainTxn is an operator's drain. The witness, where there is one, must still be
// ready, so that two orders never drain each other's last node.
func drainTxn(k keys, v *View, m, witness *Member) etcdmanager.Txn {
	t := markTxn(k, v, m, drained(m.raw))
	if witness != nil {
		t.If = append(t.If, etcdmanager.ValueIs(k.node(witness.Address), witness.raw), etcdmanager.Alive(k.reg(witness.Registration)))
	}
	return t
}

func drained(raw []byte) []byte {
	return rewrite(raw, struct {
		State string `json:"state"`
		By    string `json:"by"`
	}{StateDraining, byOperator})
}

func undrained(raw []byte) []byte {
	return rewrite(without(raw, "by"), struct {
		State string `json:"state"`
	}{StateReady})
}

// without is a record that lacks some members. One that is no object stays as it is.
func without(raw []byte, names ...string) []byte {
	var kept map[string]json.RawMessage
	if json.Unmarshal(raw, &kept) != nil {
		return raw
	}
	for _, name := range names {
		delete(kept, name)
	}
	return encodeJSON(kept)
}

// DrainedByOperator says that the node drains on an operator's order. Its process may
// be stopping as well.
func (m *Member) DrainedByOperator() bool {
	var r struct {
		By string `json:"by"`
	}
	return m.State == StateDraining && json.Unmarshal(m.raw, &r) == nil && r.By == byOperator
}

// Strays lists the addresses that have a node's key under prefix and no registration,
// or a key that is unreadable, sorted. Such a key keeps everybody whose address sorts
// after it from leading.
func (v *View) Strays(prefix string) []string {
	k := newKeys(prefix)
	var strays []string
	for key := range v.values {
		f, address := k.parse(key)
		if _, live := v.Member(address); f == nodeKey && !live {
			strays = append(strays, address)
		}
	}
	slices.Sort(strays)
	return strays
}

// Follow shows every view of the cluster, from the one that stands now on, until see
// says that it has seen enough, etcd fails or ctx ends. It only reads. Views that come
// faster than see takes them are left out.
func Follow(ctx context.Context, kv etcdmanager.KV, prefix string, see func(*View) (more bool)) error {
	for attempt := 0; ; attempt++ {
		v, err := Read(ctx, kv, prefix)
		if err != nil {
			return err
		}
		if !see(v) {
			return nil
		}
		moved, more := followFrom(ctx, kv, newKeys(prefix), v, see)
		if !more {
			return nil
		}
		if moved {
			attempt = 0
		}
		if !rangeBackoff.Wait(ctx, attempt) {
			return ctx.Err()
		}
	}
}

// followFrom shows what follows v until the watch ends, or until it may have missed
// something.
func followFrom(ctx context.Context, kv etcdmanager.KV, k keys, v *View, see func(*View) bool) (moved, more bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	batches := kv.Watch(ctx, string(k), v.Revision+1)
	for b := range batches {
		for waiting := true; waiting; {
			if b.Err != nil || b.Reconnected {
				return moved, true
			}
			v, _ = v.Apply(k, b, time.Now())
			select {
			case next, ok := <-batches:
				if !ok {
					return moved, true
				}
				b = next
			default:
				waiting = false
			}
		}
		moved = true
		if !see(v) {
			return moved, false
		}
	}
	return moved, true
}

// Clusters lists the prefixes that have a cluster, of those that begin like near or
// like the default, sorted. Others are not looked for: that would read all of etcd.
func Clusters(ctx context.Context, kv etcdmanager.KV, near string) ([]string, error) {
	var found []string
	for _, root := range []string{DefaultPrefix, strings.TrimRight(near, "/")} {
		if root == "" {
			continue
		}
		page, err := kv.Range(ctx, root)
		if err != nil {
			return nil, fmt.Errorf("look for clusters at %s: %w", root, err)
		}
		for _, item := range page.Items {
			if prefix, ok := strings.CutSuffix(item.Key, "/meta"); ok {
				if _, err := decodeMeta(item.Value); err == nil {
					found = append(found, prefix)
				}
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found), nil
}
