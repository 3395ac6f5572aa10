package cluster

import "sync/atomic"

// budget bounds how much the retries of overloaded calls add to the load: each call
// earns a tenth of a retry, and a quiet process may begin with some.
type budget struct{ tenths atomic.Int64 }

const (
	retryCost  = 10
	maxRetries = 100 // that can be saved up
)

func newBudget() *budget {
	b := new(budget)
	b.tenths.Store(maxRetries * retryCost)
	return b
}

// earn counts a call. A budget that is full, as it mostly is, is only read.
func (b *budget) earn() {
	if b.tenths.Load() < maxRetries*retryCost {
		b.tenths.Add(1)
	}
}

// spend says whether one more retry is allowed.
func (b *budget) spend() bool {
	for {
		have := b.tenths.Load()
		if have < retryCost {
			return false
		}
		if b.tenths.CompareAndSwap(have, have-retryCost) {
			return true
		}
	}
}
