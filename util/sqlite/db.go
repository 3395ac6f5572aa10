package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
)

// DB is an open database file: one connection that writes and a few that read. All
// methods may be called concurrently.
type DB struct {
	cfg  Config
	dial dial

	// Whoever has received a connection from a channel owns it until it is sent
	// back; nil stands for one that is not open. Repair and Close collect them all.
	writer  chan *conn
	readers chan *conn

	life      context.Context // ends with Close; bounds repairs
	end       context.CancelFunc
	repairs   sync.WaitGroup
	closeOnce sync.Once
	closeErr  error

	suspect atomic.Pointer[suspicion] // why nothing may be acknowledged; nil: all is well
	storeID atomic.Pointer[string]    // nil: the tables are not there

	// Owned by whoever owns the writer.
	files []watched
	pages int // written into the WAL since the last checkpoint
}

// Open opens the file, creates it if it is missing, and checks it. It does not make
// the tables: see InitSchema. A file that is damaged, is no SQLite database or was
// made by a newer version is refused and left as it is.
func Open(ctx context.Context, cfg Config) (*DB, error) { return open(ctx, cfg, dialDriver) }

func open(ctx context.Context, cfg Config, d dial) (*DB, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	path, err := filepath.Abs(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	cfg.Path = path
	db := &DB{cfg: cfg, dial: d, writer: make(chan *conn, 1), readers: make(chan *conn, cfg.Readers)}
	db.life, db.end = context.WithCancel(context.Background())
	if err := db.inspect(ctx); err != nil {
		return nil, fmt.Errorf("sqlite: open %w", err)
	}
	w, err := db.openWriter(ctx, creating)
	if err != nil {
		return nil, fmt.Errorf("sqlite: open %w", err)
	}
	db.writer <- w
	for range cfg.Readers {
		db.readers <- nil
	}
	return db, nil
}

// Close waits for what is running and closes the file. Closing again is no error.
func (db *DB) Close() error {
	db.closeOnce.Do(func() {
		db.end()
		errs := []error{(<-db.writer).close()}
		for range db.cfg.Readers {
			errs = append(errs, (<-db.readers).close())
		}
		db.repairs.Wait()
		db.closeErr = errors.Join(errs...)
	})
	return db.closeErr
}

// takeWriter waits for the writer of a file that is not suspect.
func (db *DB) takeWriter(ctx context.Context) (*conn, error) {
	for {
		if err := db.usable(ctx); err != nil {
			return nil, err
		}
		select {
		case w := <-db.writer:
			if db.suspect.Load() == nil {
				return w, nil
			}
			if err := db.repaired(ctx, w); err != nil {
				return nil, err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-db.life.Done():
			return nil, ErrClosed
		}
	}
}

func (db *DB) putWriter(w *conn) { db.writer <- w }

// takeReader waits for a reader of a file that is not suspect.
func (db *DB) takeReader(ctx context.Context) (*conn, error) {
	for {
		if err := db.usable(ctx); err != nil {
			return nil, err
		}
		if db.suspect.Load() != nil {
			w, err := db.takeWriter(ctx)
			if err != nil {
				return nil, err
			}
			db.putWriter(w)
		}
		select {
		case r := <-db.readers:
			if db.suspect.Load() == nil {
				return db.openedReader(ctx, r)
			}
			db.readers <- r
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-db.life.Done():
			return nil, ErrClosed
		}
	}
}

func (db *DB) openedReader(ctx context.Context, r *conn) (*conn, error) {
	if r != nil {
		return r, nil
	}
	raw, err := db.dial(ctx, db.cfg.dsn(reading))
	if err != nil {
		db.readers <- nil
		return nil, explain(db.cfg.Path, err)
	}
	return newConn(raw), nil
}

// putReader gives a reader back; err is how its query ended.
func (db *DB) putReader(r *conn, err error) {
	if troubleOf(err) == broken {
		db.suspected(err)
	}
	db.readers <- r
}

func (db *DB) usable(ctx context.Context) error {
	select {
	case <-db.life.Done():
		return ErrClosed
	default:
		return ctx.Err()
	}
}

// ready says whether the tables are there.
func (db *DB) ready() error {
	if db.storeID.Load() == nil {
		return fmt.Errorf("%s: %w", db.cfg.Path, ErrNoSchema)
	}
	return nil
}

// watched is one of the database's files as it was when it was opened. Somebody who
// deletes or exchanges it under a running program takes with it what will be written.
type watched struct {
	path string
	info os.FileInfo
}

// watch remembers the files. Stat does not open them: closing a descriptor of the
// file would drop the POSIX locks that SQLite holds in this process.
func (db *DB) watch() error {
	real, err := filepath.EvalSymlinks(db.cfg.Path) // SQLite puts its files beside the real one
	if err != nil {
		return err
	}
	db.files = db.files[:0]
	for _, path := range []string{db.cfg.Path, real + "-wal"} {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		db.files = append(db.files, watched{path, info})
	}
	return nil
}

// moved says whether the files are still the ones that are open.
func (db *DB) moved() error {
	for _, f := range db.files {
		now, err := os.Stat(f.path)
		if err != nil {
			return fmt.Errorf("the file was taken away while it was open: %w", err)
		}
		if !os.SameFile(f.info, now) {
			return fmt.Errorf("%s was exchanged while it was open", f.path)
		}
	}
	return nil
}
