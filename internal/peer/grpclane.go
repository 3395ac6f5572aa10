package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// lanes keeps one connection's lane to its peer: opened for the first call, and anew
// for the first call after it has ended.
type lanes struct {
	address string
	cc      *grpc.ClientConn
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

func newLanes(address string, cc *grpc.ClientConn, on event.Listener) *lanes {
	s := &lanes{address: address, cc: cc, on: on, within: 2 * connectTimeout}
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

// dial opens a stream and exchanges greetings over it.
func (s *lanes) dial(ctx context.Context, hangUp context.CancelFunc) (p pipe, agreed hello, err error) {
	silent := time.AfterFunc(s.within, hangUp)
	defer func() {
		if !silent.Stop() && s.ctx.Err() == nil {
			p, err = nil, unreachable(s.address, "it does not answer")
		}
	}()
	stream, err := s.cc.NewStream(ctx, &laneDesc(nil).Streams[0], laneName,
		grpc.ForceCodecV2(newBatches()), grpc.MaxCallRecvMsgSize(maxBatch))
	if err != nil {
		return nil, agreed, s.noWay(err)
	}
	p = grpcPipe{stream, hangUp}
	if err := greet(p, speaks); err != nil && !errors.Is(err, io.EOF) { // io.EOF: heed says why
		return nil, agreed, s.noWay(err)
	}
	theirs, err := heed(p)
	if err == nil {
		agreed, err = speaks.agree(theirs)
	}
	if err != nil {
		return nil, agreed, s.noWay(err)
	}
	return p, agreed, nil
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

// doors is what serves the lanes of a process's peers.
type doors struct {
	svc Service
	on  event.Listener

	mu      sync.Mutex // protects following fields
	open    map[*inbound]bool
	leaving bool
}

func newDoors(svc Service, on event.Listener) *doors {
	return &doors{svc: svc, on: on, open: map[*inbound]bool{}}
}

// leave tells all peers, and those that still come, to make no new calls over their
// lanes. What they have sent is still answered.
func (d *doors) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.leaving = true
	for l := range d.open {
		l.leave()
	}
}

// serve is one lane, from its greeting to its end.
func (d *doors) serve(stream grpc.ServerStream) error {
	p := grpcPipe{stream, func() {}}
	agreed, err := d.welcome(p)
	if err == nil {
		l := newInbound(stream.Context(), d.svc, p, laneLimits)
		l.features = agreed.features
		err = d.host(l)
	}
	if errors.Is(err, errLeaving) {
		return nil
	}
	who := "a peer"
	if from, ok := grpcpeer.FromContext(stream.Context()); ok {
		who = from.Addr.String()
	}
	tell(d.on, who, err)
	if errors.As(err, new(breach)) {
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	return err
}

// welcome exchanges greetings with a peer that has come.
func (d *doors) welcome(p pipe) (agreed hello, err error) {
	theirs, err := heed(p)
	if err != nil {
		if _, isStatus := status.FromError(err); isStatus || errors.Is(err, io.EOF) {
			return agreed, err // it left before it spoke
		}
		return agreed, breach{err}
	}
	if d.isLeaving() {
		b, _ := appendFrame(nil, kindGoodbye, 0, nil)
		return agreed, errors.Join(errLeaving, p.send(&b, nil))
	}
	if err := greet(p, speaks); err != nil {
		return agreed, err
	}
	if agreed, err = speaks.agree(theirs); err != nil {
		return agreed, breach{err}
	}
	return agreed, nil
}

func (d *doors) isLeaving() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.leaving
}

// host runs a lane as one of the open ones.
func (d *doors) host(l *inbound) error {
	d.mu.Lock()
	if d.open[l] = true; d.leaving { // since it was welcome
		l.leave()
	}
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.open, l)
	}()
	return l.run()
}
