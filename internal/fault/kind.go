// Package fault is the error vocabulary: what can go wrong, whether the call ran,
// and what that is called in Go, in gRPC and in HTTP. The table in this file is
// the only mapping; no error's text is ever parsed.
package fault

import (
	"net/http"

	"google.golang.org/grpc/codes"
)

// Kind says what went wrong.
type Kind uint8

// The kinds, in the order of the table. The numbers are on the wire: append only.
const (
	Invalid Kind = iota + 1
	NotFound
	Exists
	UnknownType
	UnknownMethod
	StaleCaller
	ExpiredCallID
	CallIDReused
	WrongHolder
	Draining
	NotReady
	Overloaded
	Unauthenticated
	Forbidden
	Cycle
	Fenced
	StoreFailed
	Failed
	Panicked
	Indeterminate
	Canceled
	Deadline
	TooLarge
	NotReadOnly
	CallSettled
)

// Outcome says whether a failed call ran.
type Outcome uint8

const (
	// OutcomeUnknown: it may have run, in whole or in part.
	OutcomeUnknown Outcome = iota
	// NotExecuted: it surely did not run.
	NotExecuted
	// Executed: it ran to its end.
	Executed
)

// String is the outcome's name on every face.
func (o Outcome) String() string {
	switch o {
	case NotExecuted:
		return "NotExecuted"
	case Executed:
		return "Executed"
	default:
		return "Unknown"
	}
}

// Row is what the table says of a kind.
type Row struct {
	Kind     Kind
	Name     string     // as it stands in an error's text
	GRPC     codes.Code // on GateService and between nodes
	HTTP     int
	Code     string  // the "code" of a JSON error
	Outcome  Outcome // unless the error itself says otherwise
	Reroutes bool    // the router retries it after a newer view
}

// The one table. See architecture.md section 8 for the reasons.
var table = []Row{
	{Invalid, "invalid", codes.InvalidArgument, http.StatusBadRequest, "INVALID_BODY", NotExecuted, false},
	{NotFound, "not found", codes.NotFound, http.StatusNotFound, "OBJECT_NOT_FOUND", NotExecuted, false},
	{Exists, "already exists", codes.AlreadyExists, http.StatusConflict, "CONFLICT", NotExecuted, false},
	{UnknownType, "unknown type", codes.Unimplemented, http.StatusNotFound, "OBJECT_NOT_FOUND", NotExecuted, false},
	{UnknownMethod, "unknown method", codes.Unimplemented, http.StatusNotFound, "OBJECT_NOT_FOUND", NotExecuted, false},
	{StaleCaller, "stale caller", codes.FailedPrecondition, http.StatusConflict, "CONFLICT", NotExecuted, false},
	{ExpiredCallID, "expired call id", codes.FailedPrecondition, http.StatusConflict, "CONFLICT", NotExecuted, false},
	{CallIDReused, "call id reused", codes.FailedPrecondition, http.StatusConflict, "CONFLICT", NotExecuted, false},
	{WrongHolder, "wrong holder", codes.FailedPrecondition, http.StatusServiceUnavailable, "NOT_READY", NotExecuted, true},
	{Draining, "draining", codes.Unavailable, http.StatusServiceUnavailable, "NOT_READY", NotExecuted, true},
	{NotReady, "not ready", codes.Unavailable, http.StatusServiceUnavailable, "NOT_READY", NotExecuted, true},
	{Overloaded, "overloaded", codes.ResourceExhausted, http.StatusTooManyRequests, "OVERLOADED", NotExecuted, false},
	{Unauthenticated, "unauthenticated", codes.Unauthenticated, http.StatusUnauthorized, "UNAUTHENTICATED", NotExecuted, false},
	{Forbidden, "forbidden", codes.PermissionDenied, http.StatusForbidden, "ACCESS_DENIED", NotExecuted, false},
	{Cycle, "cycle", codes.Aborted, http.StatusConflict, "CONFLICT", NotExecuted, false},
	{Fenced, "fenced", codes.Unavailable, http.StatusServiceUnavailable, "NOT_READY", OutcomeUnknown, false},
	{StoreFailed, "store failed", codes.Unavailable, http.StatusServiceUnavailable, "NOT_READY", OutcomeUnknown, false},
	{Failed, "failed", codes.Unknown, http.StatusInternalServerError, "CALL_FAILED", Executed, false},
	{Panicked, "panicked", codes.Internal, http.StatusInternalServerError, "CALL_FAILED", Executed, false},
	{Indeterminate, "outcome unknown", codes.Unavailable, http.StatusBadGateway, "UNKNOWN_OUTCOME", OutcomeUnknown, false},
	{Canceled, "canceled", codes.Canceled, 499, "TIMEOUT", OutcomeUnknown, false},
	{Deadline, "deadline exceeded", codes.DeadlineExceeded, http.StatusGatewayTimeout, "TIMEOUT", OutcomeUnknown, false},
	{TooLarge, "too large", codes.ResourceExhausted, http.StatusRequestEntityTooLarge, "TOO_LARGE", NotExecuted, false},
	{NotReadOnly, "not read-only", codes.FailedPrecondition, http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED", NotExecuted, false},
	{CallSettled, "call settled", codes.FailedPrecondition, http.StatusConflict, "CONFLICT", NotExecuted, false},
}

// Row returns the table's row for k. An unknown number, as a newer peer might
// send, reads as Indeterminate.
func (k Kind) Row() Row {
	if k < 1 || int(k) > len(table) {
		return table[Indeterminate-1]
	}
	return table[k-1]
}

// String is the kind's name.
func (k Kind) String() string { return k.Row().Name }

// Table returns a copy of the whole table, for documentation and tests.
func Table() []Row { return append([]Row(nil), table...) }
