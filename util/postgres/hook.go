package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/admit"
)

// hookTime bounds a transaction with a hook, repetitions included.
const hookTime = 2 * time.Second

var errSlowHook = fmt.Errorf("it took longer than %v", hookTime)

// CommitWith is Commit of one save together with what hook does through its Tx (TxOf
// has the native form), unless it is clear before the hook that the save does not count.
// The transaction is READ COMMITTED; a statement of it may take 1 s, wait for a lock
// 300 ms, and the hook may think for 1 s between two. At most 8 hooks of a DB run at the
// same time; others wait. To end the transaction is not the hook's, and the goverse_
// tables are off limits.
func (p *Provider) CommitWith(ctx context.Context, owner string, save object.Save, hook func(context.Context, object.Tx) error) (object.Verdict, error) {
	if err := admit.Save(&save); err != nil {
		return rejected(err), nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, hookTime, errSlowHook)
	defer cancel()
	select {
	case p.db.hooks <- struct{}{}:
		defer func() { <-p.db.hooks }()
	case <-ctx.Done():
		return object.Verdict{}, fmt.Errorf("commit %s with a hook: %w", save.Ref, notCommitted(ctx.Err()))
	}
	for attempt := 0; ; attempt++ {
		h := &hooked{Provider: p, owner: owner, save: save, hook: hook}
		v, err := h.run(ctx)
		if h.repeatable && again(ctx, attempt) {
			continue
		}
		var its *object.HookError
		if err != nil && !errors.As(err, &its) {
			err = fmt.Errorf("commit %s with a hook: %w", save.Ref, err)
		}
		return v, err
	}
}

// hooked is one transaction with a hook.
type hooked struct {
	*Provider
	owner      string
	save       object.Save
	hook       func(context.Context, object.Tx) error
	s          session
	repeatable bool // it was rolled back by chance
}

// run leaves no transaction behind.
func (h *hooked) run(ctx context.Context) (object.Verdict, error) {
	s, err := h.acquire(ctx, h.owner)
	if err != nil {
		return object.Verdict{}, notCommitted(err)
	}
	h.s = s
	defer s.Release()
	defer s.rollback()
	v, err := h.begin(ctx)
	if err != nil || v.Kind != 0 {
		return v, h.undone(err)
	}
	if err := h.runHook(ctx); err != nil {
		return object.Verdict{}, err
	}
	if !s.inTransaction() {
		s.cut()
		err := fmt.Errorf("the hook of %s has ended the transaction by itself: its own SQL may be committed, the object's state is not", h.save.Ref)
		h.db.warn("a hook has ended its transaction", err)
		return object.Verdict{Kind: object.Uncertain, Err: err}, nil
	}
	a, err := h.send(ctx, s, h.owner, []object.Save{h.save}, []int{0})
	switch {
	case badData(err):
		return rejected(refusal(&h.save, err)), nil
	case codeOf(err) == thoughtTooLong:
		return object.Verdict{}, &object.HookError{Err: err}
	case err != nil:
		return object.Verdict{}, h.undone(err)
	case len(a.versions) == 0:
		return object.Verdict{Kind: object.Conflict}, nil // somebody has written to the goverse_ tables
	}
	if err := h.end(ctx); err != nil {
		return object.Verdict{}, err
	}
	return object.Verdict{Kind: object.Committed, Version: uint64(a.versions[h.save.SaveID])}, nil
}

// undone explains an error before which nothing was committed, and is nil for none.
func (h *hooked) undone(err error) error {
	if err == nil {
		return nil
	}
	h.repeatable = h.repeatable || byChance(err)
	return notCommitted(h.db.explain(err))
}

// byChance says that a transaction with a hook may succeed if it is repeated.
func byChance(err error) bool { return unlucky(err) || codeOf(err) == lockTimedOut }

// begin opens the transaction, locks copies of this save out, locks the fence, and
// gives the verdict of a save that does not count or has landed. Without it a copy
// would run its hook a second time.
func (h *hooked) begin(ctx context.Context) (v object.Verdict, err error) {
	const open = `BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL lock_timeout='300ms'; SET LOCAL statement_timeout='1s'; SET LOCAL idle_in_transaction_session_timeout='1s'`
	if err := h.s.script(ctx, open); err != nil {
		return v, err
	}
	save := &h.save
	b := &pgx.Batch{}
	b.Queue(`SELECT pg_advisory_xact_lock(hashtextextended('goverse ' || $1::text || '/' || $2::text, 0))`, save.Ref.Type, save.Ref.ID)
	b.Queue(`SELECT 1 FROM goverse_shards WHERE shard_id=$1 AND epoch=$2 AND owner=$3 FOR SHARE`, shardNumber(save.Shard), int64(save.Epoch), h.owner).
		Query(func(rows pgx.Rows) error {
			if !rows.Next() && rows.Err() == nil {
				v.Kind = object.FenceLost
			}
			return rows.Err()
		})
	b.Queue(`SELECT version, save_id, deleted_at IS NOT NULL FROM goverse_objects WHERE object_type=$1 AND object_id=$2 FOR UPDATE`, save.Ref.Type, save.Ref.ID).
		Query(func(rows pgx.Rows) error {
			var has stored
			_, err := pgx.ForEachRow(rows, has.into(), func() error { return nil })
			if err == nil && v.Kind == 0 {
				v = has.before(save)
			}
			return err
		})
	return v, h.s.SendBatch(ctx, b).Close()
}

// before is the verdict on a save with a hook that need not run; its Kind is 0 if the
// hook is to run.
func (h *stored) before(save *object.Save) object.Verdict {
	switch {
	case h.landed(save):
		return object.Verdict{Kind: object.Committed, Version: save.Base + 1}
	case uint64(h.version.Int64) != save.Base:
		return object.Verdict{Kind: object.Conflict}
	case h.absent(save):
		return rejected(fault.New(fault.Invalid, "%s does not exist: its deletion cannot carry a hook", save.Ref))
	}
	return object.Verdict{}
}

// runHook runs the hook; its error or panic is a *object.HookError.
func (h *hooked) runHook(ctx context.Context) (err error) {
	t := &tx{s: h.s, open: true}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
		t.close()
		err = h.blame(ctx, err, t.failed)
	}()
	return h.hook(ctx, t)
}

// thoughtTooLong is the SQLSTATE of a server that ended a transaction because its
// client did nothing for a second.
const thoughtTooLong = "25P03"

// blame says what a hook's end means; failed is the first error of its SQL.
func (h *hooked) blame(ctx context.Context, err, failed error) error {
	slow := context.Cause(ctx) == errSlowHook
	switch closed := h.s.Conn.Conn().IsClosed(); {
	case slow:
		err = errors.Join(errSlowHook, err)
	case codeOf(failed) == thoughtTooLong:
		err = failed
	case closed && failed != nil:
		return notCommitted(h.db.explain(failed)) // not the hook's fault
	case closed:
		return notCommitted(errors.New("the connection was lost while the hook ran"))
	case byChance(failed):
		h.repeatable, err = true, cmp.Or(err, failed)
	case err == nil && h.s.Conn.Conn().PgConn().TxStatus() == 'E':
		err = fmt.Errorf("a statement of it has failed, which ends a transaction: %w", failed)
	}
	if err == nil {
		return nil
	}
	return &object.HookError{Err: err}
}

// end commits. It comes after the answer to the save, never with it: behind a save that
// was refused it would commit the hook's rows alone.
func (h *hooked) end(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return notCommitted(err)
	}
	answer, err := h.s.Conn.Conn().PgConn().Exec(ctx, `COMMIT`).ReadAll()
	switch {
	case err == nil && answer[0].CommandTag.String() == "COMMIT":
		return nil
	case err == nil:
		return notCommitted(fmt.Errorf("the server answered %s to COMMIT", answer[0].CommandTag))
	case !rolledBack(err):
		return h.db.explain(err)
	case badData(err): // a deferred constraint of the program's own tables
		return &object.HookError{Err: err}
	}
	return h.undone(err)
}

// Tx is the transaction of a hook as pgx has it, until the hook returns.
type Tx interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// TxOf returns the native form of a hook's transaction, and false if it is of another
// store. It is used from the hook's goroutine, until the hook returns.
func TxOf(t object.Tx) (Tx, bool) {
	mine, ok := t.(*tx)
	if !ok {
		return nil, false
	}
	return native{mine}, true
}

// tx is the object.Tx of a hook. Only the hook's goroutine uses it.
type tx struct {
	s      session
	open   bool
	rows   []pgx.Rows
	failed error // of its SQL, the first
}

var errTxEnded = fault.New(fault.Invalid, "the transaction of a hook was used after the hook had returned")

// admit refuses what would end the transaction, or come too late.
func (t *tx) admit(sql string) error {
	if !t.open {
		return errTxEnded
	}
	switch word := firstWord(sql); word {
	case "BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "PREPARE", "SAVEPOINT", "RELEASE":
		return fault.New(fault.Invalid, "%s in a hook: the transaction is the object's, return an error to undo it", word)
	}
	return nil
}

// firstWord is the first keyword of a statement, in upper case.
func firstWord(sql string) string {
	for {
		sql = strings.TrimLeft(sql, " \t\r\n\f\v;(")
		switch {
		case strings.HasPrefix(sql, "--"):
			_, sql, _ = strings.Cut(sql, "\n")
		case strings.HasPrefix(sql, "/*"):
			sql = afterComment(sql)
		default:
			end := strings.IndexFunc(sql, func(r rune) bool { return (r|0x20) < 'a' || (r|0x20) > 'z' })
			if end < 0 {
				end = len(sql)
			}
			return strings.ToUpper(sql[:end])
		}
	}
}

// afterComment is what follows a comment, which may have others in it.
func afterComment(sql string) string {
	depth := 0
	for i := 0; i+1 < len(sql); i++ {
		switch sql[i : i+2] {
		case "/*":
			depth++
			i++
		case "*/":
			depth--
			i++
		}
		if depth == 0 {
			return sql[i+1:]
		}
	}
	return ""
}

func (t *tx) note(err error) {
	if t.failed == nil {
		t.failed = err
	}
}

// close ends the hook's use of the transaction.
func (t *tx) close() {
	t.open = false
	for _, r := range t.rows {
		r.Close()
		t.note(r.Err())
	}
}

func (t *tx) Exec(ctx context.Context, sql string, args ...any) (int64, error) {
	tag, err := native{t}.Exec(ctx, sql, args...)
	return tag.RowsAffected(), err
}

func (t *tx) Query(ctx context.Context, f func(row []any) error, sql string, args ...any) error {
	rows, err := native{t}.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		row, err := rows.Values()
		if err != nil {
			return err
		}
		if err := f(row); err != nil {
			return err
		}
	}
	rows.Close()
	t.note(rows.Err())
	return rows.Err()
}

// native is a tx as pgx has it.
type native struct{ *tx }

func (n native) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if err := n.admit(sql); err != nil {
		return pgconn.CommandTag{}, err
	}
	tag, err := n.s.Exec(ctx, sql, args...)
	n.note(err)
	return tag, err
}

func (n native) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if err := n.admit(sql); err != nil {
		return nil, err
	}
	rows, err := n.s.Query(ctx, sql, args...)
	if err != nil {
		n.note(err)
		return nil, err
	}
	n.rows = append(n.rows, rows)
	return rows, nil
}

func (n native) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	if err := n.admit(sql); err != nil {
		return noRowOf{err}
	}
	return notingRow{n.tx, n.s.QueryRow(ctx, sql, args...)}
}

type noRowOf struct{ err error }

func (r noRowOf) Scan(...any) error { return r.err }

// notingRow notes the error of its query.
type notingRow struct {
	t *tx
	pgx.Row
}

func (r notingRow) Scan(into ...any) error {
	err := r.Row.Scan(into...)
	if codeOf(err) != "" {
		r.t.note(err)
	}
	return err
}
