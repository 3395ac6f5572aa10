table goverse_calls
goverse_calls.object_type text collate "C" not null
goverse_calls.object_id text collate "C" not null
goverse_calls.call_id text collate "C" not null
goverse_calls.shard_id integer not null
goverse_calls.status smallint not null
goverse_calls.result bytea not null
goverse_calls.version bigint not null
goverse_calls.ord integer not null
goverse_calls.expires_at timestamp with time zone not null
goverse_calls goverse_calls_pkey PRIMARY KEY (object_type, object_id, call_id)
goverse_calls goverse_calls_status_check CHECK (((status >= 1) AND (status <= 3)))
CREATE INDEX goverse_calls_expiry ON goverse_calls USING btree (shard_id, expires_at)
CREATE INDEX goverse_calls_newest ON goverse_calls USING btree (object_type, object_id, version, ord)
CREATE UNIQUE INDEX goverse_calls_pkey ON goverse_calls USING btree (object_type, object_id, call_id)
table goverse_meta
goverse_meta.k text collate "C" not null
goverse_meta.v text not null
goverse_meta goverse_meta_pkey PRIMARY KEY (k)
CREATE UNIQUE INDEX goverse_meta_pkey ON goverse_meta USING btree (k)
table goverse_objects with (fillfactor=80)
goverse_objects.object_type text collate "C" not null
goverse_objects.object_id text collate "C" not null
goverse_objects.data jsonb
goverse_objects.created_at timestamp with time zone not null default now()
goverse_objects.updated_at timestamp with time zone not null default now()
goverse_objects.shard_id integer not null
goverse_objects.version bigint not null
goverse_objects.epoch bigint not null
goverse_objects.save_id uuid not null
goverse_objects.deleted_at timestamp with time zone
goverse_objects goverse_objects_check CHECK (((deleted_at IS NULL) = (data IS NOT NULL)))
goverse_objects goverse_objects_pkey PRIMARY KEY (object_type, object_id)
goverse_objects goverse_objects_version_check CHECK ((version > 0))
CREATE INDEX goverse_objects_gone ON goverse_objects USING btree (shard_id, deleted_at) WHERE (deleted_at IS NOT NULL)
CREATE INDEX goverse_objects_type ON goverse_objects USING btree (object_type, created_at) WHERE (deleted_at IS NULL)
CREATE UNIQUE INDEX goverse_objects_pkey ON goverse_objects USING btree (object_type, object_id)
table goverse_outbox
goverse_outbox.shard_id integer not null
goverse_outbox.object_type text collate "C" not null
goverse_outbox.object_id text collate "C" not null
goverse_outbox.version bigint not null
goverse_outbox.ord integer not null
goverse_outbox.kind smallint not null
goverse_outbox.effect_id text collate "C" not null
goverse_outbox.target_type text collate "C"
goverse_outbox.target_id text collate "C" not null
goverse_outbox.payload bytea not null
goverse_outbox.not_after timestamp with time zone
goverse_outbox goverse_outbox_check CHECK (((kind = 2) = (target_type IS NULL)))
goverse_outbox goverse_outbox_effect UNIQUE (effect_id)
goverse_outbox goverse_outbox_kind_check CHECK (((kind >= 1) AND (kind <= 2)))
goverse_outbox goverse_outbox_pkey PRIMARY KEY (shard_id, object_type, object_id, version, ord)
CREATE UNIQUE INDEX goverse_outbox_effect ON goverse_outbox USING btree (effect_id)
CREATE UNIQUE INDEX goverse_outbox_pkey ON goverse_outbox USING btree (shard_id, object_type, object_id, version, ord)
table goverse_shards with (fillfactor=50)
goverse_shards.shard_id integer not null
goverse_shards.epoch bigint not null
goverse_shards.owner text collate "C" not null
goverse_shards.claimed_at timestamp with time zone not null default now()
goverse_shards goverse_shards_epoch_check CHECK ((epoch > 0))
goverse_shards goverse_shards_pkey PRIMARY KEY (shard_id)
goverse_shards goverse_shards_shard_id_check CHECK (((shard_id >= 0) AND (shard_id <= 8191)))
CREATE UNIQUE INDEX goverse_shards_pkey ON goverse_shards USING btree (shard_id)
