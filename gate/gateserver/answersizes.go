package gateserver

import (
	"sync"
	"sync/atomic"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/internal/batch"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// answerSizes knows which methods have given long answers, so that a stream starts no more
// of their calls at once than it may hold answers. The first long answers of a method are
// not foreseen. It may be used concurrently; while no method gives long answers it costs
// one look at a number.
type answerSizes struct {
	known atomic.Int32 // len(of)

	mu sync.Mutex // protects following fields
	of map[methodName]int
}

type methodName struct{ typ, method string }

const (
	longAnswer = 64 << 10 // bytes; shorter ones are not worth a thought
	maxKnown   = 4096     // methods; beyond, any one is forgotten
)

// expect is about how long the answer of a method may be; 0: not long.
func (s *answerSizes) expect(m methodName) int {
	if s.known.Load() == 0 {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.of[m]
}

// note learns from an answer of size bytes. What a method once did is forgotten in the
// course of some thousand short answers.
func (s *answerSizes) note(m methodName, size int) {
	if size <= longAnswer && s.known.Load() == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.of[m]
	size = max(size, old-old/1024)
	if size <= longAnswer {
		delete(s.of, m)
		s.known.Store(int32(len(s.of)))
		return
	}
	if s.of == nil {
		s.of = map[methodName]int{}
	}
	if old == 0 && len(s.of) >= maxKnown {
		for other := range s.of {
			delete(s.of, other)
			break
		}
	}
	s.of[m] = size
	s.known.Store(int32(len(s.of)))
}

// methodOf is what a client's frame calls; of create, delete and settle nothing.
func methodOf(f *gate_pb.ClientFrame) methodName {
	switch k := f.Kind.(type) {
	case *gate_pb.ClientFrame_CallObject:
		return methodName{k.CallObject.GetType(), k.CallObject.GetMethod()}
	case *gate_pb.ClientFrame_ReliableCallObject:
		return methodName{k.ReliableCallObject.GetType(), k.ReliableCallObject.GetMethod()}
	}
	return methodName{}
}

// maxAnswers is how many bytes of answers of one stream wait to be sent, or are foreseen
// of calls that run, before no more calls are read or started. What runs is answered in
// any case.
const maxAnswers = 16 << 20

// fullStream is how many bytes of answers of one stream wait at most. What calls answer on
// top of it, that ran before anybody knew how long their answers are, is not kept.
const fullStream = 64 << 20

// boundLocked is the answer of a call, or where there is no room the word that it is lost.
func (c *conversation) boundLocked(number uint64, frame *[]byte) *[]byte {
	if len(*frame) <= longAnswer || c.waiting+len(*frame) <= fullStream {
		return frame
	}
	c.door.calls.reached(event.SessionCalls, object.Ref{})
	size := len(*frame)
	batch.Free(frame)
	return marshal(failed(number, fault.New(fault.TooLarge, "the call has ended, but its answer of %d bytes is not kept: %d bytes of answers wait for the client to read them", size, c.waiting).
		With(fault.OutcomeUnknown)))
}

// hold waits with the reading of calls while very much waits to be taken by the client.
func (c *conversation) hold() {
	for {
		room := c.roomFor(nil)
		if room == nil {
			return
		}
		select {
		case <-room:
		case <-c.session.Done():
			return
		case <-c.over:
			return
		}
	}
}

// begin waits until the answer of q has room, or nobody waits for it any more.
func (c *conversation) begin(q *question, done <-chan struct{}) {
	for {
		room := c.roomFor(q)
		if room == nil {
			return
		}
		select {
		case <-room:
		case <-done:
			return
		}
	}
}

// roomFor is nil if there is room for the answer of q, which is reserved then; of nil, for
// anything at all. Else it is closed when there may be.
func (c *conversation) roomFor(q *question) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	due := c.waiting
	if q != nil {
		due += c.foreseen
	}
	if due == 0 || q == nil && due <= maxAnswers || q != nil && due+q.expects <= maxAnswers {
		if q != nil {
			c.foreseen += q.expects
			q.reserved = true
		}
		return nil
	}
	if c.room == nil {
		c.room = make(chan struct{})
	}
	return c.room
}

// answerLocked counts an answer that waits from now on.
func (c *conversation) answerLocked(q *question, size int) {
	c.waiting += size
	if q.reserved {
		c.foreseen -= q.expects
		if size < q.expects {
			c.makeRoomLocked()
		}
	}
}

// sentLocked counts an answer that waits no longer.
func (c *conversation) sentLocked(size int) {
	c.waiting -= size
	c.makeRoomLocked()
}

func (c *conversation) makeRoomLocked() {
	if c.room != nil {
		close(c.room)
		c.room = nil
	}
}
