package peer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/mem"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// testPipe is one end of a pipe in memory that carries one batch at a time.
type testPipe struct {
	out chan<- []byte
	in  <-chan []byte
	cut chan struct{} // shared by both ends
	end func()
}

func newPipes() (a, b *testPipe) {
	there, back, cut := make(chan []byte), make(chan []byte), make(chan struct{})
	end := sync.OnceFunc(func() { close(cut) })
	return &testPipe{there, back, cut, end}, &testPipe{back, there, cut, end}
}

var errCut = errors.New("the wire is cut")

func (p *testPipe) send(batch *[]byte, _ func()) error {
	defer buffers.Put(batch)
	return p.put(bytes.Clone(*batch))
}

func (p *testPipe) put(batch []byte) error {
	select {
	case p.out <- batch:
		return nil
	case <-p.cut:
		return errCut
	}
}

func (p *testPipe) closeSend() error { return p.put(nil) }

func (p *testPipe) hangUp() { p.end() }

func (p *testPipe) receive() (mem.Buffer, error) {
	select {
	case b := <-p.in:
		if b == nil {
			return nil, io.EOF
		}
		return mem.SliceBuffer(b), nil
	case <-p.cut:
		return nil, errCut
	}
}

// frames takes the next batch apart.
func (p *testPipe) frames(t *testing.T) (all []frame) {
	t.Helper()
	b, err := p.receive()
	if err != nil {
		t.Fatal(err)
	}
	for rest := b.ReadOnlyData(); len(rest) > 0; {
		var f frame
		if f, rest, err = cutFrame(rest); err != nil {
			t.Fatal(err)
		}
		all = append(all, f)
	}
	return all
}

// say sends frames as one batch.
func (p *testPipe) say(t *testing.T, frames ...frame) {
	t.Helper()
	var b []byte
	for _, f := range frames {
		b, _ = appendFrame(b, f.kind, f.id, f.body)
	}
	if err := p.put(b); err != nil {
		t.Fatal(err)
	}
}

// calling is the calling end of a lane in this bubble, and the raw pipe at its other end.
func calling(t *testing.T, l limits) (*outbound, *testPipe) {
	near, far := newPipes()
	out := newOutbound("b:1", near, l)
	var done sync.WaitGroup
	done.Go(func() { _ = out.run() })
	t.Cleanup(func() { out.fail(errClosedHere); done.Wait() })
	return out, far
}

// serving is the serving end of a lane in this bubble, the raw pipe at its other end,
// and its end.
func serving(t *testing.T, svc Service, l limits) (*testPipe, <-chan error) {
	near, far := newPipes()
	in := newInbound(t.Context(), svc, near, l)
	ended := make(chan error, 1)
	go func() {
		err := in.run()
		near.hangUp()
		gone(in)
		ended <- err
	}()
	t.Cleanup(func() { in.fail(errClosedHere); near.hangUp(); gone(in) })
	return far, ended
}

// lane is a whole lane in this bubble.
func lane(t *testing.T, svc Service, l limits) (*outbound, *inbound) {
	near, far := newPipes()
	out, in := newOutbound("b:1", near, l), newInbound(t.Context(), svc, far, l)
	var done sync.WaitGroup
	done.Go(func() { _ = out.run() })
	done.Go(func() { _ = in.run(); far.hangUp(); gone(in) })
	t.Cleanup(func() { out.fail(errClosedHere); done.Wait() })
	return out, in
}

// gone waits until nothing of a serving end is left.
func gone(in *inbound) {
	in.carriers.Wait()
	in.running.Wait()
}

func bodyOf(t *testing.T, p object.Payload) []byte {
	t.Helper()
	b, err := appendCall(t.Context(), nil, callOf(p))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// begin makes a call whose end comes over the channel.
func begin(ctx context.Context, l *outbound, body []byte) <-chan error {
	ended := make(chan error, 1)
	go func() {
		_, err := l.call(ctx, object.FormJSON, body)
		ended <- err
	}()
	return ended
}

// A caller that gives up before its call was handed to the transport knows that it did
// not run, and the peer never hears of it.
func TestACallIsTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, far := calling(t, laneLimits)
		first := begin(t.Context(), out, bodyOf(t, text("1")))
		synctest.Wait() // the sender holds it, and nobody takes it
		ctx, cancel := context.WithCancel(t.Context())
		second := begin(ctx, out, bodyOf(t, text("2")))
		synctest.Wait()
		cancel()
		want(t, <-second, fault.Canceled, fault.NotExecuted)
		third := begin(t.Context(), out, bodyOf(t, text("3")))
		synctest.Wait()
		if got := far.frames(t); len(got) != 1 || got[0].kind != kindCall || got[0].id != 1 {
			t.Errorf("first came %v", got)
		}
		got := far.frames(t)
		if len(got) != 2 || got[0].kind != kindVoid || got[1].kind != kindCall || got[1].id != 3 {
			t.Errorf("then came %v", got)
		}
		reply := appendReply(nil, object.OfJSON(nil), nil)
		far.say(t, frame{kindReply, 3, reply}, frame{kindReply, 1, reply})
		if err := errors.Join(<-first, <-third); err != nil {
			t.Error(err)
		}
	})
}

// After that its outcome is unknown, and the peer is told.
func TestASentCallIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, far := calling(t, laneLimits)
		ctx, cancel := context.WithCancel(t.Context())
		call := begin(ctx, out, bodyOf(t, text("1")))
		far.frames(t)
		cancel()
		want(t, <-call, fault.Canceled, fault.OutcomeUnknown)
		if got := far.frames(t); len(got) != 1 || got[0].kind != kindCancel || got[0].id != 1 {
			t.Errorf("the peer heard %v", got)
		}
		far.say(t, frame{kindReply, 1, appendReply(nil, object.OfJSON(nil), nil)}) // it comes too late, and is no breach
		synctest.Wait()
		if err := out.end(); err != nil {
			t.Error(err)
		}
	})
}

// A peer that takes nothing costs a bounded batch; then its callers are overloaded.
func TestAStuckPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		few := laneLimits
		few.fill = 1000
		out, _ := calling(t, few)
		ctx, cancel := context.WithCancel(t.Context())
		held := begin(ctx, out, bodyOf(t, text("x")))
		synctest.Wait()
		began := time.Now()
		var all []<-chan error
		for range 100 {
			all = append(all, begin(ctx, out, bodyOf(t, text("x"))))
		}
		time.Sleep(few.patience)
		synctest.Wait()
		if waited := time.Since(began); waited != few.patience || len(*out.batch) > few.fill {
			t.Errorf("after %v %d bytes wait", waited, len(*out.batch))
		}
		cancel()
		var refused, queued int
		for _, call := range all {
			err := <-call
			if want := fault.Overloaded; fault.KindOf(err) == want {
				refused++
			} else {
				queued++
			}
			if fault.OutcomeOf(err) != fault.NotExecuted {
				t.Errorf("nothing was sent, and yet: %v", err)
			}
		}
		want(t, <-held, fault.Canceled, fault.OutcomeUnknown)
		if refused < 80 || queued == 0 {
			t.Errorf("%d were refused, %d waited in the batch", refused, queued)
		}
	})
}

// While the peer takes something, callers wait for room however long it takes.
func TestASlowPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		few := laneLimits
		few.fill = 100
		out, far := calling(t, few)
		var all []<-chan error
		for range 20 {
			all = append(all, begin(t.Context(), out, bodyOf(t, text(strings.Repeat("x", 60)))))
		}
		reply := appendReply(nil, object.OfJSON(nil), nil)
		for answered := 0; answered < len(all); {
			time.Sleep(few.patience * 3 / 4)
			for _, f := range far.frames(t) {
				far.say(t, frame{kindReply, f.id, reply})
				answered++
			}
		}
		for _, call := range all {
			if err := <-call; err != nil {
				t.Error(err)
			}
		}
	})
}

// trickle is a pipe on which a batch takes a while, piece by piece.
type trickle struct {
	*testPipe
	pieces int
	each   time.Duration
}

func (p *trickle) send(batch *[]byte, taken func()) error {
	for range p.pieces {
		time.Sleep(p.each)
		if taken != nil {
			taken()
		}
	}
	return p.testPipe.send(batch, nil)
}

// A batch that takes long is no reason to give up while some of it is taken.
func TestASlowBatch(t *testing.T) {
	for name, c := range map[string]struct {
		pieces int
		want   fault.Kind
	}{"in pieces": {12, 0}, "in one": {1, fault.Overloaded}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				few := laneLimits
				few.fill = 100
				near, far := newPipes()
				slow := &trickle{near, c.pieces, 9 * few.patience / time.Duration(c.pieces)}
				out := newOutbound("far:1", slow, few)
				ran := make(chan error, 1)
				go func() { ran <- out.run() }()
				held := begin(t.Context(), out, bodyOf(t, text("x")))
				synctest.Wait()
				second := begin(t.Context(), out, bodyOf(t, text(strings.Repeat("x", 60))))
				synctest.Wait()
				third := begin(t.Context(), out, bodyOf(t, text(strings.Repeat("x", 60))))
				reply := appendReply(nil, object.OfJSON(nil), nil)
				answer := func() {
					for _, f := range far.frames(t) {
						far.say(t, frame{kindReply, f.id, reply})
					}
				}
				answer()
				answer()
				if err := errors.Join(<-held, <-second); err != nil {
					t.Error(err)
				}
				if c.want == 0 {
					answer()
				}
				if err := <-third; fault.KindOf(err) != c.want && (c.want != 0 || err != nil) {
					t.Errorf("the call that waited: %v", err)
				}
				far.hangUp()
				<-ran
			})
		})
	}
}

// A long call does not hold up a short one, in either direction.
func TestALongCallLetsOthersPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, far := calling(t, laneLimits)
		long := begin(t.Context(), out, bodyOf(t, object.OfJSON(make([]byte, MaxPayload))))
		if got := far.frames(t); len(got) != 1 || got[0].kind != kindPart || len(got[0].body) != maxBody {
			t.Fatalf("first came %d frames", len(got))
		}
		short := begin(t.Context(), out, bodyOf(t, text("x")))
		synctest.Wait()
		var id uint64
		for batches := 0; id == 0; batches++ {
			for _, f := range far.frames(t) {
				if f.kind == kindCall {
					id = f.id
				}
			}
			if batches > 2 {
				t.Fatal("the short call waits for the long one")
			}
		}
		far.say(t, frame{kindReply, id, appendReply(nil, object.OfJSON(nil), nil)})
		if err := <-short; err != nil {
			t.Error(err)
		}
		far.hangUp()
		want(t, <-long, fault.NotReady, fault.NotExecuted) // its last part had not left
	})
}

func TestALongReplyLetsOthersPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		far, _ := serving(t, fake{call: func(_ context.Context, req *Request) (object.Payload, error) {
			if req.Payload.Form == object.FormJSON {
				return object.OfJSON(make([]byte, MaxPayload)), nil
			}
			return req.Payload, nil
		}}, laneLimits)
		far.say(t, frame{kindCall, 1, bodyOf(t, object.OfJSON(nil))})
		far.frames(t)
		far.say(t, frame{kindCall, 2, bodyOf(t, text("x"))})
		synctest.Wait()
		for batches := 0; ; batches++ {
			for _, f := range far.frames(t) {
				if f.kind == kindReply && f.id == 2 {
					return
				}
			}
			if batches > 2 {
				t.Fatal("the short reply waits for the long one")
			}
		}
	})
}

// A long call that is taken back in the middle did not run, and leaves nothing behind.
func TestALongCallIsTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, far := calling(t, laneLimits)
		ctx, cancel := context.WithCancel(t.Context())
		call := begin(ctx, out, bodyOf(t, object.OfJSON(make([]byte, MaxPayload))))
		got := far.frames(t)
		cancel()
		want(t, <-call, fault.Canceled, fault.NotExecuted)
		for got[len(got)-1].kind != kindCancel {
			if got[len(got)-1].kind != kindPart || len(got) > 3 {
				t.Fatalf("after %d frames came one of kind %d", len(got), got[len(got)-1].kind)
			}
			got = append(got, far.frames(t)...)
		}
		synctest.Wait()
		if len(out.waiting) != 0 || out.largely != 0 || len(out.large) != 0 {
			t.Errorf("%d calls and %d bytes are left", len(out.waiting), out.largely)
		}

		near, far := newPipes()
		in := newInbound(t.Context(), fake{}, near, laneLimits)
		go func() { _ = in.run() }()
		far.say(t, got...)
		far.say(t, frame{kind: kindVoid})
		synctest.Wait()
		if len(in.parts.of) != 0 || in.parts.held != 0 || len(in.calls) != 0 {
			t.Errorf("%d bytes and %d calls are left at the other end", in.parts.held, len(in.calls))
		}
		in.fail(errClosedHere)
		near.hangUp()
		gone(in)
	})
}

// When a lane breaks, what was handed to the transport may have run; what was not did not.
func TestALaneBreaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, far := calling(t, laneLimits)
		first := begin(t.Context(), out, bodyOf(t, text("1")))
		far.frames(t)
		second := begin(t.Context(), out, bodyOf(t, text("2")))
		synctest.Wait() // in the sender's hands
		third := begin(t.Context(), out, bodyOf(t, text("3")))
		long := begin(t.Context(), out, bodyOf(t, object.OfJSON(make([]byte, MaxPayload))))
		synctest.Wait()
		far.hangUp()
		want(t, <-first, fault.Indeterminate, fault.OutcomeUnknown)
		want(t, <-second, fault.Indeterminate, fault.OutcomeUnknown)
		for _, call := range []<-chan error{third, long} {
			err := <-call
			want(t, err, fault.NotReady, fault.NotExecuted)
			if !errors.Is(err, ErrUnreachable) {
				t.Errorf("the router has to look for a detour: %v", err)
			}
		}
		if _, err := out.call(t.Context(), object.FormJSON, bodyOf(t, text("x"))); !errors.Is(err, errRetired) {
			t.Errorf("a broken lane takes calls: %v", err)
		}
	})
}

// A peer that leaves gets no new calls, and answers those that it has.
func TestGoodbye(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		near, far := newPipes()
		out := newOutbound("b:1", near, laneLimits)
		in := newInbound(t.Context(), fake{call: func(_ context.Context, req *Request) (object.Payload, error) {
			<-release
			return req.Payload, nil
		}}, far, laneLimits)
		calls, serves := make(chan error, 1), make(chan error, 1)
		go func() { calls <- out.run() }()
		go func() { serves <- in.run(); far.hangUp() }()
		begun := []<-chan error{begin(t.Context(), out, bodyOf(t, text("1"))), begin(t.Context(), out, bodyOf(t, text("2")))}
		synctest.Wait()
		in.leave()
		synctest.Wait()
		if _, err := out.call(t.Context(), object.FormJSON, bodyOf(t, text("x"))); !errors.Is(err, errRetired) {
			t.Errorf("the lane takes calls: %v", err)
		}
		close(release)
		for _, call := range begun {
			if err := <-call; err != nil {
				t.Error(err)
			}
		}
		if err := <-serves; err != nil { // the answers are sent
			t.Error(err)
		}
		if err := <-calls; !errors.Is(err, errHungUp) && !errors.Is(err, errCut) {
			t.Error(err)
		}
		gone(in)
	})
}

// No more than the limits let in runs for one peer; the others are told so.
func TestTooManyCallsOfOnePeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		few := laneLimits
		few.running, few.held = 3, 1000
		release := make(chan struct{})
		out, in := lane(t, fake{call: func(_ context.Context, req *Request) (object.Payload, error) {
			<-release
			return req.Payload, nil
		}}, few)
		var all []<-chan error
		for range 2 {
			all = append(all, begin(t.Context(), out, bodyOf(t, text("x"))))
		}
		synctest.Wait()
		want(t, <-begin(t.Context(), out, bodyOf(t, text(strings.Repeat("x", 1000)))), fault.Overloaded, fault.NotExecuted)
		all = append(all, begin(t.Context(), out, bodyOf(t, text("x"))))
		synctest.Wait()
		err := <-begin(t.Context(), out, bodyOf(t, text("x")))
		want(t, err, fault.Overloaded, fault.NotExecuted)
		if fault.Of(err).RetryAfter <= 0 {
			t.Error("when to come again?")
		}
		close(release)
		for _, call := range all {
			if err := <-call; err != nil {
				t.Error(err)
			}
		}
		if in.held != 0 || len(in.calls) != 0 {
			t.Errorf("%d bytes of %d calls are still held", in.held, len(in.calls))
		}
		if err := <-begin(t.Context(), out, bodyOf(t, text("x"))); err != nil {
			t.Errorf("there is room again: %v", err)
		}
	})
}

// A peer that calls and never takes an answer is not read any more at some point.
func TestAPeerThatTakesNoAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		few := laneLimits
		few.fill, few.running = 1000, 10
		served := 0
		var mu sync.Mutex
		far, _ := serving(t, fake{call: func(_ context.Context, req *Request) (object.Payload, error) {
			mu.Lock()
			defer mu.Unlock()
			served++
			return req.Payload, nil
		}}, few)
		body := bodyOf(t, text("x"))
		taken := 0
		for ; taken < 1000; taken++ {
			b, _ := appendFrame(nil, kindCall, uint64(taken), body)
			sent := make(chan struct{})
			go func() {
				if far.put(b) == nil {
					close(sent)
				}
			}()
			synctest.Wait()
			select {
			case <-sent:
				continue
			default:
			}
			break
		}
		if taken > 200 {
			t.Errorf("%d calls were read, %d served, and no answer was taken", taken, served)
		}
	})
}

// What is against the protocol ends the lane, with what was wrong.
func TestBreachesOfACaller(t *testing.T) {
	call := func(t *testing.T, id uint64) frame { return frame{kindCall, id, bodyOf(t, text("x"))} }
	part := frame{kindPart, 7, make([]byte, maxBody)}
	for name, breaks := range map[string]func(t *testing.T, far *testPipe){
		"unknown kind": func(t *testing.T, far *testPipe) { far.say(t, frame{kind: kinds, id: 1}) },
		"a reply":      func(t *testing.T, far *testPipe) { far.say(t, frame{kind: kindReply, id: 1}) },
		"hello again":  func(t *testing.T, far *testPipe) { _ = far.put(speaks.append(nil)) },
		"goodbye":      func(t *testing.T, far *testPipe) { far.say(t, frame{kind: kindGoodbye}) },
		"twice":        func(t *testing.T, far *testPipe) { far.say(t, call(t, 5), call(t, 5)) },
		"twice, in batches": func(t *testing.T, far *testPipe) {
			far.say(t, call(t, 5))
			far.say(t, call(t, 5))
		},
		"a part of one that runs": func(t *testing.T, far *testPipe) { far.say(t, call(t, 7), part) },
		"truncated":               func(t *testing.T, far *testPipe) { _ = far.put([]byte{200, 1, byte(kindCall), 1}) },
		"no length":               func(t *testing.T, far *testPipe) { _ = far.put([]byte{0x80}) },
		"nothing in it":           func(t *testing.T, far *testPipe) { _ = far.put([]byte{0}) },
		"oversized": func(t *testing.T, far *testPipe) {
			far.say(t, frame{kindCall, 1, bodyOf(t, object.OfJSON(make([]byte, maxPiece)))})
		},
		"no head":         func(t *testing.T, far *testPipe) { far.say(t, frame{kindCall, 1, []byte{1}}) },
		"a head too long": func(t *testing.T, far *testPipe) { far.say(t, frame{kindCall, 1, []byte{255, 255, 255, 255, 0}}) },
		"garbage":         func(t *testing.T, far *testPipe) { far.say(t, frame{kindCall, 1, []byte{3, 0, 0, 0, 9, 9, 9}}) },
		"a short part":    func(t *testing.T, far *testPipe) { far.say(t, frame{kindPart, 1, []byte{1}}) },
		"parts without end": func(t *testing.T, far *testPipe) {
			for range maxMessage/maxBody + 2 {
				b, _ := appendFrame(nil, kindPart, 1, part.body)
				_ = far.put(b)
			}
		},
		"parts of many": func(t *testing.T, far *testPipe) {
			for id := range laneLimits.parts/maxBody + 2 {
				b, _ := appendFrame(nil, kindPart, uint64(id), part.body)
				_ = far.put(b)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				svc := newBlocking()
				far, ended := serving(t, svc, laneLimits)
				far.say(t, call(t, 1000)) // what runs ends with its caller
				<-svc.entered
				breaks(t, far)
				if err := <-ended; !errors.As(err, new(breach)) {
					t.Errorf("the lane ended with %v", err)
				}
				<-svc.ended
			})
		})
	}
}

func TestBreachesOfAnAnswerer(t *testing.T) {
	good := appendReply(nil, object.OfJSON(nil), nil)
	for name, says := range map[string][]frame{
		"unknown kind":      {{kind: kinds, id: 1}},
		"a call":            {{kindCall, 1, good}},
		"nobody asked":      {{kindReply, 9, good}},
		"answered twice":    {{kindReply, 1, good}, {kindReply, 1, good}},
		"a part for nobody": {{kindPart, 9, make([]byte, maxBody)}},
		"a short part":      {{kindPart, 1, []byte{1}}},
		"an empty reply":    {{kindReply, 1, nil}},
		"an unknown form":   {{kindReply, 1, []byte{4}}},
		"a form and more":   {{kindReply, 1, []byte{wireNone, 1}}},
		"no type":           {{kindReply, 1, []byte{wireBinary, 200}}},
		"a broken fault":    {{kindReply, 1, []byte{replyFault, 0xff}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				out, far := calling(t, laneLimits)
				call := begin(t.Context(), out, bodyOf(t, object.OfJSON(nil)))
				far.frames(t)
				other := begin(t.Context(), out, bodyOf(t, object.OfJSON(nil)))
				far.frames(t)
				far.say(t, says...)
				err := <-call
				if name == "answered twice" {
					if err != nil {
						t.Error(err)
					}
				} else {
					want(t, err, fault.Indeterminate, fault.OutcomeUnknown)
				}
				want(t, <-other, fault.Indeterminate, fault.OutcomeUnknown)
				synctest.Wait()
				if err := out.end(); !errors.As(err, new(breach)) {
					t.Errorf("the lane ended with %v", err)
				}
			})
		})
	}
}

// A peer that hangs up while its calls run still gets their answers.
func TestAnswersAfterHangingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		far, ended := serving(t, fake{call: func(_ context.Context, req *Request) (object.Payload, error) {
			<-release
			return req.Payload, nil
		}}, laneLimits)
		far.say(t, frame{kindCall, 1, bodyOf(t, text("x"))})
		if err := far.closeSend(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		close(release)
		if got := far.frames(t); len(got) != 1 || got[0].kind != kindReply || got[0].id != 1 {
			t.Errorf("got %v", got)
		}
		if _, err := far.receive(); !errors.Is(err, io.EOF) {
			t.Errorf("after the last answer comes %v", err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// What has come of a long reply is let go with its caller.
func TestALongReplyThatNobodyWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, far := calling(t, laneLimits)
		ctx, cancel := context.WithCancel(t.Context())
		call := begin(ctx, out, bodyOf(t, object.OfJSON(nil)))
		far.frames(t)
		part := frame{kindPart, 1, make([]byte, maxBody)}
		far.say(t, part)
		synctest.Wait()
		if out.parts.held != maxBody {
			t.Errorf("%d bytes have come", out.parts.held)
		}
		cancel()
		want(t, <-call, fault.Canceled, fault.OutcomeUnknown)
		far.say(t, part)
		synctest.Wait()
		if out.parts.held != 0 {
			t.Errorf("%d bytes are kept for nobody", out.parts.held)
		}
		far.frames(t)
		far.say(t, frame{kindReply, 1, nil})
		synctest.Wait()
		if err := out.end(); err != nil || len(out.waiting) != 0 {
			t.Errorf("%d calls wait, %v", len(out.waiting), err)
		}
	})
}

// Room is used as soon as it is there.
func TestRoomIsUsedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		few := laneLimits
		few.fill = 100
		out, far := calling(t, few)
		began := time.Now()
		for range 10 {
			begin(t.Context(), out, bodyOf(t, text(strings.Repeat("x", 60))))
		}
		for came := 0; came < 10; {
			came += len(far.frames(t))
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("it took %v", took)
		}
	})
}

// A retired lane ends also when its last call is taken back.
func TestTheLastCallOfARetiredLaneIsTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, far := calling(t, laneLimits)
		first := begin(t.Context(), out, bodyOf(t, text("1")))
		synctest.Wait() // the sender holds it
		ctx, cancel := context.WithCancel(t.Context())
		second := begin(ctx, out, bodyOf(t, text("2")))
		synctest.Wait()
		far.say(t, frame{kindReply, 1, appendReply(nil, object.OfJSON(nil), nil)}, frame{kind: kindGoodbye})
		if err := <-first; err != nil {
			t.Error(err)
		}
		cancel()
		want(t, <-second, fault.Canceled, fault.NotExecuted)
		far.frames(t)
		far.frames(t)
		if _, err := far.receive(); !errors.Is(err, io.EOF) {
			t.Errorf("the lane goes on with %v", err)
		}
	})
}

// The context in which a call is served says what came with the call, and ends with
// the call, its caller, its deadline or its lane.
func TestTheContextOfACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var first, child, unused context.Context
		stop := make(chan struct{})
		far, _ := serving(t, fake{call: func(ctx context.Context, req *Request) (object.Payload, error) {
			switch req.Method {
			case "ends":
				first, unused = ctx, ctx
				var cancel context.CancelFunc
				child, cancel = context.WithCancel(ctx)
				t.Cleanup(cancel)
				if ctx.Err() != nil || child.Err() != nil {
					t.Error("it has ended already")
				}
			case "unused":
				unused = ctx
			case "late":
				time.Sleep(time.Second)
				if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
					t.Errorf("after its deadline it says %v", ctx.Err())
				}
			default:
				<-ctx.Done()
				close(stop)
			}
			return object.Payload{}, nil
		}}, laneLimits)
		call := func(ctx context.Context, id uint64, method string) {
			req := callOf(object.Payload{})
			req.Method = method
			b, err := appendCall(ctx, nil, req)
			if err != nil {
				t.Fatal(err)
			}
			far.say(t, frame{kindCall, id, b})
		}
		call(t.Context(), 1, "ends")
		far.frames(t)
		<-child.Done()
		if !errors.Is(first.Err(), context.Canceled) {
			t.Errorf("after the call it says %v", first.Err())
		}
		call(t.Context(), 2, "unused")
		far.frames(t)
		if unused == first || !errors.Is(unused.Err(), context.Canceled) {
			t.Errorf("after the call it says %v", unused.Err())
		}
		after, cancel := context.WithCancel(unused)
		defer cancel()
		if after.Err() == nil {
			t.Error("what is made of it then lives")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		call(ctx, 3, "late")
		far.frames(t)
		call(t.Context(), 4, "waits")
		far.say(t, frame{kind: kindCancel, id: 4})
		<-stop
		far.frames(t)
	})
}

// What was not taken when a lane failed is reported as not sent, so it must not leave
// afterwards, though its pipe may be sound still.
func TestNothingLeavesAFailedLane(t *testing.T) {
	o := newOutbox(nil, laneLimits)
	o.mu.Lock()
	if _, ok := o.putLocked(kindCall, 1, []byte("x")); !ok {
		t.Error("there is no room")
	}
	o.shipLocked(kindCall, 2, make([]byte, 3*maxBody))
	o.failLocked(errHungUp)
	o.mu.Unlock()
	if batch, _ := o.take(); batch != nil {
		t.Errorf("%d bytes leave", len(*batch))
	}
}
