package gateserver

import (
	"sync"
	"time"
)

// stall notices a client that takes nothing of what is sent to it. What counts is that it
// takes something, not that it has taken all: a slow client is served for as long as it
// reads. All methods may be called concurrently.
type stall struct {
	patience time.Duration
	end      func() // called once, when nothing was taken for patience

	mu      sync.Mutex // protects following fields
	timer   *time.Timer
	sending bool
	since   time.Time // something was taken, or the sending began
}

func newStall(patience time.Duration, end func()) *stall {
	s := &stall{patience: patience, end: end}
	s.timer = time.AfterFunc(patience, s.look)
	s.timer.Stop()
	return s
}

// begin is called before a message is sent.
func (s *stall) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sending, s.since = true, time.Now()
	s.timer.Reset(s.patience)
}

// done is called when the transport has it.
func (s *stall) done() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sending = false
	s.timer.Stop()
}

// taken is called when the client has taken a part of what is sent.
func (s *stall) taken() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.since = time.Now()
}

// look is the timer's.
func (s *stall) look() {
	if s.over() {
		s.end()
	}
}

func (s *stall) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.sending {
		return false
	}
	if remains := s.patience - time.Since(s.since); remains > 0 {
		s.timer.Reset(remains)
		return false
	}
	s.sending = false
	return true
}
