package fault

import (
	"cmp"
	"errors"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	goverse_pb "github.com/xiaonanln/goverse/proto"
)

// ToWire is err as it crosses between processes; nil stays nil.
func ToWire(err error) *goverse_pb.Fault {
	e := Of(err)
	if e == nil {
		return nil
	}
	f := &goverse_pb.Fault{
		Kind: uint32(e.Kind), Op: utf8Text(e.Op), Subject: utf8Text(e.Subject), Outcome: uint32(OutcomeOf(e)),
		Shard: uint32(e.Shard), Epoch: e.Epoch, Holder: utf8Text(e.Holder),
		RetryAfterMicros: e.RetryAfter.Microseconds(),
	}
	for _, step := range e.Path {
		f.Path = append(f.Path, utf8Text(step))
	}
	if e.Err != nil {
		f.Message = utf8Text(e.Err.Error())
	}
	if own := ownStatus(e); own != nil {
		// The error marshals unless the user put invalid UTF-8 in it; then only its text crosses.
		if b, err := proto.Marshal(own); err == nil {
			f.Status = b
		}
	}
	return f
}

// utf8Text is s as protobuf accepts it: a user's error may hold any bytes, and its
// kind must arrive all the same.
func utf8Text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// FromWire is the error that a Fault carries; nil stays nil.
func FromWire(f *goverse_pb.Fault) error {
	if f == nil {
		return nil
	}
	e := &Error{
		Kind: Kind(f.Kind), Op: f.Op, Subject: f.Subject,
		Shard: int(f.Shard), Epoch: f.Epoch, Holder: f.Holder,
		RetryAfter: time.Duration(f.RetryAfterMicros) * time.Microsecond, Path: f.Path,
	}
	if f.Kind < 1 || int(f.Kind) > len(table) {
		e.Kind = Indeterminate
	}
	if f.Outcome <= uint32(Executed) {
		e.Outcome, e.Stated = Outcome(f.Outcome), true
	}
	if f.Message != "" {
		e.Err = errors.New(f.Message)
	}
	if own := new(spb.Status); len(f.Status) > 0 && proto.Unmarshal(f.Status, own) == nil {
		e.Err = status.ErrorProto(own)
	}
	return e
}

// toStatus is e for a gRPC client: a status that the user's method returned goes
// through untouched, anything else gets its code from the table and carries the
// Fault as a detail.
func toStatus(e *Error) *status.Status {
	if own := ownStatus(e); own != nil {
		return status.FromProto(own)
	}
	p := &spb.Status{Code: int32(e.Kind.Row().GRPC), Message: utf8Text(e.Error())}
	if detail, err := anypb.New(ToWire(e)); err == nil {
		p.Details = append(p.Details, detail)
	}
	if e.Kind == Overloaded {
		if detail, err := anypb.New(&errdetails.RetryInfo{RetryDelay: durationpb.New(cmp.Or(e.RetryAfter, time.Second))}); err == nil {
			p.Details = append(p.Details, detail)
		}
	}
	return status.FromProto(p)
}

// FromStatus is the error behind what a gRPC call to a gate or node returned. One
// that carries no Fault came from gRPC itself or from the user's method.
func FromStatus(err error) error {
	if err == nil {
		return nil
	}
	st, ok := status.FromError(err)
	if !ok {
		return Of(err)
	}
	for _, d := range st.Details() {
		if f, ok := d.(*goverse_pb.Fault); ok {
			return FromWire(f)
		}
	}
	switch st.Code() {
	case codes.Canceled:
		return &Error{Kind: Canceled, Err: err}
	case codes.DeadlineExceeded:
		return &Error{Kind: Deadline, Err: err}
	case codes.Unavailable:
		return &Error{Kind: Indeterminate, Err: err}
	}
	return &Error{Kind: Failed, Err: err}
}

// ownStatus is the status with which the user's method failed, if it did so. A
// fault that the method passed on from a call of its own is not the user's: its
// outcome speaks of that other call.
func ownStatus(e *Error) *spb.Status {
	var nested *Error
	if e.Kind != Failed || e.Err == nil || errors.As(e.Err, &nested) {
		return nil
	}
	var s interface{ GRPCStatus() *status.Status }
	if !errors.As(e.Err, &s) || s.GRPCStatus() == nil || s.GRPCStatus().Code() == codes.OK {
		return nil
	}
	own := s.GRPCStatus().Proto()
	for _, d := range own.GetDetails() {
		if d.MessageIs((*goverse_pb.Fault)(nil)) {
			return nil
		}
	}
	return own
}
