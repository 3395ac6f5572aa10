package goverseclient

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/internal/fault"
	goverse_pb "github.com/xiaonanln/goverse/proto"
)

func TestNewClientSaysAllThatIsWrong(t *testing.T) {
	if _, err := NewClient(nil); !errors.Is(err, ErrNoAddresses) {
		t.Errorf("got %v", err)
	}
	_, err := NewClient([]string{"localhost", ":49000", "a:b", "a:0", "a:65536", "http://a:1", "a b:1", "[::1]:1", "good:1", "good:1", ""},
		WithCallTimeout(-1), WithConnectionTimeout(0), WithReconnectInterval(-time.Second), nil, WithLogger(nil))
	for _, part := range []string{
		`address 1, "localhost": missing port`, `address 2, ":49000": no host`, `address 3, "a:b"`, `address 4, "a:0"`, `address 5, "a:65536"`,
		`address 6, "http://a:1"`, `address 7, "a b:1"`, `address 11, ""`, "WithCallTimeout", "WithConnectionTimeout", "WithReconnectInterval",
	} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q is missing in %v", part, err)
		}
	}
	for _, good := range []string{"address 8", "address 9", "address 10"} {
		if strings.Contains(err.Error(), good) {
			t.Errorf("%s is said to be wrong: %v", good, err)
		}
	}
	c, err := NewClient([]string{"a:1", "[::1]:2", "a:1"})
	if err != nil || len(c.addresses) != 2 {
		t.Error(c, err)
	}
	_ = c.Close()
}

func TestCalls(t *testing.T) { bothWays(t, testCalls) }

func testCalls(t *testing.T) {
	g := (&gate{}).serve(t)
	c := connect(t, []string{g.address})
	if err := say(t.Context(), c, "hello"); err != nil {
		t.Error(err)
	}
	if a, err := c.CallObjectAny(t.Context(), "Echo", "a", "Say", nil); a != nil || err != nil {
		t.Error(a, err)
	}
	if m, err := c.CallObject(t.Context(), "Echo", "a", "Say", nil); m != nil || err != nil {
		t.Error(m, err)
	}
	unknown := &anypb.Any{TypeUrl: "type.googleapis.com/not.Known", Value: []byte{8, 1}}
	if a, err := c.CallObjectAny(t.Context(), "Echo", "a", "Say", unknown); !proto.Equal(a, unknown) || err != nil {
		t.Error(a, err)
	}
	for in, out := range map[string]string{"": "chosen", "mine": "mine"} {
		if id, err := c.CreateObject(t.Context(), "Echo", in); id != out || err != nil {
			t.Error(id, err)
		}
	}
	if err := c.DeleteObject(t.Context(), "Echo", "a"); err != nil {
		t.Error(err)
	}
	err := c.DeleteObject(t.Context(), "Echo", "missing")
	want(t, err, ErrNotFound, NotExecuted, "DeleteObject Echo/missing: not found")
	if !c.IsConnected() || c.CurrentAddress() != g.address || c.ClientID() != g.address+"/1" {
		t.Error(c.IsConnected(), c.CurrentAddress(), c.ClientID())
	}
	if err := errors.Join(c.Connect(t.Context()), c.WaitForConnection(t.Context())); err != nil {
		t.Error(err)
	}
	g.noStrays(t)
}

func TestBeforeAndAfter(t *testing.T) { bothWays(t, testBeforeAndAfter) }

func testBeforeAndAfter(t *testing.T) {
	g := (&gate{}).serve(t)
	c := client(t, []string{g.address})
	err := say(t.Context(), c, "x")
	want(t, err, ErrNotConnected, NotExecuted, "CallObject Echo/a.Say")
	want(t, err, ErrNotReady, NotExecuted, "call Connect first")
	want(t, c.WaitForConnection(within(t, time.Millisecond)), ErrNotConnected, NotExecuted, "")
	if c.IsConnected() || c.ClientID() != "" || c.CurrentAddress() != "" {
		t.Error("connected before Connect")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	want(t, c.Connect(ended), ErrCanceled, NotExecuted, "Connect")
	if err := c.Reconnect(soon(t)); err != nil { // the first time it is Connect
		t.Fatal(err)
	}
	want(t, say(ended, c, "x"), ErrCanceled, NotExecuted, "")
	if err := errors.Join(c.Close(), c.Close()); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"a call": say(t.Context(), c, "x"), "Connect": c.Connect(t.Context()), "Reconnect": c.Reconnect(t.Context()),
		"WaitForConnection": c.WaitForConnection(t.Context()), "Delete": c.DeleteObject(t.Context(), "Echo", "a"),
	} {
		if !errors.Is(err, ErrClientClosed) || OutcomeOf(err) != NotExecuted {
			t.Errorf("%s after Close: %v", name, err)
		}
	}
	if _, open := <-c.MessageChan(); open || c.IsConnected() || c.ClientID() != "" {
		t.Error("something of it still lives")
	}
	if g.calls.Load() != 0 {
		t.Error("a call arrived")
	}
}

func TestCloseWithoutConnect(t *testing.T) {
	c := client(t, []string{"127.0.0.1:1"})
	_ = c.Close()
	if _, open := <-c.MessageChan(); open {
		t.Error("the channel is open")
	}
}

// What a method or the gate answers reaches the caller as it was said.
func TestErrorsComeThrough(t *testing.T) { bothWays(t, testErrorsComeThrough) }

func testErrorsComeThrough(t *testing.T) {
	own, err := status.New(codes.Unavailable, "the method's own").WithDetails(wrapperspb.String("detail"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		answer  error
		kind    error
		outcome Outcome
		text    string
	}{
		"fault":        {fault.New(fault.Cycle, "a -> b -> a"), ErrCycle, NotExecuted, "a -> b -> a"},
		"panic":        {fault.New(fault.Panicked, "oops"), ErrPanicked, Executed, "oops"},
		"lost beyond":  {fault.New(fault.Indeterminate, "a node died"), ErrIndeterminate, Unknown, "a node died"},
		"fenced":       {fault.New(fault.Fenced, "deposed"), ErrFenced, Unknown, "deposed"},
		"deadline":     {fault.New(fault.Deadline, "queued").With(fault.NotExecuted), ErrDeadline, NotExecuted, "queued"},
		"own":          {status.Error(codes.OutOfRange, "too far"), ErrFailed, Executed, "too far"},
		"own but hazy": {own.Err(), ErrFailed, Unknown, "the method's own"},
		"plain":        {errors.New("just so"), ErrFailed, Executed, "just so"},
	} {
		t.Run(name, func(t *testing.T) {
			g := (&gate{call: func(context.Context, *gate_pb.CallObjectRequest) (*anypb.Any, error) { return nil, c.answer }}).serve(t)
			client := connect(t, []string{g.address})
			err := say(soon(t), client, "x")
			want(t, err, c.kind, c.outcome, c.text)
			if wanted, ok := status.FromError(c.answer); ok && !carriesFault(c.answer) {
				if got, _ := status.FromError(err); !proto.Equal(got.Proto(), wanted.Proto()) {
					t.Errorf("the status %v became %v", wanted, got)
				}
			}
			if g.calls.Load() != 1 || !client.IsConnected() {
				t.Errorf("%d calls arrived, connected: %v", g.calls.Load(), client.IsConnected())
			}
		})
	}
}

// What cannot be sent was not.
func TestUnsendable(t *testing.T) { bothWays(t, testUnsendable) }

func testUnsendable(t *testing.T) {
	g := (&gate{}).serve(t)
	c := connect(t, []string{g.address})
	want(t, say(soon(t), c, strings.Repeat("x", 4<<20)), ErrTooLarge, NotExecuted, "larger than max")
	want(t, say(soon(t), c, "\xff"), ErrInvalid, NotExecuted, "UTF-8")
	_, err := c.CallObjectAny(soon(t), "Echo", "\xff", "Say", nil)
	want(t, err, ErrInvalid, NotExecuted, "UTF-8")
	if g.calls.Load() != 0 || g.opened.Load() != 1 {
		t.Errorf("%d calls, %d sessions", g.calls.Load(), g.opened.Load())
	}
}

func TestAReplyOfAnUnknownType(t *testing.T) { bothWays(t, testAReplyOfAnUnknownType) }

func testAReplyOfAnUnknownType(t *testing.T) {
	g := (&gate{call: func(context.Context, *gate_pb.CallObjectRequest) (*anypb.Any, error) {
		return &anypb.Any{TypeUrl: "type.googleapis.com/not.Known"}, nil
	}}).serve(t)
	want(t, say(soon(t), connect(t, []string{g.address}), "x"), ErrInvalid, Executed, "not.Known")
}

func TestReliableCalls(t *testing.T) { bothWays(t, testReliableCalls) }

func testReliableCalls(t *testing.T) {
	const unknown, pending, success, failed, skipped = goverse_pb.ReliableCallStatus_UNKNOWN, goverse_pb.ReliableCallStatus_PENDING,
		goverse_pb.ReliableCallStatus_SUCCESS, goverse_pb.ReliableCallStatus_FAILED, goverse_pb.ReliableCallStatus_SKIPPED
	for _, c := range []struct {
		status  string
		want    goverse_pb.ReliableCallStatus
		kind    error
		outcome Outcome
	}{
		{"SUCCESS", success, nil, Executed}, {"FAILED", failed, ErrFailed, Executed}, {"SKIPPED", skipped, ErrCallSettled, NotExecuted},
		{"PENDING", pending, ErrIndeterminate, Unknown}, {"UNKNOWN", unknown, ErrIndeterminate, Unknown}, {"", unknown, ErrIndeterminate, Unknown},
		{"NEWER", unknown, ErrIndeterminate, Unknown},
	} {
		ctx, cancel := context.WithCancel(soon(t))
		defer cancel()
		var asked atomic.Int32
		g := (&gate{reliable: func(r *gate_pb.ReliableCallObjectRequest) (*gate_pb.ReliableCallObjectResponse, error) {
			if asked.Add(1) == 3 {
				cancel() // one who is in doubt asks again, until nobody wants to know any more
			}
			if r.CallId != "id" || r.Type != "Echo" || r.Id != "a" || r.Method != "Say" {
				return nil, fault.New(fault.Invalid, "%v", r)
			}
			return &gate_pb.ReliableCallObjectResponse{Response: r.Request, Error: "because", Status: c.status}, nil
		}}).serve(t)
		m, s, err := connect(t, []string{g.address}).ReliableCallObject(ctx, "id", "Echo", "a", "Say", wrapperspb.String("x"))
		if s != c.want || (m != nil) != (c.kind == nil) || c.kind != nil && !errors.Is(err, c.kind) || OutcomeOf(err) != c.outcome {
			t.Errorf("%q: %v, %v, %v (%v)", c.status, m, s, err, OutcomeOf(err))
		}
	}
	var asked atomic.Int32 // a gate that is in doubt is asked again
	inDoubt := (&gate{reliable: func(r *gate_pb.ReliableCallObjectRequest) (*gate_pb.ReliableCallObjectResponse, error) {
		return &gate_pb.ReliableCallObjectResponse{Response: r.Request, Status: []string{"UNKNOWN", "PENDING", "SUCCESS"}[asked.Add(1)-1]}, nil
	}}).serve(t)
	if m, s, err := connect(t, []string{inDoubt.address}).ReliableCallObject(soon(t), "id", "Echo", "a", "Say", wrapperspb.String("x")); m == nil || s != success || err != nil {
		t.Error(m, s, err)
	}
	g := (&gate{}).serve(t)
	c := connect(t, []string{g.address})
	_, s, err := c.ReliableCallObject(soon(t), "id", "Echo", "a", "Say", nil)
	want(t, err, ErrUnknownMethod, NotExecuted, "ReliableCallObject Echo/a.Say")
	_, s2, err := c.ReliableCallObject(soon(t), "", "Echo", "a", "Say", nil)
	want(t, err, ErrInvalid, NotExecuted, "call id")
	if s != unknown || s2 != unknown || g.calls.Load() != 1 {
		t.Error(s, s2, g.calls.Load())
	}
}

// told collects what a client's callbacks hear.
type told struct {
	mu    sync.Mutex
	lines []string
}

func (d *told) add(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

func (d *told) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.lines, "\n")
}

func (d *told) options() []Option {
	return []Option{
		WithOnConnect(func(id string) { d.add("connected %s", id) }),
		WithOnDisconnect(func(err error) { d.add("lost %v", err) }),
		WithOnMessage(func(m proto.Message) { d.add("message %v", m.(*wrapperspb.StringValue).Value) }),
	}
}

func TestCallbacksTellTheWholeStory(t *testing.T) { bothWays(t, testCallbacksTellTheWholeStory) }

func testCallbacksTellTheWholeStory(t *testing.T) {
	g := (&gate{}).serve(t)
	var d told
	c := connect(t, []string{g.address}, d.options()...)
	g.push(t, c.ClientID(), wrapperspb.String("one"))
	until(t, "the message", func() bool { return strings.Contains(d.String(), "one") })
	if err := c.Reconnect(soon(t)); err != nil {
		t.Fatal(err)
	}
	g.push(t, c.ClientID(), wrapperspb.String("two"))
	until(t, "the other message", func() bool { return strings.Contains(d.String(), "two") })
	_ = c.Close()
	a := g.address
	if got, want := d.String(), fmt.Sprintf("connected %s/1\nmessage one\nlost gate %s: the program asked to reconnect\nconnected %s/2\nmessage two", a, a, a); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// A callback may use the client, and end it.
func TestCloseInACallback(t *testing.T) { bothWays(t, testCloseInACallback) }

func testCloseInACallback(t *testing.T) {
	g := (&gate{}).serve(t)
	var c *Client
	ready, closed := make(chan struct{}), make(chan error, 1)
	c = connect(t, []string{g.address}, WithOnConnect(func(string) {
		<-ready
		closed <- errors.Join(say(context.Background(), c, "from inside"), c.Close())
	}))
	close(ready)
	if err := receive(t, "Close", closed); err != nil {
		t.Error(err)
	}
	want(t, say(t.Context(), c, "x"), ErrClientClosed, NotExecuted, "")
}

// A callback that never returns holds up neither calls nor the next connection.
func TestACallbackThatHangs(t *testing.T) { bothWays(t, testACallbackThatHangs) }

func testACallbackThatHangs(t *testing.T) {
	g := (&gate{}).serve(t)
	release := make(chan struct{})
	c := connect(t, []string{g.address}, WithOnConnect(func(string) { <-release }))
	defer close(release)
	for range 3 {
		if err := errors.Join(say(soon(t), c, "x"), c.Reconnect(soon(t))); err != nil {
			t.Fatal(err)
		}
	}
	_ = c.Close() // does not wait for it either
}

// The program's options of the connection count, and the log says what happened.
func TestDialOptionsAndLog(t *testing.T) { bothWays(t, testDialOptionsAndLog) }

func testDialOptionsAndLog(t *testing.T) {
	g := (&gate{}).serve(t)
	var dialed atomic.Value
	var d told
	c := connect(t, []string{"gate.example:49000"},
		WithLogger(slog.New(slog.NewTextHandler(&d, nil))),
		WithGRPCDialOptions(grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			dialed.Store(address)
			return new(net.Dialer).DialContext(ctx, "tcp", g.address)
		})))
	if err := errors.Join(say(soon(t), c, "x"), c.Reconnect(soon(t)), say(soon(t), c, "y")); err != nil {
		t.Error(err)
	}
	if dialed.Load() != "gate.example:49000" || c.CurrentAddress() != "gate.example:49000" {
		t.Errorf("dialed %v", dialed.Load())
	}
	id := g.address + "/1"
	for _, part := range []string{"msg=connected gate=gate.example:49000 client=" + id, "msg=\"connection lost\" gate=gate.example:49000 client=" + id} {
		if !strings.Contains(d.String(), part) {
			t.Errorf("%s is missing in\n%v", part, d.String())
		}
	}
}

func (d *told) Write(line []byte) (int, error) {
	d.add("%s", line)
	return len(line), nil
}

// What the client adds to a gRPC call.
func BenchmarkCall(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	g := &gate{address: l.Addr().String()}
	g.serveOn(b, l)
	c, err := NewClient([]string{g.address})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	if err := c.Connect(b.Context()); err != nil {
		b.Fatal(err)
	}
	cc, err := grpc.NewClient(g.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	defer cc.Close()
	raw := gate_pb.NewGateServiceClient(cc)
	for name, call := range map[string]func(context.Context) error{
		"client": func(ctx context.Context) error {
			_, err := c.CallObjectAny(ctx, "Echo", "a", "Say", nil)
			return err
		},
		"gRPC": func(ctx context.Context) error {
			_, err := raw.CallObject(ctx, &gate_pb.CallObjectRequest{Type: "Echo", Id: "a", Method: "Say"})
			return err
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := call(context.Background()); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
