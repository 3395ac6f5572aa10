package node

import (
	"context"
	"sync/atomic"
	"time"
)

// armable is the cancel of a context that costs nothing until somebody waits for it:
// most methods end, and most objects live, without anyone having waited. The parent that
// its methods take is always the same.
type armable struct {
	armed atomic.Pointer[armedContext]
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

func (c *armable) err(parent context.Context) error {
	if a := c.armed.Load(); a != nil {
		return a.Err()
	}
	return parent.Err()
}

// value lets the context that stands in answer itself, so that contexts made of c find
// it and need no goroutine to follow it.
func (c *armable) value(parent context.Context, key any) any {
	if a := c.armed.Load(); a != nil && a != ended {
		return a.Value(key)
	}
	return parent.Value(key)
}

func (c *armable) arm(parent context.Context) *armedContext {
	if a := c.armed.Load(); a != nil {
		return a
	}
	ctx, cancel := context.WithCancelCause(parent)
	a := &armedContext{ctx, cancel}
	if !c.armed.CompareAndSwap(nil, a) {
		cancel(nil)
		return c.armed.Load()
	}
	return a
}

// cancel ends the context; why may be nil.
func (c *armable) cancel(parent context.Context, why error) {
	if why == nil && c.armed.CompareAndSwap(nil, ended) {
		return
	}
	c.arm(parent).cancel(why)
}

// lazyContext is a context with a cancel of its own.
type lazyContext struct {
	context.Context // the parent
	armable
}

// Done implements context.Context.
func (c *lazyContext) Done() <-chan struct{} { return c.arm(c.Context).Done() }

// Err implements context.Context.
func (c *lazyContext) Err() error { return c.err(c.Context) }

// Value implements context.Context.
func (c *lazyContext) Value(key any) any { return c.value(c.Context, key) }

func (c *lazyContext) cancel(why error) { c.armable.cancel(c.Context, why) }

// objectContext is an activation as the context of its object: a child of the node's.
type objectContext activation

// Deadline implements context.Context: there is none.
func (c *objectContext) Deadline() (deadline time.Time, ok bool) { return c.node.world.Deadline() }

// Done implements context.Context.
func (c *objectContext) Done() <-chan struct{} { return c.own.arm(c.node.world).Done() }

// Err implements context.Context.
func (c *objectContext) Err() error { return c.own.err(c.node.world) }

// Value implements context.Context.
func (c *objectContext) Value(key any) any { return c.own.value(c.node.world, key) }
