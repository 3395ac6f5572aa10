package goverseapi

import "github.com/xiaonanln/goverse/internal/fault"

// Outcome says whether a failed call ran.
type Outcome = fault.Outcome

// The outcomes.
const (
	Unknown     = fault.OutcomeUnknown // it may have run, in whole or in part
	NotExecuted = fault.NotExecuted    // it surely did not run: safe to try again
	Executed    = fault.Executed       // it ran to its end, and its method failed
)

// OutcomeOf says whether the call that returned err ran.
func OutcomeOf(err error) Outcome { return fault.OutcomeOf(err) }

// What a call's error can be; compare with errors.Is. An error that the user's
// method returned is ErrFailed, and errors.As finds a gRPC status in it.
var (
	ErrInvalid         error = &fault.Error{Kind: fault.Invalid}
	ErrNotFound        error = &fault.Error{Kind: fault.NotFound}
	ErrExists          error = &fault.Error{Kind: fault.Exists}
	ErrUnknownType     error = &fault.Error{Kind: fault.UnknownType}
	ErrUnknownMethod   error = &fault.Error{Kind: fault.UnknownMethod}
	ErrStaleCaller     error = &fault.Error{Kind: fault.StaleCaller}
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
