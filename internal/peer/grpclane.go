package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// lanes keeps one connection's lane to its peer: opened for the first call, and anew
// for the first call after it has ended.
type lanes struct {
	address string
	cc      *grpc.ClientConn
	member  *Membership // nil: lanes are streams of cc
	on      event.Listener
	within  time.Duration   // a peer has greeted, or is taken to be out of reach
	ctx     context.Context // ends with close
	cancel  context.CancelFunc
	carried sync.WaitGroup
	current atomic.Pointer[outbound] // for look-ups without the lock

	mu       sync.Mutex // protects following fields
	opening  *opening   // nil: nobody opens one
	refusing time.Time  // until then the peer is taken to have no lanes
}

// opening is an attempt to open a lane, and what came of it once done is closed.
type opening struct {
	done chan struct{}
	lane *outbound
	err  error
}

// askAgain is for how long a peer of an older version, which has no lanes, is called
// without them.
const askAgain = time.Minute

// errNoLanes is the error for a peer that has no lanes.
var errNoLanes = errors.New("the peer has no lanes")

func newLanes(address string, cc *grpc.ClientConn, m *Membership, on event.Listener) *lanes {
	s := &lanes{address: address, cc: cc, member: m, on: on, within: 2 * connectTimeout}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// call sends a call over the lane. errNoLanes: the peer is too old for it.
func (s *lanes) call(ctx context.Context, req *Request) (object.Payload, error) {
	body := buffers.Empty(0)
	var err error
	if *body, err = appendCall(ctx, *body, req); err != nil {
		buffers.Put(body)
		if on := s.on.LimitReached; on != nil && fault.KindOf(err) == fault.TooLarge {
			on(event.LimitReached{Limit: event.MessageBytes, Type: req.Ref.Type, ID: req.Ref.ID})
		}
		return object.Payload{}, err
	}
	reusable := len(*body) <= maxBody
	for {
		l, err := s.lane(ctx)
		if err != nil {
			return object.Payload{}, err
		}
		if l.features&featureTrace == 0 && callctx.From(ctx).Trace.Given() {
			ctx = withoutTrace(ctx)
			if *body, err = appendCall(ctx, (*body)[:0], req); err != nil {
				return object.Payload{}, err
			}
		}
		p, err := l.call(ctx, req.Payload.Form, *body)
		if errors.Is(err, errRetired) {
			s.current.CompareAndSwap(l, nil)
			continue
		}
		if reusable {
			buffers.Put(body)
		}
		return p, err
	}
}

// lane is the lane to send over; the first to ask opens it.
func (s *lanes) lane(ctx context.Context) (*outbound, error) {
	if l := s.current.Load(); l != nil {
		return l, nil
	}
	o, err := s.begin()
	if err != nil {
		return nil, err
	}
	select {
	case <-o.done:
		return o.lane, o.err
	case <-ctx.Done():
		return nil, ended(ctx.Err(), s.address, false)
	}
}

// begin is the attempt under way.
func (s *lanes) begin() (*opening, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ctx.Err() != nil:
		return nil, closed()
	case s.opening != nil:
		return s.opening, nil
	case time.Now().Before(s.refusing):
		return nil, errNoLanes
	}
	o := &opening{done: make(chan struct{})}
	if o.lane = s.current.Load(); o.lane != nil { // opened meanwhile
		close(o.done)
		return o, nil
	}
	s.opening = o
	s.carried.Go(func() { s.open(o) })
	return o, nil
}

// open opens a lane and carries it until it ends.
func (s *lanes) open(o *opening) {
	ctx, hangUp := context.WithCancel(s.ctx)
	defer hangUp()
	p, agreed, err := s.dial(ctx, hangUp)
	s.mu.Lock()
	s.opening = nil
	if errors.Is(err, errNoLanes) {
		s.refusing = time.Now().Add(askAgain)
	}
	if err == nil {
		o.lane = newOutbound(s.address, p, laneLimits)
		o.lane.features = agreed.features
		s.current.Store(o.lane)
	}
	o.err = err
	s.mu.Unlock()
	close(o.done)
	if err == nil {
		s.tell(o.lane.run())
		s.current.CompareAndSwap(o.lane, nil)
	}
}

// dial opens a lane, on a connection of its own where both ends take such.
func (s *lanes) dial(ctx context.Context, hangUp context.CancelFunc) (p pipe, agreed hello, err error) {
	silent := time.AfterFunc(s.within, hangUp)
	defer func() {
		if !silent.Stop() && s.ctx.Err() == nil {
			p, err = nil, unreachable(s.address, "it does not answer")
		}
	}()
	streamCtx, endStream := context.WithCancel(ctx)
	if p, agreed, err = s.dialStream(streamCtx, endStream); err != nil {
		endStream()
		return nil, agreed, s.noWay(err)
	}
	if agreed.features&featureOwn == 0 {
		return p, agreed, nil
	}
	own, agreedThere, err := s.dialOwn(ctx)
	if err != nil { // something lets gRPC through and nothing else
		return p, agreed, nil
	}
	p.hangUp()
	return own, agreedThere, nil
}

// dialStream opens a stream for a lane.
func (s *lanes) dialStream(ctx context.Context, hangUp context.CancelFunc) (pipe, hello, error) {
	stream, err := s.cc.NewStream(ctx, &laneDesc(nil).Streams[0], laneName,
		grpc.ForceCodecV2(newBatches()), grpc.MaxCallRecvMsgSize(maxBatch))
	if err != nil {
		return nil, hello{}, err
	}
	p := grpcPipe{stream, hangUp}
	agreed, err := s.introduce(p)
	return p, agreed, err
}

// dialOwn opens a connection for a lane, which ends with ctx.
func (s *lanes) dialOwn(ctx context.Context) (pipe, hello, error) {
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", s.address)
	if err != nil {
		return nil, hello{}, err
	}
	late := context.AfterFunc(ctx, func() { _ = raw.Close() })
	conn, err := s.member.call(ctx, raw, greeting{lane: true, from: s.member.Address, to: s.address})
	if err != nil {
		late()
		return nil, hello{}, errors.Join(err, raw.Close())
	}
	p := newConnPipe(conn)
	context.AfterFunc(ctx, p.hangUp)
	agreed, err := s.introduce(p)
	if err != nil {
		p.hangUp()
	}
	return p, agreed, err
}

// introduce exchanges hellos over a new pipe.
func (s *lanes) introduce(p pipe) (agreed hello, err error) {
	own := spoken(s.member)
	if err := greet(p, own); err != nil && !errors.Is(err, io.EOF) { // io.EOF: heed says why
		return agreed, err
	}
	theirs, err := heed(p)
	if err != nil {
		return agreed, err
	}
	return own.agree(theirs)
}

// noWay is the error of the calls for which there is no lane.
func (s *lanes) noWay(err error) error {
	switch st, isStatus := status.FromError(err); {
	case s.ctx.Err() != nil:
		return closed()
	case isStatus && st.Code() == codes.Unimplemented:
		return errNoLanes
	case isStatus:
		return unreachable(s.address, st.Message())
	case errors.Is(err, errLeaving), errors.Is(err, io.EOF):
		return unreachable(s.address, errLeaving.Error())
	default: // it speaks, but not as we do
		s.tell(breach{err})
		return fault.New(fault.NotReady, "%s cannot be talked to: %w", s.address, err)
	}
}

// tell makes an event of a breach of the protocol.
func (s *lanes) tell(err error) { tell(s.on, s.address, err) }

func tell(on event.Listener, who string, err error) {
	if !errors.As(err, new(breach)) || on.Notice == nil {
		return
	}
	on.Notice(event.Notice{Severity: event.Warn, From: "peer",
		Text: fmt.Sprintf("%s broke the protocol of the road, so the connection to it was ended", who), Err: err})
}

// close ends the lane, and returns when nothing of it is left.
func (s *lanes) close() error {
	if l := s.current.Load(); l != nil {
		l.fail(errClosedHere)
	}
	s.mu.Lock()
	s.cancel()
	s.mu.Unlock()
	err := s.cc.Close()
	s.carried.Wait()
	return err
}

var errClosedHere = errors.New("the connection was closed")
