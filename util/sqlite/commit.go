package sqlite

import (
	"context"
	"database/sql/driver"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/admit"
)

// fenced admits a save only under its fence. The transaction holds the write lock of
// the whole file, so the fence cannot change before it commits.
const fenced = ` EXISTS (SELECT 1 FROM goverse_shards WHERE shard_id=?8 AND epoch=?2 AND owner=?9)`

// The arguments are the same for all three, see saveArgs.
const (
	// updateSQL saves a live object over itself, the most frequent save by far: it
	// touches no column that an index has, so it writes the row's page and no other.
	updateSQL = `UPDATE goverse_objects SET data=?1, version=version+1, epoch=?2, save_id=?3, updated_at=?4
  WHERE object_type=?5 AND object_id=?6 AND version=?7 AND deleted_at IS NULL AND` + fenced

	// turnSQL deletes a live object or brings a deleted one back.
	turnSQL = `UPDATE goverse_objects SET data=?1, version=version+1, epoch=?2, save_id=?3, updated_at=?4, shard_id=?8,
  created_at=CASE WHEN deleted_at IS NULL THEN created_at ELSE ?4 END, deleted_at=CASE WHEN ?1 IS NULL THEN ?4 END
  WHERE object_type=?5 AND object_id=?6 AND version=?7 AND (deleted_at IS NULL) = (?1 IS NULL) AND` + fenced

	insertSQL = `INSERT INTO goverse_objects (object_type,object_id,data,created_at,updated_at,shard_id,version,epoch,save_id)
  SELECT ?5,?6,?1,?4,?4,?8,?7+1,?2,?3 WHERE` + fenced + `
  ON CONFLICT (object_type,object_id) DO NOTHING`

	recordSQL = `SELECT version, save_id, deleted_at FROM goverse_objects WHERE object_type=?1 AND object_id=?2`
)

// Commit applies the saves that their fence and version admit, all in one
// transaction with one fsync, each under a savepoint of its own. A save that has
// already landed is Committed again, at its version. To delete what does not exist
// is Committed at Base and writes nothing.
//
// ctx bounds the wait for the file's write lock; what has begun is finished.
func (p *Provider) Commit(ctx context.Context, owner string, saves []object.Save) ([]object.Verdict, error) {
	verdicts := make([]object.Verdict, len(saves))
	admitted := 0
	for i := range saves {
		if err := admit.Save(&saves[i]); err != nil {
			verdicts[i] = object.Verdict{Kind: object.Rejected, Err: err}
			continue
		}
		admitted++
	}
	if admitted == 0 {
		return verdicts, nil
	}
	err := p.write(ctx, func(w *conn) error {
		now := micros(time.Now())
		for i := range saves {
			if verdicts[i].Kind == object.Rejected {
				continue
			}
			var err error
			if verdicts[i], err = apply(w, owner, &saves[i], now); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("commit %d saves: %w", len(saves), err)
	}
	return verdicts, nil
}

// apply saves one object within its savepoint. An error ends the whole transaction.
func apply(w *conn, owner string, s *object.Save, now int64) (object.Verdict, error) {
	bg := context.Background()
	if _, err := w.exec(bg, `SAVEPOINT o`); err != nil {
		return object.Verdict{}, err
	}
	wrote, err := writeRow(w, owner, s, now)
	if wrote && len(s.Calls)+len(s.Effects) > 0 {
		err = keep(w, s, now)
		wrote = err == nil
	}
	if err != nil && troubleOf(err) != refused {
		return object.Verdict{}, err
	}
	if !wrote {
		if _, err := w.exec(bg, `ROLLBACK TO o`); err != nil {
			return object.Verdict{}, err
		}
	}
	if _, err := w.exec(bg, `RELEASE o`); err != nil {
		return object.Verdict{}, err
	}
	var no *recordRefused
	switch {
	case errors.As(err, &no):
		return object.Verdict{Kind: object.Rejected, Err: no.why}, nil
	case err != nil:
		return object.Verdict{Kind: object.Rejected, Err: fault.New(fault.Invalid, "the state of %s is not storable: %w", s.Ref, err)}, nil
	case wrote:
		return object.Verdict{Kind: object.Committed, Version: s.Base + 1}, nil
	}
	return judge(w, owner, s)
}

// writeRow tries the statement that fits the save, and says whether it had a row.
func writeRow(w *conn, owner string, s *object.Save, now int64) (bool, error) {
	if s.Base == 0 && s.Data == nil {
		return false, nil // nothing to delete, or a conflict: judge knows
	}
	args := [...]driver.Value{text(s.Data), int64(s.Epoch), uuid(s.SaveID), now, s.Ref.Type, s.Ref.ID, int64(s.Base), int64(s.Shard), owner}
	if s.Base == 0 {
		n, err := w.exec(context.Background(), insertSQL, args[:]...)
		return n == 1, err
	}
	if s.Data != nil {
		if n, err := w.exec(context.Background(), updateSQL, args[:]...); n == 1 || err != nil {
			return n == 1, err
		}
	}
	n, err := w.exec(context.Background(), turnSQL, args[:]...)
	return n == 1, err
}

// judge says why a save wrote nothing.
func judge(w *conn, owner string, s *object.Save) (object.Verdict, error) {
	fence, err := fenceOf(w, s.Shard)
	if err != nil {
		return object.Verdict{}, err
	}
	if fence.Epoch == 0 || fence.Epoch != s.Epoch || fence.Owner != owner {
		return object.Verdict{Kind: object.FenceLost}, nil
	}
	row, err := w.row(context.Background(), recordSQL, s.Ref.Type, s.Ref.ID)
	if err != nil {
		return object.Verdict{}, err
	}
	version, saveID, gone := uint64(0), "", true
	if row != nil {
		version, saveID, gone = uint64(row[0].(int64)), row[1].(string), row[2] != nil
	}
	landed := version == s.Base+1 && saveID == uuid(s.SaveID)
	nothing := version == s.Base && gone && s.Data == nil
	switch {
	case nothing && len(s.Calls)+len(s.Effects) > 0:
		return object.Verdict{Kind: object.Rejected, Err: fault.New(fault.Invalid, "%s does not exist: its deletion has no version to keep records at", s.Ref)}, nil
	case landed || nothing:
		return object.Verdict{Kind: object.Committed, Version: version}, nil
	}
	return object.Verdict{Kind: object.Conflict}, nil
}

// uuid is a save id as text.
func uuid(id [16]byte) string {
	var b [36]byte
	hex.Encode(b[0:8], id[0:4])
	hex.Encode(b[9:13], id[4:6])
	hex.Encode(b[14:18], id[6:8])
	hex.Encode(b[19:23], id[8:10])
	hex.Encode(b[24:36], id[10:16])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:])
}
