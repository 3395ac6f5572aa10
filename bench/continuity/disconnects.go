package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// guests is how many clients come and go at once, each under a name that no other has then.
const guests = 64

// showDisconnects has clients hang up in the midst of what is pushed to them, beside
// others who stay.
func showDisconnects(ctx context.Context, o options, tell *teller) (err error) {
	f, err := form(ctx, 1, 1, orders{Resume: 2 * time.Second, LogTo: o.logs, program: o.program})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	t := &theater{o: options{readers: 40, boards: 4}, tell: tell, fleet: f}
	t.cast()
	if err := f.warm(ctx, t.boards); err != nil {
		return err
	}
	empty, err := f.gates[0].state(ctx) // but for the writers' session
	if err != nil {
		return err
	}
	life, end := context.WithCancel(context.Background())
	var living sync.WaitGroup
	defer living.Wait()
	defer end()
	t.enter(life, &living, t.readers)
	if err := t.await(ctx, t.readers, nil); err != nil {
		return err
	}
	before, err := f.gates[0].state(ctx)
	if err != nil {
		return err
	}
	writing, pens := context.WithCancel(life)
	w := &writers{fleet: f, boards: t.boards, rate: 100, words: ballast(100)}
	var writers sync.WaitGroup
	writers.Go(func() { w.run(writing) })
	began := time.Now()
	heard, err := t.entertain(ctx, o.disconnects)
	tell.say("%d clients came, heard %d words and hung up in %.1f s, %d at once; %d changes meanwhile", o.disconnects, heard, time.Since(began).Seconds(), guests, w.changed.Load())
	pens()
	writers.Wait()
	if err == nil {
		err = t.undisturbed(ctx)
	}
	return errors.Join(err, t.nothingLeft(ctx, empty, before, func() { end(); living.Wait() }))
}

// entertain has n guests come and go.
func (t *theater) entertain(ctx context.Context, n int) (heard int64, err error) {
	var next, words atomic.Int64
	failures := make(chan error, guests)
	var coming sync.WaitGroup
	for name := range guests {
		coming.Go(func() {
			for i := next.Add(1); i <= int64(n) && ctx.Err() == nil; i = next.Add(1) {
				had, err := t.visit(ctx, name, int(i))
				if err != nil {
					failures <- fmt.Errorf("client %d: %w", i, err)
					return
				}
				words.Add(int64(had))
			}
		})
	}
	coming.Wait()
	close(failures)
	for one := range failures {
		err = errors.Join(err, one)
	}
	return words.Load(), errors.Join(err, ctx.Err())
}

// visit is the life of guest i. It joins a board, hears a few words at most, and is gone.
func (t *theater) visit(ctx context.Context, name, i int) (heard int, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	l, _, err := greet(ctx, t.doors(i)[0], greeting{plain: i/4%2 == 0})
	if err != nil {
		return 0, err
	}
	defer l.hangUp()
	defer context.AfterFunc(ctx, l.hangUp)()
	l.say(ask{kind: "call", number: 1, method: "Join", board: t.boards[i%len(t.boards)], reader: int64(1000 + name)})
	for heard < i%7 {
		words, err := l.hear()
		if err != nil {
			return heard, fmt.Errorf("behind %d words: %w", heard, err)
		}
		heard += len(words)
	}
	if i%5 == 0 {
		l.leave()
	}
	return heard, nil
}

// undisturbed says what those who stayed have lost.
func (t *theater) undisturbed(ctx context.Context) error {
	counts, err := truth(ctx, t.fleet, t.boards)
	if err != nil {
		return err
	}
	late := t.await(ctx, t.readers, counts)
	var found anomalies
	for _, r := range t.readers {
		r.mu.Lock()
		r.witness.End(counts[r.board])
		found = append(found, r.witness.Anomalies()...)
		if c := r.witness.Counts(); c.Resets+c.Again+r.tally.breaks > 0 {
			found = append(found, fmt.Sprintf("reader %d was disturbed: %+v, %+v", r.number, c, r.tally))
		}
		r.mu.Unlock()
	}
	t.tell.say("%d clients stayed; anomalies: %d", len(t.readers), len(found))
	return errors.Join(late, found.failure())
}

// slack is goroutines that the runtime and the connections to nodes have now and then.
const slack = 10

// nothingLeft waits until the gate has no more than before the guests came, and when all
// have left, no more than when it was empty.
func (t *theater) nothingLeft(ctx context.Context, empty, before state, leave func()) error {
	gate := t.fleet.gates[0]
	after, err := settled(ctx, gate, before)
	if err != nil {
		return err
	}
	leave()
	last, err := settled(ctx, gate, empty)
	t.tell.say("the gate had %v, then %v; and when all had left %v; %d MiB", before, after, last, resident(gate.alive().PID())>>20)
	return err
}

// settled waits until a gate has no more than before.
func settled(ctx context.Context, gate *member, before state) (s state, err error) {
	for began := time.Now(); ; rest(ctx, 50*time.Millisecond) { // between two looks at a process
		if s, err = gate.state(ctx); err != nil || s.Sessions <= before.Sessions && s.Goroutines <= before.Goroutines+slack {
			return s, err
		}
		if ctx.Err() != nil || time.Since(began) > patience {
			return s, fmt.Errorf("%s had %v, and still has %v", gate.name, before, s)
		}
	}
}
