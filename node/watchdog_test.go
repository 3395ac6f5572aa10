package node

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// A method that runs for longer than its type lets it loses its context, and is answered
// with what it returns. One that goes on is told of, with what everybody does.
func TestAMethodThatRunsForTooLong(t *testing.T) {
	for _, c := range []struct {
		name  string
		most  time.Duration
		runs  time.Duration
		told  string
		stuck int
		cut   bool
	}{
		{"soon over", 8 * time.Second, 7 * time.Second, "", 0, false},
		{"too long", 8 * time.Second, 11 * time.Second, "1 method_time of x", 0, true},
		{"stuck", 8 * time.Second, time.Minute, "1 method_time of x", 1, true},
		{"by default", 0, time.Minute, "1 method_time of x", 0, false},
		{"stuck by default", 0, 5 * time.Minute, "1 method_time of x", 1, false},
		{"for ever", -1, time.Hour, "", 0, false},
	} {
		bubble(t, c.name, func(t *testing.T) {
			var heard limitsHeard
			var stuck []event.MethodStuck
			w := start(t, heard.setup, object.WithMethodTimeout(c.most), func(_ *world, cfg *Config) {
				cfg.Listener.MethodStuck = func(e event.MethodStuck) { stuck = append(stuck, e) } // read behind the end
			})
			var cause error
			n, err := w.call(bg, "x.Change", func(ctx context.Context, o *Thing) error {
				time.Sleep(c.runs)
				cause = context.Cause(ctx)
				o.N++
				return nil
			})
			if n != 1 || err != nil {
				t.Error(n, err)
			}
			if (fault.KindOf(cause) == fault.Deadline) != c.cut || !c.cut && cause != nil {
				t.Error("its context ended with", cause)
			}
			w.must(w.close())
			if got := heard.String(); got != c.told {
				t.Errorf("it told of %q, want %q", got, c.told)
			}
			if len(stuck) != c.stuck {
				t.Fatalf("%d methods are stuck", len(stuck))
			}
			for _, e := range stuck {
				if e.ID != "x" || e.Method != "Change" || e.Runs < 3*max(c.most, 8*time.Second) || !bytes.Contains(e.Stacks, []byte("TestAMethodThatRunsForTooLong")) {
					t.Errorf("%s.%s for %v: %d bytes of stacks", e.ID, e.Method, e.Runs, len(e.Stacks))
				}
			}
		})
	}
}

// A hundred that are stuck are told of one by one, with one look at the stacks.
func TestTheStacksAreTakenOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck, stacks := 0, 0
		w := start(t, object.WithMode(object.Concurrent), object.WithMethodTimeout(8*time.Second), func(_ *world, cfg *Config) {
			cfg.Listener.MethodStuck = func(e event.MethodStuck) {
				if stuck++; len(e.Stacks) > 0 {
					stacks++
				}
			}
		})
		const all = 100
		var calls []*pending
		for range all {
			calls = append(calls, w.start(bg, "x.Change", func(context.Context, *Thing) error { time.Sleep(40 * time.Second); return nil }))
		}
		for _, p := range calls {
			p.wait()
		}
		w.must(w.close())
		if stuck != all || stacks != 1 || len(w.watchdog.suspects) != 0 {
			t.Errorf("%d are stuck, stacks were taken %d times, %d suspects are left", stuck, stacks, len(w.watchdog.suspects))
		}
	})
}

// What a method with an id returns because its time was over is no result: made again, it
// runs.
func TestACallWithAnIDThatRanForTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept, object.WithMethodTimeout(8*time.Second))
		_, err := w.once(bg, "one", "x.Change", func(ctx context.Context, o *Thing) error { <-ctx.Done(); return ctx.Err() })
		isFault(t, err, fault.Indeterminate, fault.OutcomeUnknown)
		w.wantOnce("one", "x.Change", 1)
	})
}
