package goverseclient

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
	goverse_pb "github.com/xiaonanln/goverse/proto"
)

// sayOnce is a call of Echo/a.Say with an id.
func sayOnce(ctx context.Context, c *Client, id string) (string, error) {
	m, err := c.CallObject(ctx, "Echo", "a", "Say", wrapperspb.String("x"), WithCallID(id))
	if err != nil {
		return "", err
	}
	return m.(*wrapperspb.StringValue).Value, nil
}

// A call with an id is made again with that id, at the next gate, as often as its
// answer is lost.
func TestLostAnswersOfCallsWithIDs(t *testing.T) { bothWays(t, testLostAnswersOfCallsWithIDs) }

func testLostAnswersOfCallsWithIDs(t *testing.T) {
	var dead atomic.Bool
	var mu sync.Mutex
	asked := map[string]int{}
	hang := make(chan struct{})
	defer close(hang)
	reliable := func(r *gate_pb.ReliableCallObjectRequest) (*gate_pb.ReliableCallObjectResponse, error) {
		mu.Lock()
		asked[r.CallId]++
		mu.Unlock()
		if !dead.Load() {
			<-hang
		}
		return &gate_pb.ReliableCallObjectResponse{Response: r.Request, Status: "SUCCESS"}, nil
	}
	a, b := (&gate{reliable: reliable}).serve(t), (&gate{reliable: reliable}).serve(t)
	c := connect(t, []string{a.address, b.address})
	here := a
	if c.CurrentAddress() == b.address {
		here = b
	}
	const n = 20
	done := make(chan error, n)
	for i := range n {
		go func() {
			_, err := sayOnce(soon(t), c, fmt.Sprint(i))
			done <- err
		}()
	}
	until(t, "all to be in flight", func() bool { return here.calls.Load() == n })
	dead.Store(true)
	killed := make(chan struct{})
	go func() { defer close(killed); here.kill() }() // it waits for its handlers, which the end of the test frees
	for range n {
		if err := receive(t, "the end of a call", done); err != nil {
			t.Error(err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for id, times := range asked {
		if times != 2 {
			t.Errorf("the call %s was made %d times", id, times)
		}
	}
	if len(asked) != n {
		t.Errorf("%d ids, want %d", len(asked), n)
	}
}

// A call in doubt does not fail for want of a budget: it waits for it.
func TestACallWithAnIDWaitsForTheBudget(t *testing.T) {
	bothWays(t, testACallWithAnIDWaitsForTheBudget)
}

func testACallWithAnIDWaitsForTheBudget(t *testing.T) {
	var asked atomic.Int32
	g := (&gate{reliable: func(r *gate_pb.ReliableCallObjectRequest) (*gate_pb.ReliableCallObjectResponse, error) {
		return &gate_pb.ReliableCallObjectResponse{Response: r.Request, Status: []string{"UNKNOWN", "SUCCESS"}[asked.Add(1)-1]}, nil
	}}).serve(t)
	c := connect(t, []string{g.address})
	c.budget.mu.Lock()
	c.budget.tokens = 0
	c.budget.filled = time.Now()
	c.budget.mu.Unlock()
	if got, err := sayOnce(soon(t), c, "one"); err != nil || got != "x" || asked.Load() != 2 {
		t.Errorf("%q, %v after %d attempts", got, err, asked.Load())
	}
}

// The caller's context bounds it all, and the doubt is told.
func TestTheContextBoundsCallsWithIDs(t *testing.T) { bothWays(t, testTheContextBoundsCallsWithIDs) }

func testTheContextBoundsCallsWithIDs(t *testing.T) {
	for answer, text := range map[string]string{"UNKNOWN": "because", "PENDING": "ask again"} {
		ctx, cancel := context.WithCancel(soon(t))
		defer cancel()
		var g *gate
		g = (&gate{reliable: func(r *gate_pb.ReliableCallObjectRequest) (*gate_pb.ReliableCallObjectResponse, error) {
			if g.calls.Load() == 3 {
				cancel()
			}
			return &gate_pb.ReliableCallObjectResponse{Error: "because", Status: answer}, nil
		}}).serve(t)
		_, err := sayOnce(ctx, connect(t, []string{g.address}), "one")
		want(t, err, ErrIndeterminate, Unknown, text)
		if g.calls.Load() != 3 {
			t.Errorf("it was made %d times", g.calls.Load())
		}
	}
}

func TestCallsWithIDsThatAreNotSent(t *testing.T) { bothWays(t, testCallsWithIDsThatAreNotSent) }

func testCallsWithIDsThatAreNotSent(t *testing.T) {
	g := (&gate{reliable: func(*gate_pb.ReliableCallObjectRequest) (*gate_pb.ReliableCallObjectResponse, error) { return nil, nil }}).serve(t)
	c := connect(t, []string{g.address})
	_, err := sayOnce(soon(t), c, "")
	want(t, err, ErrInvalid, NotExecuted, "call id")
	_, _, err = c.Settle(soon(t), "", "Echo", "a")
	want(t, err, ErrInvalid, Unknown, "id of the call")
	if g.calls.Load() != 0 {
		t.Error("it was sent")
	}
}

// A method's own gRPC status comes through, as without an id. The session goes along.
func TestTheErrorOfACallWithAnID(t *testing.T) { bothWays(t, testTheErrorOfACallWithAnID) }

func testTheErrorOfACallWithAnID(t *testing.T) {
	own := status.New(codes.OutOfRange, "no money")
	var failure []byte
	var client string
	g := (&gate{reliable: func(r *gate_pb.ReliableCallObjectRequest) (*gate_pb.ReliableCallObjectResponse, error) {
		client = r.ClientId
		return &gate_pb.ReliableCallObjectResponse{Status: "FAILED", Error: "because", Failure: failure}, nil
	}}).serve(t)
	c := connect(t, []string{g.address})
	for _, f := range []struct {
		status []byte
		code   codes.Code
		text   string
	}{
		{marshal(t, own.Proto()), codes.OutOfRange, "no money"},
		{marshal(t, fault.New(fault.Failed, "because").GRPCStatus().Proto()), codes.Unknown, "because"},
		{nil, codes.Unknown, "because"},
		{[]byte("\xff"), codes.Unknown, "because"},
		{marshal(t, status.New(codes.OK, "").Proto()), codes.Unknown, "because"},
	} {
		failure = f.status
		_, err := sayOnce(soon(t), c, "one")
		want(t, err, ErrFailed, Executed, f.text)
		if status.Code(err) != f.code || client != c.ClientID() {
			t.Errorf("code %v for %q", status.Code(err), client)
		}
	}
}

func marshal(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What was settled never runs: that ends the doubt of earlier attempts too.
func TestASettledCallIsInDoubtNoMore(t *testing.T) { bothWays(t, testASettledCallIsInDoubtNoMore) }

func testASettledCallIsInDoubtNoMore(t *testing.T) {
	var asked atomic.Int32
	g := (&gate{reliable: func(*gate_pb.ReliableCallObjectRequest) (*gate_pb.ReliableCallObjectResponse, error) {
		return &gate_pb.ReliableCallObjectResponse{Status: []string{"UNKNOWN", "SKIPPED"}[asked.Add(1)-1]}, nil
	}}).serve(t)
	_, err := sayOnce(soon(t), connect(t, []string{g.address}), "one")
	want(t, err, ErrCallSettled, NotExecuted, "")
}

func TestSettle(t *testing.T) { bothWays(t, testSettle) }

func testSettle(t *testing.T) {
	const unknown, success, failed, skipped = goverse_pb.ReliableCallStatus_UNKNOWN, goverse_pb.ReliableCallStatus_SUCCESS,
		goverse_pb.ReliableCallStatus_FAILED, goverse_pb.ReliableCallStatus_SKIPPED
	reply := pack(t, wrapperspb.String("x"))
	for _, c := range []struct {
		answer  *gate_pb.SettleResponse
		err     error
		want    goverse_pb.ReliableCallStatus
		kind    error
		outcome Outcome
	}{
		{&gate_pb.SettleResponse{Status: "SUCCESS", Response: reply}, nil, success, nil, Executed},
		{&gate_pb.SettleResponse{Status: "FAILED", Error: "no money"}, nil, failed, ErrFailed, Executed},
		{&gate_pb.SettleResponse{Status: "FAILED", Failure: marshal(t, status.New(codes.OutOfRange, "no money").Proto())}, nil, failed, ErrFailed, Executed},
		{&gate_pb.SettleResponse{Status: "SKIPPED"}, nil, skipped, nil, Executed},
		{&gate_pb.SettleResponse{Status: "NEWER"}, nil, unknown, ErrIndeterminate, Unknown},
		{&gate_pb.SettleResponse{}, nil, unknown, ErrIndeterminate, Unknown},
		{nil, fault.New(fault.Invalid, "volatile"), unknown, ErrInvalid, Unknown},
		{nil, status.Error(codes.Unimplemented, "an older gate"), unknown, ErrUnknownMethod, Unknown},
	} {
		g := (&gate{settle: func(r *gate_pb.SettleRequest) (*gate_pb.SettleResponse, error) {
			if r.CallId != "one" || r.Type != "Echo" || r.Id != "a" {
				return nil, fault.New(fault.Invalid, "%v", r)
			}
			return c.answer, c.err
		}}).serve(t)
		m, s, err := connect(t, []string{g.address}).Settle(soon(t), "one", "Echo", "a")
		if s != c.want || (m != nil) != (s == success) || (err != nil) != (c.kind != nil) || c.kind != nil && !errors.Is(err, c.kind) || OutcomeOf(err) != c.outcome {
			t.Errorf("%v, %v: %v, %v, %v (%v)", c.answer, c.err, m, s, err, OutcomeOf(err))
		}
		if c.answer.GetFailure() != nil && status.Code(err) != codes.OutOfRange {
			t.Error(err)
		}
	}
	var asked atomic.Int32 // settling is made again until its answer arrives
	g := (&gate{settle: func(*gate_pb.SettleRequest) (*gate_pb.SettleResponse, error) {
		if asked.Add(1) < 3 {
			return nil, fault.New(fault.Indeterminate, "lost")
		}
		return &gate_pb.SettleResponse{Status: "SKIPPED"}, nil
	}}).serve(t)
	if _, s, err := connect(t, []string{g.address}).Settle(soon(t), "one", "Echo", "a"); s != skipped || err != nil {
		t.Error(s, err)
	}
}

// A reply says when it is ahead of the store, whoever asks in which way.
func TestRepliesAheadOfTheStore(t *testing.T) {
	var durable *bool
	g := &gate{durable: func() *bool { return durable }}
	c := connect(t, []string{g.serve(t).address})
	for _, durable = range []*bool{nil, proto.Bool(false), proto.Bool(true)} {
		want := durable != nil && !*durable
		said := !want
		if err := say(soon(t), c, "x", WithUnsaved(&said)); err != nil || said != want {
			t.Errorf("%v, %v for %v", said, err, durable)
		}
		said = !want
		if _, err := c.CallObjectAny(soon(t), "Echo", "a", "Say", pack(t, wrapperspb.String("x")), WithUnsaved(&said)); err != nil || said != want {
			t.Errorf("%v, %v for %v", said, err, durable)
		}
		if p, err := c.Do(soon(t), object.Call{Ref: object.Ref{Type: "Echo", ID: "a"}, Method: "Say", Payload: object.OfMessage(wrapperspb.String("x"))}); err != nil || p.Unsaved != want {
			t.Errorf("%+v, %v for %v", p, err, durable)
		}
	}
}
