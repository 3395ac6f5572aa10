package meter

import (
	"math/bits"
	"time"
)

// Each power of two is cut into 2^precision buckets, so that a bucket is at most 1/64
// of its values wide.
const precision = 6

// Histogram counts durations in buckets that grow with them: quantiles are exact to
// 1.6 %, the largest is exact. The zero value is empty. It has one writer at a time.
type Histogram struct {
	buckets [(64 - precision) << precision]uint64
	count   uint64
	max     time.Duration
}

// Record counts one duration; a negative one as 0.
func (h *Histogram) Record(d time.Duration) {
	d = max(d, 0)
	h.buckets[bucket(d)]++
	h.count++
	h.max = max(h.max, d)
}

// Add counts all that other has counted.
func (h *Histogram) Add(other *Histogram) {
	for i, n := range other.buckets {
		h.buckets[i] += n
	}
	h.count += other.count
	h.max = max(h.max, other.max)
}

// Count is how many durations were recorded.
func (h *Histogram) Count() int { return int(h.count) }

// Max is the largest; 0 of none.
func (h *Histogram) Max() time.Duration { return h.max }

// Quantile is the duration that the share q of all, 0 to 1, does not exceed, but for
// the width of a bucket; 0 of none.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank := min(uint64(q*float64(h.count)), h.count-1)
	for i, n := range h.buckets {
		if n > rank {
			return min(top(i), h.max)
		}
		rank -= n
	}
	return h.max
}

// bucket is where d is counted: the leading one bit, and the bits behind it.
func bucket(d time.Duration) int {
	n := uint64(d)
	if n < 1<<precision {
		return int(n)
	}
	shift := bits.Len64(n) - precision - 1
	return (shift+1)<<precision + int(n>>shift) - 1<<precision
}

// top is the largest duration of a bucket.
func top(bucket int) time.Duration {
	if bucket < 1<<precision {
		return time.Duration(bucket)
	}
	shift := bucket>>precision - 1
	leading := uint64(bucket&(1<<precision-1)) + 1<<precision
	return time.Duration((leading+1)<<shift - 1)
}
