// Package consensusmanager keeps the picture of the cluster that all its processes
// share, and holds the leader's pen. Manager follows etcd with one goroutine and
// publishes immutable Views; it registers this process, and where the process leads
// it carries out what the pure function Decide intends, each write one guarded
// transaction of docs/format/etcd.md.
package consensusmanager

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/event"
)

// Defaults of Config.
const (
	DefaultPrefix         = "/goverse"
	DefaultStabilityDelay = 10 * time.Second
	DefaultReloadInterval = 30 * time.Second
	DefaultJoinTimeout    = 15 * time.Second
)

// Config says who this process is and which cluster it belongs to. Zero values mean
// the defaults.
type Config struct {
	// KVs are the ways to etcd. The first carries the watch and the transactions; the
	// lease is renewed on each of them, so that one lost endpoint costs no time.
	KVs []etcdmanager.KV
	// Prefix begins every key of the cluster: "/goverse" by default.
	Prefix string

	// Address is the advertised host:port; it is the process's name in the cluster.
	Address string
	// Gate: this process hosts no objects.
	Gate bool
	// HTTP is where a gate's clients reach it over HTTP, as https://gate1:48000; empty where
	// they do not, or nobody knows.
	HTTP string
	// Types are the object types that the node had registered when it started.
	Types []string
	// Version is this program's, for operators.
	Version string

	// NumShards of a cluster that this node creates: 8192 by default. Where a cluster
	// exists already, zero accepts what it has and anything else must agree with it.
	NumShards int
	// StoreID is the identity of the node's store; all nodes share one. Empty is none.
	StoreID string
	// StoreCluster is the cluster that the store has served before, if it says so.
	StoreCluster string
	// BindStore makes the store the cluster's, if it is nobody's, and returns whose it is;
	// nil: the store does not remember that.
	BindStore func(ctx context.Context, cluster string) (string, error)

	// MinQuorum is how many nodes form the cluster: 1 by default.
	MinQuorum int
	// QuorumLoss is what happens while they are fewer later: QuorumContinue by default.
	QuorumLoss QuorumLoss
	// StabilityDelay is for how long nodes must have been there before the first
	// mapping, and each before shards that run elsewhere move to it. What a dead node
	// held never waits for it. 10 s by default, negative is none.
	StabilityDelay time.Duration
	// InFlight bounds how many shards of one node move at a time to even out the load:
	// 64 by default.
	InFlight int
	// ReloadInterval is how often, with jitter, the whole picture is read anew, however
	// quiet the watch is: 30 s by default.
	ReloadInterval time.Duration
	// FreshCluster: this process has just created the etcd, so nobody else can be
	// about to join. There is no stability delay.
	FreshCluster bool

	// LeaseTTL is for how long etcd keeps this process after its last sign of life: 5 s
	// by default, at least 3 s.
	LeaseTTL time.Duration
	// JoinTimeout bounds how long the process waits for its address to become free,
	// and for etcd at the first registration: 15 s by default.
	JoinTimeout time.Duration
	// PreviousLease is a lease of a process that is surely dead. It is revoked first,
	// so that its address is free at once.
	PreviousLease etcdmanager.LeaseID
	// RecordLease, if set, is told of every lease before anything is written on it, to
	// be the next process's PreviousLease.
	RecordLease func(etcdmanager.LeaseID) error

	Listener event.Listener
}

// WithDefaults is c with zero values replaced.
func (c Config) WithDefaults() Config {
	setDefault(&c.Prefix, DefaultPrefix)
	setDefault(&c.MinQuorum, 1)
	setDefault(&c.QuorumLoss, QuorumContinue)
	setDefault(&c.StabilityDelay, DefaultStabilityDelay)
	setDefault(&c.InFlight, sharding.DefaultInFlight)
	setDefault(&c.ReloadInterval, DefaultReloadInterval)
	setDefault(&c.LeaseTTL, etcdmanager.DefaultTTL)
	setDefault(&c.JoinTimeout, DefaultJoinTimeout)
	setDefault(&c.StoreID, NoStore)
	if c.FreshCluster {
		c.StabilityDelay = -1
	}
	return c
}

func setDefault[T comparable](v *T, to T) {
	if *v == *new(T) {
		*v = to
	}
}

// Validate says, joined, all that is wrong with c.
func (c Config) Validate() error {
	var problems []error
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if len(c.KVs) == 0 {
		bad("no connection to etcd is given")
	}
	if err := validAddress(c.Address); err != nil {
		bad("advertise address %q: %w", c.Address, err)
	}
	if c.Prefix != "" && strings.Trim(c.Prefix, "/") == "" {
		bad("etcd prefix %q: it needs a name, as in /goverse", c.Prefix)
	}
	if name := reserved(c.Prefix); name != "" {
		bad("etcd prefix %q: the cluster at the prefix before /%s would take its keys for its own; use another name than %[2]s", c.Prefix, name)
	}
	if c.NumShards < 0 || c.NumShards > sharding.NumShards {
		bad("%d shards: possible are 1 to %d", c.NumShards, sharding.NumShards)
	}
	if c.MinQuorum < 0 {
		bad("a quorum of %d nodes is not possible", c.MinQuorum)
	}
	switch c.QuorumLoss {
	case "", QuorumContinue, QuorumFreeze, QuorumStop:
	default:
		bad("quorum loss %q: want %s, %s or %s", c.QuorumLoss, QuorumContinue, QuorumFreeze, QuorumStop)
	}
	if c.InFlight < 0 {
		bad("%d shards moving at a time are not possible", c.InFlight)
	}
	if c.LeaseTTL != 0 && c.LeaseTTL < etcdmanager.MinTTL {
		bad("a lease of %v: at least %v", c.LeaseTTL, etcdmanager.MinTTL)
	}
	if c.JoinTimeout < 0 {
		bad("a join timeout of %v is not possible", c.JoinTimeout)
	}
	return errors.Join(problems...)
}

func validAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return errors.New("want host:port, as others reach this process")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("port %q: want 1 to 65535", port)
	}
	for _, c := range address {
		if c <= ' ' || c > '~' || c == '/' || c == '"' || c == '\\' {
			return fmt.Errorf("the character %q is not possible", c)
		}
	}
	return nil
}

// Manager is one process's part in a cluster. View may be called concurrently and
// at any time; Run once.
type Manager struct {
	cfg  Config
	keys keys
	kv   etcdmanager.KV
	on   event.Listener

	view     atomic.Pointer[View] // written by the follow loop only
	fresh    atomic.Int64         // when the full load was asked for that the view has; Unix nanoseconds
	reload   chan struct{}
	standing atomic.Pointer[string] // why the process is not registered; nil: it is
	silence  atomic.Pointer[string] // why etcd did not answer the last time; nil: it did
	restored atomic.Int64           // how often etcd turned out to have been restored
	full     atomic.Int64           // when etcd last had no space left; Unix nanoseconds, 0: it has

	mine sync.Map // the registrations that this process has made, as keys
}

// New makes a Manager; cfg must be valid.
func New(cfg Config) (*Manager, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.WithDefaults()
	m := &Manager{cfg: cfg, keys: newKeys(cfg.Prefix), kv: cfg.KVs[0], on: cfg.Listener, reload: make(chan struct{}, 1)}
	m.view.Store(newView())
	m.waits("it has not started")
	return m, nil
}

// View is the newest picture of the cluster. It is never nil; before the first
// answer from etcd it is empty.
func (m *Manager) View() *View { return m.view.Load() }

// Waiting is why this process is not registered, or "".
func (m *Manager) Waiting() string {
	if why := m.standing.Load(); why != nil {
		return *why
	}
	return ""
}

// Rules are the settings that decisions of this process depend on.
func (m *Manager) Rules() Rules {
	return Rules{
		MinQuorum: m.cfg.MinQuorum, QuorumLoss: m.cfg.QuorumLoss, Stability: m.cfg.StabilityDelay,
		InFlight: m.cfg.InFlight, Still: m.noSpace(),
	}
}

// Degraded is what is wrong with the cluster although it serves, in words for an
// operator.
func (m *Manager) Degraded() []string {
	var list []string
	v, rules := m.View(), m.Rules()
	if v.Formed && !rules.Quorate(v) {
		list = append(list, fmt.Sprintf("%d nodes are ready, fewer than the quorum of %d: %s", v.Ready(), rules.MinQuorum, map[QuorumLoss]string{
			QuorumContinue: "dead nodes' shards are taken over all the same",
			QuorumFreeze:   "no shard is taken over or balanced",
			QuorumStop:     "no shard is taken over or balanced, and gates take no calls",
		}[rules.QuorumLoss]))
	}
	if rules.Still {
		list = append(list, "etcd has no space left: held shards are served, but nothing can be taken over or move; compact and defragment it, then disarm its NOSPACE alarm")
	}
	return list
}

func (m *Manager) waits(why string) { m.standing.Store(&why) }

// ErrUnfinished is what serve returns when it leaves although this process may still
// be running calls: the lease is then not revoked but left to its end.
var ErrUnfinished = errors.New("calls are still running")

// Run follows the cluster, registers the process and calls serve for as long as the
// registration holds, and again after it was lost, until ctx ends. serve must return
// soon after its registration's Lost, and after it has left when ctx ends. The lease
// is alive until serve returns. Run returns serve's error; nil when ctx ended.
func (m *Manager) Run(ctx context.Context, serve func(ctx context.Context, r *Registration) error) error {
	m.revokePrevious(ctx)
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var following sync.WaitGroup
	following.Go(func() { m.follow(background) })
	defer following.Wait()
	defer stop()
	defer m.waits("it has stopped")

	var before *Registration
	for {
		r, err := m.register(ctx, before)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		err = m.hold(ctx, r, serve)
		switch {
		case ctx.Err() != nil && (err == nil || errors.Is(err, ErrUnfinished) || errors.Is(err, ErrLost)):
			return nil
		case !errors.Is(err, ErrLost):
			return err
		}
		before = r
	}
}

// hold renews the lease and takes part in the campaign while serve runs, then gives
// the lease up.
func (m *Manager) hold(ctx context.Context, r *Registration, serve func(context.Context, *Registration) error) error {
	background := context.WithoutCancel(ctx)
	renewing, stopRenewing := context.WithCancel(background)
	campaigning, stopCampaign := context.WithCancel(background)
	var renewal, campaign sync.WaitGroup
	renewal.Go(func() { _ = r.lease.Run(renewing, r.terms()) }) // Lost says it
	campaign.Go(func() { m.vigil(campaigning, r) })
	campaign.Go(func() { m.pulse(campaigning, r) })
	if !m.cfg.Gate {
		campaign.Go(func() { m.campaign(campaigning, r) })
		campaign.Go(func() { m.keepSecret(campaigning, r) })
	}
	m.standing.Store(nil)
	m.step("register", r.Owner(), nil)
	err := serve(ctx, r)
	stopCampaign()
	campaign.Wait()
	m.leave(background, r, err)
	stopRenewing()
	renewal.Wait()
	return err
}

// vigil ends the registration when etcd turns out to have been restored, which may have
// undone what it rests on, and when somebody has deleted the process's own key: the
// others then do as if it were dead. (The renewals watch over the lease and its
// registration key, and are told of every revision that this process acted upon.)
func (m *Manager) vigil(ctx context.Context, r *Registration) {
	for {
		v := m.View()
		if m.restored.Load() != r.restored {
			r.lease.Forsake(errRestored)
			return
		}
		r.lease.Saw(v.Revision)
		if v.Revision >= r.revision && !m.seen(v, r) {
			m.notice(event.Alarm, r.source+" was deleted or belongs to another process", nil)
			m.abandon(ctx, r.lease)
			return
		}
		select {
		case <-v.Superseded():
		case <-r.Lost():
			return
		case <-ctx.Done():
			return
		}
	}
}

// pulse says when the renewals have stayed away for so long that this process leads no
// more and takes nothing on, and when they are back.
func (m *Manager) pulse(ctx context.Context, r *Registration) {
	select {
	case <-r.Confirmed():
	case <-ctx.Done():
	}
	for fresh := true; ctx.Err() == nil; {
		if now := r.Fresh(); now != fresh {
			if fresh = now; fresh {
				m.notice(event.Info, "etcd renews the lease again", nil)
			} else if r.Err() == nil {
				m.notice(event.Warn, fmt.Sprintf("etcd has not renewed the lease for %v: this process leads no more and takes up no shards", etcdmanager.FreshFor), nil)
			}
		}
		stale := time.Until(r.lease.Renewed().Add(etcdmanager.FreshFor))
		wait(ctx, max(stale, etcdmanager.RenewInterval/2))
	}
}

// wait waits for d or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	<-ctx.Done()
}

// seen says whether v shows the registration.
func (m *Manager) seen(v *View, r *Registration) bool {
	if m.cfg.Gate {
		g, ok := v.gates[r.Address]
		return ok && g.Registration == r.Registration
	}
	return v.members.Registered(r.Address, r.Registration)
}

// leave revokes the lease, so that others need not wait for its end.
func (m *Manager) leave(ctx context.Context, r *Registration, err error) {
	if lost := r.lease.Err(); lost != nil {
		m.waits("its registration was lost: " + lost.Error())
		m.notice(event.Alarm, "the registration was lost and everything that it held with it", lost)
	}
	if errors.Is(err, ErrUnfinished) {
		m.notice(event.Warn, "the lease is left to its end", err)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	if err := r.lease.Release(ctx); err != nil {
		m.notice(event.Warn, fmt.Sprintf("the lease could not be revoked; others take over after %v", r.lease.TTL()), err)
	}
	m.step("leave", r.Owner(), nil)
}

const leaveTimeout = time.Second

func (m *Manager) notice(s event.Severity, text string, err error) {
	if m.on.Notice != nil {
		m.on.Notice(event.Notice{Severity: s, From: "cluster", Text: text, Err: err})
	}
}

func (m *Manager) step(name, detail string, err error) {
	if m.on.Coordination != nil {
		m.on.Coordination(event.Coordination{Step: name, Detail: detail, Err: err})
	}
}
