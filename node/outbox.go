package node

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// Bounds of what is on its way out.
const (
	maxHeld       = 16384 // deliveries in memory
	maxLine       = 256   // of one object to one target; the others stay in the store
	maxDelivering = 256   // calls at the same time
	effectsPage   = 256   // read from the store at once
	readers       = 4     // of the store
)

// The outbox delivers what objects send: one-way calls, and pushes that a crash held
// up. What a durable object sends is in the store, in the commit of the state that goes
// with it, until it was delivered; here it is kept in memory as well, as far as it fits.
//
//	commit -> add -> line (object, target) -> deliver -> end -> EndEffects
//	  |                ^
//	  +-> store -> read: at take-over, and where a line was too long
//
// A line is in order and delivers one at a time; lines do not wait for each other.
// Lock order: slot.mu, then outbox.mu, which is held across nothing that waits.
type outbox struct {
	node *Node
	wake chan struct{}  // holds one token when a box may have to be read
	busy chan struct{}  // has room for maxDelivering
	work sync.WaitGroup // lines and enders

	mu      sync.Mutex
	ctx     context.Context // of Run; nil before
	stopped bool
	starved bool         // a box has more than there was room for
	boxes   map[int]*box // of the shards that are held
	unread  []*box       // that have to be read, the most urgent last
	lines   map[lineKey]*line
	held    int
}

// box is what one shard owes, for one tenure. Its fields belong to the outbox's mutex.
type box struct {
	life      *tenure
	gone      bool                           // the tenure has ended: whoever holds the shard next delivers
	queued    bool                           // it is in unread
	reading   bool                           // it is in unread or being read: what is committed meanwhile waits
	again     bool                           // it has to be read once more; until then nothing of it may overtake
	known     map[object.EffectKey]bool      // that are in memory and in the store
	later     []*delivery                    // committed while the box was being read,
	waiting   map[object.EffectKey]*delivery // those of them that were not read
	ended     []object.EffectKey             // delivered, to be forgotten by the store
	forgotten []object.EffectKey             // that the store has forgotten, as long as the box is being read
	ending    bool                           // somebody is at that
}

type lineKey struct{ source, target object.Ref }

// line is what one object sends to one target.
type line struct {
	key    lineKey
	queue  []*delivery // the head is being delivered
	behind *box        // that has more of it in the store
}

// delivery is one effect on its way.
type delivery struct {
	box    *box // nil: it is only in memory
	key    object.EffectKey
	effect object.Effect
}

func (o *outbox) init(n *Node) {
	o.node = n
	o.wake, o.busy = make(chan struct{}, 1), make(chan struct{}, maxDelivering)
	o.boxes, o.lines = map[int]*box{}, map[lineKey]*line{}
}

// begin lets deliveries go until ctx ends; wait must follow.
func (o *outbox) begin(ctx context.Context) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ctx = ctx
	for _, l := range o.lines {
		o.startLocked(l)
	}
	for range readers {
		o.work.Go(func() { o.readAll(ctx) })
	}
}

// wait returns when nothing runs any more after begin's ctx has ended.
func (o *outbox) wait() {
	<-o.ctx.Done()
	o.mu.Lock()
	o.stopped = true
	o.mu.Unlock()
	o.work.Wait()
	o.mourn()
}

// mourn says what is lost with this process.
func (o *outbox) mourn() {
	o.mu.Lock()
	lost := 0
	for _, l := range o.lines {
		for _, d := range l.queue {
			if d.box == nil {
				lost++
			}
		}
	}
	o.mu.Unlock()
	if lost > 0 {
		o.notice(event.Warn, "this node stopped before every Send that no store keeps had left", fault.New(fault.Failed, "%d are lost", lost))
	}
}

// open begins to deliver for a shard. The slot's mutex is held.
func (o *outbox) open(life *tenure) {
	if o.node.exactly == nil || life.shard == o.node.cfg.NumShards {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if b := o.boxes[life.shard]; b != nil {
		if b.life.is(life) {
			return
		}
		o.closeLocked(b)
	}
	b := &box{life: life}
	o.boxes[life.shard] = b
	o.askLocked(b)
}

// close ends the deliveries for a shard. The slot's mutex is held.
func (o *outbox) close(shard int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if b := o.boxes[shard]; b != nil {
		o.closeLocked(b)
		delete(o.boxes, shard)
	}
}

func (o *outbox) closeLocked(b *box) {
	b.gone = true
	o.forgetLaterLocked(b)
	b.known, b.ended, b.forgotten = nil, nil, nil
}

// forgetLaterLocked leaves to the store what was committed while the box was being read.
func (o *outbox) forgetLaterLocked(b *box) {
	o.held -= len(b.waiting)
	b.later, b.waiting = nil, nil
}

// askLocked lets the box be read, before others that have waited longer: somebody may
// wait for what is committed now.
func (o *outbox) askLocked(b *box) {
	switch {
	case b.gone:
		return
	case b.reading && !b.queued:
		b.again = true
		return
	}
	b.reading, b.again = true, false
	if !b.queued {
		b.queued = true
		o.unread = append(o.unread, b)
	}
	poke(o.wake)
}

// add takes what was committed as version of a's object. Pushes have their own way out
// of memory; only the store has to forget them.
func (o *outbox) add(a *activation, version uint64, effects []object.Effect) {
	if len(effects) == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	b := o.boxes[a.life.shard]
	if b == nil || !b.life.is(a.life) {
		return // the next holder finds them
	}
	for ord, e := range effects {
		d := &delivery{b, object.EffectKey{Shard: a.life.shard, Source: a.ref, Version: version, Ord: ord}, e}
		switch {
		case b.known[d.key]: // it was read already
		case e.Kind == object.EffectPush:
			b.know(d.key)
			o.endLocked(d)
		case b.reading || b.again:
			o.laterLocked(d)
		case !o.queueLocked(d):
			o.starveLocked(b)
		}
	}
}

// starveLocked notes that the box has more than there is room for.
func (o *outbox) starveLocked(b *box) { b.again, o.starved = true, true }

func (b *box) know(key object.EffectKey) {
	if b.known == nil {
		b.known = map[object.EffectKey]bool{}
	}
	b.known[key] = true
}

// laterLocked keeps d until its box has been read.
func (o *outbox) laterLocked(d *delivery) {
	b := d.box
	if b.again || o.held >= maxHeld {
		o.starveLocked(b)
		return
	}
	if b.waiting == nil {
		b.waiting = map[object.EffectKey]*delivery{}
	}
	b.waiting[d.key] = d
	b.later = append(b.later, d)
	o.held++
	if i := len(o.unread) - 1; b.queued && o.unread[i] != b { // somebody waits for this one
		o.unread = append(o.unread, b)
	}
}

// post takes what no store keeps.
func (o *outbox) post(source object.Ref, e object.Effect) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.node.stopping.Load():
		return errNodeLeaves
	case o.held >= maxHeld:
		return fault.New(fault.Overloaded, "%d Sends wait to leave this node", o.held)
	}
	o.enterLocked(o.lineLocked(lineKey{source, e.Target}), &delivery{effect: e})
	return nil
}

// queueLocked puts d into its line, or leaves it to the store where that is too long.
// It fails where there is no room for it at all.
func (o *outbox) queueLocked(d *delivery) bool {
	l := o.lineLocked(lineKey{d.key.Source, d.effect.Target})
	switch {
	case l.behind != nil, len(l.queue) >= maxLine, o.held >= maxHeld && len(l.queue) > 0:
		l.behind = d.box // it is read again once the line is empty
		return true
	case o.held >= maxHeld:
		delete(o.lines, l.key)
		return false
	}
	d.box.know(d.key)
	o.enterLocked(l, d)
	return true
}

func (o *outbox) lineLocked(key lineKey) *line {
	l := o.lines[key]
	if l == nil {
		l = &line{key: key}
		o.lines[key] = l
	}
	return l
}

func (o *outbox) enterLocked(l *line, d *delivery) {
	l.queue = append(l.queue, d)
	o.held++
	if len(l.queue) == 1 && o.ctx != nil {
		o.startLocked(l)
	}
}

func (o *outbox) startLocked(l *line) {
	if !o.stopped {
		ctx := o.ctx
		o.work.Go(func() { o.follow(ctx, l) })
	}
}

// follow delivers a line until it is empty.
func (o *outbox) follow(ctx context.Context, l *line) {
	for attempt := 0; ; attempt++ {
		o.mu.Lock()
		d := l.queue[0]
		gone := d.box != nil && d.box.gone
		o.mu.Unlock()
		switch {
		case gone || o.deliver(ctx, d, attempt):
			attempt = -1
			if !o.next(l) {
				return
			}
		case !pause(ctx, sendBackoff(attempt)):
			return
		}
	}
}

// next takes the head off a line and tells whether there is another.
func (o *outbox) next(l *line) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	d := l.queue[0]
	l.queue = l.queue[1:]
	o.held--
	if d.box != nil && !d.box.gone {
		o.endLocked(d)
	}
	o.reviveLocked()
	if len(l.queue) > 0 {
		return true
	}
	delete(o.lines, l.key)
	if l.behind != nil {
		o.askLocked(l.behind)
	}
	return false
}

// reviveLocked has boxes read that were full up, once there is room.
func (o *outbox) reviveLocked() {
	if !o.starved || o.held > maxHeld/2 {
		return
	}
	o.starved = false
	for _, b := range o.boxes {
		if b.again && !b.reading {
			o.askLocked(b)
		}
	}
}

// sendBackoff is 10 ms doubling to 30 s, with jitter of half.
func sendBackoff(attempt int) time.Duration {
	d := min(30*time.Second, 10*time.Millisecond<<min(attempt, 12))
	return d/2 + rand.N(d/2)
}

// pause waits for d and tells whether ctx has not ended. It has no timer channel: two
// that go off at one time can crash the race detector in a synctest bubble (golang/go
// 78156).
func pause(ctx context.Context, d time.Duration) bool {
	over, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	<-over.Done()
	return ctx.Err() == nil
}

func (o *outbox) notice(severity event.Severity, text string, err error) {
	if on := o.node.on.Notice; on != nil {
		on(event.Notice{Severity: severity, From: "node", Text: text, Err: err})
	}
}
