package inspector

import (
	"context"
	"time"

	"github.com/xiaonanln/goverse/cluster/census"
	"github.com/xiaonanln/goverse/cluster/diagnosis"
	"github.com/xiaonanln/goverse/internal/secure"
)

// What a frame of rates is made of.
type (
	Rates     = census.Rates
	NodeRates = census.NodeRates
	GateRates = census.GateRates
	TypeRates = census.TypeRates
	EdgeRates = census.EdgeRates
	Busiest   = census.Busiest
)

// ratesFrame is the frame of the feed that says how busy the cluster is. It has no
// number: only the newest counts, and a viewer who is slow misses those between.
func ratesFrame(r *census.Rates) []byte {
	return encode(struct {
		Op string `json:"op"`
		*census.Rates
	}{"rates", r})
}

// ratesEvery is the pace of the rates.
const ratesEvery = time.Second

// measure asks the nodes what they have counted for as long as somebody looks.
func (i *Inspector) measure(ctx context.Context) {
	var meter census.Meter
	for ctx.Err() == nil {
		if i.viewers.Load() == 0 {
			select {
			case <-i.looked:
			case <-ctx.Done():
			}
			continue
		}
		pace, cancel := context.WithTimeout(ctx, ratesEvery)
		if p := i.view.Load(); p != nil {
			addresses := p.Addresses()
			i.peers.Keep(addresses)
			answers := i.peers.Survey(ctx, addresses)
			i.feed.Rate(ratesFrame(meter.Rates(time.Now(), answers, p.Gates())))
		}
		<-pace.Done()
		cancel()
	}
}

// look counts a viewer until the end.
func (i *Inspector) look() (end func()) {
	i.viewers.Add(1)
	select {
	case i.looked <- struct{}{}:
	default: // somebody has said so already
	}
	return func() { i.viewers.Add(-1) }
}

// secret waits for the cluster's secret, which the nodes want to be known.
func (i *Inspector) secret(ctx context.Context) (secure.Secret, error) {
	for {
		if p := i.view.Load(); p != nil && p.Secret().Known() {
			return p.Secret(), nil
		}
		if ctx.Err() != nil {
			return secure.Secret{}, ctx.Err()
		}
		wait(ctx, pace)
	}
}

// picture is what the cluster is known to be, or nil.
func (i *Inspector) picture() *diagnosis.Picture {
	if p := i.view.Load(); p != nil && p.Meta != nil {
		return p
	}
	return nil
}
