package main

import (
	"sync"
	"time"

	"github.com/xiaonanln/goverse/bench/load/meter"
)

// delays are how long after an object has said something the readers heard it.
type delays struct{ pushes, changes delay }

// delay counts what was said since a moment.
type delay struct {
	parts [16]struct {
		mu    sync.Mutex // protects following fields
		since time.Time  // zero: nothing is counted
		seen  meter.Histogram
	}
}

// begin forgets what was counted, and counts what is said from now on.
func (d *delay) begin(now time.Time) {
	for i := range d.parts {
		p := &d.parts[i]
		p.mu.Lock()
		p.since, p.seen = now, meter.Histogram{}
		p.mu.Unlock()
	}
}

// end stops counting, and is what was counted.
func (d *delay) end() *meter.Histogram {
	sum := new(meter.Histogram)
	for i := range d.parts {
		p := &d.parts[i]
		p.mu.Lock()
		sum.Add(&p.seen)
		p.since = time.Time{}
		p.mu.Unlock()
	}
	return sum
}

func (d *delay) record(reader int64, now, said time.Time) {
	p := &d.parts[uint64(reader)%uint64(len(d.parts))]
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.since.IsZero() && said.After(p.since) {
		p.seen.Record(now.Sub(said))
	}
}
