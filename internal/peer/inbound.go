package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc/mem"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// inbound is the serving end of a lane. Each call runs on a goroutine of its own, so
// none of them holds up another, or the reading.
type inbound struct {
	*outbox
	svc      Service
	features uint64          // that both ends have; set before run
	ctx      context.Context // ends with the lane, and with it what runs for the peer
	cancel   context.CancelFunc
	running  sync.WaitGroup // calls
	carriers sync.WaitGroup // what reads and writes the pipe

	// Protected by outbox.mu.
	calls map[uint64]*visit // not answered yet
	held  int               // bytes of their bodies
	parts partials
}

func newInbound(ctx context.Context, svc Service, p pipe, l limits) *inbound {
	in := &inbound{outbox: newOutbox(p, l), svc: svc, calls: map[uint64]*visit{}, parts: partials{limit: l.parts}}
	in.ctx, in.cancel = context.WithCancel(ctx)
	return in
}

// run serves the peer until it has hung up and has every answer: nil; or until the lane
// breaks, and says why. Then the pipe is to be hung up: carriers, which read and write it,
// end by that, and what is running for the peer by its context.
func (l *inbound) run() error {
	l.carriers.Go(func() { l.fail(l.outbox.run()) })
	l.carriers.Go(func() {
		if err := l.listen(); !errors.Is(err, io.EOF) {
			l.fail(err)
			return
		}
		l.running.Wait()
		l.mu.Lock()
		defer l.mu.Unlock()
		l.finishLocked()
	})
	<-l.over
	if err := l.end(); !errors.Is(err, errSent) {
		return err
	}
	return nil
}

// errSent is the good end: the last answer is sent.
var errSent = errors.New("the lane has done its work")

// fail ends the lane, and the contexts of what runs for the peer; nil: in good order.
func (l *inbound) fail(err error) {
	if err == nil {
		err = errSent
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failLocked(err)
	l.cancel()
}

// leave tells the peer to make no new calls.
func (l *inbound) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forceLocked(kindGoodbye, 0, nil)
}

// listen takes what the peer sends, until it sends no more.
func (l *inbound) listen() error {
	var came arrivals
	for {
		batch, err := l.pipe.receive()
		if err != nil {
			return err
		}
		err = l.hear(batch, &came)
		batch.Free()
		for _, v := range came.canceled {
			v.End()
		}
		for _, v := range came.calls {
			go v.run()
		}
		if err == nil {
			err = l.refuse(came.refused)
		} else {
			err = breach{err}
		}
		if err == nil {
			err = l.end()
		}
		if err != nil {
			return err
		}
		came.reset() // it would hold them until the next batch
	}
}

// arrivals is what one batch brought.
type arrivals struct {
	calls, canceled []*visit
	refused         []uint64
}

func (a *arrivals) reset() {
	clear(a.calls)
	clear(a.canceled)
	a.calls, a.canceled, a.refused = a.calls[:0], a.canceled[:0], a.refused[:0]
}

func (l *inbound) hear(batch mem.Buffer, came *arrivals) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for rest := batch.ReadOnlyData(); len(rest) > 0; {
		var f frame
		var err error
		if f, rest, err = cutFrame(rest); err != nil {
			return err
		}
		v := l.calls[f.id]
		switch {
		case f.kind == kindVoid:
		case f.kind == kindCancel && v != nil:
			came.canceled = append(came.canceled, v)
		case f.kind == kindCancel: // answered meanwhile, or not even here
			l.parts.drop(f.id)
		case f.kind != kindCall && f.kind != kindPart:
			return fmt.Errorf("a frame of kind %d from the side that calls", f.kind)
		case v != nil:
			return fmt.Errorf("call %d came twice", f.id)
		case f.kind == kindPart:
			if err := l.parts.add(f.id, f.body); err != nil {
				return err
			}
		default:
			l.admitLocked(f, batch, came)
		}
	}
	return nil
}

// admitLocked lets a call in, or sends it away when too many are here.
func (l *inbound) admitLocked(f frame, batch mem.Buffer, came *arrivals) {
	body, view := l.parts.body(f, batch)
	if len(l.calls) >= l.limits.running || len(l.calls) > 0 && l.held+len(body) > l.limits.held {
		if view != nil {
			view.Free()
		}
		came.refused = append(came.refused, f.id)
		return
	}
	v := &visit{lane: l, id: f.id, body: body, batch: view, size: len(body)}
	l.calls[f.id] = v
	l.held += v.size
	l.running.Add(1)
	came.calls = append(came.calls, v)
}

// refuse answers calls that did not come in. It waits for room, and so does the peer.
func (l *inbound) refuse(ids []uint64) error {
	for _, id := range ids {
		e := fault.New(fault.Overloaded, "%d calls of one peer are here already", l.limits.running)
		e.RetryAfter = 100 * time.Millisecond
		if err := l.reply(id, appendReply(nil, object.Payload{}, e)); err != nil {
			return err
		}
	}
	return nil
}

// reply sends an answer as soon as there is room, or says why the lane has ended. A
// body that is longer than maxBody is the lane's.
func (l *inbound) reply(id uint64, body []byte) error {
	for {
		l.mu.Lock()
		if l.err != nil {
			l.mu.Unlock()
			return l.end()
		}
		if l.replyLocked(id, body) {
			l.mu.Unlock()
			return nil
		}
		if err := l.awaitLocked(l.ctx); err != nil && !errors.Is(err, errStuck) {
			return err
		}
	}
}

func (l *inbound) replyLocked(id uint64, body []byte) (ok bool) {
	if len(body) > maxBody {
		_, ok = l.shipLocked(kindReply, id, body)
	} else {
		_, ok = l.putLocked(kindReply, id, body)
	}
	if v := l.calls[id]; ok && v != nil {
		delete(l.calls, id)
		l.held -= v.size
	}
	return ok
}
