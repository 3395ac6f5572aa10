package gateserver

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/internal/batch"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
)

// unsent is the long messages of one gRPC connection that its client has not taken yet.
// gRPC keeps them for as long as the connection lives, also behind the end of their calls,
// where the client opens no window for them; and it ends no stream alone. So a client that
// takes too little of them loses the connection, and calls that may have long answers wait
// until there is room. All methods may be called concurrently.
type unsent struct {
	each time.Duration // how often somebody looks
	rate int           // bytes per second that a client takes at least
	cut  func()        // ends the connection; called once
	all  *portion      // the same bytes, as the gate counts them; nil: it does not

	mu       sync.Mutex // protects following fields
	bytes    int
	foreseen int // of answers that calls under way may have
	got      int // bytes that were taken since somebody looked
	looks    *time.Timer
	over     bool
	room     chan struct{} // closed when there is less of both; nil while nobody waits
}

// maxUnsent is how many bytes of long messages wait on a connection, or are foreseen, when
// no more calls with long answers begin.
const maxUnsent = 32 << 20

// kept is a batch.Watched's.
func (u *unsent) kept(n int) {
	if u.all != nil {
		u.all.holds(n)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.bytes == 0 {
		u.watchLocked()
	}
	if u.bytes += n; n < 0 {
		u.got -= n
		u.makeRoomLocked()
	}
	if u.bytes == 0 && u.looks != nil { // nobody looks at one that ended before
		u.looks.Stop()
	}
}

func (u *unsent) watchLocked() {
	switch u.got = 0; {
	case u.over:
	case u.looks == nil:
		u.looks = time.AfterFunc(u.each, u.look)
	default:
		u.looks.Reset(u.each)
	}
}

// look ends a connection whose client takes too little.
func (u *unsent) look() {
	if u.tooSlow() {
		u.cut()
	}
}

// giveUp ends it because others wait for the room that it takes.
func (u *unsent) giveUp() {
	u.mu.Lock()
	first := !u.over
	u.over = true
	u.mu.Unlock()
	if first {
		u.cut()
	}
}

func (u *unsent) tooSlow() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.over || u.bytes == 0 {
		return false
	}
	if float64(u.got) >= u.each.Seconds()*float64(u.rate) {
		u.watchLocked()
		return false
	}
	u.over = true
	return true
}

// end is called when the connection ends.
func (u *unsent) end() {
	if u.all != nil {
		u.all.release()
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.over = true
	if u.looks != nil {
		u.looks.Stop()
	}
	u.makeRoomLocked()
}

func (u *unsent) makeRoomLocked() {
	if u.room != nil {
		close(u.room)
		u.room = nil
	}
}

// begin waits until an answer of so many bytes has room, which it keeps until done.
func (u *unsent) begin(ctx context.Context, expects int) (done func(), err error) {
	for {
		room := u.roomFor(expects)
		if room == nil {
			return func() { u.done(expects) }, nil
		}
		select {
		case <-room:
		case <-ctx.Done():
			return nil, fault.Waited(ctx, "the client has %d MiB of answers on this connection to read first", maxUnsent>>20)
		}
	}
}

// roomFor is nil if there is room, else it is closed when there may be. An answer that is
// alone always has it.
func (u *unsent) roomFor(expects int) <-chan struct{} {
	u.mu.Lock()
	defer u.mu.Unlock()
	if due := u.bytes + u.foreseen; due == 0 || due+expects <= maxUnsent || u.over {
		u.foreseen += expects
		return nil
	}
	if u.room == nil {
		u.room = make(chan struct{})
	}
	return u.room
}

func (u *unsent) done(expects int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.foreseen -= expects
	u.makeRoomLocked()
}

// unsentOf is that of the connection which ctx's request came by, or nil.
func unsentOf(ctx context.Context) *unsent {
	if a := askerOf(ctx); a != nil {
		return a.unsent
	}
	return nil
}

// answerUnary has the answers of unary calls counted.
func (c *calls) answerUnary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	u := unsentOf(ctx)
	if u == nil {
		return handler(ctx, req)
	}
	m := unaryMethodOf(req)
	if expects := c.sizes.expect(m); expects > 0 {
		within, cancel := c.deadline(ctx, 0)
		defer cancel()
		done, err := u.begin(within, expects)
		if err != nil {
			c.visitors.tell(event.SlowReaders)
			return nil, fault.Of(err).On("CallObject", m.typ+"."+m.method)
		}
		defer done()
	}
	p := c.untaken.portionOf(askerOf(ctx), func() {}) // what is kept is the connection's
	defer p.done()
	answer, err := handler(withPortion(ctx, p), req)
	if err != nil {
		return nil, err
	}
	size := answerBytes(answer)
	c.sizes.note(m, size)
	if size < longAnswer {
		return answer, nil
	}
	if err := p.keep(size); err != nil {
		return nil, fault.Of(err).On("CallObject", m.typ+"."+m.method)
	}
	return &batch.Watched{Message: answer, Kept: u.kept}, nil
}

// unaryMethodOf is methodOf for a call of its own.
func unaryMethodOf(req any) methodName {
	switch r := req.(type) {
	case *gate_pb.CallObjectRequest:
		return methodName{r.Type, r.Method}
	case *gate_pb.ReliableCallObjectRequest:
		return methodName{r.Type, r.Method}
	}
	return methodName{}
}

func answerBytes(answer any) int {
	switch a := answer.(type) {
	case *gate_pb.CallObjectResponse:
		return len(a.GetResponse().GetValue())
	case *gate_pb.ReliableCallObjectResponse:
		return len(a.GetResponse().GetValue())
	}
	return 0
}

// answerStream has the messages of a stream counted that are batch.Watched.
func (c *calls) answerStream(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if u := unsentOf(s.Context()); u != nil {
		s = &countedStream{s, u}
	}
	return handler(srv, s)
}

type countedStream struct {
	grpc.ServerStream
	unsent *unsent
}

func (s *countedStream) SendMsg(m any) error {
	if w, ok := m.(*batch.Watched); ok {
		w.Kept = s.unsent.kept
	}
	return s.ServerStream.SendMsg(m)
}
