package node

import (
	"context"
	"errors"
	"time"

	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// errErased ends the Loading of an object that was not active and is deleted.
var errErased = errors.New("erased")

// create brings an object to life and stores it. It is part of Loading: until it is
// durable nobody can call it, or learn that it exists.
func (a *activation) create() error {
	err := a.bear()
	if err != nil || a.stored || a.keep == object.Volatile {
		return err
	}
	seq, err := a.keepState(records{})
	if err != nil {
		return err
	}
	return a.awaitDurable(context.Background(), seq)
}

// created answers CreateObject on an activation that is live. Only the call that
// brought an unstored object to life has created it. stood says that this node was
// trusted when the answer had come true.
func (a *activation) created(ctx context.Context, c *call, begun, stood bool) error {
	if !begun || a.stored {
		if a.isEnding() && !holds(c.chain.Path, a.ref) {
			return errMovedOn // what exists now shows once it has ended
		}
		if err := a.maySay(ctx, stood); err != nil {
			return fault.Of(err).With(fault.NotExecuted)
		}
		return fault.New(fault.Exists, "the object exists already")
	}
	if on := a.node.on.ObjectCreated; on != nil {
		on(event.ObjectCreated{Type: a.ref.Type, ID: a.ref.ID})
	}
	if a.keep == object.Volatile {
		return a.maySay(ctx, stood)
	}
	return nil
}

// saveNow saves the state on a turn of its own and waits until it is durable.
func (a *activation) saveNow(ctx context.Context, chain callctx.Chain, turn callctx.Turn) error {
	h, reentrant, err := a.take(ctx, &call{chain: chain, own: true}, turn)
	if err != nil {
		return err
	}
	seq, err := a.keepState(records{})
	a.leave(h, reentrant)
	if err != nil {
		a.doom("its state could not be saved", err)
		return err
	}
	return a.awaitDurable(ctx, seq)
}

func (a *activation) turnFor(who string) callctx.Turn {
	return callctx.Turn{Type: a.ref.Type, ID: a.ref.ID, Method: who, Shard: a.life.shard, Epoch: a.life.epoch}
}

// delete answers DeleteObject on an activation that is live. Behind the deletion
// nothing of it is saved any more, not even what a method that deletes its own
// object does afterwards.
func (a *activation) delete(ctx context.Context, c *call) error {
	h, reentrant, err := a.take(ctx, c, a.turnFor("DeleteObject"))
	if err != nil {
		return err
	}
	if err := a.refuseOwnEnd(c.chain); err != nil {
		a.leave(h, reentrant)
		return err
	}
	a.end("deleted")
	seq, err := a.offerDeletion()
	stood := a.life.trusted() // behind the turn the shard may go, and the lease with it
	a.leave(h, reentrant)
	if err == nil {
		err = a.awaitDurable(ctx, seq)
	}
	if err == nil {
		err = a.maySay(ctx, stood)
	}
	if err != nil {
		return err
	}
	a.deleted()
	if !reentrant && !holds(c.chain.Path, a.ref) { // its own chain is inside it
		// It is deleted, whatever becomes of this wait for its end.
		_ = a.awaitGone(ctx, c.chain, a.turnFor(c.name()), nil)
	}
	return nil
}

// offerDeletion hands over the object's end as its last state and tells its number.
func (a *activation) offerDeletion() (seq uint64, err error) {
	if a.keep == object.Volatile {
		return 0, nil
	}
	a.mu.Lock()
	fresh := a.save.offer(nil, records{})
	seq, err = a.save.seq, a.save.failed
	a.mu.Unlock()
	if fresh {
		a.node.commits.enqueue(a)
	}
	return seq, err
}

// erase deletes an object that is not active without bringing it to life.
func (a *activation) erase() error {
	record, err := a.node.read(a)
	if err != nil {
		return err
	}
	if record.Data != nil {
		a.mu.Lock()
		a.save.version, a.save.newest = record.Version, record.Data
		a.mu.Unlock()
		seq, err := a.offerDeletion()
		if err == nil {
			err = a.awaitDurable(context.Background(), seq)
		}
		if err != nil {
			return err
		}
	} else if err := a.mayAnswer(context.Background()); err != nil { // bounded by itself
		return err
	}
	a.deleted()
	return errErased
}

func (a *activation) deleted() {
	if on := a.node.on.ObjectDeleted; on != nil {
		on(event.ObjectDeleted{Type: a.ref.Type, ID: a.ref.ID})
	}
}

// flush saves a periodic object's state if a call may have changed it, and waits
// until it is durable. One that is ending saves itself.
func (a *activation) flush(ctx context.Context) error {
	if a.keep.Interval() == 0 {
		return nil
	}
	a.mu.Lock()
	dirty, seq := a.save.dirty, a.save.seq
	a.mu.Unlock()
	if !dirty {
		return a.awaitDurable(ctx, seq)
	}
	chain := callctx.Chain{ID: callctx.NewChainID()}
	turn := a.turnFor("SaveAllObjects")
	err := a.saveNow(ctx, chain, turn)
	switch {
	case errors.Is(err, errMovedOn):
		return a.awaitGone(ctx, chain, turn, nil)
	case errors.Is(err, errAside): // its shard is on its way, with everything saved
		return nil
	}
	return err
}

// flushIfFree saves a periodic object that nobody uses, and waits for nothing.
func (a *activation) flushIfFree() {
	h, ok := a.tryTake()
	if !ok {
		return
	}
	_, err := a.keepState(records{})
	a.leave(h, false)
	if err != nil {
		a.doom("its state could not be saved", err)
	}
}

// lastFlush saves what a periodic object still has to save when nobody is inside
// any more. Its end does not wait for ever for a store that does not answer.
func (a *activation) lastFlush() {
	if a.keep == object.Volatile {
		return
	}
	a.mu.Lock()
	due := a.save.dirty && a.endingLocked() == nil && !a.save.deleted
	a.mu.Unlock()
	if !due || a.obj == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var err error
	for attempt := 0; ; attempt++ {
		var seq uint64
		if seq, err = a.keepState(records{}); err == nil {
			err = a.awaitDurable(ctx, seq)
		}
		if !errors.Is(err, object.ErrNotCommitted) || ctx.Err() != nil {
			break
		}
		pause(ctx, backoff(attempt)) // the store may come back
	}
	if on := a.node.on.Notice; err != nil && on != nil {
		on(event.Notice{Severity: event.Alarm, From: "node",
			Text: "the last changes of periodic object " + a.ref.String() + " were not saved", Err: err})
	}
}
