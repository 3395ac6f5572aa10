package etcdmanager

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Terms of a lease (protocol.md section 1).
const (
	DefaultTTL    = 5 * time.Second
	MinTTL        = 3 * time.Second
	RenewInterval = 500 * time.Millisecond
	// FreshFor is for how long after a good renewal a process may take on more: lead,
	// and claim. It still serves what it has for as long as the lease is trusted.
	FreshFor = 1500 * time.Millisecond
)

// Reasons for which a lease is lost, besides ErrLeaseNotFound. After any of them
// this process must drop all that it holds, and may register anew.
var (
	// ErrRegistrationGone: the lease lives but somebody deleted the registration.
	ErrRegistrationGone = errors.New("registration deleted")
	// ErrMetaChanged: this is another cluster, or the same one wiped.
	ErrMetaChanged = errors.New("cluster identity changed")
	// ErrRegression: etcd answered below a revision that was seen before. It was
	// restored from an older snapshot, and says nothing of it by itself.
	ErrRegression = errors.New("revision went back")
	// ErrReleased: this process gave the lease up itself.
	ErrReleased = errors.New("released")
)

// LeaseConfig describes a lease. Its zero value is usable.
type LeaseConfig struct {
	// TTL to ask for: DefaultTTL if zero, at least MinTTL.
	TTL time.Duration
	// Failed, if set, is told of every renewal round that failed and of the KV it was
	// made on. It is called concurrently and must not block.
	Failed func(kv int, err error)
}

// Standing is what must be so in etcd, besides a living lease, for this process to
// be who it says it is.
type Standing struct {
	Registration string // a key on this lease: P/reg/<x>
	Meta         string // P/meta
	MetaValue    []byte // its exact bytes
	Leader       string // P/leader: read in the same transaction; any key will do
}

// txn reads also when all is well: etcd evaluates a transaction that reads nothing
// on whatever a single member happens to know.
func (s Standing) txn() Txn {
	return Txn{
		If:   []Guard{Alive(s.Registration), ValueIs(s.Meta, s.MetaValue)},
		Then: []Op{Get(s.Leader)},
		Else: []Op{Get(s.Registration), Get(s.Meta)},
	}
}

// reason explains a result whose guards did not hold.
func (s Standing) reason(r Result) error {
	if !r.Gets[0].Exists {
		return fmt.Errorf("%s: %w", s.Registration, ErrRegistrationGone)
	}
	return fmt.Errorf("%s: %w", s.Meta, ErrMetaChanged)
}

// Lease is this process's lease. It owns the answer to one question: may the
// process still act as a member without asking etcd? All methods may be called
// concurrently, Run once.
type Lease struct {
	kvs    []KV
	failed func(int, error)
	id     LeaseID
	ttl    time.Duration

	trust     atomic.Pointer[trust] // nil: none
	revision  atomic.Int64          // the highest seen
	confirmed chan struct{}
	life      context.Context // ends when the lease is lost
	end       context.CancelFunc

	mu  sync.Mutex // protects following field and the writes of trust
	err error      // why the lease was lost
}

// Acquire grants a lease on the first KV that answers. It is not trusted before Run
// has confirmed it.
func Acquire(ctx context.Context, kvs []KV, cfg LeaseConfig) (*Lease, error) {
	if cfg.TTL == 0 {
		cfg.TTL = DefaultTTL
	}
	if cfg.TTL < MinTTL {
		return nil, fmt.Errorf("lease TTL %v: at least %v", cfg.TTL, MinTTL)
	}
	if len(kvs) == 0 {
		return nil, errors.New("acquire a lease: no etcd endpoint is given")
	}
	if cfg.Failed == nil {
		cfg.Failed = func(int, error) {}
	}
	l := &Lease{kvs: kvs, failed: cfg.Failed, confirmed: make(chan struct{})}
	l.life, l.end = context.WithCancel(context.Background())
	if err := l.grant(ctx, cfg.TTL); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *Lease) grant(ctx context.Context, ttl time.Duration) error {
	var problems []error
	for _, kv := range l.kvs {
		try, cancel := context.WithTimeout(ctx, patience(ttl))
		id, granted, err := kv.Grant(try, ttl)
		cancel()
		if err == nil {
			l.id, l.ttl = id, granted
			return nil
		}
		problems = append(problems, err)
	}
	return fmt.Errorf("acquire a lease: %w", errors.Join(problems...))
}

// patience bounds one attempt, so that three fit into the time that a lease may go
// without renewal.
func patience(ttl time.Duration) time.Duration { return (ttl - margin(ttl)) / 3 }

// ID names the lease in etcd.
func (l *Lease) ID() LeaseID { return l.id }

// TTL is what was granted.
func (l *Lease) TTL() time.Duration { return l.ttl }

// Saw tells the lease of a revision that a linearizable answer carried, so that it
// notices when etcd goes back behind it.
func (l *Lease) Saw(revision int64) {
	for {
		seen := l.revision.Load()
		if revision <= seen || l.revision.CompareAndSwap(seen, revision) {
			return
		}
	}
}

// Run renews the lease, one loop for each KV, until ctx ends (nil) or the lease is
// lost or released (Err). The registration of standing must exist already.
func (l *Lease) Run(ctx context.Context, standing Standing) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.life, cancel)()
	var loops sync.WaitGroup
	for i := range l.kvs {
		loops.Go(func() {
			if err := l.renew(ctx, i, standing); err != nil {
				l.lose(err)
			}
		})
	}
	loops.Wait()
	return l.Err()
}

// renew makes a round every RenewInterval on one KV; it returns why the lease is
// lost, or nil when ctx ends.
func (l *Lease) renew(ctx context.Context, kv int, standing Standing) error {
	for {
		next := time.Now().Add(RenewInterval)
		err := l.round(ctx, l.kvs[kv], standing)
		switch {
		case ctx.Err() != nil:
			return nil
		case isLoss(err):
			return err
		case err != nil:
			l.failed(kv, err)
		}
		if !pause(ctx, time.Until(next)) {
			return nil
		}
	}
}

func isLoss(err error) bool {
	for _, loss := range []error{ErrLeaseNotFound, ErrRegistrationGone, ErrMetaChanged, ErrRegression} {
		if errors.Is(err, loss) {
			return true
		}
	}
	return false
}

// round renews once and then asks, linearizably, whether the standing still holds.
// Only both together make trust, counted from before the first was sent.
func (l *Lease) round(ctx context.Context, kv KV, standing Standing) error {
	ctx, cancel := context.WithTimeout(ctx, patience(l.ttl))
	defer cancel()
	sent := time.Now()
	boot, booted := boottime()
	ttl, err := kv.KeepAlive(ctx, l.id)
	if err != nil {
		return err
	}
	floor := l.revision.Load() // a linearizable answer to a later question is not below it
	result, err := kv.Commit(ctx, standing.txn())
	switch {
	case err != nil:
		return err
	case result.Revision < floor:
		return fmt.Errorf("etcd answered at revision %d after %d: %w", result.Revision, floor, ErrRegression)
	case !result.Held:
		return standing.reason(result)
	}
	l.Saw(result.Revision)
	l.confirm(newTrust(sent, boot, booted, ttl))
	return nil
}

// confirm publishes t unless it ends before what is known already.
func (l *Lease) confirm(t trust) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.trust.Load()
	if l.err != nil || before != nil && !t.until().After(before.until()) {
		return
	}
	l.trust.Store(&t)
	if before == nil {
		close(l.confirmed)
	}
}

func (l *Lease) lose(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return
	}
	l.err = fmt.Errorf("lease %x lost: %w", int64(l.id), err)
	l.trust.Store(nil)
	l.end()
}

// Confirmed is closed once the lease has been trusted for the first time.
func (l *Lease) Confirmed() <-chan struct{} { return l.confirmed }

// Trusted says whether the process may act as a member now. It takes no lock and
// does not allocate. Ask before acting and again before letting the result out.
func (l *Lease) Trusted() bool {
	t := l.trust.Load()
	return t != nil && t.stands()
}

// Fresh says whether the lease is trusted and the last good renewal was sent less
// than FreshFor ago. It takes no lock.
func (l *Lease) Fresh() bool {
	t := l.trust.Load()
	if t == nil {
		return false
	}
	recent := *t
	recent.span = min(t.span, FreshFor)
	return recent.stands()
}

// TrustedUntil is the deadline; the zero time while there is no trust.
func (l *Lease) TrustedUntil() time.Time {
	if t := l.trust.Load(); t != nil {
		return t.until()
	}
	return time.Time{}
}

// Renewed is when the last good renewal was sent; the zero time while there is no
// trust.
func (l *Lease) Renewed() time.Time {
	if t := l.trust.Load(); t != nil {
		return t.sent
	}
	return time.Time{}
}

// Lost is closed when the lease is known to be gone, which it never is merely
// because etcd does not answer.
func (l *Lease) Lost() <-chan struct{} { return l.life.Done() }

// Err is why the lease was lost; nil while it is not.
func (l *Lease) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Forsake gives the lease up for lost, as if a renewal had found out: err is why.
func (l *Lease) Forsake(err error) { l.lose(err) }

// Release stops trusting the lease and then revokes it, which deletes every key on
// it in one step. It asks all KVs at once; one success is enough.
func (l *Lease) Release(ctx context.Context) error {
	l.lose(ErrReleased)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan error, len(l.kvs))
	var asked sync.WaitGroup
	defer asked.Wait()
	for _, kv := range l.kvs {
		asked.Go(func() { answers <- kv.Revoke(ctx, l.id) })
	}
	var problems []error
	for range l.kvs {
		err := <-answers
		if err == nil {
			cancel()
			return nil
		}
		problems = append(problems, err)
	}
	return fmt.Errorf("release lease %x: %w", int64(l.id), errors.Join(problems...))
}
