package gateserver

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/xiaonanln/goverse/gate"
	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/internal/batch"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/object"
)

// unread is a conversation in a bubble whose client reads only what take takes.
type unread struct {
	*conversation
	entered, running, most atomic.Int32 // calls at the cluster
	let                    chan struct{}
}

// longReply is four times in maxAnswers.
const longReply = 4_000_000

var longBytes = make([]byte, longReply)

func converseUnread(t *testing.T) *unread {
	u := &unread{let: make(chan struct{})}
	cfg := GateServerConfig{Logger: quiet(), Router: newCluster(func(ctx context.Context, call object.Call) (object.Payload, error) {
		u.entered.Add(1)
		u.most.Store(max(u.most.Load(), u.running.Add(1)))
		defer u.running.Add(-1)
		switch call.Method {
		case "Long":
			return object.OfBinary(&anypb.Any{Value: longBytes}), nil
		case "Waits":
			select {
			case <-u.let:
			case <-ctx.Done():
			}
			return object.OfBinary(&anypb.Any{Value: longBytes}), nil
		}
		return object.Payload{}, nil
	})}
	cfg.withDefaults()
	door := &grpcDoor{calls: newCalls(&cfg, cfg.Router, gate.New(gate.Config{Address: "a:1"}), newCrowd()), patient: time.Minute}
	u.conversation = newConversation(door, &grpc.GenericServerStream[gate_pb.ClientBatch, gate_pb.GateBatch]{ServerStream: still{ctx: t.Context()}})
	var err error
	if u.session, err = door.calls.gate.Open(); err != nil {
		t.Fatal(err)
	}
	u.subs = gate.NewFeeds(gate.FeedsConfig{}).Open(context.Background(), u.session.ID(), false)
	return u
}

// ask makes n calls as the reader does, and waits until nothing moves.
func (u *unread) ask(t *testing.T, first, n int, method string) {
	t.Helper()
	for i := range n {
		go func() {
			if err := u.hear([]*gate_pb.ClientFrame{askFor(uint64(first+i), method, nil)}); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
	}
}

// take is the client reading one batch.
func (u *unread) take() bool {
	b := u.next()
	if b == nil {
		return false
	}
	batch.Free(b)
	synctest.Wait()
	return true
}

func (u *unread) want(t *testing.T, what string, entered int32) {
	t.Helper()
	if n := u.entered.Load(); n != entered {
		t.Errorf("%s: %d calls were made, want %d", what, n, entered)
	}
}

// Of a method whose answers are long no more calls run than there is room for; others
// pass, and all are answered.
func TestLongAnswersAreForeseen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := converseUnread(t)
		u.ask(t, 1, 1, "Waits")
		u.let <- struct{}{}
		synctest.Wait()
		u.take()
		u.ask(t, 1, 9, "Waits")
		u.want(t, "long answers", 1+4)
		u.ask(t, 100, 3, "Short")
		u.want(t, "short answers beside them", 1+4+3)
		close(u.let)
		synctest.Wait()
		for u.take() {
		}
		u.want(t, "in the end", 1+9+3)
		if u.waiting != 0 || u.foreseen != 0 || u.held != 0 || len(u.calls) != 0 {
			t.Errorf("%d bytes wait, %d are foreseen, %d are held by %d calls", u.waiting, u.foreseen, u.held, len(u.calls))
		}
		if most := u.most.Load(); most > 4+1 {
			t.Errorf("%d calls ran at once", most)
		}
	})
}

// A call that waits for room ends in time, and did not run.
func TestACallThatWaitsForRoomEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := converseUnread(t)
		u.door.calls.sizes.note(methodName{"T", "Waits"}, longReply)
		u.ask(t, 1, 4, "Waits")
		late := askFor(5, "Waits", nil)
		late.TimeoutMicros = 1e6
		if err := u.hear([]*gate_pb.ClientFrame{late}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if len(u.answers) != 1 || u.answers[0].number != 5 {
			t.Errorf("%d answers", len(u.answers))
		}
		u.want(t, "after its time", 4)
		close(u.let)
		u.conversation.running.Wait()
		for u.take() {
		}
		if u.foreseen != 0 {
			t.Errorf("%d bytes are foreseen", u.foreseen)
		}
	})
}

// While very much waits for the client, no more calls are read; what runs is answered.
func TestReadingIsHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := converseUnread(t)
		for i := range 6 { // all at once, while nothing is known of the method
			go func() { _ = u.hear([]*gate_pb.ClientFrame{askFor(uint64(i+1), "Waits", nil)}) }()
		}
		synctest.Wait()
		u.want(t, "unforeseen", 6)
		close(u.let)
		synctest.Wait()
		u.ask(t, 7, 1, "Short")
		u.want(t, "while 24 MB wait", 6)
		u.take()
		u.want(t, "while 20 MB wait", 6)
		u.take()
		u.want(t, "while 16 MB wait", 7)
		u.ask(t, 8, 1, "Short")
		u.want(t, "one more", 8)
		for u.take() {
		}
		u.ask(t, 9, 6, "Waits")
		u.session.Close(nil) // whoever is held back hears that it is over
		synctest.Wait()
		for u.take() {
		}
		if len(u.calls) != 0 || u.waiting != 0 {
			t.Errorf("%d calls are not answered", len(u.calls))
		}
	})
}

// Long answers that nobody foresaw are kept up to a bound; the client hears of the others
// that they are not.
func TestAnswersThatFindNoRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := converseUnread(t)
		told := 0
		u.door.calls.on.LimitReached = func(e event.LimitReached) { told++ }
		const many, fit = 18, fullStream / longReply
		for i := range many {
			go func() {
				f := askFor(uint64(i+1), "Waits", nil)
				if err := u.hear([]*gate_pb.ClientFrame{f}); err != nil {
					t.Error(err)
				}
			}()
		}
		synctest.Wait()
		u.want(t, "unforeseen", many)
		close(u.let)
		synctest.Wait()
		if u.waiting > fullStream+(many-fit)*longAnswer {
			t.Errorf("%d bytes wait", u.waiting)
		}
		if told != many-fit {
			t.Errorf("it was told of %d times, want %d", told, many-fit)
		}
		kept, lost := 0, 0
		for _, a := range u.answers {
			f := new(gate_pb.GateFrame)
			if err := proto.Unmarshal(*a.frame, f); err != nil {
				t.Fatal(err)
			}
			switch {
			case f.GetFailure() == nil:
				kept++
			case strings.Contains(string(f.GetFailure()), "is not kept"):
				lost++
			}
		}
		if kept != fit || lost != many-fit {
			t.Errorf("%d answers are kept and %d lost, of %d", kept, lost, many)
		}
		for u.take() {
		}
		if u.waiting != 0 || u.foreseen != 0 || u.held != 0 || len(u.calls) != 0 {
			t.Errorf("%d bytes wait, %d are foreseen, %d are held by %d calls", u.waiting, u.foreseen, u.held, len(u.calls))
		}
	})
}

// What a method once did is forgotten, and the table is bounded.
func TestAnswerSizes(t *testing.T) {
	var s answerSizes
	m := methodName{"T", "M"}
	s.note(m, longAnswer)
	if s.expect(m) != 0 {
		t.Error("a short answer is remembered")
	}
	s.note(m, 1<<20)
	s.note(methodName{"T", "N"}, 5)
	if got := s.expect(m); got != 1<<20 {
		t.Errorf("it expects %d", got)
	}
	n := 0
	for ; s.expect(m) > 0; n++ {
		s.note(m, 5)
	}
	if n < 1000 || n > 10_000 || s.known.Load() != 0 {
		t.Errorf("forgotten after %d", n)
	}
	for i := range 2 * maxKnown {
		s.note(methodName{"T", fmt.Sprint(i)}, 1<<20)
	}
	if len(s.of) != maxKnown {
		t.Errorf("%d methods are known", len(s.of))
	}
}
