package gateserver

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/xiaonanln/goverse/gate"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/stack"
	"github.com/xiaonanln/goverse/object"
)

// Limits of one WebSocket.
const (
	maxSocketCalls = 256      // under way at once
	busySocket     = 16 << 20 // bytes of its requests and replies in memory: no new call is taken
	fullSocket     = 64 << 20 // the same: the socket is closed
)

// socketDoor carries calls and pushes on one connection.
type socketDoor struct {
	calls     *calls
	life      context.Context // ends what is still connected when a stop runs out of patience
	heartbeat time.Duration
	patient   time.Duration
}

// serve upgrades a request, whose origin the guard has checked, and lives as long as
// the connection.
func (d *socketDoor) serve(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return // Accept has answered
	}
	cut := func() { _ = connOf(r).Close() } // it may be closed already
	defer context.AfterFunc(d.life, cut)()
	defer conn.CloseNow()
	conn.SetReadLimit(-1) // socket.receive bounds messages and can still say why
	life := asStream(stay(d.life, r.Context()), r.Context())
	var session *gate.Session
	var back *comeback
	if r.URL.Query().Get("hello") == "1" {
		back, err = d.hello(life, conn)
	}
	if err == nil {
		session, err = d.calls.session(life, event.AtWebSocket, back)
	}
	if err != nil {
		defer time.AfterFunc(lastWords, cut).Stop()
		if back != nil && fault.KindOf(err) != fault.NotReady { // that one the closing code says
			_ = conn.Write(life, websocket.MessageText, refusalFrame(err)) // it ends with the timer
		}
		_ = conn.Close(closeCode(err), closeReason(err)) // the other end may be gone already
		return
	}
	life = over(life, session)
	s := &socket{door: d, conn: conn, wire: connOf(r), cut: cut, session: session, replies: make(chan answer, maxSocketCalls), subs: d.calls.feeds.Open(life, session.ID(), true)}
	s.run(life)
}

// socket is one connection. run's goroutine reads; one writes; one pings; each call
// has its own.
type socket struct {
	door    *socketDoor
	conn    *websocket.Conn
	cut     func() // ends the connection at once, whoever uses it
	session *gate.Session
	subs    *gate.Subscriber
	wire    net.Conn // below conn
	stalled *stall

	replies chan answer
	heard   tally        // what the client has sent
	running atomic.Int64 // calls whose reply is not yet with the client
	held    atomic.Int64 // bytes of their requests and replies
	calls   sync.WaitGroup
}

// answer is a reply on its way to the writer, and what its call held.
type answer struct {
	frame []byte
	call  bool  // it ends a running call
	holds int64 // bytes
}

func (s *socket) run(life context.Context) {
	ctx, cancel := context.WithCancel(life)
	s.stalled = newStall(s.door.patient, func() {
		s.door.calls.reached(event.SlowReaders, object.Ref{})
		s.session.Disconnect(errStalled) // first: the end of ctx closes the connection, and the reader would say why
		cancel()
	})
	watch(s.wire, s.stalled.taken)
	var parts sync.WaitGroup
	parts.Go(func() { defer cancel(); s.write(ctx) })
	parts.Go(func() { defer cancel(); s.ping(ctx) })
	s.read(ctx)
	s.session.Disconnect(nil)
	cancel() // a client that has vanished cancels its calls
	s.subs.Leave(s.session.Awaits())
	s.calls.Wait()
	parts.Wait()
}

// read takes frames until the connection ends. After the session's end it only
// reads on, so that the closing words reach the client.
func (s *socket) read(ctx context.Context) {
	for {
		kind, r, err := s.conn.Reader(ctx)
		if err != nil {
			if websocket.CloseStatus(err) == websocket.StatusNormalClosure {
				s.session.Close(nil) // it leaves for good
			}
			return
		}
		data, err := s.receive(kind, r)
		if err != nil {
			return
		}
		if data != nil && !s.acknowledge(data) {
			s.take(ctx, data)
		}
	}
}

// receive reads one message whole. One that is not acceptable ends the session and
// is nil.
func (s *socket) receive(kind websocket.MessageType, r io.Reader) ([]byte, error) {
	late := time.AfterFunc(s.door.calls.visitors.bodyTime(), s.cut) // as for a body over HTTP
	defer late.Stop()
	r = io.TeeReader(r, &s.heard)
	data, err := io.ReadAll(io.LimitReader(r, maxMessage+1))
	switch {
	case err != nil:
		return nil, err
	case len(data) > maxMessage:
		// Its rest is taken off the wire first, or the reason would be lost in a reset.
		_, err = io.CopyN(io.Discard, r, 15*maxMessage)
		s.session.Close(&farewell{websocket.StatusMessageTooBig, "a message of more than 4 MiB"})
		if err == io.EOF {
			err = nil
		}
		return nil, err
	case kind != websocket.MessageText:
		s.session.Close(&farewell{websocket.StatusUnsupportedData, "a binary message; send JSON as text"})
		return nil, nil
	}
	return data, nil
}

// tally counts the bytes that a client sends.
type tally struct{ atomic.Int64 }

func (t *tally) Write(b []byte) (int, error) {
	t.Add(int64(len(b)))
	return len(b), nil
}

// take starts the call of a frame, or answers why not.
func (s *socket) take(ctx context.Context, data []byte) {
	if s.takeSubscription(ctx, data) {
		return
	}
	var f askFrame
	seq, call, err := f.decode(data)
	switch {
	case s.session.Err() != nil:
		err = s.session.Err()
	case err != nil && seq < 0:
		s.session.Close(&farewell{websocket.StatusPolicyViolation, err.Error()})
	case err == nil:
		err = s.admit(len(data))
	}
	if err == nil {
		ctx := s.door.calls.tracer.within(ctx, f.TraceParent, f.TraceState)
		s.calls.Go(func() { s.call(ctx, seq, call, int64(len(data))) })
	} else if seq >= 0 {
		s.answer(ctx, answer{frame: errorFrame(seq, told{}, err, call.Op)})
	}
}

// admit counts a call in, unless the socket has as many as it may.
func (s *socket) admit(size int) error {
	if s.running.Load() >= maxSocketCalls {
		s.door.calls.reached(event.SessionCalls, object.Ref{})
		return fault.New(fault.Overloaded, "this connection has %d calls under way; wait for a reply before the next", maxSocketCalls)
	}
	if held := s.held.Load(); held > busySocket {
		s.door.calls.reached(event.SessionCalls, object.Ref{})
		return fault.New(fault.Overloaded, "this connection has %d bytes of requests and replies under way; read the replies first", held)
	}
	s.running.Add(1)
	s.held.Add(int64(size))
	return nil
}

func (s *socket) call(ctx context.Context, seq int64, call object.Call, asked int64) {
	stack.Stretch()
	reply, err := s.door.calls.do(ctx, s.session.ID(), call)
	a := answer{call: true, holds: asked}
	t := toldOf(&call, reply, err)
	switch {
	case call.Op == object.OpSettle && fault.KindOf(err) == fault.CallSettled:
		a.frame = replyFrame(seq, t, nil)
	case err != nil:
		a.frame = errorFrame(seq, t, err, call.Op)
	case call.Op == object.OpCreate:
		a.frame = replyFrame(seq, told{}, createdJSON(call.Ref.ID))
	default:
		a.frame = replyFrame(seq, t, reply.JSON)
	}
	a.holds += int64(len(a.frame))
	if s.held.Add(int64(len(a.frame))) > fullSocket {
		s.session.Disconnect(errStalled)
	}
	s.answer(ctx, a)
}

// answer hands a to the writer. For the reply of a call there is always room.
func (s *socket) answer(ctx context.Context, a answer) {
	select {
	case s.replies <- a:
	case <-ctx.Done():
	}
}

// write is the one writer: replies, pushes, heartbeats, and the closing words.
func (s *socket) write(ctx context.Context) {
	if s.send(ctx, registerFrame(s.session)) != nil {
		return
	}
	silence := time.NewTicker(s.door.heartbeat)
	defer silence.Stop()
	for {
		var err error
		select {
		case a := <-s.replies:
			silence.Reset(s.door.heartbeat)
			err = s.sendAnswer(ctx, a)
		case <-s.session.Ready():
			silence.Reset(s.door.heartbeat)
			err = s.sendPushes(ctx)
		case <-s.subs.Ready():
			silence.Reset(s.door.heartbeat)
			err = s.sendPublished(ctx)
		case <-silence.C:
			err = s.send(ctx, heartbeatFrame)
		case <-s.session.Done():
			s.sayGoodbye(ctx)
			return
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

func (s *socket) send(ctx context.Context, frame []byte) error {
	s.stalled.begin()
	defer s.stalled.done()
	return s.conn.Write(ctx, websocket.MessageText, frame)
}

func (s *socket) sendAnswer(ctx context.Context, a answer) error {
	err := s.send(ctx, a.frame)
	s.held.Add(-a.holds)
	if a.call {
		s.running.Add(-1)
	}
	return err
}

// sendPushes empties the outbox. Replies do not wait for all of it.
func (s *socket) sendPushes(ctx context.Context) error {
	for m, ok := s.session.Next(); ok; m, ok = s.session.Next() {
		if err := s.sendMessage(ctx, m); err != nil {
			return err
		}
		select {
		case a := <-s.replies:
			if err := s.sendAnswer(ctx, a); err != nil {
				return err
			}
		default:
		}
	}
	return nil
}

func (s *socket) sendMessage(ctx context.Context, m gate.Message) error {
	frame, err := messageFrame(m)
	if err != nil {
		return err
	}
	return s.send(ctx, frame)
}

// sayGoodbye sends what still waits and closes with the reason. When the gate stops,
// the calls under way get a moment to end.
func (s *socket) sayGoodbye(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*lastWords)
	defer cancel()
	if s.sendPushes(ctx) != nil {
		return
	}
	why := s.session.Err()
	if why == nil {
		return // the client closed
	}
	if fault.KindOf(why) == fault.NotReady && s.sendReplies(ctx) != nil {
		return
	}
	if s.session.Token() != "" && s.send(ctx, s.door.calls.goodbyeFrame(s.session)) != nil {
		return
	}
	cut := time.AfterFunc(lastWords, s.cut)
	defer cut.Stop()
	// Its error says only that the other end did not take part.
	_ = s.conn.Close(closeCode(why), closeReason(why))
}

// sendReplies waits for the calls under way, within ctx.
func (s *socket) sendReplies(ctx context.Context) error {
	for s.running.Load() > 0 || len(s.replies) > 0 {
		select {
		case a := <-s.replies:
			if err := s.sendAnswer(ctx, a); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil // they are cancelled; the closing words are still said
		}
	}
	return nil
}

// ping notices a client that has vanished without a word. One that is in the middle
// of a large message cannot answer, but is heard.
func (s *socket) ping(ctx context.Context) {
	beat := time.NewTicker(s.door.heartbeat)
	defer beat.Stop()
	for {
		select {
		case <-beat.C:
		case <-ctx.Done():
			return
		}
		before := s.heard.Load()
		wait, cancel := context.WithTimeout(ctx, s.door.patient)
		err := s.conn.Ping(wait)
		cancel()
		if err != nil && s.heard.Load() == before {
			s.session.Disconnect(errVanished)
			return
		}
	}
}

// farewell ends a session with a close code of its own.
type farewell struct {
	code   websocket.StatusCode
	reason string
}

func (f *farewell) Error() string { return "the client sent " + f.reason }

// statusElsewhere closes a socket whose session was resumed over another one.
const statusElsewhere websocket.StatusCode = 4001

func closeCode(why error) websocket.StatusCode {
	var f *farewell
	switch {
	case errors.As(why, &f):
		return f.code
	case fault.KindOf(why) == fault.NotReady:
		return websocket.StatusGoingAway
	case fault.KindOf(why) == fault.Canceled:
		return statusElsewhere
	case fault.KindOf(why) == fault.Overloaded:
		return websocket.StatusTryAgainLater
	case fault.KindOf(why) == fault.Unauthenticated, fault.KindOf(why) == fault.Forbidden, fault.KindOf(why) == fault.Invalid:
		return websocket.StatusPolicyViolation
	}
	return websocket.StatusInternalError
}

// closeReason is why in the 123 bytes that a close frame has.
func closeReason(why error) string {
	text := why.Error()
	var f *farewell
	if errors.As(why, &f) {
		text = f.reason
	}
	return strings.ToValidUTF8(text[:min(len(text), 123)], "")
}
