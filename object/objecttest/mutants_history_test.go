package objecttest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/memstore"
)

func (m *mutant) History(ctx context.Context) (string, error) {
	if m.history != nil {
		return m.history(ctx)
	}
	return m.Store.History(ctx)
}

func (m *mutant) AdoptHistory(ctx context.Context, history string) error {
	if m.adopt != nil {
		return m.adopt(ctx, history)
	}
	return m.Store.AdoptHistory(ctx, history)
}

// markOf puts a mutant's store back.
func markOf(m *mutant) func() (func() error, error) {
	return func() (func() error, error) {
		past := m.Snapshot()
		return func() error { m.Restore(past); return nil }, nil
	}
}

var historyMutants = []brokenStore{
	{"History", "has no name", func(m *mutant) {
		m.history = func(context.Context) (string, error) { return "", nil }
	}},
	{"History", "changes with each save", func(m *mutant) {
		m.history = func(context.Context) (string, error) { return fmt.Sprint(len(m.Refs())), nil }
		m.adopt = func(ctx context.Context, history string) error {
			if now, _ := m.History(ctx); history != now {
				return object.ErrOtherHistory
			}
			return nil
		}
	}},
	{"History", "adopts anything", func(m *mutant) {
		m.adopt = func(context.Context, string) error { return nil }
	}},
	{"History", "adopts once", func(m *mutant) {
		m.adopt = func(context.Context, string) error { return errors.New("it has one already") }
	}},
	{"History", "does not answer", func(m *mutant) {
		m.history = func(context.Context) (string, error) { return "", errors.New("busy") }
	}},
}

// rewoundMutants are caught when they are put back.
var rewoundMutants = []brokenStore{
	{"", "does not notice", func(m *mutant) {
		m.history = func(context.Context) (string, error) { return "the same", nil }
		m.adopt = func(ctx context.Context, _ string) error {
			now, _ := m.Store.History(ctx)
			return m.Store.AdoptHistory(ctx, now)
		}
	}},
	{"", "names another history without reason", func(m *mutant) {
		asked := 0
		m.history = func(context.Context) (string, error) { asked++; return fmt.Sprint(asked), nil }
	}},
	{"", "commits from what was undone", func(m *mutant) {
		m.commit = func(ctx context.Context, owner string, saves []object.Save) ([]object.Verdict, error) {
			vs, err := m.Store.Commit(ctx, owner, saves)
			if errors.Is(err, object.ErrOtherHistory) {
				vs, err = []object.Verdict{{Kind: object.Committed, Version: saves[0].Base + 1}}, nil
			}
			return vs, err
		}
	}},
	{"", "does not say that nothing was committed", func(m *mutant) {
		m.commit = func(ctx context.Context, owner string, saves []object.Save) ([]object.Verdict, error) {
			vs, err := m.Store.Commit(ctx, owner, saves)
			if err != nil {
				err = object.ErrOtherHistory
			}
			return vs, err
		}
	}},
	{"", "adopts what is no more", func(m *mutant) {
		m.adopt = func(ctx context.Context, _ string) error {
			now, _ := m.Store.History(ctx)
			return m.Store.AdoptHistory(ctx, now)
		}
	}},
	{"", "adopts a history once only", func(m *mutant) {
		was := ""
		m.adopt = func(ctx context.Context, history string) error {
			if was == history {
				return errors.New("it was adopted before")
			}
			was = history
			return m.Store.AdoptHistory(ctx, history)
		}
	}},
	{"", "is not as it was", func(m *mutant) {
		m.record = func(ctx context.Context, ref object.Ref) (object.Record, error) {
			r, err := m.Store.Load(ctx, ref)
			if h, _ := m.Store.History(ctx); h != "put back 0 times" {
				r.Version++
			}
			return r, err
		}
	}},
	{"", "lets every epoch in", func(m *mutant) {
		m.eachSave(func(ctx context.Context, _ string, s object.Save) object.Verdict {
			owner, s := m.asHolder(s)
			return m.one(ctx, owner, s)
		})
	}},
	{"", "refuses a fresh stamp", func(m *mutant) {
		m.stamp = func(ctx context.Context, owner string, fences []object.Fence) ([]object.Fence, error) {
			if h, _ := m.Store.History(ctx); h != "put back 0 times" {
				return fences, nil
			}
			return m.Store.Stamp(ctx, owner, fences)
		}
	}},
}

// A store that is put back is caught where it does not say so, where it goes on as if
// nothing had been, and where what is of before counts.
func TestRewound(t *testing.T) {
	sound := &mutant{Store: memstore.New()}
	RunRewound(t, sound, markOf(sound))
	for _, mu := range rewoundMutants {
		t.Run(mu.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			m := &mutant{Store: memstore.New()}
			mu.breaks(m)
			err := rewound(ctx, newKit(m), markOf(m))
			if err == nil {
				t.Fatal("not caught")
			}
			t.Log(err)
		})
	}
}
