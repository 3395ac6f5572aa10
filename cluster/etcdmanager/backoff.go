package etcdmanager

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff paces repeated attempts: from First on twice as long each time, never
// over Max, and of each delay a random half to whole, so that many who failed
// together do not come back together. Its methods may be called concurrently.
type Backoff struct {
	First, Max time.Duration
}

// Delay is how long to wait after attempt failed attempts before this one (0: the
// first repetition), for a chance in [0, 1).
func (b Backoff) Delay(attempt int, chance float64) time.Duration {
	full := b.First
	for ; attempt > 0 && full < b.Max; attempt-- {
		if full > b.Max/2 {
			full = b.Max
			break
		}
		full *= 2
	}
	full = min(full, b.Max)
	return full/2 + time.Duration(chance*float64(full-full/2))
}

// Wait waits for the delay of attempt; it is false, at once, when ctx ends.
func (b Backoff) Wait(ctx context.Context, attempt int) bool {
	return pause(ctx, b.Delay(attempt, rand.Float64()))
}

// pause waits for d; it is false, at once, when ctx ends. It waits on a context and
// not on a timer's channel, because under the race detector two goroutines of one
// synctest bubble that look at channels of timers due at one instant crash the
// runtime (golang/go 78156).
func pause(ctx context.Context, d time.Duration) bool {
	pausing, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	<-pausing.Done()
	return ctx.Err() == nil
}
