package goverseclient

import (
	"context"
	"sync"
	"time"
)

// backoff paces repeated attempts: from first on twice as long each time, never over
// max, and of each delay a random half to whole.
type backoff struct{ first, max time.Duration }

// delay is how long to wait before repetition n, from 0 on, for a chance in [0, 1).
func (b backoff) delay(n int, chance float64) time.Duration {
	full := min(b.first, b.max)
	for ; n > 0 && full < b.max; n-- {
		full = min(2*full, b.max)
	}
	return full/2 + time.Duration(chance*float64(full-full/2))
}

// pause waits for d, until ctx ends, or until one of the channels says something.
func pause(ctx context.Context, d time.Duration, woken <-chan struct{}) {
	pausing, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	select {
	case <-pausing.Done():
	case <-woken:
	}
}

// budget bounds what repetitions add to the load of gates in trouble: one for ten
// calls, and, so that a lone caller may repeat at all, floor at once and one more
// each second. All methods may be called concurrently.
type budget struct {
	mu     sync.Mutex
	tokens float64
	filled time.Time // when the floor was last filled up
}

const (
	budgetShare = 0.1
	budgetFloor = 10
	budgetMax   = 100
)

func newBudget(now time.Time) *budget { return &budget{tokens: budgetFloor, filled: now} }

// earn counts a call.
func (b *budget) earn() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens = min(b.tokens+budgetShare, budgetMax)
}

// spend takes what one repetition costs, if it is there.
func (b *budget) spend(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tokens < budgetFloor {
		b.tokens = min(b.tokens+now.Sub(b.filled).Seconds(), budgetFloor)
	}
	b.filled = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
