package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	driversqlite "modernc.org/sqlite"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/admit"
)

// hookTime bounds a hook: it keeps every other commit of the file waiting.
const hookTime = time.Second

// errHookEnds: the transaction is not the hook's to end.
var errHookEnds = errors.New("the transaction was ended within the hook: return an error to undo it, or nil to commit it")

// CommitWith is Commit of one save together with hook, in one transaction: hook runs
// after the save and only if it counts, for at most one second, and meanwhile nobody
// else writes the file. See TxOf for the transaction as a *sql.Tx.
//
// SQLite itself refuses, in a hook, to end the transaction, to change anything whose
// name begins with goverse_, and PRAGMA, ATTACH and DETACH.
func (p *Provider) CommitWith(ctx context.Context, owner string, save object.Save, hook func(context.Context, object.Tx) error) (object.Verdict, error) {
	if err := admit.Save(&save); err != nil {
		return object.Verdict{Kind: object.Rejected, Err: err}, nil
	}
	var v object.Verdict
	err := p.write(ctx, func(w *conn) error {
		before, err := w.version(save.Ref)
		if err != nil {
			return err
		}
		if v, err = apply(w, owner, &save, micros(time.Now())); err != nil || v.Kind != object.Committed {
			return err
		}
		switch {
		case v.Version == before && save.Base != before: // a copy: its hook has done its work
			return nil
		case v.Version == before:
			v = object.Verdict{Kind: object.Rejected, Err: fault.New(fault.Invalid, "%s does not exist: its deletion cannot carry a hook", save.Ref)}
			return nil
		}
		return w.lend(ctx, hook)
	})
	var failed *object.HookError
	switch {
	case errors.As(err, &failed):
		return object.Verdict{}, failed
	case err != nil:
		return object.Verdict{}, fmt.Errorf("commit of %s with a hook: %w", save.Ref, err)
	}
	return v, nil
}

// version is the stored version of an object, 0 if there is none.
func (c *conn) version(ref object.Ref) (uint64, error) {
	row, err := c.row(context.Background(), recordSQL, ref.Type, ref.ID)
	if err != nil || row == nil {
		return 0, err
	}
	return uint64(row[0].(int64)), nil
}

// lend runs a hook in the transaction that is open. Whatever the hook did, and even
// if it never returns, the connection is its owner's again afterwards.
func (c *conn) lend(ctx context.Context, hook func(context.Context, object.Tx) error) error {
	if err := c.guard(); err != nil {
		return err
	}
	// If SQLite itself rolls back, as it does when the disk is full, this goes with it.
	if _, err := c.exec(context.Background(), `SAVEPOINT goverse_hook`); err != nil {
		return err
	}
	l, err := newLoan(ctx, c.raw)
	if err != nil {
		return err
	}
	c.lent.Store(true)
	err = l.run(hook)
	c.lent.Store(false)
	if broken := l.broken.Load(); broken != nil {
		return *broken
	}
	if err != nil {
		return &object.HookError{Err: err}
	}
	if _, err := c.exec(context.Background(), `RELEASE goverse_hook`); err != nil {
		return &object.HookError{Err: fmt.Errorf("SQLite has rolled the transaction back after an error of a statement: %w", err)}
	}
	return nil
}

// guard puts the authorizer in place. It is asked whenever a statement is compiled,
// and lets everything pass but what a hook must not do.
func (c *conn) guard() error {
	if c.guarded {
		return nil
	}
	err := c.raw.RegisterAuthorizer(func(action driversqlite.AuthorizerActionCode, a, b, _, _ string) driversqlite.AuthorizerReturnCode {
		if c.lent.Load() && forbidden(action, a, b) {
			return driversqlite.AuthorizerDeny
		}
		return driversqlite.AuthorizerOK
	})
	c.guarded = err == nil
	return err
}

// forbidden says whether a hook must not do this; a and b are what SQLite tells of
// the action, mostly names.
func forbidden(action driversqlite.AuthorizerActionCode, a, b string) bool {
	switch action {
	case driversqlite.AuthTransaction, driversqlite.AuthPragma, driversqlite.AuthAttach, driversqlite.AuthDetach:
		return true
	case driversqlite.AuthSelect, driversqlite.AuthRead, driversqlite.AuthFunction, driversqlite.AuthRecursive:
		return false
	}
	return ours(a) || ours(b)
}

func ours(name string) bool { return strings.HasPrefix(strings.ToLower(name), "goverse_") }

// run runs a hook until it returns or its time is over, and ends the loan. A hook
// that does not return is left behind, without a transaction.
func (l *loan) run(hook func(context.Context, object.Tx) error) error {
	result := make(chan error, 1)
	go func() {
		returned := false
		defer func() {
			if p := recover(); p != nil {
				result <- fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			} else if !returned {
				result <- errors.New("its goroutine exited")
			}
		}()
		err := hook(l.ctx, &tx{l.tx})
		returned = true
		result <- err
	}()
	var err error
	select {
	case err = <-result:
	case <-l.ctx.Done():
		err = fmt.Errorf("it did not return in time, at most %v: %w", hookTime, l.ctx.Err())
	}
	return errors.Join(err, l.end())
}

// tx is what a hook gets.
type tx struct{ sql *sql.Tx }

// TxOf is the transaction of a hook as database/sql has it, until the hook returns.
// It returns false if the transaction is another store's.
func TxOf(t object.Tx) (*sql.Tx, bool) {
	mine, ok := t.(*tx)
	if !ok {
		return nil, false
	}
	return mine.sql, true
}

func (t *tx) Exec(ctx context.Context, text string, args ...any) (int64, error) {
	r, err := t.sql.ExecContext(ctx, text, args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

func (t *tx) Query(ctx context.Context, f func(row []any) error, text string, args ...any) (err error) {
	rows, err := t.sql.QueryContext(ctx, text, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	row, into := make([]any, len(columns)), make([]any, len(columns))
	for i := range row {
		into[i] = &row[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		if err := f(row); err != nil {
			return err
		}
	}
	return rows.Err()
}
