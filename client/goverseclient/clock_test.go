package goverseclient

import (
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// elsewhen is a gate whose time is off from this machine's, and whose cluster takes no
// call ids that are too old or from the future; as a client sees it whose own clock is
// wrong.
func elsewhen(off time.Duration) *gate {
	return &gate{
		welcome: func(id string) (*anypb.Any, error) {
			return anypb.New(&gate_pb.RegisterResponse{ClientId: id, UnixMillis: time.Now().Add(off).UnixMilli()})
		},
		reliable: func(r *gate_pb.ReliableCallObjectRequest) (*gate_pb.ReliableCallObjectResponse, error) {
			minted, _ := object.CallIDTime(r.CallId)
			if age := time.Since(minted) + off; age < -5*time.Minute || age > 23*time.Hour {
				return nil, fault.New(fault.ExpiredCallID, "it was minted %v ago", age)
			}
			return &gate_pb.ReliableCallObjectResponse{Response: r.Request, Status: "SUCCESS"}, nil
		},
	}
}

// A machine whose clock is wrong makes good call ids, once it has heard a gate.
func TestCallIDsOfAWrongClock(t *testing.T) {
	for _, off := range []time.Duration{0, -10 * time.Minute, 10 * time.Minute, -48 * time.Hour, 48 * time.Hour} {
		c := connect(t, []string{elsewhen(off).serve(t).address})
		if got, err := sayOnce(soon(t), c, c.GenerateCallID()); err != nil || got != "x" {
			t.Errorf("a client that is off by %v: %q, %v", -off, got, err)
		}
		if refused := off < -5*time.Minute || off > 23*time.Hour; refused {
			_, err := sayOnce(soon(t), c, object.NewCallID())
			want(t, err, ErrExpiredCallID, NotExecuted, "")
		}
	}
}

// The gate that was heard last counts, and one that tells no time changes nothing.
func TestTheTimeOfTheNextGate(t *testing.T) {
	const off = -time.Hour
	g := elsewhen(off).serve(t)
	c := client(t, []string{g.address})
	mintedAt := func() time.Duration {
		t.Helper()
		minted, ok := object.CallIDTime(c.GenerateCallID())
		if !ok {
			t.Fatal("no time is in the id")
		}
		return time.Until(minted).Round(time.Minute)
	}
	if got := mintedAt(); got != 0 {
		t.Errorf("before it is connected it is off by %v", got)
	}
	if err := c.Connect(soon(t)); err != nil {
		t.Fatal(err)
	}
	if got := mintedAt(); got != off {
		t.Errorf("it is off by %v", got)
	}
	for _, told := range []int64{0, -1, 1 << 48, 1<<63 - 1} {
		g.stop()
		g.welcome = func(id string) (*anypb.Any, error) {
			return anypb.New(&gate_pb.RegisterResponse{ClientId: id, UnixMillis: told})
		}
		g.serve(t)
		if err := c.Reconnect(soon(t)); err != nil {
			t.Fatal(err)
		}
		if got := mintedAt(); got != off {
			t.Errorf("after a gate that tells %d it is off by %v", told, got)
		}
	}
	g.stop()
	g.welcome = elsewhen(2 * time.Hour).welcome
	g.serve(t)
	if err := c.Reconnect(soon(t)); err != nil {
		t.Fatal(err)
	}
	if got := mintedAt(); got != 2*time.Hour {
		t.Errorf("it is off by %v", got)
	}
	if _, err := c.CallObject(soon(t), "Echo", "a", "Say", wrapperspb.String("x")); err != nil {
		t.Error(err)
	}
}

// What has passed since a gate was heard is measured, whatever this machine's clock says.
func TestAClockGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := time.Now().Add(-10 * time.Minute)
		k := clockOf(told.UnixMilli())
		time.Sleep(3 * time.Hour)
		if got := k.now(); !got.Equal(told.Truncate(time.Millisecond).Add(3 * time.Hour)) {
			t.Errorf("%v, three hours after %v", got, told)
		}
		if (*clock)(nil).now() != time.Now() {
			t.Error("without a gate it is not this machine's time")
		}
	})
}
