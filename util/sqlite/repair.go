package sqlite

import (
	"context"
	"errors"
	"fmt"
)

// suspicion is why the file is not trusted at the moment.
type suspicion struct {
	cause error
	final bool // the file is damaged: no repair is tried, a person has to look
}

// suspected stops all acknowledgements until repair has succeeded.
func (db *DB) suspected(cause error) {
	if db.suspect.CompareAndSwap(nil, &suspicion{cause: cause}) {
		db.cfg.Warn("the database file is suspect: nothing is acknowledged until it has been opened and checked again", explain(db.cfg.Path, cause))
	}
}

// repaired gives the writer up to a repair and waits for its end. A repair reads the
// whole file: it goes on when the caller's time is over, until it is done or the DB
// is closed.
func (db *DB) repaired(ctx context.Context, w *conn) error {
	result := make(chan error, 1)
	db.repairs.Go(func() {
		w, err := db.repair(db.life, w)
		result <- err
		db.putWriter(w)
	})
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// repair closes every connection, opens the file anew and checks all of it. A failed
// fsync is never simply tried again: the kernel may have dropped the pages and would
// report success. The caller owns the writer, and owns the one that is returned, also
// with an error.
func (db *DB) repair(ctx context.Context, w *conn) (*conn, error) {
	why := db.suspect.Load()
	if why.final {
		return w, fmt.Errorf("sqlite: %w", why.cause)
	}
	readers, err := db.collectReaders(ctx)
	if err != nil {
		db.giveReaders(readers)
		return w, err
	}
	for _, c := range append(readers, w) {
		_ = c.close() // whatever it says, the checks below decide
	}
	defer db.giveReaders(make([]*conn, db.cfg.Readers))
	fresh, err := db.reopen(ctx)
	if err == nil {
		db.suspect.Store(nil)
		db.cfg.Warn("the database file was opened again and is intact", nil)
		return fresh, nil
	}
	if errors.Is(err, ErrDamaged) {
		db.suspect.Store(&suspicion{cause: err, final: true})
		db.cfg.Warn("the database file is damaged: it is not used any more", err)
	}
	return nil, fmt.Errorf("sqlite: the file is suspect (%w) and cannot be used yet: %w", why.cause, err)
}

// reopen opens the file, which must exist, and checks every page.
func (db *DB) reopen(ctx context.Context) (*conn, error) {
	w, err := db.openWriter(ctx, writing)
	if err != nil {
		return nil, err
	}
	if err := db.check(ctx, w, `PRAGMA integrity_check(3)`); err != nil {
		return nil, errors.Join(err, w.close())
	}
	db.pages = 0
	return w, nil
}

// collectReaders takes every reader, or as many as it gets before ctx ends.
func (db *DB) collectReaders(ctx context.Context) (got []*conn, err error) {
	for range db.cfg.Readers {
		select {
		case r := <-db.readers:
			got = append(got, r)
		case <-ctx.Done():
			return got, ctx.Err()
		}
	}
	return got, nil
}

func (db *DB) giveReaders(rs []*conn) {
	for _, r := range rs {
		db.readers <- r
	}
}
