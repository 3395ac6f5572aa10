package node

import (
	"context"
	"slices"
	"time"

	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// A turnstile gives out the turns of one activation: FIFO, bounded, and honouring
// the caller's context. Its fields belong to the activation's mutex.
//
// Chains make it re-entrant. A chain that calls out of a method lends its turn to
// itself: a call of the same chain runs at once while the lender waits. Within an
// exclusive hold one frame's code runs at a time; the others stand in its line. A
// chain never waits for itself, because whoever stands in the line waits only for
// running code. A call back comes in only while the method that its path names is
// still inside: see stray.go.
type turnstile struct {
	excl     *hold  // at most one, and then shared is empty
	shared   *hold  // one for each chain, linked by next
	inside   int    // frames inside in Concurrent mode, where everyone enters
	uses     uint64 // how often someone left who may have changed the object
	*backlog        // nil while nobody has waited since the turnstile was at rest
}

// backlog is who waits.
type backlog struct {
	queue []*waiter // in order of arrival
	bytes int       // of their requests
	codel codel
}

// hold is the turn of one chain on one activation, from its outermost frame's
// entry until its last frame has left.
type hold struct {
	chain     callctx.ChainID
	exclusive bool
	frames    int            // the outermost and the re-entrants
	outerGone bool           // the outermost frame has left
	busy      bool           // exclusive: some frame's code is running
	line      []*waiter      // exclusive: frames of the chain that wait for busy to end
	pushes    []*encodedPush // of re-entrants, behind the outermost frame's commit
	hooks     []object.Hook  // of all its frames, for that commit
	rare      *rareHold      // nil mostly
	since     time.Duration  // it is held; 0: nobody wants to know
	next      *hold          // shared: of another chain
}

// rareHold is what few chains leave behind, for the outermost frame.
type rareHold struct {
	sends []sent // of re-entrants, to be recorded with the outermost frame's state
	runs  []*run // of re-entrants, until that state is handed over
}

func (h *hold) more() *rareHold {
	if h.rare == nil {
		h.rare = new(rareHold)
	}
	return h.rare
}

// waiter is a call that waits for a turn, or a frame that waits for its code's turn.
// Its settled field belongs to the mutex of act.
type waiter struct {
	act     *activation
	call    callctx.Turn
	chain   callctx.ChainID
	path    []callctx.Turn
	shared  bool
	parks   bool // a root call: it can wait at the slot instead
	weight  int  // bytes of its request
	ctx     context.Context
	room    *hold         // for its turn; nil: none yet
	since   time.Duration // in the queue
	settled bool          // it was let in or sent away
	hold    *hold         // set when let in
	err     error         // set when sent away
	done    chan struct{} // closed when settled
}

func (w *waiter) settle(h *hold, err error) {
	w.settled, w.hold, w.err = true, h, err
	close(w.done)
}

// take waits for a turn for c, which is what call says. The hold is nil in Concurrent
// mode. The second result tells a re-entrant from an outermost frame. One that parks
// is sent away with errAside while the activation's door is shut for it.
func (a *activation) take(ctx context.Context, c *call, call callctx.Turn) (h *hold, reentrant bool, err error) {
	chain, parks := c.chain, c.parks()
	back := holds(chain.Path, a.ref)
	a.mu.Lock()
	t := &a.turns
	if back {
		if err := a.strayLocked(chain); err != nil {
			a.mu.Unlock()
			return nil, false, err
		}
	}
	// Only a branch that wants to change what another branch of its chain reads stands
	// in the queue like anyone.
	if h := t.heldBy(chain.ID); h != nil && (h.exclusive || call.Shared || back) {
		return a.reenterUnlock(ctx, h, chain, call)
	}
	if a.free() && back {
		t.inside++ // also into one that is closing: the chain is inside already
		a.mu.Unlock()
		return nil, false, nil
	}
	if err := a.refusal(parks); err != nil {
		a.mu.Unlock()
		return nil, false, err
	}
	if a.free() {
		t.inside++
		a.mu.Unlock()
		return nil, false, nil
	}
	if h := t.enter(chain.ID, call.Shared, c.room, c.at); h != nil {
		a.mu.Unlock()
		return h, false, nil
	}
	if c.weight == 0 { // a large request takes its time, and few have to wait
		a.mu.Unlock()
		c.weigh()
		return a.take(ctx, c, call)
	}
	if why := t.crowded(a.typ.MaxQueue, c.weight); why != nil && (parks || !t.displace(a.typ.MaxQueue, c.weight, why)) {
		a.mu.Unlock()
		return nil, false, why
	}
	w := &waiter{act: a, call: call, chain: chain.ID, path: chain.Path, shared: call.Shared, parks: parks, weight: c.weight,
		ctx: ctx, room: c.room, since: a.node.executions.now(), done: make(chan struct{})}
	t.add(w)
	a.mu.Unlock()
	since, heads := c.stay.pause(), a.node.headsOf(a.typ)
	heads.queued.Add(1)
	span := a.node.stretch(ctx, c, callctx.Waiting)
	h, err = a.await(ctx, w)
	end(span, err)
	a.node.awaited(w, err)
	heads.queued.Add(-1)
	c.stay.resume(since)
	return h, false, err
}

// tryTake takes a turn of its own if that takes no waiting.
func (a *activation) tryTake() (h *hold, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := &a.turns
	switch {
	case a.state >= closing, a.door == doorShut:
		return nil, false
	case a.free():
		t.inside++
		return nil, true
	}
	h = t.enter(callctx.NewChainID(), false, nil, 0)
	return h, h != nil
}

// await waits in the queue. The wait is known to the node's wait graph, which
// refuses one that would close a circle.
func (a *activation) await(ctx context.Context, w *waiter) (*hold, error) {
	if len(w.path) > 0 {
		if circle := a.node.waits.add(w); circle != nil {
			a.withdraw(w, circle)
		}
		defer a.node.waits.remove(w)
		defer a.node.keepProbing(w)()
	}
	select {
	case <-w.done:
	case <-ctx.Done():
		a.withdraw(w, fault.Waited(ctx, "while waiting for a turn"))
	}
	<-w.done
	return w.hold, w.err
}

// awaitGone waits until an activation that is ending has ended, so that its object
// can begin anew, or until changed. It waits for those inside, as a queued call does.
func (a *activation) awaitGone(ctx context.Context, chain callctx.Chain, call callctx.Turn, changed <-chan struct{}) error {
	if len(chain.Path) > 0 {
		w := &waiter{act: a, call: call, chain: chain.ID, path: chain.Path}
		if circle := a.node.waits.add(w); circle != nil {
			return circle
		}
		defer a.node.waits.remove(w)
	}
	select {
	case <-a.gone():
		return nil
	case <-changed:
		return nil
	case <-ctx.Done():
		return fault.Waited(ctx, "while the object's previous activation ended")
	}
}

// holds says that the path has a turn of ref.
func holds(path []callctx.Turn, ref object.Ref) bool {
	return slices.ContainsFunc(path, func(t callctx.Turn) bool { return t.Type == ref.Type && t.ID == ref.ID })
}

// withdraw sends w away unless it was settled in the meantime.
func (a *activation) withdraw(w *waiter, why error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if w.settled {
		return
	}
	t := &a.turns
	if i := slices.Index(t.waiting(), w); i >= 0 {
		t.remove(i)
	}
	if h := t.heldBy(w.chain); h != nil {
		if i := slices.Index(h.line, w); i >= 0 {
			h.line = slices.Delete(h.line, i, i+1)
			h.frames--
		}
	}
	w.settle(nil, why)
	a.admit() // those behind w may go now
}

// reenterUnlock lets a call of the holding chain in. It unlocks a.mu.
func (a *activation) reenterUnlock(ctx context.Context, h *hold, chain callctx.Chain, call callctx.Turn) (*hold, bool, error) {
	if !h.exclusive {
		defer a.mu.Unlock()
		if !call.Shared {
			return nil, false, &fault.Error{Kind: fault.Cycle, Path: pathOf(chain.Path, call),
				Err: errSharedReentry}
		}
		h.frames++
		return h, true, nil
	}
	h.frames++
	if !h.busy {
		h.busy = true
		a.mu.Unlock()
		return h, true, nil
	}
	w := &waiter{act: a, call: call, chain: chain.ID, path: chain.Path, done: make(chan struct{})}
	h.line = append(h.line, w)
	a.mu.Unlock()
	select {
	case <-w.done:
	case <-ctx.Done():
		a.withdraw(w, fault.Waited(ctx, "while waiting for the chain's turn"))
	}
	<-w.done
	return w.hold, true, w.err
}

// lend gives the running frame's turn to its chain while the frame calls out.
func (a *activation) lend(h *hold) {
	if h == nil || !h.exclusive {
		return
	}
	a.mu.Lock()
	h.pass()
	a.mu.Unlock()
}

// reclaim waits until no other frame of the chain runs and takes the turn back. It
// does not end with a context: the code behind it goes on in any case.
func (a *activation) reclaim(h *hold) {
	if h == nil || !h.exclusive {
		return
	}
	a.mu.Lock()
	if !h.busy {
		h.busy = true
		a.mu.Unlock()
		return
	}
	w := &waiter{act: a, chain: h.chain, done: make(chan struct{})}
	h.line = append(h.line, w)
	a.mu.Unlock()
	<-w.done
}

// leave ends a frame's stay. The last frame of a hold lets the next call in.
func (a *activation) leave(h *hold, reentrant bool) {
	a.mu.Lock()
	last := a.leaveLocked(h, reentrant)
	a.mu.Unlock()
	if last && h.since > 0 {
		a.node.turned(a.typ, h, a.node.executions.now())
	}
}

// leaveLocked tells whether h is given up. a.mu is held.
func (a *activation) leaveLocked(h *hold, reentrant bool) (last bool) {
	t := &a.turns
	if h == nil || h.exclusive {
		t.uses++
	}
	if h == nil {
		t.inside--
		a.settleRest()
		return false
	}
	h.frames--
	h.outerGone = h.outerGone || !reentrant
	if h.exclusive {
		h.pass()
	}
	if h.frames > 0 {
		return false
	}
	t.drop(h)
	a.admit()
	if t.atRest() {
		t.backlog = nil
	}
	a.settleRest()
	return true
}

// pass lets the first frame in line run, if any. The caller's frame was running.
func (h *hold) pass() {
	h.busy = len(h.line) > 0
	if h.busy {
		w := h.line[0]
		h.line = h.line[1:]
		w.settle(h, nil)
	}
}

func (t *turnstile) heldBy(chain callctx.ChainID) *hold {
	if t.excl != nil && t.excl.chain == chain {
		return t.excl
	}
	for h := t.shared; h != nil; h = h.next {
		if h.chain == chain {
			return h
		}
	}
	return nil
}

// enter lets a chain in if that takes no waiting and overtakes nobody.
// The hold is made in room, if there is one, and is held since at.
func (t *turnstile) enter(chain callctx.ChainID, shared bool, room *hold, at time.Duration) *hold {
	if t.excl != nil || len(t.waiting()) > 0 || (!shared && t.shared != nil) {
		return nil
	}
	return t.open(chain, shared, room, at)
}

func (t *turnstile) open(chain callctx.ChainID, shared bool, h *hold, at time.Duration) *hold {
	if h == nil {
		h = new(hold)
	}
	h.chain, h.exclusive, h.frames, h.busy, h.since = chain, !shared, 1, !shared, at
	if shared {
		h.next, t.shared = t.shared, h
	} else {
		t.excl = h
	}
	return h
}

func (t *turnstile) drop(h *hold) {
	if t.excl == h {
		t.excl = nil
		return
	}
	for at := &t.shared; *at != nil; at = &(*at).next {
		if *at == h {
			*at, h.next = h.next, nil
			return
		}
	}
}

// admit lets in all who may enter now: those at the head of the queue, or as a queue
// that stands has it. a.mu is held.
func (a *activation) admit() {
	t := &a.turns
	if t.backlog == nil {
		return
	}
	if len(t.queue) > 0 && t.mayGive() {
		now := a.node.executions.now()
		t.tidy(now)
		if a.node.on.TurnDone == nil {
			now = 0
		}
		t.give(now)
	}
	if len(t.queue) == 0 {
		t.codel = codel{}
	}
}

// mayGive says that somebody who waits can enter: readers that are inside let no more
// readers in before a writer who waits, whoever of them goes first.
func (t *turnstile) mayGive() bool {
	switch {
	case t.excl != nil:
		return false
	case t.shared == nil:
		return true
	case t.codel.standing:
		return !slices.ContainsFunc(t.queue, func(w *waiter) bool { return !w.shared })
	}
	return t.queue[0].shared
}

// give lets in one after the other until one cannot enter. Their turns are held since at.
func (t *turnstile) give(at time.Duration) {
	for len(t.queue) > 0 && t.excl == nil {
		i := t.next()
		w := t.queue[i]
		if !w.shared && t.shared != nil {
			return
		}
		t.remove(i)
		if err := w.ctx.Err(); err != nil { // it would only be sent away once it runs
			w.settle(nil, fault.WaitedFor(err, "while waiting for a turn"))
			continue
		}
		h := t.heldBy(w.chain) // two reads of one fan-out may have queued
		if h == nil {
			h = t.open(w.chain, w.shared, w.room, at)
		} else {
			h.frames++
		}
		w.settle(h, nil)
	}
}

// atRest says that nobody is inside or waits.
func (t *turnstile) atRest() bool {
	return t.excl == nil && t.shared == nil && t.inside == 0 && len(t.waiting()) == 0
}

// free says that everyone enters.
func (a *activation) free() bool { return a.typ.Mode == object.Concurrent }

// holders lists the chains inside.
func (a *activation) holders() (chains []callctx.ChainID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := &a.turns
	switch {
	case t.excl != nil:
		return append(chains, t.excl.chain)
	case a.free():
		for f := a.frames.head; f != nil; f = f.next {
			chains = append(chains, f.info.Chain.ID)
		}
	}
	for h := t.shared; h != nil; h = h.next {
		chains = append(chains, h.chain)
	}
	return chains
}
