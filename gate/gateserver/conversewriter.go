package gateserver

import (
	"math"
	"runtime"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/gate"
	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/internal/batch"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// rouse sees to it that what waits is sent.
func (c *conversation) rouse() {
	select {
	case c.wake <- struct{}{}:
	default: // it is on its way
	}
}

// write sends until the stream ends.
func (c *conversation) write() {
	stuck := sync.OnceFunc(func() { close(c.stuck) }) // a client may stall again while the stream ends
	stalled := newStall(c.door.patient, func() {
		c.door.calls.reached(event.SlowReaders, object.Ref{})
		c.session.Disconnect(errStalled)
		stuck()
	})
	defer stalled.done()
	message := &batch.Watched{Taken: stalled.taken}
	greeting := &gate_pb.Welcome{
		ClientId: c.session.ID(), MaxCalls: uint32(min(c.most, math.MaxInt32)), UnixMillis: time.Now().UnixMilli(),
		Token: c.session.Token(), Resumed: c.session.Resumed(), ResumeMillis: c.session.Window().Milliseconds(),
		Subscriptions: true,
	}
	b := batch.New()
	*b = appendFrame(*b, &gate_pb.GateFrame{Kind: &gate_pb.GateFrame_Welcome{Welcome: greeting}})
	done, ended := sync.OnceFunc(func() { close(c.done) }), c.session.Done()
	for {
		for ; b != nil; b = c.next() {
			message.Message = b
			stalled.begin()
			if c.stream.SendMsg(message) != nil {
				return // the stream has ended
			}
			stalled.done()
			runtime.Gosched() // whoever is about to answer goes along
		}
		if c.isDone() {
			done()
		}
		select {
		case <-c.wake:
		case <-c.session.Ready():
		case <-c.subs.Ready():
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
	c.addPublished(b, batch.Full)
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
		size := len(*a.frame)
		batch.Free(a.frame)
		c.answers[i] = answered{}
		if a.of == nil {
			c.refused--
			continue
		}
		delete(c.calls, a.number)
		c.held -= a.of.holds
		c.sentLocked(size)
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
			*b = appendFrame(*b, pushed(m))
			continue
		}
		if ended {
			c.parted = true
			*b = appendFrame(*b, &gate_pb.GateFrame{Kind: &gate_pb.GateFrame_Goodbye{Goodbye: c.goodbye()}})
		}
		return
	}
}

// pushed is a message of the session, or the word that some are lost.
func pushed(m gate.Message) *gate_pb.GateFrame {
	if r := m.Reset; r != nil {
		return &gate_pb.GateFrame{Kind: &gate_pb.GateFrame_Reset_{Reset_: &gate_pb.Reset{From: r.From, To: r.To, Reason: r.Reason}}}
	}
	return &gate_pb.GateFrame{Kind: &gate_pb.GateFrame_Push{Push: &gate_pb.Push{Message: m.Any, Seq: m.Seq}}}
}

func (c *conversation) goodbye() *gate_pb.Goodbye {
	if why := c.session.Err(); why != nil {
		g := &gate_pb.Goodbye{Status: statusBytes(why)}
		if fault.KindOf(why) == fault.NotReady {
			g.Gates = c.door.calls.otherGates(false)
		}
		return g
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
