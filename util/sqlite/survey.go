package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

const (
	listSQL = `SELECT object_id, version, created_at, updated_at FROM goverse_objects
  WHERE object_type=?1 AND object_id>?2 AND deleted_at IS NULL ORDER BY object_id LIMIT ?3`

	clusterSQL = `SELECT v FROM goverse_meta WHERE k='cluster'`
)

// List returns live objects of a type in the order of their ids, after an id, at
// most limit.
func (p *Provider) List(ctx context.Context, objType, after string, limit int) (list []object.Listed, err error) {
	err = p.readAll(ctx, func(row []driver.Value) {
		list = append(list, object.Listed{
			Ref: object.Ref{Type: objType, ID: row[0].(string)}, Version: uint64(row[1].(int64)),
			Created: time.UnixMicro(row[2].(int64)).UTC(), Updated: time.UnixMicro(row[3].(int64)).UTC(),
		})
	}, listSQL, objType, after, int64(max(0, limit)))
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", objType, err)
	}
	return list, nil
}

// Confirm returns the fences that are not the store's. It needs no lock: a read sees
// all that was committed before it began, so a fence that is still owner's then was
// so at any time before.
func (p *Provider) Confirm(ctx context.Context, owner string, fences []object.Fence) (lost []object.Fence, err error) {
	err = p.reading(ctx, func(r *conn) error {
		for _, f := range fences {
			has, err := fenceOf(r, f.Shard)
			if err != nil {
				return err
			}
			if has.Epoch == 0 || has.Epoch != f.Epoch || has.Owner != owner {
				lost = append(lost, f)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("confirm %d fences: %w", len(fences), err)
	}
	return lost, nil
}

// BindCluster notes that the file belongs to cluster, if it belongs to none yet, and
// returns the cluster that it belongs to. "" only asks.
func (p *Provider) BindCluster(ctx context.Context, cluster string) (string, error) {
	if !utf8.ValidString(cluster) || strings.IndexByte(cluster, 0) >= 0 || len(cluster) > object.MaxIDLen {
		return "", fault.New(fault.Invalid, "cluster %q: want up to %d bytes of UTF-8 without NUL", cluster, object.MaxIDLen)
	}
	// A start that has nothing to write does not queue behind those who write.
	row, err := p.read(ctx, clusterSQL)
	if err == nil && row == nil && cluster != "" {
		err = p.write(ctx, func(w *conn) error {
			const bind = `INSERT INTO goverse_meta (k, v) VALUES ('cluster', ?1) ON CONFLICT (k) DO NOTHING`
			if _, err := w.exec(context.Background(), bind, cluster); err != nil {
				return err
			}
			row, err = w.row(context.Background(), clusterSQL)
			return err
		})
	}
	switch {
	case err != nil:
		return "", fmt.Errorf("bind to cluster %q: %w", cluster, err)
	case row == nil:
		return "", nil
	}
	return row[0].(string), nil
}
