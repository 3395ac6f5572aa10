package postgres

import (
	"context"
	"fmt"
	"sync"

	"github.com/xiaonanln/goverse/object"
)

var _ object.HistoryKeeper = (*Provider)(nil)

// server says whose past a connection continues; one connection has one for ever. A
// promoted standby, and a backup that is put back with recovery, go on with another
// timeline. A copy of the data directory that is put back goes on as if nothing had
// been, but for its log, which is shorter than it was.
type server struct {
	system   int64
	timeline string
	database int64 // another one may have taken its name
	falls    int   // how often the log was found shorter; counted by this DB
}

// pasts is what a DB has seen of its server. All methods may be called concurrently.
type pasts struct {
	mu      sync.Mutex // protects following fields
	adopted *server    // nil: none yet
	newest  server     // that was seen
	log     int64      // how long the log of newest was at least
}

// mark is what was known before a question was asked.
type mark struct {
	newest server
	log    int64
}

func (p *pasts) mark() mark {
	p.mu.Lock()
	defer p.mu.Unlock()
	return mark{p.newest, p.log}
}

// saw takes an answer: a server that has flushed its log up to a position. What was
// flushed before the question is lost only with what was acknowledged.
func (p *pasts) saw(before mark, is server, log int64) server {
	p.mu.Lock()
	defer p.mu.Unlock()
	is.falls = before.newest.falls
	switch {
	case p.newest.falls != before.newest.falls: // the question is older than the last fall
		if is == before.newest && log < before.log {
			is.falls = p.newest.falls // and the answer is not
		}
	case is == before.newest && log < before.log:
		is.falls++
		p.newest, p.log = is, log
	case is == p.newest:
		p.log = max(p.log, log)
	default:
		p.newest, p.log = is, log
	}
	return is
}

// first adopts the first server that is seen.
func (p *pasts) first(is server) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.adopted == nil {
		p.adopted = &is
	}
}

func (p *pasts) adopt(is server) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.adopted = &is
}

// current is the server that was adopted, or the zero value.
func (p *pasts) current() (is server) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.adopted != nil {
		is = *p.adopted
	}
	return is
}

func (s server) String() string {
	if s.system == 0 {
		return "a server that does not tell its history"
	}
	text := fmt.Sprintf("system %d timeline %s database %d", s.system, s.timeline, s.database)
	if s.falls > 0 {
		text += fmt.Sprintf(", whose log was cut short %d times", s.falls)
	}
	return text
}

// ask learns whose past the session continues. A server that does not tell has the zero
// value, always.
func (db *DB) ask(ctx context.Context, s session) (server, error) {
	const ask = `SELECT system_identifier, left(pg_walfile_name(pg_current_wal_lsn()), 8), pg_current_wal_flush_lsn() - '0/0'::pg_lsn,
  (SELECT oid::bigint FROM pg_database WHERE datname = current_database()) FROM pg_control_system()`
	var is server
	var log int64
	before := db.pasts.mark()
	if err := s.QueryRow(ctx, ask).Scan(&is.system, &is.timeline, &log, &is.database); err != nil {
		if !rolledBack(err) || db.pasts.current() != (server{}) {
			return is, db.explain(err)
		}
		db.silent.Do(func() {
			db.warn("the server does not tell its timeline: a fail-over to a standby that lacks acknowledged saves will not be noticed", err)
		})
		return server{}, nil
	}
	return db.pasts.saw(before, is, log), nil
}

// otherHistory is the error of a session that continues another past than the adopted one.
func (db *DB) otherHistory(is server) error {
	return fmt.Errorf("%s: %w: it was %v and is %v: a standby was promoted, or a backup put back; nodes that run go on with it by themselves, start anything else anew",
		db.name, ErrOtherHistory, db.pasts.current(), is)
}

// present finds out what the server is now: by a connection of the adopted history that
// lives, or by one that is made now.
func (db *DB) present(ctx context.Context) (session, server, error) {
	for {
		s, err := db.take(ctx)
		if err != nil {
			return s, server{}, err
		}
		had, old := s.known()
		if !old {
			err = db.inspect(ctx, s)
		} else if had != db.pasts.current() {
			s.discard() // it leads to who was there before
			continue
		}
		var is server
		if err == nil {
			if is, err = db.ask(ctx, s); err == nil {
				return s, is, nil
			}
		}
		s.discard()
		if !old || ctx.Err() != nil {
			return session{}, is, err
		}
	}
}

// History is the server's, and the identity of the tables: a dump that is read in makes
// them anew.
func (p *Provider) History(ctx context.Context) (string, error) {
	if err := p.db.ready(); err != nil {
		return "", err
	}
	s, is, err := p.db.present(ctx)
	if err != nil {
		return "", fmt.Errorf("history: %w", err)
	}
	defer s.Release()
	name, err := p.db.nameOf(ctx, s, is)
	if err != nil {
		return "", fmt.Errorf("history: %w", err)
	}
	return name, nil
}

func (db *DB) nameOf(ctx context.Context, s session, is server) (string, error) {
	const fences = `SELECT oid::bigint FROM pg_class WHERE relname='goverse_shards' AND relkind IN ('r','p') AND pg_table_is_visible(oid)`
	var tables int64
	switch err := s.QueryRow(ctx, fences).Scan(&tables); {
	case noRow(err):
		return "", fmt.Errorf("%s: %w: there is no table goverse_shards any more", db.name, ErrDamaged)
	case err != nil:
		return "", db.explain(err)
	}
	return fmt.Sprintf("%v, tables %d", is, tables), nil
}

// AdoptHistory goes on with the server as it is, if its tables are those of this store.
// Connections to the one before are not used any more.
func (p *Provider) AdoptHistory(ctx context.Context, history string) error {
	if err := p.db.ready(); err != nil {
		return err
	}
	s, is, err := p.db.present(ctx)
	if err != nil {
		return fmt.Errorf("adopt history: %w", err)
	}
	defer s.Release()
	now, err := p.db.nameOf(ctx, s, is)
	if err != nil {
		return fmt.Errorf("adopt history: %w", err)
	}
	if now != history {
		return fmt.Errorf("adopt history: %s: %w: %s was to be adopted, and it is %s", p.db.name, ErrOtherHistory, history, now)
	}
	if err := p.db.sameStore(ctx, s); err != nil {
		return fmt.Errorf("adopt history: %w", err)
	}
	p.db.pasts.adopt(is)
	return nil
}

// sameStore refuses tables of another store, and of another version than this program's.
func (db *DB) sameStore(ctx context.Context, s session) error {
	if err := db.readSchema(ctx, s); err != nil {
		return err
	}
	version, err := schemaVersion(ctx, s)
	if err == nil && version < len(migrations) {
		err = fmt.Errorf("%s: %w: they are of version %d, which InitSchema brings up to date (goverse db init)", db.name, ErrDamaged, version)
	}
	return err
}
