package postgres

import (
	"context"
	"crypto/rand"
	"fmt"
	"math"
	"time"
	"unsafe"

	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/admit"
)

// Provider keeps objects in a DB. All methods may be called concurrently.
type Provider struct {
	db  *DB
	sql dialect
}

var (
	_ object.ExactlyOnceProvider = (*Provider)(nil)
	_ object.TxProvider          = (*Provider)(nil)
	_ object.Lister              = (*Provider)(nil)
	_ object.FenceKeeper         = (*Provider)(nil)
	_ object.ClusterBinder       = (*Provider)(nil)
)

// NewPostgresPersistenceProvider returns a provider on db, which stays the caller's to
// close. Its tables must have been made: see DB.InitSchema.
func NewPostgresPersistenceProvider(db *DB) *Provider { return &Provider{db: db, sql: fencedSQL} }

// StoreID is the identity that the database was given with its tables.
func (p *Provider) StoreID(ctx context.Context) (string, error) {
	if err := p.db.ready(); err != nil {
		return "", err
	}
	return *p.db.storeID.Load(), ctx.Err()
}

// Lanes is 4, or what the connections allow: one stays for everything else.
func (p *Provider) Lanes() int { return min(4, int(p.db.pool.Config().MaxConns)-1) }

// acquire waits for a session of a database that has its tables.
func (p *Provider) acquire(ctx context.Context, owner string) (session, error) {
	if err := p.db.ready(); err != nil {
		return session{}, err
	}
	return p.db.acquire(ctx, owner)
}

const loadSQL = `SELECT data, version, created_at FROM goverse_objects WHERE object_type=$1 AND object_id=$2`

// Load returns an object's record.
func (p *Provider) Load(ctx context.Context, ref object.Ref) (object.Record, error) {
	if admit.Ref(ref) != nil {
		return object.Record{}, nil // a name that cannot be stored is not stored
	}
	var r object.Record
	var version int64
	err := p.row(ctx, loadSQL, []any{ref.Type, ref.ID}, &r.Data, &version, &r.Created)
	if noRow(err) {
		return object.Record{}, nil
	}
	if err != nil {
		return object.Record{}, fmt.Errorf("load %s: %w", ref, err)
	}
	r.Version, r.Created = uint64(version), r.Created.UTC()
	return r, nil
}

// row reads the one row of a query.
func (p *Provider) row(ctx context.Context, sql string, args []any, into ...any) error {
	s, err := p.acquire(ctx, "")
	if err != nil {
		return err
	}
	defer s.Release()
	return p.db.explain(s.QueryRow(ctx, sql, args...).Scan(into...))
}

// SaveObject stores data whoever holds the object's shard. It has neither fence nor
// version: it overwrites what a holder saved, and the holder, if the object is live
// there, gets a Conflict at its next save. It is for tools, and for programs that use
// the database alone. Commit is what nodes use.
func (p *Provider) SaveObject(ctx context.Context, objType, objID string, data []byte) error {
	const save = `INSERT INTO goverse_objects AS o (object_type,object_id,data,shard_id,version,epoch,save_id)
  VALUES ($1,$2,$3::text::jsonb,-1,1,0,$4)
  ON CONFLICT (object_type,object_id) DO UPDATE SET data=excluded.data, version=o.version+1, save_id=excluded.save_id, updated_at=now(),
  created_at=CASE WHEN o.deleted_at IS NULL THEN o.created_at ELSE now() END, deleted_at=NULL`
	ref := object.Ref{Type: objType, ID: objID}
	if err := admit.Ref(ref); err != nil {
		return err
	}
	if err := admit.Data(ref, data); err != nil {
		return err
	}
	return p.unfenced(ctx, "save", ref, save, objType, objID, text(data), freshSaveID())
}

// LoadObject returns an object's state, or object.ErrNotStored.
func (p *Provider) LoadObject(ctx context.Context, objType, objID string) ([]byte, error) {
	r, err := p.Load(ctx, object.Ref{Type: objType, ID: objID})
	if err == nil && r.Data == nil {
		err = object.ErrNotStored
	}
	return r.Data, err
}

// DeleteObject removes an object's state whoever holds its shard: it lacks what
// SaveObject lacks. The version is kept, so that no late save brings the object back.
func (p *Provider) DeleteObject(ctx context.Context, objType, objID string) error {
	const del = `UPDATE goverse_objects SET data=NULL, version=version+1, save_id=$3, updated_at=now(), deleted_at=now()
  WHERE object_type=$1 AND object_id=$2 AND deleted_at IS NULL`
	ref := object.Ref{Type: objType, ID: objID}
	if admit.Ref(ref) != nil {
		return nil // it was never stored
	}
	return p.unfenced(ctx, "delete", ref, del, objType, objID, freshSaveID())
}

func (p *Provider) unfenced(ctx context.Context, op string, ref object.Ref, sql string, args ...any) error {
	s, err := p.acquire(ctx, "")
	if err != nil {
		return fmt.Errorf("%s %s: %w", op, ref, notCommitted(err))
	}
	defer s.Release()
	_, err = s.Exec(ctx, sql, args...)
	if err == nil {
		return nil
	}
	if rolledBack(err) {
		err = notCommitted(p.db.explain(err))
	} else {
		err = p.db.explain(err)
	}
	return fmt.Errorf("%s %s: %w", op, ref, err)
}

// text is data as the driver wants text, without a copy: the driver copies it, and
// nobody changes it meanwhile. nil is NULL.
func text(data []byte) *string {
	if data == nil {
		return nil
	}
	s := unsafe.String(unsafe.SliceData(data), len(data))
	return &s
}

func freshSaveID() (id [16]byte) {
	_, _ = rand.Read(id[:]) // crypto/rand.Read never fails
	return id
}

// shardNumber is a shard for the database; what is none is -1, which has no fence.
func shardNumber(shard int) int32 {
	if shard < 0 || shard > math.MaxInt32 {
		return -1
	}
	return int32(shard)
}

// micros is a length of time for the database.
func micros(d time.Duration) int64 { return d.Microseconds() }
