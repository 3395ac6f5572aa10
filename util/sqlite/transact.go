package sqlite

import (
	"context"
	"fmt"
	"time"
)

// checkpointPages is how many pages the WAL may gain before they are copied into the
// database; SQLite's own default.
const checkpointPages = 1000

// transact runs f in one transaction that holds the file's write lock. The error
// wraps object.ErrNotCommitted if surely nothing was written; any other means that
// nobody knows. ctx and patience bound the wait for the lock and nothing after it.
func (db *DB) transact(ctx context.Context, w *conn, patience time.Duration, f func() error) error {
	err := db.patiently(ctx, patience, func() error {
		_, err := w.exec(ctx, `BEGIN IMMEDIATE`)
		return err
	})
	if err != nil {
		return db.abandon(w, err)
	}
	if err := db.moved(); err != nil {
		return db.abandon(w, err)
	}
	if err := f(); err != nil {
		return db.abandon(w, err)
	}
	if err := db.commit(w); err != nil {
		return err
	}
	db.checkpointIfDue(w)
	return nil
}

// abandon rolls back what has not been committed. BEGIN may have succeeded even if
// its context ended, so ROLLBACK is always tried; without a transaction it complains,
// which is no trouble.
func (db *DB) abandon(w *conn, cause error) error {
	if troubleOf(cause) == broken {
		db.suspected(cause)
	}
	if _, err := w.exec(context.Background(), `ROLLBACK`); troubleOf(err) == broken {
		db.suspected(err)
	}
	return notCommitted(explain(db.cfg.Path, cause))
}

// commit makes the transaction durable. SQLITE_FULL and SQLITE_BUSY end it before
// its commit frame is complete in the WAL. Any other error may come from the fsync
// or later, when the frame is there: it may count after a crash.
func (db *DB) commit(w *conn) error {
	_, err := w.exec(context.Background(), `COMMIT`)
	switch troubleOf(err) {
	case calm:
	case full, stopped:
		return db.abandon(w, err)
	default:
		db.suspected(err)
		return fmt.Errorf("commit: the outcome is unknown: %w", explain(db.cfg.Path, err))
	}
	if err := db.moved(); err != nil {
		db.suspected(err)
		return fmt.Errorf("commit: the outcome is unknown: %s: %w", db.cfg.Path, err)
	}
	return nil
}

// checkpointIfDue copies the WAL into the database now and then, in place of
// SQLite's automatic checkpoint, which swallows errors. What has been committed is
// safe in the WAL whatever happens here.
func (db *DB) checkpointIfDue(w *conn) {
	n, err := w.pagesWritten()
	db.pages += n
	if err == nil && db.pages < checkpointPages {
		return
	}
	if err := db.checkpoint(context.Background(), w, `PRAGMA wal_checkpoint(PASSIVE)`); troubleOf(err) == broken {
		db.suspected(err)
	}
}

// checkpoint syncs the WAL and copies what it can. Where another process is in the
// way it leaves the rest for later, which is no error.
func (db *DB) checkpoint(ctx context.Context, w *conn, pragma string) error {
	db.pages = 0
	_, err := w.row(ctx, pragma)
	if troubleOf(err) == stopped && ctx.Err() == nil {
		return nil
	}
	return err
}
