package cluster

import (
	"context"
	"sync/atomic"
	"time"
)

// bounded is a context with a deadline, whose timer is not made before somebody
// waits for it. Most calls end without anyone having waited, and a timer costs more
// than such a call.
type bounded struct {
	context.Context // the caller's, without a deadline
	deadline        time.Time

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

// Deadline implements context.Context.
func (b *bounded) Deadline() (time.Time, bool) { return b.deadline, true }

// Done implements context.Context.
func (b *bounded) Done() <-chan struct{} { return b.arm().Done() }

// Err implements context.Context.
func (b *bounded) Err() error {
	if t := b.armed.Load(); t != nil {
		return t.Err()
	}
	if err := b.Context.Err(); err != nil {
		return err
	}
	if time.Now().Before(b.deadline) {
		return nil
	}
	<-b.arm().Done()
	return b.arm().Err()
}

// Value implements context.Context. The one that stands in answers itself, so that
// contexts made of b find it and need no goroutine to follow it.
func (b *bounded) Value(key any) any {
	if t := b.armed.Load(); t != nil && t != over {
		return t.Value(key)
	}
	return b.Context.Value(key)
}

func (b *bounded) arm() *timed {
	if t := b.armed.Load(); t != nil {
		return t
	}
	ctx, cancel := context.WithDeadline(b.Context, b.deadline)
	t := &timed{ctx, cancel}
	if !b.armed.CompareAndSwap(nil, t) { // somebody else was first, or the call has ended
		cancel()
	}
	return b.armed.Load()
}

// end cancels the context; it is done from then on.
func (b *bounded) end() {
	if !b.armed.CompareAndSwap(nil, over) {
		b.armed.Load().cancel()
	}
}
