package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	sqlite3 "modernc.org/sqlite/lib"

	"github.com/xiaonanln/goverse/object"
)

// books is a desk with a table of the program's own.
func books(t *testing.T) *desk {
	t.Helper()
	d := newDesk(t, tempPath(t))
	d.with(t, "table", func(_ context.Context, tx *sql.Tx) error {
		_, err := tx.Exec(`CREATE TABLE ledger (id INTEGER PRIMARY KEY, amount INTEGER, note TEXT, raw BLOB, rate REAL)`)
		return err
	})
	return d
}

// try commits a new object with a hook.
func (d *desk) try(ctx context.Context, id string, hook func(context.Context, *sql.Tx) error) (object.Verdict, error) {
	return d.CommitWith(ctx, d.Owner, d.save(id, state(1)), func(ctx context.Context, tx object.Tx) error {
		native, ok := TxOf(tx)
		if !ok {
			return errors.New("it is no *sql.Tx")
		}
		return hook(ctx, native)
	})
}

func (d *desk) with(t *testing.T, id string, hook func(context.Context, *sql.Tx) error) {
	t.Helper()
	if v, err := d.try(t.Context(), id, hook); err != nil || v.Kind != object.Committed {
		t.Fatal(v, err)
	}
}

// entries counts the ledger.
func (d *desk) entries(t *testing.T) (n int) {
	t.Helper()
	row, err := d.read(t.Context(), `SELECT count(*) FROM ledger`)
	if err != nil {
		t.Fatal(err)
	}
	return int(row[0].(int64))
}

// wantUndone demands that a save with a hook left nothing, and that the store works on.
func (d *desk) wantUndone(t *testing.T, id string, v object.Verdict, err error) {
	t.Helper()
	var failed *object.HookError
	if !errors.As(err, &failed) || v.Kind != 0 {
		t.Errorf("verdict %+v, error %v, want a HookError", v, err)
	}
	if n := d.entries(t); n != 0 {
		t.Errorf("%d entries were kept", n)
	}
	if r, err := d.Load(t.Context(), object.Ref{Type: "Bench", ID: id}); err != nil || r.Version != 0 {
		t.Errorf("the state was kept: %+v, error %v", r, err)
	}
	d.must(t, []object.Save{d.save("after "+id, state(2))})
	if why := d.db.suspect.Load(); why != nil {
		t.Errorf("the file is suspect: %v", why.cause)
	}
}

const entry = `INSERT INTO ledger (amount) VALUES (1)`

// What a hook must not do is refused by SQLite, whatever the spelling, and undoes all.
func TestHookIsBound(t *testing.T) {
	for name, text := range map[string]string{
		"commit":           `COMMIT`,
		"end":              `/* so */ END TRANSACTION`,
		"rollback":         `ROLLBACK`,
		"begin":            `BEGIN`,
		"own savepoint":    `RELEASE goverse_hook`,
		"update":           `UPDATE goverse_objects SET version=9`,
		"other case":       `update "GoVerse_Objects" set version=9`,
		"delete":           `DELETE FROM goverse_shards`,
		"insert":           `INSERT INTO main.goverse_meta VALUES ('cluster', 'mine')`,
		"replace":          `REPLACE INTO goverse_meta VALUES ('store_id', 'mine')`,
		"drop":             `DROP TABLE goverse_objects`,
		"drop index":       `DROP INDEX goverse_objects_type`,
		"alter":            `ALTER TABLE goverse_objects ADD COLUMN mine TEXT`,
		"trigger":          `CREATE TRIGGER mine AFTER UPDATE ON goverse_objects BEGIN DELETE FROM ledger; END`,
		"temp trigger":     `CREATE TEMP TRIGGER mine AFTER UPDATE ON main.goverse_objects BEGIN DELETE FROM ledger; END`,
		"index":            `CREATE INDEX mine ON goverse_objects (epoch)`,
		"table of ours":    `CREATE TABLE goverse_mine (x)`,
		"through a view":   `CREATE VIEW v AS SELECT * FROM goverse_meta; CREATE TRIGGER vt INSTEAD OF INSERT ON v BEGIN DELETE FROM goverse_meta; END; INSERT INTO v VALUES ('a', 'b')`,
		"pragma":           `PRAGMA synchronous=OFF`,
		"writable schema":  `PRAGMA writable_schema=ON`,
		"attach":           `ATTACH ':memory:' AS other`,
		"several in one":   entry + `; COMMIT; ` + entry,
		"a prepared one":   "prepare:COMMIT",
		"a queried one":    "query:DELETE FROM goverse_shards RETURNING shard_id",
		"no SQL at all":    `HELLO`,
		"the database/sql": "tx.Commit",
		"its roll-back":    "tx.Rollback",
	} {
		t.Run(name, func(t *testing.T) {
			d := books(t)
			run := func(ctx context.Context, tx *sql.Tx) error {
				if _, err := tx.ExecContext(ctx, entry); err != nil {
					return err
				}
				return wild(ctx, tx, text)
			}
			v, err := d.try(t.Context(), name, run)
			d.wantUndone(t, name, v, err)
			t.Log(err)
			// A hook that does not mind the error has ended nothing, either.
			v, err = d.try(t.Context(), name, func(ctx context.Context, tx *sql.Tx) error { _ = run(ctx, tx); return nil })
			if strings.HasPrefix(text, "tx.") {
				d.wantUndone(t, name, v, err)
			} else if err != nil || v.Version != 1 {
				t.Error(v, err)
			}
			if err := d.db.check(t.Context(), d.peek(t), `PRAGMA integrity_check`); err != nil {
				t.Error(err)
			}
		})
	}
}

func wild(ctx context.Context, tx *sql.Tx, text string) error {
	switch {
	case text == "tx.Commit":
		_ = tx.Commit()
		return nil
	case text == "tx.Rollback":
		return tx.Rollback()
	case strings.HasPrefix(text, "prepare:"):
		s, err := tx.PrepareContext(ctx, text[len("prepare:"):])
		if err == nil {
			_, err = s.ExecContext(ctx)
		}
		return err
	case strings.HasPrefix(text, "query:"):
		rows, err := tx.QueryContext(ctx, text[len("query:"):])
		if err != nil {
			return err
		}
		rows.Next()
		return errors.Join(rows.Err(), rows.Close())
	}
	_, err := tx.ExecContext(ctx, text)
	return err
}

// peek is a connection that is the test's own.
func (d *desk) peek(t *testing.T) *conn {
	t.Helper()
	raw, err := dialDriver(t.Context(), d.db.cfg.dsn(reading))
	if err != nil {
		t.Fatal(err)
	}
	c := newConn(raw)
	t.Cleanup(func() { _ = c.close() })
	return c
}

// A hook has all of database/sql, and whatever it leaves open is closed.
func TestHookSQL(t *testing.T) {
	d := books(t)
	var kept *sql.Tx
	var leftRows *sql.Rows
	var leftStmt *sql.Stmt
	d.with(t, "a", func(ctx context.Context, tx *sql.Tx) error {
		kept = tx
		insert, err := tx.PrepareContext(ctx, `INSERT INTO ledger (amount, note, raw, rate) VALUES (?, ?, ?, ?)`)
		if err != nil {
			return err
		}
		for i := range 3 {
			if _, err := insert.ExecContext(ctx, i, "é\x01", []byte{0, 255}, 0.5); err != nil {
				return err
			}
		}
		var amount int
		var note string
		if err := tx.QueryRow(`SELECT amount, note FROM ledger WHERE rate=? ORDER BY id DESC`, 0.5).Scan(&amount, &note); err != nil || amount != 2 || note != "é\x01" {
			return errors.Join(errors.New("it reads otherwise"), err)
		}
		if _, err := tx.Exec(`SAVEPOINT mine; DELETE FROM ledger; ROLLBACK TO mine; RELEASE mine`); err != nil {
			return err
		}
		if err := tx.QueryRow(`SELECT count(*) FROM goverse_objects`).Scan(&amount); err != nil {
			return err // to look is allowed
		}
		leftStmt = insert
		leftRows, err = tx.QueryContext(ctx, `SELECT amount FROM ledger`)
		leftRows.Next()
		return err
	})
	if n := d.entries(t); n != 3 {
		t.Errorf("%d entries, want 3", n)
	}
	if _, err := kept.Exec(entry); !errors.Is(err, sql.ErrTxDone) {
		t.Errorf("a statement after the hook: %v", err)
	}
	if _, err := leftStmt.Exec(1, "", nil, 0); err == nil {
		t.Error("a prepared statement ran after the hook")
	}
	if leftRows.Next() {
		t.Error("a query went on after the hook")
	}
	if _, ok := TxOf(struct{ object.Tx }{}); ok {
		t.Error("another store's transaction was taken for one of SQLite")
	}
}

// A hook that never returns, or that computes for ever, is ended; others have waited
// for about a second.
func TestHookHangs(t *testing.T) {
	const forever = `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) SELECT count(*) FROM n`
	release := make(chan struct{})
	gone := make(chan error, 1)
	for name, hang := range map[string]func(context.Context, *sql.Tx) error{
		"ignores its context": func(_ context.Context, tx *sql.Tx) error {
			<-release
			_, err := tx.Exec(entry)
			gone <- err
			return err
		},
		"computes": func(_ context.Context, tx *sql.Tx) error {
			var n int
			return tx.QueryRow(forever).Scan(&n) // with a context that never ends
		},
		"computes, prepared": func(_ context.Context, tx *sql.Tx) error {
			s, err := tx.Prepare(forever)
			if err == nil {
				err = s.QueryRow().Scan(new(int))
			}
			return err
		},
		"writes": func(_ context.Context, tx *sql.Tx) error {
			_, err := tx.Exec(`INSERT INTO ledger (amount) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) SELECT i FROM n`)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := books(t)
			begun := time.Now()
			v, err := d.try(t.Context(), name, func(ctx context.Context, tx *sql.Tx) error {
				if _, err := tx.ExecContext(ctx, entry); err != nil {
					return err
				}
				return hang(ctx, tx)
			})
			if took := time.Since(begun); took > 20*hookTime { // the machine may be busy
				t.Errorf("it took %v", took)
			}
			d.wantUndone(t, name, v, err)
		})
	}
	close(release)
	if err := <-gone; !errors.Is(err, sql.ErrTxDone) {
		t.Errorf("a hook that was left behind went on: %v", err)
	}
}

// A panic carries its place; a goroutine that exits is no silence.
func TestHookPanics(t *testing.T) {
	d := books(t)
	v, err := d.try(t.Context(), "a", func(_ context.Context, tx *sql.Tx) error {
		_, _ = tx.Exec(entry)
		panic("oh")
	})
	d.wantUndone(t, "a", v, err)
	if !strings.Contains(err.Error(), "panic: oh") || !strings.Contains(err.Error(), "hook_test.go") {
		t.Error(err)
	}
	v, err = d.try(t.Context(), "b", func(_ context.Context, tx *sql.Tx) error {
		_, _ = tx.Exec(entry)
		exit()
		return nil
	})
	d.wantUndone(t, "b", v, err)
}

// An I/O error that a hook meets makes the file suspect, and a COMMIT that fails after
// it leaves the outcome open: the same save says later what became of it.
func TestHookOnAFaultyDisk(t *testing.T) {
	d, disk := faultyDesk(t)
	save := d.save("a", state(1))
	runs := 0
	hook := func(ctx context.Context, tx object.Tx) error {
		runs++
		_, err := tx.Exec(ctx, `CREATE TABLE IF NOT EXISTS ledger (n)`)
		return err
	}
	disk.once("COMMIT", fate{code: sqlite3.SQLITE_IOERR, landed: true})
	if v, err := d.CommitWith(t.Context(), d.Owner, save, hook); err == nil || errors.Is(err, object.ErrNotCommitted) {
		t.Fatal(v, err)
	}
	v, err := d.CommitWith(t.Context(), d.Owner, save, hook)
	if err != nil || v.Kind != object.Committed || v.Version != 1 || runs != 1 {
		t.Errorf("repeated: %+v, error %v, after %d runs", v, err, runs)
	}
	disk.once("COMMIT", fate{code: sqlite3.SQLITE_FULL})
	if v, err := d.CommitWith(t.Context(), d.Owner, d.save("b", state(1)), hook); !errors.Is(err, object.ErrNotCommitted) {
		t.Error(v, err)
	}
}

func exit() { runtime.Goexit() }
