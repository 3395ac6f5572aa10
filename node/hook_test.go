package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/memstore"
)

// table is what hooks write to: a program's own, in the same store.
type table struct {
	mu   sync.Mutex
	rows []string
	runs int
}

// insert is a hook that adds a row, if the transaction commits.
func (tab *table) insert(row string) object.Hook {
	return func(_ context.Context, tx object.Tx) error {
		tab.mu.Lock()
		tab.runs++
		tab.mu.Unlock()
		memstore.Then(tx, func() {
			tab.mu.Lock()
			defer tab.mu.Unlock()
			tab.rows = append(tab.rows, row)
		})
		return nil
	}
}

func (tab *table) want(t testing.TB, rows ...string) {
	t.Helper()
	tab.mu.Lock()
	defer tab.mu.Unlock()
	if fmt.Sprint(tab.rows) != fmt.Sprint(rows) {
		t.Errorf("the table has %v, want %v", tab.rows, rows)
	}
}

// adds is a method that adds one and registers hooks.
func adds(hooks ...object.Hook) script {
	return func(ctx context.Context, o *Thing) error {
		o.N++
		for _, h := range hooks {
			if err := inside(ctx).OnCommit(h); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestOnCommitIsInTheSameCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, tab := start(t, kept), new(table)
		let := w.hold()
		before := w.start(bg, "x.Change") // on its way
		synctest.Wait()
		hooked := w.start(bg, "x.Change", adds(tab.insert("a"), tab.insert("b")))
		synctest.Wait()
		behind := w.start(bg, "x.Change")
		synctest.Wait()
		other := w.start(bg, "x.Read")
		if !before.running() || !hooked.running() || !behind.running() || !other.running() {
			t.Error("answered before the commit")
		}
		tab.want(t)
		let()
		for i, p := range []*pending{before, hooked, behind, other} {
			if n, err := p.wait(); n != []int64{1, 2, 3, 3}[i] || err != nil {
				t.Error(i, n, err)
			}
		}
		tab.want(t, "a", "b")
		w.wantStored("x", 3, 3) // each alone
		_, err := w.call(bg, "x.Other", func(ctx context.Context, o *Thing) error { return inside(ctx).OnCommit(tab.insert("c")) })
		w.must(err)
		tab.want(t, "a", "b", "c") // also where the object itself did not change
		w.wantStored("x", 3, 4)
	})
}

// Whatever goes wrong, state and table tell the same.
func TestOnCommitFails(t *testing.T) {
	lost := errors.New("the answer was lost")
	for _, c := range []struct {
		name    string
		fault   memstore.Fault
		again   memstore.Fault // what the second attempt meets
		before  func(w *world)
		hook    object.Hook
		kind    fault.Kind // 0: it succeeds all the same
		outcome fault.Outcome
		n       int64
	}{
		{name: "error", hook: func(context.Context, object.Tx) error { return errUser }, kind: fault.Failed, outcome: fault.Executed, n: 1},
		{name: "panic", hook: func(context.Context, object.Tx) error { panic("oh") }, kind: fault.Panicked, outcome: fault.Executed, n: 1},
		{name: "not committed", fault: memstore.Fault{Err: object.ErrNotCommitted}, kind: fault.StoreFailed, outcome: fault.NotExecuted, n: 1},
		{name: "unknown, not applied", fault: memstore.Fault{Err: lost}, n: 2},
		{name: "unknown, applied", fault: memstore.Fault{Err: lost, Applied: true}, n: 2},
		{name: "unknown, lands late", fault: memstore.Fault{Err: lost, Held: true}, n: 2},
		{name: "unknown, then surely not", fault: memstore.Fault{Err: lost, Applied: true}, again: memstore.Fault{Err: object.ErrNotCommitted}, n: 2},
		{name: "conflict", before: func(w *world) {
			w.must(w.store.SaveObject(bg, "Kept", "x", []byte(`{"@type":"type.googleapis.com/google.protobuf.Int64Value","value":"50"}`)))
			w.must(w.store.SaveObject(bg, "Tried", "x", []byte(`{"@type":"type.googleapis.com/google.protobuf.Int64Value","value":"50"}`)))
		}, kind: fault.StoreFailed, outcome: fault.NotExecuted, n: 50},
		{name: "fence lost", before: func(w *world) { w.depose("x") }, kind: fault.Fenced, outcome: fault.OutcomeUnknown, n: 1},
	} {
		for _, typ := range []string{"Kept", "Tried"} {
			bubble(t, typ+" "+c.name, func(t *testing.T) {
				w, tab := start(t, kept, tried(object.Durable)), new(table)
				x := typ + "/x"
				w.want(bg, x+".Change", 1)
				attempts := 0
				open := make(chan struct{})
				w.store.Fail(func(op memstore.Op) memstore.Fault {
					if op.Kind != memstore.Commit || attempts == 2 {
						return memstore.Fault{}
					}
					attempts++
					f := c.fault
					if attempts == 2 {
						f = c.again
					}
					f.Wait = open
					return f
				})
				row, extra := tab.insert("row"), c.hook
				if extra == nil {
					extra = func(context.Context, object.Tx) error { return nil }
				}
				p := w.start(bg, x+".Change", adds(row, extra))
				synctest.Wait()
				next := w.start(bg, x+".Read")
				synctest.Wait()
				if c.before != nil {
					c.before(w)
				}
				close(open)
				_, err := p.wait()
				if c.kind == 0 {
					w.must(err)
				} else {
					isFault(t, err, c.kind, c.outcome)
				}
				if c.name == "error" && !errors.Is(err, errUser) {
					t.Error(err)
				}
				_, nextErr := next.wait()
				w.store.Land()
				w.store.Fail(nil)
				if c.kind == fault.Fenced {
					w.epoch += 2
					w.open()
				} else if nextErr != nil {
					t.Error("who came behind:", nextErr)
				}
				w.want(bg, x+".Read", c.n)
				rows := []string{"row"}
				if c.kind != 0 {
					rows = nil
				}
				tab.want(t, rows...)
				w.want(bg, x+".Change", c.n+1) // and it goes on
			})
		}
	}
}

// A Transactional type is put back where a hook fails: its activation lives on.
func TestOnCommitUndone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept, tried(object.Durable))
		w.want(bg, "Tried/x.Change", 1)
		w.forgetEvents()
		_, err := w.call(bg, "Tried/x.Change", adds(func(context.Context, object.Tx) error { return errUser }))
		isFault(t, err, fault.Failed, fault.Executed)
		w.want(bg, "Tried/x.Read", 1)
		w.want(bg, "Tried/x.Change", 2)
		w.wantStored("Tried/x", 2, 2)
		w.wantEvents()
		ran := false
		_, err = w.call(bg, "Tried/x.Change", func(ctx context.Context, o *Thing) error {
			w.must(inside(ctx).OnCommit(func(context.Context, object.Tx) error { ran = true; return nil }))
			return errUser
		})
		isFault(t, err, fault.Failed, fault.Executed)
		if ran {
			t.Error("the hook of a method that was undone ran")
		}
	})
}

// Pushes of the call leave after it, and not where nothing of it is kept.
func TestOnCommitAndPushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept)
		c := w.listen("g:1")
		says := func(text string, hook object.Hook) script {
			return func(ctx context.Context, o *Thing) error {
				o.N++
				rt, _ := object.RuntimeFrom(ctx)
				w.must(rt.Push(ctx, object.Push{ClientIDs: []string{"g:1/c"}, Message: wrapperspb.String(text)}))
				return inside(ctx).OnCommit(hook)
			}
		}
		ok := func(context.Context, object.Tx) error { return nil }
		let := w.hold()
		p := w.start(bg, "x.Change", says("one", ok))
		if !p.running() || c.texts() != "" {
			t.Error("pushed before the commit")
		}
		let()
		p.wait()
		_, err := w.call(bg, "x.Change", says("lost", func(context.Context, object.Tx) error { return errUser }))
		isFault(t, err, fault.Failed, fault.Executed)
		_, err = w.call(bg, "x.Change", says("two", ok))
		w.must(err)
		synctest.Wait()
		if c.texts() != "one two" {
			t.Error(c.texts())
		}
		w.wantStored("x", 2, 2)
	})
}

// All hooks of a chain on one object run with the outermost method's commit.
func TestOnCommitWithinAChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, tab := start(t, kept), new(table)
		_, err := w.call(bg, "x.Change", func(ctx context.Context, o *Thing) error {
			o.N++
			w.must(inside(ctx).OnCommit(tab.insert("outer")))
			if _, err := w.call(ctx, "x.Other", adds(tab.insert("inner"))); err != nil {
				return err
			}
			tab.want(t)
			return inside(ctx).OnCommit(tab.insert("outer again"))
		})
		w.must(err)
		tab.want(t, "outer", "inner", "outer again")
		w.wantStored("x", 2, 1)
	})
}

func TestAHookCallsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept)
		w.want(bg, "y.Change", 1)
		var method context.Context
		_, err := w.call(bg, "x.Change", func(ctx context.Context, o *Thing) error {
			method = ctx
			return inside(ctx).OnCommit(func(ctx context.Context, tx object.Tx) error {
				for _, ctx := range []context.Context{ctx, method} {
					for _, target := range []string{"y.Change", "x.Read"} {
						_, err := w.call(ctx, target)
						isFault(t, err, fault.Invalid, fault.NotExecuted)
					}
				}
				rt, _ := object.RuntimeFrom(ctx)
				isFault(t, rt.Push(ctx, object.Push{Message: wrapperspb.String("x")}), fault.Invalid, fault.NotExecuted)
				if _, ok := rt.(object.Inside); ok {
					t.Error("a hook can register hooks")
				}
				return nil
			})
		})
		w.must(err)
		w.want(bg, "y.Read", 1)
	})
}

func TestOnCommitIsRefused(t *testing.T) {
	hook := func(context.Context, object.Tx) error { return nil }
	basic := func(w *world, _ *Config) { w.provider = basicStore{memstore.New()} }
	for name, c := range map[string]struct {
		opts   []any
		method string
	}{
		"periodic":        {[]any{kept, object.WithDurability(object.Periodic(time.Second))}, "Change"},
		"no store":        {nil, "Change"},
		"concurrent":      {[]any{kept, object.WithMode(object.Concurrent)}, "Change"},
		"read-only":       {[]any{kept}, "Read"},
		"no transactions": {[]any{setup(basic)}, "Change"},
	} {
		bubble(t, name, func(t *testing.T) {
			w := start(t, c.opts...)
			_, err := w.call(bg, "Kept/x."+c.method, func(ctx context.Context, o *Thing) error {
				isFault(t, inside(ctx).OnCommit(hook), fault.Invalid, fault.NotExecuted)
				return nil
			})
			w.must(err)
		})
	}
	bubble(t, "bad moments", func(t *testing.T) {
		w := start(t, kept)
		var method context.Context
		_, err := w.call(bg, "x.Change", func(ctx context.Context, o *Thing) error {
			method = ctx
			isFault(t, inside(ctx).OnCommit(nil), fault.Invalid, fault.NotExecuted)
			for range maxHooks {
				w.must(inside(ctx).OnCommit(hook))
			}
			isFault(t, inside(ctx).OnCommit(hook), fault.Invalid, fault.NotExecuted)
			return nil
		})
		w.must(err)
		isFault(t, inside(method).OnCommit(hook), fault.Invalid, fault.NotExecuted)
		_, err = w.call(bg, "x.Change", func(ctx context.Context, o *Thing) error {
			w.must(w.delete(ctx, "x"))
			return inside(ctx).OnCommit(func(context.Context, object.Tx) error { t.Error("it ran"); return nil })
		})
		isFault(t, err, fault.Failed, fault.Executed)
		if r := w.stored("x"); r.Data != nil {
			t.Error("it is back:", r)
		}
	})
}

// basicStore is only the part that everybody has.
type basicStore struct{ object.PersistenceProvider }

// No more than a few hooks run at once; who waits too long is refused, and nothing of
// its call is kept. Calls without hooks go on.
func TestOnCommitQueues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, tab := start(t, kept), new(table)
		open := make(chan struct{})
		slow := func(context.Context, object.Tx) error { <-open; return nil }
		var first []*pending
		for i := range maxAlone {
			first = append(first, w.start(bg, fmt.Sprintf("o%d.Change", i), adds(slow)))
		}
		synctest.Wait()
		ctx, cancel := within(time.Second)
		defer cancel()
		_, err := w.call(ctx, "x.Change", adds(tab.insert("x")))
		if k := fault.KindOf(err); k != fault.Overloaded && k != fault.Deadline {
			t.Error(err)
		}
		w.want(bg, "y.Change", 1)
		waits := w.start(bg, "z.Change", adds(tab.insert("z")))
		if !waits.running() {
			t.Error("nine at once")
		}
		close(open)
		for _, p := range append(first, waits) {
			if n, err := p.wait(); n != 1 || err != nil {
				t.Error(n, err)
			}
		}
		tab.want(t, "z")
		w.want(bg, "x.Read", 0)
		if r := w.stored("x"); r.Version != 0 {
			t.Error(r)
		}
	})
}

// Who does not wait for the end leaves with an unknown outcome; the commit goes on.
func TestOnCommitAndADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, tab := start(t, kept), new(table)
		let := w.hold()
		ctx, cancel := within(time.Second)
		defer cancel()
		_, err := w.call(ctx, "x.Change", adds(tab.insert("a")))
		isFault(t, err, fault.Deadline, fault.OutcomeUnknown)
		next := w.start(bg, "x.Read")
		if !next.running() {
			t.Error("the turn was given on before the end was known")
		}
		let()
		if n, err := next.wait(); n != 1 || err != nil {
			t.Error(n, err)
		}
		tab.want(t, "a")
	})
}

// A node that stops lets a commit with hooks come to its end, or says that it does not
// know.
func TestOnCommitAndAStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, tab := start(t, kept), new(table)
		w.store.Fail(func(op memstore.Op) memstore.Fault {
			if op.Kind == memstore.Commit {
				return memstore.Fault{Err: errors.New("no answer")}
			}
			return memstore.Fault{}
		})
		p := w.start(bg, "x.Change", adds(tab.insert("a")))
		synctest.Wait()
		if err := w.close(); err == nil {
			t.Error("the stop did not say what was left")
		}
		_, err := p.wait()
		if fault.OutcomeOf(err) != fault.OutcomeUnknown {
			t.Error(err)
		}
	})
}
