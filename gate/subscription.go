package gate

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
	goverse_pb "github.com/xiaonanln/goverse/proto"
)

// maxAsks bounds the snapshots that one client waits for, or has not taken yet.
const maxAsks = 8

// Published is what a client is told of an object: first a snapshot, then each change
// behind it; and a snapshot again, as a Reset, where changes are missing. Its messages
// are shared, and nobody changes them.
type Published struct {
	Subscription uint64 // its number
	Version      uint64 // what the object is at now
	Snapshot     bool   // else a change
	Reset        bool   // a snapshot, and not the first
	Reason       string // of the reset
	Incarnation  uint64 // of a snapshot: which of the object's lives the versions count
	Any          *anypb.Any
	JSON         []byte // the same in protojson; empty where the node had none. Of a snapshot it is this or Any

	Err error // the subscription has ended, and why; nothing else counts then

	came time.Time // a change: to the gate; zero: nobody wants to know
}

// Subscriber is one client's subscriptions. Its door has one goroutine that takes what is
// published, as with a Session:
//
//	for p, ok := s.Next(); ok; p, ok = s.Next() { send(p) }
//	<-s.Ready()
//
// All methods may be called concurrently, except that Next and Ready have one user.
type Subscriber struct {
	of    *Feeds
	id    string // the client's
	json  bool
	ready chan struct{} // has a token when there may be something to take

	life context.Context // of what is asked
	end  context.CancelFunc
	asks sync.WaitGroup

	mu     sync.Mutex // protects following fields
	last   uint64     // number
	all    map[uint64]*Subscription
	marked []*Subscription // that may have something
	under  int             // snapshots that are asked for or not taken
	hungry []*Subscription // that wait for one less,
	room   chan struct{}   // and so do new ones: closed then; nil: none does
	closed bool
}

// Subscription is one client's place in an object's changes. But for its number its fields
// belong to its feed's mutex.
type Subscription struct {
	client *Subscriber
	feed   *feed
	number uint64

	started     bool // its number is told
	asking      bool // for a snapshot
	resting     bool // until it asks again, so that others may meanwhile
	pause       time.Duration
	snapshot    *Published       // not taken yet
	missed      []peer.PushFrame // likewise, of one that goes on from an earlier session
	shown       bool             // the client has had one
	incarnation uint64           // which the client knows, or is to get; 0: none
	version     uint64
	stirs       uint64    // of the feed, when it asked
	begun       time.Time // what came before it did not wait for this client
	reason      string    // why the client needs a snapshot
	err         error     // it has ended

	dirty  bool // it is in client.marked; belongs to Subscriber.mu
	hungry bool // it is in client.hungry; likewise
}

// Open begins the subscriptions of a client; json says in which form it takes snapshots.
// They end with Close; what ctx says of the client counts for all that is asked for it.
func (s *Feeds) Open(ctx context.Context, clientID string, json bool) *Subscriber {
	c := &Subscriber{of: s, id: clientID, json: json, ready: make(chan struct{}, 1), all: map[uint64]*Subscription{}}
	c.life, c.end = context.WithCancel(context.WithoutCancel(ctx))
	return c
}

// Ready has a token when something was published since Next last found nothing.
func (c *Subscriber) Ready() <-chan struct{} { return c.ready }

// Point is how far a client has come with an object: the incarnation of its last snapshot,
// and the version of the last that it was told.
type Point struct{ Incarnation, Version uint64 }

// Subscribe asks the object, which may refuse, and waits for its answer. Nothing is taken
// from the subscription until Start. The error is always a *fault.Error.
func (c *Subscriber) Subscribe(ctx context.Context, ref object.Ref) (*Subscription, error) {
	return c.SubscribeFrom(ctx, ref, Point{})
}

// SubscribeFrom is Subscribe for a client that has followed the object before, here or at
// another gate. The changes since follow without a snapshot, if they are still there.
func (c *Subscriber) SubscribeFrom(ctx context.Context, ref object.Ref, from Point) (*Subscription, error) {
	if err := c.await(ctx); err != nil {
		return nil, fault.Of(err).On("Subscribe", ref.String())
	}
	s, err := c.enter(ref)
	if err != nil {
		c.yield()
		return nil, fault.Of(err).On("Subscribe", ref.String())
	}
	for {
		reply, err := s.inquire(ctx, &goverse_pb.SubscribeRequest{Json: c.json, Incarnation: from.Incarnation, Version: from.Version})
		if err != nil {
			c.remove(s)
			return nil, fault.Of(err)
		}
		if s.begin(reply, from) {
			return s, nil
		}
	}
}

// await waits until one more snapshot may be asked for, and counts it.
func (c *Subscriber) await(ctx context.Context) error {
	for {
		c.mu.Lock()
		if c.under < maxAsks || c.closed {
			c.under++
			c.mu.Unlock()
			return nil
		}
		if c.room == nil {
			c.room = make(chan struct{})
		}
		room := c.room
		c.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return fault.Waited(ctx, "while %d snapshots wait for the client to take them", maxAsks)
		}
	}
}

// enter makes a subscription that has asked for nothing yet.
func (c *Subscriber) enter(ref object.Ref) (*Subscription, error) {
	f, err := c.of.enter(ref)
	if err != nil {
		return nil, err
	}
	s := &Subscription{client: c, feed: f, asking: true}
	if err := c.add(s); err != nil {
		c.of.leave(f, 0)
		return nil, err
	}
	f.mu.Lock()
	f.readers[s] = struct{}{}
	f.mu.Unlock()
	return s, nil
}

func (c *Subscriber) add(s *Subscription) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return fault.New(fault.NotReady, "the session has ended; connect again")
	case len(c.all) >= c.of.cfg.MaxSubscriptions:
		return fault.New(fault.Overloaded, "this client has its %d subscriptions; end one before the next", c.of.cfg.MaxSubscriptions)
	}
	c.last++
	s.number = c.last
	c.all[s.number] = s
	return nil
}

// Number is what the client calls the subscription by.
func (s *Subscription) Number() uint64 { return s.number }

// Start lets what is published be taken.
func (s *Subscription) Start() {
	s.feed.mu.Lock()
	defer s.feed.mu.Unlock()
	s.started = true
	s.client.mark(s)
}

// Unsubscribe ends the subscription of that number: nothing of it is taken any more.
func (c *Subscriber) Unsubscribe(number uint64) error {
	c.mu.Lock()
	s := c.all[number]
	c.mu.Unlock()
	if s == nil || !s.isStarted() {
		return fault.New(fault.NotFound, "there is no subscription %d in this session", number).On("Unsubscribe", "")
	}
	c.remove(s)
	return nil
}

func (s *Subscription) isStarted() bool {
	s.feed.mu.Lock()
	defer s.feed.mu.Unlock()
	return s.started
}

// Close ends all subscriptions, and what is asked for them.
func (c *Subscriber) Close() { c.Leave(0) }

// Leave is Close for a client that may come back and go on. For so long the gate stays in
// touch with the objects, so that they keep their changes.
func (c *Subscriber) Leave(linger time.Duration) {
	c.mu.Lock()
	c.closed = true
	all := make([]*Subscription, 0, len(c.all))
	for _, s := range c.all {
		all = append(all, s)
	}
	c.mu.Unlock()
	c.end()
	for _, s := range all {
		c.removeFor(s, linger)
	}
	c.asks.Wait()
}

// remove takes a subscription out, once.
func (c *Subscriber) remove(s *Subscription) { c.removeFor(s, 0) }

func (c *Subscriber) removeFor(s *Subscription, linger time.Duration) {
	c.mu.Lock()
	_, known := c.all[s.number]
	delete(c.all, s.number)
	c.mu.Unlock()
	if !known {
		return
	}
	f := s.feed
	f.mu.Lock()
	delete(f.readers, s)
	held := s.asking || s.holdsLocked()
	s.asking, s.snapshot, s.missed, s.started = false, nil, nil, false
	f.mu.Unlock()
	if held {
		c.yield()
	}
	c.of.leave(f, linger)
}

// holdsLocked says that there is an answer that is not taken yet.
func (s *Subscription) holdsLocked() bool { return s.snapshot != nil || len(s.missed) > 0 }

// mark notes that a subscription may have something to take.
func (c *Subscriber) mark(s *Subscription) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.markLocked(s)
}

func (c *Subscriber) markLocked(s *Subscription) {
	if !s.dirty {
		s.dirty = true
		c.marked = append(c.marked, s)
	}
	select {
	case c.ready <- struct{}{}:
	default: // it has its token
	}
}

// Next takes what is to be told next: of each subscription in order, and of several in
// turn.
func (c *Subscriber) Next() (Published, bool) {
	for {
		s := c.nextMarked()
		if s == nil {
			return Published{}, false
		}
		p, more, ok := s.take()
		if more {
			c.mark(s)
		}
		if ok && p.Err != nil {
			c.remove(s)
		}
		if ok {
			c.of.passed(p.came)
			return p, true
		}
	}
}

func (c *Subscriber) nextMarked() *Subscription {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.marked) == 0 {
		c.marked = nil
		return nil
	}
	s := c.marked[0]
	c.marked[0] = nil
	c.marked = c.marked[1:]
	s.dirty = false
	return s
}

// take is the next that the client is told of the subscription; more: there may be
// something behind it.
func (s *Subscription) take() (p Published, more, ok bool) {
	f := s.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case !s.started:
		return p, false, false
	case s.err != nil:
		return Published{Subscription: s.number, Err: s.err}, false, true
	case s.asking || s.resting:
		return p, false, false
	case s.lagsLocked():
		s.dropLocked()
		s.askLocked()
		return p, false, false
	case s.snapshot != nil:
		p, s.snapshot, s.shown = *s.snapshot, nil, true
		s.client.yield()
		return p, s.version < f.version, true
	case len(s.missed) > 0:
		s.version++
		frame := s.missed[0]
		if s.missed = s.missed[1:]; len(s.missed) == 0 {
			s.client.yield()
		}
		return s.change(frame), true, true
	case s.version < f.version:
		s.version++
		frame := f.changes[len(f.changes)-1-int(f.version-s.version)]
		return s.change(frame), s.version < f.version, true
	}
	return p, false, false
}

// Why a client gets the state anew.
const (
	reasonAnew = "the object began anew: it was ended, deleted, or its node failed"
	reasonSlow = "the client did not read the changes as fast as they came"
	reasonLate = "not all changes are there any more that came since the client was here"
)

// lagsLocked says that the client cannot go on from where it is, and notes why.
func (s *Subscription) lagsLocked() bool {
	switch f := s.feed; {
	case s.incarnation == 0:
		return true
	case s.incarnation != f.incarnation:
		s.reason = reasonAnew
	case !f.reachesLocked(s.version + uint64(len(s.missed))):
		s.reason = reasonSlow
	default:
		return false
	}
	return true
}

// dropLocked gives up a snapshot that is of no use any more.
func (s *Subscription) dropLocked() {
	s.incarnation = 0
	if s.holdsLocked() {
		s.snapshot, s.missed = nil, nil
		s.client.yield()
	}
}

// askLocked asks for a snapshot, now or when the client has taken others.
func (s *Subscription) askLocked() {
	if s.client.seat(s) {
		s.asking = true
		s.client.asks.Go(func() { s.ask(s.client.life) })
	}
}

// seat counts one more snapshot; false: s waits until there is one less.
func (c *Subscriber) seat(s *Subscription) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return false
	case c.under >= maxAsks:
		if !s.hungry {
			s.hungry = true
			c.hungry = append(c.hungry, s)
		}
		return false
	}
	c.under++
	return true
}

// yield counts one less, and lets who waits try again.
func (c *Subscriber) yield() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.under--
	for _, s := range c.hungry {
		s.hungry = false
		c.markLocked(s)
	}
	c.hungry = nil
	if c.room != nil {
		close(c.room)
		c.room = nil
	}
}

// ask asks once. Where there is no answer that counts it is done again, after a rest.
func (s *Subscription) ask(ctx context.Context) {
	asking, cancel := context.WithTimeout(ctx, askWithin)
	reply, err := s.inquire(asking, &goverse_pb.SubscribeRequest{Json: s.client.json})
	cancel()
	switch {
	case err == nil && s.begin(reply, Point{}):
	case err != nil && !passes(err):
		s.fail(err)
	default:
		s.rest(ctx)
	}
}

// inquire asks, and remembers what the feed had been through then.
func (s *Subscription) inquire(ctx context.Context, req *goverse_pb.SubscribeRequest) (*goverse_pb.SubscribeReply, error) {
	s.feed.mu.Lock()
	s.stirs = s.feed.stirs
	s.feed.mu.Unlock()
	return s.client.of.ask(ctx, s.client.id, s.feed.ref, req)
}

// Pauses between questions for one snapshot.
const (
	firstRest = 50 * time.Millisecond
	longRest  = 5 * time.Second
)

// rest leaves its place among those that ask to others, for a while.
func (s *Subscription) rest(ctx context.Context) {
	f := s.feed
	f.mu.Lock()
	if !s.asking { // it was ended meanwhile
		f.mu.Unlock()
		return
	}
	s.asking, s.resting = false, true
	s.pause = min(max(2*s.pause, firstRest), longRest)
	waiting, cancel := context.WithTimeout(ctx, s.pause/2+rand.N(s.pause/2))
	f.mu.Unlock()
	defer cancel()
	s.client.yield()
	<-waiting.Done()
	f.mu.Lock()
	s.resting = false
	f.mu.Unlock()
	s.client.mark(s)
}

// begin takes the object's answer; false: what follows its snapshot is not here any more.
// from is how far the client had come, if it has asked to go on.
func (s *Subscription) begin(reply *goverse_pb.SubscribeReply, from Point) bool {
	ask, begun := s.settle(reply, from)
	if ask {
		s.feed.of.hurry(s.feed)
	}
	return begun
}

func (s *Subscription) settle(reply *goverse_pb.SubscribeReply, from Point) (ask, begun bool) {
	f := s.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	if !s.asking {
		return false, true // it was ended meanwhile
	}
	ask = f.learnLocked(reply) || s.stirs != f.stirs
	switch {
	case from.Incarnation != 0 && reply.Continued:
		begun = s.goOnLocked(reply, from)
	case from.Incarnation == reply.Incarnation && from.Version <= min(f.version, reply.Version) && f.reachesLocked(from.Version):
		begun = s.goOnLocked(reply, from) // the object has moved, and its next holder does not have what came before
		ask = ask || f.version < reply.Version
	default:
		begun = s.showLocked(reply, from)
	}
	if begun {
		s.asking, s.pause = false, 0
		s.client.mark(s)
	}
	return ask, begun
}

// showLocked begins with the snapshot.
func (s *Subscription) showLocked(reply *goverse_pb.SubscribeReply, from Point) bool {
	if !s.feed.reachesLocked(reply.Version) {
		return false
	}
	if from.Incarnation != 0 {
		s.shown, s.reason = true, reasonAnew
		if from.Incarnation == reply.Incarnation {
			s.reason = reasonLate
		}
	}
	s.incarnation, s.version, s.begun = reply.Incarnation, reply.Version, time.Now()
	s.snapshot = &Published{
		Subscription: s.number, Version: reply.Version, Incarnation: reply.Incarnation, Snapshot: true, Any: reply.Snapshot, JSON: reply.Json, Reset: s.shown,
	}
	if s.shown {
		s.snapshot.Reason = s.reason
	}
	return true
}

// goOnLocked begins with the changes behind from: those that the holder says were missed,
// and the others from here.
func (s *Subscription) goOnLocked(reply *goverse_pb.SubscribeReply, from Point) bool {
	f, missed := s.feed, reply.Missed
	if !f.reachesLocked(from.Version + uint64(len(missed))) {
		return false
	}
	s.shown, s.incarnation, s.version, s.begun = true, reply.Incarnation, from.Version, time.Now()
	for _, m := range missed {
		s.missed = append(s.missed, f.frameOf(m))
	}
	if len(missed) == 0 {
		s.client.yield()
	}
	return true
}

// fail ends the subscription: the client is told why.
func (s *Subscription) fail(err error) {
	s.feed.mu.Lock()
	held := s.asking
	s.asking, s.err = false, err
	s.feed.mu.Unlock()
	if held {
		s.client.yield()
	}
	s.client.mark(s)
}

func (s *Subscription) change(frame peer.PushFrame) Published {
	p := Published{Subscription: s.number, Version: s.version, Any: frame.Message, JSON: frame.JSON}
	if frame.At.After(s.begun) {
		p.came = frame.At
	}
	return p
}
