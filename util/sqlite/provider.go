package sqlite

import (
	"context"
	"crypto/rand"
	"database/sql/driver"
	"fmt"
	"time"
	"unsafe"

	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/admit"
)

// Provider keeps objects in a DB. All methods may be called concurrently.
type Provider struct{ db *DB }

var (
	_ object.ExactlyOnceProvider = (*Provider)(nil)
	_ object.TxProvider          = (*Provider)(nil)
	_ object.Lister              = (*Provider)(nil)
	_ object.FenceKeeper         = (*Provider)(nil)
	_ object.ClusterBinder       = (*Provider)(nil)
)

// NewSQLitePersistenceProvider returns a provider on db, which stays the caller's to
// close. Its tables must have been made: see DB.InitSchema.
func NewSQLitePersistenceProvider(db *DB) *Provider { return &Provider{db: db} }

// StoreID is the identity that the file was given with its tables.
func (p *Provider) StoreID(ctx context.Context) (string, error) {
	if err := p.db.ready(); err != nil {
		return "", err
	}
	return *p.db.storeID.Load(), ctx.Err()
}

// Lanes is 1: SQLite has one writer.
func (p *Provider) Lanes() int { return 1 }

const stampSQL = `INSERT INTO goverse_shards AS s (shard_id, epoch, owner, claimed_at) VALUES (?1, ?2, ?3, ?4)
  ON CONFLICT (shard_id) DO UPDATE SET epoch=excluded.epoch, owner=excluded.owner, claimed_at=excluded.claimed_at
  WHERE s.epoch < excluded.epoch OR (s.epoch = excluded.epoch AND s.owner = excluded.owner)`

const fenceSQL = `SELECT epoch, owner FROM goverse_shards WHERE shard_id=?1`

// Stamp writes the fences of shards for owner, in one transaction, and returns those
// that it refused.
func (p *Provider) Stamp(ctx context.Context, owner string, fences []object.Fence) (refused []object.Fence, err error) {
	if err := admit.Stamp(owner, fences); err != nil {
		return nil, err
	}
	err = p.write(ctx, func(w *conn) error {
		now := micros(time.Now())
		for _, f := range fences {
			n, err := w.exec(context.Background(), stampSQL, int64(f.Shard), int64(f.Epoch), owner, now)
			if err != nil {
				return err
			}
			if n == 1 {
				continue
			}
			has, err := fenceOf(w, f.Shard)
			if err != nil {
				return err
			}
			refused = append(refused, has)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("stamp %d shards: %w", len(fences), err)
	}
	return refused, nil
}

// fenceOf reads a shard's fence; its Epoch is 0 if there is none.
func fenceOf(c *conn, shard int) (object.Fence, error) {
	row, err := c.row(context.Background(), fenceSQL, int64(shard))
	if err != nil || row == nil {
		return object.Fence{Shard: shard}, err
	}
	return object.Fence{Shard: shard, Epoch: uint64(row[0].(int64)), Owner: row[1].(string)}, nil
}

const loadSQL = `SELECT data, version, created_at FROM goverse_objects WHERE object_type=?1 AND object_id=?2`

// Load returns an object's record.
func (p *Provider) Load(ctx context.Context, ref object.Ref) (object.Record, error) {
	row, err := p.read(ctx, loadSQL, ref.Type, ref.ID)
	if err != nil {
		return object.Record{}, fmt.Errorf("load %s: %w", ref, err)
	}
	if row == nil {
		return object.Record{}, nil
	}
	r := object.Record{Version: uint64(row[1].(int64)), Created: time.UnixMicro(row[2].(int64)).UTC()}
	if data, ok := row[0].(string); ok {
		r.Data = []byte(data)
	}
	return r, nil
}

// SaveObject stores data whoever holds the object's shard. It has neither fence nor
// version: it overwrites what a holder saved, and the holder, if the object is live
// there, gets a Conflict at its next save. It is for tools, and for programs that
// use the file alone. Commit is what nodes use.
func (p *Provider) SaveObject(ctx context.Context, objType, objID string, data []byte) error {
	const save = `INSERT INTO goverse_objects (object_type,object_id,data,created_at,updated_at,shard_id,version,epoch,save_id)
  VALUES (?1,?2,?3,?4,?4,-1,1,0,?5)
  ON CONFLICT (object_type,object_id) DO UPDATE SET data=excluded.data, version=version+1, save_id=excluded.save_id, updated_at=excluded.updated_at,
  created_at=CASE WHEN deleted_at IS NULL THEN created_at ELSE excluded.created_at END, deleted_at=NULL`
	ref := object.Ref{Type: objType, ID: objID}
	if err := admit.Ref(ref); err != nil {
		return err
	}
	if err := admit.Data(ref, data); err != nil {
		return err
	}
	return p.unfenced(ctx, "save", ref, save, objType, objID, text(data), micros(time.Now()), freshSaveID())
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
	const del = `UPDATE goverse_objects SET data=NULL, version=version+1, save_id=?4, updated_at=?3, deleted_at=?3
  WHERE object_type=?1 AND object_id=?2 AND deleted_at IS NULL`
	return p.unfenced(ctx, "delete", object.Ref{Type: objType, ID: objID}, del, objType, objID, micros(time.Now()), freshSaveID())
}

func (p *Provider) unfenced(ctx context.Context, op string, ref object.Ref, sql string, args ...driver.Value) error {
	err := p.write(ctx, func(w *conn) error {
		_, err := w.exec(context.Background(), sql, args...)
		return err
	})
	if err != nil {
		return fmt.Errorf("%s %s: %w", op, ref, err)
	}
	return nil
}

// write runs f in a transaction of the writer.
func (p *Provider) write(ctx context.Context, f func(w *conn) error) error {
	if err := p.db.ready(); err != nil {
		return notCommitted(err)
	}
	w, err := p.db.takeWriter(ctx)
	if err != nil {
		return notCommitted(err)
	}
	defer p.db.putWriter(w)
	return p.db.transact(ctx, w, p.db.cfg.BusyTimeout, func() error { return f(w) })
}

// reading runs f with a reader. ctx bounds the wait for it; the queries themselves
// take microseconds.
func (p *Provider) reading(ctx context.Context, f func(r *conn) error) error {
	if err := p.db.ready(); err != nil {
		return err
	}
	r, err := p.db.takeReader(ctx)
	if err != nil {
		return err
	}
	err = f(r)
	p.db.putReader(r, err)
	if err != nil {
		return explain(p.db.cfg.Path, err)
	}
	return nil
}

// read returns the first row of a query.
func (p *Provider) read(ctx context.Context, sql string, args ...driver.Value) (row []driver.Value, err error) {
	err = p.reading(ctx, func(r *conn) (err error) {
		row, err = r.row(context.Background(), sql, args...)
		return err
	})
	return row, err
}

// readAll hands each row of a query to f, which must not keep it.
func (p *Provider) readAll(ctx context.Context, f func(row []driver.Value), sql string, args ...driver.Value) error {
	return p.reading(ctx, func(r *conn) error {
		return r.query(context.Background(), func(row []driver.Value) error { f(row); return nil }, sql, args...)
	})
}

func micros(t time.Time) int64 { return t.UnixMicro() }

// text is data as the driver wants TEXT, without a copy: the driver copies it, and
// nobody changes it meanwhile. nil is NULL.
func text(data []byte) driver.Value {
	if data == nil {
		return nil
	}
	return unsafe.String(unsafe.SliceData(data), len(data))
}

func freshSaveID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // crypto/rand.Read never fails
	return uuid(id)
}
