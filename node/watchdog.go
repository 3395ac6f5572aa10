package node

import (
	"runtime"
	"slices"
	"time"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// stuckAfter is how many times as long as it may a method has to run to be stuck.
const stuckAfter = 3

// Of the stacks of all goroutines so much is kept, and so often at most.
const (
	maxStacks   = 1 << 20
	stacksEvery = time.Minute
)

// A watchdog knows the methods that the sweep met while they ran. How long one has run
// counts from there, so a method that ends soon costs nothing. It belongs to the sweep.
type watchdog struct {
	suspects []suspect
	dumped   time.Time // the stacks, the last time
}

// suspect is a method that may run for too long.
type suspect struct {
	frame  *frame
	since  time.Time
	barked bool // it ran for too long
}

// meet notes the methods that it has not met before. The activation's mutex is held.
func (d *watchdog) meet(running *frames, now time.Time) {
	for f := running.head; f != nil; f = f.next {
		if f.met == 0 {
			f.met = f.act.node.executions.since(now)
			d.suspects = append(d.suspects, suspect{frame: f, since: now})
		}
	}
}

// look tells of those that run for too long, and ends their contexts where their type says
// so. It is done with one once it is stuck.
func (d *watchdog) look(n *Node, now time.Time) {
	d.suspects = slices.DeleteFunc(d.suspects, func(s suspect) bool { return s.frame.over() })
	for i := range d.suspects {
		s := &d.suspects[i]
		if most := patience(s.frame.act.typ); !s.barked && most > 0 && now.Sub(s.since) >= most {
			s.barked = true
			n.reached(event.MethodTime, s.frame.act.ref)
			s.frame.cutOff()
		}
	}
	d.suspects = slices.DeleteFunc(d.suspects, func(s suspect) bool {
		runs := now.Sub(s.since)
		stuck := s.barked && runs >= stuckAfter*patience(s.frame.act.typ)
		if on := n.on.MethodStuck; on != nil && stuck {
			path := s.frame.info.Chain.Path
			on(event.MethodStuck{Type: s.frame.act.ref.Type, ID: s.frame.act.ref.ID, Method: path[len(path)-1].Method, Runs: runs, Stacks: d.stacks(now)})
		}
		return stuck
	})
}

// stacks is what everybody does, unless that was told just now.
func (d *watchdog) stacks(now time.Time) []byte {
	if now.Sub(d.dumped) < stacksEvery {
		return nil
	}
	d.dumped = now
	buf := make([]byte, maxStacks)
	return buf[:runtime.Stack(buf, true)]
}

// patience is how long a method of a type may run before it is told of; 0: for ever.
func patience(t *object.Type) time.Duration {
	if t.MethodTimeout == 0 {
		return object.DefaultMethodTimeout
	}
	return max(0, t.MethodTimeout)
}

// cutOff ends the method's context if its type says how long it may run.
func (f *frame) cutOff() {
	most := f.act.typ.MethodTimeout
	if most <= 0 {
		return
	}
	f.act.mu.Lock()
	defer f.act.mu.Unlock()
	if !f.act.frames.has(f) { // it has ended just now
		return
	}
	f.cut = true
	f.ctx.cancel(fault.New(fault.Deadline, "the method has run for %v, which is as long as its type lets it", most))
}
