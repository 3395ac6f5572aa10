// Package meter makes calls at a pace, counts how long they took, and says what several
// runs of the same had in common. It is what bench/load and bench/peers measure with.
package meter

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Work makes a call and returns when it is answered, with an error if it was not, or
// not as it should be. Callers are numbered from 0, and so are the calls of each; no
// two run as the same caller at once.
type Work func(ctx context.Context, caller, n int) error

// Load is a pace of calls.
type Load struct {
	Callers int           // how many calls may be under way at once
	Window  time.Duration // for how long calls are made
	// Rate is how many calls are planned a second, evenly spaced (open loop): each
	// latency counts from the planned time, however late the call was made. 0: each
	// caller calls as soon as it has its answer (closed loop).
	Rate float64
}

// Sample is what came of a load.
type Sample struct {
	Took    time.Duration // from the first call to the last answer
	Latency *Histogram    // of the calls that were answered
	Late    *Histogram    // open loop: how long after its planned time each call was made
	Failed  int           // calls whose work returned an error
	Unsent  int           // open loop: planned calls that no caller was free for, until twice the window
	Failure error         // what the first failed of
}

// Rate is how many calls were answered a second.
func (s Sample) Rate() float64 { return float64(s.Latency.Count()) / s.Took.Seconds() }

// tolerance is how many calls may fail before the load gives up: what is broken answers
// fast, and its speed says nothing.
const tolerance = 1000

// Run makes the calls and returns when each is answered. The error is that of ctx, once
// that has ended.
func (l Load) Run(ctx context.Context, work Work) (Sample, error) {
	r := run{load: l, work: work, turn: make(chan int, 1), sample: Sample{Latency: &Histogram{}, Late: &Histogram{}}}
	r.turn <- 0
	r.began = time.Now()
	var callers sync.WaitGroup
	for i := range l.Callers {
		callers.Go(func() {
			c := caller{run: &r, number: i}
			if l.Rate > 0 {
				c.keepPlan(ctx)
			} else {
				c.callOn(ctx)
			}
			r.add(&c)
		})
	}
	callers.Wait()
	r.sample.Took = time.Since(r.began)
	if l.Rate > 0 {
		r.countUnsent(ctx)
	}
	return r.sample, ctx.Err()
}

// run is a load under way.
type run struct {
	load   Load
	work   Work
	began  time.Time
	failed atomic.Int64

	// turn holds the number of the call that is planned next. Who has taken it out waits
	// for that call's time, alone, and puts the next one in.
	turn chan int

	mu     sync.Mutex
	sample Sample // guarded by mu
}

// planned is when call n of an open loop should be made.
func (r *run) planned(n int) time.Time {
	return r.began.Add(time.Duration(float64(n) / r.load.Rate * float64(time.Second)))
}

// plans is how many calls an open loop has planned.
func (r *run) plans() int { return int(r.load.Rate * r.load.Window.Seconds()) }

// take waits for the time of the next planned call and is its number; more is false
// when there is none, or when the calls are too far behind their plan.
func (r *run) take(ctx context.Context) (n int, more bool) {
	n = <-r.turn
	if n < r.plans() && time.Since(r.began) <= 2*r.load.Window {
		pause(ctx, r.planned(n))
		more = ctx.Err() == nil
	}
	if more {
		r.turn <- n + 1
	} else {
		r.turn <- n
	}
	return n, more
}

// countUnsent is what a plan that was not kept hides elsewhere: the calls that were
// never made have waited until now. A load that was given up had no chance to.
func (r *run) countUnsent(ctx context.Context) {
	if ctx.Err() != nil || r.failed.Load() >= tolerance {
		return
	}
	now := time.Now()
	for n := <-r.turn; n < r.plans(); n++ {
		r.sample.Unsent++
		r.sample.Late.Record(now.Sub(r.planned(n)))
	}
}

// add is a caller's part of the sample.
func (r *run) add(c *caller) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sample.Latency.Add(&c.latency)
	r.sample.Late.Add(&c.late)
	r.sample.Failed += c.failures
	if r.sample.Failure == nil {
		r.sample.Failure = c.failure
	}
}
