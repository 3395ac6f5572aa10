package cluster

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/memkv"
	"github.com/xiaonanln/goverse/cluster/sharding"
)

// snapshot is the store's fences, and restore puts them back.
func (f *fences) snapshot() map[sharding.ID]fence {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.m)
}

func (f *fences) restore(past map[sharding.ID]fence) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.m = map[sharding.ID]fence{}
	maps.Copy(f.m, past)
}

// stamped waits until the processes serve all shards between them, each by the very
// fence that the store has, above floor.
func (w *world) stamped(floor uint64, list ...*process) {
	w.Helper()
	w.holds(list...)
	w.settle(func() string {
		for _, p := range list {
			for id, epoch := range p.host.serving() {
				if f := w.fences.of(id); f.epoch != epoch || epoch <= floor || registrationOf(f.owner) != p.c.Self().Registration {
					return fmt.Sprintf("%s serves shard %d at epoch %d, and the store knows %+v", p.c.cfg.Address, id, epoch, f)
				}
			}
		}
		return ""
	})
}

// The store is put back, and each node notices in its own time, or once more before all
// is in order again: nobody registers anew, each shard is stamped at a fresh epoch by who
// held it, none is served twice, and it is said when it is over.
func TestStoreIsPutBack(t *testing.T) {
	bubble(t, func(w *world) {
		a, b := w.node(nodeA), w.node(nodeB)
		w.ready(a, b)
		w.stamped(0, a, b)
		past := w.fences.snapshot()
		until := make(chan struct{})
		defer close(until)
		go w.watchHolders(until)
		for round := range 4 {
			time.Sleep(time.Second) // the bubble's own: all have seen everything
			before := a.c.View()
			self := fmt.Sprint(a.c.Self(), b.c.Self())
			w.fences.restore(past)
			if round == 3 { // nothing is raised before it is noticed once more
				a.conn.Set(memkv.AnswersLost)
			}
			a.host.notice()
			time.Sleep(time.Duration(round) * 100 * time.Millisecond)
			b.host.notice()
			if round == 3 {
				w.settle(func() string {
					if a.host.adopted() < 4 {
						return "not adopted yet"
					}
					return ""
				})
				a.host.notice()
				a.conn.Set(memkv.Healthy)
			}
			w.stamped(0, a, b)
			time.Sleep(time.Second)
			for _, s := range a.c.View().Table.All() {
				if was := before.Table.Shard(s.ID); s.Epoch <= was.Epoch || s.Current != was.Current {
					t.Errorf("round %d: %v, and before the store was put back %v", round, s, was)
				}
			}
			if now := fmt.Sprint(a.c.Self(), b.c.Self()); now != self {
				t.Errorf("registered anew: %s, before %s", now, self)
			}
			w.settle(func() string {
				if n := w.times("stamped anew and served"); n != 2*(round+1) {
					return fmt.Sprintf("round %d: it was said %d times that it is over", round, n)
				}
				return ""
			})
		}
		time.Sleep(time.Minute)
		w.stamped(1, a, b)
		if n, m := a.host.adopted(), b.host.adopted(); n != 5 || m != 4 {
			t.Errorf("adopted %d and %d times", n, m)
		}
		for _, p := range []*process{a, b} {
			if problems := p.c.Problems(); len(problems) > 0 {
				t.Errorf("%q", problems)
			}
		}
	})
}

func (h *host) adopted() (times int) {
	h.set(func() { times = h.adopts })
	return times
}

// times is how often something was said.
func (w *world) times(part string) (n int) {
	for _, note := range w.notes.all() {
		if strings.Contains(note, part) {
			n++
		}
	}
	return n
}

// The store is put back to the fences of somebody who is long gone, some of them above
// those that etcd knows, because etcd was put back too: they are minted past.
func TestStoreAndEtcdArePutBack(t *testing.T) {
	bubble(t, func(w *world) {
		a, b := w.node(nodeA), w.node(nodeB)
		w.ready(a, b)
		w.stamped(0, a, b)
		time.Sleep(time.Second)
		past := w.etcd.Snapshot()
		time.Sleep(time.Second)
		foreign := map[sharding.ID]fence{}
		for id := range sharding.ID(16) {
			foreign[id] = fence{uint64(id), "10.9.9.9:1#elsewhere"}
		}
		delete(foreign, 0)
		w.fences.restore(foreign)
		w.etcd.Restore(past)
		a.host.notice()
		b.host.notice()
		w.stamped(0, a, b)
		time.Sleep(time.Second)
		for _, s := range a.c.View().Table.All() {
			if s.Epoch <= uint64(s.ID) {
				t.Errorf("%v is not above the store's fence", s)
			}
		}
	})
}

// Whatever this node does when the store is put back - it hands shards over, takes some
// up, leaves - each shard is in the end where it is to be, stamped, and never twice.
func TestPutBackMeanwhile(t *testing.T) {
	for _, doing := range []string{"joining", "leaving", "cut off", "handing over without answers"} {
		bubble(t, func(w *world) {
			a, b := w.node(nodeA), w.node(nodeB)
			w.ready(a, b)
			w.stamped(0, a, b)
			left := []*process{a, b}
			switch doing {
			case "joining":
				left = append(left, w.node(nodeC))
				for v := a.c.View(); !moves(v); v = a.c.View() {
					<-v.Superseded()
				}
			case "leaving":
				go b.stop()
				left = left[:1]
			case "cut off":
				b.cut()
				time.Sleep(3 * time.Second)
			case "handing over without answers":
				left = append(left, w.node(nodeC))
				time.Sleep(1100 * time.Millisecond)
				a.conn.Set(memkv.AnswersLost)
			}
			until := make(chan struct{})
			defer close(until)
			go w.watchHolders(until)
			w.fences.restore(nil)
			for _, p := range w.all {
				p.host.notice()
				time.Sleep(time.Millisecond)
			}
			time.Sleep(time.Second)
			a.conn.Set(memkv.Healthy)
			time.Sleep(time.Second)
			b.conn.Set(memkv.Healthy)
			w.stamped(0, left...)
			time.Sleep(time.Minute)
			w.stamped(0, left...)
		})
	}
}

func moves(v *consensusmanager.View) bool {
	for _, s := range v.Table.All() {
		if s.State(v.Members()) == sharding.Moving {
			return true
		}
	}
	return false
}

// Shards are being opened when the store is put back: that is waited for.
func TestPutBackWhileOpening(t *testing.T) {
	bubble(t, func(w *world) {
		a := w.node(nodeA)
		w.ready(a)
		slow := make(chan struct{})
		a.host.set(func() { a.host.slow = slow })
		a.host.Drop([]sharding.ID{4}, "the store knows another holder")
		a.host.lost <- 4
		time.Sleep(time.Second)
		w.fences.restore(nil)
		a.host.notice()
		time.Sleep(time.Second)
		if n := a.host.adopted(); n > 0 {
			t.Error("adopted while a shard is being opened")
		}
		a.host.set(func() { a.host.slow = nil })
		close(slow)
		w.stamped(1, a)
	})
}

// A node does not go on with a store that is not its cluster's, says so, and serves
// nothing; once the right one is put back it does.
func TestForeignStoreIsNotAdopted(t *testing.T) {
	bubble(t, func(w *world) {
		owner := ""
		var mu sync.Mutex
		a := w.node(nodeA, func(c *Config) {
			c.BindStore = func(_ context.Context, cluster string) (string, error) {
				mu.Lock()
				defer mu.Unlock()
				return cmp.Or(owner, cluster), nil
			}
		})
		w.ready(a)
		set := func(cluster string) {
			mu.Lock()
			defer mu.Unlock()
			owner = cluster
		}
		set("another")
		a.host.notice()
		for _, why := range []string{"it belongs to cluster another", errStore.Error()} {
			time.Sleep(20 * time.Second)
			if n := len(a.host.serving()); n > 0 {
				t.Errorf("%s: %d shards are served", why, n)
			}
			if problems := fmt.Sprint(a.c.Problems()); !strings.Contains(problems, why) || !w.said(why) {
				t.Errorf("the problems are %s, want one with %q", problems, why)
			}
			set("")
			a.host.set(func() { a.host.foreign = errStore })
		}
		a.host.set(func() { a.host.foreign = nil })
		w.stamped(1, a)
	})
}
