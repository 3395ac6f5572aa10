package consensusmanager

import (
	"testing"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager/memkv"
)

// Whoever was trusted before the trust lapsed is not trusted after it, not even for a
// moment; one whose trust was only renewed late is.
func TestLapses(t *testing.T) {
	two(t, func(w *world, a, b, g *process) {
		r, _ := a.registration()
		n, next := r.Lapses()
		for range 3 { // late, and in time
			a.conn.Set(memkv.Cut)
			time.Sleep(3 * time.Second)
			a.conn.Set(memkv.Healthy)
			time.Sleep(10 * time.Second)
		}
		w.etcd.Restart()
		time.Sleep(10 * time.Second)
		if again, _ := r.Lapses(); again != n || !r.TrustedAt(n) || time.Until(r.Alone()) > 0 {
			t.Fatalf("%d lapses without one", again-n)
		}
		for i := range uint64(3) {
			past := w.etcd.Snapshot()
			a.conn.Set(memkv.Cut)
			w.until("a is not trusted", 10*time.Second, func() bool { return !r.Trusted() })
			select {
			case <-next:
				t.Fatal("a lapse is counted while it lasts")
			default:
			}
			w.etcd.Restore(past) // its lease has its whole time again
			a.conn.Set(memkv.Healthy)
			w.until("a is trusted again", 5*time.Second, func() bool {
				if r.TrustedAt(n + i) {
					t.Fatal("a goes on as if nothing had been")
				}
				return r.Trusted()
			})
			<-next
			var now uint64
			if now, next = r.Lapses(); now != n+i+1 || !r.TrustedAt(now) {
				t.Fatalf("%d lapses after %d", now-n, i+1)
			}
			if left := time.Until(r.Alone()); left < 4*time.Second || left > 5*time.Second {
				t.Errorf("alone in %v", left)
			}
			time.Sleep(10 * time.Second)
		}
		if _, n := a.registration(); n != 1 {
			t.Errorf("a registered %d times", n)
		}
	})
}

// Who notices that etcd was restored registers with the lock-delay: nobody takes shards
// up before those are silent who do not know yet.
func TestRestoreDelaysClaims(t *testing.T) {
	two(t, func(w *world, a, b, g *process) {
		past := w.etcd.Snapshot()
		s := a.View().Table.Shard(0)
		next := s.Targeted(s.Target)
		w.operator(putKey(testKeys.shard(s.ID), string(next.Encode("lost")))) // what all have seen
		time.Sleep(time.Second)
		w.etcd.Restore(past)
		w.until("a has registered anew", 10*time.Second, func() bool { _, n := a.registration(); return n == 2 })
		w.until("the lock-delay is seen", time.Second, func() bool { return a.View().Hold })
		took := w.until("it ends", 10*time.Second, func() bool { return !a.View().Hold })
		if took < 5*time.Second {
			t.Errorf("it ended after %v", took)
		}
		w.until("settled", time.Minute, w.settled(a, b))
	})
}
