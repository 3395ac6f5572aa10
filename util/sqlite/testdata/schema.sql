-- schema version 2

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
