package consensusmanager

import (
	"time"

	"github.com/xiaonanln/goverse/cluster/sharding"
)

// moves is for how long the leader has seen shards on their way. It belongs to the
// campaign's goroutine.
type moves struct{ under map[sharding.ID]move }

// move is one shard on its way to one target.
type move struct {
	epoch  uint64
	target string
	since  time.Time
}

// slowMove is after what time a move counts no longer against the bound on moves: its
// holder has given it up by then, or hangs. Others must not wait for it.
const slowMove = 15 * time.Second

// slow is the shards that have been on their way for too long, as self has seen it while
// it led, and when the next will have been: the zero time if there is no such.
func (m *moves) slow(v *View, self Self, now time.Time) (slow map[sharding.ID]bool, next time.Time) {
	if v.Leader.Registration != self.Registration || v.Census().States[sharding.Moving] == 0 {
		m.under = nil
		return nil, time.Time{}
	}
	under := map[sharding.ID]move{}
	for _, s := range v.Table.All() {
		if s.State(v.members) != sharding.Moving {
			continue
		}
		is := m.under[s.ID]
		if is.epoch != s.Epoch || is.target != s.Target {
			is = move{epoch: s.Epoch, target: s.Target, since: now}
		}
		under[s.ID] = is
		switch due := is.since.Add(slowMove); {
		case now.Before(due):
			if next.IsZero() || due.Before(next) {
				next = due
			}
		case slow == nil:
			slow = map[sharding.ID]bool{s.ID: true}
		default:
			slow[s.ID] = true
		}
	}
	m.under = under
	return slow, next
}
