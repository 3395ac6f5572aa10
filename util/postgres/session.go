package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// session is a connection that was found fit. One goroutine uses it at a time, and
// releases it.
type session struct {
	*pgxpool.Conn
	db *DB
}

// Release hands the connection to the next user, or ends it if enough are idle: the
// pool has no such bound of its own but a hook, which it calls in a goroutine, and
// meanwhile it opens another connection.
func (s session) Release() {
	if most := s.db.maxIdle; most > 0 && s.db.pool.Stat().IdleConns() >= most {
		s.cut()
	}
	s.Conn.Release()
}

// acquire waits for a connection to the server whose history was adopted. For an owner
// the server is told whose it is.
func (db *DB) acquire(ctx context.Context, owner string) (session, error) {
	for {
		s, err := db.take(ctx)
		if err != nil {
			return session{}, err
		}
		had, old := s.known()
		if old && had != db.pasts.current() { // what is behind it is no more
			s.discard()
			continue
		}
		if err := db.fit(ctx, s, owner); err != nil {
			s.discard()
			return session{}, err
		}
		return s, nil
	}
}

// take waits for any connection.
func (db *DB) take(ctx context.Context) (session, error) {
	if db.closed.Load() {
		return session{}, ErrClosed
	}
	c, err := db.pool.Acquire(ctx)
	if err != nil {
		return session{}, db.explain(err)
	}
	return session{c, db}, nil
}

// discard ends the connection in place of handing it to the next user.
func (s session) discard() {
	s.cut()
	s.Conn.Release()
}

// cut closes the connection without waiting for the server.
func (s session) cut() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = s.Conn.Conn().Close(ctx)
}

const fitKey = "goverse" // in a connection's own data, once it was found fit: its server

// known is the server that the connection was found to lead to.
func (s session) known() (is server, ok bool) {
	is, ok = s.Conn.Conn().PgConn().CustomData()[fitKey].(server)
	return is, ok
}

func (db *DB) fit(ctx context.Context, s session, owner string) error {
	pc := s.Conn.Conn().PgConn()
	is, ok := s.known()
	if !ok {
		if err := db.inspect(ctx, s); err != nil {
			return err
		}
		is, _ = s.known()
	}
	if is != db.pasts.current() {
		return db.otherHistory(is)
	}
	// The server reports each change of this setting, so nothing needs to be remembered.
	if name := sessionName(owner); owner != "" && pc.ParameterStatus("application_name") != name {
		if _, err := s.Exec(ctx, `SELECT set_config('application_name', $1, false)`, name); err != nil {
			return db.explain(err)
		}
	}
	return nil
}

// sessionName is an owner's application_name: "goverse:" and its registration. The
// address is left out because the server cuts names at 63 bytes; what does not fit or
// is not plain ASCII, which the server would change, is replaced by its digest.
func sessionName(owner string) string {
	x := owner[strings.LastIndexByte(owner, '#')+1:]
	if len(x) > 63-len("goverse:") || strings.ContainsFunc(x, func(r rune) bool { return r < ' ' || r > '~' }) {
		sum := sha256.Sum256([]byte(x))
		x = "~" + hex.EncodeToString(sum[:16])
	}
	return "goverse:" + x
}

// manners are what a commit relies on. The planner's are for tables that have grown
// since they were last analyzed: a batch of keys is always looked up by key.
const manners = `SET default_transaction_isolation='read committed'; SET jit=off; SET enable_seqscan=off; SET enable_mergejoin=off`

// inspect finds out whether the server keeps what it acknowledges, and which it is, and
// sets the session up if it is of our own pool.
func (db *DB) inspect(ctx context.Context, s session) error {
	const look = `SELECT pg_is_in_recovery(), current_setting('transaction_read_only')='on', current_setting('fsync')='on',
  current_setting('full_page_writes')='on', current_setting('server_encoding'), current_setting('synchronous_commit'),
  current_setting('default_transaction_isolation'), current_setting('server_version_num')::int`
	var standby, readOnly, fsync, fullPages bool
	var encoding, synchronous, isolation string
	var version int
	err := s.QueryRow(ctx, look).Scan(&standby, &readOnly, &fsync, &fullPages, &encoding, &synchronous, &isolation, &version)
	if err != nil {
		return db.explain(err)
	}
	unfit := func(format string, args ...any) error {
		return fmt.Errorf("%s: %w: %s", db.name, ErrUnfit, fmt.Sprintf(format, args...))
	}
	switch {
	case version < 130000:
		return unfit("it is PostgreSQL %d.%d: 13 or newer is needed", version/10000, version%10000)
	case standby:
		return unfit("it is a standby, which takes no writes: name the primary (target_session_attrs=read-write finds it among several hosts)")
	case readOnly:
		return unfit("the database is read-only: ALTER DATABASE ... RESET default_transaction_read_only, or use another role")
	case !fsync:
		return unfit("fsync is off, a crash would lose acknowledged saves: set fsync=on in postgresql.conf")
	case !fullPages:
		return unfit("full_page_writes is off, a crash could tear pages: set full_page_writes=on in postgresql.conf")
	case encoding != "UTF8":
		return unfit("the database's encoding is %s: make one with createdb --encoding UTF8 --template template0", encoding)
	case !db.own && isolation != "read committed":
		return unfit("the pool's connections have default_transaction_isolation=%s: want read committed", isolation)
	}
	durable := synchronous == "on" || synchronous == "remote_apply"
	if !durable && !db.own {
		return unfit("the pool's connections have synchronous_commit=%s: want on", synchronous)
	}
	if db.own {
		script := manners
		if !durable {
			script += `; SET synchronous_commit=on`
		}
		if err := s.script(ctx, script); err != nil {
			return db.explain(err)
		}
	}
	is, err := db.ask(ctx, s)
	if err != nil {
		return err
	}
	db.pasts.first(is)
	s.Conn.Conn().PgConn().CustomData()[fitKey] = is
	return nil
}

func noRow(err error) bool { return errors.Is(err, pgx.ErrNoRows) }
