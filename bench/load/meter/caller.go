package meter

import (
	"context"
	"time"
)

// caller makes one call after the other.
type caller struct {
	run           *run
	number, calls int
	latency, late Histogram
	failures      int
	failure       error // the first
}

// callOn is the closed loop.
func (c *caller) callOn(ctx context.Context) {
	end := c.run.began.Add(c.run.load.Window)
	for at := time.Now(); at.Before(end); {
		answered, more := c.call(ctx)
		now := time.Now()
		if answered {
			c.latency.Record(now.Sub(at))
		}
		if !more {
			return
		}
		at = now
	}
}

// keepPlan is the open loop.
func (c *caller) keepPlan(ctx context.Context) {
	for {
		n, more := c.run.take(ctx)
		if !more {
			return
		}
		planned := c.run.planned(n)
		c.late.Record(time.Since(planned))
		answered, more := c.call(ctx)
		if answered {
			c.latency.Record(time.Since(planned))
		}
		if !more {
			return
		}
	}
}

// call makes the caller's next call. more says whether there is to be another.
func (c *caller) call(ctx context.Context) (answered, more bool) {
	err := c.run.work(ctx, c.number, c.calls)
	c.calls++
	switch {
	case err == nil:
		return true, true
	case ctx.Err() != nil:
		return false, false // it was given up, it did not fail
	}
	c.failures++
	if c.failure == nil {
		c.failure = err
	}
	return false, c.run.failed.Add(1) < tolerance
}
