package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/test/pg"
)

// ledger is a store beside a table of the program's own.
func ledger(t testing.TB) (*desk, string) {
	url := pg.Database(t)
	d := newDesk(t, NewPostgresPersistenceProvider(openURL(t, url)), 3)
	sqlOf(t, url, `CREATE TABLE ledger (id int PRIMARY KEY, note text)`, `CREATE TABLE parent (id int PRIMARY KEY)`,
		`CREATE TABLE deferred (id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED)`)
	return d, url
}

const entry = `INSERT INTO ledger VALUES ($1, $2)`

func TestHookNative(t *testing.T) {
	d, url := ledger(t)
	save := d.save("a", []byte(`{"n":1}`))
	var ran int
	hook := func(ctx context.Context, tx object.Tx) error {
		ran++
		n, ok := TxOf(tx)
		if !ok {
			return errors.New("it has no native form")
		}
		if _, err := n.Exec(ctx, entry, 1, "native"); err != nil {
			return err
		}
		if n, err := tx.Exec(ctx, entry, 2, "plain"); n != 1 || err != nil {
			return fmt.Errorf("%d rows, %w", n, err)
		}
		var note string
		if err := n.QueryRow(ctx, `SELECT note FROM ledger WHERE id=$1`, 1).Scan(&note); note != "native" || err != nil {
			return fmt.Errorf("%q, %w", note, err)
		}
		rows, err := n.Query(ctx, `SELECT id FROM ledger ORDER BY id`)
		if err != nil {
			return err
		}
		rows.Next() // and leave them open
		return nil
	}
	for range 3 { // the copies find that it has landed, and do not run the hook
		v, err := d.CommitWith(t.Context(), d.Owner, save, hook)
		if err != nil || v.Kind != object.Committed || v.Version != 1 {
			t.Fatalf("%+v, %v", v, err)
		}
	}
	if n := numberOf(t, url, `SELECT count(*) FROM ledger`); n != 2 || ran != 1 {
		t.Errorf("%d entries, %d runs", n, ran)
	}
	if _, ok := TxOf(nil); ok {
		t.Error("TxOf(nil) has a native form")
	}
}

// TestHookUndone has hooks that fail in all ways: neither the state nor the entry stays.
func TestHookUndone(t *testing.T) {
	d, url := ledger(t)
	mistake := errors.New("a mistake")
	var late object.Tx
	put := func(ctx context.Context, tx object.Tx) { _, _ = tx.Exec(ctx, entry, 1, "x") }
	for name, hook := range map[string]func(context.Context, object.Tx) error{
		"error": func(ctx context.Context, tx object.Tx) error { put(ctx, tx); late = tx; return mistake },
		"panic": func(ctx context.Context, tx object.Tx) error { put(ctx, tx); panic("a mistake") },
		"commit": func(ctx context.Context, tx object.Tx) error {
			put(ctx, tx)
			_, err := tx.Exec(ctx, ` /* a /* b */ */ -- c
			;COMMIT`)
			return err
		},
		"failed": func(ctx context.Context, tx object.Tx) error { put(ctx, tx); put(ctx, tx); return nil },
		"deferred": func(ctx context.Context, tx object.Tx) error {
			put(ctx, tx)
			_, err := tx.Exec(ctx, `INSERT INTO deferred VALUES (1)`)
			return err
		},
		"no such": func(ctx context.Context, tx object.Tx) error {
			put(ctx, tx)
			return tx.Query(ctx, nil, `SELECT * FROM nothing`)
		},
		"row": func(ctx context.Context, tx object.Tx) error {
			put(ctx, tx)
			return tx.Query(ctx, func([]any) error { return mistake }, `SELECT 1`)
		},
		"slow": func(ctx context.Context, tx object.Tx) error {
			put(ctx, tx)
			_, err := tx.Exec(ctx, `SELECT pg_sleep(5)`)
			return err
		},
		"thinks": func(ctx context.Context, tx object.Tx) error { put(ctx, tx); <-ctx.Done(); return nil },
		"forgetful": func(ctx context.Context, tx object.Tx) error {
			put(ctx, tx)
			time.Sleep(1200 * time.Millisecond)
			_, err := tx.Exec(ctx, entry, 2, "y")
			return err
		},
		"dawdles": func(ctx context.Context, tx object.Tx) error {
			put(ctx, tx)
			time.Sleep(1200 * time.Millisecond)
			return nil
		},
		"procedural": func(ctx context.Context, tx object.Tx) error {
			put(ctx, tx)
			_, err := tx.Exec(ctx, `DO $$ BEGIN COMMIT; END $$`)
			return err
		},
	} {
		began := time.Now()
		v, err := d.CommitWith(t.Context(), d.Owner, d.save("a", []byte(`{"n":1}`)), hook)
		var its *object.HookError
		if !errors.As(err, &its) {
			t.Errorf("%s: %+v, %v, want a HookError", name, v, err)
		}
		if name == "error" && !errors.Is(err, mistake) {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("%s took %v", name, took)
		}
		if n := numberOf(t, url, `SELECT (SELECT count(*) FROM ledger) + (SELECT count(*) FROM goverse_objects)`); n != 0 {
			t.Fatalf("%s left %d rows", name, n)
		}
	}
	if _, err := late.Exec(t.Context(), entry, 1, "late"); !errors.Is(err, errTxEnded) {
		t.Errorf("a statement after the hook: %v", err)
	}
	if n := d.db.pool.Stat().AcquiredConns(); n != 0 {
		t.Errorf("%d connections were not released", n)
	}
}

// TestHookNotRun has saves that do not count: their hooks do not run.
func TestHookNotRun(t *testing.T) {
	d, _ := ledger(t)
	d.must(t, d.save("a", []byte(`{"n":1}`)))
	run := func(context.Context, object.Tx) error { t.Error("the hook ran"); return nil }
	stale, fenced, bad, nothing := d.save("a", []byte("2")), d.save("a", []byte("2")), d.save("a", []byte("{")), d.save("b", nil)
	stale.Base, fenced.Epoch = 7, 9
	for _, c := range []struct {
		save object.Save
		kind object.VerdictKind
	}{{stale, object.Conflict}, {fenced, object.FenceLost}, {bad, object.Rejected}, {nothing, object.Rejected}} {
		if v, err := d.CommitWith(t.Context(), d.Owner, c.save, run); err != nil || v.Kind != c.kind {
			t.Errorf("%+v, %v, want kind %d", v, err, c.kind)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.CommitWith(ctx, d.Owner, d.save("a", []byte("2")), run); !errors.Is(err, object.ErrNotCommitted) {
		t.Errorf("with a cancelled context: %v", err)
	}
}

// TestHookCopies sends the same save from several goroutines: its hook counts once,
// although the object did not exist, so that there was no row to lock.
func TestHookCopies(t *testing.T) {
	d, url := ledger(t)
	save := d.save("a", []byte(`{"n":1}`))
	hook := func(ctx context.Context, tx object.Tx) error { _, err := tx.Exec(ctx, entry, 1, "x"); return err }
	done := make(chan error)
	for range 4 {
		go func() {
			v, err := d.CommitWith(t.Context(), d.Owner, save, hook)
			if err == nil && v.Kind != object.Committed {
				err = fmt.Errorf("%+v", v)
			}
			done <- err
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if n := numberOf(t, url, `SELECT count(*) FROM ledger`); n != 1 {
		t.Errorf("%d entries", n)
	}
}

// TestHookDeadlock has two hooks that lock two rows in opposite order: one of them is
// run again, and both count.
func TestHookDeadlock(t *testing.T) {
	d, url := ledger(t)
	sqlOf(t, url, `INSERT INTO ledger VALUES (1, ''), (2, '')`)
	saves := []object.Save{d.save("a", []byte("1")), d.save("b", []byte("1"))}
	var there atomic.Int32
	met, done := make(chan struct{}), make(chan error)
	for i := range saves {
		first := true
		hook := func(ctx context.Context, tx object.Tx) error {
			const lock = `UPDATE ledger SET note=note||'x' WHERE id=$1`
			if _, err := tx.Exec(ctx, lock, 1+i); err != nil {
				return err
			}
			if first {
				first = false
				if there.Add(1) == 2 {
					close(met)
				}
				select {
				case <-met: // each has its first row
				case <-time.After(500 * time.Millisecond): // the other one waits for a seat
				}
			}
			_, err := tx.Exec(ctx, lock, 2-i)
			return err
		}
		go func() {
			v, err := d.CommitWith(t.Context(), d.Owner, saves[i], hook)
			if err == nil && v.Kind != object.Committed {
				err = fmt.Errorf("%+v", v)
			}
			done <- err
		}()
	}
	for range saves {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if n := numberOf(t, url, `SELECT count(*) FROM ledger WHERE note='xx'`); n != 2 {
		t.Errorf("%d rows were changed twice", n)
	}
}

// TestHookTerminated loses the connection while a hook runs: that is not the hook's
// fault, and nothing was committed.
func TestHookTerminated(t *testing.T) {
	d, url := ledger(t)
	_, err := d.CommitWith(t.Context(), d.Owner, d.save("a", []byte("1")), func(ctx context.Context, tx object.Tx) error {
		if _, err := tx.Exec(ctx, entry, 1, "x"); err != nil {
			return err
		}
		sqlOf(t, url, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state='idle in transaction' AND datname=current_database()`)
		_, err := tx.Exec(ctx, entry, 2, "y")
		return err
	})
	var its *object.HookError
	if !errors.Is(err, object.ErrNotCommitted) || errors.As(err, &its) {
		t.Errorf("%v, want ErrNotCommitted", err)
	}
	if n := numberOf(t, url, `SELECT (SELECT count(*) FROM ledger) + (SELECT count(*) FROM goverse_objects)`); n != 0 {
		t.Errorf("%d rows", n)
	}
}

// TestHookAnswerLost loses the answer to COMMIT: repeating the save settles it, and the
// hook's entry is there once.
func TestHookAnswerLost(t *testing.T) {
	url := pg.Database(t)
	px := newProxy(t, parsed(t, url).Host)
	d := newDesk(t, NewPostgresPersistenceProvider(openURL(t, px.url(t, url))), 3)
	sqlOf(t, url, `CREATE TABLE ledger (id int PRIMARY KEY, note text)`)
	unknown := 0
	for n := range 12 {
		save := d.save("a", fmt.Appendf(nil, `{"n":%d}`, n+1))
		hook := func(ctx context.Context, tx object.Tx) error {
			_, err := tx.Exec(ctx, entry, n, "x")
			return err
		}
		warm := d.save("warm", []byte("1")) // so that all statements are prepared
		warm.Base = uint64(n)
		if v, err := d.CommitWith(t.Context(), d.Owner, warm, func(ctx context.Context, tx object.Tx) error {
			_, err := tx.Exec(ctx, entry, 100+n, "x")
			return err
		}); err != nil || v.Kind != object.Committed {
			t.Fatal(v, err)
		}
		_, err := d.CommitWith(t.Context(), d.Owner, save, func(ctx context.Context, tx object.Tx) error {
			defer px.cutAfter.Store(int64(1 + n%2)) // the answer to the save, and the one to COMMIT
			return hook(ctx, tx)
		})
		var its *object.HookError
		if errors.As(err, &its) {
			t.Errorf("the network's fault is called the hook's: %v", err)
		}
		if err != nil && !errors.Is(err, object.ErrNotCommitted) {
			unknown++
		}
		d.honest(t, url, "a", err)
		px.cutAfter.Store(0)
		for tries := 0; ; tries++ {
			v, err := d.CommitWith(t.Context(), d.Owner, save, hook)
			if err == nil && v.Kind == object.Committed && v.Version == uint64(n+1) {
				break
			}
			if err == nil || tries > 50 {
				t.Fatalf("%+v, %v", v, err)
			}
		}
		d.versions["a"]++
	}
	if unknown == 0 {
		t.Error("no answer to COMMIT was lost")
	}
	if n := numberOf(t, url, `SELECT count(*) FROM ledger WHERE id < 100`); n != 12 {
		t.Errorf("%d entries, want 12", n)
	}
}

func TestFirstWord(t *testing.T) {
	for sql, want := range map[string]string{
		"commit": "COMMIT", "  Select 1": "SELECT", "-- x\nrollback": "ROLLBACK", "/* /* */ */end;": "END", ";;abort": "ABORT",
		"": "", "/* never ends": "", "--": "", "((select 1))": "SELECT", "commit/**/work": "COMMIT", "é": "",
	} {
		if got := firstWord(sql); got != want {
			t.Errorf("%q: %q, want %q", sql, got, want)
		}
	}
}

// TestHooksTakeTurns has more hooks than places: all others still find a connection.
func TestHooksTakeTurns(t *testing.T) {
	d, _ := ledger(t)
	inside, leave, done := make(chan struct{}, 64), make(chan struct{}), make(chan error)
	places := cap(d.db.hooks)
	for i := range places + 4 {
		save := d.save(fmt.Sprint(i), []byte("1"))
		go func() {
			_, err := d.CommitWith(t.Context(), d.Owner, save, func(context.Context, object.Tx) error {
				inside <- struct{}{}
				<-leave
				return nil
			})
			done <- err
		}()
	}
	for range places {
		<-inside
	}
	if _, err := d.Load(t.Context(), object.Ref{Type: "T", ID: "a"}); err != nil {
		t.Error(err)
	}
	if n := len(inside); n != 0 {
		t.Errorf("%d hooks more than places", n)
	}
	close(leave)
	for range places + 4 {
		if err := <-done; err != nil && !errors.Is(err, object.ErrNotCommitted) {
			t.Error(err)
		}
	}
}

func TestTxRefusals(t *testing.T) {
	d, _ := ledger(t)
	_, err := d.CommitWith(t.Context(), d.Owner, d.save("a", []byte("1")), func(ctx context.Context, tx object.Tx) error {
		n, _ := TxOf(tx)
		for _, sql := range []string{"COMMIT", "rollback to savepoint a", "PREPARE TRANSACTION 'x'", "SAVEPOINT a", "begin"} {
			_, exec := n.Exec(ctx, sql)
			_, query := n.Query(ctx, sql)
			scan := n.QueryRow(ctx, sql).Scan()
			for _, err := range []error{exec, query, scan} {
				if fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "return an error to undo it") {
					t.Errorf("%s: %v", sql, err)
				}
			}
		}
		if err := n.QueryRow(ctx, `SELECT 1 WHERE false`).Scan(new(int)); !errors.Is(err, pgx.ErrNoRows) {
			t.Error(err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
