package meter

import (
	"context"
	"time"
)

// A timer of Go's may be a millisecond late where nothing else runs; a nap is not. It
// holds a thread, so what is longer waits for a timer first.
const shortest = 3 * time.Millisecond

// pause waits until at, or until ctx ends.
func pause(ctx context.Context, at time.Time) {
	if d := time.Until(at); d > shortest {
		wait(ctx, d-shortest/2)
	}
	if d := time.Until(at); d > 0 && ctx.Err() == nil {
		nap(d)
	}
	if d := time.Until(at); d > 0 { // a signal has ended the nap
		wait(ctx, d)
	}
}

func wait(ctx context.Context, d time.Duration) {
	ctx, stop := context.WithTimeout(ctx, d)
	defer stop()
	<-ctx.Done()
}
