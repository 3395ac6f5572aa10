package consensusmanager

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/event"
)

// Why a process does not become a member.
var (
	// ErrAddressTaken: another live process has the advertise address.
	ErrAddressTaken = errors.New("address taken")
	// ErrShardsDiffer: the cluster was created with another number of shards.
	ErrShardsDiffer = errors.New("number of shards differs")
	// ErrStoreDiffers: the cluster's nodes share a store, and this node's is another.
	ErrStoreDiffers = errors.New("store differs")
	// ErrStoreForeign: the node's store belongs to another cluster.
	ErrStoreForeign = errors.New("store of another cluster")
	// ErrMetaUnreadable: P/meta is there but makes no sense.
	ErrMetaUnreadable = errors.New("cluster meta unreadable")
	// ErrLost ends serve: the registration is gone.
	ErrLost = errors.New("registration lost")

	errNoCluster = errors.New("no node has created the cluster yet")
	errNoView    = errors.New("etcd has not answered yet; is it running, and have most of its members started?")
)

// Registration is one registration of this process, from T-REG until its lease
// ends. All methods may be called concurrently.
type Registration struct {
	Self
	Meta *Meta

	m      *Manager
	w      writer
	lease  *etcdmanager.Lease
	value  []byte // of the process's own key
	source string // the process's own key

	revision int64 // of T-REG
	restored int64 // how often etcd had been restored before
	lapses   *lapses
}

// Owner is how stores name the registration.
func (r *Registration) Owner() string { return r.Address + "#" + r.Registration }

// Trusted says whether this process may speak for the registration without asking.
func (r *Registration) Trusted() bool { return r.lease.Trusted() }

// TrustedUntil is when that ends unless etcd renews the lease; the zero time while
// there is no trust. After a jump of the clocks Trusted may say so earlier.
func (r *Registration) TrustedUntil() time.Time { return r.lease.TrustedUntil() }

// Fresh says whether this process may lead and take shards up: etcd has renewed its
// lease within the last etcdmanager.FreshFor. What it holds it serves while Trusted.
func (r *Registration) Fresh() bool { return r.lease.Fresh() }

// Confirmed is closed when the registration was trusted for the first time.
func (r *Registration) Confirmed() <-chan struct{} { return r.lease.Confirmed() }

// Lost is closed when the registration is known to be gone.
func (r *Registration) Lost() <-chan struct{} { return r.lease.Lost() }

// Err is why it is gone.
func (r *Registration) Err() error { return r.lease.Err() }

// terms is what every renewal confirms.
func (r *Registration) terms() etcdmanager.Standing {
	s := etcdmanager.Standing{
		Registration: r.w.keys.reg(r.Registration), Leader: r.w.keys.leader(),
		Meta: r.w.keys.meta(), MetaValue: r.Meta.raw,
	}
	if r.m.cfg.Gate {
		s.Registration = r.source
	}
	return s
}

var joinBackoff = etcdmanager.Backoff{First: 50 * time.Millisecond, Max: time.Second}

// register makes the process a member. It waits for what others may still change,
// says for what, and gives up on some of it after the join timeout. before is the
// registration that was lost, if there was one.
func (m *Manager) register(ctx context.Context, before *Registration) (*Registration, error) {
	if before != nil {
		m.refresh(ctx) // what was lost may be etcd's memory, of which no watch tells
	}
	deadline := time.Now().Add(m.cfg.JoinTimeout)
	said := ""
	for attempt := 0; ; attempt++ {
		v := m.View()
		r, err := m.join(ctx, v, before)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err == nil:
			return r, nil
		case errors.Is(err, ErrShardsDiffer), errors.Is(err, ErrStoreDiffers), errors.Is(err, ErrStoreForeign):
			return nil, err
		case givesUp(err, before) && !m.own(v) && !time.Now().Before(deadline):
			return nil, fmt.Errorf("gave up after %v: %w", m.cfg.JoinTimeout, err)
		}
		if said != err.Error() && !errors.Is(err, errNoView) {
			said = err.Error()
			m.waits(said)
			m.notice(event.Warn, "not registered yet", err)
		}
		pause(ctx, v, joinBackoff.Delay(attempt, 1))
	}
}

// own says that what stands at this process's address is an earlier registration of
// its own, as far as v knows.
func (m *Manager) own(v *View) bool {
	x := ""
	if g, ok := v.gates[m.cfg.Address]; ok && m.cfg.Gate {
		x = g.Registration
	}
	if n, ok := v.nodes[m.cfg.Address]; ok && !m.cfg.Gate {
		x = n.Registration
	}
	_, ok := m.mine.Load(x)
	return ok
}

// givesUp says which obstacles are worth a bounded wait only. A process that was a
// member outlives an etcd that is down, and a gate may come before all nodes.
func givesUp(err error, before *Registration) bool {
	return errors.Is(err, ErrAddressTaken) || before == nil && !errors.Is(err, errNoCluster)
}

// pause waits for the next view, d at the longest.
func pause(ctx context.Context, v *View, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-v.Superseded():
	case <-timer.C:
	case <-ctx.Done():
	}
}

// revokePrevious frees the address before the first look at who has it.
func (m *Manager) revokePrevious(ctx context.Context) {
	if m.cfg.PreviousLease == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	if err := m.kv.Revoke(ctx, m.cfg.PreviousLease); err != nil {
		m.notice(event.Warn, "the previous process's lease could not be revoked; its address is free when it ends", err)
	}
}

// join is one attempt: create the cluster if there is none, check that this process
// fits, and T-REG.
func (m *Manager) join(ctx context.Context, v *View, before *Registration) (*Registration, error) {
	restored := m.restored.Load()
	if v.Revision == 0 {
		if why := m.silence.Load(); why != nil {
			return nil, fmt.Errorf("%w: %s", errNoView, *why)
		}
		return nil, errNoView
	}
	meta, err := m.found(ctx, v, before)
	if err != nil {
		return nil, err
	}
	if err := m.fits(meta); err != nil {
		return nil, err
	}
	if err := m.taken(v); err != nil {
		return nil, err
	}
	if err := m.bind(ctx, meta); err != nil {
		return nil, err
	}
	lapses := newLapses()
	lease, err := etcdmanager.Acquire(ctx, lapses.under(m.cfg.KVs), etcdmanager.LeaseConfig{TTL: m.cfg.LeaseTTL, Failed: m.renewalFailed})
	if err != nil {
		return nil, err
	}
	lapses.of(lease)
	r, err := m.enter(ctx, meta, before, lease)
	if err != nil {
		m.abandon(ctx, lease)
		return nil, err
	}
	r.restored, r.lapses = restored, lapses
	return r, nil
}

// found returns the cluster's meta, and makes it if this is the first node.
func (m *Manager) found(ctx context.Context, v *View, before *Registration) (*Meta, error) {
	switch {
	case v.Meta != nil:
		return v.Meta, nil
	case v.damage[m.keys.meta()] != "":
		return nil, fmt.Errorf("%s: %w: %s; repair or delete it", m.keys.meta(), ErrMetaUnreadable, v.damage[m.keys.meta()])
	case m.cfg.Gate:
		return nil, fmt.Errorf("prefix %s: %w", m.cfg.Prefix, errNoCluster)
	}
	fresh := m.newMeta(before)
	hold, err := m.lockDelay(ctx, before != nil || m.cfg.StoreCluster != "")
	if err != nil {
		return nil, err
	}
	result, err := m.commit(ctx, bootstrapTxn(m.keys, fresh.raw, hold))
	if err != nil {
		return nil, fmt.Errorf("create the cluster: %w", err)
	}
	if result.Held {
		m.step("bootstrap", "cluster "+fresh.Cluster, nil)
		return fresh, nil
	}
	meta, err := decodeMeta(result.Gets[0].Item.Value)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %v; repair or delete it", m.keys.meta(), ErrMetaUnreadable, err)
	}
	return meta, nil
}

func (m *Manager) newMeta(before *Registration) *Meta {
	meta := &Meta{Cluster: m.cfg.StoreCluster, Boot: newRegistration(), Store: m.cfg.StoreID, Shards: m.cfg.NumShards}
	if meta.Cluster == "" && before != nil {
		meta.Cluster = before.Meta.Cluster
	}
	if meta.Cluster == "" {
		meta.Cluster = newRegistration()
	}
	if meta.Shards == 0 {
		meta.Shards = sharding.NumShards
	}
	meta.raw = encodeJSON(meta)
	return meta
}

// lockDelay grants the lease of P/hold where an earlier life of the cluster may
// still be speaking: it ends by itself, after every trust of that life has.
func (m *Manager) lockDelay(ctx context.Context, needed bool) (etcdmanager.LeaseID, error) {
	if !needed {
		return 0, nil
	}
	id, _, err := m.kv.Grant(ctx, m.cfg.LeaseTTL+time.Second)
	if err != nil {
		return 0, fmt.Errorf("create the cluster: %w", err)
	}
	return id, nil
}

// fits refuses a process that would tear the cluster in two.
func (m *Manager) fits(meta *Meta) error {
	var problems []error
	if n := m.cfg.NumShards; n != 0 && n != meta.Shards {
		problems = append(problems, fmt.Errorf("%w: the cluster at %s was created with %d shards and this process is configured for %d; use the same, or none",
			ErrShardsDiffer, m.cfg.Prefix, meta.Shards, n))
	}
	if !m.cfg.Gate && m.cfg.StoreID != meta.Store {
		problems = append(problems, fmt.Errorf("%w: the nodes of the cluster at %s share the store %s and this node has %s; give it the same store, or another etcd prefix",
			ErrStoreDiffers, m.cfg.Prefix, meta.Store, m.cfg.StoreID))
	}
	return errors.Join(problems...)
}

// bind makes the node's store this cluster's. One that belongs to another is refused
// before anything of it is read: two clusters would write the same objects.
func (m *Manager) bind(ctx context.Context, meta *Meta) error {
	if m.cfg.BindStore == nil {
		return nil
	}
	owner, err := m.cfg.BindStore(ctx, meta.Cluster)
	if err != nil {
		return fmt.Errorf("the store does not say which cluster it belongs to: %w", err)
	}
	if owner != meta.Cluster {
		return fmt.Errorf("%w: the store %s belongs to cluster %s, and the one at %s is %s; give this node the store of its cluster, or the etcd and the prefix of the store's",
			ErrStoreForeign, m.cfg.StoreID, owner, m.cfg.Prefix, meta.Cluster)
	}
	return nil
}

// taken tells from the view whether another process has the address.
func (m *Manager) taken(v *View) error {
	if g, ok := v.gates[m.cfg.Address]; ok && m.cfg.Gate {
		return m.takenBy(g.Registration)
	}
	if n, ok := v.nodes[m.cfg.Address]; ok && !m.cfg.Gate {
		return m.takenBy(n.Registration)
	}
	return nil
}

func (m *Manager) takenBy(registration string) error {
	return fmt.Errorf("%w: another live process is registered as %s (registration %s); stop it or give this one another advertise address. If it has just died, its lease ends within %v",
		ErrAddressTaken, m.cfg.Address, registration, m.cfg.LeaseTTL+time.Second)
}

// enter is T-REG.
func (m *Manager) enter(ctx context.Context, meta *Meta, before *Registration, lease *etcdmanager.Lease) (*Registration, error) {
	if m.cfg.RecordLease != nil {
		if err := m.cfg.RecordLease(lease.ID()); err != nil {
			m.notice(event.Warn, "the lease could not be recorded: after a crash the next start waits for its end", err)
		}
	}
	r := m.registration(meta, lease)
	hold, err := m.lockDelay(ctx, before != nil && (!before.Meta.Same(meta) || m.forgot(before)))
	if err != nil {
		return nil, err
	}
	txn := registerTxn(m.keys, r.source, r.value, meta.raw, lease.ID(), hold)
	if !m.cfg.Gate {
		txn = alsoReg(txn, m.keys, r.Registration, r.Address, lease.ID())
	}
	result, err := r.commit(ctx, txn)
	switch {
	case err != nil:
		return nil, fmt.Errorf("register: %w", err)
	case result.Held:
		r.revision = result.Revision
		return r, nil
	}
	m.Reload()
	if own := result.Gets[1]; own.Exists {
		other, _ := decodeGate(m.cfg.Address, own.Item.Value)
		if other == nil {
			other = &Gate{Registration: "unreadable"}
		}
		return nil, m.takenBy(other.Registration)
	}
	return nil, errors.New("register: the cluster's meta has just changed")
}

// forgot says that etcd has lost its memory since an earlier registration of this
// process: others may hold, and speak for, what etcd now gives to somebody else.
func (m *Manager) forgot(before *Registration) bool {
	return m.restored.Load() != before.restored || errors.Is(before.Err(), etcdmanager.ErrRegression)
}

func (m *Manager) registration(meta *Meta, lease *etcdmanager.Lease) *Registration {
	self := Self{Address: m.cfg.Address, Registration: newRegistration()}
	m.mine.Store(self.Registration, true)
	r := &Registration{Self: self, Meta: meta, m: m, lease: lease, w: writer{keys: m.keys, self: self, meta: meta.raw}}
	if m.cfg.Gate {
		r.source, r.value = m.keys.gate(self.Address), encodeJSON(Gate{Registration: self.Registration, HTTP: m.cfg.HTTP})
		return r
	}
	r.source = m.keys.node(self.Address)
	r.value = encodeJSON(Member{
		Registration: self.Registration, State: StateReady, Store: m.cfg.StoreID,
		Version: m.cfg.Version, Weight: 1, Types: append([]string{}, m.cfg.Types...),
	})
	return r
}

// abandon revokes the lease of an attempt that failed. Where the outcome was
// unknown, that also undoes it: a late T-REG on a dead lease fails as a whole.
func (m *Manager) abandon(ctx context.Context, lease *etcdmanager.Lease) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	if err := lease.Release(ctx); err != nil {
		m.notice(event.Warn, "an unused lease could not be revoked; it ends by itself", err)
	}
}

func (m *Manager) renewalFailed(kv int, err error) {
	m.step("renew", fmt.Sprintf("etcd connection %d", kv), err)
}
