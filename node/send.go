package node

import (
	"cmp"
	"context"
	"crypto/rand"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
	goverse_pb "github.com/xiaonanln/goverse/proto"
)

// maxSendAge is for how long a Send is tried to be delivered: as long as its target's
// node surely remembers a first delivery.
const maxSendAge = maxCallIDAge

// sendTimeout bounds one attempt.
const sendTimeout = 30 * time.Second

// sent is a Send or a push of a method, to be recorded with its state.
type sent struct {
	nth    uint64 // the order in which they were made
	effect object.Effect
}

// send takes a one-way call from within the method: it is recorded with the method's
// state where the store can do that, else it leaves behind the commit from memory.
func (f *frame) send(ctx context.Context, call object.Call) error {
	n := f.act.node
	e, err := n.effectOf(&f.info, call)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.act.keep == object.Durable && !f.ended && n.exactly != nil:
		f.more().sends = append(f.more().sends, sent{n.pushes.made.Add(1), e})
		return nil
	case f.act.keep == object.Durable && !f.ended:
		f.pushes = append(f.pushes, &encodedPush{nth: n.pushes.made.Add(1), call: &e})
		return nil
	}
	if err := f.act.mayAct(ctx); err != nil {
		return fault.Of(err).On("Send", call.Subject())
	}
	f.acted = true
	return named(n.outbox.post(f.act.ref, e), call)
}

// send takes a one-way call that no state goes with.
func (n *Node) send(source object.Ref, info *callctx.Info, call object.Call) error {
	e, err := n.effectOf(info, call)
	if err != nil {
		return err
	}
	return named(n.outbox.post(source, e), call)
}

func named(err error, call object.Call) error {
	if err == nil {
		return nil
	}
	return fault.Of(err).On("Send", call.Subject())
}

// recordPush records a push to named clients with the state of a call that has an id:
// if this node dies behind the commit, the next holder sends it. One to everybody is not
// worth that.
func (f *frame) recordPush(p *encodedPush) error {
	if p.frame.Broadcast {
		return nil
	}
	stored := &goverse_pb.StoredPush{Message: p.frame.Message, Json: p.frame.JSON, Slow: uint32(p.frame.Slow), Key: p.frame.Key}
	payload, err := proto.Marshal(stored)
	if err == nil && len(payload) > maxResultBytes { // without its JSON, then
		stored.Json = nil
		payload, err = proto.Marshal(stored)
	}
	switch {
	case err != nil:
		return fault.New(fault.Invalid, "the message cannot be sent: %w", err).On("Push", "")
	case len(payload) > maxResultBytes:
		f.act.node.reached(event.MessageBytes, f.act.ref)
		return fault.New(fault.TooLarge, "the message has %d bytes; at most %d can be recorded", len(payload), maxResultBytes).On("Push", "")
	}
	for _, frames := range p.byGate {
		for _, id := range namedIn(frames) {
			if object.ValidID(id) != nil {
				continue // no session has such an id
			}
			e := object.Effect{ID: newEffectID(), Kind: object.EffectPush, Target: object.Ref{ID: id}, Payload: payload, NotAfter: time.Now().Add(maxSendAge)}
			f.more().sends = append(f.more().sends, sent{p.nth, e})
		}
	}
	return nil
}

func namedIn(frames []peer.PushFrame) (ids []string) {
	for i := range frames {
		ids = append(ids, frames[i].ClientIDs...)
	}
	return ids
}

// gather puts together what is to be recorded with the outermost frame's state; an inner
// frame leaves its own to that. The activation's mutex is held.
func (f *frame) gather() (with records) {
	if f.panicked || f.rare == nil && (f.hold == nil || f.hold.rare == nil) {
		return with
	}
	own := f.more()
	if f.inner {
		f.hold.more().sends = append(f.hold.more().sends, own.sends...)
		return with
	}
	sends := own.sends
	if f.hold != nil && f.hold.rare != nil {
		sends = append(sends, f.hold.rare.sends...)
		for _, r := range f.hold.rare.runs {
			delete(f.act.save.calls.runs, r.id)
		}
		f.hold.rare = nil
	}
	slices.SortStableFunc(sends, func(a, b sent) int { return cmp.Compare(a.nth, b.nth) })
	with = own.kept
	for _, s := range sends {
		switch {
		case !f.act.save.deleted:
			with.effects = append(with.effects, s.effect)
		case s.effect.Kind == object.EffectSend: // it is no more, and keeps nothing
			f.pushes = append(f.pushes, &encodedPush{nth: s.nth, call: &s.effect})
		}
	}
	return with
}

// effectOf is a one-way call as it is recorded.
func (n *Node) effectOf(info *callctx.Info, call object.Call) (object.Effect, error) {
	refuse := func(kind fault.Kind, format string, args ...any) (object.Effect, error) {
		return object.Effect{}, fault.New(kind, format, args...).On("Send", call.Subject())
	}
	if err := cmp.Or(object.ValidName(call.Ref.Type), object.ValidID(call.Ref.ID), object.ValidName(call.Method)); err != nil {
		return refuse(fault.Invalid, "%w", err)
	}
	stored := &goverse_pb.StoredSend{Method: call.Method, Caller: peer.EncodeCaller(&info.Caller), Trace: peer.EncodeTrace(info.Trace)}
	if m := call.Payload.Message; m != nil {
		var err error
		if stored.Request, err = anypb.New(m); err != nil {
			return refuse(fault.Invalid, "the request cannot be sent: %w", err)
		}
	}
	payload, err := proto.Marshal(stored)
	switch {
	case err != nil:
		return refuse(fault.Invalid, "the request cannot be sent: %w", err)
	case len(stored.Request.GetValue()) > peer.MaxPayload || len(payload) > maxResultBytes:
		n.reached(event.MessageBytes, call.Ref)
		return refuse(fault.TooLarge, "the request has %d bytes, at most %d are carried", len(stored.Request.GetValue()), peer.MaxPayload)
	}
	return object.Effect{ID: newEffectID(), Kind: object.EffectSend, Target: call.Ref, Payload: payload, NotAfter: time.Now().Add(maxSendAge)}, nil
}

// newEffectID mints the call id of a delivery. It does not tell its time: it counts from
// its first delivery.
func newEffectID() string { return "send-" + rand.Text() }

// accept takes what leaves behind a commit from memory. What is refused is lost, and
// said to be.
func (o *outbox) accept(source object.Ref, e object.Effect) {
	if err := o.post(source, e); err != nil {
		o.notice(event.Alarm, "a Send of "+source.String()+" to "+e.Target.String()+" is lost", err)
	}
}

// deliver tells whether an effect is over: delivered, or given up.
func (o *outbox) deliver(ctx context.Context, d *delivery, attempt int) bool {
	select {
	case o.busy <- struct{}{}:
		defer func() { <-o.busy }()
	case <-ctx.Done():
		return false
	}
	e := &d.effect
	err := o.attempt(ctx, e)
	kind := fault.KindOf(err)
	switch {
	case err == nil:
		return true
	case ctx.Err() != nil:
		return false
	case kind == fault.Failed && fault.OutcomeOf(err) == fault.Executed:
		o.notice(event.Warn, "a Send was delivered, and its method failed", err)
		return true
	case hopeless[kind], !e.NotAfter.IsZero() && !time.Now().Before(e.NotAfter):
		o.notice(event.Alarm, "a Send of "+d.key.Source.String()+" is given up", err)
		return true
	case attempt == 4: // once, when it is no hiccup any more
		o.notice(event.Warn, "a Send of "+d.key.Source.String()+" cannot be delivered; it is tried again", err)
	}
	return false
}

// hopeless is what will be no better the next time.
var hopeless = map[fault.Kind]bool{
	fault.Invalid: true, fault.NotFound: true, fault.TooLarge: true, fault.Forbidden: true,
	fault.CallIDReused: true, fault.ExpiredCallID: true, fault.CallSettled: true,
}

func (o *outbox) attempt(ctx context.Context, e *object.Effect) error {
	if e.Kind == object.EffectPush {
		return o.repush(e)
	}
	stored := new(goverse_pb.StoredSend)
	if err := proto.Unmarshal(e.Payload, stored); err != nil {
		return fault.New(fault.Invalid, "the record of the Send cannot be read: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	ctx = callctx.With(ctx, callctx.Behind(peer.DecodeCaller(stored.Caller), peer.DecodeTrace(stored.Trace)))
	_, err := o.node.cfg.Call(ctx, object.Call{
		Ref: e.Target, Method: stored.Method, ID: e.ID, IDIfKept: true, Payload: object.OfBinary(stored.Request),
	})
	return err
}

// repush sends a push that an earlier holder had recorded.
func (o *outbox) repush(e *object.Effect) error {
	stored := new(goverse_pb.StoredPush)
	if err := proto.Unmarshal(e.Payload, stored); err != nil {
		return fault.New(fault.Invalid, "the record of the push cannot be read: %w", err)
	}
	gate := gateOf(e.Target.ID)
	p := &encodedPush{frame: peer.PushFrame{Message: stored.Message, JSON: stored.Json, Slow: peer.Slow(stored.Slow), Key: stored.Key, At: o.node.pushes.now()}}
	if err := p.address(map[string][]string{gate: {e.Target.ID}}); err != nil {
		return err
	}
	o.node.pushes.send(p)
	return nil
}
