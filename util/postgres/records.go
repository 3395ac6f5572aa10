package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/admit"
)

func hasRecords(saves []object.Save, part []int) bool {
	for _, i := range part {
		if len(saves[i].Calls)+len(saves[i].Effects) > 0 {
			return true
		}
	}
	return false
}

// recordArgs are the columns of calls and effects, each tied to its save by the save's id.
func recordArgs(saves []object.Save, part []int) []any {
	var c struct {
		saves   []pgtype.UUID
		ids     []string
		status  []int16
		results [][]byte
		keep    []int64
		ords    []int32
	}
	var e struct {
		saves        []pgtype.UUID
		ords         []int32
		kinds        []int16
		ids, targets []string
		types        []pgtype.Text
		payloads     [][]byte
		notAfter     []pgtype.Timestamptz
	}
	for _, i := range part {
		s := &saves[i]
		for ord, call := range s.Calls {
			c.saves, c.ids, c.status = append(c.saves, uuid(s.SaveID)), append(c.ids, call.ID), append(c.status, int16(call.Status))
			c.results, c.keep, c.ords = append(c.results, bytea(call.Result)), append(c.keep, micros(call.Keep)), append(c.ords, int32(ord))
		}
		for ord, effect := range s.Effects {
			e.saves, e.ords, e.kinds = append(e.saves, uuid(s.SaveID)), append(e.ords, int32(ord)), append(e.kinds, int16(effect.Kind))
			e.ids, e.targets = append(e.ids, effect.ID), append(e.targets, effect.Target.ID)
			e.types = append(e.types, pgtype.Text{String: effect.Target.Type, Valid: effect.Target.Type != ""})
			e.payloads, e.notAfter = append(e.payloads, bytea(effect.Payload)), append(e.notAfter, instant(effect.NotAfter))
		}
	}
	return []any{
		c.saves, c.ids, c.status, c.results, c.keep, c.ords,
		e.saves, e.ords, e.kinds, e.ids, e.types, e.targets, e.payloads, e.notAfter,
	}
}

// bytea is b, but never NULL.
func bytea(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// instant is t to the microsecond; the zero time is NULL.
func instant(t time.Time) pgtype.Timestamptz {
	return pgtype.Timestamptz{Time: t.Truncate(time.Microsecond), Valid: !t.IsZero()}
}

// FindCall returns the record of a call, or object.ErrNotStored.
func (p *Provider) FindCall(ctx context.Context, ref object.Ref, callID string) (object.CallRecord, error) {
	const find = `SELECT status, result, version FROM goverse_calls WHERE object_type=$1 AND object_id=$2 AND call_id=$3`
	if admit.Ref(ref) != nil || admit.Ref(object.Ref{Type: "call", ID: callID}) != nil {
		return object.CallRecord{}, object.ErrNotStored // it cannot have been stored
	}
	r := object.CallRecord{ID: callID}
	var status int16
	var version int64
	err := p.row(ctx, find, []any{ref.Type, ref.ID, callID}, &status, &r.Result, &version)
	if noRow(err) {
		return object.CallRecord{}, object.ErrNotStored
	}
	if err != nil {
		return object.CallRecord{}, fmt.Errorf("find call %s of %s: %w", callID, ref, err)
	}
	r.Status, r.Version = object.CallStatus(status), uint64(version)
	return r, nil
}

// RecentCalls returns the ids of an object's newest records, the newest first.
func (p *Provider) RecentCalls(ctx context.Context, ref object.Ref, limit int) (ids []string, all bool, err error) {
	const recent = `SELECT call_id FROM goverse_calls WHERE object_type=$1 AND object_id=$2 ORDER BY version DESC, ord DESC LIMIT $3`
	if admit.Ref(ref) != nil {
		return nil, true, nil
	}
	limit = max(0, limit)
	ids, err = collect(ctx, p, pgx.RowTo[string], recent, ref.Type, ref.ID, limit+1)
	if err != nil {
		return nil, false, fmt.Errorf("recent calls of %s: %w", ref, err)
	}
	return ids[:min(limit, len(ids))], len(ids) <= limit, nil
}

// PendingEffects returns effects of a shard that were not ended, in the order of their
// keys, after a key.
func (p *Provider) PendingEffects(ctx context.Context, shard int, after object.EffectKey, limit int) ([]object.PendingEffect, error) {
	const pending = `SELECT object_type, object_id, version, ord, kind, effect_id, coalesce(target_type, ''), target_id, payload, not_after
  FROM goverse_outbox WHERE shard_id=$1 AND (object_type, object_id, version, ord) > ($2, $3, $4, $5)
  ORDER BY object_type, object_id, version, ord LIMIT $6`
	list, err := collect(ctx, p, func(r pgx.CollectableRow) (e object.PendingEffect, err error) {
		var version int64
		var kind int16
		var notAfter pgtype.Timestamptz
		err = r.Scan(&e.Key.Source.Type, &e.Key.Source.ID, &version, &e.Key.Ord, &kind, &e.ID, &e.Target.Type, &e.Target.ID, &e.Payload, &notAfter)
		e.Key.Shard, e.Key.Version, e.Kind = shard, uint64(version), object.EffectKind(kind)
		if notAfter.Valid {
			e.NotAfter = notAfter.Time.UTC()
		}
		return e, err
	}, pending, shardNumber(shard), after.Source.Type, after.Source.ID, int64(after.Version), int32(after.Ord), max(0, limit))
	if err != nil {
		return nil, fmt.Errorf("pending effects of shard %d: %w", shard, err)
	}
	return list, nil
}

// EndEffects forgets effects of fence's shard, if fence is the shard's.
func (p *Provider) EndEffects(ctx context.Context, fence object.Fence, keys []object.EffectKey) (held bool, err error) {
	const end = `WITH ` + heldSQL + `,
 d AS (DELETE FROM goverse_outbox o USING unnest($4::text[], $5::text[], $6::bigint[], $7::int[]) AS t(object_type, object_id, version, ord)
  WHERE o.shard_id=$1 AND o.object_type=t.object_type AND o.object_id=t.object_id AND o.version=t.version AND o.ord=t.ord AND EXISTS (SELECT 1 FROM f))
SELECT EXISTS (SELECT 1 FROM f)`
	types, ids := make([]string, len(keys)), make([]string, len(keys))
	versions, ords := make([]int64, len(keys)), make([]int32, len(keys))
	for i, k := range keys {
		types[i], ids[i], versions[i], ords[i] = k.Source.Type, k.Source.ID, int64(k.Version), int32(k.Ord)
	}
	if err := p.underFence(ctx, fence, end, []any{types, ids, versions, ords}, &held); err != nil {
		return false, fmt.Errorf("end %d effects of shard %d: %w", len(keys), fence.Shard, err)
	}
	return held, nil
}

// collectLimit bounds how many rows one call collects, and with it how long it holds
// the fence.
const collectLimit = 1000

// CollectCalls forgets records of fence's shard that have expired, at most 1000, and
// returns how many. It does nothing unless fence is the shard's.
func (p *Provider) CollectCalls(ctx context.Context, fence object.Fence) (n int, err error) {
	const forget = `WITH ` + heldSQL + `,
 d AS (DELETE FROM goverse_calls c USING (SELECT object_type, object_id, call_id FROM goverse_calls
    WHERE shard_id=$1 AND expires_at <= now() ORDER BY expires_at LIMIT $4) old
  WHERE (c.object_type, c.object_id, c.call_id) = (old.object_type, old.object_id, old.call_id) AND c.expires_at <= now() AND EXISTS (SELECT 1 FROM f) RETURNING 1)
SELECT count(*) FROM d`
	if err := p.underFence(ctx, fence, forget, []any{collectLimit}, &n); err != nil {
		return 0, fmt.Errorf("collect calls of shard %d: %w", fence.Shard, err)
	}
	return n, nil
}

// CollectTombstones forgets deleted objects of fence's shard whose deletion is older
// than olderThan, except the live ones and those with effects that were not ended, and
// returns how many: at most 1000, call it again for more. It does nothing unless fence
// is the shard's. olderThan must exceed the time in which a late save or a repeated call
// may still arrive (25 hours).
func (p *Provider) CollectTombstones(ctx context.Context, fence object.Fence, olderThan time.Duration, live []object.Ref) (n int, err error) {
	const forget = `WITH ` + heldSQL + `,
 d AS (DELETE FROM goverse_objects o USING (SELECT object_type, object_id, version FROM goverse_objects g
    WHERE shard_id=$1 AND deleted_at IS NOT NULL AND deleted_at < now() - $4*interval '1 microsecond'
    AND (object_type, object_id) NOT IN (SELECT * FROM unnest($5::text[], $6::text[]))
    AND NOT EXISTS (SELECT 1 FROM goverse_outbox x WHERE x.shard_id=$1 AND x.object_type=g.object_type AND x.object_id=g.object_id)
    ORDER BY deleted_at LIMIT $7) old
  WHERE (o.object_type, o.object_id, o.version) = (old.object_type, old.object_id, old.version) AND EXISTS (SELECT 1 FROM f) RETURNING 1)
SELECT count(*) FROM d`
	types, ids := make([]string, len(live)), make([]string, len(live))
	for i, ref := range live {
		types[i], ids[i] = ref.Type, ref.ID
	}
	if err := p.underFence(ctx, fence, forget, []any{micros(olderThan), types, ids, collectLimit}, &n); err != nil {
		return 0, fmt.Errorf("collect tombstones of shard %d: %w", fence.Shard, err)
	}
	return n, nil
}

// heldSQL has a row if the fence is $1, $2, $3, and keeps it.
const heldSQL = `f AS MATERIALIZED (SELECT 1 FROM goverse_shards WHERE shard_id=$1 AND epoch=$2 AND owner=$3::text FOR SHARE)`

// underFence runs a statement that begins with heldSQL and reads its one row.
func (p *Provider) underFence(ctx context.Context, fence object.Fence, sql string, args []any, into any) error {
	s, err := p.acquire(ctx, fence.Owner)
	if err != nil {
		return err
	}
	defer s.Release()
	args = append([]any{shardNumber(fence.Shard), int64(fence.Epoch), fence.Owner}, args...)
	for attempt := 0; ; attempt++ {
		err := s.QueryRow(ctx, sql, args...).Scan(into)
		if !unlucky(err) || !again(ctx, attempt) {
			return p.db.explain(err)
		}
	}
}

// collect reads the rows of a query.
func collect[T any](ctx context.Context, p *Provider, row pgx.RowToFunc[T], sql string, args ...any) ([]T, error) {
	s, err := p.acquire(ctx, "")
	if err != nil {
		return nil, err
	}
	defer s.Release()
	rows, _ := s.Query(ctx, sql, args...) // its error is CollectRows's
	list, err := pgx.CollectRows(rows, row)
	return list, p.db.explain(err)
}
