package gateserver

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/xiaonanln/goverse/internal/peer"
)

// reporter is a Router that brings a gate's counts to a node, for those who survey it.
type reporter interface {
	Report(ctx context.Context, g peer.GateSurvey) (watched bool, err error)
}

// A gate reports so often: while somebody looks, and else, which is also how long it takes
// until a gate is seen at first.
const (
	reportWatched = time.Second
	reportElse    = 5 * time.Second
)

// report tells what this gate has counted until life ends. A report that is lost is
// nobody's loss: the next says the same and more.
func (r *running) report(life context.Context, c *calls) {
	to, ok := r.server.router.(reporter)
	if !ok {
		return
	}
	began, since := time.Now(), rand.Uint64()|1
	for pause := reportWatched; life.Err() == nil; {
		over, cancel := context.WithTimeout(life, pause)
		<-over.Done()
		cancel()
		ctx, cancel := context.WithTimeout(life, peer.ReportPatience)
		watched, err := to.Report(ctx, peer.GateSurvey{
			Address: r.server.address, Since: since, Age: time.Since(began),
			Clients: int64(r.gate.Len()), Calls: c.made.Load(), Pushes: r.gate.Pushed(), Now: time.Now(),
		})
		cancel()
		if pause = reportElse; err == nil && watched {
			pause = reportWatched
		}
	}
}
