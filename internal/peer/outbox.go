package peer

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/mem"
)

// limits bound what one lane may hold.
type limits struct {
	fill     int           // bytes of a batch that waits to be sent; then frames wait for room
	large    int           // bytes of bodies that are being sent in parts; then more of them wait
	patience time.Duration // with a peer that takes nothing at all
	running  int           // calls that run for the peer; then they are refused
	held     int           // bytes of their bodies; then they are refused
	parts    int           // bytes of bodies that have arrived in part; more is a breach
}

var laneLimits = limits{
	fill: maxFill, large: 16 << 20, patience: 2 * time.Second,
	running: 16 << 10, held: 256 << 20, parts: 24 << 20,
}

// outbox is what one end of a lane has to send: frames that fill the next batch, and
// long bodies that go along in parts, so that none of them holds up the others. Its
// run is the only sender.
type outbox struct {
	pipe   pipe
	limits limits
	wake   chan struct{} // has a token when there may be something to send
	over   chan struct{} // closed when the lane has ended
	taken  atomic.Int64  // pieces of long batches that the peer took

	mu      sync.Mutex // protects following fields, and those of the end that embeds the outbox
	batch   *[]byte
	usual   int           // about as long as a batch is now
	number  uint64        // of batch; lower ones were handed to the transport
	large   []*freight    // in turns, a part of each
	largely int           // bytes in large
	room    chan struct{} // closed when there is room again; nil while nobody waits
	last    bool          // nothing follows what is here
	err     error         // why the lane has ended
}

// freight is a body that goes in parts.
type freight struct {
	kind kind
	id   uint64
	body []byte
	rest []byte // not yet sent
}

func newOutbox(p pipe, l limits) *outbox {
	return &outbox{pipe: p, limits: l, wake: make(chan struct{}, 1), over: make(chan struct{}), batch: buffers.Empty(0)}
}

// rouse sees to it that what was put in is sent. o.mu may be held.
func (o *outbox) rouse() {
	select {
	case o.wake <- struct{}{}:
	default: // it is on its way
	}
}

// putLocked appends a frame to the batch, if it has room. at is where its kind stands.
func (o *outbox) putLocked(k kind, id uint64, body []byte) (at int, ok bool) {
	if len(*o.batch) > 0 && len(*o.batch)+len(body) > o.limits.fill {
		return 0, false
	}
	return o.forceLocked(k, id, body), true
}

// forceLocked is putLocked for frames that are few or small by themselves.
func (o *outbox) forceLocked(k kind, id uint64, body []byte) (at int) {
	if len(*o.batch) == 0 {
		o.rouse()
	}
	*o.batch, at = appendFrame(*o.batch, k, id, body)
	return at
}

// cancelLocked tells the peer that nobody waits for a call any more. It may be left
// out: the call has a deadline of its own.
func (o *outbox) cancelLocked(id uint64) {
	if len(*o.batch) < maxFill+maxExtra {
		o.forceLocked(kindCancel, id, nil)
	}
}

// shipLocked takes over a long body, if there is room for it.
func (o *outbox) shipLocked(k kind, id uint64, body []byte) (*freight, bool) {
	if len(o.large) > 0 && o.largely+len(body) > o.limits.large {
		return nil, false
	}
	p := &freight{kind: k, id: id, body: body, rest: body}
	o.large = append(o.large, p)
	o.largely += len(body)
	o.rouse()
	return p, true
}

// dropLocked forgets the rest of a freight. It says whether any of it has left.
func (o *outbox) dropLocked(p *freight) (begun bool) {
	for i, other := range o.large {
		if other == p {
			o.large = append(o.large[:i], o.large[i+1:]...)
			o.emptiedLocked(len(p.body))
			break
		}
	}
	return len(p.rest) < len(p.body)
}

func (o *outbox) emptiedLocked(large int) {
	o.largely -= large
	if o.room != nil {
		close(o.room)
		o.room = nil
	}
}

// errStuck is the end of the patience with a peer that takes nothing.
var errStuck = errors.New("the peer takes nothing")

// awaitLocked waits for room, which may be gone again, or until nothing at all was
// taken for the time of o's patience. It gives o.mu away and does not take it back.
func (o *outbox) awaitLocked(ctx context.Context) error {
	if o.room == nil {
		o.room = make(chan struct{})
	}
	room := o.room // every batch that is taken makes some
	o.mu.Unlock()
	for {
		before := o.taken.Load()
		err := o.await(ctx, room)
		if !errors.Is(err, errStuck) || o.taken.Load() == before {
			return err
		}
	}
}

// await is awaitLocked for one patience.
func (o *outbox) await(ctx context.Context, room <-chan struct{}) error {
	patience, cancel := context.WithTimeout(ctx, o.limits.patience)
	defer cancel()
	select {
	case <-room:
		return nil
	case <-o.over:
		return o.end()
	case <-patience.Done():
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return errStuck
}

// end is why the lane has ended, or nil.
func (o *outbox) end() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// run sends until the lane ends, or until everything is sent and nothing follows.
func (o *outbox) run() error {
	taken := func() { o.taken.Add(1) }
	for {
		select {
		case <-o.wake:
		case <-o.over:
			return nil
		}
		for {
			runtime.Gosched() // whoever is about to put something in goes along
			batch, last := o.take()
			if batch != nil {
				if err := o.pipe.send(batch, taken); err != nil {
					return err
				}
			} else if last {
				return o.pipe.closeSend()
			} else {
				break
			}
		}
	}
}

// partsAtOnce is how many freights send a part in one batch.
const partsAtOnce = 4

// take is the next batch, or nil.
func (o *outbox) take() (batch *[]byte, last bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil { // whoever waits was told what had left
		return nil, false
	}
	for range min(partsAtOnce, len(o.large)) {
		o.partLocked()
	}
	if len(*o.batch) == 0 {
		return nil, o.last
	}
	batch = o.batch
	o.usual = max(len(*batch), o.usual-o.usual/8)
	o.batch = buffers.Empty(o.usual)
	o.number++
	o.emptiedLocked(0)
	return batch, false
}

// partLocked sends a part of the first freight, which then is the last in turn.
func (o *outbox) partLocked() {
	p := o.large[0]
	o.large[0] = nil
	o.large = o.large[1:]
	if len(p.rest) <= maxBody {
		o.forceLocked(p.kind, p.id, p.rest)
		p.rest = nil
		o.emptiedLocked(len(p.body))
		return
	}
	o.forceLocked(kindPart, p.id, p.rest[:maxBody])
	p.rest = p.rest[maxBody:]
	o.large = append(o.large, p)
}

// finishLocked ends the sending after everything that is here.
func (o *outbox) finishLocked() {
	o.last = true
	o.rouse()
}

// failLocked ends the lane. It says whether this was the end.
func (o *outbox) failLocked(err error) bool {
	if o.err != nil {
		return false
	}
	o.err = err
	close(o.over)
	return true
}

// partials puts together the bodies that arrive in parts.
type partials struct {
	limit int
	held  int
	of    map[uint64][]byte
}

var errParts = errors.New("a part that is not of 64 KiB, or more of them than may be on the way")

// add keeps a part, which is of the one length that parts have.
func (p *partials) add(id uint64, part []byte) error {
	if len(part) != maxBody || len(p.of[id])+len(part) > maxMessage || p.held+len(part) > p.limit {
		return errParts
	}
	if p.of == nil {
		p.of = map[uint64][]byte{}
	}
	p.of[id] = append(p.of[id], part...)
	p.held += len(part)
	return nil
}

// drop forgets what has arrived of a body.
func (p *partials) drop(id uint64) { p.take(id) }

// take is what has arrived of a body before its last part.
func (p *partials) take(id uint64) []byte {
	if len(p.of) == 0 {
		return nil
	}
	b := p.of[id]
	delete(p.of, id)
	p.held -= len(b)
	return b
}

// body is a whole body and what to free after it was read.
func (p *partials) body(f frame, batch mem.Buffer) ([]byte, mem.Buffer) {
	if first := p.take(f.id); first != nil {
		return append(first, f.body...), nil
	}
	batch.Ref()
	return f.body, batch
}
