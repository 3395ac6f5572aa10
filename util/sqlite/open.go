package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"

	sqlite3 "modernc.org/sqlite/lib"
)

// checkLimit bounds the size of a file that is checked page by page when it is
// opened. A larger one is checked when a page of it turns out to be damaged.
const checkLimit = 64 << 20

// inspect looks at an existing file, through a connection that cannot change it.
func (db *DB) inspect(ctx context.Context) error {
	info, err := os.Stat(db.cfg.Path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil // openWriter makes it
	case err != nil:
		return fmt.Errorf("%s: %w", db.cfg.Path, err)
	case info.IsDir():
		return fmt.Errorf("%s: it is a directory: name a file in it", db.cfg.Path)
	case info.Size() == 0:
		return nil
	}
	err = db.look(ctx, info.Size())
	if primaryCode(err) == sqlite3.SQLITE_READONLY {
		return nil // a crash left work that only a writer can finish; openWriter will see
	}
	return err
}

func (db *DB) look(ctx context.Context, size int64) (err error) {
	raw, err := db.dial(ctx, db.cfg.dsn(inspecting))
	if err != nil {
		return explain(db.cfg.Path, err)
	}
	c := newConn(raw)
	defer func() { err = errors.Join(err, c.close()) }()
	if _, err := c.text(ctx, `PRAGMA schema_version`); err != nil {
		return explain(db.cfg.Path, err)
	}
	if size <= checkLimit {
		if err := db.check(ctx, c, `PRAGMA quick_check(3)`); err != nil {
			return err
		}
	}
	return db.readSchema(ctx, c)
}

// check runs one of SQLite's own checks of the whole file.
func (db *DB) check(ctx context.Context, c *conn, pragma string) error {
	var found []error
	err := c.query(ctx, func(row []driver.Value) error {
		if s := fmt.Sprint(row[0]); s != "ok" {
			found = append(found, errors.New(s))
		}
		return nil
	}, pragma)
	if err != nil {
		return explain(db.cfg.Path, err)
	}
	if len(found) > 0 {
		return fmt.Errorf("%s: %w: keep a copy, then restore a backup or try sqlite3's .recover: %w", db.cfg.Path, ErrDamaged, errors.Join(found...))
	}
	return nil
}

// openWriter opens the writing connection and makes sure that it keeps its word.
func (db *DB) openWriter(ctx context.Context, a access) (*conn, error) {
	raw, err := db.dial(ctx, db.cfg.dsn(a))
	if err != nil {
		return nil, explain(db.cfg.Path, err)
	}
	w := newConn(raw)
	if err := db.prepareWriter(ctx, w); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

func (db *DB) prepareWriter(ctx context.Context, w *conn) error {
	if _, err := w.text(ctx, `PRAGMA schema_version`); err != nil {
		return explain(db.cfg.Path, err)
	}
	if err := db.becomeWAL(ctx, w); err != nil {
		return err
	}
	sync, err := w.text(ctx, `PRAGMA synchronous`)
	if err != nil {
		return explain(db.cfg.Path, err)
	}
	if sync != "2" {
		return fmt.Errorf("%s: synchronous is %s, not FULL: acknowledged saves would not survive a power cut", db.cfg.Path, sync)
	}
	// A process that was killed between a write and its fsync leaves frames that can
	// be read and are not on the disk. After this they are: what is read is durable.
	if err := db.checkpoint(ctx, w, `PRAGMA wal_checkpoint(FULL)`); err != nil {
		return explain(db.cfg.Path, err)
	}
	if err := db.readSchema(ctx, w); err != nil {
		return err
	}
	if err := db.watch(); err != nil {
		return fmt.Errorf("%s: %w", db.cfg.Path, err)
	}
	// From here on the wait for the file's lock is ours: see patiently.
	if _, err := w.text(ctx, `PRAGMA busy_timeout=0`); err != nil {
		return explain(db.cfg.Path, err)
	}
	return nil
}

// becomeWAL puts a fresh file into WAL mode. Processes that do it at the same time
// get SQLITE_BUSY at once, whatever SQLite's own busy timeout.
func (db *DB) becomeWAL(ctx context.Context, w *conn) error {
	var mode string
	err := db.patiently(ctx, db.startPatience(), func() (err error) {
		mode, err = w.text(ctx, `PRAGMA journal_mode`)
		if err == nil && mode != "wal" {
			mode, err = w.text(ctx, `PRAGMA journal_mode=WAL`)
		}
		return err
	})
	switch {
	case err != nil:
		return explain(db.cfg.Path, err)
	case mode != "wal":
		return fmt.Errorf("%s: journal_mode is %s and cannot become WAL: put the file on a local disk that supports locks and shared memory", db.cfg.Path, mode)
	}
	return nil
}
