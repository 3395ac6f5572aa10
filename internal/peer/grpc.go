package peer

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
	goverse_pb "github.com/xiaonanln/goverse/proto"
)

// How soon a peer that went silent is given up, and one that does not answer at all.
// A connection is made anew with a back-off from retryFirst to retryLast.
const (
	pingAfter      = 10 * time.Second
	pingTimeout    = 5 * time.Second
	connectTimeout = 3 * time.Second
	retryFirst     = 50 * time.Millisecond
	retryLast      = 2 * time.Second
	window         = 1 << 20
)

// ServerOptions are the options of a gRPC server that RegisterPeerService needs:
// without them it refuses the largest messages and its peers' keep-alives.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingAfter / 2, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 2 * pingAfter, Timeout: 2 * pingTimeout}),
		grpc.StaticStreamWindowSize(window), grpc.StaticConnWindowSize(4 * window),
		grpc.ForceServerCodecV2(newBatches()),
		experimental.BufferPool(buffers),
	}
}

// RegisterPeerService offers svc to the peers that dial s; on hears of those that break
// the protocol. A server that stops gracefully waits for the streams of pushes and for
// the lanes of calls: end svc's ServePushes first, and call Leave, which tells the
// peers to make no new calls here; what they have sent is still answered.
func RegisterPeerService(s grpc.ServiceRegistrar, svc Service, on event.Listener) *Doors {
	return register(s, svc, nil, on)
}

func register(s grpc.ServiceRegistrar, svc Service, m *Membership, on event.Listener) *Doors {
	d := newDoors(svc, m, on)
	goverse_pb.RegisterPeerServiceServer(s, &grpcService{svc: svc})
	s.RegisterService(laneDesc(d.serve), nil)
	return d
}

type grpcService struct {
	goverse_pb.UnimplementedPeerServiceServer
	svc Service
}

func (s *grpcService) Call(ctx context.Context, m *goverse_pb.CallRequest) (*goverse_pb.CallReply, error) {
	return serve(ctx, s.svc, m), nil
}

func (s *grpcService) Stage(ctx context.Context, m *goverse_pb.StageRequest) (*goverse_pb.StageReply, error) {
	return serveStage(ctx, s.svc, m), nil
}

func (s *grpcService) Probe(ctx context.Context, m *goverse_pb.ProbeRequest) (*goverse_pb.ProbeReply, error) {
	return serveProbe(ctx, s.svc, m), nil
}

func (s *grpcService) ListObjects(ctx context.Context, m *goverse_pb.ListObjectsRequest) (*goverse_pb.ListObjectsReply, error) {
	return serveList(ctx, s.svc, m), nil
}

func (s *grpcService) StoredState(ctx context.Context, m *goverse_pb.StoredStateRequest) (*goverse_pb.StoredStateReply, error) {
	return serveStateOf(ctx, s.svc, m), nil
}

func (s *grpcService) Catalog(ctx context.Context, m *goverse_pb.CatalogRequest) (*goverse_pb.CatalogReply, error) {
	return serveCatalog(ctx, s.svc, m), nil
}

func (s *grpcService) Pushes(m *goverse_pb.PushesRequest, stream grpc.ServerStreamingServer[goverse_pb.PushFrame]) error {
	var failed error // of the frame that says ready
	err := s.svc.ServePushes(stream.Context(), Hearing{Gate: m.Gate, Resumable: m.Resumable, Queue: m.Queue, Last: m.Last},
		func(o Opening) { failed = stream.Send(encodeOpening(o)) },
		func(f PushFrame) error {
			frames, err := encodePush(f)
			if err = errors.Join(failed, err); err != nil {
				return err
			}
			for _, frame := range frames {
				if err := stream.Send(frame); err != nil {
					return fault.New(fault.Indeterminate, "the gate %s is gone: %w", m.Gate, err)
				}
			}
			return nil
		})
	if err == nil {
		return nil
	}
	return fault.Of(err).GRPCStatus().Err()
}

// NewGRPCDialer returns the dialer between processes; on hears of peers that break the
// protocol. opts come after the defaults and win over them; without credentials among
// them nothing is encrypted.
func NewGRPCDialer(on event.Listener, opts ...grpc.DialOption) Dialer {
	return newGRPCDialer(on, nil, opts)
}

func newGRPCDialer(on event.Listener, m *Membership, opts []grpc.DialOption) Dialer {
	retry := backoff.Config{BaseDelay: retryFirst, Multiplier: 1.6, Jitter: 0.2, MaxDelay: retryLast}
	return grpcDialer{on: on, member: m, options: append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: retry, MinConnectTimeout: connectTimeout}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingAfter, Timeout: pingTimeout}),
		grpc.WithStaticStreamWindowSize(window), grpc.WithStaticConnWindowSize(4 * window),
		experimental.WithBufferPool(buffers),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxFrame), grpc.ForceCodecV2(framed{})),
		grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(), // whether a call may run twice is not gRPC's to decide
		grpc.WithNoProxy(),
		grpc.WithStatsHandler(sentWatch{}),
	}, opts...)}
}

type grpcDialer struct {
	on      event.Listener
	member  *Membership // nil: calls have no connections to themselves
	options []grpc.DialOption
}

func (d grpcDialer) Dial(address string) (Conn, error) {
	if address == "" {
		return nil, fault.New(fault.Invalid, "a peer has no address")
	}
	cc, err := grpc.NewClient("passthrough:///"+address, d.options...)
	if err != nil {
		return nil, fault.New(fault.Invalid, "peer %s: %w", address, err)
	}
	c := &grpcConn{address: address, cc: cc, lanes: newLanes(address, cc, d.member, d.on)}
	c.questions = questions{c}
	return c, nil
}

type grpcConn struct {
	questions
	address string
	cc      *grpc.ClientConn
	lanes   *lanes
}

func (c *grpcConn) ServeCall(ctx context.Context, req *Request) (object.Payload, error) {
	if err := ctx.Err(); err != nil {
		return object.Payload{}, fault.WaitedFor(err, "before the call left")
	}
	p, err := c.lanes.call(ctx, req)
	if errors.Is(err, errNoLanes) {
		return c.callAlone(ctx, req)
	}
	return p, err
}

// callAlone makes a call to a peer of a version that has no lanes.
func (c *grpcConn) callAlone(ctx context.Context, req *Request) (object.Payload, error) {
	frame, err := encodeRequest(ctx, req)
	if err != nil {
		return object.Payload{}, err
	}
	reply := new(goverse_pb.CallReply)
	if err := c.invoke(ctx, goverse_pb.PeerService_Call_FullMethodName, frame, reply); err != nil {
		return object.Payload{}, err
	}
	return decodeReply(req.Payload.Form, reply)
}

// invoke sends a frame and waits for the reply to it.
func (c *grpcConn) invoke(ctx context.Context, method string, frame []byte, reply proto.Message) error {
	var sent atomic.Bool
	if err := c.cc.Invoke(context.WithValue(ctx, sentKey{}, &sent), method, frame, reply); err != nil {
		return c.lost(ctx, err, sent.Load())
	}
	return nil
}

func (c *grpcConn) ServeStage(ctx context.Context, stage *Stage) error {
	frame, err := encodeStage(stage)
	if err != nil {
		return err
	}
	reply := new(goverse_pb.StageReply)
	if err := c.invoke(ctx, goverse_pb.PeerService_Stage_FullMethodName, frame, reply); err != nil {
		return err
	}
	return faultOf(reply.Fault)
}

func (c *grpcConn) ServeProbe(ctx context.Context, probe *Probe) ([]string, error) {
	frame, err := encodeProbe(probe)
	if err != nil {
		return nil, err
	}
	reply := new(goverse_pb.ProbeReply)
	if err := c.invoke(ctx, goverse_pb.PeerService_Probe_FullMethodName, frame, reply); err != nil {
		return nil, err
	}
	return reply.Path, faultOf(reply.Fault)
}

func (c *grpcConn) ListObjects(ctx context.Context, objType, after string, limit int) ([]object.Listed, error) {
	frame, err := encodeList(objType, after, limit)
	if err != nil {
		return nil, err
	}
	reply := new(goverse_pb.ListObjectsReply)
	if err := c.invoke(ctx, goverse_pb.PeerService_ListObjects_FullMethodName, frame, reply); err != nil {
		return nil, err
	}
	return decodeList(objType, reply)
}

func (c *grpcConn) StoredState(ctx context.Context, ref object.Ref) (object.Record, error) {
	frame, err := encodeStateOf(ref)
	if err != nil {
		return object.Record{}, err
	}
	reply := new(goverse_pb.StoredStateReply)
	if err := c.invoke(ctx, goverse_pb.PeerService_StoredState_FullMethodName, frame, reply); err != nil {
		return object.Record{}, err
	}
	return decodeStateOf(reply)
}

func (c *grpcConn) Catalog(ctx context.Context, known string) (object.Catalog, error) {
	frame, err := encodeQuery(&goverse_pb.CatalogRequest{Known: known})
	if err != nil {
		return object.Catalog{}, err
	}
	reply := new(goverse_pb.CatalogReply)
	if err := c.invoke(ctx, goverse_pb.PeerService_Catalog_FullMethodName, frame, reply); err != nil {
		return object.Catalog{}, err
	}
	return decodeCatalog(reply)
}

// lost says what became of a call that gRPC gave no reply to. The peer's own errors
// are in its replies; this is the road's.
func (c *grpcConn) lost(ctx context.Context, err error, sent bool) error {
	st := status.Convert(err)
	switch {
	case ctx.Err() != nil:
		return ended(ctx.Err(), c.address, sent)
	case st.Code() == codes.DeadlineExceeded: // gRPC's timer was first
		return ended(context.DeadlineExceeded, c.address, sent)
	case st.Code() == codes.ResourceExhausted:
		return fault.New(fault.TooLarge, "between here and %s: %s", c.address, st.Message()).With(fault.OutcomeUnknown)
	case st.Code() == codes.Unimplemented:
		return fault.New(fault.NotReady, "%s is no Goverse node: %s", c.address, st.Message())
	case !sent:
		return unreachable(c.address, st.Message())
	default:
		return fault.New(fault.Indeterminate, "the answer of %s was lost: %s", c.address, st.Message())
	}
}

// ended is the error of a call that its context ended, sent or not.
func ended(cause error, address string, sent bool) *fault.Error {
	if sent {
		return fault.WaitedFor(cause, "waiting for the answer of %s", address).With(fault.OutcomeUnknown)
	}
	return fault.WaitedFor(cause, "connecting to %s", address)
}

// ErrUnreachable is in the error of a request that never left, because there is no
// way to the peer now.
var ErrUnreachable = errors.New("cannot be reached")

func unreachable(address, why string) *fault.Error {
	return fault.New(fault.NotReady, "%s %w: %s", address, ErrUnreachable, why)
}

func (c *grpcConn) ServePushes(ctx context.Context, h Hearing, ready func(Opening), deliver func(PushFrame) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	frame, err := proto.Marshal(&goverse_pb.PushesRequest{Gate: h.Gate, Resumable: h.Resumable, Queue: h.Queue, Last: h.Last})
	if err != nil {
		return fault.New(fault.Invalid, "the gate's address: %w", err)
	}
	stream, err := c.cc.NewStream(ctx, &goverse_pb.PeerService_ServiceDesc.Streams[0], goverse_pb.PeerService_Pushes_FullMethodName)
	if err != nil {
		return c.lostPushes(ctx, err, false)
	}
	if err := errors.Join(stream.SendMsg(frame), stream.CloseSend()); err != nil && !errors.Is(err, io.EOF) {
		return c.lostPushes(ctx, err, false) // io.EOF: RecvMsg says why
	}
	return c.receivePushes(ctx, stream, ready, deliver)
}

func (c *grpcConn) receivePushes(ctx context.Context, stream grpc.ClientStream, ready func(Opening), deliver func(PushFrame) error) error {
	for first := true; ; first = false {
		m := new(goverse_pb.PushFrame)
		if err := stream.RecvMsg(m); err != nil {
			return c.lostPushes(ctx, err, !first)
		}
		switch {
		case first && !isReady(m):
			return fault.New(fault.Invalid, "%s speaks another protocol: its first push is not empty", c.address)
		case first:
			ready(decodeOpening(m))
		default:
			if err := deliver(decodePush(m)); err != nil {
				return fault.Of(err)
			}
		}
	}
}

// lostPushes says why a stream of pushes ended; nil when the peer ended it.
func (c *grpcConn) lostPushes(ctx context.Context, err error, began bool) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	if e := new(fault.Error); ctx.Err() == nil && errors.As(fault.FromStatus(err), &e) && carriesFault(err) {
		return e
	}
	return c.lost(ctx, err, began)
}

func carriesFault(err error) bool {
	for _, d := range status.Convert(err).Details() {
		if _, ok := d.(*goverse_pb.Fault); ok {
			return true
		}
	}
	return false
}

// Close ends the connection, what is on its way, and the streams of pushes.
func (c *grpcConn) Close() error {
	if err := c.lanes.close(); err != nil && status.Code(err) != codes.Canceled { // Canceled: closed before
		return err
	}
	return nil
}

// sentWatch notes in the *atomic.Bool that a call's context carries whether its
// request was handed to the connection. An attempt that gRPC repeats by itself was
// surely not seen by the peer, so the last one counts.
type sentWatch struct{}

type sentKey struct{}

func (sentWatch) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (sentWatch) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (sentWatch) HandleConn(context.Context, stats.ConnStats)                       {}

func (sentWatch) HandleRPC(ctx context.Context, event stats.RPCStats) {
	sent, ok := ctx.Value(sentKey{}).(*atomic.Bool)
	if !ok {
		return
	}
	switch event.(type) {
	case *stats.Begin:
		sent.Store(false)
	case *stats.OutPayload:
		sent.Store(true)
	}
}

// framed is gRPC's protobuf codec for a client that marshals by itself, so that a
// request which cannot be marshalled is told from one that was lost.
type framed struct{}

func (framed) Name() string { return "proto" }

func (framed) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

func (framed) Unmarshal(data mem.BufferSlice, v any) error {
	whole := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer whole.Free()
	return proto.Unmarshal(whole.ReadOnlyData(), v.(proto.Message))
}
