package goverseclient

import (
	"cmp"
	"context"
	"errors"
	"io"
	"runtime"
	"slices"
	"sync"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/internal/batch"
)

// stream is a session on one stream: calls there, and answers and pushes back. One
// goroutine sends whatever calls wait, as many at once as there are; one reads. Of the
// calls as many are on their way as the gate allows, and the others wait here.
//
// All methods may be called concurrently, except that follow has one user.
type stream struct {
	conn  grpc.BidiStreamingClient[gate_pb.ClientBatch, gate_pb.GateBatch]
	id    string             // the client id
	clock *clock             // the gate's, or nil
	leave func(error)        // the link is to be used no more
	cut   context.CancelFunc // ends the stream
	wake  chan struct{}      // has a token when there may be something to send
	parts sync.WaitGroup     // the two goroutines
	idle  sync.Pool          // of waiters

	following chan struct{} // closed when deliver is set
	deliver   func(*anypb.Any)
	reset     func(Reset)
	pushing   sync.Mutex    // held to deliver a push; protects last
	last      uint64        // the number of the last push or reset
	token     string        // resumes the session; "" if it cannot be
	resumed   bool          // it goes on from an earlier connection
	over      chan struct{} // closed when the session is over: nothing is delivered any more

	mu      sync.Mutex         // protects following fields
	queue   []*waiter          // not sent yet, in order; those without a body were taken back
	dropped int                // of these
	free    int                // how many more calls the gate takes
	number  uint64             // of the last call that was sent
	waiting map[uint64]*waiter // sent and not answered; nil: and nobody waits for it any more
	cancels []uint64           // to be told to the gate
	feeds   feeds              // what the gate publishes here
	ack     uint64             // what has come
	acked   uint64             // what the gate was told of it
	ackSoon bool               // a timer is set
	ackDue  bool               // it has run out
	parting bool               // the stream is to be half-closed
	leaving bool               // the gate does, and its sessions end with it; pushing protects it too
	gates   []string           // that it named
	why     error              // why the session is over
	err     error              // why the stream has ended
}

// waiter is a caller and its call.
type waiter struct {
	answered chan struct{} // gets one token: reply or err is set
	body     []byte        // the frame, but for its number and timeout
	deadline time.Time     // zero: none
	number   uint64        // 0: it was not sent
	follower *Subscription // that it asks for; else nil
	done     bool          // it is answered, or its token is about to come
	reply    *gate_pb.GateFrame
	err      error
}

// openStream greets the gate over a new stream. An error with the code Unimplemented
// means that the gate is older than streams. cut ends ctx.
func openStream(ctx context.Context, cut context.CancelFunc, calls gate_pb.GateServiceClient, leave func(error), h *gate_pb.Hello) (*stream, error) {
	conn, err := calls.Converse(ctx, grpc.ForceCodecV2(batch.Codec()))
	if err != nil {
		return nil, err
	}
	hello := &gate_pb.ClientFrame{Kind: &gate_pb.ClientFrame_Hello{Hello: h}}
	if err := conn.Send(&gate_pb.ClientBatch{Frames: []*gate_pb.ClientFrame{hello}}); err != nil && !errors.Is(err, io.EOF) { // io.EOF: Recv says why
		return nil, err
	}
	first, err := conn.Recv()
	if err != nil {
		return nil, err
	}
	var welcome *gate_pb.Welcome
	if len(first.Frames) == 1 {
		welcome = first.Frames[0].GetWelcome()
	}
	switch {
	case welcome == nil:
		return nil, errors.New("what answers there is no Goverse gate: it does not begin with a welcome")
	case welcome.ClientId == "":
		return nil, errNoID
	case welcome.MaxCalls == 0:
		return nil, errors.New("it welcomes and allows no calls")
	}
	s := &stream{
		conn: conn, id: welcome.ClientId, clock: clockOf(welcome.UnixMillis), leave: leave, cut: cut, free: int(welcome.MaxCalls), wake: make(chan struct{}, 1),
		following: make(chan struct{}), over: make(chan struct{}), waiting: map[uint64]*waiter{},
		token: welcome.Token, resumed: welcome.Resumed && h.Token != "", feeds: feeds{known: welcome.Subscriptions},
		idle: sync.Pool{New: func() any { return &waiter{answered: make(chan struct{}, 1)} }},
	}
	if s.resumed {
		s.last, s.ack, s.acked = h.Last, h.Last, h.Last
	}
	s.parts.Go(s.read)
	s.parts.Go(s.write)
	return s, nil
}

// follow hands on what is pushed, and what is lost, until the session is over, and says why
// it is.
func (s *stream) follow(deliver func(*anypb.Any), reset func(Reset)) error {
	s.deliver, s.reset = deliver, reset
	close(s.following)
	<-s.over
	s.pushing.Lock() // whoever has begun to deliver one has done so
	defer s.pushing.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.why
}

// finish ends the session. The calls that were sent go on; those that wait are for
// another gate. The first reason counts.
func (s *stream) finish(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.why != nil {
		return
	}
	s.why = cmp.Or(why, errEnded)
	close(s.over)
	for _, w := range s.queue {
		w.failLocked(s.why)
	}
	s.queue, s.dropped = nil, 0
}

// end ends the stream at once, and returns when nothing of it is left.
func (s *stream) end() {
	s.finish(errEnded) // the reader may wait for somebody who follows
	s.cut()
	s.parts.Wait()
}

// call sends a call and waits for its answer. t says how far it came. The error is what
// a unary call returns.
func (s *stream) call(ctx context.Context, t *trace, f *gate_pb.ClientFrame) (*gate_pb.GateFrame, error) {
	return s.callFor(ctx, t, f, nil)
}

// callFor is a call that asks for a subscription, if to is not nil.
func (s *stream) callFor(ctx context.Context, t *trace, f *gate_pb.ClientFrame, to *Subscription) (*gate_pb.GateFrame, error) {
	if proto.Size(f) > batch.MaxFrame {
		return nil, errBeside
	}
	w := s.idle.Get().(*waiter)
	w.follower = to
	var err error
	if w.body, err = (proto.MarshalOptions{UseCachedSize: true}).MarshalAppend(w.body[:0], f); err != nil {
		return nil, status.Errorf(codes.Internal, "the request cannot be marshalled: %v", err)
	}
	w.deadline, _ = ctx.Deadline()
	if err := s.submit(w); err != nil {
		return nil, err
	}
	select {
	case <-w.answered:
	case <-ctx.Done():
		if sent, answered := s.giveUp(w); !answered {
			t.sent.Store(sent)
			return nil, status.FromContextError(ctx.Err()).Err()
		}
		<-w.answered
	}
	reply, err := w.reply, w.err
	t.sent.Store(w.number > 0)
	s.reuse(w)
	if err == nil {
		err = s.failure(t, reply)
	}
	return reply, err
}

func (s *stream) reuse(w *waiter) {
	if cap(w.body) > 4<<10 {
		w.body = nil
	}
	*w = waiter{answered: w.answered, body: w.body[:0]}
	s.idle.Put(w)
}

// failure is the error that an answer says.
func (s *stream) failure(t *trace, f *gate_pb.GateFrame) error {
	said, ok := f.Kind.(*gate_pb.GateFrame_Failure)
	if !ok {
		return nil
	}
	own := new(spb.Status)
	if err := proto.Unmarshal(said.Failure, own); err != nil || own.Code == int32(codes.OK) {
		return s.breach("the gate says that a call failed, and not how")
	}
	t.answered.Store(true)
	return status.ErrorProto(own)
}

// breach ends the stream, whose other end does not keep to the protocol, and is the
// error of the call that met it.
func (s *stream) breach(text string) error {
	err := errors.New(text)
	s.fail(err)
	return status.Error(codes.Unavailable, text)
}

// submit puts the call where it is sent from.
func (s *stream) submit(w *waiter) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.why != nil {
		return lost(s.why)
	}
	s.queue = append(s.queue, w)
	s.rouse()
	return nil
}

// rouse sees to it that what waits is sent.
func (s *stream) rouse() {
	select {
	case s.wake <- struct{}{}:
	default: // it is on its way
	}
}

// giveUp is the end of a caller's wait: unless the call was answered it is taken back,
// or, when it was sent, cancelled.
func (s *stream) giveUp(w *waiter) (sent, answered bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case w.done:
		return true, true
	case w.number > 0:
		s.waiting[w.number] = nil
		s.cancels = append(s.cancels, w.number)
		s.rouse()
		return true, false
	}
	w.body = nil
	if s.dropped++; s.dropped > len(s.queue)/2 {
		s.queue = slices.DeleteFunc(s.queue, func(w *waiter) bool { return w.body == nil })
		s.dropped = 0
	}
	return false, false
}

// write sends until the stream ends.
func (s *stream) write() {
	for {
		select {
		case <-s.wake:
		case <-s.conn.Context().Done():
			return
		}
		runtime.Gosched() // whoever is about to call goes along
		for b := s.take(); b != nil; b = s.take() {
			err := s.conn.SendMsg(b)
			if errors.Is(err, io.EOF) {
				return // read says why
			}
			if err != nil {
				s.fail(err)
				return
			}
			runtime.Gosched()
		}
		if s.isParting() {
			_ = s.conn.CloseSend() // read says why
			return
		}
	}
}

func (s *stream) isParting() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.parting
}

// take is the next batch, or nil. What is in it may run.
func (s *stream) take() *[]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	ack := s.ackLocked()
	if ack == nil && len(s.cancels) == 0 && (s.free == 0 || len(s.queue)+len(s.feeds.unwanted) == 0) {
		return nil
	}
	b, now := batch.New(), time.Now()
	if ack != nil {
		body, _ := proto.Marshal(ack) // a number: it cannot fail
		*b = batch.AppendFrame(*b, nil, body)
	}
	for _, number := range s.cancels {
		*b = batch.AppendFrame(*b, appendHead(nil, number, 0), cancelBody)
	}
	s.cancels = s.cancels[:0]
	s.endUnwantedLocked(b)
	var head [24]byte
	i := 0
	for ; i < len(s.queue) && s.free > 0 && len(*b) < batch.Full; i++ {
		w := s.queue[i]
		s.queue[i] = nil
		if w.body == nil {
			s.dropped--
			continue
		}
		s.number++
		s.free--
		w.number = s.number
		s.waiting[w.number] = w
		*b = batch.AppendFrame(*b, appendHead(head[:0], w.number, w.remains(now)), w.body)
	}
	if s.queue = s.queue[i:]; len(s.queue) == 0 {
		s.queue = s.queue[:0]
	}
	if len(*b) == 0 { // all of it was taken back
		batch.Free(b)
		return nil
	}
	return b
}

// remains is how long the caller still waits; 0: as long as it takes.
func (w *waiter) remains(now time.Time) time.Duration {
	if w.deadline.IsZero() {
		return 0
	}
	return max(w.deadline.Sub(now), time.Microsecond)
}

// appendHead appends the fields of a frame that change on the way.
func appendHead(b []byte, number uint64, timeout time.Duration) []byte {
	b = protowire.AppendVarint(protowire.AppendTag(b, 1, protowire.VarintType), number)
	if timeout > 0 {
		b = protowire.AppendVarint(protowire.AppendTag(b, 2, protowire.VarintType), uint64(timeout.Microseconds()))
	}
	return b
}

// cancelBody is the kind of a cancellation: a message without fields.
var cancelBody = protowire.AppendVarint(protowire.AppendTag(nil, 9, protowire.BytesType), 0)

// fail ends the stream, and with it every call that waits.
func (s *stream) fail(err error) {
	why := plain(err)
	if errors.Is(err, io.EOF) {
		why = errEnded
	}
	s.leave(why)
	s.finish(why)
	s.cut()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	s.err = why
	for _, w := range s.queue {
		w.failLocked(why)
	}
	for _, w := range s.waiting {
		w.failLocked(why)
	}
	s.queue, s.waiting = nil, nil
}

func (w *waiter) failLocked(why error) {
	if w != nil && w.body != nil {
		w.err, w.done = lost(why), true
		w.answered <- struct{}{} // it has room for one, and this is the first
	}
}

// lost is the error of a call that gets no answer any more, as gRPC says it.
func lost(why error) error { return status.Error(codes.Unavailable, why.Error()) }
