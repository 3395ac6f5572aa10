package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	driversqlite "modernc.org/sqlite"
)

// conn is one connection with the statements that it has prepared. One goroutine
// uses it at a time. It stands directly on the driver: database/sql would add
// nothing but its pool, and a store with one writer wants no pool.
type conn struct {
	raw   rawConn
	stmts map[string]*stmt

	guarded bool        // the authorizer is in place
	lent    atomic.Bool // a hook has it: see CommitWith
}

// rawConn is what the driver's connection can do.
type rawConn interface {
	driver.Conn
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driversqlite.DBStatus
	driversqlite.AuthorizerRegisterer
}

type stmt struct {
	raw  rawStmt
	args []driver.NamedValue
}

type rawStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

// dial opens a connection; tests put a faulty disk in its place.
type dial func(ctx context.Context, dsn string) (rawConn, error)

func dialDriver(ctx context.Context, dsn string) (rawConn, error) {
	c, err := driversqlite.NewConnector(dsn)
	if err != nil {
		return nil, err
	}
	raw, err := c.Connect(ctx)
	if err != nil {
		return nil, err
	}
	rc, ok := raw.(rawConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("the driver's connection is a %T", raw), raw.Close())
	}
	return rc, nil
}

func newConn(raw rawConn) *conn { return &conn{raw: raw, stmts: map[string]*stmt{}} }

// close finalizes everything. A nil conn is closed already.
func (c *conn) close() error {
	if c == nil {
		return nil
	}
	var errs []error
	for _, s := range c.stmts {
		errs = append(errs, s.raw.Close())
	}
	return errors.Join(append(errs, c.raw.Close())...)
}

func (c *conn) prepare(ctx context.Context, text string, args []driver.Value) (*stmt, error) {
	s := c.stmts[text]
	if s == nil {
		raw, err := c.raw.PrepareContext(ctx, text)
		if err != nil {
			return nil, err
		}
		rs, ok := raw.(rawStmt)
		if !ok {
			return nil, fmt.Errorf("the driver's statement is a %T", raw)
		}
		s = &stmt{raw: rs}
		c.stmts[text] = s
	}
	s.args = s.args[:0]
	for i, v := range args {
		s.args = append(s.args, driver.NamedValue{Ordinal: i + 1, Value: v})
	}
	return s, nil
}

// exec runs a statement, prepared once and kept, and returns how many rows it changed.
func (c *conn) exec(ctx context.Context, text string, args ...driver.Value) (int64, error) {
	s, err := c.prepare(ctx, text, args)
	if err != nil {
		return 0, err
	}
	r, err := s.raw.ExecContext(ctx, s.args)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// script runs statements that are needed once.
func (c *conn) script(ctx context.Context, text string) error {
	_, err := c.raw.ExecContext(ctx, text, nil)
	return err
}

// query hands each row to f, which must not keep it.
func (c *conn) query(ctx context.Context, f func(row []driver.Value) error, text string, args ...driver.Value) (err error) {
	s, err := c.prepare(ctx, text, args)
	if err != nil {
		return err
	}
	rows, err := s.raw.QueryContext(ctx, s.args)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	row := make([]driver.Value, len(rows.Columns()))
	for {
		switch err := rows.Next(row); err {
		case nil:
		case io.EOF:
			return nil
		default:
			return err
		}
		if err := f(row); err != nil {
			return err
		}
	}
}

// row returns the first row of a query, or nil if there is none.
func (c *conn) row(ctx context.Context, text string, args ...driver.Value) (first []driver.Value, err error) {
	err = c.query(ctx, func(row []driver.Value) error {
		if first == nil {
			first = append(first, row...)
		}
		return nil
	}, text, args...)
	return first, err
}

// text returns the first column of the first row as text, "" if there is none.
func (c *conn) text(ctx context.Context, text string, args ...driver.Value) (string, error) {
	row, err := c.row(ctx, text, args...)
	if err != nil || row == nil || row[0] == nil {
		return "", err
	}
	return fmt.Sprint(row[0]), nil
}

// pagesWritten is how many pages this connection has put into the WAL since it was
// last asked.
func (c *conn) pagesWritten() (int, error) {
	n, _, err := c.raw.Status(driversqlite.DBStatusCacheWrite, true)
	return n, err
}
