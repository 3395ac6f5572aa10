package node

import (
	"math"
	"time"
)

// Bounds of how many executions are in flight on a node.
const (
	// MinExecutions is what the limit never falls below, unless it was set lower.
	MinExecutions = 64

	// DefaultMaxExecutions is how many executions are in flight on a node at most
	// unless its configuration says otherwise.
	DefaultMaxExecutions = 8192
)

// When a node is slow: one in a hundred executions takes longer than slowerThan times
// what it takes while the node is at ease, and longer than slowAbove, and that for
// slowFor. A stall of the store or of the machine that passes is nobody's overload.
const (
	slowerThan = 2
	slowAbove  = 250 * time.Millisecond
	slowFor    = 500 * time.Millisecond
)

// How soon the limit is twice as high where nothing speaks against it: what comes of it
// while it is in use shows only later.
const (
	doubleIdle = 400 * time.Millisecond
	doubleUsed = 4 * time.Second
)

// A gradient decides how many executions may be in flight, from how long they take.
// Where the node is slow, the limit falls at once to what is done within a bearable
// time, by Little's law. Where it is not, or where so few are in flight that their
// number is not the reason, the limit grows. It is pure; times are since any one moment.
type gradient struct {
	limit, max int
	usual      time.Duration // the 99th percentile while the node is at ease; 0: not known yet
	slow       bool
	since      time.Duration // slow: since when
}

// window is what was seen of executions for some time.
type window struct {
	age  time.Duration
	p99  time.Duration // of how long those took that ended
	done int           // how many ended; counted where many are in flight, else a sample
	peak int           // most in flight
}

func newGradient(max int) gradient { return gradient{limit: max, max: max} }

// observe takes a window that has closed now. It tells whether the limit fell.
func (g *gradient) observe(now time.Duration, w window) (fell bool) {
	g.learn(w)
	bearable := max(slowAbove, slowerThan*g.usual)
	switch {
	case w.p99 <= bearable, w.peak <= g.least():
		g.slow = false
		g.grow(w)
	case !g.slow:
		g.slow, g.since = true, now
	case now-g.since >= slowFor:
		g.slow = false
		before := g.limit
		fit := float64(w.done) * float64(bearable) / float64(w.age)
		g.limit = min(before, max(int(fit), g.least()))
		return g.limit < before
	}
	return false
}

func (g *gradient) grow(w window) {
	double := doubleIdle
	if w.peak > g.limit/2 {
		double = doubleUsed
	}
	grown := float64(g.limit) * math.Exp2(float64(w.age)/float64(double))
	g.limit = int(min(float64(g.max), grown+1))
}

// learn follows the usual latency down whenever it is better, and up only where no
// more is in flight than there always may be: an overload must not become usual.
func (g *gradient) learn(w window) {
	switch {
	case g.usual == 0:
		g.usual = w.p99
	case w.p99 < g.usual, g.limit == g.least(), w.peak <= g.least():
		g.usual += (w.p99 - g.usual) / 8
	}
}

// least is what the limit never falls below.
func (g *gradient) least() int { return min(MinExecutions, g.max) }
