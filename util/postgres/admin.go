package postgres

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Status is what a database has, for people.
type Status struct {
	Database      string // host:port/name
	Server        string // PostgreSQL's version
	System        int64  // identifies the server's data directory and its copies
	Timeline      string // changes when a standby is promoted or a backup restored
	Schema        int    // version of the tables; 0: there are none
	SchemaWanted  int    // that this program works with
	StoreID       string
	Cluster       string // that the store belongs to; "": none yet
	Bytes         int64  // of the goverse_ tables and their indexes
	Fences        int64  // shards that were ever stamped
	Objects       int64
	Tombstones    int64 // deleted objects whose version is kept
	Calls         int64 // results of calls with an id
	Effects       int64 // that have not been delivered
	Synchronous   string
	Standbys      string // synchronous_standby_names: "" loses the newest saves with the primary
	Replicas      int64  // that stream now
	LiveProcesses int64  // sessions of nodes, named goverse:...
}

// Status reads the counts of everything, which takes as long as reading the tables.
func (db *DB) Status(ctx context.Context) (*Status, error) {
	s, err := db.acquire(ctx, "")
	if err != nil {
		return nil, err
	}
	defer s.Release()
	st := &Status{Database: db.name, SchemaWanted: len(migrations)}
	is := db.pasts.current()
	st.System, st.Timeline = is.system, is.timeline
	const server = `SELECT current_setting('server_version'), current_setting('synchronous_commit'), current_setting('synchronous_standby_names'),
  (SELECT count(*) FROM pg_stat_replication),
  (SELECT count(*) FROM pg_stat_activity WHERE datname=current_database() AND application_name LIKE 'goverse:%')`
	if err := s.QueryRow(ctx, server).Scan(&st.Server, &st.Synchronous, &st.Standbys, &st.Replicas, &st.LiveProcesses); err != nil {
		return nil, db.explain(err)
	}
	if st.Schema, err = schemaVersion(ctx, s); err != nil || st.Schema != len(migrations) {
		return st, db.explain(err)
	}
	const tables = `SELECT coalesce((SELECT v FROM goverse_meta WHERE k='store_id'), ''), coalesce((SELECT v FROM goverse_meta WHERE k='cluster'), ''),
  (SELECT sum(pg_total_relation_size(x))::bigint FROM unnest(ARRAY['goverse_meta','goverse_shards','goverse_objects','goverse_calls','goverse_outbox']::regclass[]) x),
  (SELECT count(*) FROM goverse_shards), (SELECT count(*) FROM goverse_objects WHERE deleted_at IS NULL),
  (SELECT count(*) FROM goverse_objects WHERE deleted_at IS NOT NULL), (SELECT count(*) FROM goverse_calls), (SELECT count(*) FROM goverse_outbox)`
	err = s.QueryRow(ctx, tables).Scan(&st.StoreID, &st.Cluster, &st.Bytes, &st.Fences, &st.Objects, &st.Tombstones, &st.Calls, &st.Effects)
	return st, db.explain(err)
}

// Identity is which store a database is.
type Identity struct {
	Database             string // host:port/name
	Schema, SchemaWanted int    // as in Status; with another Schema than is wanted, the rest is empty
	StoreID              string
	Cluster              string // that the store belongs to; "": none yet
}

// Identity is part of what Status tells, and takes no time.
func (db *DB) Identity(ctx context.Context) (*Identity, error) {
	s, err := db.acquire(ctx, "")
	if err != nil {
		return nil, err
	}
	defer s.Release()
	is := &Identity{Database: db.name, SchemaWanted: len(migrations)}
	if is.Schema, err = schemaVersion(ctx, s); err != nil || is.Schema != is.SchemaWanted {
		return is, db.explain(err)
	}
	const rows = `SELECT coalesce((SELECT v FROM goverse_meta WHERE k='store_id'), ''), coalesce((SELECT v FROM goverse_meta WHERE k='cluster'), '')`
	return is, db.explain(s.QueryRow(ctx, rows).Scan(&is.StoreID, &is.Cluster))
}

// schemaSQL is the tables as the server describes them, see describe. A test holds it
// against the migrations.
//
//go:embed testdata/schema.sql
var schemaSQL string

// rules are what no program of Goverse breaks: each counts the rows that do.
var rules = []struct{ broken, sql string }{
	{"objects in a shard that does not exist", `SELECT count(*) FROM goverse_objects WHERE shard_id < -1 OR shard_id > 8191`},
	{"objects saved under an epoch that their shard has not reached: the fences are older than the objects, as after a partial restore",
		`SELECT count(*) FROM goverse_objects o WHERE o.epoch > coalesce((SELECT s.epoch FROM goverse_shards s WHERE s.shard_id=o.shard_id), 0)`},
	{"objects created after their last change", `SELECT count(*) FROM goverse_objects WHERE created_at > updated_at OR deleted_at > updated_at`},
	{"effects without the object version that made them",
		`SELECT count(*) FROM goverse_outbox e LEFT JOIN goverse_objects o USING (object_type, object_id) WHERE o.version IS NULL OR e.version > o.version`},
}

// Verify holds the tables and their rows against what this program makes, and returns
// what is wrong, in words. It changes nothing and may run beside live nodes.
func (db *DB) Verify(ctx context.Context) (findings []string, err error) {
	if err := db.ready(); err != nil {
		return nil, err
	}
	s, err := db.acquire(ctx, "")
	if err != nil {
		return nil, err
	}
	defer s.Release()
	tx, err := s.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}) // one snapshot
	if err != nil {
		return nil, db.explain(err)
	}
	defer s.rollback()
	has, err := describe(ctx, tx)
	if err != nil {
		return nil, db.explain(err)
	}
	for _, line := range missing(schemaSQL, has) {
		findings = append(findings, "the tables lack: "+line)
	}
	if len(findings) > 0 {
		return findings, nil // the rules would stumble over it
	}
	for _, r := range rules {
		var n int64
		if err := tx.QueryRow(ctx, r.sql).Scan(&n); err != nil {
			return findings, db.explain(err)
		}
		if n > 0 {
			findings = append(findings, fmt.Sprintf("%d %s", n, r.broken))
		}
	}
	return findings, nil
}

// missing returns the lines of want that has does not have. Columns and indexes that
// somebody has added are no fault.
func missing(want, has string) (lines []string) {
	there := map[string]bool{}
	for line := range strings.Lines(has) {
		there[strings.TrimSpace(line)] = true
	}
	for line := range strings.Lines(want) {
		if line = strings.TrimSpace(line); line != "" && !there[line] {
			lines = append(lines, line)
		}
	}
	return lines
}

// describe renders the goverse_ tables from the server's catalog, a line for each
// column, constraint and index.
func describe(ctx context.Context, tx pgx.Tx) (string, error) {
	const catalog = `WITH t AS (SELECT c.oid, c.relname, c.reloptions FROM pg_class c WHERE c.relkind IN ('r','p')
  AND c.oid = ANY (ARRAY(SELECT to_regclass(n) FROM unnest(ARRAY['goverse_calls','goverse_meta','goverse_objects','goverse_outbox','goverse_shards']) n)))
SELECT line FROM (
 SELECT relname, 0 AS part, 0 AS n, 'table ' || relname || coalesce(' with (' || array_to_string(reloptions, ', ') || ')', '') AS line FROM t
 UNION ALL SELECT relname, 1, a.attnum, relname || '.' || attname || ' ' || format_type(atttypid, atttypmod) ||
  CASE WHEN a.attcollation <> 0 AND a.attcollation <> 'default'::regcollation THEN ' collate "' || (SELECT collname FROM pg_collation WHERE oid=a.attcollation) || '"' ELSE '' END ||
  CASE WHEN attnotnull THEN ' not null' ELSE '' END || coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '')
  FROM t JOIN pg_attribute a ON a.attrelid=t.oid AND a.attnum > 0 AND NOT a.attisdropped LEFT JOIN pg_attrdef d ON d.adrelid=t.oid AND d.adnum=a.attnum
 UNION ALL SELECT relname, 2, 0, relname || ' ' || conname || ' ' || pg_get_constraintdef(k.oid) FROM t JOIN pg_constraint k ON k.conrelid=t.oid AND k.contype IN ('p','u','c')
 UNION ALL SELECT t.relname, 3, 0, replace(pg_get_indexdef(x.indexrelid), ' ON ' || quote_ident(ns.nspname) || '.', ' ON ') FROM t JOIN pg_index x ON x.indrelid=t.oid
  JOIN pg_class ic ON ic.oid=t.oid JOIN pg_namespace ns ON ns.oid=ic.relnamespace
) l ORDER BY relname COLLATE "C", part, n, line COLLATE "C"`
	rows, _ := tx.Query(ctx, catalog) // its error is CollectRows's
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return strings.Join(lines, "\n") + "\n", err
}

// ErrNotReset says that Reset has changed nothing.
var ErrNotReset = errors.New("the database was not reset")

// Reset drops all of Goverse's tables, with everything that is stored. storeID guards
// it: it must be the store's. It is refused while nodes have connections. InitSchema
// makes an empty store again, with another identity.
func (db *DB) Reset(ctx context.Context, storeID string) error {
	if err := db.ready(); err != nil {
		return fmt.Errorf("%w: %w", ErrNotReset, err)
	}
	if has := *db.storeID.Load(); has != storeID {
		return fmt.Errorf("%w: %s is store %q, not %q", ErrNotReset, db.name, has, storeID)
	}
	s, err := db.acquire(ctx, "")
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotReset, err)
	}
	defer s.Release()
	defer s.rollback()
	const live = `SELECT count(*) FROM pg_stat_activity WHERE datname=current_database() AND application_name LIKE 'goverse:%' AND pid <> pg_backend_pid()`
	const begin = `BEGIN; SET LOCAL lock_timeout='3s'; SELECT pg_advisory_xact_lock(` // the lock of those who make tables
	if err := s.script(ctx, fmt.Sprint(begin, schemaLock, `)`)); err != nil {
		return fmt.Errorf("%w: %w", ErrNotReset, db.explain(err))
	}
	var nodes int
	if err := s.QueryRow(ctx, live).Scan(&nodes); err != nil {
		return fmt.Errorf("%w: %w", ErrNotReset, db.explain(err))
	}
	if nodes > 0 {
		return fmt.Errorf("%w: %d connections of nodes use %s: stop the nodes first", ErrNotReset, nodes, db.name)
	}
	if err := s.script(ctx, `DROP TABLE IF EXISTS goverse_outbox, goverse_calls, goverse_objects, goverse_shards, goverse_meta`); err != nil {
		return fmt.Errorf("%w: %w", ErrNotReset, db.explain(err))
	}
	if err := s.script(ctx, `COMMIT`); err != nil {
		return fmt.Errorf("reset: %w", db.explain(err))
	}
	db.storeID.Store(nil)
	return nil
}
