package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgxpool"
)

// DB is a database and the connections to it. All methods may be called concurrently.
type DB struct {
	pool    *pgxpool.Pool
	own     bool   // the pool was made here: its sessions are set up, and Close closes it
	name    string // host:port/database, for messages
	maxIdle int32  // 0: all may be
	warn    func(text string, err error)

	hooks   chan struct{} // a place for each transaction that may wait for a hook
	closed  atomic.Bool
	storeID atomic.Pointer[string] // nil: the tables are not there
	pasts   pasts
	silent  sync.Once // warns that the server does not tell its history
}

// NewDB connects as cfg says: it is Open, bounded by cfg.ConnectTimeout. A nil cfg is
// DefaultConfig.
func NewDB(cfg *Config) (*DB, error) {
	if cfg == nil {
		cfg = DefaultConfig()
	}
	ctx, cancel := context.WithTimeout(context.Background(), cfg.withDefaults().ConnectTimeout)
	defer cancel()
	return Open(ctx, *cfg)
}

// Open connects to a database and checks the server. It does not make the tables: see
// InitSchema. A server that would lose what it acknowledges, a standby, and tables of a
// newer version are refused.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	pc, err := cfg.pool()
	if err != nil {
		return nil, fmt.Errorf("postgres config: %w", err)
	}
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	db := newDB(pool, cfg.Warn)
	db.own = true
	if cfg.MaxIdleConns < cfg.MaxOpenConns {
		db.maxIdle = int32(cfg.MaxIdleConns)
	}
	if err := db.look(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("postgres: open %w", err)
	}
	return db, nil
}

// NewDBFromPool uses connections of the program's own pool, which stays the caller's to
// close; of MaxConns at least 2 are needed. Each connection is checked before its first
// use, and its application_name becomes that of the node that commits: take-overs find
// the connections of a dead node by it. It must be a pool of sessions: a PgBouncer in
// transaction mode is none. warn may be nil.
func NewDBFromPool(ctx context.Context, pool *pgxpool.Pool, warn func(text string, err error)) (*DB, error) {
	if n := pool.Config().MaxConns; n < 2 {
		return nil, fmt.Errorf("postgres: the pool has MaxConns=%d: want at least 2", n)
	}
	if warn == nil {
		warn = func(string, error) {}
	}
	db := newDB(pool, warn)
	if err := db.look(ctx); err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	return db, nil
}

func newDB(pool *pgxpool.Pool, warn func(string, error)) *DB {
	c := pool.Config()
	return &DB{
		pool: pool, warn: warn,
		name:  net.JoinHostPort(c.ConnConfig.Host, strconv.Itoa(int(c.ConnConfig.Port))) + "/" + c.ConnConfig.Database,
		hooks: make(chan struct{}, min(8, c.MaxConns/2)),
	}
}

// Close waits for what is running and closes the connections, unless they are of the
// caller's pool. Closing again is no error.
func (db *DB) Close() error {
	if !db.closed.Swap(true) && db.own {
		db.pool.Close()
	}
	return nil
}

// look tries the first connection, and learns whether the tables are there.
func (db *DB) look(ctx context.Context) error {
	s, err := db.acquire(ctx, "")
	if err != nil {
		return err
	}
	defer s.Release()
	return db.readSchema(ctx, s)
}

// ready says whether the tables are there.
func (db *DB) ready() error {
	switch {
	case db.closed.Load():
		return ErrClosed
	case db.storeID.Load() == nil:
		return fmt.Errorf("%s: %w", db.name, ErrNoSchema)
	}
	return nil
}

// explained says whether err has been through explain already.
func explained(err error) bool {
	for _, known := range []error{ErrClosed, ErrNoSchema, ErrNewerSchema, ErrDamaged, ErrUnfit, ErrOtherHistory} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}
