package goverseclient

import (
	"errors"

	"github.com/xiaonanln/goverse/internal/fault"
)

// What the client itself has to say; compare with errors.Is.
var (
	// ErrNoAddresses is NewClient's, for a list without a single gate.
	ErrNoAddresses = errors.New("no gate addresses: name at least one, as in \"gate.example.com:49000\"")
	// ErrNotConnected: no gate is connected, so the call was not sent.
	ErrNotConnected = errors.New("not connected to a gate")
	// ErrClientClosed: Close was called, before the call or while it was under way.
	ErrClientClosed = errors.New("the client is closed")
	// ErrConnectionFailed: every gate was tried once, and none took the client in.
	ErrConnectionFailed = errors.New("no gate could be reached")
)

// Outcome says whether a failed call ran.
type Outcome = fault.Outcome

// The outcomes.
const (
	Unknown     = fault.OutcomeUnknown // it may have run, in whole or in part
	NotExecuted = fault.NotExecuted    // it surely did not run: safe to try again
	Executed    = fault.Executed       // it ran to its end, and its method failed
)

// OutcomeOf says whether the call that returned err ran. Without an error it did.
func OutcomeOf(err error) Outcome { return fault.OutcomeOf(err) }

// What a call's error can be; compare with errors.Is. They are those of goverseapi:
// either package's name fits an error of the other. An error that the object's
// method returned is ErrFailed; status.FromError finds a gRPC status in any of them,
// the method's own if it returned one.
var (
	ErrInvalid         error = &fault.Error{Kind: fault.Invalid}
	ErrNotFound        error = &fault.Error{Kind: fault.NotFound}
	ErrExists          error = &fault.Error{Kind: fault.Exists}
	ErrUnknownType     error = &fault.Error{Kind: fault.UnknownType}
	ErrUnknownMethod   error = &fault.Error{Kind: fault.UnknownMethod}
	ErrExpiredCallID   error = &fault.Error{Kind: fault.ExpiredCallID}
	ErrCallIDReused    error = &fault.Error{Kind: fault.CallIDReused}
	ErrCallSettled     error = &fault.Error{Kind: fault.CallSettled}
	ErrWrongHolder     error = &fault.Error{Kind: fault.WrongHolder}
	ErrDraining        error = &fault.Error{Kind: fault.Draining}
	ErrNotReady        error = &fault.Error{Kind: fault.NotReady}
	ErrOverloaded      error = &fault.Error{Kind: fault.Overloaded}
	ErrUnauthenticated error = &fault.Error{Kind: fault.Unauthenticated}
	ErrForbidden       error = &fault.Error{Kind: fault.Forbidden}
	ErrCycle           error = &fault.Error{Kind: fault.Cycle}
	ErrFenced          error = &fault.Error{Kind: fault.Fenced}
	ErrStoreFailed     error = &fault.Error{Kind: fault.StoreFailed}
	ErrFailed          error = &fault.Error{Kind: fault.Failed}
	ErrPanicked        error = &fault.Error{Kind: fault.Panicked}
	ErrIndeterminate   error = &fault.Error{Kind: fault.Indeterminate}
	ErrCanceled        error = &fault.Error{Kind: fault.Canceled}
	ErrDeadline        error = &fault.Error{Kind: fault.Deadline}
	ErrTooLarge        error = &fault.Error{Kind: fault.TooLarge}
)

// closed is the error of a call that Close ended.
func closed(sent bool) *fault.Error {
	if sent {
		return fault.New(fault.Canceled, "%w; the call was under way and may have run", ErrClientClosed).With(Unknown)
	}
	return fault.New(fault.Canceled, "%w; the call was not sent", ErrClientClosed).With(NotExecuted)
}
