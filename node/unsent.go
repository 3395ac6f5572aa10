package node

import (
	"context"
	"slices"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/object"
)

// What the store knows of the outbox: it is read where memory does not have all of it,
// and told what was delivered.

// readAll reads boxes until ctx ends.
func (o *outbox) readAll(ctx context.Context) {
	for {
		b := o.nextUnread()
		switch {
		case b != nil:
			o.read(ctx, b)
		default:
			select {
			case <-o.wake:
			case <-ctx.Done():
				return
			}
		}
		if ctx.Err() != nil {
			return
		}
	}
}

func (o *outbox) nextUnread() *box {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.unread) > 0 {
		last := len(o.unread) - 1
		b := o.unread[last]
		o.unread[last] = nil
		o.unread = o.unread[:last]
		if !b.queued || b.gone {
			continue // it was there twice, or its tenure has ended
		}
		b.queued = false
		if last > 0 {
			poke(o.wake) // for the other readers
		}
		return b
	}
	return nil
}

// read takes in what the store has of a box, in the order of its keys, and then what
// was committed meanwhile.
func (o *outbox) read(ctx context.Context, b *box) {
	after := object.EffectKey{Shard: b.life.shard}
	for attempt := 0; ; {
		done := asked(o.node.on, event.StorePendingEffects)
		page, err := o.node.exactly.PendingEffects(ctx, b.life.shard, after, effectsPage)
		done(err)
		if err != nil {
			if attempt == 0 {
				o.notice(event.Warn, "the Sends that are to leave could not be read; it is tried again", err)
			}
			if !pause(ctx, sendBackoff(attempt)) {
				return
			}
			attempt++
			continue
		}
		attempt = 0
		if !o.takePage(b, page) || len(page) < effectsPage {
			o.haveRead(b)
			return
		}
		after = page[len(page)-1].Key
	}
}

// takePage tells whether to go on.
func (o *outbox) takePage(b *box, page []object.PendingEffect) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if b.gone {
		return false
	}
	for _, e := range page {
		if b.waiting[e.Key] != nil {
			delete(b.waiting, e.Key)
			o.held--
		}
		if !b.known[e.Key] && !o.queueLocked(&delivery{b, e.Key, e.Effect}) {
			o.starveLocked(b)
			break // nothing behind it may overtake it
		}
	}
	return !b.again
}

func (o *outbox) haveRead(b *box) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if b.gone {
		return
	}
	b.reading = false
	b.letGoLocked()
	for _, d := range b.later {
		if b.again || b.waiting[d.key] != d {
			continue
		}
		delete(b.waiting, d.key)
		o.held--
		if !o.queueLocked(d) {
			o.starveLocked(b)
		}
	}
	o.forgetLaterLocked(b)
	if b.again && o.held <= maxHeld/2 {
		o.askLocked(b)
	}
}

// endLocked has the store forget what was delivered, together with what else has been
// by then.
func (o *outbox) endLocked(d *delivery) {
	b := d.box
	b.ended = append(b.ended, d.key)
	if b.ending || o.ctx == nil || o.stopped {
		return // if this node ends first, the next one delivers it again
	}
	b.ending = true
	ctx := o.ctx
	o.work.Go(func() { o.endAll(ctx, b) })
}

func (o *outbox) endAll(ctx context.Context, b *box) {
	fence := object.Fence{Shard: b.life.shard, Epoch: b.life.epoch, Owner: b.life.owner}
	for attempt := 0; ; {
		keys := o.delivered(b)
		if len(keys) == 0 {
			return
		}
		done := asked(o.node.on, event.StoreEndEffects)
		held, err := o.node.exactly.EndEffects(ctx, fence, keys)
		done(err)
		switch {
		case err != nil:
			if !pause(ctx, sendBackoff(attempt)) {
				return
			}
			attempt++
			continue
		case !held:
			o.node.slots[b.life.shard].lostFence(o.node, b.life)
			return
		}
		attempt = 0
		o.forget(b, keys)
	}
}

// delivered is what the store may forget next. Without anything its caller has ended.
func (o *outbox) delivered(b *box) []object.EffectKey {
	o.mu.Lock()
	defer o.mu.Unlock()
	keys := slices.Clone(b.ended[:min(len(b.ended), effectsPage)])
	if len(keys) == 0 {
		b.ending = false
	}
	return keys
}

func (o *outbox) forget(b *box, keys []object.EffectKey) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if b.gone {
		return
	}
	b.ended = b.ended[len(keys):]
	b.forgotten = append(b.forgotten, keys...)
	b.letGoLocked()
}

// letGoLocked drops what the store has forgotten, unless the box is being read: a page
// that was read before may still name it.
func (b *box) letGoLocked() {
	if b.reading {
		return
	}
	for _, key := range b.forgotten {
		delete(b.known, key)
	}
	b.forgotten = nil
}
