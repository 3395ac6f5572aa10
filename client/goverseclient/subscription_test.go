package goverseclient

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
	goverse_pb "github.com/xiaonanln/goverse/proto"
)

// tally is an object that counts, where its node would be. It keeps the last changes for
// who has missed them.
type tally struct {
	t     *testing.T
	world *cluster
	keeps uint64

	mu          sync.Mutex
	n           int64
	incarnation uint64
	version     uint64
	asked       int   // snapshots
	fails       error // of what is asked
}

func newTally(t *testing.T) *tally {
	a := &tally{t: t, world: newCluster(), keeps: 256, incarnation: 1}
	a.world.tally = a
	return a
}

var tallyRef = object.Ref{Type: "Tally", ID: "a"}

func (a *tally) show(call object.Call) (object.Payload, error) {
	req := new(goverse_pb.SubscribeRequest)
	if err := call.Payload.Binary.UnmarshalTo(req); err != nil {
		return object.Payload{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fails != nil {
		return object.Payload{}, a.fails
	}
	r := &goverse_pb.SubscribeReply{Incarnation: a.incarnation, Version: a.version, Node: "n:1"}
	if req.Incarnation == a.incarnation && req.Version <= a.version && a.version-req.Version <= a.keeps {
		r.Continued = true
		for v := req.Version + 1; v <= a.version; v++ {
			r.Missed = append(r.Missed, &goverse_pb.MissedChange{Version: v, Message: a.changeLocked(v)})
		}
	} else if !req.Renew {
		a.asked++
		r.Snapshot, _ = anypb.New(wrapperspb.Int64(a.n))
	}
	packed, err := anypb.New(r)
	return object.OfBinary(packed), err
}

func (a *tally) changeLocked(version uint64) *anypb.Any {
	m, _ := anypb.New(wrapperspb.Int64(a.n - int64(a.version-version)))
	return m
}

// add counts, and tells all gates.
func (a *tally) add(times int) {
	for range times {
		a.mu.Lock()
		a.n++
		a.version++
		f := peer.PushFrame{Message: a.changeLocked(a.version), Change: &peer.Change{Ref: tallyRef, Incarnation: a.incarnation, Version: a.version}}
		a.mu.Unlock()
		a.deliver(f)
	}
}

// begin begins anew, as after a crash that took back some.
func (a *tally) begin(back int64) {
	a.mu.Lock()
	f := peer.PushFrame{Change: &peer.Change{Ref: tallyRef, Incarnation: a.incarnation, Version: a.version, Ended: true}}
	a.n, a.version, a.incarnation = a.n-back, 0, a.incarnation+1
	a.mu.Unlock()
	a.deliver(f)
}

func (a *tally) deliver(f peer.PushFrame) {
	a.world.mu.Lock()
	defer a.world.mu.Unlock()
	for _, deliver := range a.world.delivers {
		_ = deliver(f) // of a gate that has gone
	}
}

func (a *tally) set(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
}

// follower is a program that checks each word of its subscription.
type follower struct {
	t   *testing.T
	sub *Subscription

	n       int64
	version uint64
	told    bool
	resets  int
}

func followTally(t *testing.T, c *Client) *follower {
	t.Helper()
	s, err := c.Subscribe(soon(t), tallyRef.Type, tallyRef.ID)
	if err != nil {
		t.Fatal(err)
	}
	return &follower{t: t, sub: s}
}

func (f *follower) take(u Update) {
	m := u.Snapshot
	if u.IsChange {
		m = u.Change
	}
	v, ok := m.(*wrapperspb.Int64Value)
	switch {
	case !ok:
		f.t.Fatalf("%+v", u)
	case u.IsChange && (!f.told || u.Version != f.version+1 || v.Value != f.n+1 || u.Reset):
		f.t.Errorf("behind %d at version %d came %d at %d", f.n, f.version, v.Value, u.Version)
	case !u.IsChange && (u.Reset != f.told || u.Reset && u.Reason == ""):
		f.t.Errorf("a snapshot says that it is a reset: %v, because %q", u.Reset, u.Reason)
	}
	if u.Reset {
		f.resets++
	}
	f.n, f.version, f.told = v.Value, u.Version, true
}

// until reads on to n.
func (f *follower) until(n int64) {
	f.t.Helper()
	ctx := soon(f.t)
	for !f.told || f.n != n {
		u, err := f.sub.Next(ctx)
		if err != nil {
			f.t.Fatalf("at %d, on the way to %d: %v", f.n, n, err)
		}
		f.take(u)
	}
}

func (f *follower) wantResets(n int) {
	f.t.Helper()
	if f.resets != n {
		f.t.Errorf("%d resets, want %d", f.resets, n)
	}
}

func TestSubscribe(t *testing.T) {
	a := newTally(t)
	a.add(3)
	s := startGate(t, a.world, "127.0.0.1:0")
	c := connect(t, []string{s.GRPCAddr()})
	f := followTally(t, c)
	f.until(3)
	a.add(200)
	f.until(203)
	a.begin(100)
	a.add(1)
	f.until(104)
	if f.resets == 0 {
		t.Error("the object began anew, and the program was not told")
	}
	early, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.sub.Next(early); fault.KindOf(err) != fault.Canceled {
		t.Errorf("%v", err)
	}
	waiting := make(chan error)
	go func() { _, err := f.sub.Next(context.Background()); waiting <- err }()
	f.sub.Unsubscribe()
	f.sub.Unsubscribe()
	if err := receive(t, "the end", waiting); !errors.Is(err, ErrUnsubscribed) {
		t.Errorf("%v", err)
	}
	for u, err := range f.sub.Updates(t.Context()) {
		t.Errorf("%v, %v", u, err)
	}
	g := followTally(t, c)
	receive(t, "the snapshot", g.sub.ready)
	_ = c.Close()
	g.until(104) // what is here already
	if _, err := g.sub.Next(soon(t)); !errors.Is(err, ErrClientClosed) {
		t.Errorf("%v", err)
	}
	if _, err := c.Subscribe(soon(t), "Tally", "a"); !errors.Is(err, ErrClientClosed) {
		t.Errorf("%v", err)
	}
}

// Over connections that break, and at gates that are restarted, each change comes once.
func TestASubscriptionGoesOn(t *testing.T) {
	a := newTally(t)
	one, two := startGate(t, a.world, "127.0.0.1:0"), startGate(t, a.world, "127.0.0.1:0")
	var road, other proxy
	c := connect(t, []string{road.serve(t, one.GRPCAddr()), other.serve(t, two.GRPCAddr())})
	f := followTally(t, c)
	var n int64
	for i := range 10 {
		a.add(7)
		road.cut()
		other.cut()
		a.add(5)
		if i%3 == 0 {
			if err := c.Reconnect(soon(t)); err != nil {
				t.Fatal(err)
			}
		}
		a.add(3)
		n += 15
		f.until(n)
	}
	f.wantResets(0)
	if a.asked != 1 {
		t.Errorf("%d snapshots were asked for", a.asked)
	}
	if err := one.Stop(); err != nil {
		t.Fatal(err)
	}
	a.add(20)
	f.until(n + 20)
	f.wantResets(0)
	a.set(func() { a.keeps = 2 })
	road.cut()
	other.cut()
	a.begin(0)
	a.add(5)
	f.until(n + 25)
	f.wantResets(1)
}

// A program that does not read costs the gate nothing, and has all of it when it reads on,
// or the state anew.
func TestAProgramThatDoesNotRead(t *testing.T) {
	a := newTally(t)
	a.keeps = 5000
	s := startGate(t, a.world, "127.0.0.1:0")
	c := connect(t, []string{s.GRPCAddr()})
	f, fine := followTally(t, c), followTally(t, c)
	for range 5 {
		a.add(250)
		fine.until(a.n)
	}
	fine.wantResets(0)
	f.sub.mu.Lock()
	if waits := len(f.sub.queue); waits != maxUpdates || !f.sub.paused {
		t.Errorf("%d updates wait", waits)
	}
	f.sub.mu.Unlock()
	f.until(1250) // the holder has the rest
	f.wantResets(0)
	a.set(func() { a.keeps = 10 })
	for range 6 {
		a.add(250)
		fine.until(a.n)
	}
	f.until(2750)
	f.wantResets(1)
	a.add(1)
	f.until(2751)
}

func TestARefusalEndsASubscription(t *testing.T) {
	a := newTally(t)
	s := startGate(t, a.world, "127.0.0.1:0")
	var road proxy
	c := connect(t, []string{road.serve(t, s.GRPCAddr())})
	no := fault.New(fault.Forbidden, "not you")
	a.set(func() { a.fails = no })
	_, err := c.Subscribe(soon(t), "Tally", "a")
	want(t, err, ErrForbidden, NotExecuted, "forbidden: not you")
	a.set(func() { a.fails = nil })
	f, g := followTally(t, c), followTally(t, c)
	f.until(0)
	a.set(func() { a.fails = no })
	road.cut() // it is asked for again
	_, err = f.sub.Next(soon(t))
	want(t, err, ErrForbidden, NotExecuted, "not you")
	g.until(0) // what was here already
	_, err = g.sub.Next(soon(t))
	want(t, err, ErrForbidden, NotExecuted, "not you")
	a.set(func() { a.fails = nil })
	f = followTally(t, c)
	f.until(0)
	a.set(func() { a.fails = no })
	a.begin(0) // and here the gate says so
	_, err = f.sub.Next(soon(t))
	want(t, err, ErrForbidden, NotExecuted, "not you")
	f.sub.Unsubscribe()
}

func TestSubscriptionsNeedTheStream(t *testing.T) {
	g := (&gate{}).serve(t)
	c := connect(t, []string{g.address})
	_, err := c.Subscribe(soon(t), "Tally", "a")
	want(t, err, ErrInvalid, NotExecuted, "no stream with subscriptions")
	u := connect(t, []string{startGate(t, newTally(t).world, "127.0.0.1:0").GRPCAddr()}, WithUnaryCalls())
	_, err = u.Subscribe(soon(t), "Tally", "a")
	want(t, err, ErrInvalid, NotExecuted, "WithUnaryCalls")
}

// Programs that subscribe and give up in every way leave nothing at the gate.
func TestSubscriptionsThatAreGivenUp(t *testing.T) {
	a := newTally(t)
	s := startGate(t, a.world, "127.0.0.1:0")
	c := connect(t, []string{s.GRPCAddr()})
	var all sync.WaitGroup
	for i := range 60 {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*100*time.Microsecond)
			defer cancel()
			if sub, err := c.Subscribe(ctx, "Tally", "a"); err == nil {
				sub.Unsubscribe()
			}
		})
	}
	all.Wait()
	a.add(1)
	followTally(t, c).until(1) // it comes behind what was given up
	l := c.stands().link
	until(t, "nothing to be left", func() bool {
		l.stream.mu.Lock()
		defer l.stream.mu.Unlock()
		return len(l.stream.feeds.followers) == 1 && len(l.stream.feeds.unwanted) == 0 && len(l.stream.waiting) == 0
	})
}

// A gate that publishes what cannot be is left, and what comes from the next is a reset.
func TestGatesThatPublishNonsense(t *testing.T) {
	one, seven := pack(t, wrapperspb.Int64(1)), uint64(7)
	published := func(p *gate_pb.Published) *gate_pb.GateFrame {
		return &gate_pb.GateFrame{Kind: &gate_pb.GateFrame_Published{Published: p}}
	}
	for name, frame := range map[string]*gate_pb.GateFrame{
		"a gap":            published(&gate_pb.Published{Subscription: 1, Version: 9, Change: one}),
		"again":            published(&gate_pb.Published{Subscription: 1, Version: 7, Change: one}),
		"none":             published(&gate_pb.Published{}),
		"nobody's":         published(&gate_pb.Published{Subscription: 2, Version: 8, Change: one}),
		"empty":            {Kind: &gate_pb.GateFrame_Published{}},
		"garbage":          published(&gate_pb.Published{Subscription: 1, Failure: []byte("\xff")}),
		"begins nothing":   {Call: 2, Kind: &gate_pb.GateFrame_Subscribed{}},
		"begins twice":     {Call: 2, Kind: &gate_pb.GateFrame_Subscribed{Subscribed: &gate_pb.SubscribeResponse{Subscription: 1}}},
		"another question": {Call: 2, Kind: &gate_pb.GateFrame_Unsubscribed{}},
	} {
		t.Run(name, func(t *testing.T) {
			g := &nonsense{first: published(&gate_pb.Published{Subscription: 1, Version: seven, Snapshot: one}), bad: frame}
			c := connect(t, []string{g.serve(t)})
			sub, err := c.Subscribe(soon(t), "Tally", "a")
			if err != nil {
				t.Fatal(err)
			}
			f := &follower{t: t, sub: sub}
			f.until(1)
			_, err = c.Subscribe(soon(t), "Tally", "b")  // what makes it speak
			want(t, err, ErrForbidden, Unknown, "not b") // the first attempt may have come through
			u, err := sub.Next(soon(t))
			if err != nil || !u.Reset || u.Version != 7 || g.opened.Load() < 2 {
				t.Errorf("%+v, %v, on connection %d", u, err, g.opened.Load())
			}
		})
	}
}

// nonsense is a gate that answers the first subscription, and the second with a bad frame,
// on its first connection.
type nonsense struct {
	gate_pb.UnimplementedGateServiceServer
	first, bad *gate_pb.GateFrame
	opened     atomic.Int64
}

func (g *nonsense) serve(t *testing.T) string {
	return serveGate(t, g)
}

func (g *nonsense) Converse(stream grpc.BidiStreamingServer[gate_pb.ClientBatch, gate_pb.GateBatch]) error {
	first := g.opened.Add(1) == 1
	frames := []*gate_pb.GateFrame{{Kind: &gate_pb.GateFrame_Welcome{Welcome: &gate_pb.Welcome{ClientId: fmt.Sprint("bad/", first), MaxCalls: 9, Subscriptions: true}}}}
	for number := uint64(0); ; number++ {
		if err := stream.Send(&gate_pb.GateBatch{Frames: frames}); err != nil {
			return err
		}
		frames = nil
		b, err := stream.Recv()
		if err != nil {
			return err
		}
		for _, f := range b.Frames {
			switch {
			case f.GetSubscribe() == nil:
			case f.GetSubscribe().Id == "b" && first:
				frames = append(frames, g.bad)
			case f.GetSubscribe().Id == "b":
				frames = append(frames, &gate_pb.GateFrame{Call: f.Call, Kind: &gate_pb.GateFrame_Failure{Failure: bytesOf(fault.New(fault.Forbidden, "not b"))}})
			default:
				yes := &gate_pb.GateFrame{Call: f.Call, Kind: &gate_pb.GateFrame_Subscribed{Subscribed: &gate_pb.SubscribeResponse{Subscription: 1}}}
				frames = append(frames, yes, g.first)
			}
		}
	}
}

func TestUpdatesOf(t *testing.T) {
	a := newTally(t)
	a.add(3)
	c := connect(t, []string{startGate(t, a.world, "127.0.0.1:0").GRPCAddr()})
	f := followTally(t, c)
	var heard []string
	for u, err := range UpdatesOf[*wrapperspb.Int64Value, *wrapperspb.Int64Value](soon(t), f.sub) {
		if err != nil {
			t.Fatal(err)
		}
		heard = append(heard, fmt.Sprint(u.Version, u.IsChange, u.Snapshot.GetValue(), u.Change.GetValue()))
		if a.add(1); len(heard) == 2 {
			break
		}
	}
	for u, err := range UpdatesOf[*wrapperspb.StringValue, *wrapperspb.StringValue](soon(t), f.sub) {
		want(t, err, ErrInvalid, NotExecuted, "version 5 came as google.protobuf.Int64Value")
		if u.Version != 5 {
			t.Errorf("%+v", u)
		}
		break
	}
	if got := fmt.Sprint(heard); got != "[3 false 3 0 4 true 0 4]" {
		t.Error(got)
	}
	_ = c.Close()
	for u, err := range UpdatesOf[*wrapperspb.StringValue, *wrapperspb.StringValue](soon(t), f.sub) {
		if !errors.Is(err, ErrClientClosed) && u.Version == 0 {
			t.Errorf("%v", err)
		}
	}
}
