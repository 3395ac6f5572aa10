package durable

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/xiaonanln/goverse/object"
)

// Pair is a store, and one that differs from it in nothing but that it lets everybody
// save: what the first is slower by is what fencing costs.
type Pair struct{ fenced, bare side }

type side struct {
	lanes int
	desk  *Desk
	host  *Host
}

// NewPair runs a host on each store. Both stores are empty, and have their own tables.
func NewPair(ctx context.Context, fenced, bare object.FencedProvider) (*Pair, error) {
	f, err := newSide(ctx, fenced)
	if err != nil {
		return nil, err
	}
	b, err := newSide(ctx, bare)
	if err != nil {
		return nil, errors.Join(err, f.host.Close())
	}
	return &Pair{f, b}, nil
}

func newSide(ctx context.Context, store object.FencedProvider) (side, error) {
	host, err := Start(ctx, store)
	return side{store.Lanes(), NewDesk(store), host}, err
}

// Close stops the hosts.
func (p *Pair) Close() error { return errors.Join(p.fenced.host.Close(), p.bare.host.Close()) }

// Way is one kind of work on a store.
type Way struct {
	Name string
	rate func(ctx context.Context, s side, d time.Duration) (float64, error)
}

// Ways are what a Pair is measured with: the store alone, and calls on it.
var Ways = []Way{
	{"saves=1", func(ctx context.Context, s side, d time.Duration) (float64, error) { return s.desk.Saves(ctx, d, 1, 1) }},
	{"saves=256", func(ctx context.Context, s side, d time.Duration) (float64, error) {
		return s.desk.Saves(ctx, d, s.lanes, 256/s.lanes)
	}},
	{"calls=1", func(ctx context.Context, s side, d time.Duration) (float64, error) {
		return s.host.Calls(ctx, d, Load{Callers: 1, ID: strconv.Itoa})
	}},
	{"calls=256", func(ctx context.Context, s side, d time.Duration) (float64, error) {
		return s.host.Calls(ctx, d, Load{Callers: 256, ID: strconv.Itoa})
	}},
	{"calls=64,hot", func(ctx context.Context, s side, d time.Duration) (float64, error) {
		return s.host.Calls(ctx, d, Load{Callers: 64, ID: func(int) string { return "hot" }})
	}},
}

// Cost is what a kind of work came to, turn by turn.
type Cost struct{ Fenced, Bare []float64 } // rows or calls a second

// Report names the medians, and in percent the median of the ratios of turns that
// followed each other.
func (c Cost) Report() map[string]float64 {
	var ratios []float64
	for i := range c.Fenced {
		ratios = append(ratios, 100*c.Fenced[i]/c.Bare[i])
	}
	return map[string]float64{"fenced/s": median(c.Fenced), "bare/s": median(c.Bare), "fenced/bare-%": median(ratios)}
}

func median(list []float64) float64 { return slices.Sorted(slices.Values(list))[len(list)/2] }

// Measure lets both stores do some work in turns, each once in a round; who is first
// changes from round to round.
func (p *Pair) Measure(ctx context.Context, w Way, rounds int, turn time.Duration) (c Cost, err error) {
	for _, s := range []side{p.fenced, p.bare} {
		if _, err := w.rate(ctx, s, turn/3); err != nil { // everything is stored once, and warm
			return c, err
		}
	}
	type turns struct {
		side  side
		rates *[]float64
	}
	first, second := turns{p.fenced, &c.Fenced}, turns{p.bare, &c.Bare}
	for range rounds {
		for _, t := range []turns{first, second} {
			rate, err := w.rate(ctx, t.side, turn)
			if err != nil {
				return c, err
			}
			*t.rates = append(*t.rates, rate)
		}
		first, second = second, first
	}
	return c, nil
}

// LateSave is the verdict of an empty store on what a holder saves after another one has
// stamped its shard. An error of the store is the verdict's Err.
func LateSave(ctx context.Context, store object.FencedProvider) object.Verdict {
	for epoch, who := range []string{owner, "bench:2#1"} {
		refused, err := store.Stamp(ctx, who, []object.Fence{{Shard: 7, Epoch: uint64(epoch) + 1}})
		if err = errors.Join(err, refusal(refused)); err != nil {
			return object.Verdict{Err: err}
		}
	}
	late := object.Save{Ref: object.Ref{Type: "Row", ID: "late"}, Data: []byte(`{}`), Shard: 7, Epoch: 1, SaveID: [16]byte{1}}
	verdicts, err := store.Commit(ctx, owner, []object.Save{late})
	if err != nil {
		return object.Verdict{Err: err}
	}
	return verdicts[0]
}

func refusal(refused []object.Fence) error {
	if len(refused) == 0 {
		return nil
	}
	return errors.New("the store has fences already: give it an empty one")
}
