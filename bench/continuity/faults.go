package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/xiaonanln/goverse/bench/continuity/witness"
	"github.com/xiaonanln/goverse/bench/load/meter"
)

// The cluster of the faults.
const (
	nodeCount = 3
	gateCount = 2
)

// theater is the cluster with its readers.
type theater struct {
	o      options
	tell   *teller
	fleet  *fleet
	boards []string
	floods []string // boards that say much, to those who do not read

	readers, deaf []*reader
	delays        delays
	memory        *memory
}

// showFaults has readers hear what boards say, while much fails.
func showFaults(ctx context.Context, o options, tell *teller) (err error) {
	t := &theater{o: o, tell: tell}
	if t.fleet, err = form(ctx, nodeCount, gateCount, orders{Patience: o.stalled, LogTo: o.logs, program: o.program}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.fleet.close()) }()
	t.cast()
	if err := t.fleet.warm(ctx, slices.Concat(t.boards, t.floods)); err != nil {
		return err
	}
	t.memory = watchMemory(t.fleet.gates)
	defer t.memory.stop()
	life, end := context.WithCancel(context.Background())
	var living sync.WaitGroup
	defer living.Wait()
	defer end()
	return t.play(ctx, life, &living)
}

// cast makes the readers.
func (t *theater) cast() {
	for i := range t.o.boards {
		t.boards = append(t.boards, fmt.Sprintf("board-%d", i))
	}
	const floods = 4
	for i := range floods {
		t.floods = append(t.floods, fmt.Sprintf("flood-%d", i))
	}
	deaf := int(float64(t.o.readers) * t.o.deaf)
	for i := range t.o.readers {
		r := newReader(int64(i), t.boards[i%len(t.boards)], t.doors(i), &t.delays)
		if r.deaf = i < deaf; r.deaf {
			r.flood = t.floods[i%floods]
			t.deaf = append(t.deaf, r)
		} else {
			t.readers = append(t.readers, r)
		}
	}
}

// doors are the ways of reader i: half of the readers are at each gate, and half of those
// have WebSockets.
func (t *theater) doors(i int) (list []door) {
	for k := range t.fleet.gates {
		m := t.fleet.gates[(i+k)%len(t.fleet.gates)]
		if i/len(t.fleet.gates)%2 == 0 {
			list = append(list, socketDoor{m.orders.HTTP})
		} else {
			list = append(list, streamDoor{m.orders.Listen})
		}
	}
	return list
}

// play is the run, but for its beginning and its end. Who lives does so until life ends.
func (t *theater) play(ctx, life context.Context, living *sync.WaitGroup) error {
	began := time.Now()
	t.enter(life, living, t.readers)
	if err := t.await(ctx, t.readers, nil); err != nil {
		return fmt.Errorf("the readers did not all come in: %w", err)
	}
	t.tell.say("%d readers are in after %.1f s", len(t.readers), time.Since(began).Seconds())
	writing, pens := context.WithCancel(life)
	defer pens()
	w := &writers{fleet: t.fleet, boards: t.boards, rate: t.o.rate, words: ballast(t.o.size)}
	flood := &writers{fleet: t.fleet, boards: t.floods, rate: float64(10 * len(t.floods)), words: ballast(2 << 10)}
	var writers sync.WaitGroup
	writers.Go(func() { w.run(writing) })
	writers.Go(func() { flood.run(writing) })
	err := t.compare(ctx, life)
	if err == nil {
		t.enter(life, living, t.deaf)
		err = t.fail(ctx)
	}
	pens()
	writers.Wait()
	t.tell.say("%d changes were made, %d failed, %d were passed over", w.changed.Load(), w.failed.Load(), w.passed.Load())
	if err != nil {
		return err
	}
	return t.judge(ctx)
}

// enter lets readers live.
func (t *theater) enter(life context.Context, living *sync.WaitGroup, list []*reader) {
	for _, r := range list {
		living.Go(func() { r.run(life) })
	}
}

// compare measures the delays in turns, without and with those who do not read.
func (t *theater) compare(ctx, life context.Context) error {
	var without, with []heard
	for range t.o.turns {
		rest(ctx, time.Second) // what the turn before has left behind
		without = append(without, t.measure(ctx))
		turn, end := context.WithCancel(life)
		var deaf sync.WaitGroup
		t.enter(turn, &deaf, t.deaf)
		rest(ctx, 4*time.Second) // until their windows are full
		with = append(with, t.measure(ctx))
		end()
		deaf.Wait()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if t.o.turns > 0 {
		t.tell.say("delay in ms, medians of %d turns of %v (ranges)", t.o.turns, t.o.turn)
		t.tell.say("without who does not read: %v", spreadOf(without))
		t.tell.say("with %d who do not read:  %v", len(t.deaf), spreadOf(with))
		t.tell.say("p99 with, of without: pushes %.2f, changes %.2f (goal: at most 2)", ratio(with, without, heard.pushes), ratio(with, without, heard.changes))
	}
	return nil
}

// heard is the delays of a turn.
type heard struct{ push, change *meter.Histogram }

func (h heard) pushes() *meter.Histogram  { return h.push }
func (h heard) changes() *meter.Histogram { return h.change }

func (t *theater) measure(ctx context.Context) heard {
	now := time.Now()
	t.delays.pushes.begin(now)
	t.delays.changes.begin(now)
	rest(ctx, t.o.turn)
	return heard{t.delays.pushes.end(), t.delays.changes.end()}
}

func quantile(list []heard, of func(heard) *meter.Histogram, q float64) meter.Spread {
	return meter.SpreadOf(list, func(h heard) float64 { return meter.Micros(of(h).Quantile(q)) / 1000 })
}

func spreadOf(list []heard) string {
	return fmt.Sprintf("pushes p50 %v, p99 %v; changes p50 %v, p99 %v",
		quantile(list, heard.pushes, 0.5), quantile(list, heard.pushes, 0.99), quantile(list, heard.changes, 0.5), quantile(list, heard.changes, 0.99))
}

func ratio(with, without []heard, of func(heard) *meter.Histogram) float64 {
	return quantile(with, of, 0.99).Median / quantile(without, of, 0.99).Median
}

// fail lets faults happen.
func (t *theater) fail(ctx context.Context) error {
	failing, over := context.WithTimeout(ctx, t.o.faults)
	defer over()
	n := &nemesis{fleet: t.fleet, readers: slices.Concat(t.readers, t.deaf), chance: rand.New(rand.NewPCG(t.o.seed, 0)), say: t.tell.say}
	err := n.run(failing)
	if err == nil {
		err = ctx.Err()
	}
	total := 0
	for _, times := range n.done {
		total += times
	}
	t.tell.say("%d faults of %d kinds", total, len(n.done))
	return err
}

// judge waits until everybody knows everything, and says what should not have been.
func (t *theater) judge(ctx context.Context) error {
	began := time.Now()
	asking, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	counts, err := truth(asking, t.fleet, t.boards)
	if err != nil {
		return fmt.Errorf("the boards do not answer again: %w", err)
	}
	late := t.await(ctx, t.readers, counts) // who does not know it is an anomaly
	t.tell.say("everybody who reads knew everything %.1f s after the last fault (%v)", time.Since(began).Seconds(), orAll(late))
	var sum witness.Counts
	var went tally
	var found anomalies
	for _, r := range slices.Concat(t.readers, t.deaf) {
		r.mu.Lock()
		if !r.deaf {
			r.witness.End(counts[r.board])
		}
		for _, text := range r.witness.Anomalies() {
			found = append(found, fmt.Sprintf("reader %d of %s: %s", r.number, r.board, text))
		}
		sum.Add(r.witness.Counts())
		went.refused, went.breaks, went.failed = went.refused+r.tally.refused, went.breaks+r.tally.breaks, went.failed+r.tally.failed
		r.mu.Unlock()
	}
	t.tell.say("%d pushes and %d changes were heard over %d broken connections; %d attempts to connect and %d calls failed",
		sum.Pushes, sum.Changes, went.breaks, went.refused, went.failed)
	t.tell.say("announced: %d losses of pushes, of these %d of a whole session and %d after what came behind them (%v at most); %d snapshots anew",
		sum.Resets, sum.Anew, sum.Late, sum.Latest.Round(time.Millisecond), sum.Again)
	t.tell.say("memory of a gate: %s", t.memory)
	t.tell.say("anomalies: %d", len(found))
	return found.failure()
}

// await waits until all readers know what counts say, or with nil, have come in.
func (t *theater) await(ctx context.Context, list []*reader, counts map[string]int64) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		waiting, why := 0, ""
		for _, r := range list {
			if missing := r.missing(counts); missing != "" {
				waiting++
				why = missing
			}
		}
		if waiting == 0 {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%d of %d readers: %s", waiting, len(list), why)
		}
		rest(ctx, 50*time.Millisecond) // between two looks
	}
}

func orAll(err error) string {
	if err == nil {
		return "all"
	}
	return "but " + err.Error()
}
