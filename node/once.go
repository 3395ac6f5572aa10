package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
	goverse_pb "github.com/xiaonanln/goverse/proto"
)

// A call with an id runs once. Its result is committed together with the state that it
// left, so either both are kept or neither is; the same call made again joins it, or
// gets the record. Where it is unknown whether it ran, it is simply made again.

// admitID decides whether the call's id counts here, and refuses one that cannot.
func (s *slot) admitID(c *call, ifKept bool) error {
	n := s.node
	if !n.started() { // what it has for a store is not settled
		return fault.New(fault.NotReady, "this node has not begun to run")
	}
	switch keeps := n.keepsResults(c.typ, s); {
	case ifKept && (!keeps || c.method.ReadOnly):
		return nil
	case !keeps:
		return fault.New(fault.Invalid, "%s", n.whyNoResults(c.typ, s))
	}
	if err := object.ValidID(c.id); err != nil {
		return fault.New(fault.Invalid, "the call's id: %w", err)
	}
	minted, timed := object.CallIDTime(c.id)
	switch age := time.Since(minted); {
	case !timed || c.op == object.OpSettle:
	case age > maxCallIDAge:
		return fault.New(fault.ExpiredCallID, "it was minted %v ago, and results are kept for %v: whether it ran is not known any more", age.Round(time.Second), resultRetention)
	case age < -maxCallIDAhead:
		return fault.New(fault.ExpiredCallID, "it was minted %v in the future: set the clocks right", (-age).Round(time.Second))
	}
	c.once = true
	return nil
}

// keepsResults says whether the results of calls to a type's objects in slot s are kept.
func (n *Node) keepsResults(t *object.Type, s *slot) bool {
	return n.exactly != nil && n.durability(t, s) == object.Durable
}

func (n *Node) whyNoResults(t *object.Type, s *slot) string {
	switch {
	case n.commits == nil:
		return "a call with an id needs a store that keeps its result; this node has none: give it one with SetPersistenceProvider"
	case n.exactly == nil:
		return "a call with an id needs a store that keeps its result; this node's does not: use one that is an object.ExactlyOnceProvider"
	case s.shard == n.cfg.NumShards:
		return "a call with an id needs a durable object; one that is pinned to a node is volatile"
	case !t.Persistent:
		return "a call with an id needs a durable object; type " + t.Name + " has no State, and no ToData and FromData"
	}
	return "a call with an id needs a durable object; type " + t.Name + " is " + t.Durability.String()
}

// callOnce runs a call that has an id, joins its run, or returns its record.
func (a *activation) callOnce(ctx context.Context, c *call) (proto.Message, error) {
	digest := digestOf(c)
	for {
		if err := a.readLedger(ctx); err != nil {
			return nil, err
		}
		a.mu.Lock()
		if a.state >= closing && !holds(c.chain.Path, a.ref) { // the next activation finds what is recorded
			a.mu.Unlock()
			return nil, errMovedOn
		}
		r, mine, asks := a.save.calls.open(c, digest)
		a.mu.Unlock()
		if mine {
			return a.makeRun(ctx, c, r, asks)
		}
		if reply, counts, err := a.join(ctx, c, r, digest); counts {
			return reply, err
		}
		if ctx.Err() != nil {
			return nil, fault.Waited(ctx, "before the call began")
		}
	}
}

// makeRun brings run r to its end: with the record that the store has, or by running
// the call.
func (a *activation) makeRun(ctx context.Context, c *call, r *run, asks bool) (proto.Message, error) {
	defer a.endRun(r, landsNever) // unless it has ended; also where the method ends its goroutine
	if asks {
		record, err := a.findCall(ctx, c.id)
		switch {
		case err != nil:
			return nil, err
		case record != nil:
			return a.takeRecord(c, r, record)
		}
	}
	if c.op == object.OpSettle {
		return nil, a.settleNever(ctx, c, r)
	}
	if err := a.refuseCallBack(c); err != nil {
		return nil, err
	}
	return a.run(ctx, c, r)
}

// takeRecord ends r with what is recorded of its id.
func (a *activation) takeRecord(c *call, r *run, record *object.CallRecord) (proto.Message, error) {
	digest := r.digest
	stored, reply, err := unpackResult(record)
	r.ran, r.digest, r.reply, r.failed = true, stored, reply, err
	a.mu.Lock()
	a.save.calls.remember(r.id)
	a.mu.Unlock()
	a.endRun(r, landsNever)
	if err := sameCall(stored, digest); err != nil {
		return nil, err
	}
	c.replay = true
	return r.reply, r.failed
}

// settleNever records that the call does not run any more.
func (a *activation) settleNever(ctx context.Context, c *call, r *run) error {
	if holds(c.chain.Path, a.ref) {
		return fault.New(fault.Invalid, "a call cannot be settled from within a method of its own object: what that has changed so far would be stored")
	}
	h, reentrant, err := a.take(ctx, c, a.turnFor(c.name()))
	if err != nil {
		return err
	}
	never := object.CallRecord{ID: c.id, Status: object.CallNever, Keep: resultRetention}
	seq, err := a.keepState(records{calls: []object.CallRecord{never}})
	if err != nil {
		a.doom("its state could not be saved", err)
	} else {
		r.ran, r.failed, r.seq = true, errNever, seq
		a.endRun(r, landsLater)
	}
	a.leave(h, reentrant)
	if err == nil {
		err = a.awaitDurable(ctx, seq)
	}
	if err != nil {
		return err
	}
	a.noteLanded()
	return errNever
}

var errNever = fault.New(fault.CallSettled, "it was settled before it ran, and does not run any more")

// refuseCallBack refuses a call that comes back to an object of its chain by way of one
// that keeps results: its change would be committed with the outer call, and the result
// in between before that. After a crash the outer call would run again and get that
// result, without the change.
func (a *activation) refuseCallBack(c *call) error {
	path := c.chain.Path
	for i := len(path) - 1; i >= 0 && !c.method.ReadOnly; i-- {
		t := path[i]
		switch {
		case t.Type == a.ref.Type && t.ID == a.ref.ID:
			return nil
		case !holds(path[:i], a.ref):
			return nil
		case !t.Shared && a.node.mayKeepResults(t.Type, t.ID):
			return fault.New(fault.Invalid, "under a call id, %v may not call back to change an object that its own chain is inside of: let the outer method make the change, or use Send", t)
		}
	}
	return nil
}

// mayKeepResults says whether the results of calls to an object are kept, as far as this
// node knows its type.
func (n *Node) mayKeepResults(typ, id string) bool {
	t, known := n.cfg.Types.Lookup(typ)
	return !known || n.keepsResults(t, n.slotFor(id))
}

// slotFor is the slot whose rules hold for an object, wherever it lives.
func (n *Node) slotFor(id string) *slot {
	if _, pinned := sharding.PinnedNode(id); pinned {
		return n.pinned()
	}
	return &n.slots[sharding.GetShardID(id, n.cfg.NumShards)]
}

// conclude says what of the method's end is to be recorded. An error of a method that was
// cut off, or any end of one that does not know what became of a call of its own, is no
// answer: the activation is dropped, and the call may run again, with those results that
// are there.
func (f *frame) conclude(ctx context.Context, c *call, reply proto.Message, failed error) {
	r := f.run()
	if r == nil || f.panicked || f.skipped {
		return
	}
	doubt := f.rare.doubt
	for _, err := range []error{failed, f.own()} {
		if err != nil && (f.stopped || fault.OutcomeOf(err) == fault.OutcomeUnknown || (ctx.Err() != nil || f.cut) && ofContext(err)) {
			doubt = err
		}
	}
	if doubt != nil {
		f.act.doom("a call with an id ended in doubt", fault.New(fault.Indeterminate, "the method ended in doubt, and nothing of it is stored; make the call again with its id: %w", doubt))
		return
	}
	record := object.CallRecord{ID: c.id, Status: object.CallDone, Keep: resultRetention}
	err := answer(reply, failed)
	if err != nil {
		record.Status = object.CallFailed
	}
	record.Result, err = packResult(r.digest, reply, err)
	r.reply, r.failed = reply, err
	f.more().kept.calls = []object.CallRecord{record}
}

func ofContext(err error) bool {
	kind := fault.KindOf(err)
	return kind == fault.Deadline || kind == fault.Canceled
}

// endRun tells those who joined what the call came to, now that its state is handed
// over at number seq or err says why it is not.
func (f *frame) endRun(seq uint64, panicked, err error) {
	r := f.run()
	switch {
	case r == nil:
		return
	case f.skipped && !f.panicked: // there is no record, and whoever joined asks the interceptors anew
		f.act.endRun(r, landsNever)
		return
	}
	r.ran, r.seq, r.acted = true, seq, f.hasActed()
	switch {
	case f.panicked:
		r.failed, r.seq = panicked, 0
	case err != nil:
		r.failed, r.seq = err, 0
	case f.inner: // its chain alone may ask again, until the outer call is kept
		r.seq = 0
		f.act.endRun(r, landsWithOuter)
		f.hold.more().runs = append(f.hold.more().runs, r)
		return
	default:
		f.act.endRun(r, landsLater)
		return
	}
	f.act.endRun(r, landsNever)
}

// digestOf tells calls apart that have the same id.
func digestOf(c *call) []byte {
	if c.op != object.OpCall {
		return nil
	}
	h := sha256.New()
	h.Write([]byte(c.method.Name + "\x00"))
	request, err := proto.MarshalOptions{Deterministic: true}.Marshal(c.message)
	if err == nil { // else it came from this very process, and its method is all there is
		h.Write(request)
	}
	return h.Sum(nil)[:16]
}

func sameCall(has, wants []byte) error {
	if has == nil || wants == nil || bytes.Equal(has, wants) {
		return nil
	}
	return fault.New(fault.CallIDReused, "this id belongs to a call of another method or with another request; mint a fresh one for each call")
}

// packResult is a result as the store keeps it. The error is what the call's answer is
// then: one that cannot be kept has failed.
func packResult(digest []byte, reply proto.Message, failed error) ([]byte, error) {
	stored := &goverse_pb.StoredResult{Digest: digest, Fault: fault.ToWire(failed)}
	if failed == nil {
		var err error
		if stored.Reply, err = anypb.New(reply); err != nil {
			return packResult(digest, nil, unsendable(err))
		}
	}
	b, err := proto.Marshal(stored)
	switch {
	case err != nil:
		return packResult(digest, nil, unsendable(errors.New(strings.ToValidUTF8(err.Error(), "?"))))
	case len(b) <= maxResultBytes:
		return b, failed
	case failed != nil:
		return packResult(digest, nil, fault.New(fault.Failed, "the method's error has %d bytes, at most %d are kept", len(b), maxResultBytes))
	}
	return packResult(digest, nil, fault.New(fault.Failed, "the method ran, but its reply has %d bytes; at most %d are kept", len(b), maxResultBytes))
}

// maxResultBytes bounds what is kept of a result: the largest message that crosses
// between processes, and its frame.
const maxResultBytes = 4<<20 + 64<<10

// unpackResult is what packResult kept.
func unpackResult(record *object.CallRecord) (digest []byte, reply proto.Message, err error) {
	if record.Status == object.CallNever {
		return nil, nil, errNever
	}
	stored := new(goverse_pb.StoredResult)
	if err := proto.Unmarshal(record.Result, stored); err != nil {
		return nil, nil, fault.New(fault.StoreFailed, "the call ran, but its stored result cannot be read: %w", err).With(fault.Executed)
	}
	if stored.Fault != nil {
		return stored.Digest, nil, fault.FromWire(stored.Fault)
	}
	reply, err = stored.Reply.UnmarshalNew()
	if err != nil {
		return stored.Digest, nil, fault.New(fault.StoreFailed, "the call ran, but its stored reply cannot be read: %w", err).With(fault.Executed)
	}
	return stored.Digest, reply, nil
}

// child gives a call out of a method that has an id an id of its own, the same each
// time the method runs: made again, it gets the record of the first time.
func (f *frame) child(call object.Call) object.Call {
	if f.info.CallID == "" || call.Op != object.OpCall || call.ID != "" {
		return call
	}
	key := outCall{call.Ref, call.Method}
	f.mu.Lock()
	if f.ended { // it did not wait for this call
		f.mu.Unlock()
		return call
	}
	more := f.more()
	if more.nth == nil {
		more.nth = map[outCall]uint64{}
	}
	nth := more.nth[key]
	more.nth[key]++
	f.mu.Unlock()
	call.ID = object.ChildCallID(f.info.CallID, nth, call.Ref, call.Method)
	t, known := f.act.node.cfg.Types.Lookup(call.Ref.Type)
	call.IDIfKept = !known || !f.act.node.keepsResults(t, f.act.node.slotFor(call.Ref.ID)) ||
		t.Methods[call.Method] != nil && t.Methods[call.Method].ReadOnly
	return call
}

// weigh notes a call out of a method with an id that failed before it came to a result
// of its own. That this attempt did not run says nothing of one that the method made
// under the same id before a crash: the method must not end as if it had never been made.
func (f *frame) weigh(call object.Call, err error) {
	if err == nil || f.info.CallID == "" || call.Op != object.OpCall || call.ID == "" || hopeless[fault.KindOf(err)] || fault.OutcomeOf(err) == fault.Executed {
		return
	}
	if _, known := f.act.node.cfg.Types.Lookup(call.Ref.Type); known && call.IDIfKept {
		return // its results are not kept, or it changes nothing
	}
	if fault.KindOf(err) == fault.Failed && fault.OutcomeOf(err) == fault.NotExecuted {
		return // it was refused behind the look for its record
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.run() != nil && !f.ended {
		f.rare.doubt = err
	}
}

// outCall is whom a method calls: the branches of a fan-out are counted apart.
type outCall struct {
	ref    object.Ref
	method string
}

// detached ends when ctx's deadline does, not when its caller goes.
func detached(ctx context.Context) (context.Context, context.CancelFunc) {
	free := context.WithoutCancel(ctx)
	if deadline, ok := ctx.Deadline(); ok {
		return context.WithDeadline(free, deadline)
	}
	return free, func() {}
}

// refuseOwnEnd refuses that a method with an id deletes its own object: its result
// could not be kept with what is no more.
func (a *activation) refuseOwnEnd(chain callctx.Chain) error {
	if !holds(chain.Path, a.ref) {
		return nil
	}
	var own []*frame
	a.mu.Lock()
	for f := a.frames.head; f != nil; f = f.next {
		if f.info.Chain.ID == chain.ID {
			own = append(own, f)
		}
	}
	a.mu.Unlock()
	for _, f := range own {
		f.mu.Lock()
		r := f.run()
		f.mu.Unlock()
		if r != nil {
			return fault.New(fault.Invalid, "a method that runs under a call id cannot delete its own object, because its result is kept with it")
		}
	}
	return nil
}
