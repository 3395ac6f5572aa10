package object_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// scribe is a Caller that notes what it is to do.
type scribe struct {
	call   object.Call
	within time.Duration
	reply  proto.Message
	err    error
}

func (s *scribe) Do(ctx context.Context, call object.Call) (object.Payload, error) {
	s.call, s.within = call, 0
	if at, ok := ctx.Deadline(); ok {
		s.within = time.Until(at)
	}
	return object.OfMessage(s.reply), s.err
}

func withID(id string) object.CallOption {
	return func(o *object.CallOptions) { o.ID, o.Once = id, true }
}
func atLeastOnce(o *object.CallOptions) { o.AtLeastOnce = true }
func inAMinute(o *object.CallOptions)   { o.Timeout = time.Minute }

func TestCallMethod(t *testing.T) {
	s := &scribe{reply: wrapperspb.Int64(7)}
	room := object.NewCallee(s, "Room", "x")
	if room.Id() != "x" || room.Type() != "Room" || room.String() != "Room/x" {
		t.Error(room)
	}
	req := wrapperspb.String("req")
	for _, c := range []struct {
		states object.Call
		opts   []object.CallOption
		id     string
		again  bool
		within time.Duration
	}{
		{object.Call{Method: "Join"}, nil, "", false, 0},
		{object.Call{Method: "Join"}, []object.CallOption{withID("id"), nil}, "id", false, 0},
		{object.Call{Method: "Join"}, []object.CallOption{atLeastOnce, inAMinute}, "", true, time.Minute},
		{object.Call{Method: "Join", AtLeastOnce: true}, nil, "", true, 0},
		{object.Call{Method: "Join", AtLeastOnce: true}, []object.CallOption{withID("id")}, "id", true, 0},
	} {
		reply, err := object.CallMethod[out](t.Context(), room, c.states, req, c.opts)
		if err != nil || reply.GetValue() != 7 {
			t.Error(reply, err)
		}
		got := s.call
		if got.Ref != (object.Ref{Type: "Room", ID: "x"}) || got.Method != "Join" || got.Payload.Message != proto.Message(req) ||
			got.Op != object.OpCall || got.ID != c.id || got.AtLeastOnce != c.again || s.within > c.within || c.within-s.within > time.Second {
			t.Errorf("%+v within %v, want %+v", got, s.within, c)
		}
	}
}

func TestCallMethodErrors(t *testing.T) {
	own := errors.New("its own")
	for _, c := range []struct {
		caller  object.Caller
		opts    []object.CallOption
		kind    fault.Kind
		outcome fault.Outcome
		says    string
	}{
		{nil, nil, fault.Invalid, fault.NotExecuted, "CallObject Room/x.Join: invalid: the reference has no caller"},
		{&scribe{}, []object.CallOption{withID("")}, fault.Invalid, fault.NotExecuted, "CallObject Room/x.Join: invalid: an empty call id"},
		{&scribe{err: own}, nil, fault.Failed, fault.Executed, "its own"},
		{&scribe{err: own, reply: wrapperspb.Int64(1)}, nil, fault.Failed, fault.Executed, "its own"},
		{&scribe{}, nil, fault.Invalid, fault.Executed, "its reply is nothing, not a google.protobuf.Int64Value"},
		{&scribe{reply: (*out)(nil)}, nil, fault.Invalid, fault.Executed, "its reply is nothing"},
		{&scribe{reply: wrapperspb.String("")}, nil, fault.Invalid, fault.Executed, "its reply is a google.protobuf.StringValue, not a google.protobuf.Int64Value"},
	} {
		reply, err := object.CallMethod[out](t.Context(), object.NewCallee(c.caller, "Room", "x"), object.Call{Method: "Join"}, &in{}, c.opts)
		if reply != nil || fault.KindOf(err) != c.kind || fault.OutcomeOf(err) != c.outcome || !strings.Contains(err.Error(), c.says) {
			t.Errorf("got %v, %v (%v), want it to say %q", reply, err, fault.OutcomeOf(err), c.says)
		}
	}
	var zero object.Callee
	if _, err := object.CallMethod[out](t.Context(), zero, object.Call{}, &in{}, nil); fault.KindOf(err) != fault.Invalid {
		t.Error(err)
	}
}

// quiet answers without a word.
type quiet struct{ reply proto.Message }

func (q quiet) Do(context.Context, object.Call) (object.Payload, error) {
	return object.OfMessage(q.reply), nil
}

// A reference adds no allocation to its caller's.
func TestCallMethodAllocates(t *testing.T) {
	room, req := object.NewCallee(&quiet{wrapperspb.Int64(7)}, "Room", "x"), &in{}
	got := testing.AllocsPerRun(100, func() {
		if _, err := object.CallMethod[out](t.Context(), room, object.Call{Method: "Join"}, req, nil); err != nil {
			t.Fatal(err)
		}
	})
	if got > 0 {
		t.Errorf("%v allocations", got)
	}
}
