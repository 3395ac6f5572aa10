package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/xiaonanln/goverse/object"
)

var (
	// ErrDamaged: the tables are not as InitSchema makes them. Nothing was changed.
	ErrDamaged = errors.New("the tables are damaged")
	// ErrNewerSchema: a newer version of Goverse made the tables.
	ErrNewerSchema = errors.New("the tables were made by a newer version")
	// ErrNoSchema: InitSchema was not called.
	ErrNoSchema = errors.New("the tables are missing: call InitSchema first")
	// ErrClosed: the DB was closed.
	ErrClosed = errors.New("the database is closed")
	// ErrUnfit: the server would not keep what it acknowledges, or takes no writes.
	ErrUnfit = errors.New("the server cannot be used")
	// ErrOtherHistory: the server that answers now is not the one that answered at
	// first, or went back in time. Provider.AdoptHistory goes on with it.
	ErrOtherHistory = object.ErrOtherHistory
)

// codeOf is the SQLSTATE of an error that the server sent, or "".
func codeOf(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// rolledBack says that the server has answered err to a statement that was its own
// transaction: nothing of it took effect. A FATAL answer is none: it may come after the
// commit. Nor is any error of the driver's, whatever it says of itself: it calls an error
// safe to retry if the connection was closed, also when that was after the statement.
func rolledBack(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.SeverityUnlocalized == "ERROR"
}

// unlucky says that the same statement may succeed if it is repeated.
func unlucky(err error) bool {
	switch codeOf(err) {
	case "40001", "40P01": // serialization failure, deadlock
		return true
	}
	return false
}

const lockTimedOut = "55P03"

// constraintOf is the constraint that a row violates, or "".
func constraintOf(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.ConstraintName
	}
	return ""
}

// badData says that a row of a statement is to blame, not the server.
func badData(err error) bool {
	code := codeOf(err)
	if len(code) != 5 || !rolledBack(err) {
		return false
	}
	switch code[:2] {
	case "22", "23", "54": // data exception, constraint violated, limit exceeded
		return true
	}
	return false
}

// advice says what to do about an SQLSTATE.
var advice = map[string]string{
	"28P01": "the password is wrong for this user",
	"28000": "the server does not let this user in from here: see its pg_hba.conf",
	"3D000": "there is no such database: make it with createdb",
	"42501": "this user lacks a privilege: let it own the database, or GRANT it CREATE on the schema and all on the goverse_ tables",
	"42P01": "a table is missing: it was dropped under the running program, or InitSchema was not called",
	"3F000": "there is no schema to make tables in: see the user's search_path",
	"25006": "the database is read-only: use the primary, or RESET default_transaction_read_only",
	"53100": "the server's disk is full: free some space, what was acknowledged is intact",
	"53200": "the server is out of memory",
	"53300": "the server has no connection left: lower MaxOpenConns, or raise its max_connections",
	"55P03": "the row is locked by somebody else",
	"57014": "the statement was cancelled, or took longer than statement_timeout",
	"57P01": "the connection was ended by an operator, or by a node that took over",
	"57P02": "the server has crashed and starts anew",
	"57P03": "the server is starting up or shutting down",
	"58030": "the server has an I/O error: see its log",
}

// explain names the database and says what to do.
func (db *DB) explain(err error) error {
	if err == nil || explained(err) {
		return err
	}
	if say := advice[codeOf(err)]; say != "" {
		return fmt.Errorf("%s: %s: %w", db.name, say, err)
	}
	var connecting *pgconn.ConnectError
	if errors.As(err, &connecting) && codeOf(err) == "" && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s: no connection: is the server running, and are host, port and SSLMode right? %w", db.name, err)
	}
	return fmt.Errorf("%s: %w", db.name, err)
}

// notCommitted says that surely nothing was written.
func notCommitted(err error) error { return fmt.Errorf("%w: %w", object.ErrNotCommitted, err) }
