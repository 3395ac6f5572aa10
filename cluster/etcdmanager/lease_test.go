package etcdmanager_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/memkv"
)

const usable = 4500 * time.Millisecond // of the default TTL: 5 s less the margin

var standing = etcdmanager.Standing{Registration: "/g/reg/x", Meta: "/g/meta", MetaValue: []byte("M"), Leader: "/g/leader"}

// member is a registered process on a store of its own, with a lease that Run keeps.
type member struct {
	*testing.T
	store *memkv.Store
	conns []*memkv.Conn
	lease *etcdmanager.Lease
	ended chan error // what Run returned
	stop  context.CancelFunc
}

// inBubble runs body with a member over n connections, whose lease is confirmed.
func inBubble(t *testing.T, n int, body func(m *member)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := newMember(t, n)
		m.run()
		<-m.lease.Confirmed()
		body(m)
	})
}

func newMember(t *testing.T, n int) *member {
	m := &member{T: t, store: memkv.NewStore(), ended: make(chan error, 1)}
	t.Cleanup(m.store.Close)
	var kvs []etcdmanager.KV
	for range n {
		c := m.store.Connect()
		t.Cleanup(func() { c.Close() })
		m.conns, kvs = append(m.conns, c), append(kvs, c)
	}
	var err error
	if m.lease, err = etcdmanager.Acquire(t.Context(), kvs, etcdmanager.LeaseConfig{}); err != nil {
		t.Fatal(err)
	}
	m.do(etcdmanager.Put(standing.Meta, standing.MetaValue, 0), etcdmanager.Put(standing.Registration, nil, m.lease.ID()))
	return m
}

func (m *member) run() {
	ctx, cancel := context.WithCancel(m.Context())
	m.stop = cancel
	go func() { m.ended <- m.lease.Run(ctx, standing) }()
	m.Cleanup(func() {
		cancel()
		synctest.Wait()
	})
}

// do is somebody else's transaction.
func (m *member) do(ops ...etcdmanager.Op) int64 {
	m.Helper()
	other := m.store.Connect()
	defer other.Close()
	r, err := other.Commit(m.Context(), etcdmanager.Txn{Then: ops})
	if err != nil {
		m.Fatal(err)
	}
	return r.Revision
}

func (m *member) registered() bool {
	m.Helper()
	other := m.store.Connect()
	defer other.Close()
	p, err := other.Range(m.Context(), standing.Registration)
	if err != nil {
		m.Fatal(err)
	}
	return len(p.Items) == 1
}

func (m *member) setAll(f memkv.Fault) {
	for _, c := range m.conns {
		c.Set(f)
	}
}

// wantLost checks that Run ends, within a second, for this reason.
func (m *member) wantLost(reason error) {
	m.Helper()
	soon, cancel := context.WithTimeout(m.Context(), time.Second)
	defer cancel()
	select {
	case <-m.lease.Lost():
	case <-soon.Done():
		m.Fatal("the loss was not noticed within a second")
	}
	if err := <-m.ended; !errors.Is(err, reason) || !errors.Is(m.lease.Err(), reason) {
		m.Errorf("Run: %v, Err: %v, want %v", err, m.lease.Err(), reason)
	}
	if m.lease.Trusted() || !m.lease.TrustedUntil().IsZero() {
		m.Error("still trusted")
	}
}

func TestLeaseIsTrustedFromItsFirstRoundOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMember(t, 1)
		if m.lease.Trusted() || !m.lease.TrustedUntil().IsZero() || !m.lease.Renewed().IsZero() {
			t.Error("trusted before any round")
		}
		start := time.Now()
		m.run()
		<-m.lease.Confirmed()
		if !m.lease.Trusted() || m.lease.TrustedUntil() != start.Add(usable) || m.lease.Renewed() != start {
			t.Errorf("trusted until %v, %v after the start", m.lease.TrustedUntil(), m.lease.TrustedUntil().Sub(start))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if !m.lease.Trusted() || !m.registered() {
			t.Error("not renewed")
		}
		m.stop()
		if err := <-m.ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func TestLeaseRunsOutBeforeEtcdEndsIt(t *testing.T) {
	for _, fault := range []memkv.Fault{memkv.Cut, memkv.AnswersLost, memkv.Late} {
		inBubble(t, 1, func(m *member) {
			time.Sleep(10 * time.Second)
			synctest.Wait()
			m.setAll(fault)
			time.Sleep(usable - 1 - time.Since(m.lease.Renewed()))
			if !m.lease.Trusted() {
				m.Errorf("fault %d: fenced before the deadline", fault)
			}
			time.Sleep(time.Nanosecond)
			if m.lease.Trusted() {
				m.Errorf("fault %d: trusted past the deadline", fault)
			}
			if !m.registered() {
				m.Errorf("fault %d: etcd ended the lease before we fenced", fault)
			}
			if m.lease.Err() != nil {
				m.Errorf("fault %d: silence is not a loss: %v", fault, m.lease.Err())
			}
		})
	}
}

func TestLeaseComesBackAfterSilence(t *testing.T) {
	inBubble(t, 1, func(m *member) {
		m.setAll(memkv.Cut)
		time.Sleep(4800 * time.Millisecond) // fenced, but the lease lives
		m.setAll(memkv.Healthy)
		time.Sleep(time.Second)
		synctest.Wait()
		if !m.lease.Trusted() || m.lease.Err() != nil {
			m.Errorf("not trusted again: %v", m.lease.Err())
		}
		m.setAll(memkv.Cut)
		time.Sleep(6 * time.Second) // the lease ends
		m.setAll(memkv.Healthy)
		m.wantLost(etcdmanager.ErrLeaseNotFound)
	})
}

func TestLeaseIsHedged(t *testing.T) {
	inBubble(t, 3, func(m *member) {
		m.conns[0].Set(memkv.Cut)
		m.conns[2].Set(memkv.AnswersLost)
		for range 60 {
			time.Sleep(time.Second)
			synctest.Wait()
			if since := time.Since(m.lease.Renewed()); since > etcdmanager.RenewInterval {
				m.Fatalf("%v without a renewal although one endpoint answers", since)
			}
		}
	})
}

func TestLeaseIsLost(t *testing.T) {
	for _, c := range []struct {
		name   string
		happen func(m *member)
		reason error
	}{
		{"revoked", func(m *member) {
			if err := m.conns[0].Revoke(m.Context(), m.lease.ID()); err != nil {
				m.Fatal(err)
			}
		}, etcdmanager.ErrLeaseNotFound},
		{"registration deleted", func(m *member) { m.do(etcdmanager.Delete(standing.Registration)) }, etcdmanager.ErrRegistrationGone},
		{"meta deleted", func(m *member) { m.do(etcdmanager.Delete(standing.Meta)) }, etcdmanager.ErrMetaChanged},
		{"meta changed", func(m *member) { m.do(etcdmanager.Put(standing.Meta, []byte("N"), 0)) }, etcdmanager.ErrMetaChanged},
		{"wiped", func(m *member) { m.store.Restore(memkv.Snapshot{}) }, etcdmanager.ErrLeaseNotFound},
		{"restored, seen by ourselves", func(m *member) {
			snap := m.store.Snapshot()
			m.do(etcdmanager.Put("a", nil, 0))
			time.Sleep(time.Second) // a round sees it
			synctest.Wait()
			m.store.Restore(snap)
		}, etcdmanager.ErrRegression},
		{"restored, seen by another's answer", func(m *member) {
			snap := m.store.Snapshot()
			m.lease.Saw(m.do(etcdmanager.Put("a", nil, 0)))
			m.store.Restore(snap)
		}, etcdmanager.ErrRegression},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, 2, func(m *member) {
				time.Sleep(250 * time.Millisecond) // between two rounds
				c.happen(m)
				m.wantLost(c.reason)
			})
		})
	}
}

func TestLeaseOutlivesARestartOfEtcd(t *testing.T) {
	inBubble(t, 1, func(m *member) {
		m.setAll(memkv.Cut)
		time.Sleep(4900 * time.Millisecond)
		m.store.Restart() // the lease has its full TTL again
		time.Sleep(4900 * time.Millisecond)
		m.setAll(memkv.Healthy)
		time.Sleep(time.Second)
		synctest.Wait()
		if !m.lease.Trusted() || m.lease.Err() != nil {
			m.Errorf("not trusted again: %v", m.lease.Err())
		}
	})
}

// slow answers each request some time after etcd did.
type slow struct {
	etcdmanager.KV
	delay time.Duration
}

func (s slow) Commit(ctx context.Context, txn etcdmanager.Txn) (etcdmanager.Result, error) {
	defer time.Sleep(s.delay)
	return s.KV.Commit(ctx, txn)
}

func (s slow) KeepAlive(ctx context.Context, id etcdmanager.LeaseID) (time.Duration, error) {
	defer time.Sleep(s.delay)
	return s.KV.KeepAlive(ctx, id)
}

func TestLeaseCountsFromTheSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMember(t, 1)
		kv := slow{m.conns[0], 300 * time.Millisecond}
		l, err := etcdmanager.Acquire(t.Context(), []etcdmanager.KV{kv}, etcdmanager.LeaseConfig{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		ended := make(chan error)
		go func() { ended <- l.Run(ctx, standing) }()
		<-l.Confirmed()
		if answered := time.Since(start); answered != 600*time.Millisecond || l.TrustedUntil() != start.Add(usable) {
			t.Errorf("after %v: trusted for %v from the send", answered, l.TrustedUntil().Sub(start))
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestLeaseReleased(t *testing.T) {
	inBubble(t, 2, func(m *member) {
		m.conns[0].Set(memkv.Cut)
		if err := m.lease.Release(m.Context()); err != nil {
			m.Fatal(err)
		}
		if m.registered() {
			m.Error("the registration stands")
		}
		m.wantLost(etcdmanager.ErrReleased)
		if err := m.lease.Release(m.Context()); err != nil {
			m.Errorf("a second time: %v", err)
		}
	})
}

func TestLeaseThatCannotBeReleasedIsNotTrusted(t *testing.T) {
	inBubble(t, 2, func(m *member) {
		m.setAll(memkv.Cut)
		ctx, cancel := context.WithTimeout(m.Context(), time.Second)
		defer cancel()
		if err := m.lease.Release(ctx); !errors.Is(err, context.DeadlineExceeded) {
			m.Errorf("Release: %v", err)
		}
		m.wantLost(etcdmanager.ErrReleased)
	})
}

func TestAcquire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memkv.NewStore()
		defer store.Close()
		dead, well := store.Connect(), store.Connect()
		defer dead.Close()
		defer well.Close()
		dead.Set(memkv.Cut)
		l, err := etcdmanager.Acquire(t.Context(), []etcdmanager.KV{dead, well}, etcdmanager.LeaseConfig{TTL: 3 * time.Second})
		if err != nil || l.ID() == 0 || l.TTL() != 3*time.Second {
			t.Errorf("%+v, %v", l, err)
		}
		for name, c := range map[string]struct {
			kvs []etcdmanager.KV
			ttl time.Duration
		}{"nobody answers": {[]etcdmanager.KV{dead, dead}, 0}, "no endpoint": {nil, 0}, "too short": {[]etcdmanager.KV{well}, time.Second}} {
			if l, err := etcdmanager.Acquire(t.Context(), c.kvs, etcdmanager.LeaseConfig{TTL: c.ttl}); err == nil || l != nil {
				t.Errorf("%s: %v, %v", name, l, err)
			}
		}
	})
}

func TestFailedRoundsAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memkv.NewStore()
		defer store.Close()
		conn := store.Connect()
		defer conn.Close()
		told := make(chan string, 100)
		l, err := etcdmanager.Acquire(t.Context(), []etcdmanager.KV{conn}, etcdmanager.LeaseConfig{Failed: func(kv int, err error) {
			told <- fmt.Sprint(kv, errors.Is(err, context.DeadlineExceeded))
		}})
		if err != nil {
			t.Fatal(err)
		}
		conn.Set(memkv.Cut)
		ctx, cancel := context.WithCancel(t.Context())
		go l.Run(ctx, standing)
		if got := <-told; got != "0 true" {
			t.Errorf("told %q", got)
		}
		cancel()
		synctest.Wait()
	})
}

// Whatever the connections do: a process that trusts its lease is still registered.
func TestTrustIsSafeUnderRandomFaults(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			inBubble(t, 1+int(seed%3), func(m *member) {
				trusted := 0
				for range 200 {
					m.conns[rng.IntN(len(m.conns))].Set(memkv.Fault(rng.IntN(4) * rng.IntN(2)))
					time.Sleep(time.Duration(rng.Int64N(int64(900 * time.Millisecond))))
					synctest.Wait()
					if !m.lease.Trusted() {
						continue
					}
					trusted++
					if !m.registered() {
						m.Fatal("trusted, and not registered")
					}
				}
				if trusted == 0 {
					m.Error("never trusted: this run showed nothing")
				}
			})
		})
	}
}
