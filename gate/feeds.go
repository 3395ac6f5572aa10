package gate

import (
	"container/list"
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
	goverse_pb "github.com/xiaonanln/goverse/proto"
)

// FeedsConfig is how a gate follows objects for its clients. Zero means default.
type FeedsConfig struct {
	Address string // the gate's advertised address

	// Ask runs a call for a client, or where clientID is empty for the gate itself.
	Ask func(ctx context.Context, clientID string, call object.Call) (object.Payload, error)

	Listener         event.Listener
	MaxFeeds         int // objects that are followed at once; DefaultMaxFeeds
	MaxSubscriptions int // of one client; DefaultMaxSubscriptions
}

// Defaults of FeedsConfig.
const (
	DefaultMaxFeeds         = 100_000
	DefaultMaxSubscriptions = 1024
)

// How a gate stays in touch with the holders of what it follows.
const (
	renewEvery  = 10 * time.Second // a third of the time after which a holder forgets the gate
	renewWithin = 10 * time.Second
	lateWithin  = time.Second            // what is missing may still come on the last holder's stream
	renewAgain  = 250 * time.Millisecond // after a renewal that failed, or did not close the gap
	maxRenewals = 1024                   // at once
	askWithin   = 30 * time.Second
	lookEvery   = time.Second
)

// Feeds follows objects for a gate's clients: each once, however many have subscribed.
// What their methods publish comes by Deliver, and each client takes it at its own pace.
// All methods may be called concurrently. Locks are taken in the order Feeds.mu, feed.mu,
// Subscriber.mu.
type Feeds struct {
	cfg  FeedsConfig
	wake chan struct{} // has a token when somebody is to be renewed, or followed for the first time

	mu      sync.Mutex
	feeds   map[object.Ref]*feed
	idle    list.List // of those that only wait for clients to come back, in the order in which these left
	hurried []*feed   // to be renewed at once
}

// NewFeeds follows nothing yet.
func NewFeeds(cfg FeedsConfig) *Feeds {
	if cfg.MaxFeeds <= 0 {
		cfg.MaxFeeds = DefaultMaxFeeds
	}
	if cfg.MaxSubscriptions <= 0 {
		cfg.MaxSubscriptions = DefaultMaxSubscriptions
	}
	return &Feeds{cfg: cfg, wake: make(chan struct{}, 1), feeds: map[object.Ref]*feed{}}
}

// Deliver takes a frame of a node's stream that is for those who follow an object; false:
// it is for others. It waits for nobody.
func (s *Feeds) Deliver(frame peer.PushFrame) bool {
	switch {
	case frame.Stream != nil:
		s.rejoin(frame.Stream.Node)
	case frame.Change != nil:
		s.mu.Lock()
		f := s.feeds[frame.Change.Ref]
		s.mu.Unlock()
		if f != nil && f.deliver(frame) {
			s.hurry(f)
		}
	default:
		return false
	}
	return true
}

// rejoin looks after what a node's objects may have published while nobody listened.
func (s *Feeds) rejoin(node string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.feeds {
		if f.stir(node) {
			s.hurryLocked(f)
		}
	}
}

func (s *Feeds) hurry(f *feed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hurryLocked(f)
}

func (s *Feeds) hurryLocked(f *feed) {
	if f.renewing || f.hurried {
		f.hurried = true // again, after this one
		return
	}
	f.hurried = true
	s.hurried = append(s.hurried, f)
	s.rouse()
}

func (s *Feeds) rouse() {
	select {
	case s.wake <- struct{}{}:
	default: // it has its token
	}
}

// enter is the feed of ref with one more user, who leaves it.
func (s *Feeds) enter(ref object.Ref) (*feed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.feeds[ref]
	if f == nil {
		if front := s.idle.Front(); front != nil && len(s.feeds) >= s.cfg.MaxFeeds {
			s.forgetLocked(front.Value.(*feed))
		}
		if len(s.feeds) >= s.cfg.MaxFeeds {
			return nil, fault.New(fault.Overloaded, "the gate follows its %d objects; connect to another gate, or come again later", s.cfg.MaxFeeds)
		}
		f = newFeed(s, ref)
		f.due = time.Now().Add(renewEvery)
		s.feeds[ref] = f
		s.rouse()
	}
	s.wakeLocked(f)
	f.users++
	return f, nil
}

// leave has one user less. The last may come back for so long.
func (s *Feeds) leave(f *feed, linger time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.users--; f.users > 0 {
		return
	}
	if linger <= 0 {
		s.forgetLocked(f)
		return
	}
	f.idle, f.until = s.idle.PushBack(f), time.Now().Add(linger)
}

// forgetLocked follows an object no more. Its holder forgets this gate after a while.
func (s *Feeds) forgetLocked(f *feed) {
	delete(s.feeds, f.ref)
	s.wakeLocked(f)
}

// wakeLocked takes a feed out of those that only wait.
func (s *Feeds) wakeLocked(f *feed) {
	if f.idle != nil {
		s.idle.Remove(f.idle)
		f.idle = nil
	}
}

// Len is the number of objects that are followed.
func (s *Feeds) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.feeds)
}

// Run stays in touch with the holders until ctx ends, and leaves nothing behind.
func (s *Feeds) Run(ctx context.Context) error {
	var renewals sync.WaitGroup
	defer renewals.Wait()
	seats := make(chan struct{}, maxRenewals)
	for ctx.Err() == nil {
		for _, f := range s.due(time.Now()) {
			select {
			case seats <- struct{}{}:
				renewals.Go(func() { defer func() { <-seats }(); s.renew(ctx, f) })
			case <-ctx.Done():
				return nil
			}
		}
		s.pause(ctx)
	}
	return nil
}

// pause waits until there may be something to renew.
func (s *Feeds) pause(ctx context.Context) {
	if s.Len() > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, lookEvery)
		defer cancel()
	}
	select {
	case <-s.wake:
	case <-ctx.Done():
	}
}

// due takes what is to be renewed now.
func (s *Feeds) due(now time.Time) (due []*feed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	take := func(f *feed) {
		if s.feeds[f.ref] == f && !f.renewing {
			f.renewing, f.hurried = true, false
			due = append(due, f)
		}
	}
	for _, f := range s.hurried {
		take(f)
	}
	s.hurried = nil
	for e := s.idle.Front(); e != nil && !now.Before(e.Value.(*feed).until); e = s.idle.Front() {
		s.forgetLocked(e.Value.(*feed))
	}
	for _, f := range s.feeds {
		if !now.Before(f.due) {
			take(f)
		}
	}
	return due
}

// renew asks the holder to go on, and what was missed; where it cannot, those who have
// subscribed ask for the state.
func (s *Feeds) renew(ctx context.Context, f *feed) {
	next := renewEvery - rand.N(renewEvery/5)
	incarnation, version, stirs := f.at()
	if incarnation != 0 {
		asking, cancel := context.WithTimeout(ctx, renewWithin)
		defer cancel()
		reply, err := s.ask(asking, "", f.ref, &goverse_pb.SubscribeRequest{Renew: true, Incarnation: incarnation, Version: version})
		switch {
		case err == nil && (reply.Continued || f.hasAll(reply)):
			f.doubted = time.Time{}
			if !f.goOn(reply) {
				next = renewAgain
			}
		case err == nil && reply.Incarnation == incarnation && f.mayCome(time.Now()):
			next = renewAgain
		case err == nil:
			f.doubted = time.Time{}
			f.beginAnew(reply)
		case passes(err):
			next = renewAgain + rand.N(4*renewAgain)
		default: // each client is told for itself
			f.lose()
		}
	}
	_, _, now := f.at()
	s.mu.Lock()
	defer s.mu.Unlock()
	f.renewing, f.due = false, time.Now().Add(next)
	if f.hurried || now != stirs {
		f.hurried = false
		s.hurryLocked(f)
	}
}

// ask subscribes the gate at the object's holder, wherever that is.
func (s *Feeds) ask(ctx context.Context, clientID string, ref object.Ref, req *goverse_pb.SubscribeRequest) (*goverse_pb.SubscribeReply, error) {
	req.Gate = s.cfg.Address
	call := object.Call{Ref: ref, Method: object.SubscribeMethod, ReadOnly: true, AtLeastOnce: true}
	packed, err := anypb.New(req)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the subscription cannot be asked for: %w", err).On("Subscribe", ref.String())
	}
	call.Payload = object.OfBinary(packed)
	answer, err := s.cfg.Ask(ctx, clientID, call)
	if err != nil {
		return nil, err
	}
	reply := new(goverse_pb.SubscribeReply)
	if answer.Binary == nil || answer.Binary.MessageName() != reply.ProtoReflect().Descriptor().FullName() ||
		proto.Unmarshal(answer.Binary.Value, reply) != nil || reply.Incarnation == 0 {
		return nil, fault.New(fault.Invalid, "clients cannot subscribe to objects of type %s: %s is a method of its own there", ref.Type, object.SubscribeMethod).On("Subscribe", ref.String())
	}
	return reply, nil
}

// passes says that what failed can be expected to succeed later.
func passes(err error) bool {
	switch fault.KindOf(err) {
	case fault.NotReady, fault.Draining, fault.WrongHolder, fault.Overloaded, fault.Indeterminate, fault.Fenced, fault.StoreFailed,
		fault.Deadline, fault.Canceled:
		return true
	}
	return false
}

// passed tells of a change that came at some time and that a client's connection takes now.
func (s *Feeds) passed(came time.Time) {
	if on := s.cfg.Listener.PushPassed; on != nil && !came.IsZero() {
		on(event.PushPassed{Leg: event.ToClient, Took: time.Since(came)})
	}
}
