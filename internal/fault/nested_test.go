package fault

import (
	"errors"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A method that passes on another call's error did run, whatever that error says of
// the other call.
func TestANestedCallsErrorIsNotThisCalls(t *testing.T) {
	for _, nested := range []error{New(NotReady, "x"), New(Overloaded, "x"), New(NotReady, "x").GRPCStatus().Err()} {
		sent := &Error{Kind: Failed, Err: nested}
		hop := FromWire(ToWire(sent))
		for name, err := range map[string]error{"a hop on": hop, "at a client": FromStatus(Of(hop).GRPCStatus().Err()), "at once": FromStatus(sent.GRPCStatus().Err())} {
			if KindOf(err) != Failed || OutcomeOf(err) != Executed {
				t.Errorf("%v %s: %v (%v)", nested, name, err, OutcomeOf(err))
			}
		}
	}
}

// An error whose texts are not UTF-8 keeps its kind.
func TestTextsThatAreNotUTF8(t *testing.T) {
	for _, cause := range []error{errors.New("\xff"), status.Error(codes.OutOfRange, "\xff")} {
		for _, row := range Table() {
			sent := &Error{Kind: row.Kind, Op: "\xff", Subject: "\xfe", Err: cause, Holder: "\xff", Path: []string{"\xff"}}
			if row.Kind == Failed && status.Code(cause) == codes.OutOfRange {
				continue // the user's own status goes as gRPC can carry it
			}
			got := FromStatus(status.FromProto(sent.GRPCStatus().Proto()).Err())
			if KindOf(got) != row.Kind || OutcomeOf(got) != row.Outcome {
				t.Errorf("%v arrived as %v", sent, got)
			}
		}
	}
}
