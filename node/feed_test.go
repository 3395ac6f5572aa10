package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/memstore"
	goverse_pb "github.com/xiaonanln/goverse/proto"
)

// Shown is a Kept that shows N to who subscribes, unless its name forbids that.
type Shown struct{ Kept }

func (o *Shown) OnSubscribe(ctx context.Context) (proto.Message, error) {
	switch who := callctx.From(ctx).Caller; {
	case strings.HasPrefix(o.Id(), "secret") && who.UserID != "ann":
		return nil, fault.New(fault.Forbidden, "only ann may see it")
	case strings.HasPrefix(o.Id(), "empty"):
		return nil, nil
	}
	return wrapperspb.Int64(o.N), nil
}

// shown registers Shown with options.
func shown(options ...object.TypeOption) setup {
	return func(w *world, _ *Config) {
		w.must(w.types.Register((*Shown)(nil), append(options, object.ReadOnlyMethods("Read", "Look"))...))
	}
}

// count adds one to N and publishes that.
func count(ctx context.Context, o *Thing) error {
	o.N++
	return publishNow(ctx, wrapperspb.Int64(o.N))
}

func publishNow(ctx context.Context, m proto.Message) error {
	rt, _ := object.RuntimeFrom(ctx)
	return rt.(object.Inside).Publish(ctx, m)
}

// follower is a gate that listens to a node.
type follower struct {
	mu    sync.Mutex
	heard []string // version=value, or ended
	stop  func()
}

// listen opens the stream of a gate, in a bubble.
func listen(w *world, gate string) *follower {
	e := new(follower)
	ctx, cancel := context.WithCancel(bg)
	ended := make(chan struct{})
	ready := make(chan struct{})
	go func() {
		defer close(ended)
		_ = w.ServePushes(ctx, peer.Hearing{Gate: gate}, func(peer.Opening) { close(ready) }, func(f peer.PushFrame) error {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.heard = append(e.heard, spell(f))
			return nil
		})
	}()
	<-ready
	e.stop = sync.OnceFunc(func() { cancel(); <-ended })
	w.t.Cleanup(e.stop)
	return e
}

func spell(f peer.PushFrame) string {
	switch {
	case f.Change == nil:
		return "push"
	case f.Change.Ended:
		return fmt.Sprintf("ended at %d", f.Change.Version)
	}
	v := new(wrapperspb.Int64Value)
	if err := f.Message.UnmarshalTo(v); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d=%d", f.Change.Version, v.Value)
}

func (e *follower) want(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	if got := strings.Join(e.heard, " "); got != strings.Join(want, " ") {
		t.Errorf("the gate heard %q, want %q", got, strings.Join(want, " "))
	}
	e.heard = nil
}

// subscribe asks as a gate does for a client of its.
func (w *world) subscribe(id, gate string) (*goverse_pb.SubscribeReply, error) {
	ctx := callctx.With(bg, &callctx.Info{Caller: callctx.Caller{Client: true, ClientID: gate + "/c"}})
	return w.ask(ctx, id, &goverse_pb.SubscribeRequest{Gate: gate})
}

func (w *world) renew(id, gate string, at *goverse_pb.SubscribeReply, version uint64) (*goverse_pb.SubscribeReply, error) {
	return w.ask(bg, id, &goverse_pb.SubscribeRequest{Gate: gate, Renew: true, Incarnation: at.Incarnation, Version: version})
}

func (w *world) ask(ctx context.Context, id string, req *goverse_pb.SubscribeRequest) (*goverse_pb.SubscribeReply, error) {
	packed, err := anypb.New(req)
	w.must(err)
	reply, err := w.ServeCall(ctx, &peer.Request{Call: object.Call{Ref: object.Ref{Type: "Shown", ID: id}, Method: object.SubscribeMethod, ReadOnly: true, Payload: object.OfBinary(packed)}})
	if err != nil {
		return nil, err
	}
	m, err := reply.Binary.UnmarshalNew()
	w.must(err)
	return m.(*goverse_pb.SubscribeReply), nil
}

// wantShown subscribes and demands a version and a state.
func (w *world) wantShown(id, gate string, version uint64, n int64) *goverse_pb.SubscribeReply {
	w.t.Helper()
	r, err := w.subscribe(id, gate)
	w.must(err)
	v := new(wrapperspb.Int64Value)
	w.must(r.Snapshot.UnmarshalTo(v))
	if r.Version != version || v.Value != n || r.Node != "n:1" {
		w.t.Errorf("%s shows %d at version %d on %s; want %d at %d", id, v.Value, r.Version, r.Node, n, version)
	}
	return r
}

func (w *world) count(id string) {
	w.t.Helper()
	if _, err := w.call(bg, "Shown/"+id+".Change", count); err != nil {
		w.t.Error(err)
	}
}

func TestPublicationsFollowTheirSnapshot(t *testing.T) {
	for name, setups := range map[string][]any{
		"volatile":   {shown()},
		"durable":    {setup(kept), shown()},
		"periodic":   {setup(kept), shown(object.WithDurability(object.Periodic(time.Hour)))},
		"undone":     {shown(object.Transactional())},
		"concurrent": {shown(object.WithMode(object.Concurrent))},
	} {
		bubble(t, name, func(t *testing.T) {
			w := start(t, setups...)
			one, two := listen(w, "g:1"), listen(w, "g:2")
			w.count("a") // nobody follows
			first := w.wantShown("a", "g:1", 0, 1)
			w.count("a")
			w.count("b")
			w.count("a")
			one.want(t, "1=2", "2=3")
			two.want(t)
			again := w.wantShown("a", "g:2", 2, 3)
			if again.Incarnation != first.Incarnation {
				t.Error("the second gate follows another incarnation")
			}
			w.count("a")
			one.want(t, "3=4")
			two.want(t, "3=4")
			r, err := w.renew("a", "g:1", first, 1)
			w.must(err)
			if !r.Continued || len(r.Missed) != 2 || r.Missed[0].Version != 2 || r.Missed[1].Version != 3 {
				t.Errorf("renewed at 1: %v", r)
			}
			if r, err = w.renew("a", "g:1", &goverse_pb.SubscribeReply{Incarnation: 1}, 3); err != nil || r.Continued || r.Version != 3 {
				t.Errorf("renewed with another incarnation: %v, %v", r, err)
			}
			if r, err = w.renew("a", "g:1", first, 9); err != nil || r.Continued {
				t.Errorf("renewed with a version that was not published: %v, %v", r, err)
			}
		})
	}
}

// What a durable object publishes is heard when it is stored, and never when it is not.
func TestPublicationsWaitForTheCommit(t *testing.T) {
	bubble(t, "stored", func(t *testing.T) {
		w := start(t, setup(kept), shown())
		e := listen(w, "g:1")
		w.wantShown("a", "g:1", 0, 0)
		let := w.hold()
		p := w.start(bg, "Shown/a.Change", count)
		e.want(t)
		late := begin(func() (int64, error) { // its state is not stored either
			r, err := w.subscribe("a", "g:1")
			return int64(r.GetVersion()), err
		})
		if !late.running() {
			t.Error("a snapshot shows what is not stored")
		}
		let()
		if _, err := p.wait(); err != nil {
			t.Error(err)
		}
		if v, err := late.wait(); err != nil || v != 1 {
			t.Errorf("the snapshot has version %d, %v", v, err)
		}
		e.want(t, "1=1")
	})
	bubble(t, "refused", func(t *testing.T) {
		w := start(t, setup(kept), shown())
		e := listen(w, "g:1")
		first := w.wantShown("a", "g:1", 0, 0)
		w.count("a")
		e.want(t, "1=1")
		let := w.holdAs(memstore.Fault{Err: object.ErrNotCommitted})
		p := w.start(bg, "Shown/a.Change", count)
		synctest.Wait()
		let()
		if _, err := p.wait(); err == nil {
			t.Error("the call succeeded")
		}
		e.want(t, "ended at 1")
		r, err := w.renew("a", "g:1", first, 1)
		if err != nil || r.Continued {
			t.Errorf("a new activation goes on: %v, %v", r, err)
		}
		w.wantShown("a", "g:1", 0, 1)
		w.count("a")
		e.want(t, "1=2")
	})
	bubble(t, "panicked", func(t *testing.T) {
		w := start(t, setup(kept), shown())
		e := listen(w, "g:1")
		w.wantShown("a", "g:1", 0, 0)
		_, err := w.call(bg, "Shown/a.Change", func(ctx context.Context, o *Thing) error {
			w.must(count(ctx, o))
			panic("half-way")
		})
		isFault(t, err, fault.Panicked, fault.Executed)
		e.want(t, "ended at 0")
		w.wantShown("a", "g:1", 0, 0)
	})
}

// A method that fails publishes what it keeps: nothing where it is undone.
func TestFailedMethodsPublishWhatTheyKeep(t *testing.T) {
	fails := func(ctx context.Context, o *Thing) error {
		if err := count(ctx, o); err != nil {
			return err
		}
		return errUser
	}
	for name, test := range map[string]struct {
		setups []any
		heard  []string
		n      int64
	}{
		"durable":                {[]any{setup(kept), shown()}, []string{"1=1", "2=2"}, 2},
		"volatile":               {[]any{shown()}, []string{"1=1", "2=2"}, 2},
		"transactional, durable": {[]any{setup(kept), shown(object.Transactional())}, []string{"1=1"}, 1},
		"transactional":          {[]any{shown(object.Transactional())}, []string{"1=1"}, 1},
	} {
		bubble(t, name, func(t *testing.T) {
			w := start(t, test.setups...)
			e := listen(w, "g:1")
			w.wantShown("a", "g:1", 0, 0)
			if _, err := w.call(bg, "Shown/a.Change", fails); !errors.Is(err, errUser) {
				t.Errorf("%v", err)
			}
			w.count("a")
			e.want(t, test.heard...)
			w.wantShown("a", "g:1", uint64(len(test.heard)), test.n)
		})
	}
}

// What inner methods of a chain publish goes with the outer one: in order, or not at all.
func TestInnerPublicationsBelongToTheOuterMethod(t *testing.T) {
	for name, setups := range map[string][]any{
		"durable":  {setup(kept), shown(object.Transactional())},
		"volatile": {shown(object.Transactional())},
	} {
		bubble(t, name, func(t *testing.T) {
			w := start(t, setups...)
			e := listen(w, "g:1")
			w.wantShown("a", "g:1", 0, 0)
			outer := func(end error) script {
				return func(ctx context.Context, o *Thing) error {
					w.must(count(ctx, o))
					if _, err := w.call(ctx, "Shown/a.Other", count); err != nil {
						return err
					}
					w.must(count(ctx, o))
					e.want(t)
					return end
				}
			}
			if _, err := w.call(bg, "Shown/a.Change", outer(errUser)); !errors.Is(err, errUser) {
				t.Errorf("%v", err)
			}
			e.want(t)
			if _, err := w.call(bg, "Shown/a.Change", outer(nil)); err != nil {
				t.Error(err)
			}
			e.want(t, "1=1", "2=2", "3=3")
		})
	}
}

func TestPublishRefuses(t *testing.T) {
	bubble(t, "bubble", func(t *testing.T) {
		w := start(t, setup(kept), shown())
		big := wrapperspb.String(strings.Repeat("x", maxChange/2))
		for target, m := range map[string]proto.Message{
			"Shown/a.Change": nil,
			"Shown/a.Read":   wrapperspb.Int64(1),
			"Kept/a.Change":  wrapperspb.Int64(1),
			"Shown/b.Change": (*wrapperspb.Int64Value)(nil),
		} {
			_, err := w.call(bg, target, func(ctx context.Context, _ *Thing) error {
				isFault(t, publishNow(ctx, m), fault.Invalid, fault.NotExecuted)
				return nil
			})
			w.must(err)
		}
		var after context.Context
		_, err := w.call(bg, "Shown/a.Change", func(ctx context.Context, _ *Thing) error {
			after = ctx
			isFault(t, publishNow(ctx, big), fault.TooLarge, fault.NotExecuted)
			return nil
		})
		w.must(err)
		isFault(t, publishNow(after, wrapperspb.Int64(1)), fault.Invalid, fault.NotExecuted)
	})
}

func TestWhoMaySubscribe(t *testing.T) {
	bubble(t, "bubble", func(t *testing.T) {
		w := start(t, shown(object.MustCreate()))
		w.must(w.create(bg, "Shown/a"))
		w.must(w.create(bg, "Shown/secret"))
		w.must(w.create(bg, "Shown/empty"))
		e := listen(w, "g:1")
		client := func(caller callctx.Caller) context.Context {
			return callctx.With(bg, &callctx.Info{Caller: caller})
		}
		for _, test := range []struct {
			id     string
			caller callctx.Caller
			req    *goverse_pb.SubscribeRequest
			kind   fault.Kind
		}{
			{"a", callctx.Caller{Client: true, ClientID: "g:1/x"}, &goverse_pb.SubscribeRequest{Gate: "g:2"}, fault.Failed},
			{"a", callctx.Caller{Client: true}, &goverse_pb.SubscribeRequest{Gate: "g:1"}, fault.Failed},
			{"a", callctx.Caller{Client: true, ClientID: "g:1/x"}, &goverse_pb.SubscribeRequest{Gate: "g:1", Renew: true}, fault.Failed},
			{"a", callctx.Caller{}, &goverse_pb.SubscribeRequest{}, fault.Failed},
			{"secret", callctx.Caller{Client: true, ClientID: "g:1/x", UserID: "bob"}, &goverse_pb.SubscribeRequest{Gate: "g:1"}, fault.Failed},
			{"empty", callctx.Caller{Client: true, ClientID: "g:1/x"}, &goverse_pb.SubscribeRequest{Gate: "g:1"}, fault.Failed},
			{"nothing", callctx.Caller{Client: true, ClientID: "g:1/x"}, &goverse_pb.SubscribeRequest{Gate: "g:1"}, fault.NotFound},
		} {
			_, err := w.ask(client(test.caller), test.id, test.req)
			if err == nil || fault.KindOf(err) != test.kind {
				t.Errorf("%+v asks %s for %v: %v", test.caller, test.id, test.req, err)
			}
		}
		w.count("a")
		e.want(t)
		if _, err := w.ask(client(callctx.Caller{Client: true, ClientID: "g:1/x", UserID: "ann"}), "secret", &goverse_pb.SubscribeRequest{Gate: "g:1"}); err != nil {
			t.Error(err)
		}
		_, err := w.send(bg, object.Call{Ref: object.Ref{Type: "Thing", ID: "a"}, Method: object.SubscribeMethod})
		isFault(t, err, fault.UnknownMethod, fault.NotExecuted)
	})
}

// An activation with followers is not idle; when they do not renew it is, and they have
// to begin anew.
func TestFollowersKeepAnObjectAwake(t *testing.T) {
	bubble(t, "bubble", func(t *testing.T) {
		w := start(t, shown(object.WithIdleTimeout(5*time.Second)))
		e := listen(w, "g:1")
		first := w.wantShown("a", "g:1", 0, 0)
		w.count("a")
		time.Sleep(25 * time.Second)
		if r, err := w.renew("a", "g:1", first, 1); err != nil || !r.Continued {
			t.Fatalf("%v, %v", r, err)
		}
		time.Sleep(25 * time.Second)
		w.count("a")
		e.want(t, "1=1", "2=2")
		time.Sleep(followFor)
		if w.NumObjects() != 0 {
			t.Error("the object is still awake")
		}
		if r, err := w.renew("a", "g:1", first, 2); err != nil || r.Continued {
			t.Errorf("%v, %v", r, err)
		}
	})
}

// What is kept for who missed something is bounded, and says when it is not all.
// A client that has followed before gets what it missed, where that is here; and has to be
// let in all the same.
func TestASubscriptionThatGoesOn(t *testing.T) {
	bubble(t, "bubble", func(t *testing.T) {
		w := start(t, shown())
		from := func(id string, at *goverse_pb.SubscribeReply, version uint64) (*goverse_pb.SubscribeReply, error) {
			ctx := callctx.With(bg, &callctx.Info{Caller: callctx.Caller{Client: true, ClientID: "g:2/c", UserID: at.Node}})
			return w.ask(ctx, id, &goverse_pb.SubscribeRequest{Gate: "g:2", Incarnation: at.Incarnation, Version: version})
		}
		at := w.wantShown("a", "g:1", 0, 0)
		w.count("a")
		w.count("a")
		w.count("a")
		r, err := from("a", at, 1)
		w.must(err)
		if !r.Continued || r.Incarnation != at.Incarnation || r.Version != 3 || len(r.Missed) != 2 || r.Missed[0].Version != 2 || r.Snapshot != nil {
			t.Errorf("behind 1 comes %v", r)
		}
		if r, err := from("a", at, 4); err != nil || r.Continued || r.Snapshot == nil {
			t.Errorf("behind what never was comes %v, %v", r, err)
		}
		other := &goverse_pb.SubscribeReply{Incarnation: at.Incarnation + 2}
		if r, err := from("a", other, 1); err != nil || r.Continued || r.Snapshot == nil || r.Incarnation != at.Incarnation {
			t.Errorf("behind another life comes %v, %v", r, err)
		}
		ann := &goverse_pb.SubscribeReply{Node: "ann"}
		r, err = from("secret", ann, 0)
		w.must(err)
		ann.Incarnation = r.Incarnation
		if r, err := from("secret", ann, 0); err != nil || !r.Continued {
			t.Errorf("ann gets %v, %v", r, err)
		}
		if _, err := from("secret", &goverse_pb.SubscribeReply{Incarnation: r.Incarnation}, 0); fault.KindOf(err) != fault.Failed {
			t.Errorf("who may not see it goes on: %v", err)
		}
	})
}

func TestMissedChangesAreBounded(t *testing.T) {
	bubble(t, "bubble", func(t *testing.T) {
		w := start(t, shown())
		first := w.wantShown("a", "g:1", 0, 0)
		for range maxRecent + 10 {
			w.count("a")
		}
		if r, _ := w.renew("a", "g:1", first, 9); r.Continued {
			t.Error("it goes on behind 9")
		}
		if r, _ := w.renew("a", "g:1", first, 10); !r.Continued || len(r.Missed) != maxRecent || r.Missed[0].Version != 11 {
			t.Errorf("it does not go on behind 10")
		}
		_, err := w.call(bg, "Shown/a.Change", func(ctx context.Context, o *Thing) error {
			return publishNow(ctx, wrapperspb.String(strings.Repeat("x", maxRecentSize)))
		})
		w.must(err)
		if r, _ := w.renew("a", "g:1", first, maxRecent+10); !r.Continued || len(r.Missed) != 1 {
			t.Error("it does not keep the one that is large")
		}
		if r, _ := w.renew("a", "g:1", first, maxRecent+9); r.Continued {
			t.Error("it keeps more than it should")
		}
	})
}

// Who follows an object that was handed over is told at once: the next holder has it, and
// what is left of it here may take its time.
func TestFollowersAreToldBeforeTheLeftoversEnd(t *testing.T) {
	for name, leave := range map[string]func(f *fleet, shard sharding.ID){
		"handed over": func(f *fleet, shard sharding.ID) { f.move(shard, 1) },
		"fenced":      func(f *fleet, shard sharding.ID) { f.nodes[0].Drop([]sharding.ID{shard}, "its lease has ended") },
	} {
		bubble(t, name, func(t *testing.T) {
			f := startFleet(t, 2, shown())
			was := f.nodes[0]
			e := listen(was, "g:1")
			was.wantShown("a", "g:1", 0, 0)
			goOn := make(chan struct{})
			was.set(func(h *hooks) { h.onDestroy = func(*Thing) { <-goOn } })
			leave(f, sharding.ID(sharding.GetShardID("a", shards)))
			e.want(t, "ended at 0")
			close(goOn)
			e.want(t)
		})
	}
}

// The next holder goes on where the shard takes the state along, and nowhere else.
func TestAMoveTakesTheFeedAlong(t *testing.T) {
	bubble(t, "volatile", func(t *testing.T) {
		f := startFleet(t, 2, shown())
		was, is := f.nodes[0], f.nodes[1]
		e, next := listen(was, "g:1"), listen(is, "g:1")
		first := was.wantShown("a", "g:1", 0, 0)
		was.count("a")
		was.count("b") // whom nobody follows
		f.move(sharding.ID(sharding.GetShardID("a", shards)), 1)
		e.want(t, "1=1", "ended at 1")
		was.count("a") // routed to the next holder, which keeps it
		next.want(t)
		r, err := is.renew("a", "g:1", first, 1)
		if err != nil || !r.Continued || len(r.Missed) != 1 || r.Missed[0].Version != 2 {
			t.Errorf("the next holder does not go on: %v, %v", r, err)
		}
		was.count("a")
		next.want(t, "3=3")
	})
	bubble(t, "durable", func(t *testing.T) {
		f := startFleet(t, 2, shared(), shown())
		was, is := f.nodes[0], f.nodes[1]
		e := listen(was, "g:1")
		first := was.wantShown("a", "g:1", 0, 0)
		was.count("a")
		f.move(sharding.ID(sharding.GetShardID("a", shards)), 1)
		e.want(t, "1=1", "ended at 1")
		if r, err := is.renew("a", "g:1", first, 1); err != nil || r.Continued {
			t.Errorf("the next holder goes on: %v, %v", r, err)
		}
	})
}
