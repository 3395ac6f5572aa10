package fault

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/status"
)

// Error is a failure with its kind. Its text is "op subject: kind: cause".
type Error struct {
	Kind    Kind
	Op      string // what was tried: "CallObject"
	Subject string // on what: "ChatRoom/general.Join"
	Err     error  // the cause; may be nil

	// Outcome overrides the table's when Stated is true.
	Outcome Outcome
	Stated  bool

	Shard      int           // WrongHolder: which shard
	Epoch      uint64        // WrongHolder: the epoch that the answerer knows
	Holder     string        // WrongHolder: who holds it, if known
	RetryAfter time.Duration // Overloaded: when to come again
	Path       []string      // Cycle: the calls in a circle
}

// New makes an error of a kind; format and args say the cause.
func New(k Kind, format string, args ...any) *Error {
	return &Error{Kind: k, Err: fmt.Errorf(format, args...)}
}

// Error implements error.
func (e *Error) Error() string {
	var parts []string
	if head := strings.TrimSpace(e.Op + " " + e.Subject); head != "" {
		parts = append(parts, head)
	}
	parts = append(parts, e.Kind.String())
	if len(e.Path) > 0 {
		parts = append(parts, strings.Join(e.Path, " -> "))
	}
	if e.Err != nil {
		parts = append(parts, e.Err.Error())
	}
	return strings.Join(parts, ": ")
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is makes errors.Is(err, sentinel) compare kinds: a bare *Error{Kind: k} is the
// sentinel of k.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Err == nil && t.Op == "" && t.Subject == "" && t.Kind == e.Kind
}

// On returns e with what was tried on what, unless that is said already. e itself
// may be shared and is not changed.
func (e *Error) On(op, subject string) *Error {
	if e.Op != "" || e.Subject != "" {
		return e
	}
	c := *e
	c.Op, c.Subject = op, subject
	return &c
}

// With returns e with the outcome stated. e itself is not changed.
func (e *Error) With(o Outcome) *Error {
	c := *e
	c.Outcome, c.Stated = o, true
	return &c
}

// GRPCStatus lets a gRPC server answer with e as it is.
func (e *Error) GRPCStatus() *status.Status { return toStatus(e) }

// Of returns err as an *Error: itself if it is or wraps one, a context's end as
// Canceled or Deadline, and anything else as Failed, which is what a method's own
// error is. nil stays nil.
func Of(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{Kind: Deadline, Err: err}
	case errors.Is(err, context.Canceled):
		return &Error{Kind: Canceled, Err: err}
	}
	return &Error{Kind: Failed, Err: err}
}

// Refused is the error of a call that the program's own code ended on its way, where o
// says how far that was. What the code says of this call stays, as that it is Forbidden;
// a fault of another call that it made is a cause like any.
func Refused(err error, o Outcome) *Error {
	var e *Error
	switch {
	case errors.As(err, &e) && e.Op == "" && e.Subject == "" && refusals[e.Kind]:
		c := *e
		c.Err, c.Outcome, c.Stated = err, o, true
		if err == error(e) {
			c.Err = e.Err
		}
		return &c
	case e == nil && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)):
		return Of(err).With(o)
	}
	return (&Error{Kind: Failed, Err: err}).With(o)
}

// refusals are the kinds that the program's own code may state of a call on its way.
var refusals = map[Kind]bool{
	Invalid: true, NotFound: true, Exists: true, Overloaded: true, Unauthenticated: true, Forbidden: true, TooLarge: true,
}

// KindOf is the kind of err, or 0 for nil.
func KindOf(err error) Kind {
	if e := Of(err); e != nil {
		return e.Kind
	}
	return 0
}

// OutcomeOf says whether the call that ended with err ran. Without an error it did.
func OutcomeOf(err error) Outcome {
	e := Of(err)
	switch {
	case e == nil:
		return Executed
	case e.Stated:
		return e.Outcome
	default:
		return e.Kind.Row().Outcome
	}
}

// Waited is the error of a wait that ctx ended before the call ran.
func Waited(ctx context.Context, format string, args ...any) *Error {
	return WaitedFor(ctx.Err(), format, args...)
}

// WaitedFor is Waited with the context's error in hand.
func WaitedFor(cause error, format string, args ...any) *Error {
	k := Canceled
	if errors.Is(cause, context.DeadlineExceeded) {
		k = Deadline
	}
	return (&Error{Kind: k, Err: fmt.Errorf(format+": %w", append(args, cause)...)}).With(NotExecuted)
}
