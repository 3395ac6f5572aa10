package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/memstore"
)

func TestReplyAfterCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept)
		let := w.hold()
		first := w.start(bg, "x.Change")
		if !first.running() {
			t.Fatal("answered before the commit")
		}
		second := w.start(bg, "x.Change") // runs on what is not durable yet
		if !second.running() {
			t.Fatal("answered before the commit")
		}
		reader := w.start(bg, "x.Read")
		if !reader.running() {
			t.Fatal("a read showed what a crash would take back")
		}
		failing := w.start(bg, "x.Change", func(_ context.Context, o *Thing) error { o.N += 10; return errUser })
		if !failing.running() {
			t.Fatal("an error left before the state that its method left behind")
		}
		if len(w.store.Refs()) != 0 {
			t.Fatal("stored already")
		}
		w.want(bg, "y.Read", 0) // nothing to wait for
		let()
		for i, p := range []*pending{first, second, reader} {
			if n, err := p.wait(); n != []int64{1, 2, 2}[i] || err != nil {
				t.Error(i, n, err)
			}
		}
		if _, err := failing.wait(); !errors.Is(err, errUser) {
			t.Error(err)
		}
		w.wantStored("x", 12, 2) // the second save held what three calls had left
	})
}

// Replies leave in the order of their commits, each as soon as its own is durable.
func TestRepliesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept)
		gates := make(chan chan struct{}, 100)
		w.store.Fail(func(op memstore.Op) memstore.Fault {
			if op.Kind != memstore.Commit {
				return memstore.Fault{}
			}
			g := make(chan struct{})
			gates <- g
			return memstore.Fault{Wait: g}
		})
		var calls []*pending
		for range 6 {
			calls = append(calls, w.start(bg, "x.Change"))
			synctest.Wait()
		}
		close(<-gates) // the first alone
		synctest.Wait()
		for i, p := range calls {
			if p.running() != (i > 0) {
				t.Errorf("call %d after the first commit: running=%v", i, p.running())
			}
		}
		calls = append(calls, w.start(bg, "x.Change"))
		synctest.Wait()
		close(<-gates) // the second to sixth together
		synctest.Wait()
		for i, p := range calls {
			if p.running() != (i > 5) {
				t.Errorf("call %d after the second commit: running=%v", i, p.running())
			}
		}
		close(<-gates)
		calls[6].wait()
		w.wantStored("x", 7, 3)
	})
}

func TestUnchangedStateIsNotSaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept)
		w.want(bg, "x.Change", 1)
		w.want(bg, "x.Other", 1)
		w.want(bg, "x.Read", 1)
		w.wantStored("x", 1, 1)
		let := w.hold()
		first := w.start(bg, "x.Change")
		synctest.Wait()
		same := w.start(bg, "x.Other") // changes nothing, but has seen the first's state
		if !same.running() {
			t.Error("answered before what it saw was durable")
		}
		let()
		first.wait()
		same.wait()
		w.wantStored("x", 2, 2)
	})
}

// What fails when a commit fails: the calls that it covers, and no other. Memory is
// never ahead of the store afterwards.
func TestFailedCommit(t *testing.T) {
	lost := errors.New("the answer was lost")
	for _, c := range []struct {
		name    string
		fault   memstore.Fault
		before  func(w *world) // before the commit goes on
		kind    fault.Kind     // 0: it succeeds all the same
		outcome fault.Outcome
		n       int64  // what the store has in the end
		version uint64 // and its version
	}{
		{name: "not committed", fault: memstore.Fault{Err: object.ErrNotCommitted}, kind: fault.StoreFailed, outcome: fault.NotExecuted, n: 1, version: 1},
		{name: "conflict", before: func(w *world) {
			w.must(w.store.SaveObject(bg, "Kept", "x", []byte(`{"@type":"type.googleapis.com/google.protobuf.Int64Value","value":"50"}`)))
		}, kind: fault.StoreFailed, outcome: fault.NotExecuted, n: 50, version: 2},
		{name: "deleted by a tool", before: func(w *world) { w.must(w.store.DeleteObject(bg, "Kept", "x")) }, kind: fault.StoreFailed, outcome: fault.NotExecuted, n: 0, version: 2},
		{name: "fence lost", before: func(w *world) { w.depose("x") }, kind: fault.Fenced, outcome: fault.OutcomeUnknown, n: 1, version: 1},
		{name: "unknown, not applied", fault: memstore.Fault{Err: lost}, n: 6, version: 3},
		{name: "unknown, applied", fault: memstore.Fault{Err: lost, Applied: true}, n: 6, version: 3},
		{name: "unknown, lands late", fault: memstore.Fault{Err: lost, Held: true}, n: 6, version: 3},
	} {
		bubble(t, c.name, func(t *testing.T) {
			w := start(t, kept)
			w.want(bg, "x.Change", 1)
			w.want(bg, "y.Change", 1)
			let := w.holdAs(c.fault)
			var covered []*pending
			for range 5 { // the first is on its way, four wait
				covered = append(covered, w.start(bg, "x.Change"))
				synctest.Wait()
			}
			covered = append(covered, w.start(bg, "x.Read"))
			synctest.Wait()
			if c.before != nil {
				c.before(w)
			}
			let()
			for i, p := range covered {
				n, err := p.wait()
				if c.kind == 0 {
					if err != nil || n != min(int64(i)+2, 6) {
						t.Error(i, n, err)
					}
					continue
				}
				isFault(t, err, c.kind, c.outcome)
			}
			w.store.Land()
			w.want(bg, "y.Change", 2) // another object in the same lane
			if c.kind == fault.Fenced {
				_, err := w.call(bg, "x.Read")
				isFault(t, err, fault.WrongHolder, fault.NotExecuted)
				w.epoch += 2
				w.open()
			}
			w.want(bg, "x.Read", c.n)
			if r := w.stored("x"); r.Version != c.version {
				t.Errorf("version %d, want %d", r.Version, c.version)
			}
			w.want(bg, "x.Change", c.n+1)
		})
	}
}

// depose stamps the shard of an object for somebody else.
func (w *world) depose(id string) {
	w.t.Helper()
	refused, err := w.store.Stamp(bg, "m:1#z", []object.Fence{{Shard: w.shardOf(id), Epoch: w.epoch + 1}})
	if err != nil || len(refused) > 0 {
		w.t.Fatal(refused, err)
	}
}

func TestFenceLostShutsTheShard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept)
		id := func(i int) string { return fmt.Sprintf("shard#3/o%d", i) }
		call := func(i int, method string) (int64, error) {
			p, err := w.Call(bg, object.Call{Ref: object.Ref{Type: "Kept", ID: id(i)}, Method: method})
			if err != nil {
				return 0, err
			}
			return p.Message.(*wrapperspb.Int64Value).Value, nil
		}
		for i := range 3 {
			if _, err := call(i, "Change"); err != nil {
				t.Fatal(err)
			}
		}
		w.depose(id(0))
		_, err := call(0, "Change")
		isFault(t, err, fault.Fenced, fault.OutcomeUnknown)
		synctest.Wait()
		select {
		case s := <-w.Lost():
			if s != 3 {
				t.Error(s)
			}
		default:
			t.Error("nobody is told")
		}
		for i := range 3 {
			_, err := call(i, "Read")
			isFault(t, err, fault.WrongHolder, fault.NotExecuted)
		}
		synctest.Wait()
		if w.NumObjects() != 0 {
			t.Error("something lives on")
		}
	})
}

// Once a copy of a save is on its way with an unknown end, "surely not committed"
// from a repetition says nothing of that copy.
func TestUnknownThenSurelyNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept)
		attempt := 0
		w.store.Fail(func(op memstore.Op) memstore.Fault {
			if op.Kind != memstore.Commit {
				return memstore.Fault{}
			}
			attempt++
			switch {
			case attempt == 1:
				return memstore.Fault{Err: errors.New("lost"), Held: true}
			case attempt < 5:
				return memstore.Fault{Err: object.ErrNotCommitted}
			}
			w.store.Land()
			return memstore.Fault{}
		})
		w.want(bg, "x.Change", 1)
		if attempt != 5 {
			t.Error("attempts:", attempt)
		}
		w.wantStored("x", 1, 1)
	})
}

// I9: version == count of committed saves, whatever becomes of them on the way.
func TestVersionsUnderARandomStore(t *testing.T) {
	for seed := range uint64(30) {
		bubble(t, fmt.Sprint("seed=", seed), func(t *testing.T) {
			w := start(t, kept, object.WithIdleTimeout(20*time.Millisecond))
			var mu sync.Mutex
			r := rand.New(rand.NewPCG(seed, 2))
			w.store.Fail(func(op memstore.Op) memstore.Fault {
				if op.Kind != memstore.Commit {
					return memstore.Fault{}
				}
				mu.Lock()
				defer mu.Unlock()
				wait := make(chan struct{})
				time.AfterFunc(time.Duration(r.IntN(5))*time.Millisecond, func() { close(wait) })
				f := memstore.Fault{Wait: wait}
				switch r.IntN(8) {
				case 0:
					f.Err = object.ErrNotCommitted
				case 1:
					f.Err, f.Applied = errors.New("lost"), true
				case 2:
					f.Err = errors.New("lost")
				case 3:
					f.Err, f.Held = errors.New("lost"), true
				}
				return f
			})
			type result struct {
				n   int64
				err error
			}
			results := make([][]result, 3)
			var all sync.WaitGroup
			for i := range results {
				for range 4 {
					all.Go(func() {
						for range 15 {
							n, err := w.call(bg, fmt.Sprintf("o%d.Change", i))
							mu.Lock()
							results[i] = append(results[i], result{n, err})
							pause := time.Duration(r.IntN(10)) * time.Millisecond
							mu.Unlock()
							time.Sleep(pause)
						}
					})
				}
			}
			all.Wait()
			w.store.Fail(nil)
			for i, rs := range results {
				seen, succeeded, unknown := map[int64]bool{}, int64(0), int64(0)
				for _, r := range rs {
					switch {
					case r.err == nil:
						if seen[r.n] {
							t.Errorf("o%d: %d was acknowledged twice", i, r.n)
						}
						seen[r.n] = true
						succeeded++
					case fault.OutcomeOf(r.err) == fault.OutcomeUnknown:
						unknown++
					case fault.KindOf(r.err) != fault.StoreFailed:
						t.Error(r.err)
					}
				}
				id := fmt.Sprintf("o%d", i)
				state, err := decodeState(w.stored(id).Data)
				w.must(err)
				n := state.(*wrapperspb.Int64Value).Value
				if n < succeeded || n > succeeded+unknown {
					t.Errorf("%s is %d after %d acknowledged and %d unknown calls", id, n, succeeded, unknown)
				}
				w.want(bg, id+".Read", n)
			}
		})
	}
}

func TestGroupCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept)
		const objects = 600
		let := w.hold()
		first := w.start(bg, "first.Change")
		synctest.Wait()
		var all []*pending
		for i := range objects {
			for range 3 { // three states of each, and one save
				all = append(all, w.start(bg, fmt.Sprintf("o%d.Change", i)))
			}
		}
		synctest.Wait()
		let()
		first.wait()
		for _, p := range all {
			if _, err := p.wait(); err != nil {
				t.Fatal(err)
			}
		}
		w.mu.Lock()
		got := fmt.Sprint(w.commits)
		w.mu.Unlock()
		if want := "[1 256 256 88]"; got != want {
			t.Errorf("commits of %s objects, want %s", got, want)
		}
		for i := range objects {
			w.wantStored(fmt.Sprintf("o%d", i), 3, 1)
		}
	})
}

func TestBatchIsBoundedInBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept)
		w.set(func(h *hooks) {
			h.toData = func(*Thing) (proto.Message, error) { return wrapperspb.String(strings.Repeat("x", 300<<10)), nil }
		})
		let := w.hold()
		var all []*pending
		for i := range 9 {
			all = append(all, w.start(bg, fmt.Sprintf("o%d.Change", i)))
			synctest.Wait()
		}
		let()
		for _, p := range all {
			p.wait()
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if got := fmt.Sprint(w.commits); got != "[1 4 4]" {
			t.Error(got)
		}
	})
}

func TestStatesThatCannotBeStored(t *testing.T) {
	for _, c := range []struct {
		name  string
		state func() (proto.Message, error)
		kind  fault.Kind
		says  string
	}{
		{"NUL", func() (proto.Message, error) { return wrapperspb.String("a\x00b"), nil }, fault.Invalid, "u0000"},
		{"NUL in a key", func() (proto.Message, error) {
			return structpb.NewStruct(map[string]any{"a\x00": 1})
		}, fault.Invalid, "u0000"},
		{"too large", func() (proto.Message, error) { return wrapperspb.String(strings.Repeat("x", MaxStateBytes)), nil }, fault.TooLarge, "at most 4194304"},
		{"too deep", func() (proto.Message, error) {
			v := structpb.NewNullValue()
			for range 1001 {
				v = structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{v}})
			}
			return v, nil
		}, fault.TooLarge, "deep"},
		{"invalid UTF-8", func() (proto.Message, error) { return wrapperspb.String("\xff"), nil }, fault.Invalid, "UTF-8"},
		{"nil", func() (proto.Message, error) { return nil, nil }, fault.Failed, "no message"},
		{"typed nil", func() (proto.Message, error) { return (*wrapperspb.Int64Value)(nil), nil }, fault.Failed, "no message"},
		{"an error", func() (proto.Message, error) { return nil, errUser }, fault.Failed, errUser.Error()},
	} {
		bubble(t, c.name, func(t *testing.T) {
			w := start(t, kept)
			w.want(bg, "x.Change", 1)
			w.set(func(h *hooks) { h.toData = func(*Thing) (proto.Message, error) { return c.state() } })
			_, err := w.call(bg, "x.Change")
			isFault(t, err, c.kind, fault.NotExecuted)
			if !strings.Contains(err.Error(), c.says) {
				t.Error(err)
			}
			w.set(func(h *hooks) { *h = hooks{} })
			w.want(bg, "x.Read", 1) // the previous state is kept
			w.wantStored("x", 1, 1)
		})
	}
	bubble(t, "escaped backslashes are no NUL", func(t *testing.T) {
		w := start(t, kept)
		w.set(func(h *hooks) {
			h.toData = func(*Thing) (proto.Message, error) { return wrapperspb.String(`\u0000 \\u0000`), nil }
			h.fromData = func(o *Thing, m proto.Message) error {
				if m != nil && m.(*wrapperspb.StringValue).Value != `\u0000 \\u0000` {
					t.Error("came back as", m)
				}
				return nil
			}
		})
		w.want(bg, "x.Change", 1)
		w.Drop(allShards(), "test")
		w.open()
		w.want(bg, "x.Read", 0)
	})
	bubble(t, "as large as possible", func(t *testing.T) {
		w := start(t, kept)
		w.set(func(h *hooks) {
			h.toData = func(*Thing) (proto.Message, error) {
				return wrapperspb.String(strings.Repeat("x", MaxStateBytes-100)), nil
			}
		})
		w.want(bg, "x.Change", 1)
	})
}

func TestStoredStateThatDoesNotFit(t *testing.T) {
	for _, data := range []string{`{"@type":"type.googleapis.com/no.such.Type","value":"1"}`, `{}`, `{"@type":"type.googleapis.com/google.protobuf.Int64Value","value":"x"}`} {
		synctest.Test(t, func(t *testing.T) {
			w := start(t, kept)
			w.must(w.store.SaveObject(bg, "Kept", "x", []byte(data)))
			_, err := w.call(bg, "x.Change")
			isFault(t, err, fault.StoreFailed, fault.NotExecuted)
			isFault(t, w.create(bg, "x"), fault.StoreFailed, fault.NotExecuted)
			if r := w.stored("x"); string(r.Data) != data || r.Version != 1 {
				t.Error("it was changed:", string(r.Data))
			}
			w.must(w.delete(bg, "x")) // whoever wants it gone gets it gone
			if r := w.stored("x"); r.Data != nil || r.Version != 2 {
				t.Error(r)
			}
			w.want(bg, "x.Change", 1)
			w.wantStored("x", 1, 3)
		})
	}
}

func TestStoreCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept)
		w.store.Fail(func(memstore.Op) memstore.Fault { return memstore.Fault{Err: errUser} })
		_, err := w.call(bg, "x.Change")
		isFault(t, err, fault.StoreFailed, fault.NotExecuted)
		isFault(t, w.delete(bg, "x"), fault.StoreFailed, fault.NotExecuted)
		w.store.Fail(nil)
		w.want(bg, "x.Change", 1)
	})
}

// odd is a store that does not keep its contract.
type odd struct {
	*memstore.Store
	answer func(saves []object.Save, vs []object.Verdict) []object.Verdict
}

func (s *odd) Commit(ctx context.Context, owner string, saves []object.Save) ([]object.Verdict, error) {
	vs, err := s.Store.Commit(ctx, owner, saves)
	return s.answer(saves, vs), err
}

func TestOddVerdicts(t *testing.T) {
	for _, c := range []struct {
		name    string
		answer  func(saves []object.Save, vs []object.Verdict) []object.Verdict
		outcome fault.Outcome
		kind    fault.Kind // 0: StoreFailed
	}{
		{"none", func([]object.Save, []object.Verdict) []object.Verdict { return nil }, fault.OutcomeUnknown, 0},
		{"too many", func(_ []object.Save, vs []object.Verdict) []object.Verdict { return append(vs, vs...) }, fault.OutcomeUnknown, 0},
		{"unknown kind", func([]object.Save, []object.Verdict) []object.Verdict { return make([]object.Verdict, 1) }, fault.OutcomeUnknown, 0},
		{"uncertain", func([]object.Save, []object.Verdict) []object.Verdict {
			return []object.Verdict{{Kind: object.Uncertain, Err: errUser}}
		}, fault.OutcomeUnknown, 0},
		{"rejected", func([]object.Save, []object.Verdict) []object.Verdict {
			return []object.Verdict{{Kind: object.Rejected, Err: errUser}}
		}, fault.NotExecuted, 0},
		{"version skipped", func(saves []object.Save, vs []object.Verdict) []object.Verdict {
			return []object.Verdict{{Kind: object.Committed, Version: saves[0].Base + 2}}
		}, fault.OutcomeUnknown, 0},
		{"rejected for what it is", func([]object.Save, []object.Verdict) []object.Verdict {
			return []object.Verdict{{Kind: object.Rejected, Err: fault.New(fault.TooLarge, "a test")}}
		}, fault.NotExecuted, fault.TooLarge},
	} {
		bubble(t, c.name, func(t *testing.T) {
			w := start(t, kept, setup(func(w *world, _ *Config) { w.provider = &odd{w.store, c.answer} }))
			_, err := w.call(bg, "x.Change")
			isFault(t, err, cmp.Or(c.kind, fault.StoreFailed), c.outcome)
		})
	}
}

// Two branches that read the same object wait for what they saw, both of them.
func TestFanOutReadsWaitForTheGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept)
		let := w.hold()
		change := w.start(bg, "x.Change")
		synctest.Wait()
		outer := w.start(bg, "Thing/a.Change", func(ctx context.Context, o *Thing) error {
			one, two := w.start(ctx, "x.Read"), w.start(ctx, "x.Read")
			if !one.running() || !two.running() {
				t.Error("a branch saw what is not durable")
			}
			let()
			one.wait()
			two.wait()
			return nil
		})
		if _, err := outer.wait(); err != nil {
			t.Error(err)
		}
		change.wait()
	})
}

// The same with branches that change it: each is answered once its own is durable.
func TestFanOutChangesWaitForTheGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept)
		let := w.hold()
		outer := w.start(bg, "Thing/a.Change", func(ctx context.Context, o *Thing) error {
			out := newBlock()
			one := w.start(ctx, "x.Change", func(ctx context.Context, o *Thing) error {
				o.N++
				_, err := w.call(ctx, "y.Change", out.run) // away, while the other branch comes
				return err
			})
			<-out.entered
			two := w.start(ctx, "x.Other", func(ctx context.Context, o *Thing) error { o.N += 10; return nil })
			if !two.running() {
				t.Error("the second branch was answered and nothing is durable")
			}
			let()
			if _, err := two.wait(); err != nil {
				t.Error(err)
			}
			close(out.let)
			_, err := one.wait()
			return err
		})
		if _, err := outer.wait(); err != nil {
			t.Error(err)
		}
		w.wantStored("x", 11, 1)
	})
}

// A re-entrant's reply does not wait: the outermost call commits for both.
func TestReentrantDoesNotCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept)
		let := w.hold()
		p := w.start(bg, "x.Change", func(ctx context.Context, o *Thing) error {
			o.N = 1
			_, err := w.call(ctx, "Thing/y.Change", func(ctx context.Context, _ *Thing) error {
				_, err := w.call(ctx, "x.Other", func(_ context.Context, o *Thing) error { o.N++; return nil })
				return err
			})
			o.N *= 10
			return err
		})
		if !p.running() {
			t.Error("the outermost was answered before its commit")
		}
		let()
		if n, err := p.wait(); n != 20 || err != nil {
			t.Error(n, err)
		}
		w.wantStored("x", 20, 1)
	})
}

func TestPanicOfAReentrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept)
		w.want(bg, "x.Change", 1)
		_, err := w.call(bg, "x.Change", func(ctx context.Context, o *Thing) error {
			o.N = 50
			_, err := w.call(ctx, "Thing/y.Change", func(ctx context.Context, y *Thing) error {
				_, err := w.call(ctx, "x.Other", func(_ context.Context, o *Thing) error { o.N = 99; panic("boom") })
				isFault(t, err, fault.Panicked, fault.Executed)
				return nil
			})
			if ctx.Err() == nil {
				t.Error("its activation is gone and its context goes on")
			}
			return err
		})
		isFault(t, err, fault.Panicked, fault.OutcomeUnknown)
		w.want(bg, "x.Change", 2)
		w.wantStored("x", 2, 2)
	})
}

func TestVolatileOption(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept, object.WithDurability(object.Volatile))
		synctest.Wait() // until it has looked for what other nodes left to be sent
		w.store.Fail(func(memstore.Op) memstore.Fault { t.Error("the store was asked"); return memstore.Fault{} })
		w.set(func(h *hooks) { h.toData = func(*Thing) (proto.Message, error) { t.Error("ToData"); return nil, nil } })
		w.must(w.create(bg, "x"))
		w.want(bg, "x.Change", 1)
		w.must(w.delete(bg, "x"))
		w.want(bg, "x.Change", 1)
		w.must(w.SaveAllObjects(bg))
	})
}

func TestDurableWithoutAStore(t *testing.T) {
	w := start(t, object.WithDurability(object.Durable))
	_, err := w.call(bg, "Kept/x.Change")
	isFault(t, err, fault.NotReady, fault.NotExecuted)
	w2 := start(t)
	w2.want(bg, "Kept/x.Change", 1) // by default it is then volatile
}

func TestSetPersistenceProviderTooLate(t *testing.T) {
	w := start(t)
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	w.SetPersistenceProvider(memstore.New())
}

// plain is a provider of only the easy part.
type plain struct {
	mu   sync.Mutex
	data map[string][]byte
	fail error
}

func (p *plain) SaveObject(_ context.Context, typ, id string, data []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fail == nil {
		p.data[typ+"/"+id] = data
	}
	return p.fail
}

func (p *plain) LoadObject(_ context.Context, typ, id string) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if data := p.data[typ+"/"+id]; data != nil {
		return data, p.fail
	}
	return nil, fmt.Errorf("plain: %w", object.ErrNotStored)
}

func (p *plain) DeleteObject(_ context.Context, typ, id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.data, typ+"/"+id)
	return p.fail
}

func TestPlainProvider(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &plain{data: map[string][]byte{}}
		w := start(t, object.WithIdleTimeout(time.Minute), setup(func(w *world, _ *Config) { w.provider = p }))
		for n := range int64(5) {
			w.want(bg, "Kept/x.Change", n+1)
		}
		w.idle()
		if _, err := w.call(bg, "Kept/x.Read", func(_ context.Context, o *Thing) error {
			if o.N != 5 || time.Since(o.CreationTime()) > time.Second {
				t.Error(o.N, o.CreationTime())
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		p.mu.Lock()
		p.fail = errUser
		p.mu.Unlock()
		_, err := w.call(bg, "Kept/x.Change")
		isFault(t, err, fault.StoreFailed, fault.OutcomeUnknown)
		p.mu.Lock()
		p.fail = nil
		p.mu.Unlock()
		w.want(bg, "Kept/x.Change", 6)
		w.must(w.delete(bg, "Kept/x"))
		if len(p.data) != 0 {
			t.Error("still there")
		}
		w.must(w.delete(bg, "Kept/x"))
		w.want(bg, "Kept/x.Change", 1)
		w.idle()
		w.must(w.delete(bg, "Kept/x"))
		if len(p.data) != 0 {
			t.Error("still there")
		}
	})
}
