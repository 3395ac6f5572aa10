package cluster

import (
	"strings"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/memkv"
)

// A node that etcd no longer answers interrupts what runs once, before its lease can
// have ended in etcd, and not again when it has registered anew.
func TestLostTrustInterruptsOnce(t *testing.T) {
	bubble(t, func(w *world) {
		a, b := w.node(nodeA), w.node(nodeB)
		w.ready(a, b)
		w.holds(a, b)
		time.Sleep(time.Minute)
		begun := time.Now()
		a.cut()
		w.settle(func() string {
			if b.c.View().Members().Has(nodeA) {
				return "a's lease lives on in etcd"
			}
			return ""
		})
		if when := a.host.interrupts(); len(when) != 1 || when[0].Before(begun.Add(4*time.Second-etcdmanager.RenewInterval)) {
			t.Errorf("interrupted at %v, cut at %v, gone at %v", when, begun, time.Now())
		}
		time.Sleep(time.Until(begun.Add(20 * time.Second)))
		a.conn.Set(memkv.Healthy)
		w.holds(a, b)
		time.Sleep(time.Minute)
		if n := len(a.host.interrupts()); n != 1 {
			t.Errorf("a was interrupted %d times", n)
		}
		if n := len(b.host.interrupts()); n != 0 {
			t.Errorf("b, which etcd has answered, was interrupted %d times", n)
		}
	})
}

// Etcd answers again before the lease has ended: the node goes on with what it has, and
// is interrupted anew when it happens again.
func TestTrustThatComesBack(t *testing.T) {
	bubble(t, func(w *world) {
		a := w.node(nodeA)
		w.ready(a)
		w.holds(a)
		epochs := a.host.serving()
		for times := 1; times <= 3; times++ {
			time.Sleep(10 * time.Second)
			a.cut()
			w.settle(func() string {
				if len(a.host.interrupts()) < times {
					return "not interrupted"
				}
				return ""
			})
			a.conn.Set(memkv.Healthy)
			time.Sleep(10 * time.Second)
			if n := len(a.host.interrupts()); n != times {
				t.Errorf("interrupted %d times, want %d", n, times)
			}
		}
		for id, epoch := range a.host.serving() {
			if epochs[id] != epoch {
				t.Errorf("shard %d went from epoch %d to %d", id, epochs[id], epoch)
			}
		}
		if len(a.host.dropped) != 0 {
			t.Errorf("dropped: %q", a.host.dropped)
		}
	})
}

// A host that serves on while etcd is silent is ready, and degraded: operators hear when
// it begins and when it ends, however that is.
func TestDegradedIsTold(t *testing.T) {
	for name, longEnough := range map[string]bool{"etcd answers again": false, "the registration was lost": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				a, plain := w.node(nodeA, func(c *Config) { c.DegradedMode = true }), w.node(nodeB)
				w.ready(a, plain)
				w.holds(a, plain)
				if list := a.c.Degraded(); len(list) != 0 {
					t.Error("degraded while all is well:", list)
				}
				a.cut()
				plain.cut()
				time.Sleep(4900 * time.Millisecond)
				if list := a.c.Problems(); len(list) != 0 {
					t.Error("not ready:", list)
				}
				if list := a.c.Degraded(); len(list) != 1 {
					t.Error("degraded:", list)
				}
				if len(plain.c.Problems()) == 0 || len(plain.c.Degraded()) != 0 {
					t.Error("without the mode:", plain.c.Problems(), plain.c.Degraded())
				}
				if longEnough {
					time.Sleep(10 * time.Second)
				}
				if count(w, "degraded mode begins") != 1 || count(w, "degraded mode ends") != 0 {
					t.Error("the beginning was not told")
				}
				a.conn.Set(memkv.Healthy)
				plain.conn.Set(memkv.Healthy)
				w.holds(a, plain)
				time.Sleep(5 * time.Second)
				if count(w, "degraded mode begins") != 1 || count(w, "degraded mode ends after") != 1 || count(w, name) == 0 {
					t.Error("the end was not told")
				}
				if list := append(a.c.Problems(), a.c.Degraded()...); len(list) != 0 {
					t.Error(list)
				}
			})
		})
	}
}

// count is how often the processes said something.
func count(w *world, what string) (n int) {
	for _, line := range w.notes.all() {
		if strings.Contains(line, what) {
			n++
		}
	}
	return n
}
