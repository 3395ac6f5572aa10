package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/xiaonanln/goverse/object"
)

// List returns live objects of a type in the order of their ids, after an id.
func (p *Provider) List(ctx context.Context, objType, after string, limit int) ([]object.Listed, error) {
	const list = `SELECT object_id, version, created_at, updated_at FROM goverse_objects
  WHERE object_type=$1 AND object_id > $2 AND deleted_at IS NULL ORDER BY object_type, object_id LIMIT $3`
	found, err := collect(ctx, p, func(r pgx.CollectableRow) (object.Listed, error) {
		l := object.Listed{Ref: object.Ref{Type: objType}}
		var version int64
		err := r.Scan(&l.Ref.ID, &version, &l.Created, &l.Updated)
		l.Version, l.Created, l.Updated = uint64(version), l.Created.UTC(), l.Updated.UTC()
		return l, err
	}, list, objType, after, max(0, limit))
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", objType, err)
	}
	return found, nil
}

// BindCluster notes that the store belongs to cluster, if it belongs to none yet, and
// returns the cluster that it belongs to. "" only asks.
func (p *Provider) BindCluster(ctx context.Context, cluster string) (bound string, err error) {
	const bind = `INSERT INTO goverse_meta (k, v) SELECT 'cluster', $1::text WHERE $1::text <> '' ON CONFLICT (k) DO NOTHING`
	const ask = `SELECT coalesce((SELECT v FROM goverse_meta WHERE k='cluster'), '')`
	s, err := p.acquire(ctx, "")
	if err != nil {
		return "", fmt.Errorf("bind cluster: %w", err)
	}
	defer s.Release()
	if _, err := s.Exec(ctx, bind, cluster); err != nil {
		return "", fmt.Errorf("bind cluster: %w", p.db.explain(err))
	}
	if err := s.QueryRow(ctx, ask).Scan(&bound); err != nil {
		return "", fmt.Errorf("bind cluster: %w", p.db.explain(err))
	}
	return bound, nil
}
