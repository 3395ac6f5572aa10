package node

import (
	"time"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
)

// A queue stands, rather than takes up a burst, if for sojournFor somebody in it has
// always waited longer than sojournTarget (CoDel, after Nichols and Jacobson,
// "Controlling queue delay", 2012). So few as sojournSpare never stand: an object whose
// methods are slow has such a queue from a handful of patient callers.
const (
	sojournTarget = 100 * time.Millisecond
	sojournFor    = time.Second
	sojournSpare  = 16
)

// A codel decides whether a queue stands. It is pure; times are since any one moment.
// The zero value belongs to an empty queue.
type codel struct {
	standing bool
	turning  bool          // what is seen says otherwise,
	since    time.Duration // from then on without a break
}

// observe takes what is seen when a turn is given: so many wait, the first one since.
func (c *codel) observe(now, first time.Duration, queued int) {
	long := now-first > sojournTarget && queued > sojournSpare
	switch {
	case long == c.standing:
		c.turning = false
	case !c.turning:
		c.turning, c.since = true, now
	case now-c.since >= sojournFor:
		c.standing, c.turning = long, false
	}
}

// tidy looks at the queue before a turn is given. While it stands, root calls that
// waited too long in it are sent away: newer ones go first, so nobody would serve them
// in time. The newest call stays in any case; there is always one to serve.
func (t *turnstile) tidy(now time.Duration) {
	t.codel.observe(now, t.queue[0].since, len(t.queue))
	if !t.codel.standing {
		return
	}
	late := 0
	for late < len(t.queue)-1 && now-t.queue[late].since > sojournTarget {
		late++
	}
	t.weed(late, func(w *waiter) bool {
		if w.parks {
			w.settle(nil, errStanding)
		}
		return w.parks
	})
}

var errStanding = func() error {
	e := fault.New(fault.Overloaded, "calls of this object wait too long for their turn, and newer ones go first")
	e.RetryAfter = overloadRetry
	return &beyond{event.QueueTime, e}
}()

// next is whose turn it is: the first one, or while the queue stands the first nested
// call, or else the newest.
func (t *turnstile) next() int {
	if !t.codel.standing {
		return 0
	}
	for i, w := range t.queue {
		if !w.parks {
			return i
		}
	}
	return len(t.queue) - 1
}
