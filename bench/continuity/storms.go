package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/xiaonanln/goverse/bench/load/meter"
)

// showStorms has many clients come at once, again and again.
func showStorms(ctx context.Context, o options, tell *teller) (err error) {
	f, err := form(ctx, 1, gateCount, orders{Resume: 2 * time.Second, LogTo: o.logs, Limited: o.limited, program: o.program})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	t := &theater{o: o, tell: tell, fleet: f}
	before := make([]state, len(f.gates)) // but for the client's session that the cluster is asked by
	for i, gate := range f.gates {
		if before[i], err = gate.state(ctx); err != nil {
			return err
		}
	}
	var all []storm
	for range o.storms {
		s := t.storm(ctx, o.storm)
		all = append(all, s)
		if s.failure != nil {
			return s.failure
		}
	}
	var refused, mute int
	for _, s := range all {
		refused, mute = refused+s.refused, mute+s.mute
	}
	took := meter.SpreadOf(all, func(s storm) float64 { return s.took.Seconds() })
	tell.say("%d storms of %d clients on %d gates: all were in after %v s", o.storms, o.storm, gateCount, took)
	tell.say("%d were refused in so many words and came again, %d more had no word", refused, mute)
	if mute > 0 && !o.limited {
		return fmt.Errorf("%d connections ended without a word; the first: %w", mute, all[0].wordless)
	}
	for i, gate := range f.gates {
		s, err := settled(ctx, gate, before[i])
		if err != nil {
			return err
		}
		tell.say("%s had %v, and has %v; %d MiB", gate.name, before[i], s, resident(gate.alive().PID())>>20)
	}
	return nil
}

// storm is what came of one.
type storm struct {
	took          time.Duration
	refused, mute int   // attempts
	wordless      error // of the first that was mute
	failure       error // of one who never came in
}

// storm has n clients come at once, and go at once when all are in.
func (t *theater) storm(ctx context.Context, n int) (s storm) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	lines := make([]line, n)
	var mu sync.Mutex // protects s
	var coming, going sync.WaitGroup
	began := time.Now()
	for i := range n {
		coming.Go(func() {
			for lines[i] == nil {
				l, _, err := greet(ctx, t.doors(i)[0], greeting{plain: i/4%2 == 0})
				if err == nil {
					lines[i] = l
					return
				}
				mu.Lock()
				switch {
				case ctx.Err() != nil:
					s.failure = fmt.Errorf("client %d is not in: %w", i, err)
				case isRefusal(err):
					s.refused++
				default:
					s.mute++
					s.wordless = err
				}
				mu.Unlock()
				if ctx.Err() != nil {
					return
				}
				rest(ctx, time.Second+rand.N(time.Second)) // as it is told to
			}
		})
	}
	coming.Wait()
	s.took = time.Since(began)
	for i, l := range lines {
		if l == nil {
			continue
		}
		going.Go(func() {
			if i%2 == 0 {
				l.leave()
			}
			l.hangUp()
		})
	}
	going.Wait()
	return s
}

// isRefusal says that a gate has said why it does not take a client, and that it may come
// again.
func isRefusal(err error) bool {
	return status.Code(err) == codes.ResourceExhausted || strings.Contains(err.Error(), "got 429") || strings.Contains(err.Error(), "StatusTryAgainLater")
}
