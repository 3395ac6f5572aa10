package cluster

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/gate"
	"github.com/xiaonanln/goverse/goverseapi"
	"github.com/xiaonanln/goverse/goversetest"
)

// Tally counts, shows its count, and publishes it.
type Tally struct {
	goverseapi.BaseObject
	n int64
}

// Kept and fleeting tallies.
type (
	KeptTally     struct{ Tally }
	FleetingTally struct{ Tally }
)

func (c *Tally) Add(ctx context.Context, _ *wrapperspb.Int64Value) (*wrapperspb.Int64Value, error) {
	c.n++
	return wrapperspb.Int64(c.n), goverseapi.Publish(ctx, wrapperspb.Int64(c.n))
}

func (c *Tally) Look(context.Context, *wrapperspb.Int64Value) (*wrapperspb.Int64Value, error) {
	return wrapperspb.Int64(c.n), nil
}

func (c *Tally) OnSubscribe(context.Context) (proto.Message, error) {
	return wrapperspb.Int64(c.n), nil
}

func (c *Tally) ToData() (proto.Message, error) { return wrapperspb.Int64(c.n), nil }

func (c *Tally) FromData(m proto.Message) error {
	if v, ok := m.(*wrapperspb.Int64Value); ok {
		c.n = v.Value
	}
	return nil
}

// watcher is a client that follows one tally, and checks each word that it hears.
type watcher struct {
	t       *testing.T
	ref     string
	n       int64
	version uint64
	told    bool
	resets  int
	mu      sync.Mutex // protects the fields above

	incarnation uint64 // of the last snapshot; likewise
}

// point is how far it has come.
func (o *watcher) point() gate.Point {
	o.mu.Lock()
	defer o.mu.Unlock()
	return gate.Point{Incarnation: o.incarnation, Version: o.version}
}

func (o *watcher) watch(ctx context.Context, s *goversetest.Subscription) {
	for {
		p, ok := s.Next(ctx)
		if !ok {
			return
		}
		v := new(wrapperspb.Int64Value)
		if p.Err != nil || p.Any.UnmarshalTo(v) != nil {
			o.t.Errorf("%s: %+v", o.ref, p)
			return
		}
		o.mu.Lock()
		switch {
		case p.Snapshot && p.Reset != o.told:
			o.t.Errorf("%s: reset is %v", o.ref, p.Reset)
		case p.Reset:
			o.resets++
		case !p.Snapshot && (p.Version != o.version+1 || v.Value != o.n+1):
			o.t.Errorf("%s: behind %d at version %d came %d at %d", o.ref, o.n, o.version, v.Value, p.Version)
		}
		o.n, o.version, o.told = v.Value, p.Version, true
		if p.Snapshot {
			o.incarnation = p.Incarnation
		}
		o.mu.Unlock()
	}
}

func (o *watcher) at() (n int64, resets int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.n, o.resets
}

// Whatever becomes of nodes, each subscription is a state and every change behind it, or
// the state anew; a planned move of live state is not seen; and in the end all is known.
func TestSubscriptionsThroughMovesAndKills(t *testing.T) {
	types := []goversetest.Type{
		goversetest.Of((*KeptTally)(nil), goverseapi.ReadOnlyMethods("Look")),
		goversetest.Of((*FleetingTally)(nil), goverseapi.ReadOnlyMethods("Look"), goverseapi.WithDurability(goverseapi.Volatile)),
	}
	goversetest.Sim(t, goversetest.Cluster{Nodes: 3, Types: types}, func(w *goversetest.World) {
		ctx, cancel := context.WithCancel(context.Background())
		var watching sync.WaitGroup
		defer watching.Wait()
		defer cancel()
		var all []*watcher
		c := w.Connect()
		for _, typ := range []string{"KeptTally", "FleetingTally"} {
			for _, id := range []string{"0", "1", "2", "3", "4", "5"} {
				o := &watcher{t: t, ref: typ + "/" + id}
				all = append(all, o)
				s := w.Connect().Subscribe(o.ref)
				watching.Go(func() { defer s.Close(); o.watch(ctx, s) })
			}
		}
		add := func(times int) {
			for range times {
				for _, o := range all {
					_, _ = c.TryCall(o.ref, "Add", wrapperspb.Int64(0)) // one that a kill interrupts may fail
				}
			}
		}
		agree := func(when string) (resets int) {
			w.Settle()
			time.Sleep(30 * time.Second) // of the bubble: renewals have come and gone
			for _, o := range all {
				want := c.Call(o.ref, "Look", wrapperspb.Int64(0)).(*wrapperspb.Int64Value).Value
				n, again := o.at()
				if n != want {
					t.Errorf("%s: a client has %s at %d, which is at %d", when, o.ref, n, want)
				}
				if o.ref[0] == 'F' {
					resets += again
				}
			}
			return resets
		}
		add(3)
		agree("at first")
		w.AddNode()
		agree("after a node came") // the gates have followed what moved, before it moves again
		add(3)
		agree("before a node leaves")
		w.Stop("node1")
		add(3)
		if resets := agree("after moves"); resets != 0 {
			t.Errorf("a planned move was seen by %d subscriptions", resets)
		}
		w.Kill("node2")
		add(3)
		if resets := agree("after a kill"); resets == 0 {
			t.Error("no subscription saw the kill")
		}
		add(2)
		agree("in the end")
	})
}

// A client that loses its connection, or its gate, goes on behind what it has: nothing is
// missing, nothing comes twice, and it sees no reset while the object's node has what came
// since.
func TestSubscriptionsGoOnAtAnotherGate(t *testing.T) {
	types := []goversetest.Type{
		goversetest.Of((*KeptTally)(nil), goverseapi.ReadOnlyMethods("Look")),
		goversetest.Of((*FleetingTally)(nil), goverseapi.ReadOnlyMethods("Look"), goverseapi.WithDurability(goverseapi.Volatile)),
	}
	goversetest.Sim(t, goversetest.Cluster{Nodes: 2, Gates: 2, Types: types}, func(w *goversetest.World) {
		gates := w.Gates()
		c := w.Connect(gates[0])
		for _, ref := range []string{"KeptTally/a", "FleetingTally/a"} {
			o := &watcher{t: t, ref: ref}
			add := func(times int) {
				for range times {
					w.Call(ref, "Add", wrapperspb.Int64(0))
				}
			}
			visit := func(gate string, add func()) {
				s := w.Connect(gate).SubscribeFrom(ref, o.point())
				ctx, cancel := context.WithCancel(context.Background())
				var watching sync.WaitGroup
				watching.Go(func() { o.watch(ctx, s) })
				add()
				time.Sleep(time.Second) // of the bubble: it has come
				cancel()
				watching.Wait()
				s.Close()
				want := w.Call(ref, "Look", wrapperspb.Int64(0)).(*wrapperspb.Int64Value).Value
				if n, resets := o.at(); n != want || resets != 0 {
					t.Errorf("%s at %s: at %d after %d resets, want %d", ref, gate, n, resets, want)
				}
			}
			add(2)
			for i := range 6 {
				visit(gates[i%2], func() { add(3) })
				add(4) // while it is away
				if i == 3 {
					w.RestartGate(gates[i%2]) // the one that it was at
					time.Sleep(5 * time.Second)
				}
			}
			visit(gates[0], func() {})
		}
		c.Close()
	})
}

// Changes made right behind a subscription's first snapshot, right behind a move, or while
// one races with the other, come at once: nobody waits for the gate to renew.
func TestChangesBehindASnapshotOrAMoveComeAtOnce(t *testing.T) {
	types := []goversetest.Type{
		goversetest.Of((*KeptTally)(nil), goverseapi.ReadOnlyMethods("Look")),
		goversetest.Of((*FleetingTally)(nil), goverseapi.ReadOnlyMethods("Look"), goverseapi.WithDurability(goverseapi.Volatile)),
	}
	goversetest.Sim(t, goversetest.Cluster{Nodes: 3, Types: types}, func(w *goversetest.World) {
		ctx, cancel := context.WithCancel(context.Background())
		var watching sync.WaitGroup
		defer watching.Wait()
		defer cancel()
		add := func(o *watcher, when string) {
			t.Helper()
			for range 20 {
				w.Call(o.ref, "Add", wrapperspb.Int64(0))
			}
			w.Advance(time.Second) // far less than to the next renewal
			want := w.Call(o.ref, "Look", wrapperspb.Int64(0)).(*wrapperspb.Int64Value).Value
			if n, _ := o.at(); n != want {
				t.Errorf("%s: a client has %s at %d, which is at %d", when, o.ref, n, want)
			}
		}
		for i := range 12 {
			for _, typ := range []string{"KeptTally", "FleetingTally"} {
				o := &watcher{t: t, ref: fmt.Sprintf("%s/%d", typ, i)}
				w.Call(o.ref, "Add", wrapperspb.Int64(0))
				if i%2 == 0 {
					w.Delay(time.Second)
				}
				var subscribing sync.WaitGroup
				subscribing.Go(func() {
					s := w.Connect().Subscribe(o.ref)
					watching.Go(func() { defer s.Close(); o.watch(ctx, s) })
				})
				if i%2 == 0 { // and the object moves while its answer is on the way
					w.Advance(3 * time.Second / 2)
					w.Delay(0)
					w.MoveTo(o.ref, other(w, o.ref))
				}
				subscribing.Wait()
				add(o, "behind the first snapshot")
				w.MoveTo(o.ref, other(w, o.ref))
				add(o, "behind a move")
				w.Settle()
				add(o, "behind Settle")
			}
		}
	})
}

// other is a node that an object does not live on.
func other(w *goversetest.World, ref string) string {
	nodes := w.Nodes()
	return nodes[(slices.Index(nodes, w.Holder(ref))+1)%len(nodes)]
}
