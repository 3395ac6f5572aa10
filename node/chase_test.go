package node

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xiaonanln/goverse/internal/peer"
)

// A question about a circle belongs to the call that asks it: the call's end is the
// question's, also where it comes due in the moment in which the node stops.
func TestQuestionsEndWithTheirCall(t *testing.T) {
	for _, after := range []time.Duration{probeAfter - 1, probeAfter, probeAfter + 1, probeAfter + probeEvery} {
		for range 20 {
			synctest.Test(t, func(t *testing.T) {
				var asking atomic.Int32
				w := start(t, func(_ *world, cfg *Config) {
					cfg.StopTimeout = time.Second
					cfg.Probe = func(ctx context.Context, p *peer.Probe) ([]string, error) {
						asking.Add(1)
						defer asking.Add(-1)
						<-ctx.Done()
						time.Sleep(time.Millisecond) // the road's part
						return nil, ctx.Err()
					}
				})
				b := newBlock()
				first := w.start(bg, "held.Change", func(ctx context.Context, o *Thing) error {
					_, err := w.call(ctx, "deep.Change", b.run) // whom a question would go to
					return err
				})
				<-b.entered
				nested := w.start(bg, "x.Change", func(ctx context.Context, o *Thing) error {
					_, err := w.call(ctx, "held.Change")
					if n := asking.Load(); n != 0 {
						t.Error("the call has ended, its question has not")
					}
					return err
				})
				stopped := begin(func() (int64, error) { time.Sleep(after); return 0, w.close() })
				time.Sleep(after)
				close(b.let)
				first.wait()
				nested.wait()
				stopped.wait()
				if n := asking.Load(); n != 0 {
					t.Error("the node has stopped, a question goes on")
				}
			})
		}
	}
}
