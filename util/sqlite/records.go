package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"math"
	"time"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

const (
	keepCallSQL = `INSERT INTO goverse_calls (object_type,object_id,call_id,shard_id,status,result,version,expires_at)
  VALUES (?1,?2,?3,?4,?5,?6,?7,?8) ON CONFLICT DO NOTHING`

	keepEffectSQL = `INSERT INTO goverse_outbox (shard_id,object_type,object_id,version,ord,kind,effect_id,target_type,target_id,payload,not_after)
  VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11) ON CONFLICT DO NOTHING`

	findCallSQL = `SELECT status, result, version FROM goverse_calls WHERE object_type=?1 AND object_id=?2 AND call_id=?3`

	// The rowid grows with each record.
	recentCallsSQL = `SELECT call_id FROM goverse_calls WHERE object_type=?1 AND object_id=?2 ORDER BY rowid DESC LIMIT ?3`

	pendingEffectsSQL = `SELECT object_type,object_id,version,ord,kind,effect_id,target_type,target_id,payload,not_after
  FROM goverse_outbox WHERE shard_id=?1 AND (object_type,object_id,version,ord) > (?2,?3,?4,?5)
  ORDER BY object_type,object_id,version,ord LIMIT ?6`

	endEffectSQL = `DELETE FROM goverse_outbox WHERE shard_id=?1 AND object_type=?2 AND object_id=?3 AND version=?4 AND ord=?5`

	collectCallsSQL = `DELETE FROM goverse_calls WHERE rowid IN
  (SELECT rowid FROM goverse_calls WHERE shard_id=?1 AND expires_at <= ?2 ORDER BY expires_at LIMIT ?3)`
)

// recordRefused says why the records of a save cannot be kept.
type recordRefused struct{ why error }

func (r *recordRefused) Error() string { return r.why.Error() }

// keep writes the records of a save whose row has been written, at the row's version.
func keep(w *conn, s *object.Save, now int64) error {
	bg, version := context.Background(), int64(s.Base+1)
	for i := range s.Calls {
		c := &s.Calls[i]
		n, err := w.exec(bg, keepCallSQL, s.Ref.Type, s.Ref.ID, c.ID, int64(s.Shard), int64(c.Status), blob(c.Result), version, now+c.Keep.Microseconds())
		if err != nil {
			return err
		}
		if n == 0 {
			return &recordRefused{object.ErrCallRecorded}
		}
	}
	for ord := range s.Effects {
		e := &s.Effects[ord]
		n, err := w.exec(bg, keepEffectSQL, int64(s.Shard), s.Ref.Type, s.Ref.ID, version, int64(ord),
			int64(e.Kind), e.ID, orNull(e.Target.Type), e.Target.ID, blob(e.Payload), instant(e.NotAfter))
		if err != nil {
			return err
		}
		if n == 0 {
			return &recordRefused{fault.New(fault.Invalid, "%s has an effect %q, and there is one that was not ended", s.Ref, e.ID)}
		}
	}
	return nil
}

// FindCall returns the record of a call, or object.ErrNotStored.
func (p *Provider) FindCall(ctx context.Context, ref object.Ref, callID string) (object.CallRecord, error) {
	row, err := p.read(ctx, findCallSQL, ref.Type, ref.ID, callID)
	switch {
	case err != nil:
		return object.CallRecord{}, fmt.Errorf("find call %q of %s: %w", callID, ref, err)
	case row == nil:
		return object.CallRecord{}, object.ErrNotStored
	}
	result, _ := row[1].([]byte)
	return object.CallRecord{ID: callID, Status: object.CallStatus(row[0].(int64)), Result: result, Version: uint64(row[2].(int64))}, nil
}

// RecentCalls returns the ids of an object's newest records, the newest first, at
// most limit, and whether these are all that it has.
func (p *Provider) RecentCalls(ctx context.Context, ref object.Ref, limit int) (ids []string, all bool, err error) {
	limit = max(0, limit)
	err = p.readAll(ctx, func(row []driver.Value) { ids = append(ids, row[0].(string)) }, recentCallsSQL, ref.Type, ref.ID, int64(limit)+1)
	if err != nil {
		return nil, false, fmt.Errorf("recent calls of %s: %w", ref, err)
	}
	all = len(ids) <= limit
	return ids[:min(limit, len(ids))], all, nil
}

// PendingEffects returns effects of a shard that were not ended, in the order of
// their keys, after a key, at most limit.
func (p *Provider) PendingEffects(ctx context.Context, shard int, after object.EffectKey, limit int) (list []object.PendingEffect, err error) {
	err = p.readAll(ctx, func(row []driver.Value) { list = append(list, pendingEffect(shard, row)) }, pendingEffectsSQL, int64(shard),
		after.Source.Type, after.Source.ID, int64(min(after.Version, math.MaxInt64)), int64(after.Ord), int64(max(0, limit)))
	if err != nil {
		return nil, fmt.Errorf("pending effects of shard %d: %w", shard, err)
	}
	return list, nil
}

func pendingEffect(shard int, row []driver.Value) object.PendingEffect {
	key := object.EffectKey{
		Shard: shard, Source: object.Ref{Type: row[0].(string), ID: row[1].(string)}, Version: uint64(row[2].(int64)), Ord: int(row[3].(int64)),
	}
	e := object.Effect{Kind: object.EffectKind(row[4].(int64)), ID: row[5].(string), Target: object.Ref{ID: row[7].(string)}}
	e.Target.Type, _ = row[6].(string)
	e.Payload, _ = row[8].([]byte)
	if at, ok := row[9].(int64); ok {
		e.NotAfter = time.UnixMicro(at).UTC()
	}
	return object.PendingEffect{Key: key, Effect: e}
}

// EndEffects forgets effects of fence's shard. It returns false, and forgets nothing,
// unless fence is the shard's.
func (p *Provider) EndEffects(ctx context.Context, fence object.Fence, keys []object.EffectKey) (held bool, err error) {
	err = p.write(ctx, func(w *conn) error {
		has, err := fenceOf(w, fence.Shard)
		if held = err == nil && fence.Epoch > 0 && has == fence; !held {
			return err
		}
		for _, key := range keys {
			if key.Shard != fence.Shard || key.Version > math.MaxInt64 {
				continue
			}
			if _, err := w.exec(context.Background(), endEffectSQL, int64(key.Shard), key.Source.Type, key.Source.ID, int64(key.Version), int64(key.Ord)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("end %d effects of shard %d: %w", len(keys), fence.Shard, err)
	}
	return held, nil
}

// CollectCalls forgets expired records of fence's shard, at most 1000, and returns
// how many. It does nothing unless fence is the shard's.
func (p *Provider) CollectCalls(ctx context.Context, fence object.Fence) (n int, err error) {
	err = p.write(ctx, func(w *conn) error {
		has, err := fenceOf(w, fence.Shard)
		if err != nil || fence.Epoch == 0 || has != fence {
			return err
		}
		gone, err := w.exec(context.Background(), collectCallsSQL, int64(fence.Shard), micros(time.Now()), int64(collectLimit))
		n = int(gone)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("collect calls of shard %d: %w", fence.Shard, err)
	}
	return n, nil
}

// blob is data as the driver wants BLOB; nil is empty.
func blob(data []byte) driver.Value {
	if data == nil {
		return []byte{}
	}
	return data
}

func orNull(s string) driver.Value {
	if s == "" {
		return nil
	}
	return s
}

// instant is a time as it is stored; the zero time is NULL.
func instant(t time.Time) driver.Value {
	if t.IsZero() {
		return nil
	}
	return micros(t)
}
