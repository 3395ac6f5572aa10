package node

import (
	"context"
	"sync/atomic"
)

// lazyContext is a context with a cancel of its own that costs nothing until
// somebody waits for it: most methods end, and most objects live, without anyone
// having waited.
type lazyContext struct {
	context.Context // the parent
	armed           atomic.Pointer[armedContext]
}

// armedContext is the ordinary context that stands in once it is needed.
type armedContext struct {
	context.Context
	cancel context.CancelCauseFunc
}

// ended stands in where nobody had waited until the end.
var ended = func() *armedContext {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(nil)
	return &armedContext{ctx, cancel}
}()

// Done implements context.Context.
func (c *lazyContext) Done() <-chan struct{} { return c.arm().Done() }

// Err implements context.Context.
func (c *lazyContext) Err() error {
	if a := c.armed.Load(); a != nil {
		return a.Err()
	}
	return c.Context.Err()
}

// Value implements context.Context. The one that stands in answers itself, so that
// contexts made of c find it and need no goroutine to follow it.
func (c *lazyContext) Value(key any) any {
	if a := c.armed.Load(); a != nil && a != ended {
		return a.Value(key)
	}
	return c.Context.Value(key)
}

func (c *lazyContext) arm() *armedContext {
	if a := c.armed.Load(); a != nil {
		return a
	}
	ctx, cancel := context.WithCancelCause(c.Context)
	a := &armedContext{ctx, cancel}
	if !c.armed.CompareAndSwap(nil, a) {
		cancel(nil)
		return c.armed.Load()
	}
	return a
}

// cancel ends the context; why may be nil.
func (c *lazyContext) cancel(why error) {
	if why == nil && c.armed.CompareAndSwap(nil, ended) {
		return
	}
	c.arm().cancel(why)
}
