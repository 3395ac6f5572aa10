package goverseclient

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/util/protohelper"
)

// Bounds of what waits in a subscription for the program. One message alone may have more
// bytes.
const (
	maxUpdates      = 1024
	maxUpdatesBytes = 1 << 20
)

// ErrUnsubscribed ends a subscription that the program has ended.
var ErrUnsubscribed = errors.New("the subscription was ended by Unsubscribe")

// UpdateOf is what a subscription tells of its object, whose states are of type S and whose
// changes of type C: first a snapshot, then each change behind it.
type UpdateOf[S, C proto.Message] struct {
	// Version is what the object is at now: a change has one more than the update before.
	Version  uint64
	IsChange bool
	Snapshot S // the state, unless it is a change
	Change   C // if it is one
	// Reset is said of a snapshot that is not the first: changes are missing, or the object
	// began anew, and its version too. What was known before counts no more.
	Reset  bool
	Reason string // of the reset
}

// Update is an update as the object made it. A message whose type the program does not
// link is the *anypb.Any that it was in.
type Update = UpdateOf[proto.Message, proto.Message]

// Subscription follows one object over all connections of its client, until Unsubscribe,
// the client's Close, or the object's refusal. What waits for the program is bounded: one
// that does not read costs its gate nothing, and goes on where it was if the object's node
// still has what came since, else with a Reset.
//
// Next and Updates have one user; Unsubscribe may be called concurrently.
type Subscription struct {
	client *Client
	ref    object.Ref
	life   context.Context // until it ends
	end    context.CancelFunc
	ended  chan struct{} // closed when nothing of it is left
	ready  chan struct{} // has a token when there may be something to take
	again  chan struct{} // has a token when the program has taken all, and there is more

	mu          sync.Mutex // protects following fields; nothing else is locked under it
	stream      *stream    // by which it comes; nil: by none
	number      uint64     // there
	queue       []parcel
	size        int    // of the queue
	begun       bool   // it has had a snapshot
	incarnation uint64 // of the last snapshot; 0: the gate does not say
	version     uint64 // of the last in the queue, or taken from it
	paused      bool   // the queue was full
	err         error  // why it has ended
}

// parcel is an update that waits, with its message still packed.
type parcel struct {
	Update
	packed *anypb.Any
}

// Subscribe follows an object whose type has OnSubscribe. It returns when the object has let
// the client in; ctx, or the call timeout, bounds only that. Over a lost connection and at
// another gate the subscription goes on by itself, behind the last that came, or with a
// Reset. A client has up to 1,024 at a time.
//
// The gate has to have streams, and the client may not have WithUnaryCalls.
func (c *Client) Subscribe(ctx context.Context, objType, objID string) (*Subscription, error) {
	s := &Subscription{
		client: c, ref: object.Ref{Type: objType, ID: objID}, ended: make(chan struct{}),
		ready: make(chan struct{}, 1), again: make(chan struct{}, 1),
	}
	s.life, s.end = context.WithCancel(c.life)
	if !c.enter() {
		s.end()
		return nil, closed(false).On("Subscribe", s.ref.String())
	}
	if err := s.ask(ctx); err != nil {
		s.end()
		c.parts.Done()
		return nil, err
	}
	go s.keep()
	return s, nil
}

// Next waits for the next update. Its error is final, and says why the subscription has
// ended; unless it is of ctx: then Next may be called again.
func (s *Subscription) Next(ctx context.Context) (Update, error) {
	for {
		p, err := s.next()
		switch {
		case err != nil:
			return Update{}, err
		case p != nil:
			return p.open(), nil
		}
		select {
		case <-s.ready:
		case <-s.ended:
		case <-ctx.Done():
			return Update{}, fault.Waited(ctx, "there is nothing new").On("Next", s.ref.String())
		}
	}
}

// Updates iterates over the updates. The last pair has the error that Next returns; there
// is none if Unsubscribe has ended the subscription.
func (s *Subscription) Updates(ctx context.Context) iter.Seq2[Update, error] {
	return func(yield func(Update, error) bool) {
		for {
			u, err := s.Next(ctx)
			if errors.Is(err, ErrUnsubscribed) || !yield(u, err) || err != nil {
				return
			}
		}
	}
}

// UpdatesOf is s.Updates for an object whose states and changes have these types. Another
// type is an error, behind which the updates go on.
func UpdatesOf[S, C proto.Message](ctx context.Context, s *Subscription) iter.Seq2[UpdateOf[S, C], error] {
	return func(yield func(UpdateOf[S, C], error) bool) {
		for u, err := range s.Updates(ctx) {
			typed := UpdateOf[S, C]{Version: u.Version, IsChange: u.IsChange, Reset: u.Reset, Reason: u.Reason}
			fits := err != nil
			if u.IsChange && err == nil {
				typed.Change, fits = u.Change.(C)
			} else if err == nil {
				typed.Snapshot, fits = u.Snapshot.(S)
			}
			if !fits {
				err = fault.New(fault.Invalid, "version %d came as %s, not as the type that the program expects", u.Version, nameOf(u)).On("Updates", s.ref.String())
			}
			if !yield(typed, err) {
				return
			}
		}
	}
}

func nameOf(u Update) string {
	m := cmp.Or(u.Change, u.Snapshot)
	if a, ok := m.(*anypb.Any); ok {
		return a.GetTypeUrl()
	}
	return string(m.ProtoReflect().Descriptor().FullName())
}

// Unsubscribe ends the subscription, and when it returns nothing of it is left: what waits
// is dropped, and Next says ErrUnsubscribed. It may be called again.
func (s *Subscription) Unsubscribe() {
	s.finish(ErrUnsubscribed)
	s.mu.Lock()
	s.queue, s.size = nil, 0
	s.mu.Unlock()
	s.end()
	<-s.ended
}

// finish notes why the subscription ends. The first reason counts.
func (s *Subscription) finish(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = why
	}
}

// next is the oldest that waits, or why nothing comes any more.
func (s *Subscription) next() (*parcel, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		return nil, s.err
	}
	p := s.queue[0]
	s.queue[0] = parcel{}
	s.queue = s.queue[1:]
	s.size -= len(p.packed.GetValue())
	if len(s.queue) == 0 {
		s.queue = nil // an idle subscription keeps no buffer
	}
	if s.paused && len(s.queue) == 0 {
		signal(s.again)
	}
	return &p, nil
}

func (p *parcel) open() Update {
	m, err := protohelper.AnyToMsg(p.packed)
	if err != nil || m == nil {
		m = p.packed
	}
	if p.IsChange {
		p.Change = m
	} else {
		p.Snapshot = m
	}
	return p.Update
}

// attach has the subscription come by a stream from now on, under a number there; false: it
// has ended.
func (s *Subscription) attach(by *stream, number uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil || s.life.Err() != nil {
		return false
	}
	s.stream, s.number, s.paused = by, number, false
	return true
}

// take puts what came by a stream behind what waits. more: the subscription wants more of
// it; the error is a gate's that does not keep to the protocol.
func (s *Subscription) take(by *stream, m *gate_pb.Published) (more bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stream != by || s.number != m.Subscription:
		return false, nil // it goes on elsewhere
	case len(m.Failure) > 0:
		s.stream = nil
		return false, s.refusedLocked(m.Failure)
	case m.Change == nil:
		s.beginLocked(m)
		return true, nil
	case !s.begun || m.Version != s.version+1:
		return false, fmt.Errorf("the gate publishes version %d of %s behind version %d", m.Version, s.ref, s.version)
	case len(s.queue) > 0 && (len(s.queue) >= maxUpdates || s.size+len(m.Change.Value) > maxUpdatesBytes):
		s.stream, s.paused = nil, true
		return false, nil
	}
	s.putLocked(parcel{Update{Version: m.Version, IsChange: true}, m.Change})
	return true, nil
}

// beginLocked takes a snapshot. It is always taken: if there is no room for it, what is
// older counts no more.
func (s *Subscription) beginLocked(m *gate_pb.Published) {
	if len(s.queue) >= maxUpdates || s.size+len(m.Snapshot.GetValue()) > maxUpdatesBytes {
		clear(s.queue)
		s.queue, s.size = s.queue[:0], 0
	}
	u := Update{Version: m.Version, Reset: s.begun}
	if s.begun {
		u.Reason = cmp.Or(m.Reason, "the connection to the gate was lost")
	}
	s.begun, s.incarnation = true, m.Incarnation
	s.putLocked(parcel{u, m.Snapshot})
}

func (s *Subscription) putLocked(p parcel) {
	s.version = p.Version
	s.queue = append(s.queue, p)
	s.size += len(p.packed.GetValue())
	signal(s.ready)
}

// refusedLocked ends the subscription as the object wants it.
func (s *Subscription) refusedLocked(failure []byte) error {
	own := new(spb.Status)
	if err := proto.Unmarshal(failure, own); err != nil || own.Code == 0 {
		return errors.New("the gate says that a subscription has ended, and not why")
	}
	if s.err == nil {
		s.err = fault.Of(fault.FromStatus(status.ErrorProto(own))).On("Subscribe", s.ref.String())
	}
	s.end()
	return nil
}

// request asks for the subscription, behind what has come already.
func (s *Subscription) request() *gate_pb.SubscribeRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &gate_pb.SubscribeRequest{Type: s.ref.Type, Id: s.ref.ID}
	if s.begun && s.incarnation != 0 {
		r.Incarnation, r.Version = s.incarnation, s.version
	}
	return r
}

// signal puts a token into a channel that has room for one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it has it
	}
}
