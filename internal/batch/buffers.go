package batch

import "sync"

// Buffers is where batches and what goes into them are written. Unlike gRPC's own
// pool it does not clear what it gives: everything is written over.
var Buffers = new(Pool)

// Pool implements mem.BufferPool. It keeps buffers by their capacity, in tiers.
type Pool struct{ tiers [tiers]sync.Pool }

const (
	tiers     = 4
	firstTier = 4 << 10 // and each next one four times that
)

// tier is the lowest that fits length; tiers if none does.
func tier(length int) int {
	t := 0
	for size := firstTier; size < length && t < tiers; size *= 4 {
		t++
	}
	return t
}

// Get implements mem.BufferPool.
func (p *Pool) Get(length int) *[]byte {
	b := p.Empty(length)
	*b = (*b)[:length]
	return b
}

// Empty is a buffer to append about length bytes to.
func (p *Pool) Empty(length int) *[]byte {
	t := tier(length)
	if t == tiers {
		b := make([]byte, 0, length)
		return &b
	}
	if b, ok := p.tiers[t].Get().(*[]byte); ok {
		*b = (*b)[:0]
		return b
	}
	b := make([]byte, 0, firstTier<<(2*t))
	return &b
}

// Put implements mem.BufferPool. Buffers beyond the last tier are the garbage
// collector's.
func (p *Pool) Put(b *[]byte) {
	t := tier(cap(*b))
	if t == tiers {
		return
	}
	if cap(*b) < firstTier<<(2*t) { // it fits only what the tier below does
		t--
	}
	if t >= 0 {
		p.tiers[t].Put(b)
	}
}
