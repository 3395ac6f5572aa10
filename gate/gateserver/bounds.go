package gateserver

import (
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"

	"golang.org/x/time/rate"

	"github.com/xiaonanln/goverse/gate"
)

// bounds is one set of limits, complete and checked. It is never changed: guests own the one
// that holds, and whoever wants others has them put another in its place.
type bounds struct {
	Limits
	proxies                      []netip.Prefix
	sessions, calls, clientCalls int
}

// boundsOf are the limits of a configuration that Validate has passed.
func boundsOf(cfg *GateServerConfig) *bounds {
	b := &bounds{Limits: cfg.Limits.withDefaults(), sessions: cfg.MaxSessions, calls: cfg.MaxCalls, clientCalls: cfg.MaxClientCalls}
	if b.sessions == 0 {
		b.sessions = gate.DefaultMaxSessions
	}
	b.proxies, _ = networks(cfg.Limits.TrustedProxies)
	return b
}

// now are the limits that hold.
func (t *guests) now() *bounds { return t.limits.Load() }

// change puts others in their place.
func (t *guests) change(b *bounds) {
	t.limits.Store(b)
	t.untaken.change(b.AnswerBytes, b.AddressAnswerBytes)
}

// SetLimits has the gate take up the MaxSessions, MaxCalls, MaxClientCalls and Limits of cfg,
// of which the rest is not looked at. They hold at once, for who is connected too, but:
// MaxClientCalls and AnswerRate for streams and connections that are opened from now on, and
// TrustedProxies for what is connected or asked from now on. Whoever is over a limit that was
// lowered keeps what he has and gets no more. ConnectionStreams, HeaderBytes, HeaderTimeout
// and IdleTimeout are the listeners' and cannot change. With an error nothing has changed.
//
// It is for a gate that runs, and may be called concurrently.
func (s *GateServer) SetLimits(cfg *GateServerConfig) error {
	next := s.cfg
	next.MaxSessions, next.MaxCalls, next.MaxClientCalls, next.Limits = cfg.MaxSessions, cfg.MaxCalls, cfg.MaxClientCalls, cfg.Limits
	if err := errors.Join(next.Validate(), fixed(s.cfg.Limits.withDefaults(), next.Limits.withDefaults())); err != nil {
		return fmt.Errorf("the limits: %w", err)
	}
	next.withDefaults()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.setLimits == nil {
		return errors.New("the gate does not run yet: give it its limits in its configuration")
	}
	s.setLimits(boundsOf(&next))
	return nil
}

// fixed says which of the limits differ that a running gate cannot change.
func fixed(has, wants Limits) error {
	var errs []error
	for _, l := range []struct {
		name       string
		has, wants any
	}{
		{"ConnectionStreams", has.ConnectionStreams, wants.ConnectionStreams}, {"HeaderBytes", has.HeaderBytes, wants.HeaderBytes},
		{"HeaderTimeout", has.HeaderTimeout, wants.HeaderTimeout}, {"IdleTimeout", has.IdleTimeout, wants.IdleTimeout},
	} {
		if l.has != l.wants {
			errs = append(errs, fmt.Errorf("the value of Limits.%s is %v and would be %v; it counts when a gate starts", l.name, l.has, l.wants))
		}
	}
	return errors.Join(errs...)
}

// bucket is a rate that follows the limits. A nil one has none.
type bucket struct {
	of      *guests
	measure measure
	filled  atomic.Pointer[filled]
}

// filled is a bucket by one set of limits.
type filled struct {
	by          *bounds
	each, burst int
	tokens      *rate.Limiter // nil: there is no limit
}

// measure is which of the rates it is.
type measure func(*bounds) (each, burst int)

func opens(b *bounds) (each, burst int)       { return b.OpenRate, b.OpenBurst }
func clientRate(b *bounds) (each, burst int)  { return b.ClientRate, b.ClientBurst }
func addressRate(b *bounds) (each, burst int) { return b.AddressRate, b.AddressBurst }

func (t *guests) bucket(m measure) *bucket {
	b := &bucket{of: t, measure: m}
	b.filled.Store(b.fill(nil))
	return b
}

// fill is what holds now: what is left, or where the rate has changed all that may be done
// at once.
func (b *bucket) fill(old *filled) *filled {
	f := &filled{by: b.of.now()}
	switch f.each, f.burst = b.measure(f.by); {
	case old != nil && old.each == f.each && old.burst == f.burst:
		f.tokens = old.tokens
	case f.each >= 0 && f.burst >= 0:
		f.tokens = rate.NewLimiter(rate.Limit(f.each), f.burst)
	}
	return f
}

// allow takes a token, if there is one.
func (b *bucket) allow() bool {
	if b == nil {
		return true
	}
	f := b.filled.Load()
	if f.by != b.of.now() {
		b.filled.CompareAndSwap(f, b.fill(f)) // or somebody else has
		f = b.filled.Load()
	}
	return f.tokens == nil || f.tokens.Allow()
}
