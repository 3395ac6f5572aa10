package memstore_test

import (
	"cmp"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/memstore"
	"github.com/xiaonanln/goverse/object/objecttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestContract(t *testing.T) {
	objecttest.Run(t, func(testing.TB) object.PersistenceProvider { return memstore.New() })
}

func TestRewound(t *testing.T) {
	s := memstore.New()
	objecttest.RunRewound(t, s, func() (func() error, error) {
		past := s.Snapshot()
		return func() error { s.Restore(past); return nil }, nil
	})
}

var (
	ref   = object.Ref{Type: "T", ID: "x"}
	fence = object.Fence{Shard: 7, Epoch: 3, Owner: "n:1#a"}
)

func stamped(t *testing.T) *memstore.Store {
	t.Helper()
	s := memstore.NewWithID("store")
	if refused, err := s.Stamp(t.Context(), fence.Owner, []object.Fence{fence}); err != nil || len(refused) > 0 {
		t.Fatal(refused, err)
	}
	return s
}

func save(data string, base uint64, id byte) object.Save {
	return object.Save{Ref: ref, Data: []byte(data), Base: base, Shard: fence.Shard, Epoch: fence.Epoch, SaveID: [16]byte{id}}
}

func wantVersion(t *testing.T, s *memstore.Store, want uint64) {
	t.Helper()
	if r, err := s.Load(t.Context(), ref); err != nil || r.Version != want {
		t.Fatalf("stored is %+v, %v, want version %d", r, err, want)
	}
}

func TestFaults(t *testing.T) {
	lost := errors.New("the answer was lost")
	for _, c := range []struct {
		name  string
		fault memstore.Fault
		after uint64 // the stored version then
		land  uint64 // and after Land
	}{
		{"nothing happened", memstore.Fault{Err: object.ErrNotCommitted}, 0, 0},
		{"happened, answer lost", memstore.Fault{Err: lost, Applied: true}, 1, 1},
		{"happens later", memstore.Fault{Err: lost, Held: true}, 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := stamped(t)
			s.Fail(func(op memstore.Op) memstore.Fault {
				if op.Kind == memstore.Commit {
					return c.fault
				}
				return memstore.Fault{}
			})
			if vs, err := s.Commit(t.Context(), fence.Owner, []object.Save{save("1", 0, 1)}); !errors.Is(err, c.fault.Err) || vs != nil {
				t.Fatal(vs, err)
			}
			wantVersion(t, s, c.after)
			s.Land()
			wantVersion(t, s, c.land)
			s.Fail(nil)
			vs, err := s.Commit(t.Context(), fence.Owner, []object.Save{save("1", 0, 1)})
			if err != nil || vs[0] != (object.Verdict{Kind: object.Committed, Version: 1}) {
				t.Fatal("repeated:", vs, err)
			}
		})
	}
}

// A held commit that lands after a newer one, or after a new holder's stamp, does nothing.
func TestLateLanding(t *testing.T) {
	s, lost := stamped(t), errors.New("lost")
	hold := func(memstore.Op) memstore.Fault { return memstore.Fault{Err: lost, Held: true} }
	s.Fail(hold)
	data := []byte("1")
	late := save("", 0, 1)
	late.Data = data
	_, _ = s.Commit(t.Context(), fence.Owner, []object.Save{late})
	clear(data) // the caller's buffer is the caller's again
	s.Fail(nil)
	if vs, err := s.Commit(t.Context(), fence.Owner, []object.Save{save("2", 0, 2)}); err != nil || vs[0].Kind != object.Committed {
		t.Fatal(vs, err)
	}
	if vs := s.Land(); vs[0][0].Kind != object.Conflict {
		t.Fatal(vs)
	}
	s.Fail(hold)
	_, _ = s.Commit(t.Context(), fence.Owner, []object.Save{save("3", 1, 3)})
	s.Fail(nil)
	heir := object.Fence{Shard: fence.Shard, Epoch: fence.Epoch + 1, Owner: "n:2#b"}
	if refused, err := s.Stamp(t.Context(), heir.Owner, []object.Fence{heir}); err != nil || len(refused) > 0 {
		t.Fatal(refused, err)
	}
	if vs := s.Land(); vs[0][0].Kind != object.FenceLost {
		t.Fatal(vs)
	}
	wantVersion(t, s, 1)
	if s.Fence(fence.Shard) != heir || len(s.Refs()) != 1 {
		t.Fatal(s.Fence(fence.Shard), s.Refs())
	}
}

func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, release := stamped(t), make(chan struct{})
		s.Fail(func(op memstore.Op) memstore.Fault {
			if op.Kind != memstore.Commit {
				return memstore.Fault{}
			}
			return memstore.Fault{Wait: release}
		})
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := s.Commit(short, fence.Owner, []object.Save{save("1", 0, 1)})
		if !errors.Is(err, object.ErrNotCommitted) || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		wantVersion(t, s, 0)
		go func() {
			time.Sleep(time.Minute)
			close(release)
		}()
		start := time.Now()
		vs, err := s.Commit(t.Context(), fence.Owner, []object.Save{save("1", 0, 2)})
		if err != nil || vs[0].Kind != object.Committed || time.Since(start) != time.Minute {
			t.Fatal(vs, err, time.Since(start))
		}
	})
}

func TestBadStamps(t *testing.T) {
	s := memstore.New()
	for _, f := range []object.Fence{{Shard: 1}, {Shard: -1, Epoch: 1}, {Shard: 8192, Epoch: 1}, {Shard: 1, Epoch: 1 << 63}} {
		if _, err := s.Stamp(t.Context(), "o", []object.Fence{f}); err == nil {
			t.Errorf("%+v was stamped", f)
		}
	}
	if _, err := s.Stamp(t.Context(), "", []object.Fence{{Shard: 1, Epoch: 1}}); err == nil {
		t.Error("stamped for nobody")
	}
}

// What a hook gave to Then happens if the transaction commits, with the state; a
// commit that lands late takes it along.
func TestThen(t *testing.T) {
	lost := errors.New("lost")
	for _, c := range []struct {
		name   string
		fault  memstore.Fault
		hook   error
		before int // what was done when CommitWith returned
		after  int // and after Land
	}{
		{name: "commits", before: 1, after: 1},
		{name: "hook fails", hook: errors.New("no")},
		{name: "nothing happened", fault: memstore.Fault{Err: object.ErrNotCommitted}},
		{name: "answer lost", fault: memstore.Fault{Err: lost, Applied: true}, before: 1, after: 1},
		{name: "happens later", fault: memstore.Fault{Err: lost, Held: true}, after: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, done := stamped(t), 0
			s.Fail(func(op memstore.Op) memstore.Fault {
				if op.Kind == memstore.Commit {
					return c.fault
				}
				return memstore.Fault{}
			})
			try := func() error {
				_, err := s.CommitWith(t.Context(), fence.Owner, save("1", 0, 1), func(_ context.Context, tx object.Tx) error {
					memstore.Then(tx, func() { done++ })
					return c.hook
				})
				return err
			}
			if err, want := try(), cmp.Or(c.hook, c.fault.Err); !errors.Is(err, want) || done != c.before {
				t.Fatalf("error %v, want %v; done %d times", err, want, done)
			}
			s.Land()
			if done != c.after {
				t.Fatalf("done %d times after all has landed", done)
			}
			wantVersion(t, s, uint64(c.after))
			s.Fail(nil)
			if err := try(); !errors.Is(err, c.hook) || c.hook == nil && done != 1 {
				t.Fatalf("repeated: error %v, done %d times", err, done)
			}
		})
	}
}

// A hook may use the store, and may lose the object to somebody meanwhile.
func TestHookIsOvertaken(t *testing.T) {
	s, done := stamped(t), 0
	v, err := s.CommitWith(t.Context(), fence.Owner, save("1", 0, 1), func(ctx context.Context, tx object.Tx) error {
		memstore.Then(tx, func() { done++ })
		return s.SaveObject(ctx, ref.Type, ref.ID, []byte("2"))
	})
	if err != nil || v.Kind != object.Conflict || done != 0 {
		t.Fatal(v, err, done)
	}
}

// Each operation asks the plan before it does anything.
func TestEveryOperationMayFail(t *testing.T) {
	s, down, ctx := stamped(t), errors.New("down"), t.Context()
	saved := save("1", 0, 1)
	saved.Calls = []object.CallRecord{{ID: "c", Status: object.CallDone, Keep: time.Nanosecond}}
	saved.Effects = []object.Effect{{ID: "e", Kind: object.EffectPush, Target: object.Ref{ID: "client"}}}
	if vs, err := s.Commit(ctx, fence.Owner, []object.Save{saved}); err != nil || vs[0].Kind != object.Committed {
		t.Fatal(vs, err)
	}
	key := object.EffectKey{Shard: fence.Shard, Source: ref, Version: 1}
	asked := map[memstore.OpKind]bool{}
	s.Fail(func(op memstore.Op) memstore.Fault { asked[op.Kind] = true; return memstore.Fault{Err: down} })
	for kind, try := range map[memstore.OpKind]func() error{
		memstore.FindCall:       func() error { _, err := s.FindCall(ctx, ref, "c"); return err },
		memstore.RecentCalls:    func() error { _, _, err := s.RecentCalls(ctx, ref, 1); return err },
		memstore.PendingEffects: func() error { _, err := s.PendingEffects(ctx, 7, object.EffectKey{}, 1); return err },
		memstore.EndEffects:     func() error { _, err := s.EndEffects(ctx, fence, []object.EffectKey{key}); return err },
		memstore.CollectCalls:   func() error { _, err := s.CollectCalls(ctx, fence); return err },
		memstore.Confirm:        func() error { _, err := s.Confirm(ctx, fence.Owner, nil); return err },
		memstore.List:           func() error { _, err := s.List(ctx, "T", "", 1); return err },
	} {
		if err := try(); !errors.Is(err, down) || !asked[kind] {
			t.Errorf("%s: error %v, asked %v", kind, err, asked[kind])
		}
	}
	s.Fail(nil)
	if list, err := s.PendingEffects(ctx, fence.Shard, object.EffectKey{}, 9); err != nil || len(list) != 1 {
		t.Errorf("after EndEffects that did not happen: %v, %v", list, err)
	}
	if _, err := s.FindCall(ctx, ref, "c"); err != nil {
		t.Errorf("after CollectCalls that did not happen: %v", err)
	}
	s.Fail(func(memstore.Op) memstore.Fault { return memstore.Fault{Err: down, Applied: true} })
	if ok, err := s.EndEffects(ctx, fence, []object.EffectKey{key}); ok || !errors.Is(err, down) {
		t.Error(ok, err)
	}
	s.Fail(nil)
	if list, err := s.PendingEffects(ctx, fence.Shard, object.EffectKey{}, 9); err != nil || len(list) != 0 {
		t.Errorf("after EndEffects whose answer was lost: %v, %v", list, err)
	}
}
