package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/secure"
	"github.com/xiaonanln/goverse/object"
	goverse_pb "github.com/xiaonanln/goverse/proto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a road under test.
type world struct {
	wire   bool // what crosses is marshalled and can be lost
	listen func(t *testing.T, svc Service) (address string, stop func())
	dial   func(t *testing.T, address string) Conn
}

// connect offers svc and dials it.
func (w world) connect(t *testing.T, svc Service) Conn {
	address, _ := w.listen(t, svc)
	return w.dial(t, address)
}

// exercise runs one test of the contract over every road that has it.
func exercise(t *testing.T, test func(t *testing.T, w world)) {
	t.Run("grpc", func(t *testing.T) { test(t, grpcWorld()) })
	t.Run("members", func(t *testing.T) { test(t, memberWorld()) })
	t.Run("old grpc", func(t *testing.T) { test(t, oldWorld()) })
	t.Run("mem", func(t *testing.T) { synctest.Test(t, func(t *testing.T) { test(t, memWorld(NewNetwork())) }) })
	t.Run("loopback", func(t *testing.T) { test(t, loopbackWorld()) })
}

// exerciseWire is exercise without the road on which nothing can be lost.
func exerciseWire(t *testing.T, test func(t *testing.T, w world)) {
	exercise(t, func(t *testing.T, w world) {
		if w.wire {
			test(t, w)
		}
	})
}

func grpcWorld() world {
	return world{
		wire: true,
		listen: func(t *testing.T, svc Service) (string, func()) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			return l.Addr().String(), serveOn(t, l, svc)
		},
		dial: func(t *testing.T, address string) Conn { return dial(t, NewGRPCDialer(event.Listener{}), address) },
	}
}

// memberWorld is between members, whose lanes have connections to themselves.
func memberWorld() world {
	secret := secure.NewSecret()
	w := grpcWorld()
	w.listen = func(t *testing.T, svc Service) (string, func()) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		m := &Membership{Address: l.Addr().String(), Secret: knows(secret)}
		var d *Doors
		stop := serveGRPC(t, l, func(s *grpc.Server) { d = m.Register(s, svc, event.Listener{}) }, m.ServerOptions()...)
		stopBoth := sync.OnceFunc(func() { stop(); d.Close() })
		t.Cleanup(stopBoth)
		return m.Address, stopBoth
	}
	w.dial = func(t *testing.T, address string) Conn {
		m := &Membership{Address: "g:1", Secret: knows(secret)}
		return dial(t, m.Dialer(event.Listener{}), address)
	}
	return w
}

// oldWorld is gRPC with a peer of the version that had no lanes.
func oldWorld() world {
	w := grpcWorld()
	w.listen = func(t *testing.T, svc Service) (string, func()) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return l.Addr().String(), serveGRPC(t, l, func(s *grpc.Server) {
			goverse_pb.RegisterPeerServiceServer(s, &grpcService{svc: svc})
		})
	}
	return w
}

func serveOn(t *testing.T, l net.Listener, svc Service) (stop func()) {
	return serveGRPC(t, l, func(s *grpc.Server) { RegisterPeerService(s, svc, event.Listener{}) })
}

func serveGRPC(t *testing.T, l net.Listener, register func(*grpc.Server), more ...grpc.ServerOption) (stop func()) {
	s := grpc.NewServer(append(ServerOptions(), more...)...)
	register(s)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	stop = sync.OnceFunc(func() { s.Stop(); <-done })
	t.Cleanup(stop)
	return stop
}

func memWorld(n *Network) world {
	return world{
		wire: true,
		listen: func(t *testing.T, svc Service) (string, func()) {
			stop := n.Listen("b:1", svc)
			t.Cleanup(stop)
			return "b:1", stop
		},
		dial: func(t *testing.T, address string) Conn { return dial(t, n.Dialer("a:1"), address) },
	}
}

func loopbackWorld() world {
	var offered Service
	return world{
		listen: func(_ *testing.T, svc Service) (string, func()) { offered = svc; return "self", func() {} },
		dial: func(t *testing.T, _ string) Conn {
			c := Loopback(offered)
			t.Cleanup(func() { _ = c.Close() })
			return c
		},
	}
}

func dial(t *testing.T, d Dialer, address string) Conn {
	t.Helper()
	c, err := d.Dial(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// fake is a Service made of functions.
type fake struct {
	call   func(ctx context.Context, req *Request) (object.Payload, error)
	stage  func(ctx context.Context, stage *Stage) error
	pushes func(ctx context.Context, gate string, ready func(), deliver func(PushFrame) error) error
	object.Records
	object.Cataloger
	Census
}

func (f fake) ServeCall(ctx context.Context, req *Request) (object.Payload, error) {
	return f.call(ctx, req)
}

func (f fake) ServeStage(ctx context.Context, stage *Stage) error { return f.stage(ctx, stage) }

func (f fake) ServeProbe(context.Context, *Probe) ([]string, error) { return nil, nil }

func (f fake) ServePushes(ctx context.Context, h Hearing, ready func(Opening), deliver func(PushFrame) error) error {
	return f.pushes(ctx, h.Gate, func() { ready(Opening{}) }, deliver)
}

func echo(_ context.Context, req *Request) (object.Payload, error) { return req.Payload, nil }

func callOf(p object.Payload) *Request {
	return &Request{Call: object.Call{Ref: object.Ref{Type: "Room", ID: "general"}, Method: "Join", Payload: p}}
}

func text(s string) object.Payload { return object.OfMessage(wrapperspb.String(s)) }

func want(t *testing.T, err error, kind fault.Kind, outcome fault.Outcome) {
	t.Helper()
	if err == nil || fault.KindOf(err) != kind || fault.OutcomeOf(err) != outcome {
		t.Errorf("got %v (%v, %v), want %v, %v", err, fault.KindOf(err), fault.OutcomeOf(err), kind, outcome)
	}
	if e := new(fault.Error); err != nil && !errors.As(err, &e) {
		t.Errorf("%T is no *fault.Error", err)
	}
}

func TestACallCarriesEverything(t *testing.T) {
	exercise(t, func(t *testing.T, w world) {
		sent := &Request{
			Call: object.Call{Op: object.OpCall, Ref: object.Ref{Type: "Room", ID: "general"}, Method: "Join",
				ID: "call-1", IDIfKept: true, Payload: object.OfJSON([]byte(`{"a":1}`)), ReadOnly: true},
			Shard: 8191, Epoch: 1 << 60, Hops: 3,
		}
		info := &callctx.Info{
			Caller: callctx.Caller{ClientID: "gate:1/x", UserID: "ann", Roles: []string{"admin", "user"}, Client: true},
			CallID: "call-1",
			Chain: callctx.Chain{ID: callctx.NewChainID(), Path: []callctx.Turn{
				{Type: "A", ID: "1", Method: "M", Shard: 7, Epoch: 9, Shared: true}, {Type: "B", ID: "2", Method: "N"}}},
		}
		var got *Request
		var gotInfo *callctx.Info
		var left time.Duration
		conn := w.connect(t, fake{call: func(ctx context.Context, req *Request) (object.Payload, error) {
			got, gotInfo = req, callctx.From(ctx)
			deadline, _ := ctx.Deadline()
			left = time.Until(deadline)
			return object.Payload{}, nil
		}})
		ctx, cancel := context.WithTimeout(callctx.With(t.Context(), info), time.Hour)
		defer cancel()
		if _, err := conn.ServeCall(ctx, sent); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, sent) {
			t.Errorf("got %+v, sent %+v", got, sent)
		}
		if !reflect.DeepEqual(gotInfo, info) {
			t.Errorf("got %+v, sent %+v", gotInfo, info)
		}
		if left > time.Hour || left < time.Hour-time.Minute {
			t.Errorf("of an hour %v were left", left)
		}
	})
}

// A nested call has an id of its own or none, whatever the call around it has.
func TestACallDoesNotInheritTheIDAroundIt(t *testing.T) {
	exercise(t, func(t *testing.T, w world) {
		conn := w.connect(t, fake{call: func(ctx context.Context, req *Request) (object.Payload, error) {
			if req.ID != "" || callctx.From(ctx).CallID != "" {
				t.Errorf("inherited %q %q", req.ID, callctx.From(ctx).CallID)
			}
			if id := callctx.From(ctx).Caller.UserID; id != "ann" {
				t.Errorf("lost the user: %q", id)
			}
			return object.Payload{}, nil
		}})
		around := &callctx.Info{CallID: "outer", Caller: callctx.Caller{UserID: "ann"}}
		if _, err := conn.ServeCall(callctx.With(t.Context(), around), callOf(text("x"))); err != nil {
			t.Fatal(err)
		}
		if around.CallID != "outer" {
			t.Error("the caller's info was changed")
		}
	})
}

func TestOperations(t *testing.T) {
	exercise(t, func(t *testing.T, w world) {
		var got object.Op
		conn := w.connect(t, fake{call: func(_ context.Context, req *Request) (object.Payload, error) {
			got = req.Op
			return object.Payload{}, nil
		}})
		for _, op := range []object.Op{object.OpCall, object.OpCreate, object.OpDelete} {
			if _, err := conn.ServeCall(t.Context(), &Request{Call: object.Call{Op: op}}); err != nil || got != op {
				t.Errorf("%v arrived as %v, %v", op, got, err)
			}
		}
	})
}

// The reply comes in the form that was asked in.
func TestForms(t *testing.T) {
	binary, err := anypb.New(wrapperspb.String("x"))
	if err != nil {
		t.Fatal(err)
	}
	exercise(t, func(t *testing.T, w world) {
		conn := w.connect(t, fake{call: echo})
		for name, p := range map[string]object.Payload{
			"message": text("x"), "empty message": text(""), "absent": {},
			"binary": object.OfBinary(binary), "json": object.OfJSON([]byte(`{}`)), "empty json": object.OfJSON(nil),
		} {
			got, err := conn.ServeCall(t.Context(), callOf(p))
			if err != nil || got.Form != p.Form || !proto.Equal(got.Message, p.Message) ||
				!proto.Equal(got.Binary, p.Binary) || string(got.JSON) != string(p.JSON) {
				t.Errorf("%s: got %+v, %v", name, got, err)
			}
			if w.wire && p.Message != nil && got.Message == p.Message {
				t.Errorf("%s: memory is shared", name)
			}
		}
	})
}

// A reply and an error both say whether an earlier attempt's run is behind them, and
// whether not all of what they tell is stored yet.
func TestReplayed(t *testing.T) {
	exercise(t, func(t *testing.T, w world) {
		var replayed, unsaved bool
		var err error
		conn := w.connect(t, fake{call: func(_ context.Context, req *Request) (object.Payload, error) {
			p := req.Payload
			p.Replayed, p.Unsaved = replayed, unsaved
			return p, err
		}})
		for i := range 4 {
			replayed, unsaved = i&1 != 0, i&2 != 0
			for _, err = range []error{nil, fault.New(fault.Failed, "x")} {
				for _, p := range []object.Payload{text("x"), {}, object.OfJSON(nil)} {
					if got, _ := conn.ServeCall(t.Context(), callOf(p)); got.Replayed != replayed || got.Unsaved != unsaved {
						t.Errorf("replayed %v, unsaved %v with error %v arrived as %+v", replayed, unsaved, err, got)
					}
				}
			}
		}
	})
}

// A service that answers a wire's request with a live message is understood too.
func TestALiveReplyIsMarshalled(t *testing.T) {
	exerciseWire(t, func(t *testing.T, w world) {
		reply := wrapperspb.String("hello")
		conn := w.connect(t, fake{call: func(context.Context, *Request) (object.Payload, error) { return object.OfMessage(reply), nil }})
		got, err := conn.ServeCall(t.Context(), callOf(text("x")))
		if err != nil || !proto.Equal(got.Message, reply) || got.Message == proto.Message(reply) {
			t.Errorf("got %+v, %v", got, err)
		}
		asked, err := anypb.New(reply)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := conn.ServeCall(t.Context(), callOf(object.OfBinary(asked))); err != nil || !proto.Equal(got.Binary, asked) {
			t.Errorf("got %+v, %v", got, err)
		}
	})
}

func TestErrorsArriveWhole(t *testing.T) {
	exercise(t, func(t *testing.T, w world) {
		var fails error
		conn := w.connect(t, fake{call: func(context.Context, *Request) (object.Payload, error) { return object.Payload{}, fails }})
		for _, row := range fault.Table() {
			for _, outcome := range []fault.Outcome{fault.OutcomeUnknown, fault.NotExecuted, fault.Executed} {
				sent := fault.New(row.Kind, "because %d", 7).On("CallObject", "Room/general.Join").With(outcome)
				sent.Shard, sent.Epoch, sent.Holder = 4711, 9, "10.0.0.2:47000"
				sent.RetryAfter, sent.Path = 1500*time.Millisecond, []string{"A/1.M", "B/2.N"}
				fails = sent
				_, err := conn.ServeCall(t.Context(), callOf(text("x")))
				want(t, err, row.Kind, outcome)
				got := fault.Of(err)
				if got.Error() != sent.Error() || got.Shard != 4711 || got.Epoch != 9 || got.Holder != sent.Holder ||
					got.RetryAfter != sent.RetryAfter || !reflect.DeepEqual(got.Path, sent.Path) {
					t.Errorf("got %#v, sent %#v", got, sent)
				}
			}
		}
		own, err := status.New(codes.OutOfRange, "too far").WithDetails(durationpb.New(time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		fails = fault.Of(own.Err())
		_, err = conn.ServeCall(t.Context(), callOf(text("x")))
		want(t, err, fault.Failed, fault.Executed)
		if st, ok := status.FromError(err); !ok || !proto.Equal(st.Proto(), own.Proto()) {
			t.Errorf("the user's status arrived as %v", err)
		}
	})
}

// What a user's code puts into an error cannot lose the error's kind.
func TestErrorsThatDoNotFit(t *testing.T) {
	exerciseWire(t, func(t *testing.T, w world) {
		var fails error
		conn := w.connect(t, fake{call: func(context.Context, *Request) (object.Payload, error) { return object.Payload{}, fails }})
		huge := strings.Repeat("é", MaxPayload)
		details, err := status.New(codes.OutOfRange, huge).WithDetails(wrapperspb.String(huge))
		if err != nil {
			t.Fatal(err)
		}
		for _, cause := range []error{errors.New("\xff\xfe"), errors.New(huge), details.Err(), status.Error(codes.OutOfRange, "\xff")} {
			fails = &fault.Error{Kind: fault.Failed, Op: "\xff", Subject: huge, Err: cause, Path: []string{"\xff", huge}}
			_, err := conn.ServeCall(t.Context(), callOf(text("x")))
			want(t, err, fault.Failed, fault.Executed)
		}
	})
}

func TestTooLarge(t *testing.T) {
	exerciseWire(t, func(t *testing.T, w world) {
		var served atomic.Int32
		var reply object.Payload
		conn := w.connect(t, fake{call: func(_ context.Context, req *Request) (object.Payload, error) {
			served.Add(1)
			return reply, nil
		}})
		at := object.OfJSON(make([]byte, MaxPayload))
		over := object.OfJSON(make([]byte, MaxPayload+1))
		reply = at
		if got, err := conn.ServeCall(t.Context(), callOf(at)); err != nil || len(got.JSON) != MaxPayload {
			t.Errorf("at the limit: %v", err)
		}
		_, err := conn.ServeCall(t.Context(), callOf(over))
		want(t, err, fault.TooLarge, fault.NotExecuted)
		_, err = conn.ServeCall(t.Context(), callOf(object.OfMessage(wrapperspb.Bytes(make([]byte, MaxPayload)))))
		want(t, err, fault.TooLarge, fault.NotExecuted)
		deep := &callctx.Info{Chain: callctx.Chain{ID: callctx.NewChainID()}}
		for range 4000 {
			deep.Chain.Path = append(deep.Chain.Path, callctx.Turn{Type: "T", ID: strings.Repeat("i", 512), Method: "M"})
		}
		_, err = conn.ServeCall(callctx.With(t.Context(), deep), callOf(at))
		want(t, err, fault.TooLarge, fault.NotExecuted)
		if n := served.Load(); n != 1 {
			t.Errorf("%d calls were served", n)
		}
		reply = over
		_, err = conn.ServeCall(t.Context(), callOf(at))
		want(t, err, fault.TooLarge, fault.Executed)
	})
}

func TestWhatCannotBeMarshalledIsNotSent(t *testing.T) {
	exerciseWire(t, func(t *testing.T, w world) {
		conn := w.connect(t, fake{call: func(context.Context, *Request) (object.Payload, error) {
			t.Error("it was served")
			return object.Payload{}, nil
		}})
		_, err := conn.ServeCall(t.Context(), callOf(text("\xff")))
		want(t, err, fault.Invalid, fault.NotExecuted)
		bad := &callctx.Info{Caller: callctx.Caller{UserID: "\xff"}}
		_, err = conn.ServeCall(callctx.With(t.Context(), bad), callOf(text("x")))
		want(t, err, fault.Invalid, fault.NotExecuted)
	})
}

func TestAReplyThatCannotBeMarshalledWasExecuted(t *testing.T) {
	exerciseWire(t, func(t *testing.T, w world) {
		conn := w.connect(t, fake{call: func(context.Context, *Request) (object.Payload, error) { return text("\xff"), nil }})
		_, err := conn.ServeCall(t.Context(), callOf(text("x")))
		want(t, err, fault.Invalid, fault.Executed)
	})
}

// blocking is a service whose calls wait for their context's end.
type blocking struct {
	fake
	entered chan struct{}
	ended   chan error
}

func newBlocking() *blocking {
	b := &blocking{entered: make(chan struct{}, 8), ended: make(chan error, 8)}
	b.call = func(ctx context.Context, _ *Request) (object.Payload, error) {
		b.entered <- struct{}{}
		<-ctx.Done()
		b.ended <- ctx.Err()
		return object.Payload{}, fault.Of(ctx.Err())
	}
	return b
}

func TestTheCallersEndReachesTheCall(t *testing.T) {
	exercise(t, func(t *testing.T, w world) {
		svc := newBlocking()
		conn := w.connect(t, svc)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-svc.entered; cancel() }()
		_, err := conn.ServeCall(ctx, callOf(text("x")))
		want(t, err, fault.Canceled, fault.OutcomeUnknown)
		<-svc.ended

		ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		_, err = conn.ServeCall(ctx, callOf(text("x")))
		want(t, err, fault.Deadline, fault.OutcomeUnknown)
		<-svc.ended
	})
}

func TestAnEndedContextSendsNothing(t *testing.T) {
	exercise(t, func(t *testing.T, w world) {
		conn := w.connect(t, fake{call: func(context.Context, *Request) (object.Payload, error) {
			t.Error("it was served")
			return object.Payload{}, nil
		}})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := conn.ServeCall(ctx, callOf(text("x")))
		want(t, err, fault.Canceled, fault.NotExecuted)
		ctx, cancel = context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
		defer cancel()
		_, err = conn.ServeCall(ctx, callOf(text("x")))
		want(t, err, fault.Deadline, fault.NotExecuted)
	})
}

func TestNobodyListens(t *testing.T) {
	exerciseWire(t, func(t *testing.T, w world) {
		address, stop := w.listen(t, fake{call: echo})
		stop()
		conn := w.dial(t, address)
		_, err := conn.ServeCall(t.Context(), callOf(text("x")))
		want(t, err, fault.NotReady, fault.NotExecuted)
		if !fault.KindOf(err).Row().Reroutes {
			t.Error("the router must try elsewhere")
		}
		err = conn.ServePushes(t.Context(), Hearing{Gate: "gate:1"}, func(Opening) { t.Error("ready") }, nil)
		want(t, err, fault.NotReady, fault.NotExecuted)
	})
}

func TestThePeerDiesInTheMiddle(t *testing.T) {
	exerciseWire(t, func(t *testing.T, w world) {
		svc := newBlocking()
		address, stop := w.listen(t, svc)
		conn := w.dial(t, address)
		go func() { <-svc.entered; stop() }()
		_, err := conn.ServeCall(t.Context(), callOf(text("x")))
		want(t, err, fault.Indeterminate, fault.OutcomeUnknown)
	})
}

func TestClose(t *testing.T) {
	exercise(t, func(t *testing.T, w world) {
		svc := newBlocking()
		svc.pushes = func(ctx context.Context, _ string, ready func(), _ func(PushFrame) error) error {
			ready()
			<-ctx.Done()
			return nil
		}
		conn := w.connect(t, svc)
		ready, pushes := make(chan struct{}), make(chan error, 1)
		go func() {
			pushes <- conn.ServePushes(t.Context(), Hearing{Gate: "gate:1"}, func(Opening) { close(ready) }, nil)
		}()
		<-ready
		if w.wire { // a closed loopback lets its calls end by themselves
			go func() { <-svc.entered; _ = conn.Close() }()
			_, err := conn.ServeCall(t.Context(), callOf(text("x")))
			want(t, err, fault.Indeterminate, fault.OutcomeUnknown)
		}
		for range 2 {
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := <-pushes; w.wire {
			want(t, err, fault.Indeterminate, fault.OutcomeUnknown)
		}
		_, err := conn.ServeCall(t.Context(), callOf(text("x")))
		want(t, err, fault.NotReady, fault.NotExecuted)
		want(t, conn.ServePushes(t.Context(), Hearing{Gate: "gate:1"}, func(Opening) {}, nil), fault.NotReady, fault.NotExecuted)
	})
}

func TestAThousandAtOnce(t *testing.T) {
	exercise(t, func(t *testing.T, w world) {
		conn := w.connect(t, fake{call: echo})
		var all sync.WaitGroup
		for i := range 1000 {
			all.Go(func() {
				mine := fmt.Sprint(i)
				got, err := conn.ServeCall(t.Context(), callOf(text(mine)))
				if err != nil || got.Message.(*wrapperspb.StringValue).Value != mine {
					t.Errorf("%s: got %v, %v", mine, got, err)
				}
			})
		}
		all.Wait()
	})
}

func TestPushesComeInOrderAfterReady(t *testing.T) {
	const count = 500
	payload, err := anypb.New(wrapperspb.String("hi"))
	if err != nil {
		t.Fatal(err)
	}
	exercise(t, func(t *testing.T, w world) {
		left := make(chan struct{})
		conn := w.connect(t, fake{pushes: func(ctx context.Context, gate string, ready func(), deliver func(PushFrame) error) error {
			defer close(left)
			if gate != "gate:1" {
				t.Errorf("gate %q", gate)
			}
			ready()
			for i := range count {
				if err := deliver(PushFrame{ClientIDs: []string{fmt.Sprint(i)}, Message: payload, JSON: []byte(`"hi"`)}); err != nil {
					return err
				}
			}
			if err := deliver(PushFrame{Broadcast: true, Message: payload}); err != nil {
				return err
			}
			<-ctx.Done()
			return ctx.Err()
		}})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		isReady, next := false, 0
		err := conn.ServePushes(ctx, Hearing{Gate: "gate:1"}, func(Opening) { isReady = true }, func(f PushFrame) error {
			switch {
			case !isReady:
				t.Error("delivered before ready")
			case f.Broadcast:
				if next != count || len(f.ClientIDs) != 0 {
					t.Errorf("%d arrived before the broadcast", next)
				}
				cancel()
			case !reflect.DeepEqual(f.ClientIDs, []string{fmt.Sprint(next)}) || !proto.Equal(f.Message, payload) || string(f.JSON) != `"hi"`:
				t.Errorf("frame %d is %+v", next, f)
			}
			next++
			return nil
		})
		if fault.KindOf(err) != fault.Canceled {
			t.Errorf("ended with %v", err)
		}
		<-left
	})
}

func TestDeliverFails(t *testing.T) {
	exercise(t, func(t *testing.T, w world) {
		left := make(chan struct{})
		conn := w.connect(t, fake{pushes: func(ctx context.Context, _ string, ready func(), deliver func(PushFrame) error) error {
			defer close(left)
			ready()
			for {
				if err := deliver(PushFrame{Broadcast: true}); err != nil {
					return err
				}
			}
		}})
		full := errors.New("full")
		err := conn.ServePushes(t.Context(), Hearing{Gate: "gate:1"}, func(Opening) {}, func(PushFrame) error { return full })
		if !errors.Is(err, full) {
			t.Errorf("ended with %v", err)
		}
		<-left
	})
}

func TestThePeerEndsThePushes(t *testing.T) {
	exercise(t, func(t *testing.T, w world) {
		var ends error
		conn := w.connect(t, fake{pushes: func(_ context.Context, _ string, ready func(), _ func(PushFrame) error) error {
			ready()
			return ends
		}})
		if err := conn.ServePushes(t.Context(), Hearing{Gate: "gate:1"}, func(Opening) {}, nil); err != nil {
			t.Errorf("got %v", err)
		}
		ends = fault.New(fault.Overloaded, "too many gates")
		want(t, conn.ServePushes(t.Context(), Hearing{Gate: "gate:1"}, func(Opening) {}, nil), fault.Overloaded, fault.NotExecuted)
	})
}

// Very many addressees take several frames; ids that no session can have take none.
func TestVeryManyAddressees(t *testing.T) {
	ids := []string{"\xff"}
	for i := range 60_000 {
		ids = append(ids, fmt.Sprintf("gate.example.org:49000/%032d", i))
	}
	exerciseWire(t, func(t *testing.T, w world) {
		conn := w.connect(t, fake{pushes: func(_ context.Context, _ string, ready func(), deliver func(PushFrame) error) error {
			ready()
			return deliver(PushFrame{ClientIDs: ids, Message: &anypb.Any{Value: make([]byte, MaxPayload)}})
		}})
		var got []string
		err := conn.ServePushes(t.Context(), Hearing{Gate: "gate:1"}, func(Opening) {}, func(f PushFrame) error {
			got = append(got, f.ClientIDs...)
			return nil
		})
		if err != nil || !reflect.DeepEqual(got, ids[1:]) {
			t.Errorf("%d of %d arrived: %v", len(got), len(ids)-1, err)
		}
	})
}

func TestATooLargePush(t *testing.T) {
	exerciseWire(t, func(t *testing.T, w world) {
		conn := w.connect(t, fake{pushes: func(_ context.Context, _ string, ready func(), deliver func(PushFrame) error) error {
			ready()
			return deliver(PushFrame{Broadcast: true, Message: &anypb.Any{Value: make([]byte, MaxPayload+1)}})
		}})
		err := conn.ServePushes(t.Context(), Hearing{Gate: "gate:1"}, func(Opening) {}, nil)
		want(t, err, fault.TooLarge, fault.NotExecuted)
	})
}

// A gate that does not take its pushes stops the node's deliver, not the calls.
func TestAGateThatDoesNotRead(t *testing.T) {
	exerciseWire(t, func(t *testing.T, w world) {
		stuck := make(chan struct{})
		conn := w.connect(t, fake{call: echo, pushes: func(ctx context.Context, _ string, ready func(), deliver func(PushFrame) error) error {
			ready()
			for sent := 0; ; sent++ {
				if sent > 10_000 {
					t.Error("10,000 frames of 64 KiB are afloat")
				}
				if err := deliver(PushFrame{Broadcast: true, JSON: make([]byte, 64<<10)}); err != nil {
					return err
				}
			}
		}})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := make(chan error, 1)
		go func() {
			done <- conn.ServePushes(ctx, Hearing{Gate: "gate:1"}, func(Opening) {}, func(PushFrame) error { close(stuck); <-ctx.Done(); return ctx.Err() })
		}()
		<-stuck
		if _, err := conn.ServeCall(t.Context(), callOf(text("x"))); err != nil {
			t.Error(err)
		}
		cancel()
		want(t, <-done, fault.Canceled, fault.OutcomeUnknown)
	})
}
