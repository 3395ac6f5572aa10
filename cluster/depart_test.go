package cluster

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager/memkv"
	"github.com/xiaonanln/goverse/cluster/sharding"
)

// split waits until the processes hold the shards evenly, each of them open.
func (w *world) split(list ...*process) {
	w.Helper()
	w.settle(func() string {
		all := 0
		for _, p := range list {
			n := len(p.host.serving())
			if all += n; n < 16/len(list) || n > (16+len(list)-1)/len(list) {
				return fmt.Sprintf("%s has %d shards of 16\n%v\n%v", p.c.cfg.Address, n, p.c.View(), w.notes.all())
			}
		}
		if all != 16 {
			return fmt.Sprintf("%d shards are served", all)
		}
		return ""
	})
}

func nodeOf(p *process) string { return p.c.cfg.Address }

// receives says that something was laid here.
func (h *host) receives() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.staged) > 0 || h.moved > 0
}

// Who joins gets its share, handed over with what was staged; who leaves hands on
// all that it has. Nothing is dropped, and no two ever serve one shard.
func TestJoinAndLeave(t *testing.T) {
	bubble(t, func(w *world) {
		a := w.node("a:1")
		w.ready(a)
		b, c := w.node("b:1"), w.node("c:1")
		over := make(chan struct{})
		defer close(over)
		go w.watchHolders(over)
		w.ready(b, c)
		w.split(a, b, c)
		a.leave()
		w.split(b, c)
		c.leave()
		w.holds(b)
		for _, p := range []*process{a, b, c} {
			if len(p.host.dropped) > 0 {
				t.Errorf("%s dropped shards: %q", nodeOf(p), p.host.dropped)
			}
			if len(p.host.Staged()) > 0 {
				t.Errorf("%s still keeps %v", nodeOf(p), p.host.Staged())
			}
		}
		if moved := a.host.moved + b.host.moved + c.host.moved; moved < 10+5+8 {
			t.Errorf("%d shards came with their stage\n%s", moved, strings.Join(w.notes.all(), "\n"))
		}
	})
}

// A shard that cannot be emptied stays, open, and keeps nobody else; it goes when it
// can.
func TestAShardThatDoesNotEmpty(t *testing.T) {
	bubble(t, func(w *world) {
		a := w.node("a:1")
		w.ready(a)
		for id := range sharding.ID(16) {
			a.host.set(func() { a.host.refuse[id] = id%2 == 0 })
		}
		b := w.node("b:1")
		w.ready(b)
		time.Sleep(time.Minute)
		there := b.host.serving()
		for _, s := range a.c.View().Table.All() {
			_, moved := there[s.ID]
			if want := s.Target == nodeOf(b) && s.ID%2 == 1; moved != want {
				t.Errorf("%v: at b %v", s, moved)
			}
		}
		if len(there) == 0 || len(there) == 8 {
			t.Errorf("%d shards moved", len(there))
		}
		a.host.set(func() { clear(a.host.refuse) })
		w.split(a, b)
	})
}

// The answer to a hand-over is lost: whether it took place is found out, and the
// shards live on exactly one node.
func TestAHandOverWithoutAnAnswer(t *testing.T) {
	for _, mode := range []memkv.Fault{memkv.AnswersLost, memkv.Cut} {
		bubble(t, func(w *world) {
			a := w.node("a:1")
			w.ready(a)
			over := make(chan struct{})
			defer close(over)
			b := w.node("b:1")
			go w.watchHolders(over)
			w.settle(func() string {
				if !b.host.receives() {
					return "nothing was staged"
				}
				return ""
			})
			a.conn.Set(mode)
			time.Sleep(2 * time.Second)
			a.conn.Set(memkv.Healthy)
			w.split(a, b)
		})
	}
}

// The receiver dies between stage and hand-over, or right after it; the sender too.
func TestADeathDuringHandOvers(t *testing.T) {
	for _, victim := range []string{"a:1", "b:1"} {
		for after := range 8 {
			bubble(t, func(w *world) {
				a := w.node("a:1", longLease)
				w.ready(a)
				over := make(chan struct{})
				defer close(over)
				b := w.node("b:1", longLease)
				go w.watchHolders(over)
				w.settle(func() string {
					if !b.host.receives() {
						return "nothing was staged"
					}
					return ""
				})
				w.views(a, after)
				dead, alive := a, b
				if victim == "b:1" {
					dead, alive = b, a
				}
				dead.conn.Close()
				dead.stop()
				<-dead.done
				w.holds(alive)
			})
		}
	}
}

func longLease(cfg *Config) { cfg.DrainBudget = time.Second }
