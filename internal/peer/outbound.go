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

// outbound is the calling end of a lane. Its callers hand it calls concurrently; run
// hands them their answers.
type outbound struct {
	*outbox
	address  string
	features uint64    // that both ends have; set before run
	idle     sync.Pool // of waiters

	// Protected by outbox.mu.
	next    uint64
	waiting map[uint64]*waiter // nil: its answer comes, and nobody waits for it any more
	parts   partials
	retired bool // no new calls
}

// waiter is a caller and its call on its way.
type waiter struct {
	answered chan struct{} // gets one token: what follows is set
	body     []byte        // the reply
	batch    mem.Buffer    // that body is a view of, or nil
	err      error         // why there is none

	id      uint64
	number  uint64   // of the batch that the call is in
	at      int      // where in it
	freight *freight // of a long call
}

func newOutbound(address string, p pipe, l limits) *outbound {
	return &outbound{
		outbox: newOutbox(p, l), address: address, waiting: map[uint64]*waiter{}, parts: partials{limit: l.parts},
		idle: sync.Pool{New: func() any { return &waiter{answered: make(chan struct{}, 1)} }},
	}
}

// Why a lane takes no call.
var (
	errRetired = errors.New("the lane takes no new calls")
	errLeaving = errors.New("it is leaving")
	errHungUp  = errors.New("it has hung up")
)

// call sends a call's body and waits for the reply to it. errRetired: the call has to
// take another lane. body is the lane's if it is longer than maxBody.
func (l *outbound) call(ctx context.Context, asked object.Form, body []byte) (object.Payload, error) {
	w := l.idle.Get().(*waiter)
	if err := l.submit(ctx, w, body); err != nil {
		l.idle.Put(w)
		return object.Payload{}, l.refused(ctx, err)
	}
	select {
	case <-w.answered:
	case <-ctx.Done():
		sent, answered := l.giveUp(w)
		if !answered {
			l.idle.Put(w)
			return object.Payload{}, ended(ctx.Err(), l.address, sent)
		}
		<-w.answered
	}
	return l.read(w, asked)
}

// submit puts the call where it is sent from, or waits for room there.
func (l *outbound) submit(ctx context.Context, w *waiter, body []byte) error {
	for {
		l.mu.Lock()
		if l.retired || l.err != nil {
			l.mu.Unlock()
			return errRetired
		}
		if l.addLocked(w, body) {
			l.mu.Unlock()
			return nil
		}
		if err := l.awaitLocked(ctx); err != nil {
			return err
		}
	}
}

func (l *outbound) addLocked(w *waiter, body []byte) (ok bool) {
	id := l.next + 1
	if len(body) > maxBody {
		w.freight, ok = l.shipLocked(kindCall, id, body)
	} else {
		w.number = l.number
		w.at, ok = l.putLocked(kindCall, id, body)
	}
	if ok {
		l.next, w.id = id, id
		l.waiting[id] = w
	}
	return ok
}

// refused is the error of a call that was not submitted.
func (l *outbound) refused(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ended(ctx.Err(), l.address, false)
	case errors.Is(err, errStuck):
		e := fault.New(fault.Overloaded, "%s takes no calls: %w for %v", l.address, err, l.limits.patience)
		e.RetryAfter = time.Second
		return e
	default:
		return errRetired
	}
}

// giveUp is the end of a caller's wait: unless the call was answered it is taken back,
// or, when it was sent, cancelled.
func (l *outbound) giveUp(w *waiter) (sent, answered bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting[w.id] != w {
		return false, true
	}
	switch {
	case l.sentLocked(w):
		l.waiting[w.id] = nil
		l.parts.drop(w.id)
		l.cancelLocked(w.id)
		sent = true
	case w.freight == nil:
		(*l.batch)[w.at] = byte(kindVoid)
		delete(l.waiting, w.id)
	default:
		if l.dropLocked(w.freight) { // its parts are kept there until they are cancelled
			l.forceLocked(kindCancel, w.id, nil)
		}
		delete(l.waiting, w.id)
	}
	w.freight = nil
	l.emptyLocked()
	return sent, false
}

// sentLocked says whether all of the call was handed to the transport: if not, the
// peer surely does not run it.
func (l *outbound) sentLocked(w *waiter) bool {
	if w.freight != nil {
		return len(w.freight.rest) == 0
	}
	return w.number < l.number
}

// emptyLocked ends a retired lane after its last answer.
func (l *outbound) emptyLocked() {
	if l.retired && len(l.waiting) == 0 {
		l.finishLocked()
	}
}

// read is the reply that the waiter got.
func (l *outbound) read(w *waiter, asked object.Form) (object.Payload, error) {
	body, batch, err := w.body, w.batch, w.err
	w.body, w.batch, w.err, w.freight = nil, nil, nil, nil
	l.idle.Put(w)
	if err != nil {
		return object.Payload{}, err
	}
	p, err, broken := parseReply(asked, body)
	if batch != nil {
		batch.Free()
	}
	if p.Unsaved && l.features&featureUnsaved == 0 {
		broken = errReply
	}
	if broken != nil {
		l.fail(breach{broken})
		return p, l.lost(broken)
	}
	return p, err
}

// breach is what a peer did that is against the protocol.
type breach struct{ error }

func (b breach) Unwrap() error { return b.error }

// run carries the lane until it ends, and says why: errHungUp when the peer ended it in
// good order. Nothing of it is left.
func (l *outbound) run() error {
	var sender sync.WaitGroup
	sender.Go(func() {
		if err := l.outbox.run(); err != nil && !errors.Is(err, io.EOF) { // io.EOF: receive says why
			l.fail(err)
		}
	})
	l.fail(l.listen())
	sender.Wait()
	return l.end()
}

func (l *outbound) listen() error {
	var answered []*waiter
	for {
		batch, err := l.pipe.receive()
		switch {
		case errors.Is(err, io.EOF):
			return errHungUp
		case err != nil:
			return err
		}
		answered, err = l.hear(batch, answered[:0])
		batch.Free()
		for i, w := range answered {
			w.answered <- struct{}{}
			answered[i] = nil
		}
		if err != nil {
			return breach{err}
		}
	}
}

// hear takes what a batch says, and appends whose answers are in it.
func (l *outbound) hear(batch mem.Buffer, answered []*waiter) ([]*waiter, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for rest := batch.ReadOnlyData(); len(rest) > 0; {
		var f frame
		var err error
		if f, rest, err = cutFrame(rest); err != nil {
			return answered, err
		}
		w, known := l.waiting[f.id]
		switch f.kind {
		case kindVoid:
		case kindGoodbye:
			l.retired = true
			l.emptyLocked()
		case kindReply, kindPart:
			switch {
			case !known:
				return answered, fmt.Errorf("an answer to call %d, which does not wait for one", f.id)
			case f.kind == kindReply:
				delete(l.waiting, f.id)
				if w != nil {
					w.body, w.batch = l.parts.body(f, batch)
					answered = append(answered, w)
				}
				l.emptyLocked()
			case w != nil:
				if err := l.parts.add(f.id, f.body); err != nil {
					return answered, err
				}
			}
		default:
			return answered, fmt.Errorf("a frame of kind %d from the side that answers", f.kind)
		}
	}
	return answered, nil
}

// fail ends the lane, and with it every call that waits.
func (l *outbound) fail(err error) {
	defer l.pipe.hangUp()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.failLocked(err) {
		return
	}
	for id, w := range l.waiting {
		delete(l.waiting, id)
		switch {
		case w == nil:
			continue
		case l.sentLocked(w):
			w.err = l.lost(err)
		default:
			w.err = unreachable(l.address, err.Error())
		}
		w.answered <- struct{}{} // it has room for one, and this one is the first
	}
}

func (l *outbound) lost(why error) *fault.Error {
	return fault.New(fault.Indeterminate, "the answer of %s was lost: %w", l.address, why)
}
