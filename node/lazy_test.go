package node

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestLazyContext(t *testing.T) {
	type key struct{}
	parent := func() (context.Context, context.CancelFunc) {
		return context.WithCancel(context.WithValue(bg, key{}, "v"))
	}
	for _, c := range []struct {
		name  string
		arm   bool // somebody waits before the end
		end   func(c *lazyContext, cancel context.CancelFunc)
		cause error
	}{
		{"ends unseen", false, func(c *lazyContext, _ context.CancelFunc) { c.cancel(nil) }, context.Canceled},
		{"ends", true, func(c *lazyContext, _ context.CancelFunc) { c.cancel(nil) }, context.Canceled},
		{"ends unseen for a reason", false, func(c *lazyContext, _ context.CancelFunc) { c.cancel(errUser) }, errUser},
		{"ends for a reason", true, func(c *lazyContext, _ context.CancelFunc) { c.cancel(errUser); c.cancel(nil) }, errUser},
		{"its parent ends unseen", false, func(_ *lazyContext, cancel context.CancelFunc) { cancel() }, context.Canceled},
		{"its parent ends", true, func(_ *lazyContext, cancel context.CancelFunc) { cancel() }, context.Canceled},
	} {
		bubble(t, c.name, func(t *testing.T) {
			outer, cancel := parent()
			defer cancel()
			ctx := &lazyContext{Context: outer}
			var child context.Context
			called := make(chan struct{})
			if c.arm {
				before := runtime.NumGoroutine()
				var stop context.CancelFunc
				child, stop = context.WithTimeout(ctx, time.Hour)
				defer stop()
				if runtime.NumGoroutine() != before {
					t.Error("a context made of it needs a goroutine")
				}
				context.AfterFunc(ctx, func() { close(called) })
			}
			if ctx.Err() != nil || ctx.Value(key{}) != "v" {
				t.Error("not alive")
			}
			c.end(ctx, cancel)
			synctest.Wait()
			if ctx.Err() != context.Canceled || ctx.Value(key{}) != "v" {
				t.Error(ctx.Err(), ctx.Value(key{}))
			}
			select {
			case <-ctx.Done():
			default:
				t.Error("not done")
			}
			if got := context.Cause(ctx); c.arm && !errors.Is(got, c.cause) || !c.arm && errors.Is(c.cause, errUser) && got != errUser {
				t.Error("cause", got)
			}
			if c.arm {
				<-called
				if child.Err() != context.Canceled {
					t.Error("its child lives on")
				}
			}
			late, stop := context.WithCancel(ctx)
			defer stop()
			if late.Err() == nil || late.Value(key{}) != "v" {
				t.Error("a child made too late lives")
			}
		})
	}
	bubble(t, "a deadline", func(t *testing.T) {
		outer, cancel := within(time.Second)
		defer cancel()
		ctx := &lazyContext{Context: outer}
		<-ctx.Done()
		if ctx.Err() != context.DeadlineExceeded {
			t.Error(ctx.Err())
		}
	})
}

func TestLazyContextRaces(t *testing.T) {
	for range 500 {
		ctx := &lazyContext{Context: bg}
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() { <-ctx.Done() })
			all.Go(func() { ctx.Err(); ctx.Value(0) })
		}
		all.Go(func() { ctx.cancel(nil) })
		all.Wait()
		if ctx.Err() == nil {
			t.Fatal("not ended")
		}
	}
}
