package gateserver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

func TestGRPCCallsCreatesAndDeletes(t *testing.T) {
	seen := make(chan object.Call, 1)
	c := dial(t, start(t, newCluster(func(_ context.Context, call object.Call) (object.Payload, error) {
		seen <- call
		return call.Payload, nil
	})))
	reply, err := c.CallObject(t.Context(), &gate_pb.CallObjectRequest{Type: "Room", Id: "a/b", Method: "Say", Request: text(t, "hello")})
	if err != nil {
		t.Fatal(err)
	}
	if got := unpack(t, reply.Response); got != "hello" {
		t.Errorf("reply %q", got)
	}
	if call := <-seen; call.Op != object.OpCall || call.Ref != (object.Ref{Type: "Room", ID: "a/b"}) || call.Method != "Say" || call.Payload.Form != object.FormBinary || call.ReadOnly {
		t.Errorf("routed %+v", call)
	}
	created, err := c.CreateObject(t.Context(), &gate_pb.CreateObjectRequest{Type: "Room"})
	if err != nil {
		t.Fatal(err)
	}
	if call := <-seen; call.Op != object.OpCreate || call.Ref.ID != created.Id || len(created.Id) != 26 {
		t.Errorf("routed %+v for %q", call, created.Id)
	}
	if _, err := c.DeleteObject(t.Context(), &gate_pb.DeleteObjectRequest{Type: "Room", Id: "x"}); err != nil {
		t.Fatal(err)
	}
	if call := <-seen; call.Op != object.OpDelete || call.Ref.ID != "x" {
		t.Errorf("routed %+v", call)
	}
}

func TestGRPCSaysWhoCalls(t *testing.T) {
	callers := make(chan callctx.Caller, 1)
	c := dial(t, start(t, newCluster(func(ctx context.Context, call object.Call) (object.Payload, error) {
		callers <- callctx.From(ctx).Caller
		return call.Payload, nil
	})))
	id, _ := register(t, t.Context(), c)
	for _, want := range []struct{ given, heard string }{{id, id}, {"", ""}, {id + "x", ""}, {"elsewhere:1/abc", ""}} {
		if _, err := c.CallObject(t.Context(), &gate_pb.CallObjectRequest{ClientId: want.given, Type: "T", Id: "i", Method: "M"}); err != nil {
			t.Fatal(err)
		}
		if got := <-callers; got.ClientID != want.heard || !got.Client {
			t.Errorf("client id %q: the caller is %+v", want.given, got)
		}
	}
}

func TestGRPCPushesInOrder(t *testing.T) {
	router := newCluster(echo)
	s := start(t, router)
	c := dial(t, s)
	id, stream := register(t, t.Context(), c)
	if !strings.HasPrefix(id, s.AdvertiseAddress()+"/") {
		t.Errorf("client id %q at %q", id, s.AdvertiseAddress())
	}
	for i := range 200 {
		router.push(peer.PushFrame{ClientIDs: []string{id}, Message: text(t, fmt.Sprint(i))})
	}
	for i := range 200 {
		m, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if got := unpack(t, m); got != fmt.Sprint(i) {
			t.Fatalf("push %d is %q", i, got)
		}
	}
}

func TestGRPCErrorsKeepTheirKindAndOutcome(t *testing.T) {
	var answer error
	c := dial(t, start(t, newCluster(func(context.Context, object.Call) (object.Payload, error) { return object.Payload{}, answer })))
	call := func() error {
		_, err := c.CallObject(t.Context(), &gate_pb.CallObjectRequest{Type: "T", Id: "i", Method: "M"})
		return err
	}
	for _, row := range fault.Table() {
		answer = fault.New(row.Kind, "why")
		err := call()
		back := fault.FromStatus(err)
		if status.Code(err) != row.GRPC || fault.KindOf(back) != row.Kind || fault.OutcomeOf(back) != row.Outcome {
			t.Errorf("%s arrives as %v", row.Name, err)
		}
		if !strings.Contains(err.Error(), "CallObject T/i.M") {
			t.Errorf("%v does not say what failed", err)
		}
	}
	answer = &fault.Error{Kind: fault.Failed, Err: status.Error(codes.FailedPrecondition, "the room is full")}
	if err := call(); status.Code(err) != codes.FailedPrecondition || status.Convert(err).Message() != "the room is full" {
		t.Errorf("the method's own status arrives as %v", err)
	}
	answer = errors.New("plain")
	if err := call(); fault.KindOf(fault.FromStatus(err)) != fault.Failed {
		t.Errorf("a plain error arrives as %v", err)
	}
}

func TestGRPCBadInput(t *testing.T) {
	c := dial(t, start(t, newCluster(func(context.Context, object.Call) (object.Payload, error) {
		t.Error("a bad call was routed")
		return object.Payload{}, nil
	})))
	call := func(r *gate_pb.CallObjectRequest) error { _, err := c.CallObject(t.Context(), r); return err }
	for name, err := range map[string]error{
		"empty type":    call(&gate_pb.CallObjectRequest{Id: "i", Method: "M"}),
		"empty id":      call(&gate_pb.CallObjectRequest{Type: "T", Method: "M"}),
		"empty method":  call(&gate_pb.CallObjectRequest{Type: "T", Id: "i"}),
		"NUL in the id": call(&gate_pb.CallObjectRequest{Type: "T", Id: "a\x00b", Method: "M"}),
		"long id":       call(&gate_pb.CallObjectRequest{Type: "T", Id: strings.Repeat("x", 513), Method: "M"}),
	} {
		back := fault.FromStatus(err)
		if status.Code(err) != codes.InvalidArgument || fault.KindOf(back) != fault.Invalid || fault.OutcomeOf(back) != fault.NotExecuted {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := call(&gate_pb.CallObjectRequest{Type: "T", Id: "\xff", Method: "M"}); err == nil || !strings.Contains(err.Error(), "UTF-8") {
		t.Errorf("invalid UTF-8: %v", err)
	}
	big := &anypb.Any{TypeUrl: "x/y", Value: make([]byte, maxMessage)}
	if err := call(&gate_pb.CallObjectRequest{Type: "T", Id: "i", Method: "M", Request: big}); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("more than 4 MiB: %v", err)
	}
	_, err := c.ReliableCallObject(t.Context(), &gate_pb.ReliableCallObjectRequest{Type: "T", Id: "i", Method: "M"})
	if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "call id") || fault.OutcomeOf(fault.FromStatus(err)) != fault.NotExecuted {
		t.Errorf("ReliableCallObject without an id: %v", err)
	}
	past, cancel := context.WithTimeout(t.Context(), -time.Second)
	defer cancel()
	if _, err := c.CallObject(past, &gate_pb.CallObjectRequest{Type: "T", Id: "i", Method: "M"}); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("a deadline in the past: %v", err)
	}
}

func TestAPassedDeadlineIsNotRouted(t *testing.T) {
	s := start(t, newCluster(echo))
	c := newCalls(&s.cfg, s.router, nil, newCrowd())
	past, cancel := context.WithTimeout(t.Context(), -time.Second)
	defer cancel()
	_, err := c.do(past, "", object.Call{Ref: object.Ref{Type: "T", ID: "i"}, Method: "M"})
	if fault.KindOf(err) != fault.Deadline || fault.OutcomeOf(err) != fault.NotExecuted {
		t.Errorf("%v, %v", err, fault.OutcomeOf(err))
	}
}

func TestATooLargeReplySaysThatTheCallRan(t *testing.T) {
	c := dial(t, start(t, newCluster(func(context.Context, object.Call) (object.Payload, error) {
		return object.OfBinary(&anypb.Any{Value: make([]byte, maxMessage+1)}), nil
	})))
	_, err := c.CallObject(t.Context(), &gate_pb.CallObjectRequest{Type: "T", Id: "i", Method: "M"})
	back := fault.FromStatus(err)
	if fault.KindOf(back) != fault.TooLarge || fault.OutcomeOf(back) != fault.Executed {
		t.Errorf("%v, %v", err, fault.OutcomeOf(back))
	}
}

func TestAGRPCClientThatVanishesCancelsItsCall(t *testing.T) {
	entered, ended := make(chan struct{}), make(chan error, 1)
	s := start(t, newCluster(func(ctx context.Context, _ object.Call) (object.Payload, error) {
		close(entered)
		<-ctx.Done()
		ended <- ctx.Err()
		return object.Payload{}, ctx.Err()
	}))
	cc := dialConn(t, s)
	go func() {
		_, _ = gate_pb.NewGateServiceClient(cc).CallObject(context.Background(), &gate_pb.CallObjectRequest{Type: "T", Id: "i", Method: "M"})
	}()
	<-entered
	cc.Close()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the call ended with %v", err)
	}
}

func TestTheDefaultTimeoutHolds(t *testing.T) {
	wait := func(ctx context.Context, _ object.Call) (object.Payload, error) {
		<-ctx.Done()
		return object.Payload{}, ctx.Err()
	}
	s := start(t, newCluster(wait), func(c *GateServerConfig) { c.DefaultCallTimeout = 20 * time.Millisecond })
	_, err := dial(t, s).CallObject(t.Context(), &gate_pb.CallObjectRequest{Type: "T", Id: "i", Method: "M"})
	if status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("gRPC: %v", err)
	}
	if got := request(t, s, "POST", "/api/v1/objects/T/i/M", ""); got.status != 504 || got.failure(t).Code != "TIMEOUT" || got.failure(t).Outcome != "Unknown" {
		t.Errorf("HTTP: %+v", got)
	}
}

func TestTooManyCallsAreOverloaded(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	s := start(t, newCluster(func(_ context.Context, call object.Call) (object.Payload, error) {
		close(entered)
		<-release
		return call.Payload, nil
	}), func(c *GateServerConfig) { c.MaxCalls = 1 })
	c := dial(t, s)
	first := make(chan error)
	go func() {
		_, err := c.CallObject(context.Background(), &gate_pb.CallObjectRequest{Type: "T", Id: "i", Method: "M"})
		first <- err
	}()
	<-entered
	_, err := c.CallObject(t.Context(), &gate_pb.CallObjectRequest{Type: "T", Id: "i", Method: "M"})
	if fault.KindOf(fault.FromStatus(err)) != fault.Overloaded {
		t.Errorf("the second of one: %v", err)
	}
	if got := request(t, s, "POST", "/api/v1/objects/T/i/M", ""); got.status != 429 || got.header.Get("Retry-After") == "" {
		t.Errorf("over HTTP: %+v", got)
	}
	close(release)
	if err := <-first; err != nil {
		t.Error(err)
	}
}

func TestHealthFollowsTheCluster(t *testing.T) {
	router := newCluster(echo)
	router.ready = make(chan struct{})
	s := start(t, router)
	watch, err := grpc_health_v1.NewHealthClient(dialConn(t, s)).Watch(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []grpc_health_v1.HealthCheckResponse_ServingStatus{grpc_health_v1.HealthCheckResponse_NOT_SERVING, grpc_health_v1.HealthCheckResponse_SERVING} {
		got, err := watch.Recv()
		if err != nil || got.Status != want {
			t.Fatalf("%v, %v; want %v", got, err, want)
		}
		if want == grpc_health_v1.HealthCheckResponse_NOT_SERVING {
			close(router.ready)
		}
	}
}

func TestReflectionKnowsTheGateService(t *testing.T) {
	stream, err := grpc_reflection_v1.NewServerReflectionClient(dialConn(t, start(t, newCluster(echo)))).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&grpc_reflection_v1.ServerReflectionRequest{MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	got, err := stream.Recv()
	if err != nil || !strings.Contains(got.String(), "gate.GateService") {
		t.Errorf("%v, %v", got, err)
	}
}

// One client registers and never reads; its flow-control window fills, then its
// outbox. Its neighbour on the same connection gets everything.
func TestAGRPCReaderThatStalls(t *testing.T) {
	var d diary
	router := newCluster(echo)
	s := start(t, router, func(c *GateServerConfig) { c.Listener = d.listener() })
	c := dial(t, s)
	stalledID, stalled := register(t, t.Context(), c)
	fineID, fine := register(t, t.Context(), c)
	big := pack(t, wrap(strings.Repeat("x", 64<<10)))
	for range 64 { // 4 MiB, four times the outbox
		router.push(peer.PushFrame{ClientIDs: []string{stalledID, fineID}, Message: big})
		if _, err := fine.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	if why := d.wait(t, stalledID); !strings.Contains(why, "does not read") {
		t.Errorf("the stalled session ended with %q", why)
	}
	var err error
	for err == nil {
		_, err = stalled.Recv()
	}
	if fault.KindOf(fault.FromStatus(err)) != fault.Overloaded {
		t.Errorf("the stalled client hears %v", err)
	}
}

// The same with a patient outbox: the write deadline ends it.
func TestAGRPCReaderThatStallsForTooLong(t *testing.T) {
	var d diary
	router := newCluster(echo)
	s := start(t, router, func(c *GateServerConfig) {
		c.Listener, c.WriteTimeout = d.listener(), 50*time.Millisecond
	})
	id, _ := register(t, t.Context(), dial(t, s))
	big := pack(t, wrap(strings.Repeat("x", 100<<10)))
	for range 8 {
		router.push(peer.PushFrame{ClientIDs: []string{id}, Message: big})
	}
	if why := d.wait(t, id); !strings.Contains(why, "does not read what is sent") {
		t.Errorf("the stalled session ended with %q", why)
	}
}

func TestAFullGateRefusesGRPCClients(t *testing.T) {
	s := start(t, newCluster(echo), func(c *GateServerConfig) { c.MaxSessions = 1 })
	c := dial(t, s)
	register(t, t.Context(), c)
	stream, err := c.Register(t.Context(), nil)
	if err == nil {
		_, err = stream.Recv()
	}
	if fault.KindOf(fault.FromStatus(err)) != fault.Overloaded {
		t.Errorf("the second client of one: %v", err)
	}
	p := request(t, s, "GET", eventsPath, "")
	if p.status != 429 {
		t.Errorf("an event stream: %+v", p)
	}
}

// What became of a call with an id is in the answer; a refusal is an error.
func TestReliableCallObject(t *testing.T) {
	for _, c := range []struct {
		err          error
		status, text string
		code         codes.Code
	}{
		{nil, "SUCCESS", "", codes.OK},
		{&fault.Error{Kind: fault.Failed, Err: errors.New("no money")}, "FAILED", "no money", codes.OK},
		{fault.New(fault.CallSettled, "never"), "SKIPPED", "never", codes.OK},
		{fault.New(fault.Deadline, "it runs").With(fault.OutcomeUnknown), "PENDING", "it runs", codes.OK},
		{fault.New(fault.Indeterminate, "lost"), "UNKNOWN", "lost", codes.OK},
		{fault.New(fault.Fenced, "deposed"), "UNKNOWN", "deposed", codes.OK},
		{fault.New(fault.CallIDReused, "other"), "", "other", codes.FailedPrecondition},
		{fault.New(fault.Overloaded, "busy"), "", "busy", codes.ResourceExhausted},
		{fault.New(fault.Panicked, "boom"), "", "boom", codes.Internal},
	} {
		var got object.Call
		client := dial(t, start(t, newCluster(func(_ context.Context, call object.Call) (object.Payload, error) {
			got = call
			return call.Payload, c.err
		})))
		request := &anypb.Any{TypeUrl: "x/y", Value: []byte("1")}
		a, err := client.ReliableCallObject(t.Context(), &gate_pb.ReliableCallObjectRequest{CallId: "c", Type: "T", Id: "i", Method: "M", Request: request})
		if got.ID != "c" || got.Ref != (object.Ref{Type: "T", ID: "i"}) || got.Method != "M" {
			t.Errorf("the cluster was asked for %+v", got)
		}
		if status.Code(err) != c.code || a.GetStatus() != c.status || proto.Equal(a.GetResponse(), request) != (c.status == "SUCCESS") {
			t.Errorf("%v: %v, %v", c.err, a, err)
		}
		if text := a.GetError() + status.Convert(err).Message(); !strings.Contains(text, c.text) {
			t.Errorf("%v: %q", c.err, text)
		}
	}
}
