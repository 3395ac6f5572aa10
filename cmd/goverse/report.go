package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// report tells how far something is: once a second, and only what is new. On a
// terminal each line takes the place of the one before. Its methods may be called
// concurrently; end must be called.
type report struct {
	w           io.Writer
	interactive bool
	done        chan struct{}
	ended       sync.WaitGroup

	mu         sync.Mutex // protects following fields, and w
	line, said string
}

const reportInterval = time.Second

func newReport(w io.Writer, interactive bool) *report {
	r := &report{w: w, interactive: interactive, done: make(chan struct{})}
	r.ended.Go(r.run)
	return r
}

// say makes line what is told next.
func (r *report) say(line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.line = line
	if r.said == "" {
		r.tellLocked()
	}
}

func (r *report) run() {
	tick := time.NewTicker(reportInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			r.mu.Lock()
			r.tellLocked()
			r.mu.Unlock()
		case <-r.done:
			return
		}
	}
}

func (r *report) tellLocked() {
	if r.line == r.said {
		return
	}
	r.said = r.line
	if r.interactive {
		fmt.Fprintf(r.w, "\r\x1b[K%s", r.line)
		return
	}
	fmt.Fprintln(r.w, r.line)
}

// end tells no more.
func (r *report) end() {
	close(r.done)
	r.ended.Wait()
	if r.interactive && r.said != "" {
		fmt.Fprintln(r.w)
	}
}
