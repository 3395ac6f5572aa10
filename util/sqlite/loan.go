package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync/atomic"

	sqlite3 "modernc.org/sqlite/lib"
)

// loan is the writer's connection as database/sql sees it while a hook has it: open,
// in a transaction, and not to be closed. database/sql makes sure that at the end no
// statement is under way and none can follow.
type loan struct {
	raw    rawConn
	ctx    context.Context // bounds every statement
	cancel context.CancelFunc
	db     *sql.DB
	tx     *sql.Tx

	over   atomic.Bool           // the hook has returned, or its time is over
	ended  atomic.Bool           // the hook tried to end the transaction
	broken atomic.Pointer[error] // a statement met an error that makes the file suspect
}

func newLoan(ctx context.Context, raw rawConn) (*loan, error) {
	l := &loan{raw: raw}
	l.ctx, l.cancel = context.WithTimeout(ctx, hookTime)
	l.db = sql.OpenDB(lender{l})
	tx, err := l.db.BeginTx(context.WithoutCancel(ctx), nil)
	if err != nil {
		l.cancel()
		return nil, errors.Join(fmt.Errorf("lend the connection: %w", err), l.db.Close())
	}
	l.tx = tx
	return l, nil
}

// end takes the connection back: it interrupts what runs and waits for it.
func (l *loan) end() error {
	l.over.Store(true)
	l.cancel()
	err := l.tx.Rollback()
	if errors.Is(err, sql.ErrTxDone) {
		err = nil // by the hook, see ended
	}
	err = errors.Join(err, l.db.Close())
	if l.ended.Load() {
		err = errors.Join(errHookEnds, err)
	}
	return err
}

// errForbidden says what a hook must not do.
var errForbidden = errors.New("a hook must neither end the transaction, nor change what is named goverse_, nor use PRAGMA, ATTACH or DETACH")

// note remembers what makes the file suspect, and explains what was forbidden.
func (l *loan) note(err error) error {
	switch {
	case primaryCode(err) == sqlite3.SQLITE_AUTH:
		return fmt.Errorf("%w: %w", errForbidden, err)
	case troubleOf(err) == broken && primaryCode(err) != sqlite3.SQLITE_OK:
		l.broken.CompareAndSwap(nil, &err)
	}
	return err
}

// within bounds a statement's context by the loan's. What it returns ends with the
// loan at the latest.
func (l *loan) within(ctx context.Context) context.Context {
	both, cancel := context.WithCancel(l.ctx)
	context.AfterFunc(ctx, cancel)
	return both
}

// lender is the driver.Connector of one loan.
type lender struct{ l *loan }

func (c lender) Connect(context.Context) (driver.Conn, error) { return (*lentConn)(c.l), nil }
func (c lender) Driver() driver.Driver                        { return c }

// Open is never called: database/sql has the connector.
func (c lender) Open(string) (driver.Conn, error) { return (*lentConn)(c.l), nil }

// lentConn passes statements on.
type lentConn loan

func (c *lentConn) Close() error              { return nil }
func (c *lentConn) Begin() (driver.Tx, error) { return (*lentTx)(c), nil }

func (c *lentConn) BeginTx(context.Context, driver.TxOptions) (driver.Tx, error) { return c.Begin() }

func (c *lentConn) Prepare(text string) (driver.Stmt, error) {
	return c.PrepareContext(context.Background(), text)
}

func (c *lentConn) PrepareContext(ctx context.Context, text string) (driver.Stmt, error) {
	l := (*loan)(c)
	s, err := l.raw.PrepareContext(l.within(ctx), text)
	if err != nil {
		return nil, l.note(err)
	}
	rs, ok := s.(rawStmt)
	if !ok {
		return nil, errors.Join(fmt.Errorf("the driver's statement is a %T", s), s.Close())
	}
	return &lentStmt{rs, l}, nil
}

func (c *lentConn) ExecContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Result, error) {
	l := (*loan)(c)
	r, err := l.raw.ExecContext(l.within(ctx), text, args)
	return r, l.note(err)
}

func (c *lentConn) QueryContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Rows, error) {
	l := (*loan)(c)
	rows, err := l.raw.QueryContext(l.within(ctx), text, args)
	return rows, l.note(err)
}

// lentStmt is a prepared statement of a hook.
type lentStmt struct {
	rawStmt
	l *loan
}

func (s *lentStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	r, err := s.rawStmt.ExecContext(s.l.within(ctx), args)
	return r, s.l.note(err)
}

func (s *lentStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	rows, err := s.rawStmt.QueryContext(s.l.within(ctx), args)
	return rows, s.l.note(err)
}

// lentTx is the transaction, which is not the hook's to end.
type lentTx loan

func (t *lentTx) Commit() error {
	t.ended.Store(true)
	return errHookEnds
}

func (t *lentTx) Rollback() error {
	if !t.over.Load() {
		t.ended.Store(true)
	}
	return nil
}
