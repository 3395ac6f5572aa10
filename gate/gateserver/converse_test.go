package gateserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

// talker is a client of Converse, written against gate.proto and nothing else.
type talker struct {
	t      *testing.T
	stream grpc.BidiStreamingClient[gate_pb.ClientBatch, gate_pb.GateBatch]
	id     string
	most   uint32
	told   int64 // the gate's time
	rest   []*gate_pb.GateFrame
}

func talk(t *testing.T, ctx context.Context, c gate_pb.GateServiceClient) *talker {
	t.Helper()
	stream, err := c.Converse(ctx)
	if err != nil {
		t.Fatal(err)
	}
	k := &talker{t: t, stream: stream}
	k.say(hello())
	w := k.next().GetWelcome()
	if w == nil {
		t.Fatal("the gate does not begin with a welcome")
	}
	k.id, k.most, k.told = w.ClientId, w.MaxCalls, w.UnixMillis
	return k
}

func hello() *gate_pb.ClientFrame {
	return &gate_pb.ClientFrame{Kind: &gate_pb.ClientFrame_Hello{Hello: &gate_pb.Hello{}}}
}

func askFor(number uint64, method string, request *anypb.Any) *gate_pb.ClientFrame {
	r := &gate_pb.CallObjectRequest{ClientId: "elsewhere:1/abc", Type: "T", Id: "i", Method: method, Request: request}
	return &gate_pb.ClientFrame{Call: number, Kind: &gate_pb.ClientFrame_CallObject{CallObject: r}}
}

func (k *talker) say(frames ...*gate_pb.ClientFrame) {
	k.t.Helper()
	if err := k.stream.Send(&gate_pb.ClientBatch{Frames: frames}); err != nil {
		k.t.Fatal(err)
	}
}

func (k *talker) read() (*gate_pb.GateFrame, error) {
	for len(k.rest) == 0 {
		b, err := k.stream.Recv()
		if err != nil {
			return nil, err
		}
		k.rest = b.Frames
	}
	f := k.rest[0]
	k.rest = k.rest[1:]
	return f, nil
}

func (k *talker) next() *gate_pb.GateFrame {
	k.t.Helper()
	f, err := k.read()
	if err != nil {
		k.t.Fatal(err)
	}
	return f
}

// end reads on to the end, and returns why the stream ended and what the goodbye said.
func (k *talker) end() (why, goodbye error) {
	for {
		f, err := k.read()
		if err != nil {
			return err, goodbye
		}
		if g := f.GetGoodbye(); g != nil {
			goodbye = said(k.t, g.Status)
		}
	}
}

// said is the error that a marshalled status says.
func said(t *testing.T, b []byte) error {
	t.Helper()
	st := new(spb.Status)
	if err := proto.Unmarshal(b, st); err != nil {
		t.Fatal(err)
	}
	return status.ErrorProto(st)
}

// failed is the failure of an answer, which must be to the call number.
func (k *talker) failed(number uint64) error {
	k.t.Helper()
	f := k.next()
	if f.Call != number || f.GetFailure() == nil {
		k.t.Fatalf("got %v, want the failure of call %d", f, number)
	}
	return said(k.t, f.GetFailure())
}

// kindOf is the kind and outcome of an error.
func kindOf(err error) (fault.Kind, fault.Outcome) {
	e := fault.FromStatus(err)
	return fault.KindOf(e), fault.OutcomeOf(e)
}

// Every request of the unary methods, with the same answer and for the session's client.
func TestConverse(t *testing.T) {
	var mu sync.Mutex
	var heard []string
	s := start(t, newCluster(func(ctx context.Context, call object.Call) (object.Payload, error) {
		mu.Lock()
		defer mu.Unlock()
		heard = append(heard, fmt.Sprintf("%s %s.%s id %q for %q", call.Op, call.Ref, call.Method, call.ID, callctx.From(ctx).Caller.ClientID))
		return call.Payload, nil
	}))
	k := talk(t, t.Context(), dial(t, s))
	if !strings.HasPrefix(k.id, s.AdvertiseAddress()+"/") || k.most != 256 {
		t.Errorf("welcome %q, %d calls", k.id, k.most)
	}
	for _, c := range []struct {
		frame *gate_pb.ClientFrame
		want  *gate_pb.GateFrame
		heard string
	}{
		{askFor(7, "M", text(t, "x")), &gate_pb.GateFrame{Kind: &gate_pb.GateFrame_CallObject{CallObject: &gate_pb.CallObjectResponse{Response: text(t, "x")}}},
			`CallObject T/i.M id "" for "` + k.id + `"`},
		{&gate_pb.ClientFrame{Call: 7, Kind: &gate_pb.ClientFrame_CreateObject{CreateObject: &gate_pb.CreateObjectRequest{Type: "T", Id: "i"}}},
			&gate_pb.GateFrame{Kind: &gate_pb.GateFrame_CreateObject{CreateObject: &gate_pb.CreateObjectResponse{Id: "i"}}}, `CreateObject T/i. id "" for "` + k.id + `"`},
		{&gate_pb.ClientFrame{Call: 1 << 60, Kind: &gate_pb.ClientFrame_DeleteObject{DeleteObject: &gate_pb.DeleteObjectRequest{Type: "T", Id: "i"}}},
			&gate_pb.GateFrame{Kind: &gate_pb.GateFrame_DeleteObject{DeleteObject: &gate_pb.DeleteObjectResponse{}}}, `DeleteObject T/i. id "" for "` + k.id + `"`},
		{&gate_pb.ClientFrame{Call: 1, Kind: &gate_pb.ClientFrame_ReliableCallObject{ReliableCallObject: &gate_pb.ReliableCallObjectRequest{
			CallId: "c", Type: "T", Id: "i", Method: "M", Request: text(t, "y")}}},
			&gate_pb.GateFrame{Kind: &gate_pb.GateFrame_ReliableCallObject{ReliableCallObject: &gate_pb.ReliableCallObjectResponse{Response: text(t, "y"), Status: "SUCCESS"}}},
			`CallObject T/i.M id "c" for "` + k.id + `"`},
		{&gate_pb.ClientFrame{Call: 2, Kind: &gate_pb.ClientFrame_Settle{Settle: &gate_pb.SettleRequest{CallId: "c", Type: "T", Id: "i"}}},
			&gate_pb.GateFrame{Kind: &gate_pb.GateFrame_Settle{Settle: &gate_pb.SettleResponse{Status: "SUCCESS"}}}, `Settle T/i. id "c" for "` + k.id + `"`},
	} {
		k.say(c.frame)
		c.want.Call = c.frame.Call
		if got := k.next(); !proto.Equal(got, c.want) {
			t.Errorf("got %v, want %v", got, c.want)
		}
		if mu.Lock(); len(heard) != 1 || heard[0] != c.heard {
			t.Errorf("the cluster heard %q, want %q", heard, c.heard)
		}
		heard = nil
		mu.Unlock()
	}
}

// A failure says what the status of the unary call says.
func TestFailuresOnAStream(t *testing.T) {
	var answer error
	c := dial(t, start(t, newCluster(func(context.Context, object.Call) (object.Payload, error) { return object.Payload{}, answer })))
	k := talk(t, t.Context(), c)
	answers := []error{
		&fault.Error{Kind: fault.Failed, Err: status.Error(codes.FailedPrecondition, "the room is full")}, errors.New("plain"), context.Canceled,
		status.Error(codes.Internal, "not \xff UTF-8"),
	}
	for _, row := range fault.Table() {
		answers = append(answers, fault.New(row.Kind, "why"))
	}
	for _, answer = range answers {
		_, err := c.CallObject(t.Context(), &gate_pb.CallObjectRequest{Type: "T", Id: "i", Method: "M"})
		k.say(askFor(1, "M", nil))
		if got, want := status.Convert(k.failed(1)).Proto(), status.Convert(err).Proto(); got.Code != want.Code || answer != answers[3] && !proto.Equal(got, want) {
			t.Errorf("%v: got %v, want %v", answer, got, want)
		}
	}
	k.say(askFor(1, "", nil))
	if kind, o := kindOf(k.failed(1)); kind != fault.Invalid || o != fault.NotExecuted {
		t.Errorf("without a method: %v, %v", kind, o)
	}
}

// Interceptors run around calls on a stream, with the headers that opened it.
func TestInterceptorsOnAStream(t *testing.T) {
	s := start(t, newCluster(echo), func(cfg *GateServerConfig) {
		cfg.Interceptors = []Interceptor{func(ctx context.Context, call *object.CallInfo, req object.Payload, next Next) (object.Payload, error) {
			if md, _ := metadata.FromIncomingContext(ctx); len(md["who"]) != 1 || md["who"][0] != "ann" || call.ClientID == "" {
				return object.Payload{}, fault.New(fault.Forbidden, "%v, %q", md, call.ClientID)
			}
			return next(ctx, req)
		}}
	})
	k := talk(t, metadata.AppendToOutgoingContext(t.Context(), "who", "ann"), dial(t, s))
	k.say(askFor(1, "M", text(t, "x")))
	if got := unpack(t, k.next().GetCallObject().GetResponse()); got != "x" {
		t.Errorf("got %q", got)
	}
	k = talk(t, t.Context(), dial(t, s))
	k.say(askFor(1, "M", nil))
	if kind, o := kindOf(k.failed(1)); kind != fault.Forbidden || o != fault.NotExecuted {
		t.Errorf("%v, %v", kind, o)
	}
}

// A call's time is what the client says, or the gate's default; and it ends when nobody
// waits any more, but is answered.
func TestTimeoutsAndCancelsOnAStream(t *testing.T) {
	remains, ended, lives := make(chan time.Duration, 1), make(chan error, 1), make(chan context.Context, 1)
	s := start(t, newCluster(func(ctx context.Context, call object.Call) (object.Payload, error) {
		at, _ := ctx.Deadline()
		remains <- time.Until(at)
		if call.Method == "Wait" {
			<-ctx.Done()
			ended <- ctx.Err()
			return object.Payload{}, ctx.Err()
		}
		lives <- ctx
		return call.Payload, nil
	}), func(c *GateServerConfig) { c.DefaultCallTimeout = time.Hour })
	k := talk(t, t.Context(), dial(t, s))
	for micros, most := range map[int64]time.Duration{0: time.Hour, 60e6: time.Minute, 1 << 62: math.MaxInt64} {
		f := askFor(1, "M", nil)
		f.TimeoutMicros = micros
		k.say(f)
		if k.next().GetCallObject() == nil {
			t.Error("no answer")
		}
		if d := <-remains; d > most || most-d > 30*time.Second && most <= time.Hour || d <= 0 {
			t.Errorf("%d µs: %v remain", micros, d)
		}
		select {
		case <-(<-lives).Done(): // what the call took is given back
		case <-time.After(20 * time.Second):
			t.Errorf("%d µs: the context outlives its call", micros)
		}
	}
	k.say(askFor(1, "Wait", nil))
	<-remains
	k.say(&gate_pb.ClientFrame{Call: 1, Kind: &gate_pb.ClientFrame_Cancel{}}, &gate_pb.ClientFrame{Call: 2, Kind: &gate_pb.ClientFrame_Cancel{}})
	if err := <-ended; !errors.Is(err, context.Canceled) || status.Code(k.failed(1)) != codes.Canceled {
		t.Errorf("the call ended with %v", err)
	}
	short := askFor(1, "Wait", nil)
	short.TimeoutMicros = 1000
	k.say(short)
	if kind, _ := kindOf(k.failed(1)); kind != fault.Deadline {
		t.Errorf("its time was over: %v", kind)
	}
}

// Clients that do not keep to the protocol lose their own stream, and hear why. A
// neighbour on the same connection notices nothing.
func TestHostileClients(t *testing.T) {
	block := make(chan struct{})
	t.Cleanup(func() { close(block) })
	router := newCluster(func(ctx context.Context, call object.Call) (object.Payload, error) {
		if call.Method == "Wait" {
			select {
			case <-block:
			case <-ctx.Done():
			}
		}
		return call.Payload, nil
	})
	s := start(t, router, func(c *GateServerConfig) { c.MaxClientCalls, c.WriteTimeout = 4, time.Minute })
	c := dial(t, s)
	neighbour := talk(t, t.Context(), c)
	unknown := &gate_pb.ClientFrame{Call: 1}
	unknown.ProtoReflect().SetUnknown([]byte{0xf2, 0x07, 0x00}) // field 126
	negative := askFor(1, "M", nil)
	negative.TimeoutMicros = -1
	flood := make([]*gate_pb.ClientFrame, 5000)
	for i := range flood {
		flood[i] = askFor(uint64(i+1), "Wait", nil)
	}
	huge := askFor(1, "M", &anypb.Any{Value: make([]byte, maxMessage)})
	for name, h := range map[string]struct {
		greets bool
		says   []*gate_pb.ClientFrame
		code   codes.Code
		text   string
	}{
		"no hello":       {false, []*gate_pb.ClientFrame{askFor(1, "M", nil)}, codes.InvalidArgument, "not one hello"},
		"hello and more": {false, []*gate_pb.ClientFrame{hello(), askFor(1, "M", nil)}, codes.InvalidArgument, "not one hello"},
		"nothing":        {false, nil, codes.InvalidArgument, "not one hello"},
		"two hellos":     {true, []*gate_pb.ClientFrame{hello()}, codes.InvalidArgument, "greets twice"},
		"unknown kind":   {true, []*gate_pb.ClientFrame{unknown}, codes.InvalidArgument, "does not know"},
		"number 0":       {true, []*gate_pb.ClientFrame{askFor(0, "M", nil)}, codes.InvalidArgument, "number 0"},
		"timeout":        {true, []*gate_pb.ClientFrame{negative}, codes.InvalidArgument, "-1 µs"},
		"one twice":      {true, []*gate_pb.ClientFrame{askFor(1, "Wait", nil), askFor(1, "Wait", nil)}, codes.InvalidArgument, "call 1 again"},
		"oversized":      {true, []*gate_pb.ClientFrame{huge}, codes.ResourceExhausted, "larger than max"},
		"flood":          {true, flood, codes.ResourceExhausted, "does not read"},
	} {
		t.Run(name, func(t *testing.T) {
			stream, err := c.Converse(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			k := &talker{t: t, stream: stream}
			if h.greets {
				k.say(hello())
				k.next()
			}
			if err := stream.Send(&gate_pb.ClientBatch{Frames: h.says}); err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			why, _ := k.end()
			if status.Code(why) != h.code || !strings.Contains(why.Error(), h.text) {
				t.Errorf("it ends with %v, want %v with %q", why, h.code, h.text)
			}
			neighbour.say(askFor(9, "M", text(t, name)))
			if got := unpack(t, neighbour.next().GetCallObject().GetResponse()); got != name {
				t.Errorf("the neighbour gets %q", got)
			}
			router.push(peer.PushFrame{ClientIDs: []string{neighbour.id}, Message: text(t, name)})
			if got := unpack(t, neighbour.next().GetPush().GetMessage()); got != name {
				t.Errorf("the neighbour is pushed %q", got)
			}
		})
	}
	if s.Problems() != nil {
		t.Error(s.Problems())
	}
}

// What is no protobuf at all ends the stream too.
func TestGarbageOnAStream(t *testing.T) {
	cc := dialConn(t, start(t, newCluster(echo)))
	desc := &grpc.StreamDesc{StreamName: "Converse", ClientStreams: true, ServerStreams: true}
	stream, err := cc.NewStream(t.Context(), desc, gate_pb.GateService_Converse_FullMethodName)
	if err != nil {
		t.Fatal(err)
	}
	garbage := new(gate_pb.Hello)
	garbage.ProtoReflect().SetUnknown([]byte("\x0a\x7fgarbage"))
	if err := stream.SendMsg(garbage); err != nil {
		t.Fatal(err)
	}
	if err := stream.RecvMsg(new(gate_pb.GateBatch)); status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "unmarshal") {
		t.Errorf("it ends with %v", err)
	}
}

// A client that opens a stream and says nothing does not keep it.
func TestASilentClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, vanish := context.WithCancel(t.Context())
		c := newConversation(&grpcDoor{calls: newCalls(&GateServerConfig{}, nil, nil, nil)}, &grpc.GenericServerStream[gate_pb.ClientBatch, gate_pb.GateBatch]{ServerStream: still{ctx: ctx}})
		go c.read()
		began := time.Now()
		if err := c.welcome(); fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "says nothing") || time.Since(began) != hush {
			t.Errorf("it ends with %v after %v", err, time.Since(began))
		}
		vanish()
	})
}

// More calls than a stream may have are refused, and surely did not run.
func TestTooManyCallsOnAStream(t *testing.T) {
	entered, release := make(chan struct{}, 3), make(chan struct{})
	s := start(t, newCluster(func(_ context.Context, call object.Call) (object.Payload, error) {
		entered <- struct{}{}
		<-release
		return call.Payload, nil
	}), func(c *GateServerConfig) { c.MaxClientCalls = 2 })
	k := talk(t, t.Context(), dial(t, s))
	if k.most != 2 {
		t.Errorf("it is allowed %d calls", k.most)
	}
	k.say(askFor(1, "M", nil), askFor(2, "M", nil))
	<-entered
	<-entered
	for range 3 {
		k.say(askFor(3, "M", nil))
		if kind, o := kindOf(k.failed(3)); kind != fault.Overloaded || o != fault.NotExecuted {
			t.Errorf("%v, %v", kind, o)
		}
	}
	close(release)
	k.next()
	k.next()
	k.say(askFor(3, "M", nil))
	if f := k.next(); f.Call != 3 || f.GetCallObject() == nil {
		t.Errorf("got %v", f)
	}
	if len(entered) != 1 {
		t.Errorf("%d calls ran beside those that were let in", len(entered))
	}
}

// Nor more bytes of them, until they are answered.
func TestTooManyBytesOnAStream(t *testing.T) {
	release, last := make(chan struct{}), make(chan struct{})
	k := talk(t, t.Context(), dial(t, start(t, newCluster(func(_ context.Context, call object.Call) (object.Payload, error) {
		if call.Method == "Last" {
			<-last
		}
		<-release
		return object.Payload{}, nil
	}))))
	const size = 4_000_000
	const n = busyStream/size + 1
	long := &anypb.Any{Value: make([]byte, size)}
	for i := range uint64(n) {
		k.say(askFor(i+1, "M", long))
	}
	if kind, o := kindOf(k.failed(n)); kind != fault.Overloaded || o != fault.NotExecuted {
		t.Errorf("%v, %v", kind, o)
	}
	close(release)
	for range n - 1 {
		if f := k.next(); f.GetCallObject() == nil {
			t.Errorf("got %v", f)
		}
	}
	k.say(askFor(1, "Last", nil))
	k.say(askFor(n, "M", long))
	if f := k.next(); f.Call != n || f.GetCallObject() == nil {
		t.Errorf("got %v", f)
	}
	close(last)
	k.next()
}

func TestATooLargeAnswerOnAStream(t *testing.T) {
	k := talk(t, t.Context(), dial(t, start(t, newCluster(func(_ context.Context, call object.Call) (object.Payload, error) {
		if call.Method == "Fail" {
			return object.Payload{}, fault.New(fault.Failed, "%s", strings.Repeat("x", 2*maxMessage))
		}
		return object.OfBinary(&anypb.Any{Value: make([]byte, maxMessage+1)}), nil
	}))))
	for method, outcome := range map[string]fault.Outcome{"M": fault.Executed, "Fail": fault.OutcomeUnknown} {
		k.say(askFor(1, method, nil))
		if kind, o := kindOf(k.failed(1)); kind != fault.TooLarge || o != outcome {
			t.Errorf("%s: %v, %v", method, kind, o)
		}
	}
}

// A client that vanishes cancels its calls, and its session is closed.
func TestAStreamThatVanishes(t *testing.T) {
	var d diary
	entered, ended := make(chan struct{}), make(chan error, 1)
	s := start(t, newCluster(func(ctx context.Context, _ object.Call) (object.Payload, error) {
		close(entered)
		<-ctx.Done()
		ended <- ctx.Err()
		return object.Payload{}, ctx.Err()
	}), func(c *GateServerConfig) { c.Listener = d.listener() })
	cc := dialConn(t, s)
	k := talk(t, t.Context(), gate_pb.NewGateServiceClient(cc))
	k.say(askFor(1, "M", nil))
	<-entered
	cc.Close()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the call ended with %v", err)
	}
	if why := d.wait(t, k.id); why != "the client left" {
		t.Errorf("the session ended because %q", why)
	}
}

// A client that has nothing more to say gets its answers, and then the end.
func TestAStreamThatIsHalfClosed(t *testing.T) {
	release := make(chan struct{})
	k := talk(t, t.Context(), dial(t, start(t, newCluster(func(_ context.Context, call object.Call) (object.Payload, error) {
		<-release
		return call.Payload, nil
	}))))
	k.say(askFor(1, "M", text(t, "x")))
	if err := k.stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	for f := k.next(); ; f = k.next() { // the goodbye may be first
		if f.Call == 1 {
			break
		}
		close(release)
	}
	if why, _ := k.end(); !errors.Is(why, io.EOF) {
		t.Errorf("it ends with %v", why)
	}
}

// One client does not read what is pushed to it: its session ends. Its call under way is
// answered all the same, and its neighbour gets everything.
func TestAStreamThatStalls(t *testing.T) {
	var d diary
	release := make(chan struct{})
	router := newCluster(func(_ context.Context, call object.Call) (object.Payload, error) {
		<-release
		return call.Payload, nil
	})
	c := dial(t, start(t, router, func(c *GateServerConfig) { c.Listener, c.WriteTimeout = d.listener(), time.Minute }))
	stalled, fine := talk(t, t.Context(), c), talk(t, t.Context(), c)
	stalled.say(askFor(1, "M", text(t, "late")))
	big := pack(t, wrap(strings.Repeat("x", 64<<10)))
	for range 64 { // 4 MiB, four times the outbox
		router.push(peer.PushFrame{ClientIDs: []string{stalled.id, fine.id}, Message: big})
		if fine.next().GetPush() == nil {
			t.Fatal("the neighbour does not get its push")
		}
	}
	if why := d.wait(t, stalled.id); !strings.Contains(why, "does not read") {
		t.Errorf("the stalled session ended with %q", why)
	}
	close(release)
	answered := false
	for {
		f, err := stalled.read()
		if err != nil {
			t.Fatal(err)
		}
		answered = answered || f.Call == 1 && f.GetCallObject() != nil
		if g := f.GetGoodbye(); g != nil {
			if kind, _ := kindOf(said(t, g.Status)); kind != fault.Overloaded {
				t.Errorf("the goodbye says %v", kind)
			}
			break
		}
	}
	for !answered {
		answered = stalled.next().Call == 1
	}
	stalled.say(askFor(2, "M", nil))
	if kind, o := kindOf(stalled.failed(2)); kind != fault.NotReady || o != fault.NotExecuted {
		t.Errorf("a call after the goodbye: %v, %v", kind, o)
	}
	if why, _ := stalled.end(); fault.KindOf(fault.FromStatus(why)) != fault.Overloaded {
		t.Errorf("it ends with %v", why)
	}
}

// The same with answers in place of pushes: the write deadline ends it, and what runs for
// it.
func TestAStreamThatStallsForTooLong(t *testing.T) {
	var d diary
	entered, ended := make(chan struct{}), make(chan error, 1)
	router := newCluster(func(ctx context.Context, call object.Call) (object.Payload, error) {
		if call.Method == "Wait" {
			close(entered)
			<-ctx.Done()
			ended <- ctx.Err()
		}
		return object.OfBinary(&anypb.Any{Value: make([]byte, 100<<10)}), nil
	})
	s := start(t, router, func(c *GateServerConfig) { c.Listener, c.WriteTimeout = d.listener(), 300*time.Millisecond })
	k := talk(t, t.Context(), dial(t, s))
	for i, method := range []string{"Wait", "M", "M", "M", "M", "M", "M", "M", "M"} {
		_ = k.stream.Send(&gate_pb.ClientBatch{Frames: []*gate_pb.ClientFrame{askFor(uint64(i+1), method, nil)}}) // or it has ended already
	}
	if why := d.wait(t, k.id); !strings.Contains(why, "does not read what is sent") {
		t.Errorf("the stalled session ended with %q", why)
	}
	select {
	case <-entered:
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("its call ended with %v", err)
		}
	default: // the machine is so busy that the end was first
	}
}

// A gate that stops says so, answers what is under way, refuses in so many words what
// comes too late, and ends the stream when the client hangs up.
func TestAGateThatStopsSaysGoodbye(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	s := start(t, newCluster(func(_ context.Context, call object.Call) (object.Payload, error) {
		close(entered)
		<-release
		return call.Payload, nil
	}))
	k := talk(t, t.Context(), dial(t, s))
	k.say(askFor(1, "M", text(t, "x")))
	<-entered
	stopped := make(chan error)
	go func() { stopped <- s.Stop() }()
	f := k.next()
	if kind, o := kindOf(said(t, f.GetGoodbye().GetStatus())); kind != fault.NotReady || o != fault.NotExecuted {
		t.Errorf("the goodbye is %v: %v, %v", f, kind, o)
	}
	k.say(askFor(2, "M", nil))
	if kind, o := kindOf(k.failed(2)); kind != fault.NotReady || o != fault.NotExecuted {
		t.Errorf("a call after the goodbye: %v, %v", kind, o)
	}
	close(release)
	if f := k.next(); f.Call != 1 || unpack(t, f.GetCallObject().GetResponse()) != "x" {
		t.Errorf("the call under way is answered %v", f)
	}
	if err := k.stream.CloseSend(); err != nil {
		t.Error(err)
	}
	if why, _ := k.end(); fault.KindOf(fault.FromStatus(why)) != fault.NotReady {
		t.Errorf("it ends with %v", why)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestAFullGateRefusesStreams(t *testing.T) {
	c := dial(t, start(t, newCluster(echo), func(c *GateServerConfig) { c.MaxSessions = 1 }))
	first := talk(t, t.Context(), c)
	stream, err := c.Converse(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second := &talker{t: t, stream: stream}
	second.say(hello())
	if _, err := second.read(); fault.KindOf(fault.FromStatus(err)) != fault.Overloaded {
		t.Errorf("the second client of one: %v", err)
	}
	first.say(askFor(1, "M", text(t, "x")))
	if got := unpack(t, first.next().GetCallObject().GetResponse()); got != "x" {
		t.Errorf("the first gets %q", got)
	}
}

// A call that was on its way when the gate said goodbye is refused in words, and not cut
// off in doubt.
func TestAStreamsLastWords(t *testing.T) {
	for range 20 { // there is a second for it, which a busy machine may not give
		s := start(t, newCluster(echo))
		k := talk(t, t.Context(), dial(t, s))
		stopped := make(chan error)
		go func() { stopped <- s.Stop() }()
		if k.next().GetGoodbye() == nil {
			t.Fatal("no goodbye")
		}
		refused := false
		if err := k.stream.Send(&gate_pb.ClientBatch{Frames: []*gate_pb.ClientFrame{askFor(1, "M", nil)}}); err == nil {
			f, err := k.read()
			refused = err == nil && f.GetFailure() != nil && fault.KindOf(fault.FromStatus(said(t, f.GetFailure()))) == fault.NotReady
		}
		_ = k.stream.CloseSend() // or it has ended
		if err := <-stopped; err != nil {
			t.Error(err)
		}
		if refused {
			return
		}
	}
	t.Error("not once in 20 times")
}
