package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"time"

	"github.com/xiaonanln/goverse/object"
)

// collectLimit bounds how many tombstones one call collects, and with it how long
// it keeps the write lock.
const collectLimit = 1000

// CollectTombstones forgets deleted objects of fence's shard whose deletion is older
// than olderThan, except the live ones, and returns how many: at most 1000, call it
// again for more. It does nothing unless fence is the shard's. olderThan must exceed
// the time in which a late save or a repeated call may still arrive (25 hours). An
// object with effects that were not ended stays: a new one of its name would begin
// its versions, and with them the keys of its effects, again.
func (p *Provider) CollectTombstones(ctx context.Context, fence object.Fence, olderThan time.Duration, live []object.Ref) (n int, err error) {
	err = p.write(ctx, func(w *conn) error {
		has, err := fenceOf(w, fence.Shard)
		if err != nil || fence.Epoch == 0 || has != fence {
			return err
		}
		dead, err := tombstones(w, fence.Shard, micros(time.Now().Add(-olderThan)), live)
		if err != nil {
			return err
		}
		for _, id := range dead {
			if _, err := w.exec(context.Background(), `DELETE FROM goverse_objects WHERE rowid=?1`, id); err != nil {
				return err
			}
		}
		n = len(dead)
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("collect tombstones of shard %d: %w", fence.Shard, err)
	}
	return n, nil
}

// tombstones lists the rows to forget.
func tombstones(w *conn, shard int, before int64, live []object.Ref) (ids []int64, err error) {
	const find = `SELECT rowid, object_type, object_id FROM goverse_objects o
  WHERE shard_id=?1 AND deleted_at IS NOT NULL AND deleted_at < ?2
  AND NOT EXISTS (SELECT 1 FROM goverse_outbox e WHERE e.shard_id=?1 AND e.object_type=o.object_type AND e.object_id=o.object_id)
  ORDER BY deleted_at LIMIT ?3`
	lives := make(map[object.Ref]bool, len(live))
	for _, ref := range live {
		lives[ref] = true
	}
	err = w.query(context.Background(), func(row []driver.Value) error {
		ref := object.Ref{Type: row[1].(string), ID: row[2].(string)}
		if !lives[ref] && len(ids) < collectLimit {
			ids = append(ids, row[0].(int64))
		}
		return nil
	}, find, int64(shard), before, int64(collectLimit+len(live)))
	return ids, err
}
