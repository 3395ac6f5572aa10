package goverseclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/internal/fault"
)

// hangs answers a call whose text begins with "hang" never, and echoes the others.
func hangs(ctx context.Context, r *gate_pb.CallObjectRequest) (*anypb.Any, error) {
	v := new(wrapperspb.StringValue)
	if r.Request.UnmarshalTo(v) == nil && strings.HasPrefix(v.Value, "hang") {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return r.Request, nil
}

// two are gates, the first of which c is connected to.
func two(t *testing.T, call func(context.Context, *gate_pb.CallObjectRequest) (*anypb.Any, error), opts ...Option) (c *Client, here, there *gate) {
	t.Helper()
	here, there = (&gate{call: call}).serve(t), (&gate{call: call}).serve(t)
	c = connect(t, []string{here.address, there.address}, opts...)
	if c.CurrentAddress() == there.address {
		here, there = there, here
	}
	return c, here, there
}

// crowd makes calls from many goroutines until it is told to end.
type crowd struct {
	ended   chan struct{}
	callers sync.WaitGroup

	mu   sync.Mutex
	good []string
	bad  map[string]error
	took []time.Duration
}

func gather(ctx context.Context, c *Client, n int, opts ...CallOption) *crowd {
	w := &crowd{ended: make(chan struct{}), bad: map[string]error{}}
	for i := range n {
		w.callers.Go(func() {
			for j := 0; ; j++ {
				select {
				case <-w.ended:
					return
				default:
				}
				text := fmt.Sprintf("caller %d call %d", i, j)
				began := time.Now()
				err := say(ctx, c, text, opts...)
				w.mu.Lock()
				w.took = append(w.took, time.Since(began))
				if err == nil {
					w.good = append(w.good, text)
				} else {
					w.bad[text] = err
				}
				w.mu.Unlock()
			}
		})
	}
	return w
}

// more waits until n more calls have succeeded.
func (w *crowd) more(t *testing.T, n int) {
	t.Helper()
	count := func() int {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.good)
	}
	n += count()
	until(t, "more calls that succeed", func() bool { return count() >= n })
}

func (w *crowd) end() {
	close(w.ended)
	w.callers.Wait()
}

// A gate dies under 50 callers: what it was working on ends Unknown, everything else
// succeeds, and nothing runs twice.
func TestAGateDies(t *testing.T) { bothWays(t, testAGateDies) }

func testAGateDies(t *testing.T) {
	c, here, there := two(t, hangs)
	inFlight := make(chan error, 25)
	for i := range cap(inFlight) {
		go func() { inFlight <- say(soon(t), c, fmt.Sprintf("hang %d", i)) }()
	}
	until(t, "all to be in flight", func() bool { return here.calls.Load() == int64(cap(inFlight)) })
	others := gather(soon(t), c, 25)
	others.more(t, 500)
	here.kill()
	others.more(t, 500)
	others.end()
	for range cap(inFlight) {
		want(t, receive(t, "the end of a call", inFlight), ErrIndeterminate, Unknown, here.address)
	}
	for text, err := range others.bad {
		if OutcomeOf(err) != Unknown || !errors.Is(err, ErrIndeterminate) {
			t.Errorf("%s: %v (%v)", text, err, OutcomeOf(err))
		}
		if here.ran(text)+there.ran(text) > 1 {
			t.Errorf("%s was repeated", text)
		}
	}
	if len(others.bad) > 25 {
		t.Errorf("%d calls failed of at most 25 in flight", len(others.bad))
	}
	for _, text := range others.good {
		if n := here.ran(text) + there.ran(text); n != 1 {
			t.Errorf("%s ran %d times", text, n)
		}
	}
	if c.CurrentAddress() != there.address {
		t.Errorf("it is connected to %q", c.CurrentAddress())
	}
	here.noStrays(t)
	there.noStrays(t)
}

// WithAtLeastOnce the same death fails no call.
func TestAtLeastOnce(t *testing.T) { bothWays(t, testAtLeastOnce) }

func testAtLeastOnce(t *testing.T) {
	var dead atomic.Bool
	var hung atomic.Int64
	c, here, there := two(t, func(ctx context.Context, r *gate_pb.CallObjectRequest) (*anypb.Any, error) {
		if dead.Load() {
			return r.Request, nil
		}
		hung.Add(1)
		return hangs(ctx, r)
	})
	done := make(chan error, 50)
	for i := range cap(done) {
		go func() { done <- say(soon(t), c, fmt.Sprintf("hang %d", i), WithAtLeastOnce()) }()
	}
	until(t, "all to be in flight", func() bool { return hung.Load() == int64(cap(done)) })
	dead.Store(true)
	here.kill()
	for range cap(done) {
		if err := receive(t, "the end of a call", done); err != nil {
			t.Error(err)
		}
	}
	if there.calls.Load() != int64(cap(done)) {
		t.Errorf("%d calls were repeated", there.calls.Load())
	}
}

// A call that was sent once and then found no gate again may have run.
func TestAtLeastOnceStaysUnknown(t *testing.T) { bothWays(t, testAtLeastOnceStaysUnknown) }

func testAtLeastOnceStaysUnknown(t *testing.T) {
	g := (&gate{call: hangs}).serve(t)
	c := connect(t, []string{g.address})
	done := make(chan error, 1)
	ctx := within(t, 300*time.Millisecond)
	go func() { done <- say(ctx, c, "hang", WithAtLeastOnce()) }()
	until(t, "the call to be in flight", func() bool { return g.calls.Load() == 1 })
	g.kill()
	want(t, receive(t, "its end", done), ErrDeadline, Unknown, "not connected")
}

// Gates that stop in good order, one after the other, under 50 callers: no call
// fails, also none that is under way.
func TestGatesStopInGoodOrder(t *testing.T) { bothWays(t, testGatesStopInGoodOrder) }

func testGatesStopInGoodOrder(t *testing.T) {
	c, here, there := two(t, func(_ context.Context, r *gate_pb.CallObjectRequest) (*anypb.Any, error) {
		time.Sleep(time.Duration(len(r.Request.Value)%3) * time.Millisecond) // some take longer than others
		return r.Request, nil
	})
	others := gather(soon(t), c, 50)
	for range 5 {
		others.more(t, 300)
		here.stop()
		here.noStrays(t)
		others.more(t, 100)
		here.serve(t)
		here, there = there, here
	}
	others.end()
	for text, err := range others.bad {
		t.Errorf("%s: %v", text, err)
	}
	there.noStrays(t)
}

// A long call outlives the session it was made in.
func TestACallOutlivesItsSession(t *testing.T) { bothWays(t, testACallOutlivesItsSession) }

func testACallOutlivesItsSession(t *testing.T) {
	release := make(chan struct{})
	c, here, there := two(t, func(_ context.Context, r *gate_pb.CallObjectRequest) (*anypb.Any, error) {
		<-release
		return r.Request, nil
	})
	done, stopped := make(chan error, 1), make(chan struct{})
	go func() { done <- say(soon(t), c, "long") }()
	until(t, "the call to be in flight", func() bool { return here.calls.Load() == 1 })
	go func() { defer close(stopped); here.stop() }()
	until(t, "the other gate", func() bool { return c.CurrentAddress() == there.address })
	close(release)
	if err := receive(t, "its end", done); err != nil {
		t.Error(err)
	}
	<-stopped
}

// While no gate is there, calls wait, and the first that comes back serves them.
func TestAllGatesDownThenOneBack(t *testing.T) { bothWays(t, testAllGatesDownThenOneBack) }

func testAllGatesDownThenOneBack(t *testing.T) {
	var d told
	c, here, there := two(t, nil, d.options()...)
	here.kill()
	there.kill()
	until(t, "the loss to be noticed", func() bool { return !c.IsConnected() })
	done := make(chan error, 50)
	for range cap(done) {
		go func() { done <- say(soon(t), c, "x") }()
	}
	there.serve(t)
	for range cap(done) {
		if err := receive(t, "the end of a call", done); err != nil {
			t.Error(err)
		}
	}
	until(t, "OnConnect", func() bool { return strings.Contains(d.String(), "connected "+there.address) })
	there.noStrays(t)
}

func TestASlowGate(t *testing.T) { bothWays(t, testASlowGate) }

func testASlowGate(t *testing.T) {
	g := (&gate{call: hangs}).serve(t)
	c := connect(t, []string{g.address}, WithCallTimeout(50*time.Millisecond))
	want(t, say(within(t, 50*time.Millisecond), c, "hang 1"), ErrDeadline, Unknown, g.address)
	want(t, say(t.Context(), c, "hang 2"), ErrDeadline, Unknown, "") // the call timeout
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- say(ctx, c, "hang 3") }()
	cancel()
	if err := receive(t, "the end", done); !errors.Is(err, ErrCanceled) || OutcomeOf(err) == Executed {
		t.Error(err, OutcomeOf(err))
	}
	if err := say(soon(t), c, "x"); err != nil || g.opened.Load() != 1 {
		t.Error(err, g.opened.Load())
	}
}

// listen is an address where something else than a gate answers.
func listen(t *testing.T, serve func(net.Conn)) (address string, conns *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conns = new(atomic.Int64)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conns.Add(1)
			all.Go(func() { defer conn.Close(); serve(conn) })
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	return l.Addr().String(), conns
}

// Whatever answers at an address that is no gate's, Connect says what, and finds the
// gate beside it.
func TestNoGateThere(t *testing.T) { bothWays(t, testNoGateThere) }

func testNoGateThere(t *testing.T) {
	silent, _ := listen(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	rude, _ := listen(t, func(net.Conn) {})
	web := &http.Server{Handler: http.NotFoundHandler()}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = web.Serve(l) }()
	t.Cleanup(func() { _ = web.Close() })
	none := grpc.NewServer()
	nl, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = none.Serve(nl) }()
	t.Cleanup(none.Stop)
	with := func(welcome func(string) (*anypb.Any, error)) string {
		return (&gate{welcome: welcome}).serve(t).address
	}
	mute := make(chan struct{})
	t.Cleanup(func() { close(mute) })
	for name, c := range map[string]struct{ address, text string }{
		"nobody":         {"127.0.0.1:1", "refused"},
		"no such host":   {"no-such-host.invalid:49000", "no-such-host.invalid"},
		"silent":         {silent, "no answer within 300ms"},
		"hangs up":       {rude, ""},
		"HTTP":           {l.Addr().String(), "HTTP/1.1"},
		"another server": {nl.Addr().String(), "no Goverse gate: unknown service gate.GateService"},
		"mute":           {with(func(string) (*anypb.Any, error) { <-mute; return nil, io.EOF }), "no answer within 300ms"},
		"wrong welcome":  {with(func(string) (*anypb.Any, error) { return anypb.New(wrapperspb.String("x")) }), "no Goverse gate"},
		"no id":          {with(func(string) (*anypb.Any, error) { return anypb.New(&gate_pb.RegisterResponse{}) }), "without a client id"},
		"not welcome":    {with(func(string) (*anypb.Any, error) { return nil, fault.New(fault.Unauthenticated, "show your papers") }), "show your papers"},
	} {
		t.Run(name, func(t *testing.T) {
			alone := client(t, []string{c.address}, WithConnectionTimeout(300*time.Millisecond))
			err := alone.Connect(soon(t))
			if !errors.Is(err, ErrConnectionFailed) || !strings.Contains(err.Error(), c.text) || !strings.Contains(err.Error(), c.address) {
				t.Errorf("got %v, want %q", err, c.text)
			}
			want(t, say(soon(t), alone, "x"), ErrNotConnected, NotExecuted, "call Connect first")
			g := (&gate{}).serve(t)
			both := connect(t, []string{c.address, g.address}, WithConnectionTimeout(300*time.Millisecond))
			if err := say(soon(t), both, "x"); err != nil {
				t.Error(err)
			}
		})
	}
}

// Connect gives up with its context, and the client can try again.
func TestConnectInTime(t *testing.T) {
	silent, _ := listen(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	c := client(t, []string{silent})
	for range 2 {
		want(t, c.Connect(within(t, 20*time.Millisecond)), ErrConnectionFailed, NotExecuted, "deadline")
	}
	done := make(chan error, 2)
	for range 2 {
		go func() { done <- c.Connect(t.Context()) }()
	}
	_ = c.Close()
	for range 2 {
		want(t, receive(t, "Connect", done), ErrClientClosed, NotExecuted, "")
	}
}

// Close ends at once whatever a call is waiting for, and says whether it was sent.
func TestCloseWithCallsInFlight(t *testing.T) { bothWays(t, testCloseWithCallsInFlight) }

func testCloseWithCallsInFlight(t *testing.T) {
	g := (&gate{call: func(ctx context.Context, r *gate_pb.CallObjectRequest) (*anypb.Any, error) {
		if r.Method == "Later" {
			e := fault.New(fault.Overloaded, "not now")
			e.RetryAfter = time.Hour
			return nil, e
		}
		return hangs(ctx, r)
	}}).serve(t)
	c := connect(t, []string{g.address})
	sent, later := make(chan error, 50), make(chan error, 5)
	for range cap(sent) {
		go func() { sent <- say(soon(t), c, "hang") }()
	}
	for range cap(later) {
		go func() {
			_, err := c.CallObject(soon(t), "Echo", "a", "Later", nil)
			later <- err
		}()
	}
	until(t, "all to be in flight", func() bool { return g.calls.Load() == int64(cap(sent)+cap(later)) })
	began := time.Now()
	_ = c.Close()
	for range cap(sent) {
		want(t, receive(t, "the end of a call", sent), ErrClientClosed, Unknown, "may have run")
	}
	for range cap(later) {
		if err := receive(t, "the end of a call", later); !errors.Is(err, ErrClientClosed) {
			t.Error(err)
		}
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("it took %v", d)
	}
}

func TestCloseWhileCallsWaitForAGate(t *testing.T) { bothWays(t, testCloseWhileCallsWaitForAGate) }

func testCloseWhileCallsWaitForAGate(t *testing.T) {
	g := (&gate{}).serve(t)
	c := connect(t, []string{g.address})
	g.kill()
	until(t, "the loss to be noticed", func() bool { return !c.IsConnected() })
	done := make(chan error, 20)
	for range cap(done) {
		go func() { done <- say(soon(t), c, "x") }()
	}
	_ = c.Close()
	for range cap(done) {
		want(t, receive(t, "the end of a call", done), ErrClientClosed, NotExecuted, "not sent")
	}
}

// A thousand calls at a dead cluster cost it a handful of connections, and each ends
// in time, surely not executed.
func TestADeadCluster(t *testing.T) { bothWays(t, testADeadCluster) }

func testADeadCluster(t *testing.T) {
	dead, conns := listen(t, func(net.Conn) {})
	g := (&gate{}).serve(t)
	c := client(t, []string{g.address, dead})
	until(t, "the gate's turn", func() bool { return c.Connect(soon(t)) == nil })
	g.kill()
	until(t, "the loss to be noticed", func() bool { return !c.IsConnected() })
	before := conns.Load()
	ctx := within(t, 500*time.Millisecond)
	done := make(chan error, 1000)
	for range cap(done) {
		go func() { done <- say(ctx, c, "x") }()
	}
	for range cap(done) {
		err := receive(t, "the end of a call", done)
		if OutcomeOf(err) != NotExecuted || !errors.Is(err, ErrDeadline) || !errors.Is(err, ErrNotConnected) {
			t.Errorf("%v (%v)", err, OutcomeOf(err))
		}
	}
	if n := conns.Load() - before; n > 12 {
		t.Errorf("%d connections in half a second", n)
	}
}

// A gate that refuses a thousand calls is asked again within the budget.
func TestTheBudgetHolds(t *testing.T) { bothWays(t, testTheBudgetHolds) }

func testTheBudgetHolds(t *testing.T) {
	g := (&gate{call: func(context.Context, *gate_pb.CallObjectRequest) (*anypb.Any, error) {
		return nil, fault.New(fault.NotReady, "not yet")
	}}).serve(t)
	c := connect(t, []string{g.address})
	began := time.Now()
	done := make(chan error, 1000)
	for range cap(done) {
		go func() { done <- say(soon(t), c, "x") }()
	}
	for range cap(done) {
		want(t, receive(t, "the end of a call", done), ErrNotReady, NotExecuted, "not yet")
	}
	extra := g.calls.Load() - int64(cap(done))
	if most := int64(budgetMax + budgetFloor + 1 + time.Since(began).Seconds()); extra < budgetFloor || extra > most {
		t.Errorf("%d repetitions, want %d to %d", extra, budgetFloor, most)
	}
	if g.opened.Load() != 1 {
		t.Error("the only gate was left")
	}
}

// A lone caller is served as soon as the gate is ready.
func TestALoneCallerMayRepeat(t *testing.T) { bothWays(t, testALoneCallerMayRepeat) }

func testALoneCallerMayRepeat(t *testing.T) {
	var g *gate
	g = (&gate{call: func(_ context.Context, r *gate_pb.CallObjectRequest) (*anypb.Any, error) {
		switch n := g.calls.Load(); {
		case n < 5:
			return nil, fault.New(fault.Draining, "moving")
		case n < 9:
			return nil, fault.New(fault.Overloaded, "busy")
		}
		return r.Request, nil
	}}).serve(t)
	if err := say(soon(t), connect(t, []string{g.address}), "x"); err != nil || g.ran("x") != 9 {
		t.Error(err, g.ran("x"))
	}
}

// A gate that refuses everything is left for another.
func TestAGateThatRefuses(t *testing.T) { bothWays(t, testAGateThatRefuses) }

func testAGateThatRefuses(t *testing.T) {
	bad := (&gate{call: func(context.Context, *gate_pb.CallObjectRequest) (*anypb.Any, error) {
		return nil, fault.New(fault.NotReady, "cut off")
	}}).serve(t)
	good := (&gate{}).serve(t)
	for range 10 { // it is random where a client begins
		c := connect(t, []string{bad.address, good.address})
		others := gather(soon(t), c, 20)
		others.more(t, 40)
		others.end()
		for text, err := range others.bad {
			t.Errorf("%s: %v", text, err)
		}
		_ = c.Close()
	}
	if bad.opened.Load() > 10 || bad.calls.Load() == 0 {
		t.Errorf("%d sessions, %d calls", bad.opened.Load(), bad.calls.Load())
	}
}

// A gate that takes clients in and drops them at once is not stormed.
func TestAGateThatDropsItsClients(t *testing.T) { bothWays(t, testAGateThatDropsItsClients) }

func testAGateThatDropsItsClients(t *testing.T) {
	g := (&gate{}).serve(t)
	g.ending()                           // each session ends after its welcome
	c := connect(t, []string{g.address}) // it may take several, where the client is slower than the gate's end
	before := g.opened.Load()
	ctx := within(t, 500*time.Millisecond)
	<-ctx.Done()
	if n := g.opened.Load(); n < 2 || n-before > 12 {
		t.Errorf("%d sessions, and %d more in half a second", before, n-before)
	}
	_ = c.Close()
}

// proxy is a road to a gate that a test can cut.
type proxy struct {
	mu    sync.Mutex
	conns []net.Conn
}

func (p *proxy) serve(t *testing.T, to string) (address string) {
	t.Helper()
	address, _ = listen(t, func(near net.Conn) {
		far, err := net.Dial("tcp", to)
		if err != nil {
			return
		}
		defer far.Close()
		p.mu.Lock()
		p.conns = append(p.conns, near, far)
		p.mu.Unlock()
		var back sync.WaitGroup
		back.Go(func() { _, _ = io.Copy(near, far); near.Close() })
		_, _ = io.Copy(far, near)
		far.Close()
		back.Wait()
	})
	t.Cleanup(p.cut)
	return address
}

func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

// Under a road that breaks again and again no call comes over a connection on which
// its client id means nothing, and none is repeated that may have run.
func TestTheRoadBreaks(t *testing.T) { bothWays(t, testTheRoadBreaks) }

func testTheRoadBreaks(t *testing.T) {
	g := (&gate{}).serve(t)
	var road proxy
	c := connect(t, []string{road.serve(t, g.address)})
	others := gather(soon(t), c, 20)
	for range 20 {
		others.more(t, 20)
		road.cut()
	}
	others.more(t, 20)
	others.end()
	for text, err := range others.bad {
		if OutcomeOf(err) != Unknown || g.ran(text) > 1 {
			t.Errorf("%s ran %d times: %v", text, g.ran(text), err)
		}
	}
	g.noStrays(t)
}

// Reconnect does not wait for the next attempt's time.
func TestReconnectHurries(t *testing.T) { bothWays(t, testReconnectHurries) }

func testReconnectHurries(t *testing.T) {
	g := (&gate{}).serve(t)
	c := connect(t, []string{g.address}, WithReconnectInterval(time.Hour))
	g.kill()
	until(t, "the loss to be noticed", func() bool { return !c.IsConnected() })
	g.serve(t)
	if err := c.Reconnect(soon(t)); err != nil {
		t.Fatal(err)
	}
	if err := say(soon(t), c, "x"); err != nil {
		t.Error(err)
	}
}

// Before it is noticed that a connection was lost, gRPC makes another. No call goes
// out over that one.
func TestALinkIsOneConnection(t *testing.T) {
	g := (&gate{}).serve(t)
	var road proxy
	cfg, err := newConfig([]Option{WithUnaryCalls()})
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan struct{})
	l, err := dial(soon(t), t.Context(), road.serve(t, g.address), &cfg, &gate_pb.Hello{}, func() { close(closed) })
	if err != nil {
		t.Fatal(err)
	}
	road.cut()
	for last := false; !last; {
		last = l.conns.Load() > 1
		_, err := l.calls.CallObject(soon(t), &gate_pb.CallObjectRequest{ClientId: l.id})
		if err == nil || last && !strings.Contains(err.Error(), "lost before the call was sent") {
			t.Fatalf("the call ended with %v", err)
		}
	}
	g.noStrays(t)
	l.leave(io.EOF)
	l.exit()
	<-closed
}
