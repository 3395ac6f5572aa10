package node

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
)

// A window of executions closes after windowMin once it has windowFull of them, and
// after windowMax with any.
const (
	windowMin  = 50 * time.Millisecond
	windowMax  = time.Second
	windowFull = 32
)

// overloadRetry is when somebody who was refused because of load should come again.
const overloadRetry = 100 * time.Millisecond

// sayAgain is after how long without a refusal the next one is worth a notice.
const sayAgain = 10 * time.Second

// executions is what is in flight on a node: each call from the time it was let in
// until it is answered, but not while it waits for somebody else's turn, for its shard
// or for the end of a previous activation. Root calls are refused over a limit that
// follows the latency. Nested calls count and are let in whatever the limit: the chain
// that they belong to is inside already, and waits for them.
//
// Nobody ever waits for room here, so no chain can wait for what it holds itself.
type executions struct {
	born    time.Time     // all times here are since then
	gauge   atomic.Uint64 // how many are in flight; from bit 32 on how many were let in
	limit   atomic.Int64
	refused atomic.Int64 // when the last one was
	done    atomic.Int64 // that ended in the window

	mu       sync.Mutex // protects following fields
	gradient gradient
	opened   time.Duration // the window
	seen     latencies     // of those that ended in it
	peak     int
	fell     time.Duration // when the limit did; who began before says nothing about it
}

const oneExecution = 1<<32 | 1

func (e *executions) init(max int) {
	e.born = time.Now()
	e.gradient = newGradient(max)
	e.limit.Store(int64(max))
	e.refused.Store(int64(-sayAgain))
}

// now is never 0, which stands for never.
func (e *executions) now() time.Duration { return time.Since(e.born) + 1 }

// since is when by this clock it was now.
func (e *executions) since(now time.Time) time.Duration { return now.Sub(e.born) + 1 }

// stay is a call's place among the executions. The zero value has none. It belongs
// to the call's goroutine.
type stay struct {
	in    *executions
	began time.Duration // plus what it has waited for others since; 0: nobody wants to know
}

// enter lets a call in; false: it is a root call, and there are enough.
func (e *executions) enter(st *stay, root bool) bool {
	v := e.gauge.Add(oneExecution)
	inside := int64(uint32(v))
	if root && inside > e.limit.Load() {
		e.gauge.Add(^uint64(oneExecution - 1))
		return false
	}
	st.in = e
	if v>>32%8 == 0 || inside >= MinExecutions { // a sample is enough while there is room
		st.began = e.now()
	}
	return true
}

func (e *executions) add(n int) { e.gauge.Add(uint64(n)) }

func (e *executions) inFlight() int { return int(uint32(e.gauge.Load())) }

// pause makes the call count for nothing while it waits for others. What it returns
// is for resume.
func (st *stay) pause() (since time.Duration) {
	if st.in == nil {
		return 0
	}
	st.in.add(-1)
	if st.began > 0 {
		since = st.in.now()
	}
	return since
}

// resume counts it again, whatever the limit: it was let in once.
func (st *stay) resume(since time.Duration) {
	if st.in == nil {
		return
	}
	st.in.add(1)
	if st.began > 0 {
		st.began += st.in.now() - since
	}
}

// end takes the call out.
func (st *stay) end() {
	e := st.in
	if st.began > 0 {
		e.ended(st.began)
	}
	e.add(-1)
}

// ended notes how long an execution took. Where that is a crowd, a sample will do.
func (e *executions) ended(began time.Duration) {
	e.done.Add(1)
	if !e.mu.TryLock() {
		return
	}
	defer e.mu.Unlock()
	e.peak = max(e.peak, e.inFlight())
	if began < e.fell {
		return
	}
	now := e.now()
	e.seen.add(now - began)
	age := now - e.opened
	if age < windowMin || age < windowMax && e.seen.count < windowFull {
		return
	}
	if e.gradient.observe(now, window{age, e.seen.p99(), int(e.done.Swap(0)), e.peak}) {
		e.fell = now
	}
	e.limit.Store(int64(e.gradient.limit))
	e.opened, e.seen, e.peak = now, latencies{}, 0
}

// refuse is the answer to a root call over the limit. The first after a quiet time is
// worth a notice.
func (e *executions) refuse(on event.Listener) error {
	now := e.now()
	last := time.Duration(e.refused.Swap(int64(now)))
	err := fault.New(fault.Overloaded, "this node has %d calls under way and takes no more now", e.limit.Load())
	err.RetryAfter = overloadRetry
	if on.Notice != nil && now-last >= sayAgain {
		e.mu.Lock()
		usual := e.gradient.usual
		e.mu.Unlock()
		on.Notice(event.Notice{Severity: event.Warn, From: "node",
			Text: fmt.Sprintf("overload: root calls beyond %d under way are refused; one in a hundred usually takes longer than %v", e.limit.Load(), usual)})
	}
	return &beyond{event.Executions, err}
}
