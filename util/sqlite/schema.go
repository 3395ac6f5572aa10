package sqlite

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"
)

// migrations are the steps from an empty file to the newest tables: step n makes
// schema version n+1. A step that was released never changes; add another.
var migrations = []string{`
CREATE TABLE goverse_meta (
  k TEXT PRIMARY KEY,
  v TEXT NOT NULL
) STRICT;

CREATE TABLE goverse_shards (
  shard_id INTEGER PRIMARY KEY CHECK (shard_id BETWEEN 0 AND 8191),
  epoch INTEGER NOT NULL CHECK (epoch > 0),
  owner TEXT NOT NULL,
  claimed_at INTEGER NOT NULL
) STRICT;

CREATE TABLE goverse_objects (
  object_type TEXT NOT NULL,
  object_id TEXT NOT NULL,
  data TEXT CHECK (json_valid(data)),
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  shard_id INTEGER NOT NULL,
  version INTEGER NOT NULL CHECK (version > 0),
  epoch INTEGER NOT NULL,
  save_id TEXT NOT NULL,
  deleted_at INTEGER,
  CHECK ((deleted_at IS NULL) = (data IS NOT NULL)),
  PRIMARY KEY (object_type, object_id)
) STRICT;

CREATE INDEX goverse_objects_type ON goverse_objects (object_type, created_at) WHERE deleted_at IS NULL;

CREATE INDEX goverse_objects_gone ON goverse_objects (shard_id, deleted_at) WHERE deleted_at IS NOT NULL;
`, `
CREATE TABLE goverse_calls (
  object_type TEXT NOT NULL,
  object_id TEXT NOT NULL,
  call_id TEXT NOT NULL,
  shard_id INTEGER NOT NULL,
  status INTEGER NOT NULL CHECK (status BETWEEN 1 AND 3),
  result BLOB NOT NULL,
  version INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  PRIMARY KEY (object_type, object_id, call_id)
) STRICT;

CREATE INDEX goverse_calls_expiry ON goverse_calls (shard_id, expires_at);

CREATE TABLE goverse_outbox (
  shard_id INTEGER NOT NULL,
  object_type TEXT NOT NULL,
  object_id TEXT NOT NULL,
  version INTEGER NOT NULL,
  ord INTEGER NOT NULL,
  kind INTEGER NOT NULL CHECK (kind BETWEEN 1 AND 2),
  effect_id TEXT NOT NULL UNIQUE,
  target_type TEXT,
  target_id TEXT NOT NULL,
  payload BLOB NOT NULL,
  not_after INTEGER,
  CHECK ((kind = 2) = (target_type IS NULL)),
  PRIMARY KEY (shard_id, object_type, object_id, version, ord)
) STRICT;
`}

// InitSchema makes the tables, or brings older ones up to date. It may be called
// again, and by several processes at once: one of them does it.
func (db *DB) InitSchema(ctx context.Context) error {
	w, err := db.takeWriter(ctx)
	if err != nil {
		return err
	}
	defer db.putWriter(w)
	// A start that has nothing to write does not queue behind those who write.
	if version, err := schemaVersion(ctx, w); err != nil || version != len(migrations) {
		if err := db.transact(ctx, w, db.startPatience(), func() error { return migrate(ctx, w) }); err != nil {
			return fmt.Errorf("init schema: %w", err)
		}
	}
	return db.patiently(ctx, db.startPatience(), func() error { return db.readSchema(ctx, w) })
}

// migrate runs in a transaction that holds the write lock.
func migrate(ctx context.Context, c *conn) error {
	version, err := schemaVersion(ctx, c)
	if err != nil {
		return err
	}
	if version > len(migrations) {
		return newerSchema(version)
	}
	for i := version; i < len(migrations); i++ {
		if err := c.script(ctx, migrations[i]); err != nil {
			return fmt.Errorf("to version %d: %w", i+1, err)
		}
	}
	const put = `INSERT INTO goverse_meta (k, v) VALUES (?1, ?2) ON CONFLICT (k) DO UPDATE SET v=excluded.v`
	if version == 0 {
		var id [16]byte
		_, _ = rand.Read(id[:]) // crypto/rand.Read never fails
		if _, err := c.exec(ctx, put, "store_id", hex.EncodeToString(id[:])); err != nil {
			return err
		}
	}
	if version < len(migrations) {
		_, err = c.exec(ctx, put, "schema_version", strconv.Itoa(len(migrations)))
	}
	return err
}

// schemaVersion is 0 for a file without Goverse's tables.
func schemaVersion(ctx context.Context, c *conn) (int, error) {
	const has = `SELECT count(*) FROM sqlite_schema WHERE type='table' AND name='goverse_meta'`
	if n, err := c.text(ctx, has); err != nil || n == "0" {
		return 0, err
	}
	v, err := c.text(ctx, `SELECT v FROM goverse_meta WHERE k='schema_version'`)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%w: goverse_meta has the schema version %q", ErrDamaged, v)
	}
	return n, nil
}

func newerSchema(version int) error {
	return fmt.Errorf("%w: the file has schema version %d, this program knows up to %d: use the newer program", ErrNewerSchema, version, len(migrations))
}

// readSchema learns whether the tables are those that this program works with, and
// the store's identity. A file without tables, or with older ones, waits for InitSchema.
func (db *DB) readSchema(ctx context.Context, c *conn) error {
	version, err := schemaVersion(ctx, c)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", db.cfg.Path, err)
	case version > len(migrations):
		return fmt.Errorf("%s: %w", db.cfg.Path, newerSchema(version))
	case version < len(migrations):
		return nil
	}
	id, err := c.text(ctx, `SELECT v FROM goverse_meta WHERE k='store_id'`)
	if err != nil {
		return explain(db.cfg.Path, err)
	}
	if id == "" {
		return fmt.Errorf("%s: %w: goverse_meta has no store_id", db.cfg.Path, ErrDamaged)
	}
	if had := db.storeID.Load(); had != nil && *had != id {
		return fmt.Errorf("%s: %w: its store_id was %s and is %s now: the file was exchanged under the running program", db.cfg.Path, ErrDamaged, *had, id)
	}
	db.storeID.Store(&id)
	return nil
}
