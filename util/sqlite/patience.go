package sqlite

import (
	"context"
	"math/rand/v2"
	"time"

	sqlite3 "modernc.org/sqlite/lib"
)

// leastStartPatience is the least that a start waits for other processes: they may all be
// starting, and a start that gives up takes its program with it.
const leastStartPatience = 30 * time.Second

// patiently repeats f while another process is in its way, for d at most.
//
// SQLite's own wait looks again ever more rarely, up to ten times a second, and a
// process that saves without a pause has the lock nearly always: others could starve.
// This one looks about as often as such a process commits, at instants that do not
// fall into step with it.
func (db *DB) patiently(ctx context.Context, d time.Duration, f func() error) error {
	until := time.Now().Add(d)
	for {
		err := f()
		if !busy(err) || ctx.Err() != nil || !time.Now().Before(until) {
			return err
		}
		pause := time.NewTimer(200*time.Microsecond + rand.N(time.Millisecond))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return err
		}
	}
}

func (db *DB) startPatience() time.Duration { return max(leastStartPatience, db.cfg.BusyTimeout) }

func busy(err error) bool {
	code := primaryCode(err)
	return code == sqlite3.SQLITE_BUSY || code == sqlite3.SQLITE_LOCKED
}
