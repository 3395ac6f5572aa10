package peer

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/internal/fault"
	goverse_pb "github.com/xiaonanln/goverse/proto"
)

// afloat is how many frames may be on their way; a sender waits beyond that.
const afloat = 64

// parcel is a frame on its way.
type parcel struct {
	frame []byte
	due   time.Time
}

// pushStream is one stream of pushes: frames flow from the node to the gate, and
// the error of the node's ServePushes after them.
type pushStream struct {
	frames chan parcel
	ended  chan error // the node's last word
}

func (c *memConn) ServePushes(ctx context.Context, h Hearing, ready func(Opening), deliver func(PushFrame) error) error {
	ctx, cancel := c.attached(ctx)
	defer cancel()
	l, err := c.connect(ctx)
	if err != nil {
		return err
	}
	if err := c.reach(ctx, l); err != nil {
		return c.broke(ctx, err)
	}
	s := c.open(ctx, l, h)
	for first := true; ; first = false {
		frame, err := c.next(ctx, s, l)
		switch {
		case err != nil:
			return c.broke(ctx, err)
		case frame == nil:
			return <-s.ended
		case first:
			ready(decodeOpening(frame))
			continue
		}
		if err := deliver(decodePush(frame)); err != nil {
			return fault.Of(err)
		}
	}
}

// open runs the node's end of the stream until the gate's end or the node's.
func (c *memConn) open(caller context.Context, l *listener, h Hearing) *pushStream {
	s := &pushStream{frames: make(chan parcel, afloat), ended: make(chan error, 1)}
	ctx, cancel := context.WithCancel(l.ctx)
	unlink := context.AfterFunc(caller, func() {
		_ = c.n.await(ctx, givenUpAfter, c.out)
		cancel()
	})
	go func() {
		defer cancel()
		err := l.svc.ServePushes(ctx, h,
			func(o Opening) { _ = s.send(ctx, c.n.latency(), encodeOpening(o)) }, // the next deliver says the same
			func(f PushFrame) error { return s.push(ctx, c.n.latency(), f) })
		unlink()
		if err != nil {
			err = fault.FromWire(encodeFault(err))
		}
		s.ended <- err
		close(s.frames)
	}()
	return s
}

func (s *pushStream) push(ctx context.Context, delay time.Duration, f PushFrame) error {
	frames, err := encodePush(f)
	if err != nil {
		return err
	}
	for _, frame := range frames {
		if err := s.send(ctx, delay, frame); err != nil {
			return err
		}
	}
	return nil
}

func (s *pushStream) send(ctx context.Context, delay time.Duration, m *goverse_pb.PushFrame) error {
	if ctx.Err() != nil {
		return fault.New(fault.Indeterminate, "the gate is gone")
	}
	frame, err := proto.Marshal(m)
	if err != nil {
		return fault.New(fault.Invalid, "the push cannot be marshalled: %w", err)
	}
	select {
	case s.frames <- parcel{frame: frame, due: time.Now().Add(delay)}:
		return nil
	case <-ctx.Done():
		return fault.New(fault.Indeterminate, "the gate is gone")
	}
}

// next is the next frame to arrive; nil when the node has ended the stream.
func (c *memConn) next(ctx context.Context, s *pushStream, l *listener) (*goverse_pb.PushFrame, error) {
	w := c.watch()
	defer w.stop()
	for {
		gone := w.look(l)
		select {
		case p, more := <-s.frames:
			switch {
			case more:
				return c.arrive(ctx, p)
			case ctx.Err() != nil: // our end was the first
				return nil, context.Cause(ctx)
			case l.ctx.Err() != nil:
				return nil, errGone
			}
			return nil, nil
		case <-gone:
			return nil, errGone
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-w.silent:
			return nil, errSilent
		case <-w.changed:
		}
	}
}

// arrive waits until p is there.
func (c *memConn) arrive(ctx context.Context, p parcel) (*goverse_pb.PushFrame, error) {
	if left := time.Until(p.due); left > 0 {
		select {
		case <-time.After(left):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	if err := c.n.await(ctx, givenUpAfter, c.back); err != nil {
		return nil, err
	}
	m := new(goverse_pb.PushFrame)
	if err := proto.Unmarshal(p.frame, m); err != nil {
		return nil, fault.New(fault.Indeterminate, "a push does not survive the wire: %w", err)
	}
	return m, nil
}
