package callctx

import (
	"context"
	"sync/atomic"
	"time"
)

// Bounded is a call's context, with a deadline or without one. It makes neither a timer
// nor a channel before somebody waits for its end: most calls end without that, and a
// timer costs more than such a call. Bind comes first; all else may be called
// concurrently.
type Bounded struct {
	context.Context           // the parent, without a deadline
	deadline        time.Time // zero: none

	armed atomic.Pointer[timed] // nil: nobody waits yet; set once
}

// timed is the ordinary context that stands in once it is needed.
type timed struct {
	context.Context
	cancel context.CancelFunc
}

// over stands in after the call has ended without anyone waiting.
var over = func() *timed {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return &timed{ctx, cancel}
}()

// Bind gives it a parent, which has no deadline, and its own deadline, or none: zero.
func (b *Bounded) Bind(parent context.Context, deadline time.Time) {
	b.Context, b.deadline = parent, deadline
}

// Deadline implements context.Context.
func (b *Bounded) Deadline() (time.Time, bool) { return b.deadline, !b.deadline.IsZero() }

// Done implements context.Context.
func (b *Bounded) Done() <-chan struct{} { return b.arm().Done() }

// Err implements context.Context.
func (b *Bounded) Err() error {
	if t := b.armed.Load(); t != nil {
		return t.Err()
	}
	if err := b.Context.Err(); err != nil {
		return err
	}
	if b.deadline.IsZero() || time.Now().Before(b.deadline) {
		return nil
	}
	<-b.arm().Done()
	return b.arm().Err()
}

// Value implements context.Context. The one that stands in answers itself, so that
// contexts made of b find it and need no goroutine to follow it.
func (b *Bounded) Value(key any) any {
	if t := b.armed.Load(); t != nil && t != over {
		return t.Value(key)
	}
	return b.Context.Value(key)
}

func (b *Bounded) arm() *timed {
	if t := b.armed.Load(); t != nil {
		return t
	}
	t := new(timed)
	if b.deadline.IsZero() {
		t.Context, t.cancel = context.WithCancel(b.Context)
	} else {
		t.Context, t.cancel = context.WithDeadline(b.Context, b.deadline)
	}
	if !b.armed.CompareAndSwap(nil, t) { // somebody else was first, or the call has ended
		t.cancel()
	}
	return b.armed.Load()
}

// End cancels the context; it is done from then on.
func (b *Bounded) End() {
	if !b.armed.CompareAndSwap(nil, over) {
		b.armed.Load().cancel()
	}
}
