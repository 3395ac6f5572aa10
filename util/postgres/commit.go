package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/admit"
)

// dialect is the statements that make the fence: the one that stamps, and those that
// save, without records and with. The race runs put wrong ones in their place.
type dialect struct{ stamp, save, saveAll string }

// fencedSQL is right: see docs/format/sql.md.
var fencedSQL = dialect{
	stamp:   stampSQL,
	save:    saveSQL(fenceSQL, okSQL, casSQL, ""),
	saveAll: saveSQL(fenceSQL, okSQL, casSQL, recordsSQL),
}

const (
	// fenceSQL locks the fences until the statement has committed: a STAMP waits for it,
	// and it waits for a STAMP and sees what that wrote.
	fenceSQL = `SELECT shard_id, epoch, owner FROM goverse_shards WHERE shard_id = ANY($5) ORDER BY shard_id FOR SHARE`
	// okSQL admits only the fence itself. A database that went back in time has lower
	// ones, so an order of epochs would not do.
	okSQL = `f.epoch=i.epoch AND f.owner=$8::text`
	// casSQL admits only a save that was made from the stored version.
	casSQL = `o.version=ok.base`

	// recordsSQL keeps the records of the saves that have become versions.
	recordsSQL = `,
 c AS (INSERT INTO goverse_calls (object_type,object_id,call_id,shard_id,status,result,version,ord,expires_at)
  SELECT d.ot,d.oi,t.id,d.sh,t.st,t.r,d.version,t.ord,now()+t.keep*interval '1 microsecond'
  FROM unnest($9::uuid[],$10::text[],$11::smallint[],$12::bytea[],$13::bigint[],$14::int[]) AS t(save_id,id,st,r,keep,ord) JOIN done d USING (save_id)),
 e AS (INSERT INTO goverse_outbox (shard_id,object_type,object_id,version,ord,kind,effect_id,target_type,target_id,payload,not_after)
  SELECT d.sh,d.ot,d.oi,d.version,t.ord,t.k,t.id,t.tt,t.ti,t.p,t.na
  FROM unnest($15::uuid[],$16::int[],$17::smallint[],$18::text[],$19::text[],$20::text[],$21::bytea[],$22::timestamptz[])
  AS t(save_id,ord,k,id,tt,ti,p,na) JOIN done d USING (save_id))`
)

// saveSQL is a commit: one statement, hence one round trip and one transaction. It
// starts only when it has arrived whole, so a client that stops half-way holds no lock.
// It answers with the saves that have become versions, and with the fences.
func saveSQL(fence, ok, cas, records string) string {
	return `WITH i AS (SELECT * FROM unnest($1::text[],$2::text[],$3::text[],$4::bigint[],$5::int[],$6::bigint[],$7::uuid[])
  AS t(object_type, object_id, data, base, shard_id, epoch, save_id)),
 f AS MATERIALIZED (` + fence + `),
 ok AS (SELECT i.* FROM i JOIN f ON f.shard_id=i.shard_id AND ` + ok + `),
 upd AS (UPDATE goverse_objects o SET data=ok.data::jsonb, version=o.version+1, epoch=ok.epoch, save_id=ok.save_id, updated_at=now(), shard_id=ok.shard_id,
  created_at=CASE WHEN o.deleted_at IS NULL THEN o.created_at ELSE now() END,
  deleted_at=CASE WHEN ok.data IS NULL THEN now() END
  FROM ok WHERE o.object_type=ok.object_type AND o.object_id=ok.object_id AND ok.base>0 AND ` + cas + `
  AND (o.deleted_at IS NULL OR ok.data IS NOT NULL)
  RETURNING o.object_type, o.object_id, o.shard_id, o.version, o.save_id),
 ins AS (INSERT INTO goverse_objects (object_type,object_id,data,shard_id,version,epoch,save_id)
  SELECT object_type,object_id,data::jsonb,shard_id,1,epoch,save_id FROM ok WHERE base=0 AND data IS NOT NULL
  ORDER BY object_type, object_id
  ON CONFLICT (object_type,object_id) DO NOTHING
  RETURNING object_type, object_id, shard_id, version, save_id),
 done(ot,oi,sh,version,save_id) AS (SELECT * FROM upd UNION ALL SELECT * FROM ins)` + records + `
SELECT save_id, version, NULL::int, NULL::bigint, NULL::text FROM done
UNION ALL SELECT NULL, NULL, shard_id, epoch, owner FROM f`
}

// Commit applies the saves that their fence and version admit, in one statement. A save
// that has already landed is Committed again, at its version. To delete what does not
// exist is Committed at Base and writes nothing.
//
// When ctx ends after the statement was sent, its outcome is unknown; so it is when the
// connection is lost. The statement is not repeated here but where it was lost to a
// deadlock, or where the data of a save fails it: then that save alone is Rejected.
func (p *Provider) Commit(ctx context.Context, owner string, saves []object.Save) ([]object.Verdict, error) {
	c := &commit{Provider: p, owner: owner, saves: saves, verdicts: make([]object.Verdict, len(saves))}
	if todo := c.admit(); len(todo) > 0 {
		if err := c.run(ctx, todo); err != nil {
			return nil, fmt.Errorf("commit %d saves: %w", len(saves), err)
		}
	}
	return c.verdicts, nil
}

// commit is one Commit under way.
type commit struct {
	*Provider
	owner    string
	saves    []object.Save
	verdicts []object.Verdict
	began    bool // a part of it has been, or may have been, committed
}

// admit rejects what no store takes and returns the indices of the others.
func (c *commit) admit() (todo []int) {
	ids := make(map[[16]byte]bool, len(c.saves))
	for i := range c.saves {
		s := &c.saves[i]
		err := admit.Save(s)
		if err == nil && ids[s.SaveID] {
			err = fault.New(fault.Invalid, "the save of %s has the SaveID of another save: give each a fresh one", s.Ref)
		}
		if err != nil {
			c.verdicts[i] = rejected(err)
			continue
		}
		ids[s.SaveID] = true
		todo = append(todo, i)
	}
	return todo
}

func rejected(err error) object.Verdict { return object.Verdict{Kind: object.Rejected, Err: err} }

// run commits the saves and fills in their verdicts. Its error wraps ErrNotCommitted
// if surely nothing was written.
func (c *commit) run(ctx context.Context, todo []int) error {
	s, err := c.acquire(ctx, c.owner)
	if err != nil {
		return notCommitted(err)
	}
	defer s.Release()
	if err := c.apply(ctx, s, todo); err != nil {
		if err := c.db.explain(err); c.began {
			return err
		}
		return notCommitted(c.db.explain(err))
	}
	return nil
}

// apply commits a part of the saves. Where the data of one fails the statement, it
// halves the part until that one is alone.
func (c *commit) apply(ctx context.Context, s session, part []int) error {
	for attempt := 0; ; attempt++ {
		err := c.once(ctx, s, part)
		switch {
		case unlucky(err) && again(ctx, attempt):
			continue
		case !badData(err):
			return err
		case len(part) == 1:
			c.verdicts[part[0]] = rejected(refusal(&c.saves[part[0]], err))
			return nil
		}
		half := len(part) / 2
		if err := c.apply(ctx, s, part[:half]); err != nil {
			return err
		}
		return c.apply(ctx, s, part[half:])
	}
}

// refusal says why the database did not take a save.
func refusal(save *object.Save, err error) error {
	switch constraintOf(err) {
	case "goverse_calls_pkey":
		return fmt.Errorf("%s: %w", save.Ref, object.ErrCallRecorded)
	case "goverse_outbox_effect":
		return fault.New(fault.Invalid, "%s has an effect whose id is that of another one that was not ended", save.Ref)
	}
	return fault.New(fault.Invalid, "the state of %s is not storable: %w", save.Ref, err)
}

// once runs the statement for a part of the saves, and finds out why it left some out.
func (c *commit) once(ctx context.Context, s session, part []int) error {
	if err := ctx.Err(); err != nil {
		return err // nothing is sent
	}
	answer, err := c.send(ctx, s, c.owner, c.saves, part)
	if err != nil {
		c.began = c.began || !rolledBack(err)
		return err
	}
	c.began = c.began || len(answer.versions) > 0
	var left []int
	for _, i := range part {
		save := &c.saves[i]
		switch version, ok := answer.versions[save.SaveID]; {
		case ok:
			c.verdicts[i] = object.Verdict{Kind: object.Committed, Version: uint64(version)}
		case !answer.holds(save):
			c.verdicts[i] = object.Verdict{Kind: object.FenceLost}
		default:
			left = append(left, i)
		}
	}
	if len(left) == 0 {
		return nil
	}
	err = c.judge(ctx, s, left)
	c.began = c.began || err != nil // one of them may be a copy of a save that has landed
	return err
}

// answer is what the saving statement returns.
type answer struct {
	owner    string
	versions map[[16]byte]int64
	fences   map[int32]object.Fence
}

func (a *answer) holds(save *object.Save) bool {
	f := a.fences[shardNumber(save.Shard)]
	return f.Epoch > 0 && f.Epoch == save.Epoch && f.Owner == a.owner
}

// send runs the saving statement.
func (p *Provider) send(ctx context.Context, s session, owner string, saves []object.Save, part []int) (*answer, error) {
	sql, args := p.sql.save, saveArgs(owner, saves, part)
	if hasRecords(saves, part) {
		sql, args = p.sql.saveAll, append(args, recordArgs(saves, part)...)
	}
	a := &answer{owner: owner, versions: make(map[[16]byte]int64, len(part)), fences: map[int32]object.Fence{}}
	rows, err := s.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	var id pgtype.UUID
	var version, epoch pgtype.Int8
	var shard pgtype.Int4
	var holder pgtype.Text
	_, err = pgx.ForEachRow(rows, []any{&id, &version, &shard, &epoch, &holder}, func() error {
		if id.Valid {
			a.versions[id.Bytes] = version.Int64
		} else {
			a.fences[shard.Int32] = object.Fence{Shard: int(shard.Int32), Epoch: uint64(epoch.Int64), Owner: holder.String}
		}
		return nil
	})
	return a, err
}

// saveArgs are the columns of i, and the owner.
func saveArgs(owner string, saves []object.Save, part []int) []any {
	n := len(part)
	types, ids, data := make([]string, n), make([]string, n), make([]*string, n)
	bases, shards, epochs := make([]int64, n), make([]int32, n), make([]int64, n)
	saveIDs := make([]pgtype.UUID, n)
	for k, i := range part {
		s := &saves[i]
		types[k], ids[k], data[k] = s.Ref.Type, s.Ref.ID, text(s.Data)
		bases[k], shards[k], epochs[k] = int64(s.Base), shardNumber(s.Shard), int64(s.Epoch)
		saveIDs[k] = uuid(s.SaveID)
	}
	return []any{types, ids, data, bases, shards, epochs, saveIDs, owner}
}

func uuid(id [16]byte) pgtype.UUID { return pgtype.UUID{Bytes: id, Valid: true} }

const recordsOfSQL = `SELECT o.version, o.save_id, o.deleted_at IS NOT NULL FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS t(object_type, object_id, n)
  LEFT JOIN goverse_objects o USING (object_type, object_id) ORDER BY t.n`

// judge says what became of saves that were left out although their fence held. It
// reads after the statement: what that has waited for is to be seen.
func (c *commit) judge(ctx context.Context, s session, left []int) error {
	types, ids := make([]string, len(left)), make([]string, len(left))
	for k, i := range left {
		types[k], ids[k] = c.saves[i].Ref.Type, c.saves[i].Ref.ID
	}
	rows, err := s.Query(ctx, recordsOfSQL, types, ids)
	if err != nil {
		return err
	}
	k := 0
	var has stored
	_, err = pgx.ForEachRow(rows, has.into(), func() error {
		i := left[k]
		c.verdicts[i] = has.verdict(&c.saves[i])
		k++
		return nil
	})
	return err
}

// stored is what the database has of an object; all of it is NULL if it has none.
type stored struct {
	version pgtype.Int8
	saveID  pgtype.UUID
	gone    pgtype.Bool
}

func (h *stored) into() []any { return []any{&h.version, &h.saveID, &h.gone} }

func (h *stored) landed(save *object.Save) bool {
	return uint64(h.version.Int64) == save.Base+1 && h.saveID.Valid && h.saveID.Bytes == save.SaveID
}

// absent says that the save is to delete what does not exist.
func (h *stored) absent(save *object.Save) bool {
	return uint64(h.version.Int64) == save.Base && save.Data == nil && (!h.version.Valid || h.gone.Bool)
}

// verdict is on a save that wrote nothing while it held the fence.
func (h *stored) verdict(save *object.Save) object.Verdict {
	switch {
	case h.landed(save):
		return object.Verdict{Kind: object.Committed, Version: save.Base + 1}
	case !h.absent(save):
		return object.Verdict{Kind: object.Conflict}
	case len(save.Calls)+len(save.Effects) > 0:
		return rejected(fault.New(fault.Invalid, "%s does not exist: its deletion has no version to keep records at", save.Ref))
	}
	return object.Verdict{Kind: object.Committed, Version: save.Base}
}
