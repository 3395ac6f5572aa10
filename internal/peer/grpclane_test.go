package peer

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
	goverse_pb "github.com/xiaonanln/goverse/proto"
)

// notices collects what a listener hears.
func notices() (event.Listener, <-chan event.Notice) {
	heard := make(chan event.Notice, 16)
	return event.Listener{Notice: func(n event.Notice) { heard <- n }}, heard
}

func tcp(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// strange is a peer whose lanes are served by serve.
func strange(t *testing.T, serve func(p grpcPipe) error) (address string) {
	l := tcp(t)
	serveGRPC(t, l, func(s *grpc.Server) {
		s.RegisterService(laneDesc(func(stream grpc.ServerStream) error { return serve(grpcPipe{stream, func() {}}) }), nil)
	})
	return l.Addr().String()
}

// rawLane is the calling end of a stream that no hello was said on.
func rawLane(t *testing.T, address string) grpcPipe {
	t.Helper()
	cc, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); _ = cc.Close() })
	stream, err := cc.NewStream(ctx, &laneDesc(nil).Streams[0], laneName, grpc.ForceCodecV2(newBatches()))
	if err != nil {
		t.Fatal(err)
	}
	return grpcPipe{stream, cancel}
}

// says sends a batch as it is.
func says(t *testing.T, p pipe, b []byte) {
	t.Helper()
	if err := p.send(&b, nil); err != nil {
		t.Fatal(err)
	}
}

func batchOf(frames ...frame) (b []byte) {
	for _, f := range frames {
		b, _ = appendFrame(b, f.kind, f.id, f.body)
	}
	return b
}

// end reads until the other side ends the stream, and returns with what.
func (p grpcPipe) ending(t *testing.T) *status.Status {
	t.Helper()
	for {
		b, err := p.receive()
		if err != nil {
			return status.Convert(err)
		}
		b.Free()
	}
}

// A peer without a common version, or of another kind, gets and gives a clear error.
func TestAnAnswererThatSpeaksOtherwise(t *testing.T) {
	for name, c := range map[string]struct {
		says []byte
		want string
	}{
		"newer":        {hello{lowest: 2, highest: 3}.append(nil), "versions 2 to 3"},
		"no hello":     {batchOf(frame{kind: kindReply, id: 1}), "not a hello"},
		"garbage":      {[]byte("GET / HTTP/1.1"), "a frame"},
		"more with it": {append(speaks.append(nil), 2, 0, 0), "beside a hello"},
	} {
		t.Run(name, func(t *testing.T) {
			address := strange(t, func(p grpcPipe) error {
				says(t, p, c.says)
				<-p.stream.Context().Done() // the caller hangs up
				return nil
			})
			on, heard := notices()
			conn := dial(t, NewGRPCDialer(on), address)
			_, err := conn.ServeCall(t.Context(), callOf(text("x")))
			want(t, err, fault.NotReady, fault.NotExecuted)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the caller is told %v", err)
			}
			if n := <-heard; n.Severity != event.Warn || !strings.Contains(n.String(), c.want) || !strings.Contains(n.String(), address) {
				t.Errorf("the event is %v", n)
			}
		})
	}
}

// The serving end says what is wrong with a caller, ends its lane, and serves the
// others.
func TestACallerThatSpeaksOtherwise(t *testing.T) {
	on, heard := notices()
	l := tcp(t)
	serveGRPC(t, l, func(s *grpc.Server) { RegisterPeerService(s, fake{call: echo}, on) })
	good := dial(t, NewGRPCDialer(event.Listener{}), l.Addr().String())
	for name, c := range map[string]struct {
		greets bool
		says   []byte
		want   string
	}{
		"newer":     {false, hello{lowest: 2, highest: 3}.append(nil), "versions 2 to 3"},
		"garbage":   {false, []byte("GET / HTTP/1.1"), "a frame"},
		"later":     {true, []byte{0xff}, "length"},
		"too much":  {true, make([]byte, maxBatch+1), "at most"},
		"very much": {true, make([]byte, maxMessage+1), "larger than max"},
		"duplicate": {true, batchOf(frame{kind: kindPart, id: 1, body: []byte{1}}), "a part"},
	} {
		t.Run(name, func(t *testing.T) {
			p := rawLane(t, l.Addr().String())
			if c.greets {
				says(t, p, speaks.append(nil))
			}
			says(t, p, c.says)
			st := p.ending(t)
			if c.want != "larger than max" && (st.Code() != codes.FailedPrecondition || !strings.Contains(st.Message(), c.want)) {
				t.Errorf("it was told %v", st)
			}
			if n := <-heard; n.Severity != event.Warn || !strings.Contains(n.String(), c.want) || !strings.Contains(n.String(), "127.0.0.1:") {
				t.Errorf("the event is %v", n)
			}
			if _, err := good.ServeCall(t.Context(), callOf(text("x"))); err != nil {
				t.Error(err)
			}
		})
	}
	if p := rawLane(t, l.Addr().String()); p.closeSend() != nil || p.ending(t).Code() == codes.FailedPrecondition {
		t.Error("to leave without a word is no breach")
	}
	if len(heard) > 0 {
		t.Errorf("too many events: %v", <-heard)
	}
}

// After a breach the next call opens a new lane.
func TestALaneIsOpenedAnew(t *testing.T) {
	var mu sync.Mutex
	lanes := 0
	address := strange(t, func(p grpcPipe) error {
		mu.Lock()
		lanes++
		first := lanes == 1
		mu.Unlock()
		d := newDoors(fake{call: echo}, nil, event.Listener{})
		if !first {
			return d.serve(p.stream.(grpc.ServerStream))
		}
		if _, err := d.welcome(p); err != nil {
			return err
		}
		if _, err := p.receive(); err != nil {
			return err
		}
		says(t, p, []byte{1})
		return nil
	})
	on, heard := notices()
	conn := dial(t, NewGRPCDialer(on), address)
	_, err := conn.ServeCall(t.Context(), callOf(text("x")))
	want(t, err, fault.Indeterminate, fault.OutcomeUnknown)
	if n := <-heard; !errors.As(n.Err, new(breach)) {
		t.Errorf("the event is %v", n)
	}
	for range 10 {
		if _, err := conn.ServeCall(t.Context(), callOf(text("x"))); err != nil {
			t.Fatal(err)
		}
	}
	if mu.Lock(); lanes != 2 {
		t.Errorf("%d lanes were opened", lanes)
	}
	mu.Unlock()
}

// A peer that accepts the stream and says nothing is out of reach.
func TestAPeerThatDoesNotGreet(t *testing.T) {
	address := strange(t, func(p grpcPipe) error { <-p.stream.Context().Done(); return nil })
	conn := dial(t, NewGRPCDialer(event.Listener{}), address)
	conn.(*grpcConn).lanes.within = 50 * time.Millisecond
	_, err := conn.ServeCall(t.Context(), callOf(text("x")))
	want(t, err, fault.NotReady, fault.NotExecuted)
	if !errors.Is(err, ErrUnreachable) {
		t.Errorf("the router has to look for a detour: %v", err)
	}
}

// A peer that was upgraded gets a lane.
func TestAPeerIsUpgraded(t *testing.T) {
	l := tcp(t)
	stop := serveGRPC(t, l, func(s *grpc.Server) {
		goverse_pb.RegisterPeerServiceServer(s, &grpcService{svc: fake{call: echo}})
	})
	conn := dial(t, NewGRPCDialer(event.Listener{}), l.Addr().String()).(*grpcConn)
	if _, err := conn.ServeCall(t.Context(), callOf(text("x"))); err != nil || conn.lanes.current.Load() != nil {
		t.Fatal(err)
	}
	stop()
	l, err := net.Listen("tcp", l.Addr().String())
	if err != nil {
		t.Skipf("the port was taken by someone else: %v", err)
	}
	serveOn(t, l, fake{call: echo})
	conn.lanes.mu.Lock()
	if left := time.Until(conn.lanes.refusing); left <= 0 || left > askAgain {
		t.Errorf("it is asked again in %v", left)
	}
	conn.lanes.refusing = time.Time{} // the minute is over
	conn.lanes.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for conn.lanes.current.Load() == nil {
		if _, err := conn.ServeCall(ctx, callOf(text("x"))); err != nil && fault.KindOf(err) != fault.NotReady {
			t.Fatal(err)
		}
	}
}

// A process that leaves answers what it has, and takes nothing new; neither end breaks
// a call.
func TestLeave(t *testing.T) {
	l := tcp(t)
	s := grpc.NewServer(ServerOptions()...)
	release := make(chan struct{})
	entered := make(chan struct{})
	first := sync.OnceFunc(func() { close(entered) })
	doors := RegisterPeerService(s, fake{call: func(_ context.Context, req *Request) (object.Payload, error) {
		first()
		<-release
		return req.Payload, nil
	}}, event.Listener{})
	var done sync.WaitGroup
	done.Go(func() { _ = s.Serve(l) })
	conn := dial(t, NewGRPCDialer(event.Listener{}), l.Addr().String())
	ended := make(chan error, 1)
	go func() {
		_, err := conn.ServeCall(t.Context(), callOf(text("x")))
		ended <- err
	}()
	<-entered
	doors.Leave()
	late := dial(t, NewGRPCDialer(event.Listener{}), l.Addr().String())
	_, err := late.ServeCall(t.Context(), callOf(text("x")))
	want(t, err, fault.NotReady, fault.NotExecuted)
	done.Go(s.GracefulStop)
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		_, err := conn.ServeCall(ctx, callOf(text("x")))
		cancel()
		if errors.Is(err, ErrUnreachable) {
			want(t, err, fault.NotReady, fault.NotExecuted)
			break
		}
		if fault.KindOf(err) != fault.Deadline { // it was read before the goodbye, and waits like the first
			t.Fatal(err)
		}
	}
	close(release)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	done.Wait() // the graceful stop
}

// What only newer versions say is not said to an older one, nor taken from it.
func TestPeersWithoutTheFeature(t *testing.T) {
	old := hello{lowest: 1, highest: 1}
	address := strange(t, func(p grpcPipe) error {
		if _, err := heed(p); err != nil {
			return err
		}
		says(t, p, old.append(nil))
		b, err := p.receive() // the call
		if err != nil {
			return err
		}
		b.Free()
		says(t, p, batchOf(frame{kindReply, 1, appendReply(nil, object.Payload{Unsaved: true}, nil)}))
		<-p.stream.Context().Done()
		return nil
	})
	on, heard := notices()
	_, err := dial(t, NewGRPCDialer(on), address).ServeCall(t.Context(), callOf(text("x")))
	want(t, err, fault.Indeterminate, fault.OutcomeUnknown)
	if err != nil {
		if n := <-heard; !strings.Contains(n.String(), errReply.Error()) {
			t.Errorf("the event is %v", n)
		}
	}

	l := tcp(t)
	serveOn(t, l, fake{call: func(context.Context, *Request) (object.Payload, error) { return object.Payload{Unsaved: true}, nil }})
	for _, c := range []struct {
		speaks hello
		first  byte
	}{{old, wireNone}, {speaks, wireNone | replyUnsaved}} {
		p := rawLane(t, l.Addr().String())
		says(t, p, c.speaks.append(nil))
		if _, err := heed(p); err != nil {
			t.Fatal(err)
		}
		says(t, p, batchOf(frame{kindCall, 1, bodyOf(t, text("x"))}))
		b, err := p.receive()
		if err != nil {
			t.Fatal(err)
		}
		f, _, err := cutFrame(b.ReadOnlyData())
		if err != nil || f.kind != kindReply || len(f.body) != 1 || f.body[0] != c.first {
			t.Errorf("a peer with the features %b gets %v, %v", c.speaks.features, f, err)
		}
		b.Free()
	}
}
