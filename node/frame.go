package node

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// frame is one method that runs, and what the method sees of its world: it is the
// Runtime in the method's context.
type frame struct {
	act       *activation
	hold      *hold // nil in Concurrent mode
	turn      hold  // that one, unless the chain had one already
	reentrant bool
	ctx       methodContext
	info      callctx.Info    // the method's: its chain ends with this frame's turn
	first     [1]callctx.Turn // a root call's path

	prev, next *frame // in the activation's list of methods that run

	inner     bool // called from within an outer frame of its chain, which saves for both
	committed bool // the reply waited for a save of this very call
	panicked  bool
	stopped   bool // it was interrupted; guarded by the activation's mutex until end
	stood     bool // this node was trusted when all was done, and the turn not given up yet
	cut       bool // it ran for too long, and its context was ended; the same until end
	undone    bool // it failed, and left the object as it had found it
	acted     bool // it did something elsewhere, perhaps, which stays when nothing of it is kept; guarded by mu
	skipped   bool // an interceptor answered: the method did not run,
	idle      bool // nor any other inside of the interceptors
	undo      *undo

	met time.Duration // by the watchdog, when; 0: not yet; guarded by the activation's mutex

	rare *rare // nil mostly: guarded by mu, and after the method's end its goroutine's own

	mu     sync.Mutex
	out    int          // calls out that have not returned
	outs   []object.Ref // whom they call
	ended  bool         // the method has returned
	alone  bool         // its hooks are being committed
	pushes []*encodedPush
}

// rare is what few methods have.
type rare struct {
	run   *run               // what it stands for, if its call has an id and the id counts
	sends []sent             // to be recorded with its state
	kept  records            // what is
	nth   map[outCall]uint64 // how often it called whom, if its call has an id

	flushed bool  // it has seen its state stored: it is worth looking what it has changed since
	doubt   error // of a call out of it: an earlier run may have made it

	failed error // the method's own, if interceptors may have made something else of it
}

// run is what the method stands for, or nil: for who holds mu, or after its end.
func (f *frame) run() *run {
	if f.rare == nil {
		return nil
	}
	return f.rare.run
}

// more makes room for what few methods have.
func (f *frame) more() *rare {
	if f.rare == nil {
		f.rare = new(rare)
	}
	return f.rare
}

// call answers a call: one with an id by what it came to once.
func (a *activation) call(ctx context.Context, c *call) (proto.Message, error) {
	if c.once {
		return a.callOnce(ctx, c)
	}
	return a.run(ctx, c, nil)
}

// run takes a turn, runs the method and settles it. It is what r stands for, if that is
// not nil, and then ends with its caller's time but not with its caller, because others
// may have joined it.
func (a *activation) run(ctx context.Context, c *call, r *run) (proto.Message, error) {
	turn := callctx.Turn{Type: c.ref.Type, ID: c.ref.ID, Method: c.method.Name,
		Shard: a.life.shard, Epoch: a.life.epoch, Shared: c.method.ReadOnly}
	f := &frame{act: a}
	c.room = &f.turn
	h, reentrant, err := a.take(ctx, c, turn)
	if err != nil {
		return nil, err
	}
	f.hold, f.reentrant = h, reentrant
	outer := ctx
	if r != nil {
		f.rare = &rare{run: r}
		var cancel context.CancelFunc
		outer, cancel = detached(ctx)
		defer cancel()
	}
	if err := f.begin(outer, c, turn); err != nil {
		a.leave(h, reentrant)
		return nil, err
	}
	copies := a.node.copies
	if copies != nil {
		copies.received(a, c)
	}
	reply, err := f.invoke(c)
	if copies == nil && f.keepsNothing() {
		return f.finish(ctx, reply, err)
	}
	f.end()
	if copies != nil {
		reply = copies.returned(f, c, reply)
	}
	f.conclude(outer, c, reply, err)
	return f.settle(ctx, c, reply, err)
}

// begin makes the method's context. It fails where the call must not begin any
// more: out of time, or its activation doomed.
func (f *frame) begin(ctx context.Context, c *call, turn callctx.Turn) error {
	if ctx.Err() != nil {
		return fault.Waited(ctx, "before its turn came")
	}
	f.ctx.Context, f.ctx.frame = ctx, f
	f.info = callctx.Info{Caller: c.info.Caller, CallID: c.id, Chain: c.chain, Trace: c.info.Trace}
	if len(c.chain.Path) == 0 {
		f.first[0] = turn
		f.info.Chain.Path = f.first[:]
	} else {
		f.info.Chain = c.chain.Enter(turn)
	}
	if err := f.remember(c); err != nil {
		return err
	}
	a := f.act
	a.mu.Lock()
	defer a.mu.Unlock()
	if ending := a.endingLocked(); ending != nil {
		return fault.Of(ending).With(fault.NotExecuted)
	}
	a.frames.add(f)
	return nil
}

// invoke runs the user's method. A panic dooms the activation and nothing else.
func (f *frame) invoke(c *call) (reply proto.Message, err error) {
	returned := false
	defer func() {
		p := recover()
		if p == nil && returned {
			return
		}
		err = f.broke(c, p)
		if p == nil { // runtime.Goexit: this goroutine ends here, and settles nothing
			f.end()
			f.act.leave(f.hold, f.reentrant)
		}
	}()
	if f.act.intercepted() {
		reply, err = f.interceptAll(c)
		returned = true
		return reply, err
	}
	reply, err = c.method.Invoke(&f.ctx, f.act.obj, c.message)
	returned = true
	return f.act.typ.Apart(f.act.obj, reply), err
}

// broke notes that the code of a method panicked with p, or ended its goroutine, and
// dooms the activation.
func (f *frame) broke(c *call, p any) (err error) {
	f.panicked = true
	err = errGoexit
	if p != nil {
		err = f.act.panicked(c.method.Name, p)
	}
	f.act.doom("a method panicked", fault.New(fault.Panicked, "another call on this object panicked, and its activation was dropped").With(fault.OutcomeUnknown))
	return err
}

// end closes the frame for calls out and for calls back, and takes back a turn that is
// still lent to a call out which the method did not wait for.
func (f *frame) end() {
	lent := f.close()
	f.act.mu.Lock()
	f.goLocked()
	f.act.mu.Unlock()
	if lent {
		f.act.reclaim(f.hold)
	}
}

// close ends the method's context and its calls out; its turn may still be lent to one.
func (f *frame) close() (lent bool) {
	f.mu.Lock()
	f.ended = true
	lent = f.out > 0
	f.acted = f.acted || lent
	f.mu.Unlock()
	f.ctx.cancel(nil)
	return lent
}

// goLocked takes the frame off the list of methods that run. The activation's mutex is
// held.
func (f *frame) goLocked() {
	f.act.frames.remove(f)
	if f.hold != nil {
		f.act.refuseStrays(f.hold)
	}
}

// keepsNothing says that the method leaves nothing behind but what is in the object.
func (f *frame) keepsNothing() bool {
	if f.act.keep != object.Volatile || f.reentrant || f.undo != nil {
		return false
	}
	f.mu.Lock() // a goroutine that the method left behind may call out
	defer f.mu.Unlock()
	return f.rare == nil
}

// finish is end and settle in one step, for a method that keeps nothing. That no other
// node could have the object is looked at on the turn, and so is what is void.
func (f *frame) finish(ctx context.Context, reply proto.Message, failed error) (proto.Message, error) {
	a := f.act
	lent := f.close()
	if lent {
		a.mu.Lock()
		f.goLocked()
		a.mu.Unlock()
		a.reclaim(f.hold)
	}
	now, stood := a.node.executions.now(), a.life.trusted()
	a.mu.Lock()
	if !lent {
		f.goLocked()
	}
	a.lastUsed = now
	ending := a.endingLocked() // also of one that is void
	last := a.leaveLocked(f.hold, false)
	a.mu.Unlock()
	if last && f.hold.since > 0 {
		a.node.turned(a.typ, f.hold, now)
	}
	switch {
	case f.panicked:
		return nil, failed
	case ending != nil:
		return nil, ending
	case f.stopped:
		return nil, errInterrupted
	}
	if !stood {
		if err := a.mayAnswer(ctx); err != nil {
			return nil, err
		}
	}
	return f.answered(reply, failed)
}

// settle turns what the method did into a reply that may leave: its state durable,
// its pushes on their way, and this node still the holder.
func (f *frame) settle(ctx context.Context, c *call, reply proto.Message, failed error) (proto.Message, error) {
	a := f.act
	f.place(c)
	f.undoOrTangle(failed != nil || reply == nil || f.own() != nil)
	f.publishKept()
	if hooks := f.hooks(); len(hooks) > 0 {
		return f.settleAlone(ctx, hooks, reply, failed)
	}
	seq, err := f.keep(c)
	err = f.notKept(err)
	f.endRun(seq, failed, err)
	f.stood = !f.committed && a.life.trusted() // as soon as the turn is given up, the shard may be handed over, and the lease with it
	a.leave(f.hold, f.reentrant)
	switch {
	case f.panicked:
		return nil, failed
	case err != nil:
		return nil, err
	}
	a.sendEffects()
	if !f.inner {
		span := a.node.stretch(ctx, c, callctx.Saving)
		err := a.awaitDurable(ctx, seq)
		end(span, err)
		if err != nil {
			return nil, f.notKept(err)
		}
	}
	if !f.committed {
		if err := f.mayAnswer(ctx); err != nil {
			return nil, err
		}
	}
	return f.answered(reply, failed)
}

// notKept is what the caller is told of a call whose effects are not stored, for the
// reason err. That it did not run holds only if it did nothing elsewhere either.
func (f *frame) notKept(err error) error {
	if err == nil {
		return nil
	}
	return unkept(err, f.hasActed())
}

// hasActed: in Concurrent mode others may have saved what this one had half done.
func (f *frame) hasActed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.acted || f.act.free()
}

func unkept(err error, acted bool) error {
	if acted && fault.OutcomeOf(err) == fault.NotExecuted {
		return fault.Of(err).With(fault.OutcomeUnknown)
	}
	return err
}

// noteActed notes what a call out of the method came to: unless it surely did not run, its
// effects are there, whatever becomes of the method's own. A method that only reads may
// have called one that does not.
func (f *frame) noteActed(err error) {
	if err == nil || fault.OutcomeOf(err) != fault.NotExecuted {
		f.acts()
	}
}

// acts notes that something is done that stays, whatever becomes of the method.
func (f *frame) acts() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.acted = true
}

// place finds out whether an outer frame of the chain saves for this one.
func (f *frame) place(c *call) {
	if !f.reentrant {
		return
	}
	f.act.mu.Lock()
	defer f.act.mu.Unlock()
	f.inner = !f.hold.outerGone && holds(c.chain.Path, f.act.ref)
}

// answered is what the caller is told of a call whose effects are durable.
func (f *frame) answered(reply proto.Message, failed error) (proto.Message, error) {
	if f.skipped {
		return reply, skippedWith(reply, failed)
	}
	if r := f.run(); r != nil {
		f.act.noteLanded()
		return r.reply, r.failed
	}
	if err := answer(reply, failed); err != nil {
		return nil, err
	}
	return reply, nil
}

// answer is what a method's end means to its caller: nil, or why there is no reply.
func answer(reply proto.Message, failed error) error {
	switch {
	case failed != nil:
		// A fault that the method got from a call of its own speaks of that call; this
		// one ran.
		return &fault.Error{Kind: fault.Failed, Err: failed}
	case reply == nil:
		return fault.New(fault.Failed, "the method returned neither a reply nor an error")
	}
	return nil
}

// skippedWith is answer for a method that did not run.
func skippedWith(reply proto.Message, failed error) error {
	switch {
	case failed != nil:
		return fault.Refused(failed, fault.NotExecuted)
	case reply == nil:
		return fault.New(fault.Failed, "an interceptor returned neither a reply nor an error").With(fault.NotExecuted)
	}
	return nil
}

// keep offers the state that the call left and files its pushes behind it. It runs
// on the turn and returns the number that the reply waits for.
func (f *frame) keep(c *call) (seq uint64, err error) {
	a := f.act
	if a.keep == object.Volatile {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.lastUsed = a.node.executions.now()
		return 0, a.endingLocked()
	}
	a.mu.Lock()
	before := a.save.seq
	changing := !c.method.ReadOnly && !f.panicked && !f.undone && !f.idle
	if changing && a.keep.Interval() > 0 {
		a.save.touch(time.Now())
	}
	with := f.gather()
	save := (changing || !with.none()) && !f.inner && a.endingLocked() == nil && (a.keep == object.Durable || f.rare != nil && f.rare.flushed || a.saveDueLocked(time.Now()))
	a.mu.Unlock()
	if save {
		if seq, err = a.keepState(with); err != nil {
			a.doom("its state could not be saved", err)
			return 0, err
		}
	}

	a.mu.Lock()
	defer a.mu.Unlock()
	a.lastUsed = a.node.executions.now()
	switch ending := a.endingLocked(); {
	case ending != nil:
		return 0, ending
	case a.keep != object.Durable:
		c.unsaved = a.unsavedLocked()
		return 0, nil // nobody waits for the save
	}
	f.committed = seq > before
	if !save {
		seq = a.save.seq
	}
	f.filePushes(seq)
	return seq, nil
}

// filePushes puts the frame's pushes, and those of the frames inside it, behind
// number seq, in the order in which they were made. An inner frame leaves its own to
// the outer. The activation's mutex is held.
func (f *frame) filePushes(seq uint64) {
	switch {
	case f.inner:
		f.hold.pushes = append(f.hold.pushes, f.pushes...)
		return
	case f.hold != nil:
		f.pushes = append(f.pushes, f.hold.pushes...)
		f.hold.pushes = nil
		slices.SortFunc(f.pushes, func(a, b *encodedPush) int { return cmp.Compare(a.nth, b.nth) })
	}
	for _, p := range f.pushes {
		if p.change != nil && !f.act.numberLocked(p.change) {
			continue // nobody follows
		}
		f.act.save.effects = append(f.act.save.effects, effect{seq, p})
	}
}

// mayAnswer is the check behind the method: a node whose right has ended says nothing,
// and one that does not know asks the store, if it may.
func (a *activation) mayAnswer(ctx context.Context) error {
	void := a.fenced()
	switch {
	case void != nil:
		return void
	case !a.life.trusted():
		return a.byStore(ctx)
	}
	return nil
}

// maySay is mayAnswer for what was true while this node was trusted, if it stood then:
// nobody else could have the object before, whatever became of the lease since.
func (a *activation) maySay(ctx context.Context, stood bool) error {
	if stood {
		return a.fenced()
	}
	return a.mayAnswer(ctx)
}

// fenced is why what is in memory is void because another node holds the shard; or nil.
func (a *activation) fenced() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if void := a.save.lost(); void != nil && fault.KindOf(void) == fault.Fenced {
		return void
	}
	return nil
}

// mayAnswer also holds the answer of a method back that was interrupted, though this
// node may be trusted again: what it left half-done is nobody's to count on. One that was
// done while this node was trusted counts: nobody else could have the object before.
func (f *frame) mayAnswer(ctx context.Context) error {
	if f.stopped {
		return errInterrupted
	}
	return f.act.maySay(ctx, f.stood)
}

// mayAct is the check before anything leaves a method that still runs. What it would
// do elsewhere may not rest on memory that is void.
func (a *activation) mayAct(ctx context.Context) error {
	a.mu.Lock()
	void := a.save.lost()
	a.mu.Unlock()
	if void == nil {
		void = a.mayAnswer(ctx)
	}
	if void == nil {
		return nil
	}
	return fault.Of(void).With(fault.NotExecuted)
}

// Call is a call out of the method. Its turn is lent to the chain meanwhile. A
// method whose node may not answer any more may not call either.
func (f *frame) Call(ctx context.Context, call object.Call) (object.Payload, error) {
	err := f.mayCall()
	switch {
	case err != nil:
	case call.OneWay:
		return object.Payload{}, f.send(ctx, call)
	default:
		err = f.act.mayAct(ctx)
	}
	if err != nil {
		f.weigh(f.child(call), err)
		return object.Payload{}, fault.Of(err).On(call.Op.String(), call.Subject())
	}
	if !f.lend(call.Ref) {
		// The method has returned; whoever still has its context begins a new chain.
		return f.act.node.cfg.Call(callctx.With(ctx, callctx.Behind(f.info.Caller, f.info.Trace)), call)
	}
	defer f.unlend(call.Ref)
	call = f.child(call)
	copies := f.act.node.copies
	if copies != nil {
		copies.sent(f.act, call)
	}
	reply, err := f.act.node.cfg.Call(ctx, call)
	f.noteActed(err)
	if copies != nil && err == nil {
		copies.got(f.act, call, reply)
	}
	f.weigh(call, err)
	return reply, err
}

func (f *frame) lend(to object.Ref) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		return false
	}
	f.out++
	f.outs = append(f.outs, to)
	if f.out == 1 {
		f.act.lend(f.hold)
	}
	return true
}

// unlend takes the turn back. While another branch of a fan-out is still out, the
// turn stays lent, and the branch that returned has only waited for running code.
func (f *frame) unlend(to object.Ref) {
	f.mu.Lock()
	if i := slices.Index(f.outs, to); i >= 0 {
		f.outs = slices.Delete(f.outs, i, i+1)
	}
	ended := f.ended
	if ended {
		f.out--
	}
	f.mu.Unlock()
	if ended {
		return
	}
	f.act.reclaim(f.hold)
	f.mu.Lock()
	f.out--
	again := f.out > 0 || f.ended
	f.mu.Unlock()
	if again {
		f.act.lend(f.hold)
	}
}

// Push sends a message to clients: with the method's commit where the object is
// durable, else at once.
func (f *frame) Push(ctx context.Context, push object.Push) error {
	p, err := f.act.node.pushes.encode(push)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.act.keep == object.Durable && !f.ended {
		if f.run() != nil {
			if err := f.recordPush(p); err != nil {
				return err
			}
		}
		f.pushes = append(f.pushes, p)
		return nil
	}
	if err := f.act.mayAct(ctx); err != nil {
		return fault.Of(err).On("Push", "")
	}
	f.acted = true
	f.act.node.pushes.send(p)
	return nil
}

// frames lists methods that run. It is guarded by the activation's mutex.
type frames struct{ head *frame }

func (l *frames) add(f *frame) {
	if f.next = l.head; f.next != nil {
		f.next.prev = f
	}
	l.head = f
}

func (l *frames) has(f *frame) bool {
	g := l.head
	for g != nil && g != f {
		g = g.next
	}
	return g != nil
}

func (l *frames) remove(f *frame) {
	if f.prev != nil {
		f.prev.next = f.next
	} else {
		l.head = f.next
	}
	if f.next != nil {
		f.next.prev = f.prev
	}
	f.prev, f.next = nil, nil
}

// methodContext is the context of a method. It answers for the frame without a
// chain of wrappers.
type methodContext struct {
	lazyContext
	frame *frame
}

// Value implements context.Context.
func (c *methodContext) Value(key any) any {
	switch key.(type) {
	case callctx.Key:
		return &c.frame.info
	case object.RuntimeKey:
		return object.Runtime(c.frame)
	}
	return c.lazyContext.Value(key)
}
