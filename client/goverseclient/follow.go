package goverseclient

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/internal/batch"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// maxAsking bounds the subscriptions of a client that are asked for at once: an object that
// does not answer holds up no calls.
const maxAsking = 16

// askBackoff paces the questions for one subscription that fail.
var askBackoff = backoff{first: 50 * time.Millisecond, max: 5 * time.Second}

// keep asks for the subscription again wherever it has stopped to come, until it ends.
func (s *Subscription) keep() {
	defer s.client.parts.Done()
	defer close(s.ended)
	defer s.leave()
	defer s.end()
	for failed := 0; s.waits(); {
		asking, cancel := context.WithTimeout(s.life, s.client.cfg.callTimeout)
		err := s.ask(asking)
		cancel()
		switch {
		case err == nil:
			failed = 0
		case passes(err):
			pause(s.life, askBackoff.delay(failed, rand.Float64()), nil)
			failed++
		default:
			s.finish(err)
			return
		}
	}
	s.finish(closed(false).On("Subscribe", s.ref.String()))
}

// waits returns when the subscription is to be asked for; false: it has ended.
func (s *Subscription) waits() bool {
	for s.life.Err() == nil {
		s.mu.Lock()
		by, full := s.stream, s.paused && len(s.queue) > 0
		s.mu.Unlock()
		var over chan struct{}
		if by != nil {
			over = by.over
		}
		if by == nil && !full || by != nil && by.isOver() {
			return true
		}
		select {
		case <-over:
		case <-s.again:
		case <-s.life.Done():
		}
	}
	return false
}

// ask asks the object to let the client in.
func (s *Subscription) ask(ctx context.Context) error {
	f := flightOf(&object.Call{Ref: s.ref, AtLeastOnce: true})
	f.op, f.subject = "Subscribe", s.ref.String()
	select {
	case s.client.asking <- struct{}{}:
		defer func() { <-s.client.asking }()
	case <-ctx.Done():
		return f.named(fault.Waited(ctx, "while %d subscriptions of this client are asked for", maxAsking))
	case <-s.life.Done():
		return f.named(closed(false))
	}
	return s.client.fly(ctx, f, func(ctx context.Context, l *link) error {
		if l.stream == nil || !l.stream.feeds.known {
			return fault.New(fault.Invalid, "the gate %s has no stream with subscriptions, or the client does not use it: WithUnaryCalls", l.address)
		}
		return l.stream.subscribe(ctx, s)
	})
}

// leave tells the gate that nobody follows any more.
func (s *Subscription) leave() {
	s.mu.Lock()
	by, number := s.stream, s.number
	s.stream = nil
	s.mu.Unlock()
	if by != nil {
		by.unsubscribe(number)
	}
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

// feeds is the subscriptions that come by a stream. But for known it belongs to the stream's
// mutex.
type feeds struct {
	known     bool                     // the gate has such
	followers map[uint64]*Subscription // by number
	highest   uint64                   // number
	unwanted  []uint64                 // that the gate is to end
}

// subscribe asks the gate for a subscription. What is published comes behind the answer.
func (s *stream) subscribe(ctx context.Context, to *Subscription) error {
	t, ok := ctx.Value(traceKey{}).(*trace)
	if !ok {
		t = new(trace)
	}
	f := &gate_pb.ClientFrame{Kind: &gate_pb.ClientFrame_Subscribe{Subscribe: to.request()}}
	answer, err := s.callFor(ctx, t, f, to)
	if err == nil && answer.GetSubscribed() == nil {
		err = s.breach("the gate answers another question than was asked")
	}
	return err
}

// beginLocked begins to hand on what is published under the number of an answer that has
// one. Nobody may want it any more.
func (s *stream) beginLocked(answer *gate_pb.SubscribeResponse, w *waiter) error {
	if answer == nil {
		return nil
	}
	number := answer.Subscription
	if number == 0 || s.feeds.followers[number] != nil {
		return fmt.Errorf("the gate begins a subscription %d, which there is or cannot be", number)
	}
	s.feeds.highest = max(s.feeds.highest, number)
	if w == nil || w.follower == nil || !w.follower.attach(s, number) {
		s.feeds.unwanted = append(s.feeds.unwanted, number)
		return nil
	}
	if s.feeds.followers == nil {
		s.feeds.followers = map[uint64]*Subscription{}
	}
	s.feeds.followers[number] = w.follower
	return nil
}

// endUnwantedLocked has the gate end subscriptions that nobody wants any more.
func (s *stream) endUnwantedLocked(b *[]byte) {
	if s.err != nil {
		return
	}
	n := min(len(s.feeds.unwanted), s.free)
	for _, subscription := range s.feeds.unwanted[:n] {
		s.number++
		s.free--
		s.waiting[s.number] = nil // nobody waits for the answer
		f := &gate_pb.ClientFrame{Kind: &gate_pb.ClientFrame_Unsubscribe{Unsubscribe: &gate_pb.UnsubscribeRequest{Subscription: subscription}}}
		body, _ := proto.Marshal(f) // a number: it cannot fail
		*b = batch.AppendFrame(*b, appendHead(nil, s.number, 0), body)
	}
	s.feeds.unwanted = slices.Delete(s.feeds.unwanted, 0, n)
}

func (s *stream) isOver() bool {
	select {
	case <-s.over:
		return true
	default:
		return false
	}
}

// published hands on what is published.
func (s *stream) published(m *gate_pb.Published) error {
	s.mu.Lock()
	to, known := s.feeds.followers[m.GetSubscription()], 0 < m.GetSubscription() && m.GetSubscription() <= s.feeds.highest
	s.mu.Unlock()
	switch {
	case !known:
		return errors.New("the gate publishes to a subscription that there is not")
	case to == nil:
		return nil // it was ended meanwhile
	}
	more, err := to.take(s, m)
	if err == nil && !more {
		s.unsubscribe(m.Subscription)
	}
	return err
}

// unsubscribe ends a subscription. The gate's answer tells nothing.
func (s *stream) unsubscribe(number uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.feeds.followers[number] == nil {
		return
	}
	delete(s.feeds.followers, number)
	s.feeds.unwanted = append(s.feeds.unwanted, number)
	s.rouse()
}
