package gateserver

import (
	"context"
	"errors"
	"io"
	"math"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/xiaonanln/goverse/gate"
	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/stack"
	"github.com/xiaonanln/goverse/object"
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
	defer func() { c.session.Disconnect(nil); c.subs.Leave(c.session.Awaits()) }()
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
	most    int // calls under way, as the client is told
	stream  converseStream
	ctx     context.Context  // of the calls; set when open is closed
	session *gate.Session    // set when open is closed
	subs    *gate.Subscriber // likewise
	back    *comeback        // what the client's greeting says of a session that may be resumed; before greeted
	greeted chan error       // what became of the client's greeting
	open    chan struct{}    // closed when calls may be read
	heard   chan error       // why nothing more is read; io.EOF: the client has nothing more to say
	wake    chan struct{}    // has a token when there may be an answer to send
	stuck   chan struct{}    // closed when the client does not take what is sent
	done    chan struct{}    // closed when goodbye is said and everything answered
	over    chan struct{}    // closed when the stream ends
	running sync.WaitGroup
	parted  bool            // goodbye is said; the writer's
	taken   *gate.Published // to be sent behind answers that came meanwhile; the writer's

	mu       sync.Mutex           // protects following fields
	calls    map[uint64]*question // not answered, or the answer is not sent yet
	held     int                  // bytes of them
	answers  []answered           // to be sent, in order
	refused  int                  // of these, to calls that were not let in
	waiting  int                  // bytes of answers
	foreseen int                  // bytes of answers that calls under way may have
	room     chan struct{}        // closed when less of both is there; nil while nobody waits
}

// question is a call while it is here.
type question struct {
	cancel   context.CancelFunc
	holds    int    // bytes
	expects  int    // bytes of the answer, if it may be long
	reserved bool   // expects is counted in foreseen
	then     func() // once the answer is on its way; may be nil
}

// answered is an answer on its way to the writer.
type answered struct {
	number uint64
	frame  *[]byte
	of     *question // nil: it was not let in
}

func newConversation(d *grpcDoor, stream converseStream) *conversation {
	return &conversation{
		door: d, most: d.calls.visitors.now().clientCalls, stream: stream, ctx: asStream(stream.Context(), stream.Context()), greeted: make(chan error, 1), open: make(chan struct{}), heard: make(chan error, 1),
		wake: make(chan struct{}, 1), stuck: make(chan struct{}), done: make(chan struct{}), over: make(chan struct{}),
		calls: map[uint64]*question{},
	}
}

// hush is how long a client may leave its stream without a greeting.
const hush = 10 * time.Second

// welcome hears the client's greeting, and opens the session.
func (c *conversation) welcome() error {
	late, cancel := context.WithTimeout(c.stream.Context(), hush)
	defer cancel()
	select {
	case err := <-c.greeted:
		if err != nil {
			return err
		}
	case <-late.Done():
		if err := c.stream.Context().Err(); err != nil {
			return err
		}
		return breach("the client says nothing; its first frame is a hello")
	}
	var err error
	if c.session, err = c.door.calls.session(c.stream.Context(), event.AtGRPC, c.back); err == nil {
		c.ctx = over(c.ctx, c.session)
		c.subs = c.door.calls.feeds.Open(over(c.stream.Context(), c.session), c.session.ID(), false)
	}
	return err
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
	moment, cancel := context.WithTimeout(c.stream.Context(), lastWords)
	defer cancel()
	select {
	case <-c.heard:
	case <-moment.Done():
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
	if h := b.Frames[0].GetHello(); h.Resumable {
		c.back = &comeback{token: h.Token, last: h.Last}
	}
	return nil
}

func (c *conversation) hear(frames []*gate_pb.ClientFrame) error {
	if len(frames) > maxFrames {
		c.door.calls.reached(event.SessionCalls, object.Ref{})
		return overloaded("a batch of the client has more than %d frames", maxFrames).On("Converse", "")
	}
	for _, f := range frames {
		var err error
		switch f.Kind.(type) {
		case *gate_pb.ClientFrame_Cancel:
			c.cancel(f.Call)
		case *gate_pb.ClientFrame_Hello:
			err = breach("the client greets twice")
		case *gate_pb.ClientFrame_Ack:
			err = c.session.Ack(f.GetAck().GetSeq())
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
	c.hold()
	q := &question{holds: requestSize(f), expects: c.door.calls.sizes.expect(methodOf(f))}
	refusal, err := c.admit(f.Call, q)
	if err != nil {
		return err
	}
	if refusal != nil {
		return c.refuse(f.Call, refusal)
	}
	ctx := c.ctx
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
	case len(c.calls) >= c.most:
		c.door.calls.reached(event.SessionCalls, object.Ref{})
		return overloaded("this stream has %d calls under way; wait for an answer before the next", c.most), nil
	case len(c.calls) > 0 && c.held+q.holds > busyStream:
		c.door.calls.reached(event.SessionCalls, object.Ref{})
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
	if c.refused++; c.refused > c.most {
		return overloaded("the client makes calls that it may not make, and does not read that it may not").On("Converse", "")
	}
	c.answers = append(c.answers, answered{number: number, frame: frame})
	c.rouse()
	return nil
}

// run makes the call and answers it.
func (c *conversation) run(ctx context.Context, q *question, f *gate_pb.ClientFrame) {
	stack.Stretch()
	defer c.running.Done()
	defer q.cancel()
	if q.expects > 0 {
		c.begin(q, ctx.Done())
	}
	frame := marshal(c.ask(ctx, q, f))
	c.door.calls.sizes.note(methodOf(f), len(*frame))
	c.mu.Lock()
	defer c.mu.Unlock()
	frame = c.boundLocked(f.Call, frame)
	c.answerLocked(q, len(*frame))
	q.holds += len(*frame)
	c.held += len(*frame)
	c.answers = append(c.answers, answered{number: f.Call, frame: frame, of: q})
	if q.then != nil {
		q.then()
	}
	c.rouse()
}

// ask makes the call as the unary methods do.
func (c *conversation) ask(ctx context.Context, q *question, f *gate_pb.ClientFrame) *gate_pb.GateFrame {
	d, id := c.door, c.session.ID()
	ctx = d.calls.tracer.within(ctx, f.Traceparent, f.Tracestate)
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
	case *gate_pb.ClientFrame_Subscribe:
		r := new(gate_pb.GateFrame_Subscribed)
		r.Subscribed, err = c.subscribe(ctx, q, k.Subscribe)
		a.Kind = r
	case *gate_pb.ClientFrame_Unsubscribe:
		a.Kind = &gate_pb.GateFrame_Unsubscribed{Unsubscribed: new(gate_pb.UnsubscribeResponse)}
		err = c.subs.Unsubscribe(k.Unsubscribe.GetSubscription())
	}
	if err != nil {
		return failed(f.Call, err)
	}
	return a
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
