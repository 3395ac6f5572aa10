package objecttest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/object"
)

// historyChecks are for a store that knows when it was put back.
func historyChecks() []check {
	return []check{
		{name: "History", keeps: "a store's history has one name, whatever is saved, and no other is adopted", run: history, needs: remembers},
	}
}

func remembers(p object.PersistenceProvider) bool { _, ok := p.(object.HistoryKeeper); return ok }

func history(ctx context.Context, k *kit) error {
	store := k.PersistenceProvider.(object.HistoryKeeper)
	first, err := store.History(ctx)
	switch {
	case err != nil:
		return err
	case first == "":
		return errors.New("the history has no name")
	}
	h, err := k.hold(ctx, "a")
	if err != nil {
		return err
	}
	ref := k.ref("a")
	if err := h.wrote(ctx, ref, doc(1), 0); err != nil {
		return err
	}
	if err := store.AdoptHistory(ctx, first+"?"); err == nil {
		return fmt.Errorf("the history %q? was adopted", first)
	}
	if err := store.AdoptHistory(ctx, first); err != nil {
		return fmt.Errorf("the history that the store has was not adopted: %w", err)
	}
	if err := h.wrote(ctx, ref, doc(2), 1); err != nil {
		return fmt.Errorf("after its own history was adopted: %w", err)
	}
	if now, err := store.History(ctx); err != nil || now != first {
		return fmt.Errorf("the history is %q, and after some saves %q, error %v", first, now, err)
	}
	return nil
}

// RunRewound holds a HistoryKeeper to its promise on the day on which it is put back.
// mark remembers what the store has, and back puts it back to that, as an operator does;
// the store may be away for a moment then.
func RunRewound(t *testing.T, p object.HistoryKeeper, mark func() (back func() error, err error)) {
	ctx, cancel := context.WithTimeout(t.Context(), CheckTimeout)
	defer cancel()
	if err := rewound(ctx, newKit(p), mark); err != nil {
		t.Error(err)
	}
}

// past is who had what when the store was put back.
type past struct {
	*kit
	store      object.HistoryKeeper
	before     string // the history
	mine, lent *holder
	a, b       object.Ref
	late       []object.Save // of mine: copies that arrive afterwards
}

func rewound(ctx context.Context, k *kit, mark func() (func() error, error)) error {
	p, err := k.goBack(ctx, mark)
	if err != nil {
		return err
	}
	return steps(
		func() error { return p.notices(ctx) },
		func() error { return p.isAsItWas(ctx) },
		func() error { return p.beginsAnew(ctx) },
	)
}

// goBack has something saved before the mark and something after it.
func (k *kit) goBack(ctx context.Context, mark func() (func() error, error)) (p *past, err error) {
	p = &past{kit: k, store: k.PersistenceProvider.(object.HistoryKeeper), a: k.ref("a"), b: k.ref("b")}
	if p.before, err = p.store.History(ctx); err != nil {
		return nil, err
	}
	if p.mine, err = k.hold(ctx, "mine"); err != nil {
		return nil, err
	}
	first, err := k.hold(ctx, "first")
	if err != nil {
		return nil, err
	}
	if err := p.mine.wrote(ctx, p.a, doc(1), 0); err != nil {
		return nil, err
	}
	back, err := mark()
	if err != nil {
		return nil, fmt.Errorf("mark: %w", err)
	}
	if err := k.eventually(ctx, func() error { _, err := k.fp.Load(ctx, p.a); return err }); err != nil {
		return nil, err
	}
	if err := p.isStill(ctx); err != nil {
		return nil, err
	}
	p.late = []object.Save{p.mine.save(p.a, doc(8), 1), p.mine.save(p.a, doc(9), 2)}
	err = steps(
		func() error { return p.mine.wrote(ctx, p.a, doc(2), 1) },
		func() error { return p.mine.wrote(ctx, p.b, doc(3), 0) },
		func() error { p.lent, err = k.take(ctx, "lent", first.Shard); return err },
		func() error { return p.lent.wrote(ctx, k.ref("c"), doc(4), 0) },
		func() error { return p.isStill(ctx) }, // as a node asks, time and again
	)
	if err != nil {
		return nil, err
	}
	if err := back(); err != nil {
		return nil, fmt.Errorf("put back: %w", err)
	}
	return p, nil
}

func (p *past) isStill(ctx context.Context) error {
	if now, err := p.store.History(ctx); err != nil || now != p.before {
		return fmt.Errorf("the history was %q and is %q although nothing was put back, error %v", p.before, now, err)
	}
	return nil
}

// eventually tries again while a store that was away does not answer.
func (k *kit) eventually(ctx context.Context, try func() error) error {
	for {
		err := try()
		if err == nil {
			return nil
		}
		if pause(ctx, 10*time.Millisecond) != nil {
			return err
		}
	}
}

// notices: the history has another name, and nothing counts before that is adopted.
func (p *past) notices(ctx context.Context) error {
	var now string
	err := p.eventually(ctx, func() (err error) { now, err = p.store.History(ctx); return err })
	switch {
	case err != nil:
		return fmt.Errorf("the history of a store that was put back: %w", err)
	case now == p.before:
		return fmt.Errorf("the store was put back, and its history is %q still", now)
	}
	switch vs, err := p.mine.commit(ctx, p.late[1]); {
	case err == nil && vs[0].Kind == object.Committed:
		return errors.New("a save from what was undone was committed")
	case err != nil && !(errors.Is(err, object.ErrOtherHistory) && errors.Is(err, object.ErrNotCommitted)):
		return fmt.Errorf("a commit before the history was adopted: %w, want one that is ErrOtherHistory and ErrNotCommitted", err)
	}
	if err := p.store.AdoptHistory(ctx, p.before); err == nil {
		return errors.New("the history that is no more was adopted")
	}
	for range 2 {
		if err := p.store.AdoptHistory(ctx, now); err != nil {
			return fmt.Errorf("adopt: %w", err)
		}
	}
	p.before = now
	return p.isStill(ctx)
}

func (p *past) isAsItWas(ctx context.Context) error {
	if err := p.wantRecord(ctx, p.a, doc(1), 1); err != nil {
		return err
	}
	return p.wantRecord(ctx, p.b, nil, 0)
}

// beginsAnew: who held a shard stamps it at a fresh epoch, and nothing of before counts.
func (p *past) beginsAnew(ctx context.Context) error {
	if err := p.lent.want(ctx, p.lent.save(p.ref("c"), doc(5), 0), object.FenceLost, 0); err != nil {
		return fmt.Errorf("a save under a stamp that was undone: %w", err)
	}
	for _, h := range []*holder{p.mine, p.lent} {
		fresh := *h
		fresh.Epoch++
		if refused, err := p.fp.Stamp(ctx, fresh.Owner, []object.Fence{fresh.Fence}); err != nil || len(refused) > 0 {
			return fmt.Errorf("a stamp at a fresh epoch: refused by %+v, error %v", refused, err)
		}
		for _, late := range p.late {
			late.Shard = h.Shard
			if err := h.want(ctx, late, object.FenceLost, 0); err != nil {
				return fmt.Errorf("a save of before, after the fresh stamp: %w", err)
			}
		}
		*h = fresh
	}
	if err := p.mine.wrote(ctx, p.a, doc(6), 1); err != nil {
		return err
	}
	return p.wantRecord(ctx, p.a, doc(6), 2)
}
