package memkv

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
)

func inBubble(t *testing.T, body func(t *testing.T, s *Store, c *Conn)) {
	synctest.Test(t, func(t *testing.T) {
		s := NewStore()
		defer s.Close()
		c := s.Connect()
		defer c.Close()
		body(t, s, c)
	})
}

func put(key string) etcdmanager.Txn {
	return etcdmanager.Txn{Then: []etcdmanager.Op{etcdmanager.Put(key, nil, 0)}}
}

func (s *Store) has(key string) bool {
	p, err := s.page(key)
	return err == nil && len(p.Items) == 1
}

// A request without an answer: what became of it depends on the fault.
func TestFaults(t *testing.T) {
	for _, c := range []struct {
		name          string
		fault         Fault
		during, after bool // the put is there
	}{
		{"cut", Cut, false, false},
		{"answers lost", AnswersLost, true, true},
		{"late", Late, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *Store, conn *Conn) {
				conn.Set(c.fault)
				start := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				_, err := conn.Commit(ctx, put("a"))
				if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, etcdmanager.ErrNotApplied) || time.Since(start) != time.Second {
					t.Errorf("after %v: %v, want an unknown outcome at the deadline", time.Since(start), err)
				}
				if s.has("a") != c.during {
					t.Errorf("during: %v", s.has("a"))
				}
				conn.Set(Healthy)
				if s.has("a") != c.after {
					t.Errorf("after: %v", s.has("a"))
				}
			})
		})
	}
}

func TestARequestThatIsCutWaitsForTheConnection(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Store, c *Conn) {
		c.Set(Cut)
		time.AfterFunc(time.Second, func() { c.Set(Healthy) })
		start := time.Now()
		if _, err := c.Commit(t.Context(), put("a")); err != nil || time.Since(start) != time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
	})
}

func TestARequestWithoutADeadlineGivesUpAsTheClientDoes(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Store, c *Conn) {
		c.Set(Cut)
		start := time.Now()
		if _, err := c.Range(t.Context(), ""); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != etcdmanager.DefaultRequestTimeout {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
	})
}

func TestLateRequestsKeepTheirOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Store, c *Conn) {
		c.Set(Late)
		for _, value := range []string{"1", "2", "3"} {
			go func() {
				txn := etcdmanager.Txn{Then: []etcdmanager.Op{etcdmanager.Put("a", []byte(value), 0)}}
				if _, err := c.Commit(t.Context(), txn); err == nil {
					t.Error("answered")
				}
			}()
			synctest.Wait()
		}
		c.Set(Healthy)
		if p, err := s.page("a"); err != nil || string(p.Items[0].Value) != "3" {
			t.Errorf("%+v, %v", p, err)
		}
		time.Sleep(time.Minute) // they give up
	})
}

func TestAWatchThatIsCutGoesOnWhereItWas(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Store, c *Conn) {
		other := s.Connect()
		defer other.Close()
		ch := c.Watch(t.Context(), "", 1)
		for round := range 3 {
			c.Set(Cut)
			if _, err := other.Commit(t.Context(), put("a")); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			select {
			case b := <-ch:
				t.Fatalf("round %d: %+v came through the cut", round, b)
			default:
			}
			c.Set(Healthy)
			if b := <-ch; b.Revision != int64(round+2) {
				t.Errorf("round %d: %+v", round, b)
			}
		}
	})
}

func TestAWatchThatLagsBehindACompaction(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Store, c *Conn) {
		ch := c.Watch(t.Context(), "", 1)
		c.Set(Cut)
		synctest.Wait()
		for range 3 {
			if _, err := s.commit(put("a")); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Compact(s.Revision()); err != nil {
			t.Fatal(err)
		}
		c.Set(Healthy)
		if b := <-ch; !errors.Is(b.Err, etcdmanager.ErrCompacted) {
			t.Errorf("%+v", b)
		}
		if err := s.Compact(s.Revision() + 1); err == nil {
			t.Error("compacted the future")
		}
	})
}

// A restored store is silent: no error, no event; only the revision tells, and that
// connections were lost.
func TestRestoreIsSilent(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Store, c *Conn) {
		lease, ttl, err := s.grant(3 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.commit(etcdmanager.Txn{Then: []etcdmanager.Op{etcdmanager.Put("leased", nil, lease)}}); err != nil {
			t.Fatal(err)
		}
		snap := s.Snapshot()
		ch := c.Watch(t.Context(), "", s.Revision()+1)
		for range 5 {
			if _, err := s.commit(put("lost")); err != nil {
				t.Fatal(err)
			}
			<-ch
		}
		time.Sleep(ttl - 1)
		s.Restore(snap)
		if s.Revision() != snap.revision || s.has("lost") {
			t.Errorf("revision %d, want %d", s.Revision(), snap.revision)
		}
		if b := <-ch; !b.Reconnected || b.Err != nil || len(b.Events) > 0 {
			t.Errorf("%+v", b)
		}
		for range 5 { // revisions that the watch has seen with other content
			if _, err := s.commit(put("again")); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		select {
		case b := <-ch:
			t.Fatalf("the watch noticed: %+v", b)
		default:
		}
		if _, err := s.commit(put("new")); err != nil {
			t.Fatal(err)
		}
		if b := <-ch; b.Err != nil || b.Events[0].Item.Key != "new" {
			t.Errorf("%+v", b)
		}
		time.Sleep(ttl - 1) // the lease has its full TTL again
		if !s.has("leased") {
			t.Error("the lease ended early")
		}
		time.Sleep(1 + revokeInterval)
		if s.has("leased") {
			t.Error("the lease did not end")
		}
	})
}

func TestWipe(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Store, c *Conn) {
		lease, _, err := s.grant(time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.commit(put("a")); err != nil {
			t.Fatal(err)
		}
		s.Restore(Snapshot{})
		if s.has("a") || s.Revision() != 1 {
			t.Errorf("revision %d", s.Revision())
		}
		if _, err := c.KeepAlive(t.Context(), lease); !errors.Is(err, etcdmanager.ErrLeaseNotFound) {
			t.Error(err)
		}
		if again, _, err := c.Grant(t.Context(), time.Minute); err != nil || again == lease {
			t.Errorf("lease %d after lease %d: %v", again, lease, err)
		}
	})
}

func TestAClosedStore(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Store, c *Conn) {
		ch := c.Watch(t.Context(), "", 1)
		s.Close()
		if b := <-ch; !errors.Is(b.Err, etcdmanager.ErrClosed) {
			t.Errorf("%+v", b)
		}
		if _, err := c.Range(t.Context(), ""); !errors.Is(err, etcdmanager.ErrClosed) {
			t.Error(err)
		}
	})
}

// A full store takes no puts, whatever the guards, and no leases. All else works.
func TestAFullStore(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Store, c *Conn) {
		lease, _, err := c.Grant(t.Context(), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Commit(t.Context(), put("a")); err != nil {
			t.Fatal(err)
		}
		s.SetFull(true)
		never := put("b")
		never.If = []etcdmanager.Guard{etcdmanager.Absent("a")}
		for _, txn := range []etcdmanager.Txn{put("b"), never} {
			if _, err := c.Commit(t.Context(), txn); !errors.Is(err, etcdmanager.ErrNoSpace) || errors.Is(err, etcdmanager.ErrNotApplied) || s.has("b") {
				t.Errorf("%v", err)
			}
		}
		if _, _, err := c.Grant(t.Context(), time.Minute); !errors.Is(err, etcdmanager.ErrNoSpace) {
			t.Error(err)
		}
		if _, err := c.KeepAlive(t.Context(), lease); err != nil {
			t.Error(err)
		}
		look := etcdmanager.Txn{Then: []etcdmanager.Op{etcdmanager.Get("a"), etcdmanager.Delete("a")}}
		if r, err := c.Commit(t.Context(), look); err != nil || !r.Gets[0].Exists || s.has("a") {
			t.Errorf("%+v, %v", r, err)
		}
		s.SetFull(false)
		if _, err := c.Commit(t.Context(), put("b")); err != nil {
			t.Error(err)
		}
	})
}
