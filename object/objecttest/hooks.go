package objecttest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/xiaonanln/goverse/object"
)

// hookChecks are for an object.TxProvider. Its SQL is tried with a table of the
// kit's own, kit_rows, unless the store has none: then Tx answers with an error that
// wraps errors.ErrUnsupported.
func hookChecks() []check {
	list := []check{
		{name: "Hook", keeps: "a hook's work and the state are committed together", run: hookCommits},
		{name: "HookFails", keeps: "an error or a panic of a hook undoes everything", run: hookFails},
		{name: "HookRefused", keeps: "of a save that does not count nothing of its hook counts", run: hookRefused},
		{name: "HookCopy", keeps: "a copy of a save that has landed does not do its hook's work again", run: hookCopy},
		{name: "HookDelete", keeps: "a deletion may have a hook, the deletion of nothing may not", run: hookDelete},
		{name: "HookTx", keeps: "a transaction counts and hands out rows, and ends with its hook", run: hookTx},
		{name: "HookBounded", keeps: "a hook that waits is ended after about two seconds", run: hookBounded},
	}
	for i := range list {
		list[i].needs = transacts
	}
	return list
}

func transacts(p object.PersistenceProvider) bool { _, ok := p.(object.TxProvider); return ok }

type hook = func(context.Context, object.Tx) error

// ledger is a table of the program's own, as far as the store has SQL.
type ledger struct {
	*kit
	sql bool
}

// open makes the table, in a hook.
func (k *kit) ledger(ctx context.Context, h *holder) (*ledger, error) {
	l := &ledger{kit: k, sql: true}
	return l, l.commits(ctx, h, h.save(k.ref("ledger"), doc(0), 0), func(ctx context.Context, tx object.Tx) error {
		_, err := tx.Exec(ctx, `CREATE TABLE IF NOT EXISTS kit_rows (id TEXT PRIMARY KEY, n BIGINT NOT NULL)`)
		if errors.Is(err, errors.ErrUnsupported) {
			l.sql, err = false, nil
		}
		return err
	}, object.Committed, 1)
}

// add is a hook that adds 1 to a row.
func (l *ledger) add(name string) hook {
	return func(ctx context.Context, tx object.Tx) error {
		if !l.sql {
			return nil
		}
		_, err := tx.Exec(ctx, fmt.Sprintf(`INSERT INTO kit_rows (id, n) VALUES ('%s', 1) ON CONFLICT (id) DO UPDATE SET n = kit_rows.n + 1`, l.id(name)))
		return err
	}
}

// has demands a row's number; 0: there is no row.
func (l *ledger) has(ctx context.Context, h *holder, name string, want int64) error {
	if !l.sql {
		return nil
	}
	var n int64
	looked := errors.New("looked")
	_, err := l.commitWith(ctx, h, h.save(l.ref("look"), doc(1), 0), func(ctx context.Context, tx object.Tx) error {
		err := tx.Query(ctx, func(row []any) error { n = row[0].(int64); return nil }, fmt.Sprintf(`SELECT n FROM kit_rows WHERE id = '%s'`, l.id(name)))
		return errors.Join(err, looked)
	})
	if !errors.Is(err, looked) || n != want {
		return fmt.Errorf("the row %q has %d, error %v, want %d", name, n, err, want)
	}
	return nil
}

func (k *kit) commitWith(ctx context.Context, h *holder, s object.Save, f hook) (object.Verdict, error) {
	return h.fp.(object.TxProvider).CommitWith(ctx, h.Owner, s, f)
}

// commits commits with a hook and demands a verdict.
func (k *kit) commits(ctx context.Context, h *holder, s object.Save, f hook, kind object.VerdictKind, version uint64) error {
	v, err := k.commitWith(ctx, h, s, f)
	if err != nil {
		return fmt.Errorf("commit with a hook: %w", err)
	}
	return wantVerdict(v, kind, version)
}

// laid holds a shard and opens the ledger.
func (k *kit) laid(ctx context.Context) (*holder, *ledger, error) {
	h, err := k.hold(ctx, "a")
	if err != nil {
		return nil, nil, err
	}
	l, err := k.ledger(ctx, h)
	return h, l, err
}

func hookCommits(ctx context.Context, k *kit) error {
	h, l, err := k.laid(ctx)
	if err != nil {
		return err
	}
	ref := k.ref("a")
	save := h.save(ref, doc(1), 0)
	if k.eo != nil {
		save = with(save, []object.CallRecord{k.call("c")}, k.send("e"))
	}
	runs := 0
	return steps(
		func() error {
			return k.commits(ctx, h, save, func(ctx context.Context, tx object.Tx) error {
				runs++
				return l.add("a")(ctx, tx)
			}, object.Committed, 1)
		},
		func() error {
			if runs == 0 {
				return errors.New("the hook did not run")
			}
			return k.wantRecord(ctx, ref, doc(1), 1)
		},
		func() error { return l.has(ctx, h, "a", 1) },
		func() error { return k.commits(ctx, h, h.save(ref, doc(2), 1), l.add("a"), object.Committed, 2) },
		func() error { return l.has(ctx, h, "a", 2) },
		func() error { return h.wrote(ctx, ref, doc(3), 2) }, // and plain commits go on
		func() error {
			if k.eo == nil {
				return nil
			}
			return errors.Join(k.wantCall(ctx, ref, save.Calls[0], 1), k.wantEffects(ctx, h.Shard, save.Effects...))
		},
	)
}

func hookFails(ctx context.Context, k *kit) error {
	h, l, err := k.laid(ctx)
	if err != nil {
		return err
	}
	ref, broken := k.ref("a"), errors.New("the hook's own")
	if err := h.wrote(ctx, ref, doc(1), 0); err != nil {
		return err
	}
	after := func(end hook) hook {
		return func(ctx context.Context, tx object.Tx) error {
			if err := l.add("a")(ctx, tx); err != nil {
				return err
			}
			return end(ctx, tx)
		}
	}
	for name, end := range map[string]hook{
		"an error": func(context.Context, object.Tx) error { return broken },
		"a panic":  func(context.Context, object.Tx) error { panic(broken) },
		"bad SQL": func(ctx context.Context, tx object.Tx) error {
			_, err := tx.Exec(ctx, `THIS IS NO SQL`)
			return err
		},
		"SQL that fails, unnoticed": func(ctx context.Context, tx object.Tx) error {
			if _, err := tx.Exec(ctx, `THIS IS NO SQL`); err == nil {
				return errors.New("it was taken")
			}
			return broken
		},
	} {
		save := h.save(ref, doc(2), 1)
		if k.eo != nil {
			save = with(save, []object.CallRecord{k.call("c")}, k.send("e"))
		}
		v, err := k.commitWith(ctx, h, save, after(end))
		var failed *object.HookError
		switch {
		case !errors.As(err, &failed):
			return fmt.Errorf("%s: verdict %+v, error %v, want a HookError", name, v, err)
		case name == "an error" && !errors.Is(err, broken):
			return fmt.Errorf("%s: error %w does not wrap the hook's", name, err)
		}
		if err := steps(
			func() error { return k.wantRecord(ctx, ref, doc(1), 1) },
			func() error { return l.has(ctx, h, "a", 0) },
			func() error { return k.noRecords(ctx, h, ref) },
		); err != nil {
			return fmt.Errorf("after %s: %w", name, err)
		}
	}
	return steps(
		func() error { return k.commits(ctx, h, h.save(ref, doc(2), 1), l.add("a"), object.Committed, 2) },
		func() error { return l.has(ctx, h, "a", 1) },
	)
}

func (k *kit) noRecords(ctx context.Context, h *holder, ref object.Ref) error {
	if k.eo == nil {
		return nil
	}
	return errors.Join(k.wantCall(ctx, ref, k.call("c"), 0), k.wantEffects(ctx, h.Shard))
}

func hookRefused(ctx context.Context, k *kit) error {
	h, l, err := k.laid(ctx)
	if err != nil {
		return err
	}
	ref := k.ref("a")
	if err := h.wrote(ctx, ref, doc(1), 0); err != nil {
		return err
	}
	refused := func(name string, h *holder, s object.Save, kind object.VerdictKind) func() error {
		return func() error {
			if err := k.commits(ctx, h, s, l.add("a"), kind, 0); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		}
	}
	stale := *h
	stale.Owner += "x"
	list := []func() error{
		refused("a stale base", h, h.save(ref, doc(2), 0), object.Conflict),
		refused("a base to come", h, h.save(ref, doc(2), 7), object.Conflict),
		refused("another owner", &stale, stale.save(ref, doc(2), 1), object.FenceLost),
		refused("bad data", h, h.save(ref, []byte(`{`), 1), object.Rejected),
		refused("a bad name", h, h.save(object.Ref{Type: "Kit"}, doc(1), 0), object.Rejected),
	}
	if k.eo != nil {
		c := []object.CallRecord{k.call("c")}
		list = append(list,
			func() error {
				return h.want(ctx, with(h.save(k.ref("b"), doc(1), 0), c), object.Committed, 1)
			},
			refused("a recorded call", h, with(h.save(k.ref("b"), doc(2), 1), c), object.Rejected),
			func() error { return k.wantRecord(ctx, k.ref("b"), doc(1), 1) },
		)
	}
	return steps(append(list,
		func() error { return k.wantRecord(ctx, ref, doc(1), 1) },
		func() error { return l.has(ctx, h, "a", 0) },
	)...)
}

func hookCopy(ctx context.Context, k *kit) error {
	h, l, err := k.laid(ctx)
	if err != nil {
		return err
	}
	ref := k.ref("a")
	save := h.save(ref, doc(1), 0)
	for range 3 {
		if err := steps(
			func() error { return k.commits(ctx, h, save, l.add("a"), object.Committed, 1) },
			func() error { return l.has(ctx, h, "a", 1) },
		); err != nil {
			return err
		}
	}
	return k.wantRecord(ctx, ref, doc(1), 1)
}

func hookDelete(ctx context.Context, k *kit) error {
	h, l, err := k.laid(ctx)
	if err != nil {
		return err
	}
	ref := k.ref("a")
	return steps(
		func() error { return k.commits(ctx, h, h.save(ref, nil, 0), l.add("none"), object.Rejected, 0) },
		func() error { return l.has(ctx, h, "none", 0) },
		func() error { return h.wrote(ctx, ref, doc(1), 0) },
		func() error { return k.commits(ctx, h, h.save(ref, nil, 1), l.add("a"), object.Committed, 2) },
		func() error { return k.wantRecord(ctx, ref, nil, 2) },
		func() error { return l.has(ctx, h, "a", 1) },
		func() error { return k.commits(ctx, h, h.save(ref, nil, 2), l.add("none"), object.Rejected, 0) },
		func() error { return l.has(ctx, h, "none", 0) },
	)
}

func hookTx(ctx context.Context, k *kit) error {
	h, l, err := k.laid(ctx)
	if err != nil {
		return err
	}
	enough := errors.New("enough")
	var kept object.Tx
	uses := func(ctx context.Context, tx object.Tx) error {
		kept = tx
		if !l.sql {
			return nil
		}
		a, b := k.id("a"), k.id("b")
		n, err := tx.Exec(ctx, fmt.Sprintf(`INSERT INTO kit_rows (id, n) VALUES ('%s', 7), ('%s', 8)`, a, b))
		if err != nil || n != 2 {
			return fmt.Errorf("inserted %d rows, error %w, want 2", n, err)
		}
		var got []string
		query := fmt.Sprintf(`SELECT id, n FROM kit_rows WHERE id IN ('%s', '%s') ORDER BY id`, a, b)
		collect := func(row []any) error { got = append(got, fmt.Sprint(row[0], row[1])); return nil }
		if err := tx.Query(ctx, collect, query); err != nil || fmt.Sprint(got) != fmt.Sprint([]string{a + "7", b + "8"}) {
			return fmt.Errorf("read %q, error %w", got, err)
		}
		rows := 0
		stop := func([]any) error { rows++; return enough }
		if err := tx.Query(ctx, stop, query); !errors.Is(err, enough) || rows != 1 {
			return fmt.Errorf("a query that is ended by its caller: %d rows, error %v", rows, err)
		}
		return nil
	}
	if err := k.commits(ctx, h, h.save(k.ref("a"), doc(1), 0), uses, object.Committed, 1); err != nil {
		return err
	}
	if n, err := kept.Exec(ctx, `DELETE FROM kit_rows`); err == nil {
		return fmt.Errorf("after its hook a transaction deleted %d rows", n)
	}
	if err := kept.Query(ctx, func([]any) error { return nil }, `SELECT n FROM kit_rows`); err == nil {
		return errors.New("after its hook a transaction was read")
	}
	return steps(
		func() error { return l.has(ctx, h, "a", 7) },
		func() error { return l.has(ctx, h, "b", 8) },
	)
}

func hookBounded(ctx context.Context, k *kit) error {
	h, l, err := k.laid(ctx)
	if err != nil {
		return err
	}
	begun := time.Now()
	_, err = k.commitWith(ctx, h, h.save(k.ref("a"), doc(1), 0), func(ctx context.Context, tx object.Tx) error {
		if err := l.add("a")(ctx, tx); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	})
	var failed *object.HookError
	if took := time.Since(begun); !errors.As(err, &failed) || took > 5*time.Second {
		return fmt.Errorf("a hook that waits for its context: error %v after %v, want a HookError after 2s", err, took)
	}
	return steps(
		func() error { return k.wantRecord(ctx, k.ref("a"), nil, 0) },
		func() error { return l.has(ctx, h, "a", 0) },
		func() error { return h.wrote(ctx, k.ref("a"), doc(1), 0) },
	)
}
