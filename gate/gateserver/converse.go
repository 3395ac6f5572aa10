package gateserver

import (
	"context"
	"errors"
	"io"
	"math"
	"runtime"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/gate"
	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/internal/batch"
	"github.com/xiaonanln/goverse/internal/fault"
)

// busyStream is how many bytes of requests and answers one stream may hold before new
// calls are refused.
const busyStream = 32 << 20

// Converse opens a session for the stream, sends what is pushed to it, and answers the
// calls that come over it.
func (d *grpcDoor) Converse(stream converseStream) error {
	c := newConversation(d, stream)
	defer close(c.over)
	if !d.busy.enter() {
		return errStopping
	}
	go func() {
		defer d.busy.leave()
		c.read()
		c.running.Wait() // they have no goroutine that the crowd knows of while they answer
	}()
	if err := c.welcome(); err != nil {
		return err
	}
	defer c.session.Close(nil)
	if !d.busy.enter() {
		return errStopping
	}
	go func() {
		defer d.busy.leave()
		c.write()
	}()
	return c.attend()
}

// converseStream is what gRPC hands to Converse.
type converseStream = grpc.BidiStreamingServer[gate_pb.ClientBatch, gate_pb.GateBatch]

// conversation is one client's stream. One goroutine reads, one writes, each call has
// its own, and gRPC's waits for the end.
type conversation struct {
	door    *grpcDoor
	stream  converseStream
	session *gate.Session // set when open is closed
	greeted chan error    // what became of the client's greeting
	open    chan struct{} // closed when calls may be read
	heard   chan error    // why nothing more is read; io.EOF: the client has nothing more to say
	wake    chan struct{} // has a token when there may be an answer to send
	stuck   chan struct{} // closed when the client does not take what is sent
	done    chan struct{} // closed when goodbye is said and everything answered
	over    chan struct{} // closed when the stream ends
	running sync.WaitGroup
	parted  bool // goodbye is said; the writer's

	mu      sync.Mutex           // protects following fields
	calls   map[uint64]*question // not answered, or the answer is not sent yet
	held    int                  // bytes of them
	answers []answered           // to be sent, in order
	refused int                  // of these, to calls that were not let in
}

// question is a call while it is here.
type question struct {
	cancel context.CancelFunc
	holds  int // bytes
}

// answered is an answer on its way to the writer.
type answered struct {
	number uint64
	frame  *[]byte
	of     *question // nil: it was not let in
}

func newConversation(d *grpcDoor, stream converseStream) *conversation {
	return &conversation{
		door: d, stream: stream, greeted: make(chan error, 1), open: make(chan struct{}), heard: make(chan error, 1),
		wake: make(chan struct{}, 1), stuck: make(chan struct{}), done: make(chan struct{}), over: make(chan struct{}),
		calls: map[uint64]*question{},
	}
}

// welcome hears the client's greeting, and opens and tells the session.
func (c *conversation) welcome() error {
	late := time.NewTimer(c.door.patient)
	defer late.Stop()
	select {
	case err := <-c.greeted:
		if err != nil {
			return err
		}
	case <-late.C:
		return breach("the client says nothing; its first frame is a hello")
	case <-c.stream.Context().Done():
		return c.stream.Context().Err()
	}
	var err error
	if c.session, err = c.door.calls.session(c.stream.Context()); err != nil {
		return err
	}
	return nil
}

// attend waits for the end of the conversation, and is the error that the client gets.
func (c *conversation) attend() error {
	close(c.open)
	select {
	case <-c.session.Done():
	case err := <-c.heard:
		switch {
		case errors.Is(err, io.EOF): // the client leaves, and waits for its answers
			c.session.Close(nil)
		case c.stream.Context().Err() != nil: // it is gone
			return nil
		default:
			c.session.Close(err)
			return err
		}
	}
	select {
	case <-c.done:
	case <-c.stuck:
	case <-c.stream.Context().Done():
	}
	if c.session.Err() != nil {
		c.linger()
	}
	return c.session.Err()
}

// linger gives the client a moment to hang up. What it sent before it heard the goodbye
// is refused in so many words meanwhile, and not left in doubt.
func (c *conversation) linger() {
	moment := time.NewTimer(lastWords)
	defer moment.Stop()
	select {
	case <-c.heard:
	case <-c.stream.Context().Done():
	case <-moment.C:
	}
}

// breach is the end of a client that does not keep to docs/format/client.md.
func breach(format string, args ...any) error {
	return fault.New(fault.Invalid, format, args...).On("Converse", "")
}

// read takes what the client says until it ends, or the stream does.
func (c *conversation) read() {
	err := c.hello()
	c.greeted <- err
	if err != nil {
		return
	}
	select {
	case <-c.open:
	case <-c.over:
		return
	}
	for err == nil {
		var b *gate_pb.ClientBatch
		if b, err = c.stream.Recv(); err == nil {
			err = c.hear(b.Frames)
		}
	}
	c.heard <- err
}

func (c *conversation) hello() error {
	b, err := c.stream.Recv()
	if err != nil {
		return err
	}
	if len(b.Frames) != 1 || b.Frames[0].GetHello() == nil {
		return breach("the client's first batch is not one hello")
	}
	return nil
}

func (c *conversation) hear(frames []*gate_pb.ClientFrame) error {
	for _, f := range frames {
		var err error
		switch f.Kind.(type) {
		case *gate_pb.ClientFrame_Cancel:
			c.cancel(f.Call)
		case *gate_pb.ClientFrame_Hello:
			err = breach("the client greets twice")
		case nil:
			err = breach("the client sends a frame of a kind that this gate does not know")
		default:
			err = c.take(f)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// cancel ends a call that is still here.
func (c *conversation) cancel(number uint64) {
	c.mu.Lock()
	q := c.calls[number]
	c.mu.Unlock()
	if q != nil {
		q.cancel()
	}
}

// take starts a call, or answers why not. Its error ends the stream.
func (c *conversation) take(f *gate_pb.ClientFrame) error {
	if f.Call == 0 || f.TimeoutMicros < 0 {
		return breach("the client makes a call with the number %d and a timeout of %d µs", f.Call, f.TimeoutMicros)
	}
	q := &question{holds: requestSize(f)}
	refusal, err := c.admit(f.Call, q)
	if err != nil {
		return err
	}
	if refusal != nil {
		return c.refuse(f.Call, refusal)
	}
	ctx := c.stream.Context()
	if f.TimeoutMicros > 0 {
		ctx, q.cancel = context.WithTimeout(ctx, time.Duration(min(f.TimeoutMicros, math.MaxInt64/1000))*time.Microsecond)
	} else {
		ctx, q.cancel = context.WithCancel(ctx)
	}
	c.running.Add(1)
	go c.run(ctx, q, f)
	return nil
}

// admit counts a call in, or says why it is refused.
func (c *conversation) admit(number uint64, q *question) (refusal *fault.Error, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.session.Done():
		return fault.New(fault.NotReady, "the session has ended; connect again"), nil
	default:
	}
	switch {
	case c.calls[number] != nil:
		return nil, breach("the client makes call %d again while it is under way", number)
	case len(c.calls) >= c.door.maxStreamed:
		return overloaded("this stream has %d calls under way; wait for an answer before the next", c.door.maxStreamed), nil
	case len(c.calls) > 0 && c.held+q.holds > busyStream:
		return overloaded("this stream has %d bytes of requests and answers under way; read the answers first", c.held), nil
	}
	c.calls[number] = q
	c.held += q.holds
	return nil, nil
}

func overloaded(format string, args ...any) *fault.Error {
	e := fault.New(fault.Overloaded, format, args...)
	e.RetryAfter = 100 * time.Millisecond
	return e
}

// refuse answers a call that was not let in. A client that makes more and more of them
// and does not read the answers is a flood.
func (c *conversation) refuse(number uint64, why *fault.Error) error {
	frame := marshal(failed(number, why))
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refused++; c.refused > c.door.maxStreamed {
		return overloaded("the client makes calls that it may not make, and does not read that it may not").On("Converse", "")
	}
	c.answers = append(c.answers, answered{number: number, frame: frame})
	c.rouse()
	return nil
}

// run makes the call and answers it.
func (c *conversation) run(ctx context.Context, q *question, f *gate_pb.ClientFrame) {
	defer c.running.Done()
	defer q.cancel()
	frame := marshal(c.ask(ctx, f))
	c.mu.Lock()
	defer c.mu.Unlock()
	q.holds += len(*frame)
	c.held += len(*frame)
	c.answers = append(c.answers, answered{number: f.Call, frame: frame, of: q})
	c.rouse()
}

// ask makes the call as the unary methods do.
func (c *conversation) ask(ctx context.Context, f *gate_pb.ClientFrame) *gate_pb.GateFrame {
	d, id := c.door, c.session.ID()
	a := &gate_pb.GateFrame{Call: f.Call}
	var err error
	switch k := f.Kind.(type) {
	case *gate_pb.ClientFrame_CallObject:
		k.CallObject.ClientId = id
		r := new(gate_pb.GateFrame_CallObject)
		r.CallObject, err = d.CallObject(ctx, k.CallObject)
		a.Kind = r
	case *gate_pb.ClientFrame_CreateObject:
		r := new(gate_pb.GateFrame_CreateObject)
		r.CreateObject, err = d.CreateObject(ctx, k.CreateObject)
		a.Kind = r
	case *gate_pb.ClientFrame_DeleteObject:
		r := new(gate_pb.GateFrame_DeleteObject)
		r.DeleteObject, err = d.DeleteObject(ctx, k.DeleteObject)
		a.Kind = r
	case *gate_pb.ClientFrame_ReliableCallObject:
		k.ReliableCallObject.ClientId = id
		r := new(gate_pb.GateFrame_ReliableCallObject)
		r.ReliableCallObject, err = d.ReliableCallObject(ctx, k.ReliableCallObject)
		a.Kind = r
	case *gate_pb.ClientFrame_Settle:
		r := new(gate_pb.GateFrame_Settle)
		r.Settle, err = d.Settle(ctx, k.Settle)
		a.Kind = r
	}
	if err != nil {
		return failed(f.Call, err)
	}
	return a
}

// failed answers a call with what its unary method returns.
func failed(number uint64, err error) *gate_pb.GateFrame {
	return &gate_pb.GateFrame{Call: number, Kind: &gate_pb.GateFrame_Failure{Failure: statusBytes(err)}}
}

// statusBytes is the status that gRPC makes of an error.
func statusBytes(err error) []byte {
	st, ok := status.FromError(err)
	if !ok {
		st = status.FromContextError(err)
	}
	b, wrong := proto.Marshal(st.Proto())
	if wrong != nil { // a method's own status can be anything
		b, _ = proto.Marshal(status.Newf(codes.Internal, "the error cannot be marshalled: %v", wrong).Proto())
	}
	return b
}

// maxAnswer bounds a frame: a message, and what stands around it.
const maxAnswer = maxMessage + 16<<10

// marshal is an answer as it is sent. One that cannot be sent becomes a failure.
func marshal(f *gate_pb.GateFrame) *[]byte {
	b := batch.New()
	var err error
	if *b, err = (proto.MarshalOptions{}).MarshalAppend(*b, f); err == nil && len(*b) > maxAnswer {
		err = fault.New(fault.TooLarge, "the call has ended, but its answer has %d bytes", len(*b)).With(fault.OutcomeUnknown)
	}
	if err == nil {
		return b
	}
	*b, _ = (proto.MarshalOptions{}).MarshalAppend((*b)[:0], failed(f.Call, err))
	return b
}

// requestSize is about how long a request is.
func requestSize(f *gate_pb.ClientFrame) int {
	const around = 64
	request := f.GetCallObject().GetRequest()
	if request == nil {
		request = f.GetReliableCallObject().GetRequest()
	}
	return len(request.GetValue()) + len(request.GetTypeUrl()) + around
}

// rouse sees to it that what waits is sent.
func (c *conversation) rouse() {
	select {
	case c.wake <- struct{}{}:
	default: // it is on its way
	}
}

// write sends until the stream ends.
func (c *conversation) write() {
	stalled := time.AfterFunc(c.door.patient, sync.OnceFunc(func() {
		c.session.Close(errStalled)
		close(c.stuck)
	}))
	defer stalled.Stop()
	greeting := &gate_pb.Welcome{ClientId: c.session.ID(), MaxCalls: uint32(c.door.maxStreamed)}
	b := batch.New()
	*b = appendFrame(*b, &gate_pb.GateFrame{Kind: &gate_pb.GateFrame_Welcome{Welcome: greeting}})
	done, ended := sync.OnceFunc(func() { close(c.done) }), c.session.Done()
	for {
		for ; b != nil; b = c.next() {
			stalled.Reset(c.door.patient)
			if c.stream.SendMsg(b) != nil {
				return // the stream has ended
			}
			stalled.Stop()
			runtime.Gosched() // whoever is about to answer goes along
		}
		if c.isDone() {
			done()
		}
		select {
		case <-c.wake:
		case <-c.session.Ready():
		case <-ended:
			ended = nil
		case <-c.over:
			return
		}
		runtime.Gosched()
		b = c.next()
	}
}

// next is the next batch, or nil.
func (c *conversation) next() *[]byte {
	b := batch.New()
	c.addAnswers(b)
	c.addPushes(b)
	if len(*b) == 0 {
		batch.Free(b)
		return nil
	}
	return b
}

// addAnswers fills half of a batch, so that pushes have their share.
func (c *conversation) addAnswers(b *[]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := 0
	for ; i < len(c.answers) && len(*b) < batch.Full/2; i++ {
		a := c.answers[i]
		*b = batch.AppendFrame(*b, nil, *a.frame)
		batch.Free(a.frame)
		c.answers[i] = answered{}
		if a.of == nil {
			c.refused--
			continue
		}
		delete(c.calls, a.number)
		c.held -= a.of.holds
	}
	if c.answers = c.answers[i:]; len(c.answers) == 0 {
		c.answers = nil // an idle session keeps no buffer
	}
}

// addPushes fills a batch with what is pushed, and after the last of a session with the
// goodbye.
func (c *conversation) addPushes(b *[]byte) {
	if c.parted {
		return
	}
	ended := false
	select {
	case <-c.session.Done():
		ended = true // nothing is added to its outbox any more
	default:
	}
	for len(*b) < batch.Full {
		m, ok := c.session.Next()
		if ok {
			*b = appendFrame(*b, &gate_pb.GateFrame{Kind: &gate_pb.GateFrame_Push{Push: &gate_pb.Push{Message: m.Any}}})
			continue
		}
		if ended {
			c.parted = true
			*b = appendFrame(*b, &gate_pb.GateFrame{Kind: &gate_pb.GateFrame_Goodbye{Goodbye: c.goodbye()}})
		}
		return
	}
}

func (c *conversation) goodbye() *gate_pb.Goodbye {
	if why := c.session.Err(); why != nil {
		return &gate_pb.Goodbye{Status: statusBytes(why)}
	}
	return &gate_pb.Goodbye{}
}

func appendFrame(b []byte, f *gate_pb.GateFrame) []byte {
	frame := marshal(f)
	defer batch.Free(frame)
	return batch.AppendFrame(b, nil, *frame)
}

// isDone says that the session has ended and every call is answered.
func (c *conversation) isDone() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.parted && len(c.calls) == 0 && len(c.answers) == 0
}
