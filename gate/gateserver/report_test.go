package gateserver

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xiaonanln/goverse/gate"
	"github.com/xiaonanln/goverse/internal/peer"
)

// heard is a cluster that notes what is reported, and when.
type heard struct {
	*cluster
	watches atomic.Bool
	reports []peer.GateSurvey
}

func (h *heard) Report(ctx context.Context, g peer.GateSurvey) (bool, error) {
	if ctx.Err() == nil { // the last one, as the gate ends, goes nowhere
		h.reports = append(h.reports, g)
	}
	return h.watches.Load(), ctx.Err()
}

// A gate reports with its time: now and then, and each second while somebody looks.
func TestAGateReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &heard{cluster: newCluster(echo)}
		g := gate.New(gate.Config{Address: "g:1"})
		cfg := GateServerConfig{Router: h, Logger: quiet()}
		cfg.withDefaults()
		r := &running{server: &GateServer{router: h, address: "g:1"}, gate: g}
		life, end := context.WithCancel(t.Context())
		r.parts.Go(func() { r.report(life, newCalls(&cfg, h, g, newCrowd())) })
		began := time.Now()
		time.Sleep(reportWatched + reportElse + reportWatched/2) // never in the moment of a report
		synctest.Wait()
		h.watches.Store(true)
		time.Sleep(reportElse + reportWatched)
		synctest.Wait()
		end()
		r.parts.Wait()
		var at []time.Duration
		for _, s := range h.reports {
			at = append(at, s.Now.Sub(began))
			if s.Address != "g:1" || s.Since == 0 || s.Age != s.Now.Sub(began) {
				t.Errorf("%+v", s)
			}
		}
		if want := []time.Duration{time.Second, 6 * time.Second, 11 * time.Second, 12 * time.Second}; !slices.Equal(at, want) {
			t.Errorf("it reported after %v, want %v", at, want)
		}
	})
}
