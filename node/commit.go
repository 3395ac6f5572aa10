package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// Bounds of one group commit.
const (
	maxBatchObjects = 256
	maxBatchBytes   = 1 << 20
)

// commits is the group commit: a lane collects what is to be saved while its
// previous commit is on its way, and waits for nothing when it is idle.
type commits struct {
	on    event.Listener
	store object.FencedProvider
	heard func(error)    // is told of every error of the store's
	made  *atomic.Uint64 // transactions
	lanes []*lane

	tx     object.TxProvider  // the store, if it has transactions
	keeper object.FenceKeeper // the store, if it may say who the holder is
	seats  chan struct{}      // commits with hooks that run
	life   context.Context    // until run has ended
	end    context.CancelFunc
}

// lane commits one batch at a time. A shard belongs to one lane, so its fence is
// locked by one commit at a time.
type lane struct {
	wake  chan struct{} // holds one token when the queue may not be empty
	polls polls

	mu      sync.Mutex
	queue   []*activation
	stopped bool
}

func newCommits(store object.FencedProvider, keeper object.FenceKeeper, on event.Listener, made *atomic.Uint64) *commits {
	c := &commits{store: store, keeper: keeper, on: on, made: made, seats: make(chan struct{}, maxAlone)}
	c.tx, _ = store.(object.TxProvider)
	c.life, c.end = context.WithCancel(context.Background())
	for range max(1, store.Lanes()) {
		c.lanes = append(c.lanes, &lane{wake: make(chan struct{}, 1), polls: polls{wake: make(chan struct{}, 1)}})
	}
	return c
}

// enqueue brings an activation whose state waits to its lane. An activation with a
// save on its way comes again when that lands.
func (c *commits) enqueue(a *activation) {
	a.mu.Lock()
	busy := a.save.flying != 0
	a.mu.Unlock()
	if busy {
		return
	}
	l := c.lanes[a.life.shard%len(c.lanes)]
	l.mu.Lock()
	stopped := l.stopped
	if !stopped {
		l.queue = append(l.queue, a)
	}
	l.mu.Unlock()
	if stopped {
		a.grounded(errStopped)
		return
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run works the lanes until ctx ends.
func (c *commits) run(ctx context.Context) {
	defer context.AfterFunc(ctx, c.end)()
	defer c.end()
	var all sync.WaitGroup
	for _, l := range c.lanes {
		all.Go(func() { c.work(ctx, l) })
		if c.keeper != nil {
			all.Go(func() { l.polls.answer(ctx, c.on, c.keeper) })
		}
	}
	all.Wait()
}

func (c *commits) work(ctx context.Context, l *lane) {
	for {
		batch := l.batch()
		if len(batch) == 0 {
			select {
			case <-l.wake:
				continue
			case <-ctx.Done():
				l.stop()
				return
			}
		}
		c.commit(ctx, batch)
		l.gather()
	}
}

// gather lets those run whom the last commit has let go. Many come back with their next
// call at once: together with those who waited meanwhile they make one batch, where they
// would take turns with them otherwise, each group as long as both take together. Nobody
// waits for anyone who does not run already.
func (l *lane) gather() {
	for before, now := 0, l.waiting(); now != before && now < maxBatchObjects; {
		runtime.Gosched()
		before, now = now, l.waiting()
	}
}

func (l *lane) waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.queue)
}

var errStopped = fault.New(fault.StoreFailed, "this node stopped before the state was saved").With(fault.NotExecuted)

// stop refuses what would be saved from now on.
func (l *lane) stop() {
	l.mu.Lock()
	l.stopped = true
	left := l.queue
	l.queue = nil
	l.mu.Unlock()
	for _, a := range left {
		a.grounded(errStopped)
	}
}

// flight is one activation's save within a batch.
type flight struct {
	act    *activation
	save   object.Save
	oldest time.Time // the oldest change in it that was answered already
}

// batch takes what may be committed next: of one owner, bounded in number and size.
func (l *lane) batch() (batch []flight) {
	var settled []*activation // without a save; their effects may leave
	defer func() {
		for _, a := range settled {
			a.sendEffects()
		}
	}()
	l.mu.Lock()
	defer l.mu.Unlock()
	bytes := 0
	for len(l.queue) > 0 && len(batch) < maxBatchObjects && bytes < maxBatchBytes {
		a := l.queue[0]
		if len(batch) > 0 && batch[0].act.life.owner != a.life.owner {
			break
		}
		l.queue = l.queue[1:]
		a.mu.Lock()
		if a.save.waiting && a.save.flying == 0 {
			if save, needed := a.save.take(a); needed {
				batch = append(batch, flight{a, save, a.save.oldest()})
				bytes += sizeOf(&save)
			} else {
				settled = append(settled, a)
			}
			a.settleRest()
		}
		a.mu.Unlock()
	}
	return batch
}

func sizeOf(save *object.Save) int {
	size := len(save.Data)
	for i := range save.Calls {
		size += len(save.Calls[i].Result)
	}
	for i := range save.Effects {
		size += len(save.Effects[i].Payload)
	}
	return size
}

// commit brings one batch to its verdicts. An unknown outcome is repeated
// unchanged until the store answers: the version lets at most one copy in. Once one
// is unknown, that a repetition surely failed says nothing of the copies before it.
func (c *commits) commit(ctx context.Context, batch []flight) {
	saves := make([]object.Save, len(batch))
	for i, f := range batch {
		saves[i] = f.save
	}
	for attempt := 0; ; attempt++ {
		began := time.Now()
		done := asked(c.on, event.StoreCommit)
		verdicts, err := c.store.Commit(ctx, batch[0].act.life.owner, saves)
		done(err)
		if c.on.CommitDone != nil {
			c.on.CommitDone(event.CommitDone{Objects: len(saves), Took: time.Since(began), Err: err, Window: lossWindow(batch, time.Now())})
		}
		c.heard(err)
		switch {
		case err == nil:
			c.made.Add(1)
			for i, f := range batch {
				f.judge(verdictOf(verdicts, i, len(batch)), attempt > 0)
			}
			return
		case errors.Is(err, object.ErrNotCommitted) && attempt == 0:
			for _, f := range batch {
				f.act.notCommitted(err)
			}
			return
		}
		if !pause(ctx, backoff(attempt)) {
			for _, f := range batch {
				f.act.grounded(fault.New(fault.StoreFailed, "this node stopped before the store said whether the commit took effect: %w", err))
			}
			return
		}
	}
}

// verdictOf is the verdict of the save at i. A store that does not give one for each
// save has said nothing.
func verdictOf(verdicts []object.Verdict, i, saves int) object.Verdict {
	if len(verdicts) != saves {
		return object.Verdict{Kind: object.Uncertain, Err: fmt.Errorf("the store gave %d verdicts for %d saves", len(verdicts), saves)}
	}
	return verdicts[i]
}

// judge brings a save's verdict to its activation. repeated says that copies of it
// were sent before, whose end the store never told.
func (f flight) judge(v object.Verdict, repeated bool) {
	a := f.act
	outcome := fault.NotExecuted
	if repeated {
		outcome = fault.OutcomeUnknown
	}
	switch v.Kind {
	case object.Committed:
		if next := f.save.Base + 1; v.Version != next && (f.save.Data != nil || v.Version != f.save.Base) {
			a.grounded(fault.New(fault.StoreFailed, "the store answered a save of version %d with version %d", next, v.Version))
			return
		}
		a.committed(v.Version)
	case object.FenceLost:
		a.slot.lostFence(a.node, a.life) // first, so that nobody who hears of it is let in again
		a.grounded(fault.New(fault.Fenced, "the store gave shard %d to another holder", a.life.shard))
	case object.Conflict:
		a.grounded(fault.New(fault.StoreFailed, "the stored record was changed by somebody else; the call's effects are not stored").With(outcome))
	case object.Rejected:
		if kind := fault.KindOf(v.Err); kind == fault.Invalid || kind == fault.TooLarge {
			a.grounded(unstorable(kind, v.Err))
			return
		}
		if errors.Is(v.Err, object.ErrCallRecorded) { // made again, the call gets that record
			a.grounded(fault.New(fault.Indeterminate, "nothing of the call is stored, because there is a record of one with an id that was saved with it: %w", v.Err))
			return
		}
		a.grounded(fault.New(fault.StoreFailed, "the store refuses the state; the call's effects are not stored: %w", v.Err).With(fault.NotExecuted))
	default:
		a.grounded(fault.New(fault.StoreFailed, "the store failed, and the call's effects may be stored or not: %w", v.Err))
	}
}

// backoff is 10 ms doubling to 1 s, with jitter of half.
func backoff(attempt int) time.Duration {
	d := min(time.Second, 10*time.Millisecond<<min(attempt, 7))
	return d/2 + rand.N(d/2)
}

// pauseFor waits before something is tried again; false: the lanes have ended.
func (c *commits) pauseFor(d time.Duration) bool { return pause(c.life, d) }
