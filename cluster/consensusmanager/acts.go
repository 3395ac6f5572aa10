package consensusmanager

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/internal/event"
)

// Act is an order that an operator gave, as P/acts tells of the last of them. It is
// written in the transaction that gives the order, so none is without the other.
type Act struct {
	Number uint64 `json:"n"`   // counts them, from 1
	At     int64  `json:"at"`  // unix milliseconds, of the operator's clock
	Who    string `json:"who"` // as he said himself: who can write to etcd can say anything
	What   Verb   `json:"what"`
	On     string `json:"on"` // a node, a shard and where it is to go, a client
}

// Verb is what an operator orders.
type Verb string

// The verbs.
const (
	Drains   Verb = "drain"
	Undrains Verb = "undrain"
	Moves    Verb = "move"
	Pins     Verb = "pin"
	Unpins   Verb = "unpin"
	Pushes   Verb = "push"
)

// sensitive is the verb in an audit's words; ok is false for a push, of which the node that
// carries it out tells, and for a verb of a later version.
func (b Verb) sensitive() (s event.Sensitive, ok bool) {
	s, ok = map[Verb]event.Sensitive{
		Drains: event.OperatorDrains, Undrains: event.OperatorUndrains, Moves: event.OperatorMoves, Pins: event.OperatorPins,
		Unpins: event.OperatorUnpins,
	}[b]
	return s, ok
}

// String is the act in a few words.
func (a Act) String() string { return string(a.What) + " " + a.On }

const (
	keptActs = 64  // of which P/acts tells
	actText  = 200 // bytes of each of its texts
)

// acts is P/acts.
type acts struct {
	Acts []Act `json:"acts"`
}

func decodeActs(raw []byte) ([]Act, error) {
	var a acts
	if err := decodeJSON(raw, &a); err != nil {
		return nil, err
	}
	for i := range a.Acts {
		if a.Acts[i].Number == 0 || i > 0 && a.Acts[i].Number <= a.Acts[i-1].Number {
			return nil, errors.New("the acts are not in order")
		}
	}
	return a.Acts, nil
}

// Acts is the last orders that operators gave, the oldest first. It must not be changed.
func (v *View) Acts() []Act { return v.acts }

// ActsSince is those of v's acts that an earlier view does not have.
func (v *View) ActsSince(before *View) (list []Act) {
	for _, a := range v.acts {
		if !slices.Contains(before.acts, a) {
			list = append(list, a)
		}
	}
	return list
}

type operatorKey struct{}

// WithOperator is ctx for orders that who gives: they are told of in P/acts. Others are
// not.
func WithOperator(ctx context.Context, who string) context.Context {
	return context.WithValue(ctx, operatorKey{}, who)
}

// signed is t with an act beside what it writes, if ctx says whose it is.
func signed(ctx context.Context, k keys, v *View, t etcdmanager.Txn, what Verb, on string) etcdmanager.Txn {
	who, _ := ctx.Value(operatorKey{}).(string)
	if who == "" {
		return t
	}
	a := Act{Number: 1, At: time.Now().UnixMilli(), Who: briefly(who), What: what, On: briefly(on)}
	list := v.acts
	if len(list) > 0 {
		a.Number = list[len(list)-1].Number + 1
	}
	list = append(slices.Clone(list[max(0, len(list)-keptActs+1):]), a)
	guard := etcdmanager.Absent(k.acts())
	if before, there := v.values[k.acts()]; there {
		guard = etcdmanager.ValueIs(k.acts(), before.Value)
	}
	return etcdmanager.Txn{
		If:   append(slices.Clone(t.If), guard),
		Then: append(slices.Clone(t.Then), etcdmanager.Put(k.acts(), encodeJSON(acts{list}), 0)),
	}
}

func briefly(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), actText)], "")
}

// Record tells of an order that is not carried out through etcd, before it is given.
// ctx says whose it is. May be called concurrently.
func Record(ctx context.Context, kv etcdmanager.KV, prefix string, what Verb, on string) error {
	_, err := carryOut(ctx, kv, prefix, "what operators did", what, on, func(k keys, v *View) (etcdmanager.Txn, error) {
		return etcdmanager.Txn{If: []etcdmanager.Guard{etcdmanager.ValueIs(k.meta(), v.Meta.raw)}}, nil
	})
	return err
}

// tellActs has one process of the cluster tell of what operators ordered: that of the
// smallest live node. What they did before this process knew of the cluster it does not
// tell.
func (m *Manager) tellActs(before, next *View) {
	on := m.on.SensitiveOperation
	if on == nil || before.Revision == 0 || len(next.members) == 0 {
		return
	}
	if _, mine := m.mine.Load(next.members[0].Registration); !mine {
		return
	}
	for _, a := range next.ActsSince(before) {
		if s, ok := a.What.sensitive(); ok {
			on(event.SensitiveOperation{Where: event.AtCluster, What: s, User: a.Who, ID: a.On})
		}
	}
}
