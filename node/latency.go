package node

import (
	"math/bits"
	"time"
)

// latencies counts durations by size, each within an eighth of what it was. The zero
// value is empty.
type latencies struct {
	count   int
	buckets [8 * 64]uint32
}

func (l *latencies) add(d time.Duration) {
	l.buckets[bucketOf(d)]++
	l.count++
}

// bucketOf is the last three bits below the leading one, and how long the rest is.
func bucketOf(d time.Duration) int {
	n := uint64(max(0, d))
	shift := max(0, bits.Len64(n)-4)
	return 8*shift + int(n>>shift)
}

// bucketEnd is the longest duration of a bucket.
func bucketEnd(i int) time.Duration {
	if i < 16 {
		return time.Duration(i)
	}
	shift := i/8 - 1
	return time.Duration((i%8+9)<<shift - 1)
}

// p99 is what 99 of 100 do not exceed, 0 of none.
func (l *latencies) p99() time.Duration {
	rest := l.count / 100 // may be longer
	for i := len(l.buckets) - 1; i >= 0; i-- {
		if rest -= int(l.buckets[i]); rest < 0 {
			return bucketEnd(i)
		}
	}
	return 0
}
