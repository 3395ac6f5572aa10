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

// create answers CreateObject on an activation that is live. Only the call that
// brought an unstored object to life has created it.
func (a *activation) create(ctx context.Context, c *call, begun bool) error {
	if !begun || a.stored {
		return fault.New(fault.Exists, "the object exists already")
	}
	if a.keep != object.Volatile {
		if err := a.saveNow(ctx, c.chain, "CreateObject"); err != nil {
			return err
		}
	}
	if on := a.node.on.ObjectCreated; on != nil {
		on(event.ObjectCreated{Type: a.ref.Type, ID: a.ref.ID})
	}
	return a.mayAnswer()
}

// saveNow saves the state on a turn of its own and waits until it is durable.
func (a *activation) saveNow(ctx context.Context, chain callctx.Chain, who string) error {
	h, reentrant, err := a.take(ctx, chain, a.turnFor(who))
	if err != nil {
		return err
	}
	seq, err := a.keepState()
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
	h, reentrant, err := a.take(ctx, c.chain, a.turnFor("DeleteObject"))
	if err != nil {
		return err
	}
	a.mu.Lock()
	fresh := a.keep != object.Volatile && a.save.offer(nil)
	seq := a.save.seq
	a.endLocked("deleted")
	a.mu.Unlock()
	if fresh {
		a.node.commits.enqueue(a)
	}
	a.leave(h, reentrant)
	if err := a.awaitDurable(ctx, seq); err != nil {
		return err
	}
	a.deleted()
	if reentrant || holds(c.chain.Path, a.ref) {
		return nil // the object's own chain: it is gone once that has left
	}
	select {
	case <-a.gone:
	case <-ctx.Done(): // deleted all the same; only OnDestroy may still run
	}
	return nil
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
		fresh := a.save.offer(nil)
		seq := a.save.seq
		a.mu.Unlock()
		if fresh {
			a.node.commits.enqueue(a)
		}
		if err := a.awaitDurable(context.Background(), seq); err != nil {
			return err
		}
	}
	a.deleted()
	return errErased
}

func (a *activation) deleted() {
	if on := a.node.on.ObjectDeleted; on != nil {
		on(event.ObjectDeleted{Type: a.ref.Type, ID: a.ref.ID})
	}
}

// flush saves a periodic object's state if a call may have changed it.
func (a *activation) flush(ctx context.Context) error {
	a.mu.Lock()
	dirty := a.save.dirty
	a.mu.Unlock()
	if !dirty {
		return nil
	}
	return a.saveNow(ctx, callctx.Chain{ID: callctx.NewChainID()}, "SaveAllObjects")
}

// lastFlush saves what a periodic object still has to save when nobody is inside
// any more. Its end does not wait for ever for a store that does not answer.
func (a *activation) lastFlush() {
	a.mu.Lock()
	due := a.save.dirty && a.ending == nil && !a.save.deleted
	a.mu.Unlock()
	if !due || a.obj == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	seq, err := a.keepState()
	if err == nil {
		err = a.awaitDurable(ctx, seq)
	}
	if on := a.node.on.Notice; err != nil && on != nil {
		on(event.Notice{Severity: event.Alarm, From: "node",
			Text: "the last changes of periodic object " + a.ref.String() + " were not saved", Err: err})
	}
}
