package goverseclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/fault"
)

// How soon a gate that went silent is given up; and what a message may measure: a
// gate's 4 MiB, and the envelope of a reply.
const (
	pingAfter   = 10 * time.Second
	pingTimeout = 5 * time.Second
	maxRequest  = 4 << 20
	maxReply    = maxRequest + 64<<10
	lastWords   = 50 * time.Millisecond // what a gate that says good-bye has for its last pushes
	healthy     = 250 * time.Millisecond
)

// link is one connection to one gate and the session on it. A client id holds only
// there, so a link never connects again: it is left, which sends new calls elsewhere
// while those under way finish, and closed when nobody uses it.
//
//	dialed → (leave) left → (last use ends) closed
//
// Calls and pushes share a stream, or, at a gate of an older version, each call goes by
// itself and pushes have a stream of their own.
//
// All methods may be called concurrently, except that follow has one user.
type link struct {
	address string
	id      string // the client id
	clock   *clock // the gate's, or nil
	cc      *grpc.ClientConn
	calls   gate_pb.GateServiceClient
	stream  *stream                               // nil: calls go by themselves
	pushes  grpc.ServerStreamingClient[anypb.Any] // then
	hangUp  func()                                // ends the session
	peers   *manual.Resolver                      // what gRPC may connect to; nothing once the link is left
	gone    chan struct{}                         // closed when the link is left
	closing func()                                // once
	conns   atomic.Int32                          // how many connections gRPC has made
	good    atomic.Int64                          // when a call last succeeded, in nanoseconds since born
	born    time.Time

	deserted atomic.Bool // the client leaves by its own will, and does not want the session back

	mu   sync.Mutex
	uses int // the receiver's and the calls'
	left bool
	why  error
}

// dial connects to a gate and registers there. The link has one use, the receiver's.
// It is closed when life ends, and closed is called then or earlier, once. When dial
// fails, closed is not called.
func dial(ctx, life context.Context, address string, cfg *config, h *gate_pb.Hello, closed func()) (*link, error) {
	l := &link{address: address, peers: manual.NewBuilderWithScheme("gate"), gone: make(chan struct{}), born: time.Now(), uses: 1}
	l.peers.InitialState(resolver.State{Addresses: []resolver.Address{{Addr: address}}})
	cc, err := grpc.NewClient("gate:///"+address, l.options(cfg)...)
	if err != nil {
		return nil, fmt.Errorf("gate %s: %w", address, err)
	}
	l.cc = cc
	streaming, cut := context.WithCancel(context.Background()) // the session outlives ctx, and is the same without its values
	stop := context.AfterFunc(ctx, cut)
	err = l.begin(streaming, cut, cfg, h)
	if !stop() { // ctx ended, which is why the stream did
		err = context.Cause(ctx)
	}
	shut := func() {
		cut()
		_ = cc.Close() // it fails only for a second time
		if l.stream != nil {
			l.stream.end()
		}
	}
	if err != nil {
		shut()
		return nil, fmt.Errorf("gate %s: %w", address, err)
	}
	end := sync.OnceFunc(func() {
		l.hangUp()
		if l.stream != nil && (l.deserted.Load() || life.Err() != nil) {
			l.stream.part()
			l.stream.parted()
		}
		shut()
		closed()
	})
	forget := context.AfterFunc(life, end)
	l.closing = func() { forget(); end() }
	return l, nil
}

func (l *link) options(cfg *config) []grpc.DialOption {
	later := 2 * cfg.connectionTimeout // gRPC's own patience and repetitions never come to pass: dial gives up before
	retry := grpcbackoff.Config{BaseDelay: later, Multiplier: 1, MaxDelay: later}
	return append([]grpc.DialOption{
		grpc.WithTransportCredentials(cfg.credentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: retry, MinConnectTimeout: later}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingAfter, Timeout: pingTimeout}),
		grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(maxRequest), grpc.MaxCallRecvMsgSize(maxReply)),
		grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(), // whether a call may run twice is not gRPC's to decide
		grpc.WithResolvers(l.peers), grpc.WithStatsHandler(l), grpc.WithPerRPCCredentials(onlyHere{l}),
	}, append(cfg.dialOptions[:len(cfg.dialOptions):len(cfg.dialOptions)], grpc.WithChainUnaryInterceptor(l.route))...)
}

// begin opens a session: on one stream, unless the gate is too old for that or the
// program does not want it. cut ends ctx.
func (l *link) begin(ctx context.Context, cut context.CancelFunc, cfg *config, h *gate_pb.Hello) error {
	l.calls = gate_pb.NewGateServiceClient(l.cc)
	if !cfg.unary {
		s, err := openStream(ctx, cut, l.calls, l.leave, h)
		if err == nil {
			l.stream, l.id, l.clock = s, s.id, s.clock
			l.hangUp = func() { s.finish(l.reason()) }
			return nil
		}
		if !isMissing(err) {
			return welcomed(err)
		}
	}
	l.hangUp = cut
	return l.register(ctx)
}

// welcomed is why a gate did not take the client in.
func welcomed(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("it ended the session without a welcome")
	}
	return plain(err)
}

var errNoID = errors.New("it welcomes without a client id")

// register opens the stream of pushes and waits for the gate's welcome.
func (l *link) register(ctx context.Context) error {
	stream, err := l.calls.Register(ctx, &emptypb.Empty{})
	if err != nil {
		return plain(err)
	}
	first, err := stream.Recv()
	switch {
	case status.Code(err) == codes.Unimplemented:
		return fmt.Errorf("what answers there is no Goverse gate: %s", status.Convert(err).Message())
	case err != nil:
		return welcomed(err)
	}
	welcome := new(gate_pb.RegisterResponse)
	if err := first.UnmarshalTo(welcome); err != nil {
		return fmt.Errorf("what answers there is no Goverse gate: its first message is a %q", first.GetTypeUrl())
	}
	if welcome.ClientId == "" {
		return errNoID
	}
	l.pushes, l.id, l.clock = stream, welcome.ClientId, clockOf(welcome.UnixMillis)
	return nil
}

// plain is err as a person reads it: without gRPC's envelope, if it is from gRPC.
func plain(err error) error {
	e := fault.FromStatus(err)
	if st, ok := status.FromError(err); ok && fault.Of(e).Err == err {
		return errors.New(st.Message())
	}
	return e
}

// watch leaves the link when its connection says good-bye or is lost, until ctx ends.
func (l *link) watch(ctx context.Context) {
	// gRPC lets calls out shortly before it says Ready, hence Connecting.
	for s := l.cc.GetState(); s == connectivity.Connecting || s == connectivity.Ready && l.conns.Load() <= 1; s = l.cc.GetState() {
		if !l.cc.WaitForStateChange(ctx, s) {
			return
		}
	}
	l.leave(errors.New("the gate closes the connection"))
	pause(ctx, lastWords, nil)
	l.hangUp()
}

// follow hands on what is pushed, and what is lost, until the session ends, and says why it
// did.
func (l *link) follow(deliver func(*anypb.Any), reset func(Reset)) error {
	if l.stream != nil {
		return fmt.Errorf("gate %s: %w", l.address, l.stream.follow(deliver, reset))
	}
	for {
		m, err := l.pushes.Recv()
		if err != nil {
			return fmt.Errorf("gate %s: %w", l.address, l.broke(err))
		}
		deliver(m)
	}
}

// broke is why the stream of pushes ended with err.
func (l *link) broke(err error) error {
	switch why := l.reason(); {
	case why != nil && status.Code(err) == codes.Canceled: // it was us
		return why
	case errors.Is(err, io.EOF):
		return errEnded
	}
	return plain(err)
}

var errEnded = errors.New("it ended the session")

// reason is why the link is left; nil: it is not.
func (l *link) reason() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.why
}

// enter begins a use of the link, unless it is left.
func (l *link) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left {
		return false
	}
	l.uses++
	return true
}

// exit ends a use.
func (l *link) exit() {
	l.mu.Lock()
	l.uses--
	last := l.left && l.uses == 0
	l.mu.Unlock()
	if last {
		l.closing()
	}
}

// leave lets no call begin here any more. The first reason counts.
func (l *link) leave(why error) {
	l.mu.Lock()
	first := !l.left
	if first {
		l.left, l.why = true, why
		close(l.gone)
	}
	l.mu.Unlock()
	if first {
		// Without an address gRPC lets the calls on the connection finish, and fails at
		// once those that wait for another.
		l.peers.UpdateState(resolver.State{})
	}
}

// desert leaves a link that the client does not want to come back to.
func (l *link) desert(why error) {
	l.deserted.Store(true)
	l.leave(why)
}

// named is the gates that the gate's goodbye names.
func (l *link) named() []string {
	if l.stream == nil {
		return nil
	}
	l.stream.mu.Lock()
	defer l.stream.mu.Unlock()
	return l.stream.gates
}

func (l *link) isLeft() bool {
	select {
	case <-l.gone:
		return true
	default:
		return false
	}
}

// succeeded notes that the gate serves calls.
func (l *link) succeeded() { l.good.Store(int64(time.Since(l.born))) }

// refuses says whether the gate has not served a call for a while, or never here.
func (l *link) refuses() bool {
	good := time.Duration(l.good.Load())
	return good == 0 || time.Since(l.born)-good > healthy
}

// onlyHere is asked before each attempt of a call goes out. It refuses one that gRPC
// would send over another connection than the session's, where the client's id means
// nothing.
type onlyHere struct{ *link }

var errElsewhere = status.Error(codes.Unavailable, "the connection was lost before the call was sent")

func (o onlyHere) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	if o.conns.Load() > 1 {
		return nil, errElsewhere
	}
	return nil, nil
}

func (onlyHere) RequireTransportSecurity() bool { return false }

// trace says how far a call came; its context carries it. gRPC repeats by itself only
// what no gate has seen, so the last attempt counts.
type trace struct {
	sent     atomic.Bool // the request was handed to the connection
	answered atomic.Bool // the gate has said how it ended
	place    *callctx.Trace
}

type traceKey struct{}

func (*link) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (*link) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn counts connections.
func (l *link) HandleConn(_ context.Context, event stats.ConnStats) {
	if _, ok := event.(*stats.ConnBegin); ok {
		l.conns.Add(1)
	}
}

// HandleRPC keeps the trace.
func (*link) HandleRPC(ctx context.Context, event stats.RPCStats) {
	t, ok := ctx.Value(traceKey{}).(*trace)
	if !ok {
		return
	}
	switch event.(type) {
	case *stats.Begin:
		t.sent.Store(false)
		t.answered.Store(false)
	case *stats.OutPayload:
		t.sent.Store(true)
	case *stats.InTrailer:
		t.answered.Store(true)
	}
}
