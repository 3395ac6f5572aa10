package memkv

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
)

// Version is what a store says it is.
const Version = "3.7.3"

// Fault is what is wrong with a connection. Whatever it is, its watches stand
// still, and a request that gets no answer fails when its context ends.
type Fault uint8

const (
	Healthy     Fault = iota
	Cut               // requests do not arrive
	AnswersLost       // requests arrive, and take effect; their answers do not
	Late              // requests arrive when the fault ends, even if nobody waits any more
)

// Conn is one process's connection to a Store. All methods may be called
// concurrently.
type Conn struct {
	store *Store
	ctx   context.Context // ends with Close
	stop  context.CancelFunc

	mu      sync.Mutex // protects following fields
	closed  bool
	fault   Fault
	change  chan struct{} // closed, and replaced, when fault changes
	late    []func()      // requests that wait for the end of Late, in order
	watches sync.WaitGroup
}

var _ etcdmanager.KV = (*Conn)(nil)

// Connect makes a connection.
func (s *Store) Connect() *Conn {
	c := &Conn{store: s, change: make(chan struct{})}
	c.ctx, c.stop = context.WithCancel(context.Background())
	return c
}

// Set changes what is wrong with the connection. Requests that were late take
// effect, in order, before Set returns.
func (c *Conn) Set(f Fault) {
	c.mu.Lock()
	late := c.late
	c.fault, c.late = f, nil
	close(c.change)
	c.change = make(chan struct{})
	c.mu.Unlock()
	for _, request := range late {
		request()
	}
}

func (c *Conn) state() (Fault, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fault, c.change
}

// waitHealthy returns nil once the connection has no fault.
func (c *Conn) waitHealthy(ctx context.Context) error {
	for {
		fault, change := c.state()
		if fault == Healthy {
			return c.alive(ctx)
		}
		select {
		case <-change:
		case <-ctx.Done():
			return ctx.Err()
		case <-c.ctx.Done():
			return etcdmanager.ErrClosed
		}
	}
}

func (c *Conn) alive(ctx context.Context) error {
	if c.ctx.Err() != nil {
		return etcdmanager.ErrClosed
	}
	return ctx.Err()
}

// ask makes one request of the store under the fault of the moment. A request that
// is cut waits for the connection, as a client that reconnects does.
func ask[T any](ctx context.Context, c *Conn, op string, request func() (T, error)) (T, error) {
	var none T
	if err := c.alive(ctx); err != nil {
		return none, fmt.Errorf("memkv: %s: %w: %w", op, etcdmanager.ErrNotApplied, err)
	}
	fault, _ := c.state()
	if fault == Healthy {
		return request()
	}
	ctx, cancel := context.WithTimeout(ctx, etcdmanager.DefaultRequestTimeout)
	defer cancel()
	switch fault {
	case AnswersLost:
		_, _ = request()
		return none, c.unanswered(ctx, op)
	case Late:
		c.postpone(func() { _, _ = request() })
		return none, c.unanswered(ctx, op)
	}
	if err := c.waitHealthy(ctx); err != nil {
		return none, fmt.Errorf("memkv: %s: no answer: %w", op, err)
	}
	return request()
}

// postpone keeps a request until the fault ends, or makes it now if it has ended.
func (c *Conn) postpone(request func()) {
	c.mu.Lock()
	if c.fault == Late {
		c.late = append(c.late, request)
		request = func() {}
	}
	c.mu.Unlock()
	request()
}

func (c *Conn) unanswered(ctx context.Context, op string) error {
	err := etcdmanager.ErrClosed
	select {
	case <-ctx.Done():
		err = ctx.Err()
	case <-c.ctx.Done():
	}
	return fmt.Errorf("memkv: %s: no answer: %w", op, err)
}

// Range reads a prefix.
func (c *Conn) Range(ctx context.Context, prefix string) (etcdmanager.Page, error) {
	return ask(ctx, c, "range", func() (etcdmanager.Page, error) { return c.store.page(prefix) })
}

// Commit applies a transaction.
func (c *Conn) Commit(ctx context.Context, txn etcdmanager.Txn) (etcdmanager.Result, error) {
	if err := txn.Validate(); err != nil {
		return etcdmanager.Result{}, err
	}
	return ask(ctx, c, "commit", func() (etcdmanager.Result, error) { return c.store.commit(txn) })
}

// Watch follows a prefix. A revision below 1 means from the beginning.
func (c *Conn) Watch(ctx context.Context, prefix string, from int64) <-chan etcdmanager.Batch {
	out := make(chan etcdmanager.Batch)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		close(out)
		return out
	}
	ctx, cancel := context.WithCancel(ctx)
	release := context.AfterFunc(c.ctx, cancel)
	w := &watch{conn: c, prefix: prefix, next: max(from, 1), out: out}
	leave := c.store.enlist(w)
	c.watches.Go(func() {
		defer close(out)
		defer leave()
		defer cancel()
		defer release()
		w.run(ctx)
	})
	return out
}

// granted is Grant's answer as one value.
type granted struct {
	id  etcdmanager.LeaseID
	ttl time.Duration
}

// Grant creates a lease of whole seconds.
func (c *Conn) Grant(ctx context.Context, ttl time.Duration) (etcdmanager.LeaseID, time.Duration, error) {
	g, err := ask(ctx, c, "grant a lease", func() (granted, error) {
		id, ttl, err := c.store.grant(ttl)
		return granted{id, ttl}, err
	})
	return g.id, g.ttl, err
}

// KeepAlive renews a lease.
func (c *Conn) KeepAlive(ctx context.Context, id etcdmanager.LeaseID) (time.Duration, error) {
	return ask(ctx, c, "renew a lease", func() (time.Duration, error) { return c.store.keepAlive(id) })
}

// Revoke ends a lease.
func (c *Conn) Revoke(ctx context.Context, id etcdmanager.LeaseID) error {
	_, err := ask(ctx, c, "revoke a lease", func() (struct{}, error) { return struct{}{}, c.store.revoke(id) })
	return err
}

// Version is the etcd whose semantics these are.
func (c *Conn) Version(ctx context.Context) (string, error) {
	return ask(ctx, c, "version", func() (string, error) { return Version, nil })
}

// Close ends the connection and its watches. It may be called twice.
func (c *Conn) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.stop()
	c.watches.Wait()
	return nil
}
