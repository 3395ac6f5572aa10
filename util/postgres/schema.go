package postgres

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"
)

// migrations are the steps from an empty database to the newest tables: step n makes
// schema version n+1. A step that was released never changes; add another.
//
// Names are compared as bytes (COLLATE "C"): the order of an operating system's
// collation changes with its version, and would leave the keys out of order.
var migrations = []string{`
CREATE TABLE goverse_shards (
  shard_id int PRIMARY KEY CHECK (shard_id BETWEEN 0 AND 8191),
  epoch bigint NOT NULL CHECK (epoch > 0),
  owner text COLLATE "C" NOT NULL,
  claimed_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

CREATE TABLE goverse_objects (
  object_type text COLLATE "C" NOT NULL,
  object_id text COLLATE "C" NOT NULL,
  data jsonb,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  shard_id int NOT NULL,
  version bigint NOT NULL CHECK (version > 0),
  epoch bigint NOT NULL,
  save_id uuid NOT NULL,
  deleted_at timestamptz,
  CHECK ((deleted_at IS NULL) = (data IS NOT NULL)),
  PRIMARY KEY (object_type, object_id)
) WITH (fillfactor = 80);

CREATE INDEX goverse_objects_type ON goverse_objects (object_type, created_at) WHERE deleted_at IS NULL;

CREATE INDEX goverse_objects_gone ON goverse_objects (shard_id, deleted_at) WHERE deleted_at IS NOT NULL;

CREATE TABLE goverse_calls (
  object_type text COLLATE "C" NOT NULL,
  object_id text COLLATE "C" NOT NULL,
  call_id text COLLATE "C" NOT NULL,
  shard_id int NOT NULL,
  status smallint NOT NULL CHECK (status BETWEEN 1 AND 3),
  result bytea NOT NULL,
  version bigint NOT NULL,
  ord int NOT NULL,
  expires_at timestamptz NOT NULL,
  PRIMARY KEY (object_type, object_id, call_id)
);

CREATE INDEX goverse_calls_newest ON goverse_calls (object_type, object_id, version, ord);

CREATE INDEX goverse_calls_expiry ON goverse_calls (shard_id, expires_at);

CREATE TABLE goverse_outbox (
  shard_id int NOT NULL,
  object_type text COLLATE "C" NOT NULL,
  object_id text COLLATE "C" NOT NULL,
  version bigint NOT NULL,
  ord int NOT NULL,
  kind smallint NOT NULL CHECK (kind BETWEEN 1 AND 2),
  effect_id text COLLATE "C" NOT NULL,
  target_type text COLLATE "C",
  target_id text COLLATE "C" NOT NULL,
  payload bytea NOT NULL,
  not_after timestamptz,
  CHECK ((kind = 2) = (target_type IS NULL)),
  PRIMARY KEY (shard_id, object_type, object_id, version, ord),
  CONSTRAINT goverse_outbox_effect UNIQUE (effect_id)
);
`}

// metaSQL makes the table that knows the version of the others.
const metaSQL = `CREATE TABLE IF NOT EXISTS goverse_meta (k text COLLATE "C" PRIMARY KEY, v text NOT NULL)`

// schemaLock is the advisory lock of those who make tables: "goverse" in ASCII.
const schemaLock = 0x676f7665727365

// InitSchema makes the tables, in the first schema of the user's search_path, or brings
// older ones up to date. It may be called again, and by several processes at once: one
// of them does it.
func (db *DB) InitSchema(ctx context.Context) error {
	s, err := db.acquire(ctx, "")
	if err != nil {
		return fmt.Errorf("init schema: %w", err)
	}
	defer s.Release()
	// A start that has nothing to make takes no lock.
	if version, err := schemaVersion(ctx, s); err == nil && version == len(migrations) {
		return db.readSchema(ctx, s)
	}
	if err := db.migrate(ctx, s); err != nil {
		return fmt.Errorf("init schema: %w", db.explain(err))
	}
	return db.readSchema(ctx, s)
}

// migrate makes what is missing, all in one transaction.
func (db *DB) migrate(ctx context.Context, s session) error {
	tx, err := s.Begin(ctx)
	if err != nil {
		return err
	}
	defer s.rollback()
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, schemaLock); err != nil {
		return err
	}
	version, err := schemaVersion(ctx, s)
	if err != nil {
		return err
	}
	if version > len(migrations) {
		return newerSchema(version)
	}
	steps := migrations[version:]
	if version == 0 {
		steps = append([]string{metaSQL}, steps...)
	}
	for _, step := range steps {
		if err := s.script(ctx, step); err != nil {
			return err
		}
	}
	const put = `INSERT INTO goverse_meta (k, v) VALUES ($1, $2) ON CONFLICT (k) DO UPDATE SET v=excluded.v`
	if version == 0 {
		if _, err := tx.Exec(ctx, put, "store_id", newStoreID()); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(ctx, put, "schema_version", strconv.Itoa(len(migrations))); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

func newStoreID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // crypto/rand.Read never fails
	return hex.EncodeToString(id[:])
}

// schemaVersion is 0 for a database without Goverse's tables.
func schemaVersion(ctx context.Context, s session) (int, error) {
	// By the catalog's rows: after the wait for an advisory lock to_regclass may still
	// go by what the session knew before.
	const has = `SELECT EXISTS (SELECT 1 FROM pg_class WHERE relname='goverse_meta' AND relkind IN ('r','p') AND pg_table_is_visible(oid))`
	var there bool
	if err := s.QueryRow(ctx, has).Scan(&there); err != nil || !there {
		return 0, err
	}
	var v string
	err := s.QueryRow(ctx, `SELECT v FROM goverse_meta WHERE k='schema_version'`).Scan(&v)
	if err != nil && !noRow(err) {
		return 0, err
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%w: goverse_meta has the schema version %q", ErrDamaged, v)
	}
	return n, nil
}

func newerSchema(version int) error {
	return fmt.Errorf("%w: the database has schema version %d, this program knows up to %d: use the newer program", ErrNewerSchema, version, len(migrations))
}

// readSchema learns whether the tables are those that this program works with, and the
// store's identity. A database without tables, or with older ones, waits for InitSchema.
func (db *DB) readSchema(ctx context.Context, s session) error {
	version, err := schemaVersion(ctx, s)
	switch {
	case err != nil && explained(err):
		return fmt.Errorf("%s: %w", db.name, err)
	case err != nil:
		return db.explain(err)
	case version > len(migrations):
		return fmt.Errorf("%s: %w", db.name, newerSchema(version))
	case version < len(migrations):
		return nil
	}
	var id string
	err = s.QueryRow(ctx, `SELECT v FROM goverse_meta WHERE k='store_id'`).Scan(&id)
	if err != nil && !noRow(err) {
		return db.explain(err)
	}
	if id == "" {
		return fmt.Errorf("%s: %w: goverse_meta has no store_id", db.name, ErrDamaged)
	}
	if had := db.storeID.Load(); had != nil && *had != id {
		return fmt.Errorf("%s: %w: its store_id was %s and is %s now: the tables were exchanged under the running program", db.name, ErrDamaged, *had, id)
	}
	db.storeID.Store(&id)
	return nil
}
