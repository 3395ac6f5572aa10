package consensusmanager

import (
	"testing"
	"time"
)

// A node hangs with as many shards on their way as may be under way at a time. Others
// that give to the same node wait for them a while, but not for ever.
func TestMovesThatHang(t *testing.T) {
	bubble(t, func(w *world) {
		few := func(c *Config) { c.MinQuorum, c.InFlight = 2, 2 }
		a, b := w.node("a:1", few), w.node("b:1", few)
		w.until("settled", time.Minute, w.settled(a, b))
		time.Sleep(time.Minute)
		a.hangs.Store(true)
		c := w.node("c:1", few)
		have := func(p *process) (n int) {
			for _, s := range a.View().Table.All() {
				if s.Current == p.cfg.Address {
					n++
				}
			}
			return n
		}
		took := w.until("c has what b had too much", time.Minute, func() bool { return have(b) == 4 && have(c) == 2 })
		if took < slowMove || have(a) != 6 {
			t.Errorf("after %v; a has %d shards: it does not hang, or nobody waited for it", took, have(a))
		}
		a.hangs.Store(false)
		w.operator(putKey("/goverse/gates/x:1", `{"reg":"x"}`)) // a view, which wakes a
		w.until("settled", time.Minute, w.settled(a, b, c))
	})
}
