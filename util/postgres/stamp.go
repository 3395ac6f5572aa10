package postgres

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/admit"
)

// stampSQL is one statement, like a commit: a claimant that is stopped half-way must not
// sit on the fences. Its wait for them is bounded, because a holder may sit on them.
var stampSQL = stampOver(`s.epoch < excluded.epoch OR (s.epoch = excluded.epoch AND s.owner = excluded.owner)`)

func stampOver(gives string) string {
	return `WITH p AS MATERIALIZED (SELECT set_config('lock_timeout', '300ms', true) AS patience),
 s AS (INSERT INTO goverse_shards AS s (shard_id, epoch, owner)
  SELECT t.shard_id, t.epoch, $3::text FROM p, unnest($1::int[], $2::bigint[]) AS t(shard_id, epoch)
  WHERE p.patience IS NOT NULL ORDER BY t.shard_id
  ON CONFLICT (shard_id) DO UPDATE SET epoch=excluded.epoch, owner=excluded.owner, claimed_at=now()
  WHERE ` + gives + `
  RETURNING 1)
SELECT count(*) FROM s`
}

// stampAttempts bounds how often a stamp that is locked out ends the connections of
// those who may be in its way; each wait is 300 ms.
const stampAttempts = 8

// patience is how many of them leave alone a connection that works.
const patience = 3

// Stamp writes the fences of shards for owner, in one statement, and returns those that
// it refused. A holder that was stopped in the middle of a commit keeps its fences
// locked: its connections are ended, so that a take-over takes no longer than that.
func (p *Provider) Stamp(ctx context.Context, owner string, fences []object.Fence) (refused []object.Fence, err error) {
	if err := admit.Stamp(owner, fences); err != nil {
		return nil, err
	}
	if len(fences) == 0 {
		return nil, nil
	}
	b := newStamps(fences)
	for attempt := range stampAttempts {
		if refused, err = p.stamp(ctx, owner, b); codeOf(err) != lockTimedOut && !unlucky(err) {
			break
		}
		if codeOf(err) == lockTimedOut {
			if free := p.free(ctx, owner, b.shards, attempt >= patience); free != nil {
				err = fmt.Errorf("%w; and to end the holder's connections failed: %w", err, free)
				break
			}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("stamp %d shards: %w", len(fences), p.db.explain(err))
	}
	return refused, nil
}

// stamps are fences as columns, each shard once.
type stamps struct {
	shards []int32
	epochs []int64
}

func newStamps(fences []object.Fence) (b stamps) {
	top := make(map[int]uint64, len(fences))
	for _, f := range fences {
		top[f.Shard] = max(top[f.Shard], f.Epoch)
	}
	for _, shard := range slices.Sorted(maps.Keys(top)) {
		b.shards = append(b.shards, int32(shard))
		b.epochs = append(b.epochs, int64(top[shard]))
	}
	return b
}

func (p *Provider) stamp(ctx context.Context, owner string, b stamps) ([]object.Fence, error) {
	s, err := p.acquire(ctx, owner)
	if err != nil {
		return nil, err
	}
	defer s.Release()
	var taken int
	if err := s.QueryRow(ctx, p.sql.stamp, b.shards, b.epochs, owner).Scan(&taken); err != nil || taken == len(b.shards) {
		return nil, err
	}
	const others = `SELECT s.shard_id, s.epoch, s.owner FROM goverse_shards s
  JOIN unnest($1::int[], $2::bigint[]) AS t(shard_id, epoch) USING (shard_id)
  WHERE (s.epoch, s.owner) <> (t.epoch, $3::text) ORDER BY s.shard_id`
	rows, err := s.Query(ctx, others, b.shards, b.epochs, owner)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(r pgx.CollectableRow) (f object.Fence, err error) {
		var epoch int64
		err = r.Scan(&f.Shard, &epoch, &f.Owner)
		f.Epoch = uint64(epoch)
		return f, err
	})
}

// free ends connections of those who hold the fences of shards: those that wait for
// their client in the middle of a transaction. One that works will be done by itself;
// only when that takes too long all are ended that have a transaction, since many short
// locks can keep a claimant out as well.
func (p *Provider) free(ctx context.Context, owner string, shards []int32, all bool) error {
	const holders = `SELECT DISTINCT owner FROM goverse_shards WHERE shard_id = ANY($1) AND owner <> $2`
	const end = `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
  WHERE application_name = ANY($1) AND application_name <> $2 AND pid <> pg_backend_pid() AND datname = current_database()
  AND state IS DISTINCT FROM 'idle' AND ($3 OR wait_event_type = 'Client')`
	s, err := p.acquire(ctx, owner)
	if err != nil {
		return err
	}
	defer s.Release()
	rows, err := s.Query(ctx, holders, shards, owner)
	if err != nil {
		return err
	}
	owners, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	names := make([]string, len(owners))
	for i := range owners {
		names[i] = sessionName(owners[i])
	}
	var ended int
	began := time.Now()
	if err := s.QueryRow(ctx, end, names, sessionName(owner), all).Scan(&ended); err != nil {
		return err
	}
	if ended > 0 {
		p.db.warn(fmt.Sprintf("%d connections of %q held fences that %s claims: they were ended (%v)", ended, owners, owner, time.Since(began).Round(time.Millisecond)), nil)
	}
	return nil
}

// Confirm holds fences against the store's, which cannot change while it looks, and
// returns those that are not owner's.
func (p *Provider) Confirm(ctx context.Context, owner string, fences []object.Fence) (lost []object.Fence, err error) {
	const confirm = `WITH f AS MATERIALIZED (SELECT shard_id, epoch, owner FROM goverse_shards
  WHERE shard_id = ANY($1) ORDER BY shard_id FOR SHARE)
SELECT t.n::int FROM unnest($1::int[], $2::bigint[]) WITH ORDINALITY AS t(shard_id, epoch, n)
  LEFT JOIN f ON f.shard_id = t.shard_id AND f.epoch = t.epoch AND f.owner = $3::text
  WHERE f.shard_id IS NULL ORDER BY t.n`
	if len(fences) == 0 {
		return nil, nil
	}
	shards, epochs := make([]int32, len(fences)), make([]int64, len(fences))
	for i, f := range fences {
		shards[i], epochs[i] = shardNumber(f.Shard), int64(f.Epoch)
	}
	s, err := p.acquire(ctx, owner)
	if err != nil {
		return nil, fmt.Errorf("confirm %d fences: %w", len(fences), err)
	}
	defer s.Release()
	var others []int
	for attempt := 0; ; attempt++ {
		rows, _ := s.Query(ctx, confirm, shards, epochs, owner) // its error is CollectRows's
		if others, err = pgx.CollectRows(rows, pgx.RowTo[int]); !unlucky(err) || !again(ctx, attempt) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("confirm %d fences: %w", len(fences), p.db.explain(err))
	}
	for _, n := range others {
		lost = append(lost, fences[n-1])
	}
	return lost, nil
}
