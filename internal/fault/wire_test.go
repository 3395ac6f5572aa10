package fault

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	goverse_pb "github.com/xiaonanln/goverse/proto"
)

// full is an error with every field set.
func full(k Kind, o Outcome) *Error {
	e := New(k, "because %d", 7).On("CallObject", "Room/a.Join").With(o)
	e.Shard, e.Epoch, e.Holder = 4711, 1<<63, "10.0.0.2:47000"
	e.RetryAfter, e.Path = 1500*time.Millisecond, []string{"A/1.M", "B/2.N"}
	return e
}

func same(t *testing.T, got error, want *Error) {
	t.Helper()
	e := Of(got)
	if e.Error() != want.Error() || e.Kind != want.Kind || OutcomeOf(e) != OutcomeOf(want) || e.Shard != want.Shard ||
		e.Epoch != want.Epoch || e.Holder != want.Holder || e.RetryAfter != want.RetryAfter || !reflect.DeepEqual(e.Path, want.Path) {
		t.Errorf("got %#v, want %#v", e, want)
	}
}

func TestRoundTrips(t *testing.T) {
	for _, row := range Table() {
		for _, o := range []Outcome{OutcomeUnknown, NotExecuted, Executed} {
			sent := full(row.Kind, o)
			same(t, FromWire(ToWire(sent)), sent)
			same(t, FromStatus(sent.GRPCStatus().Err()), sent)
			if code := status.Code(sent); code != row.GRPC {
				t.Errorf("%v is %v to gRPC, want %v", row.Kind, code, row.GRPC)
			}
		}
		bare := &Error{Kind: row.Kind}
		same(t, FromWire(ToWire(bare)), bare)
		same(t, FromStatus(bare.GRPCStatus().Err()), bare)
	}
	if FromWire(ToWire(nil)) != nil || FromStatus(nil) != nil {
		t.Error("no error became one")
	}
}

// The status that a user's method returns reaches the caller as it is, over any
// number of hops.
func TestAUsersOwnStatus(t *testing.T) {
	st, err := status.New(codes.OutOfRange, "too far").WithDetails(durationpb.New(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	sent := Of(st.Err()).On("CallObject", "Room/a.Join")
	hop := FromWire(ToWire(FromWire(ToWire(sent))))
	for name, err := range map[string]error{"here": sent, "a hop on": hop, "at a gRPC client": FromStatus(Of(hop).GRPCStatus().Err())} {
		if got, ok := status.FromError(err); !ok || !proto.Equal(got.Proto(), st.Proto()) {
			t.Errorf("%s: got %v", name, got)
		}
		if KindOf(err) != Failed || OutcomeOf(err) != Executed {
			t.Errorf("%s: %v, %v", name, KindOf(err), OutcomeOf(err))
		}
	}
	// A status inside an error that is not the method's own is no status of ours.
	inside := New(StoreFailed, "x: %w", status.Error(codes.NotFound, "no row"))
	if got := inside.GRPCStatus().Code(); got != codes.Unavailable {
		t.Errorf("a store's status leaked as %v", got)
	}
}

// What gRPC itself says, without a Fault.
func TestFromForeignStatus(t *testing.T) {
	for code, want := range map[codes.Code]Kind{
		codes.Canceled: Canceled, codes.DeadlineExceeded: Deadline, codes.Unavailable: Indeterminate,
		codes.Internal: Failed, codes.NotFound: Failed, codes.Unknown: Failed,
	} {
		err := FromStatus(status.Error(code, "x"))
		if KindOf(err) != want {
			t.Errorf("%v: got %v", code, err)
		}
	}
	if err := FromStatus(errors.New("x")); KindOf(err) != Failed {
		t.Errorf("got %v", err)
	}
	if err := FromStatus(context.Canceled); KindOf(err) != Canceled {
		t.Errorf("got %v", err)
	}
}

// A newer peer may know more kinds and outcomes than this program.
func TestFromANewerPeer(t *testing.T) {
	err := FromWire(&goverse_pb.Fault{Kind: 200, Outcome: uint32(NotExecuted), Message: "new"})
	if KindOf(err) != Indeterminate || OutcomeOf(err) != NotExecuted {
		t.Errorf("got %v, %v", err, OutcomeOf(err))
	}
	err = FromWire(&goverse_pb.Fault{Kind: uint32(Fenced), Outcome: 77})
	if KindOf(err) != Fenced || OutcomeOf(err) != OutcomeUnknown {
		t.Errorf("got %v, %v", err, OutcomeOf(err))
	}
}

// Whatever bytes come as a Fault make an error with a kind, and that error crosses
// again unchanged.
func FuzzFromWire(f *testing.F) {
	for _, row := range Table() {
		b, err := proto.Marshal(ToWire(full(row.Kind, row.Outcome)))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	b, err := proto.Marshal(ToWire(status.Error(codes.OutOfRange, "x")))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		m := new(goverse_pb.Fault)
		if proto.Unmarshal(b, m) != nil {
			return
		}
		first := FromWire(m)
		if k := KindOf(first); k < 1 || int(k) > len(table) || first.Error() == "" {
			t.Fatalf("%v became %v of kind %d", m, first, k)
		}
		if _, err := proto.Marshal(Of(first).GRPCStatus().Proto()); err != nil {
			t.Fatalf("%v cannot be answered: %v", first, err)
		}
		second := FromWire(ToWire(first))
		if KindOf(second) != KindOf(first) || OutcomeOf(second) != OutcomeOf(first) {
			t.Fatalf("%v (%v) crossed as %v (%v)", first, OutcomeOf(first), second, OutcomeOf(second))
		}
	})
}
