package node

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// maxRecentCalls is how many ids of recorded calls an activation remembers.
const maxRecentCalls = 1000

// A ledger knows the calls with an id that ran on an object: those that run in this
// activation, and the ids of the newest that the store has a record of. It is empty
// until the first such call. Its fields belong to the activation's mutex.
type ledger struct {
	reading *reading        // of the ids, while that is under way
	read    bool            // they are here
	recent  map[string]bool // ids that have a record
	order   []string        // the same, the oldest first
	whole   bool            // no other id has a record
	runs    map[string]*run // that run, or whose record is not durable yet
	landing []*run          // those that have ended, in the order of their numbers
}

// reading is one attempt to read the ids.
type reading struct {
	done chan struct{}
	err  error
}

// run is one call with an id while it runs here. Whoever makes the same call joins it.
type run struct {
	id     string
	digest []byte // nil: it settles the id
	chain  callctx.ChainID
	done   chan struct{} // closed when it has ended

	// Set before done is closed.
	reply  proto.Message
	failed error
	seq    uint64 // the reply counts once this number is durable
	ran    bool   // else whoever joined is to try again
	acted  bool   // it did something elsewhere, perhaps
}

// readLedger makes sure that the ids are here. Reading goes on without ctx.
func (a *activation) readLedger(ctx context.Context) error {
	a.mu.Lock()
	if a.save.calls == nil {
		a.save.calls = new(ledger)
	}
	l := a.save.calls
	if l.read {
		a.mu.Unlock()
		return nil
	}
	r := l.reading
	if r == nil {
		r = &reading{done: make(chan struct{})}
		l.reading = r
		a.node.running.Go(func() { a.fillLedger(r) })
	}
	a.mu.Unlock()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return fault.Waited(ctx, "while the ids of earlier calls were read")
	}
}

func (a *activation) fillLedger(r *reading) {
	done := asked(a.node.on, event.StoreRecentCalls)
	ids, all, err := a.node.exactly.RecentCalls(context.Background(), a.ref, maxRecentCalls)
	done(err)
	a.mu.Lock()
	defer a.mu.Unlock()
	defer close(r.done)
	l := a.save.calls
	l.reading = nil
	if err != nil {
		r.err = fault.New(fault.StoreFailed, "the ids of earlier calls could not be read: %w", err).With(fault.NotExecuted)
		return
	}
	l.read, l.whole = true, all
	l.recent, l.runs = make(map[string]bool, len(ids)), map[string]*run{}
	for _, id := range ids { // in whichever order: only the memory of them is bounded by it
		l.remember(id)
	}
}

// remember notes that an id has a record.
func (l *ledger) remember(id string) {
	if l.recent[id] {
		return
	}
	if len(l.order) >= maxRecentCalls {
		delete(l.recent, l.order[0])
		l.order = l.order[1:]
		l.whole = false
	}
	l.recent[id] = true
	l.order = append(l.order, id)
}

// open finds the run of a call's id or begins one, which the caller must end. The id
// may have a record; if asks, the store has to be asked for it.
func (l *ledger) open(c *call, digest []byte) (r *run, mine, asks bool) {
	if r := l.runs[c.id]; r != nil {
		return r, false, false
	}
	r = &run{id: c.id, digest: digest, chain: c.chain.ID, done: make(chan struct{})}
	l.runs[c.id] = r
	return r, true, l.recent[c.id] || !l.whole
}

// landed forgets the runs whose records are durable by now.
func (l *ledger) landed(durable uint64) {
	for len(l.landing) > 0 && l.landing[0].seq <= durable {
		r := l.landing[0]
		l.landing = l.landing[1:]
		l.remember(r.id)
		delete(l.runs, r.id)
	}
}

// landing says how long a run that has ended stays in the ledger.
type landing uint8

const (
	landsNever     landing = iota // it is not on its way to the store, or is there: no longer
	landsLater                    // until its number is durable
	landsWithOuter                // until the outer call of its chain is kept
)

// endRun tells those who joined what the run came to, once.
func (a *activation) endRun(r *run, lands landing) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if isClosed(r.done) {
		return
	}
	l := a.save.calls
	switch lands {
	case landsLater:
		l.landing = append(l.landing, r)
		l.landed(a.save.durable)
	case landsNever:
		delete(l.runs, r.id)
	}
	close(r.done)
}

// noteLanded lets go of the runs whose records are durable by now.
func (a *activation) noteLanded() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.save.calls.landed(a.save.durable)
}

// join waits for the run of the same id to end, and for its record to be durable. It
// tells whether the run counts; else the call may be made.
func (a *activation) join(ctx context.Context, c *call, r *run, digest []byte) (reply proto.Message, counts bool, err error) {
	if err := a.awaitRun(ctx, c, r); err != nil {
		return nil, true, err
	}
	if !r.ran {
		return nil, false, nil
	}
	if err := sameCall(r.digest, digest); err != nil { // a record that it found may be another call's
		return nil, true, err
	}
	if r.seq > 0 {
		if err := a.awaitDurable(ctx, r.seq); err != nil {
			return nil, true, unkept(err, r.acted)
		}
	}
	c.replay = true
	return r.reply, true, r.failed
}

// awaitRun is a wait for whoever is inside, as a queued call's is. Where the run is a
// branch of the same chain, it is running code that is waited for.
func (a *activation) awaitRun(ctx context.Context, c *call, r *run) error {
	var withdrawn chan struct{}
	w := &waiter{act: a, call: a.turnFor(c.name()), chain: c.chain.ID, path: c.chain.Path, ctx: ctx, done: make(chan struct{})}
	switch {
	case len(c.chain.Path) == 0:
	case r.chain != c.chain.ID:
		if circle := a.node.waits.add(w); circle != nil {
			return circle
		}
		withdrawn = w.done
		defer a.node.waits.remove(w)
		defer a.node.keepProbing(w)()
	case holds(c.chain.Path, a.ref):
		return &fault.Error{Kind: fault.Cycle, Path: pathOf(c.chain.Path, w.call), Err: errOwnID}
	}
	since := c.stay.pause()
	defer c.stay.resume(since)
	select {
	case <-r.done:
		return nil
	case <-withdrawn:
		return w.err
	case <-ctx.Done():
		return fault.Waited(ctx, "a call with this id still runs").With(fault.OutcomeUnknown)
	}
}

var errOwnID = errors.New("the call has the id of a call that it is a part of")

// findCall is the store's record of a call, or nil.
func (a *activation) findCall(ctx context.Context, id string) (*object.CallRecord, error) {
	done := asked(a.node.on, event.StoreFindCall)
	record, err := a.node.exactly.FindCall(ctx, a.ref, id)
	if errors.Is(err, object.ErrNotStored) {
		done(nil)
		return nil, nil
	}
	done(err)
	switch {
	case ctx.Err() != nil && err != nil:
		return nil, fault.Waited(ctx, "while the record of the call was looked for")
	case err != nil:
		return nil, fault.New(fault.StoreFailed, "the record of the call could not be read: %w", err).With(fault.NotExecuted)
	}
	return &record, nil
}

// resultRetention is how long the result of a call is kept. An id that tells its own
// time is taken for an hour less, so that no record that may be gone is missed.
const (
	resultRetention = 24 * time.Hour
	maxCallIDAge    = resultRetention - time.Hour
	maxCallIDAhead  = 5 * time.Minute
)
