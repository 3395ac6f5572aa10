package sqlite

import (
	"context"
	"errors"
	"fmt"

	sqlite3 "modernc.org/sqlite/lib"

	"github.com/xiaonanln/goverse/object"
)

var (
	// ErrDamaged: the file is no SQLite database, or a broken one. It was not changed.
	ErrDamaged = errors.New("the database file is damaged")
	// ErrNewerSchema: a newer version of Goverse made the tables.
	ErrNewerSchema = errors.New("the tables were made by a newer version")
	// ErrNoSchema: InitSchema was not called.
	ErrNoSchema = errors.New("the tables are missing: call InitSchema first")
	// ErrClosed: the DB was closed.
	ErrClosed = errors.New("the database is closed")
)

// trouble sorts what SQLite reports by what has to be done about it.
type trouble int

const (
	calm    trouble = iota
	stopped         // a context ended, or another process holds the lock: try again later
	full            // no space: nothing was written, the file is well
	refused         // this row is not storable
	faulty          // the statement, or the program's own hook, is wrong, not the file
	broken          // I/O error, corruption, unknown: the file is suspect
)

// troubleOf goes by SQLite's primary result code, never by a text.
func troubleOf(err error) trouble {
	if err == nil {
		return calm
	}
	var coded interface{ Code() int }
	if !errors.As(err, &coded) {
		var no *recordRefused
		var hook *object.HookError
		switch {
		case errors.As(err, &no):
			return refused
		case errors.As(err, &hook):
			return faulty
		}
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			return stopped
		}
		return broken
	}
	switch coded.Code() & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_INTERRUPT:
		return stopped
	case sqlite3.SQLITE_FULL:
		return full
	case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG:
		return refused
	case sqlite3.SQLITE_ERROR, sqlite3.SQLITE_RANGE, sqlite3.SQLITE_SCHEMA, sqlite3.SQLITE_AUTH:
		return faulty
	default:
		return broken
	}
}

func primaryCode(err error) int {
	var coded interface{ Code() int }
	if errors.As(err, &coded) {
		return coded.Code() & 0xff
	}
	return sqlite3.SQLITE_OK
}

// explain names the file and says what to do.
func explain(path string, err error) error {
	advice := ""
	switch primaryCode(err) {
	case sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("%s: %w: it is no SQLite database: move it away, or name another file: %w", path, ErrDamaged, err)
	case sqlite3.SQLITE_CORRUPT:
		return fmt.Errorf("%s: %w: keep a copy, then restore a backup or try sqlite3's .recover: %w", path, ErrDamaged, err)
	case sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM:
		advice = ": the file cannot be opened: its directory must exist, and this user must be allowed to write the file and the directory"
	case sqlite3.SQLITE_READONLY:
		advice = ": the file cannot be written: this user must be allowed to write the file and its directory"
	case sqlite3.SQLITE_FULL:
		advice = ": no space is left: free some, the data is intact"
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		advice = ": another process holds the file's lock"
	}
	return fmt.Errorf("%s%s: %w", path, advice, err)
}

// notCommitted says that surely nothing was written.
func notCommitted(err error) error { return fmt.Errorf("%w: %w", object.ErrNotCommitted, err) }
