package node

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// Bounds of commits with hooks: each holds a connection, and a lock on its fence.
const (
	maxAlone = 8  // of a node, at once
	maxHooks = 64 // of a call
)

// OnCommit implements object.Inside. What the methods of one chain register on the
// object runs in the order of its registration, with the outermost's commit.
func (f *frame) OnCommit(hook object.Hook) error {
	if err := f.addHook(hook); err != nil {
		return fault.Of(err).On("OnCommit", f.act.ref.String())
	}
	return nil
}

func (f *frame) addHook(hook object.Hook) error {
	a := f.act
	path := f.info.Chain.Path
	switch {
	case hook == nil:
		return fault.New(fault.Invalid, "there is no hook")
	case a.keep != object.Durable:
		return fault.New(fault.Invalid, "only a Durable object's method has a commit that it waits for")
	case a.node.commits.tx == nil:
		return fault.New(fault.Invalid, "the store has no transactions to run it in; use SQLite or PostgreSQL")
	case f.hold == nil:
		return fault.New(fault.Invalid, "the type is Concurrent: a commit holds the changes of several methods; make it Sequential")
	case path[len(path)-1].Shared:
		return fault.New(fault.Invalid, "the method is read-only, so that nothing is committed after it")
	case f.over():
		return fault.New(fault.Invalid, "the method has returned")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(f.hold.hooks) >= maxHooks {
		return fault.New(fault.Invalid, "the call has %d hooks already", maxHooks)
	}
	f.hold.hooks = append(f.hold.hooks, hook)
	return nil
}

// hooks takes what is to run in this frame's commit.
func (f *frame) hooks() (hooks []object.Hook) {
	a := f.act
	if f.hold == nil || f.inner || f.panicked || a.keep != object.Durable {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.endingLocked() == nil {
		hooks, f.hold.hooks = f.hold.hooks, nil
	}
	return hooks
}

// settleAlone is settle for a call with hooks. Its state is committed alone: what came
// before is settled first, and because the turn is kept until this is decided, nothing
// comes behind it. The caller's wait ends with ctx, the commit does not.
func (f *frame) settleAlone(ctx context.Context, hooks []object.Hook, reply proto.Message, failed error) (proto.Message, error) {
	f.mu.Lock()
	f.alone = true
	f.mu.Unlock()
	f.act.mu.Lock()
	with := f.gather()
	f.act.mu.Unlock()
	decided := make(chan error, 1)
	f.act.node.running.Go(func() {
		err := error(fault.New(fault.Panicked, "a hook of OnCommit ended its goroutine"))
		ended := false
		defer func() {
			if !ended {
				f.keepNothing(err)
			}
			f.mu.Lock()
			f.alone = false
			f.mu.Unlock()
			f.endRun(f.act.sequence(), nil, err)
			f.act.leave(f.hold, f.reentrant)
			decided <- err
		}()
		err = f.notKept(f.commitAlone(ctx, hooks, with))
		ended = true
	})
	select {
	case err := <-decided:
		if err != nil {
			return nil, err
		}
		return f.answered(reply, failed)
	case <-ctx.Done():
		return nil, fault.Waited(ctx, "the method ran; whether its effects are stored was not known in time").With(fault.OutcomeUnknown)
	}
}

// commitAlone brings the commit to its end. Unless that is good, or not known, nothing
// of the call is kept.
func (f *frame) commitAlone(ctx context.Context, hooks []object.Hook, with records) error {
	a := f.act
	before := a.sequence()
	leave, err := a.node.commits.seat(ctx)
	if err == nil {
		defer leave()
		err = a.awaitDurable(ctx, before)
	}
	var t takeoff
	if err == nil {
		t, err = f.board(with)
	}
	if err != nil {
		f.keepNothing(err)
		return err
	}
	return f.transact(t, f.inOrder(hooks))
}

// takeoff is a save that goes by itself.
type takeoff struct {
	save object.Save
	seq  uint64 // the number of its state
	was  []byte // the newest state before
}

// seat takes one of the places for commits with hooks.
func (c *commits) seat(ctx context.Context) (leave func(), err error) {
	leave = func() { <-c.seats }
	select {
	case c.seats <- struct{}{}: // also for a call whose time is over, since nobody waits
		return leave, nil
	default:
	}
	select {
	case c.seats <- struct{}{}:
		return leave, nil
	case <-ctx.Done():
		return nil, fault.New(fault.Overloaded, "%d commits with OnCommit run on this node, and none ended in time", maxAlone)
	}
}

// sequence is the number of the newest state.
func (a *activation) sequence() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.save.seq
}

// board puts the state that the call left on its way by itself, with its records.
func (f *frame) board(with records) (t takeoff, err error) {
	a := f.act
	a.save.snapshots.Lock()
	defer a.save.snapshots.Unlock()
	data, err := a.snapshot()
	if err != nil {
		return t, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.save
	switch {
	case s.failed != nil:
		return t, s.failed
	case a.endingLocked() != nil:
		return t, a.endingLocked()
	case s.deleted:
		return t, fault.New(fault.Failed, "the call deleted its own object, so there is no commit for its OnCommit")
	}
	s.seq++
	t.seq, t.was = s.seq, s.newest
	s.newest = data
	if !with.none() {
		s.more().with.add(with)
	}
	t.save, _ = s.take(a)
	return t, nil
}

// transact repeats the transaction until the store has said how it ended. Once an end
// is unknown, what a repetition says of the hook says nothing of the copies before it.
func (f *frame) transact(t takeoff, hook object.Hook) error {
	a, c := f.act, f.act.node.commits
	for attempt := 0; ; attempt++ {
		began := time.Now()
		done := asked(c.on, event.StoreCommitWith)
		v, err := c.tx.CommitWith(c.life, a.life.owner, t.save, hook)
		done(err)
		if c.on.CommitDone != nil {
			c.on.CommitDone(event.CommitDone{Objects: 1, Took: time.Since(began), Err: err})
		}
		c.heard(err)
		var failed *object.HookError
		switch {
		case err == nil:
			c.made.Add(1)
			return f.landAlone(t, v, attempt > 0)
		case attempt > 0 && errors.As(err, &failed):
			err = fault.New(fault.StoreFailed, "an earlier attempt of the commit may have taken effect; in the next one, a hook failed: %w", failed.Err)
			a.grounded(err)
			return err
		case errors.As(err, &failed):
			err = hookFault(failed.Err)
		case errors.Is(err, object.ErrNotCommitted) && attempt == 0:
			err = fault.New(fault.StoreFailed, "the commit failed; nothing of it is stored: %w", err).With(fault.NotExecuted)
		default:
			if !c.pauseFor(backoff(attempt)) {
				a.grounded(fault.New(fault.StoreFailed, "this node stopped before the store said whether the commit took effect: %w", err))
				return a.awaitDurable(context.Background(), t.seq)
			}
			continue
		}
		a.mu.Lock()
		a.save.retract(t.was)
		a.mu.Unlock()
		f.keepNothing(err)
		return err
	}
}

// landAlone brings the verdict to the activation, and lets go what waited for a good one.
func (f *frame) landAlone(t takeoff, v object.Verdict, repeated bool) error {
	a := f.act
	flight{act: a, save: t.save}.judge(v, repeated)
	err := a.awaitDurable(context.Background(), t.seq)
	if err == nil {
		a.mu.Lock()
		f.filePushes(t.seq)
		a.mu.Unlock()
		a.sendEffects()
	}
	return err
}

// retract takes a save back that surely did not take effect: the newest state is again
// the one before, which is durable.
func (s *saving) retract(was []byte) {
	s.durable, s.flying, s.newest = s.flying, 0, was
	s.arrived()
	s.openGate()
}

// keepNothing takes back what a call did whose commit surely did not happen: in the
// object where it can be undone, else by ending the activation. It runs on the turn.
func (f *frame) keepNothing(why error) {
	if f.undo != nil && !f.undone {
		f.putBack()
		return
	}
	f.act.grounded(fault.New(fault.StoreFailed, "the commit of the call before failed, and with it went the state that this one would have found: %v", why).With(fault.NotExecuted))
}

// inOrder is one hook that runs all. They may use the transaction, and nothing else.
func (f *frame) inOrder(hooks []object.Hook) object.Hook {
	return func(ctx context.Context, tx object.Tx) (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = f.act.hookPanicked(p)
			}
		}()
		ctx = object.WithRuntime(callctx.With(ctx, &f.info), inHook{})
		for _, hook := range hooks {
			if err := hook(ctx, tx); err != nil {
				return err
			}
		}
		return nil
	}
}

// panickedHook is the error of a hook that panicked.
type panickedHook struct{ value any }

func (e *panickedHook) Error() string { return fmt.Sprintf("it panicked: %v", e.value) }

func (a *activation) hookPanicked(p any) error {
	p = fault.Thrown(p)
	if on := a.node.on.MethodPanicked; on != nil {
		on(event.MethodPanicked{Type: a.ref.Type, ID: a.ref.ID, Method: "OnCommit", Value: p, Stack: debug.Stack()})
	}
	return &panickedHook{p}
}

// hookFault is what a call is told whose hook failed: nothing of it is kept.
func hookFault(err error) *fault.Error {
	var p *panickedHook
	if errors.As(err, &p) {
		return fault.New(fault.Panicked, "a hook of OnCommit panicked, and nothing of the call is kept: %v", p.value)
	}
	return fault.New(fault.Failed, "a hook of OnCommit failed, and nothing of the call is kept: %w", err)
}

var errInHook = fault.New(fault.Invalid, "a hook of OnCommit holds locks in the store: it may use its transaction, and call nobody")

// inHook is the runtime of a hook.
type inHook struct{}

// Call implements object.Runtime: it refuses.
func (inHook) Call(_ context.Context, call object.Call) (object.Payload, error) {
	return object.Payload{}, errInHook.On(call.Op.String(), call.Subject())
}

// Push implements object.Runtime: it refuses.
func (inHook) Push(context.Context, object.Push) error { return errInHook.On("Push", "") }

// mayCall refuses a call by the method's own context from one of its hooks.
func (f *frame) mayCall() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.alone {
		return errInHook
	}
	return nil
}
