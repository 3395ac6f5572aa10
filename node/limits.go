package node

import (
	"errors"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// beyond is the error of a call that came up against a limit. ServeCall tells of it, on
// the call's own goroutine and under no lock, and passes the fault alone on.
type beyond struct {
	limit event.Limit
	fault *fault.Error
}

func (e *beyond) Error() string { return e.fault.Error() }
func (e *beyond) Unwrap() error { return e.fault }

// sayLimit tells of the limit that a call failed of, if it was one.
func (n *Node) sayLimit(ref object.Ref, err error) {
	if n.on.LimitReached == nil {
		return
	}
	var b *beyond
	switch {
	case errors.As(err, &b):
		n.reached(b.limit, ref)
	case fault.KindOf(err) != fault.Deadline:
	case fault.OutcomeOf(err) == fault.NotExecuted:
		n.reached(event.DeadlineBefore, ref)
	default:
		n.reached(event.DeadlineBehind, ref)
	}
}

// reached tells of a limit.
func (n *Node) reached(l event.Limit, ref object.Ref) {
	if on := n.on.LimitReached; on != nil {
		on(event.LimitReached{Limit: l, Type: ref.Type, ID: ref.ID})
	}
}
