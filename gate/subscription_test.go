package gate

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
	goverse_pb "github.com/xiaonanln/goverse/proto"
)

// holder is an object that counts, where its node would be. Its stream reaches the gate
// as the test says.
type holder struct {
	t     *testing.T
	feeds *Feeds
	ref   object.Ref

	mu          sync.Mutex
	n           int64 // the state
	incarnation uint64
	version     uint64
	node        string // in its answers; "": one for each incarnation
	keeps       int    // changes for who missed some
	follows     bool
	deaf        bool  // frames are lost
	fails       error // of what is asked
	asked       int   // for snapshots
	renewed     int
	wait        chan struct{} // answers wait; nil: they do not
}

func newHolder(t *testing.T, cfg FeedsConfig) *holder {
	h := &holder{t: t, ref: object.Ref{Type: "Counter", ID: "a"}, incarnation: 1, keeps: 10}
	cfg.Address, cfg.Ask = "g:1", h.ask
	h.feeds = NewFeeds(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = h.feeds.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	return h
}

// ask answers as a node does.
func (h *holder) ask(ctx context.Context, clientID string, call object.Call) (object.Payload, error) {
	req := new(goverse_pb.SubscribeRequest)
	if err := call.Payload.Binary.UnmarshalTo(req); err != nil || call.Method != object.SubscribeMethod || !call.ReadOnly || !call.AtLeastOnce || req.Gate != "g:1" || req.Renew != (clientID == "") {
		h.t.Errorf("%q asks %+v: %v, %v", clientID, call, req, err)
	}
	h.mu.Lock()
	reply, err, wait := h.answerLocked(clientID, req), h.fails, h.wait
	parked := wait != nil && req.Renew && h.keeps == 0
	h.mu.Unlock()
	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
			return object.Payload{}, fault.Waited(ctx, "slow")
		}
	}
	if parked { // the next holder answers
		h.mu.Lock()
		reply.Incarnation, reply.Version, reply.Continued, reply.Missed = h.incarnation, h.version, false, nil
		h.mu.Unlock()
	}
	if err != nil {
		return object.Payload{}, err
	}
	packed, err := anypb.New(reply)
	return object.OfBinary(packed), err
}

func (h *holder) answerLocked(clientID string, req *goverse_pb.SubscribeRequest) *goverse_pb.SubscribeReply {
	if h.fails != nil {
		return nil
	}
	h.follows = true
	reply := &goverse_pb.SubscribeReply{Incarnation: h.incarnation, Version: h.version, Node: cmp.Or(h.node, fmt.Sprint("n:", h.incarnation))}
	if req.Incarnation == h.incarnation && req.Version <= h.version && h.version-req.Version <= uint64(h.keeps) {
		reply.Continued = true
		for v := req.Version + 1; v <= h.version; v++ {
			f := h.frame(v)
			reply.Missed = append(reply.Missed, &goverse_pb.MissedChange{Version: v, Message: f.Message, Json: f.JSON})
		}
	}
	if !req.Renew {
		h.asked++
		if reply.Continued {
			return reply
		}
		if strings.Contains(clientID, "bad") {
			h.t.Error("a client that was refused asks again")
		}
		reply.Snapshot, _ = anypb.New(wrapperspb.Int64(h.n))
		if req.Json {
			reply.Json = fmt.Appendf(nil, "%q", fmt.Sprint(h.n))
			reply.Snapshot.Value = nil
		}
		return reply
	}
	h.renewed++
	return reply
}

// frame is the change that made version v: within an incarnation n grows with v.
func (h *holder) frame(v uint64) peer.PushFrame {
	n := h.n - int64(h.version-v)
	m, _ := anypb.New(wrapperspb.Int64(n))
	return peer.PushFrame{Message: m, JSON: fmt.Appendf(nil, "%q", fmt.Sprint(n)), Change: &peer.Change{Ref: h.ref, Incarnation: h.incarnation, Version: v}}
}

func (h *holder) publish(times int) {
	for range times {
		h.mu.Lock()
		h.n++
		h.version++
		f, send := h.frame(h.version), h.follows && !h.deaf
		h.mu.Unlock()
		if send {
			h.feeds.Deliver(f)
		}
	}
}

// begin ends the activation and begins the next.
func (h *holder) begin(said bool) {
	h.mu.Lock()
	end := peer.PushFrame{Change: &peer.Change{Ref: h.ref, Incarnation: h.incarnation, Version: h.version, Ended: true}}
	h.incarnation, h.version, h.follows = h.incarnation+1, 0, false
	h.mu.Unlock()
	if said {
		h.feeds.Deliver(end)
	}
}

func (h *holder) set(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
}

// reader is a client, whose every word is checked.
type reader struct {
	t       *testing.T
	c       *Subscriber
	heard   []string
	n       int64
	version uint64
	shown   bool

	incarnation uint64 // of the last snapshot
}

func (h *holder) reader(name string, json bool) *reader {
	r := &reader{t: h.t, c: h.feeds.Open(h.t.Context(), "g:1/"+name, json)}
	h.t.Cleanup(r.c.Close)
	return r
}

func (r *reader) subscribe(ref object.Ref) uint64 {
	r.t.Helper()
	s, err := r.c.Subscribe(context.Background(), ref)
	if err != nil {
		r.t.Fatal(err)
	}
	s.Start()
	return s.Number()
}

// read takes all there is, of a reader with one subscription.
func (r *reader) read() {
	for p, ok := r.c.Next(); ok; p, ok = r.c.Next() {
		r.take(p)
	}
}

func (r *reader) take(p Published) {
	if p.Err != nil {
		r.heard = append(r.heard, "over")
		return
	}
	n := number(r.t, p)
	switch {
	case p.Snapshot && p.Reset != r.shown, p.Reset && p.Reason == "":
		r.t.Errorf("a snapshot says it is a reset: %v, because %q", p.Reset, p.Reason)
	case !p.Snapshot && (!r.shown || p.Version != r.version+1 || n != r.n+1):
		r.t.Errorf("behind %d at version %d came %d at %d", r.n, r.version, n, p.Version)
	}
	word := ""
	if p.Snapshot {
		word = "="
	}
	if p.Reset {
		word = "!"
	}
	r.heard = append(r.heard, fmt.Sprint(word, n))
	r.n, r.version, r.shown = n, p.Version, true
	if p.Snapshot {
		r.incarnation = p.Incarnation
	}
}

// comeBack leaves the connection, and comes over another one.
func (r *reader) comeBack(h *holder, after time.Duration) {
	r.t.Helper()
	r.c.Leave(time.Minute)
	time.Sleep(after)
	r.c = h.feeds.Open(h.t.Context(), r.c.id, r.c.json)
	h.t.Cleanup(r.c.Close)
	for {
		s, err := r.c.SubscribeFrom(context.Background(), h.ref, Point{r.incarnation, r.version})
		if err == nil {
			s.Start()
			return
		}
		if !passes(err) {
			r.t.Fatal(err)
		}
		h.set(func() { h.fails = nil })
	}
}

func number(t *testing.T, p Published) (n int64) {
	t.Helper()
	if len(p.JSON) > 0 {
		fmt.Sscanf(string(p.JSON), "\"%d\"", &n)
		return n
	}
	v := new(wrapperspb.Int64Value)
	if err := p.Any.UnmarshalTo(v); err != nil {
		t.Error(err)
	}
	return v.Value
}

func (r *reader) want(want string) {
	r.t.Helper()
	synctest.Wait()
	for range 3 { // what it asks for while it reads
		r.read()
		synctest.Wait()
	}
	if got := strings.Join(r.heard, " "); got != want {
		r.t.Errorf("the client heard %q, want %q", got, want)
	}
	r.heard = nil
}

func bubble(t *testing.T, f func(t *testing.T)) { t.Helper(); synctest.Test(t, f) }

func TestASnapshotAndThenItsChanges(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHolder(t, FeedsConfig{})
		h.publish(3)
		a, b := h.reader("a", true), h.reader("b", false)
		a.subscribe(h.ref)
		h.publish(2)
		b.subscribe(h.ref)
		h.publish(1)
		a.want("=3 4 5 6")
		b.want("=5 6")
		if h.feeds.Len() != 1 || h.asked != 2 {
			t.Errorf("%d objects are followed, %d snapshots were asked for", h.feeds.Len(), h.asked)
		}
		h.feeds.Deliver(h.frame(6)) // again
		h.feeds.Deliver(h.frame(2))
		if h.feeds.Deliver(peer.PushFrame{Broadcast: true}) {
			t.Error("a push is taken for a change")
		}
		a.want("")
	})
}

// Changes that overtake the answer to the question are not lost.
func TestChangesBeforeTheAnswer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHolder(t, FeedsConfig{})
		h.publish(1)
		h.set(func() { h.wait = make(chan struct{}) })
		a := h.reader("a", false)
		done := make(chan struct{})
		go func() { defer close(done); a.subscribe(h.ref) }()
		synctest.Wait()
		h.publish(3)
		close(h.wait)
		<-done
		h.set(func() { h.wait = nil })
		a.want("=1 2 3 4")
		// Neither when there are more of them than are kept.
		h.set(func() { h.wait = make(chan struct{}) })
		b := h.reader("b", false)
		done = make(chan struct{})
		go func() { defer close(done); b.subscribe(h.ref) }()
		synctest.Wait()
		h.publish(maxChanges + 5)
		close(h.wait)
		<-done
		h.set(func() { h.wait = nil })
		b.want(fmt.Sprint("=", maxChanges+9))
	})
}

// What becomes of an object while the answer to a question is on its way counts for that
// answer too: nobody waits for the next renewal to hear of it.
func TestWhatHappensBeforeTheAnswer(t *testing.T) {
	nothing := func(*holder) {}
	for name, c := range map[string]struct {
		meanwhile, then func(h *holder)
		want            string
	}{
		"the object moves":         {func(h *holder) { h.begin(true) }, func(h *holder) { h.publish(20) }, "=20"},
		"it moves, and is watched": {func(h *holder) { h.publish(1); h.begin(true); h.publish(2) }, nothing, "=3"},
		"the stream comes late": {func(h *holder) {
			h.set(func() { h.deaf = true })
			h.publish(20)
			h.set(func() { h.deaf = false })
			h.feeds.Deliver(peer.PushFrame{Stream: &peer.Stream{Node: "n:1", Up: true}})
		}, nothing, "=0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				h := newHolder(t, FeedsConfig{})
				h.set(func() { h.keeps, h.wait = 20, make(chan struct{}) })
				a := h.reader("a", false)
				var subscribing sync.WaitGroup
				subscribing.Go(func() { a.subscribe(h.ref) })
				synctest.Wait()
				c.meanwhile(h)
				answer := h.wait
				h.set(func() { h.wait = nil })
				close(answer)
				c.then(h)
				subscribing.Wait()
				began := time.Now()
				a.want(c.want)
				if waited := time.Since(began); waited > 0 {
					t.Errorf("it took %v", waited)
				}
			})
		})
	}
}

// The same holds for what a renewal is told: the gate begins to listen to the next holder
// while it is asked.
func TestAStreamThatBeginsBeforeTheRenewalsAnswer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHolder(t, FeedsConfig{})
		h.set(func() { h.keeps = 20 })
		a := h.reader("a", false)
		a.subscribe(h.ref)
		a.want("=0")
		h.set(func() { h.wait, h.node, h.deaf = make(chan struct{}), "n:next", true })
		h.feeds.Deliver(peer.PushFrame{Change: &peer.Change{Ref: h.ref, Incarnation: 1, Ended: true}})
		synctest.Wait()
		h.publish(20)
		h.feeds.Deliver(peer.PushFrame{Stream: &peer.Stream{Node: "n:next", Up: true}})
		answer := h.wait
		h.set(func() { h.wait, h.deaf = nil, false })
		close(answer)
		a.want("1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20")
	})
}

func TestAGapIsClosedOrAnnounced(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHolder(t, FeedsConfig{})
		a := h.reader("a", false)
		a.subscribe(h.ref)
		h.publish(1)
		h.set(func() { h.deaf = true })
		h.publish(2)
		h.set(func() { h.deaf = false })
		h.publish(1) // shows that two are missing
		a.want("=0 1 2 3 4")
		h.set(func() { h.deaf = true })
		h.publish(1)
		h.set(func() { h.deaf = false })
		h.feeds.Deliver(peer.PushFrame{Stream: &peer.Stream{Node: "n:7"}})
		a.want("")
		h.feeds.Deliver(peer.PushFrame{Stream: &peer.Stream{Node: "n:1", Up: true}})
		a.want("5")
		h.set(func() { h.deaf = true })
		h.publish(3) // nobody says so
		time.Sleep(renewEvery + lookEvery)
		h.set(func() { h.deaf = false })
		a.want("6 7 8")
		h.set(func() { h.deaf = true })
		h.publish(h.keeps + 1)
		h.set(func() { h.deaf = false })
		h.publish(1)
		time.Sleep(5 * lookEvery)
		a.want("!20")
		// A renewal that waits while changes come is older than they are.
		h.set(func() { h.wait, h.keeps = make(chan struct{}), 0 })
		time.Sleep(renewEvery)
		synctest.Wait()
		h.publish(3)
		close(h.wait)
		h.set(func() { h.wait, h.keeps = nil, 10 })
		time.Sleep(2 * lookEvery)
		a.want("21 22 23")
		h.publish(1)
		a.want("24")
	})
}

// Two streams have no order between them: when an object moves, what its next holder
// sends may come first.
func TestChangesOutOfOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHolder(t, FeedsConfig{})
		a := h.reader("a", false)
		a.subscribe(h.ref)
		h.set(func() { h.fails = fault.New(fault.NotReady, "it moves") })
		h.set(func() { h.deaf = true })
		h.publish(4)
		for _, v := range []uint64{3, 2, 4} {
			h.feeds.Deliver(h.frame(v))
		}
		a.want("=0")
		h.feeds.Deliver(h.frame(1))
		a.want("1 2 3 4")
	})
}

func TestAnObjectThatBeginsAnew(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHolder(t, FeedsConfig{})
		a, b := h.reader("a", false), h.reader("b", true)
		a.subscribe(h.ref)
		b.subscribe(h.ref)
		h.publish(5)
		a.want("=0 1 2 3 4 5")
		h.set(func() { h.n = 2 }) // what a crash leaves
		h.begin(true)
		a.want("!2")
		h.publish(2)
		a.want("3 4")
		b.want("=4") // what was there for it is old by the time it reads
		h.begin(false)
		h.publish(1)
		time.Sleep(renewEvery + lookEvery)
		a.want("!5")
		// An old activation speaks on.
		old := h.frame(1)
		old.Change.Incarnation = 1
		h.feeds.Deliver(old)
		time.Sleep(time.Second)
		h.publish(1)
		a.want("6")
	})
}

// A client that comes back goes on behind what it has, or is told that it does not.
func TestAClientThatComesBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHolder(t, FeedsConfig{})
		h.publish(3)
		a := h.reader("a", false)
		a.subscribe(h.ref)
		h.publish(2)
		a.want("=3 4 5")
		a.comeBack(h, 0) // nothing was missed
		h.publish(1)
		a.want("6")
		a.c.Leave(time.Minute)
		h.publish(3)
		a.comeBack(h, 55*time.Second)
		a.want("7 8 9")
		h.publish(h.keeps + 1) // not read: more than the holder keeps, but the gate has them
		a.comeBack(h, 0)
		a.want("10 11 12 13 14 15 16 17 18 19 20")
		h.set(func() { h.deaf = true })
		h.publish(h.keeps + 1) // and now it has not
		h.set(func() { h.deaf = false })
		a.comeBack(h, 0)
		time.Sleep(2 * lateWithin)
		a.want("!31")
		h.begin(true)
		h.publish(2)
		a.comeBack(h, 0)
		a.want("!33")
		a.version += 1000 // it was never told that
		a.comeBack(h, 0)
		a.want("!33")
		h.publish(1)
		a.want("34")
		a.c.Close() // as where its gate died: the next one has nothing
		h.publish(3)
		a.comeBack(h, 0)
		h.publish(1)
		a.want("35 36 37 38")
	})
}

// While a client may come back its gate stays in touch with what it followed, unless
// another needs the place.
func TestAFeedLingers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHolder(t, FeedsConfig{MaxFeeds: 2})
		ref := func(i int) object.Ref { return object.Ref{Type: "Counter", ID: fmt.Sprint(i)} }
		a := h.reader("a", false)
		a.subscribe(ref(1))
		a.c.Leave(time.Minute)
		b := h.reader("b", false)
		b.subscribe(ref(1))
		if b.c.Leave(time.Minute); h.feeds.Len() != 1 {
			t.Error("it does not linger")
		}
		time.Sleep(55 * time.Second)
		synctest.Wait()
		if n := h.renewed; n < 4 || n > 7 || h.feeds.Len() != 1 {
			t.Errorf("it was renewed %d times, and %d are followed", n, h.feeds.Len())
		}
		time.Sleep(10 * time.Second)
		if synctest.Wait(); h.feeds.Len() != 0 || h.feeds.idle.Len() != 0 {
			t.Error("it lingers for ever")
		}
		for i := range 5 {
			c := h.reader("c", false)
			c.subscribe(ref(i))
			c.c.Leave(time.Minute)
		}
		if synctest.Wait(); h.feeds.Len() != 2 || h.feeds.idle.Len() != 2 || h.feeds.feeds[ref(4)] == nil {
			t.Errorf("%d linger", h.feeds.Len())
		}
	})
}

// Who does not read costs nobody anything but the newest changes, and reads on with the
// state.
func TestAClientThatDoesNotRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHolder(t, FeedsConfig{})
		never, fine := h.reader("never", false), h.reader("fine", false)
		never.subscribe(h.ref)
		fine.subscribe(h.ref)
		never.want("=0")
		for range 10 * maxChanges {
			h.publish(1)
			fine.read()
		}
		if fine.n != 10*maxChanges {
			t.Errorf("the one that reads has %d", fine.n)
		}
		h.feeds.mu.Lock()
		kept := len(h.feeds.feeds[h.ref].changes)
		h.feeds.mu.Unlock()
		if kept > maxChanges || h.asked != 2 {
			t.Errorf("%d changes are kept, %d snapshots were asked for", kept, h.asked)
		}
		never.want(fmt.Sprint("!", 10*maxChanges))
	})
}

func TestARefusalEndsTheSubscription(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHolder(t, FeedsConfig{})
		no := fault.New(fault.Failed, "not you")
		h.set(func() { h.fails = no })
		a := h.reader("a", false)
		if _, err := a.c.Subscribe(context.Background(), h.ref); fault.KindOf(err) != fault.Failed {
			t.Errorf("%v", err)
		}
		if h.feeds.Len() != 0 {
			t.Error("it is followed all the same")
		}
		h.set(func() { h.fails = nil })
		number := a.subscribe(h.ref)
		a.want("=0")
		h.set(func() { h.fails = fault.New(fault.NotReady, "in a moment") })
		h.begin(true)
		time.Sleep(20 * time.Second) // a client is not told of what passes
		a.want("")
		h.set(func() { h.fails = no })
		time.Sleep(20 * time.Second)
		a.want("over")
		if err := a.c.Unsubscribe(number); fault.KindOf(err) != fault.NotFound {
			t.Errorf("%v", err)
		}
		if h.feeds.Len() != 0 {
			t.Error("it is followed all the same")
		}
	})
}

func TestUnsubscribeAndClose(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHolder(t, FeedsConfig{})
		a, b := h.reader("a", false), h.reader("b", false)
		number := a.subscribe(h.ref)
		b.subscribe(h.ref)
		h.publish(1)
		if err := a.c.Unsubscribe(number); err != nil {
			t.Error(err)
		}
		a.want("")
		if err := a.c.Unsubscribe(number); fault.KindOf(err) != fault.NotFound {
			t.Errorf("%v", err)
		}
		b.want("=0 1")
		h.set(func() { h.wait = make(chan struct{}) })
		h.begin(true)
		b.want("")
		b.c.Close() // while it waits for an answer
		b.c.Close()
		if _, err := b.c.Subscribe(context.Background(), h.ref); fault.KindOf(err) != fault.NotReady {
			t.Errorf("%v", err)
		}
		if h.feeds.Len() != 0 {
			t.Error("it is followed all the same")
		}
		before := h.renewed
		time.Sleep(time.Minute)
		if h.renewed != before {
			t.Error("what nobody follows is renewed")
		}
	})
}

func TestSubscriptionsAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHolder(t, FeedsConfig{MaxSubscriptions: 2, MaxFeeds: 3})
		ref := func(i int) object.Ref { return object.Ref{Type: "Counter", ID: fmt.Sprint(i)} }
		a, b := h.reader("a", false), h.reader("b", false)
		a.subscribe(ref(1))
		a.subscribe(ref(2))
		if _, err := a.c.Subscribe(context.Background(), ref(1)); fault.KindOf(err) != fault.Overloaded {
			t.Errorf("%v", err)
		}
		b.subscribe(ref(3))
		if _, err := b.c.Subscribe(context.Background(), ref(4)); fault.KindOf(err) != fault.Overloaded {
			t.Errorf("%v", err)
		}
		b.subscribe(ref(1))
	})
}

// A client that subscribes and does not read gets so many snapshots at a time.
func TestSnapshotsThatAreNotTakenAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHolder(t, FeedsConfig{})
		a := h.reader("a", false)
		var asking sync.WaitGroup
		for i := range 3 * maxAsks {
			asking.Go(func() { a.subscribe(object.Ref{Type: "Counter", ID: fmt.Sprint(i)}) })
		}
		synctest.Wait()
		if h.asked != maxAsks {
			t.Errorf("%d snapshots were asked for", h.asked)
		}
		late, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := a.c.Subscribe(late, h.ref); fault.KindOf(err) != fault.Deadline {
			t.Errorf("%v", err)
		}
		taken := 0
		for range 10 {
			for _, ok := a.c.Next(); ok; _, ok = a.c.Next() {
				taken++
			}
			synctest.Wait()
		}
		asking.Wait()
		if taken != 3*maxAsks {
			t.Errorf("%d snapshots were taken", taken)
		}
	})
}

// Whatever happens to the object and its streams, each client reads a state and all that
// followed it, or the state anew; and in the end what is.
func TestChanceAgainstSubscriptions(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble(t, func(t *testing.T) { chance(t, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

func chance(t *testing.T, r *rand.Rand) {
	h := newHolder(t, FeedsConfig{})
	var readers []*reader
	for i := range 6 {
		readers = append(readers, h.reader(fmt.Sprint(i), i%2 == 0))
		readers[i].subscribe(h.ref)
	}
	var late []peer.PushFrame
	for range 400 {
		switch r.IntN(13) {
		default:
			h.publish(1 + r.IntN(3))
		case 0:
			h.set(func() { h.deaf = !h.deaf })
		case 1:
			h.feeds.Deliver(peer.PushFrame{Stream: &peer.Stream{Node: fmt.Sprint("n:", h.incarnation), Up: true}})
		case 2:
			h.set(func() { h.n -= int64(r.IntN(3)) * int64(h.version) / 4 })
			h.set(func() { h.incarnation, h.version, h.follows = h.incarnation+1, 0, false })
		case 3:
			h.begin(r.IntN(2) == 0)
		case 4:
			h.set(func() {
				if h.version > 0 {
					late = append(late, h.frame(h.version))
				}
			})
		case 5:
			for _, f := range late {
				h.feeds.Deliver(f)
			}
			late = nil
		case 6:
			h.set(func() {
				if h.fails = nil; r.IntN(3) == 0 {
					h.fails = fault.New(fault.Indeterminate, "lost")
				}
			})
		case 7:
			time.Sleep(time.Duration(r.IntN(3000)) * time.Millisecond)
		case 8:
			readers[r.IntN(len(readers))].comeBack(h, time.Duration(r.IntN(3))*time.Second)
		case 9, 10:
			readers[r.IntN(len(readers))].read()
			synctest.Wait()
		}
	}
	h.set(func() { h.fails, h.deaf = nil, false })
	for range 20 {
		time.Sleep(5 * time.Second)
		for _, c := range readers {
			c.read()
		}
		synctest.Wait()
	}
	for i, c := range readers {
		if c.n != h.n || c.version != h.version {
			t.Errorf("client %d has %d at version %d; the object has %d at %d", i, c.n, c.version, h.n, h.version)
		}
	}
}
