package memstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// CommitWith is Commit of one save together with hook, which runs before it, unless
// it is clear already that the save does not count. Without SQL, a hook's work is
// what it gives to Then.
func (s *Store) CommitWith(ctx context.Context, owner string, save object.Save, hook func(context.Context, object.Tx) error) (object.Verdict, error) {
	op := Op{Kind: Commit, Owner: owner, Saves: []object.Save{save}}
	f, err := s.begin(ctx, op)
	if err != nil {
		return object.Verdict{}, err
	}
	if f.Err != nil && !f.Held && !f.Applied {
		return object.Verdict{}, f.Err
	}
	if v, writes := s.judge(owner, &save); !writes {
		if f.Err != nil {
			return object.Verdict{}, f.Err
		}
		return v, nil
	}
	then, err := runHook(ctx, hook)
	if err != nil {
		return object.Verdict{}, &object.HookError{Err: err}
	}
	vs, err := s.commit(f, op, then)
	if err != nil {
		return object.Verdict{}, err
	}
	return vs[0], nil
}

// judge is the verdict on a save with a hook, as things are now.
func (s *Store) judge(owner string, save *object.Save) (object.Verdict, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, writes := s.judgeLocked(owner, save)
	if v.Kind == object.Committed && v.Version == save.Base {
		v = object.Verdict{Kind: object.Rejected, Err: fault.New(fault.Invalid, "%s does not exist: its deletion cannot carry a hook", save.Ref)}
	}
	return v, writes
}

// hookTime bounds a hook that looks at its context.
const hookTime = 2 * time.Second

// runHook returns what is to happen if the transaction commits.
func runHook(ctx context.Context, hook func(context.Context, object.Tx) error) (then []func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, hookTime)
	defer cancel()
	t := &tx{open: true}
	defer func() {
		t.open = false
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	if err := hook(ctx, t); err != nil {
		return nil, err
	}
	return t.then, nil
}

// tx is what a hook gets. Only the hook's goroutine uses it.
type tx struct {
	open bool
	then []func()
}

// errNoSQL wraps errors.ErrUnsupported.
var errNoSQL = fmt.Errorf("memstore has no SQL: use memstore.Then: %w", errors.ErrUnsupported)

func (t *tx) Exec(context.Context, string, ...any) (int64, error) { return 0, errNoSQL }

func (t *tx) Query(context.Context, func([]any) error, string, ...any) error { return errNoSQL }

// Then lets f run when, and only if, the transaction commits, before anybody can see
// the new state: what SQL is to a hook elsewhere. f must not use the store. It
// panics if tx is no running transaction of a Store.
func Then(t object.Tx, f func()) {
	mine, ok := t.(*tx)
	if !ok || !mine.open {
		panic(fmt.Sprintf("memstore.Then: %T is no running transaction of a memstore", t))
	}
	mine.then = append(mine.then, f)
}
