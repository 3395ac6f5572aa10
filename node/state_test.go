package node

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

// Diary counts in its State.
type Diary struct {
	object.BaseObject
	object.State[*wrapperspb.Int64Value]
}

// Change adds one, and returns the state itself.
func (d *Diary) Change(context.Context, *wrapperspb.StringValue) (*wrapperspb.Int64Value, error) {
	d.State().Value++
	return d.State(), nil
}

// Fail adds a hundred, and fails.
func (d *Diary) Fail(context.Context, *wrapperspb.StringValue) (*wrapperspb.Int64Value, error) {
	d.State().Value += 100
	return nil, errUser
}

// Around holds the message while a method of its own fails.
func (d *Diary) Around(ctx context.Context, _ *wrapperspb.StringValue) (*wrapperspb.Int64Value, error) {
	state := d.State()
	state.Value += 10
	rt, _ := object.RuntimeFrom(ctx)
	if _, err := rt.Call(ctx, object.Call{Ref: object.Ref{Type: d.Type(), ID: d.Id()}, Method: "Fail"}); err == nil {
		return nil, fmt.Errorf("it did not fail")
	}
	state.Value++
	return wrapperspb.Int64(d.State().Value), nil
}

func (d *Diary) Read(context.Context, *wrapperspb.StringValue) (*wrapperspb.Int64Value, error) {
	return d.State(), nil
}

// diary gives the node the type.
func diary(opts ...object.TypeOption) setup {
	return func(w *world, _ *Config) {
		w.must(w.types.Register((*Diary)(nil), append(opts, object.ReadOnlyMethods("Read"))...))
	}
}

func TestStateIsKept(t *testing.T) {
	for name, d := range map[string]object.Durability{"default": 0, "durable": object.Durable, "periodic": object.Periodic(time.Second), "volatile": object.Volatile} {
		bubble(t, name, func(t *testing.T) {
			w := start(t, kept, diary(object.WithDurability(d)))
			w.want(bg, "Diary/x.Read", 0)
			w.want(bg, "Diary/x.Change", 1)
			w.want(bg, "Diary/x.Change", 2)
			_, err := w.call(bg, "Diary/x.Fail")
			isFault(t, err, fault.Failed, fault.Executed)
			w.want(bg, "Diary/x.Read", 102)
			w.must(w.SaveAllObjects(bg))
			if d == object.Volatile {
				if r := w.stored("Diary/x"); r.Data != nil {
					t.Error("a volatile state was stored:", r)
				}
				return
			}
			w.wantStored("Diary/x", 102, w.stored("Diary/x").Version)
			w.endActivations()
			w.want(bg, "Diary/x.Change", 103) // from the store
			w.must(w.delete(bg, "Diary/x"))
			w.want(bg, "Diary/x.Change", 1) // a new life
		})
	}
}

// endActivations ends what lives; the next call loads it anew.
func (w *world) endActivations() {
	for i := range w.slots {
		s := &w.slots[i]
		s.mu.Lock()
		all := s.list()
		s.mu.Unlock()
		for _, a := range all {
			a.end("by the test")
			<-a.gone()
		}
	}
}

func TestStateIsUndone(t *testing.T) {
	for name, d := range map[string]object.Durability{"durable": object.Durable, "periodic": object.Periodic(time.Second), "volatile": object.Volatile} {
		bubble(t, name, func(t *testing.T) {
			w := start(t, kept, diary(object.WithDurability(d), object.Transactional()))
			w.want(bg, "Diary/x.Change", 1)
			_, err := w.call(bg, "Diary/x.Fail")
			isFault(t, err, fault.Failed, fault.Executed)
			w.want(bg, "Diary/x.Read", 1)
			w.want(bg, "Diary/x.Around", 12) // and the inner failure took nothing out of its hands
			w.want(bg, "Diary/x.Read", 12)
		})
	}
}

func TestStateOfAnotherMessageIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept, diary())
		const text = `{"@type":"type.googleapis.com/google.protobuf.StringValue","value":"x"}`
		w.must(w.store.SaveObject(bg, "Diary", "x", []byte(text)))
		for range 2 {
			_, err := w.call(bg, "Diary/x.Change")
			isFault(t, err, fault.StoreFailed, fault.NotExecuted)
			if !strings.Contains(err.Error(), "google.protobuf.StringValue") || !strings.Contains(err.Error(), "Upgrader") {
				t.Error(err)
			}
			if r := w.stored("Diary/x"); string(r.Data) != text {
				t.Errorf("the row was touched: %s", r.Data)
			}
		}
	})
}

// Ledgered is a Diary that was a text once.
type Ledgered struct{ Diary }

func (*Ledgered) StateVersion() int { return 1 }

func (*Ledgered) Upgrade(from object.StoredState) (proto.Message, error) {
	var old wrapperspb.StringValue
	if err := from.Into(&old); err != nil {
		return nil, err
	}
	return wrapperspb.Int64(int64(len(old.Value))), nil
}

func TestStateIsUpgraded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept, func(w *world, _ *Config) { w.must(w.types.Register((*Ledgered)(nil))) })
		w.must(w.store.SaveObject(bg, "Ledgered", "x", []byte(`{"@type":"type.googleapis.com/google.protobuf.StringValue","value":"four"}`)))
		w.want(bg, "Ledgered/x.Change", 5)
		if r := w.stored("Ledgered/x"); !strings.Contains(string(r.Data), `"@version":1`) {
			t.Errorf("%s", r.Data)
		}
	})
}

// A volatile object's State goes along with its shard.
func TestStateMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, 2, diary())
		for want := int64(1); want < 5; want++ {
			f.want("Diary/shard#5/x.Change", want)
			f.move(5, int(want)%2)
		}
		f.want("Diary/shard#5/x.Read", 4)
	})
}

// What a method returns is read behind its turn, in the middle of the next one.
func TestARepliedStateIsNotTheNextTurns(t *testing.T) {
	w := start(t, kept, diary(object.WithDurability(object.Volatile)))
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for range 100 {
				for _, method := range []string{"Change", "Read"} {
					_, err := w.ServeCall(bg, &peer.Request{Call: object.Call{Ref: object.Ref{Type: "Diary", ID: "x"}, Method: method, Payload: object.OfBinary(nil)}})
					if err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	callers.Wait()
	w.want(bg, "Diary/x.Read", 400)
}

// Wall is Concurrent: its methods share its State under its lock.
type Wall struct {
	object.BaseObject
	sync.Mutex
	object.State[*structpb.ListValue]
}

func (o *Wall) Post(_ context.Context, line *wrapperspb.StringValue) (*structpb.ListValue, error) {
	o.Lock()
	o.State().Values = append(o.State().Values, structpb.NewStringValue(line.GetValue()))
	o.Unlock()
	return o.State(), nil
}

func TestAConcurrentStateIsStored(t *testing.T) {
	for name, d := range map[string]object.Durability{"durable": object.Durable, "periodic": object.Periodic(time.Millisecond)} {
		t.Run(name, func(t *testing.T) {
			w := start(t, kept, func(w *world, _ *Config) {
				w.must(w.types.Register((*Wall)(nil), object.WithMode(object.Concurrent), object.WithDurability(d)))
			})
			ref := object.Ref{Type: "Wall", ID: "x"}
			line, err := anypb.New(wrapperspb.String("line"))
			w.must(err)
			var callers sync.WaitGroup
			for range 4 {
				callers.Go(func() {
					for range 10 {
						if _, err := w.ServeCall(bg, &peer.Request{Call: object.Call{Ref: ref, Method: "Post", Payload: object.OfBinary(line)}}); err != nil {
							t.Error(err)
						}
					}
				})
			}
			callers.Wait()
			w.must(w.SaveAllObjects(bg))
			r, err := w.store.Load(bg, ref)
			w.must(err)
			if got := strings.Count(string(r.Data), "line"); got != 40 {
				t.Errorf("%d lines are stored of 40", got)
			}
		})
	}
}
