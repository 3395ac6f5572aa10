// Package durable makes saves and durable calls, as many as a store takes: what the
// benchmarks of stores have in common.
package durable

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/node"
	"github.com/xiaonanln/goverse/object"
)

// Tally is a durable object that adds.
type Tally struct {
	object.BaseObject
	value int64
}

// Add answers with the sum so far.
func (t *Tally) Add(_ context.Context, m *wrapperspb.Int64Value) (*wrapperspb.Int64Value, error) {
	t.value += m.GetValue()
	return wrapperspb.Int64(t.value), nil
}

// ToData is the sum.
func (t *Tally) ToData() (proto.Message, error) { return wrapperspb.Int64(t.value), nil }

// FromData takes up a stored sum.
func (t *Tally) FromData(data proto.Message) error {
	if v, ok := data.(*wrapperspb.Int64Value); ok {
		t.value = v.GetValue()
	}
	return nil
}

const address, owner = "bench:1", "bench:1#1"

// Host is a node with tallies on a store. It holds every shard, without a cluster.
type Host struct {
	node *node.Node
	stop context.CancelFunc
	done chan error
}

// Start runs a host. Its fences are those that a Desk on the same store saves under.
func Start(ctx context.Context, store object.FencedProvider) (*Host, error) {
	types := object.NewTypes()
	if err := types.Register((*Tally)(nil)); err != nil {
		return nil, err
	}
	h := &Host{done: make(chan error, 1)}
	h.node = node.New(node.Config{Address: address, Types: types, Call: func(ctx context.Context, c object.Call) (object.Payload, error) {
		return h.node.ServeCall(ctx, &peer.Request{Call: c})
	}})
	h.node.SetPersistenceProvider(store)
	claims := make([]node.Claim, sharding.NumShards)
	for i := range claims {
		claims[i] = node.Claim{Shard: sharding.ID(i), Epoch: 1}
	}
	refused, err := h.node.Open(ctx, owner, func() bool { return true }, claims)
	if err = errors.Join(err, refusal(refused)); err != nil {
		return nil, err
	}
	ctx, h.stop = context.WithCancel(context.WithoutCancel(ctx))
	go func() { h.done <- h.node.Run(ctx) }()
	return h, nil
}

// Close stops the node and waits until it has saved everything.
func (h *Host) Close() error {
	h.stop()
	return <-h.done
}

// Load is who calls.
type Load struct {
	Callers int
	ID      func(caller int) string // of the tally that a caller calls
	Once    bool                    // each call has an id
}

// Calls is how many calls a second are answered, for a while: each caller makes the next
// when it has the answer to the last, and waits where the node says that it has too much
// to do. The error is the first other one of a call.
func (h *Host) Calls(ctx context.Context, d time.Duration, l Load) (rate float64, err error) {
	var count atomic.Int64
	var calling sync.WaitGroup
	failed := make(chan error, l.Callers)
	began := time.Now()
	for i := range l.Callers {
		calling.Go(func() {
			call := object.Call{Ref: object.Ref{Type: "Tally", ID: l.ID(i)}, Method: "Add", Payload: object.OfMessage(wrapperspb.Int64(1))}
			for ok := true; ok; ok = time.Since(began) < d { // one at least
				if l.Once {
					call.ID = object.NewCallID()
				}
				switch _, err := h.node.Call(ctx, call); {
				case err == nil:
					count.Add(1)
				case fault.KindOf(err) == fault.Overloaded && ctx.Err() == nil:
					time.Sleep(max(fault.Of(err).RetryAfter, time.Millisecond))
				default:
					failed <- err
					return
				}
			}
		})
	}
	calling.Wait()
	select {
	case err = <-failed:
	default:
	}
	return float64(count.Load()) / time.Since(began).Seconds(), err
}
