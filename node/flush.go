package node

import (
	"context"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

var _ object.Inside = (*frame)(nil)

// Flush implements object.Inside: a periodic object saves itself on its method's turn,
// and the method waits.
func (f *frame) Flush(ctx context.Context) error {
	err := f.flush(ctx)
	if err != nil {
		return fault.Of(err).On("Flush", f.act.ref.String())
	}
	return nil
}

func (f *frame) flush(ctx context.Context) error {
	a := f.act
	switch {
	case a.keep == object.Durable:
		return fault.New(fault.Invalid, "the object is Durable: what a method changes is committed as a whole, before its reply leaves")
	case a.keep == object.Volatile:
		return fault.New(fault.Invalid, "the object is not stored")
	case a.typ.Transactional:
		return fault.New(fault.Invalid, "the type is Transactional: what is durable could not be undone when the method fails")
	case f.over():
		return fault.New(fault.Invalid, "the method has returned")
	}
	if err := a.mayAct(ctx); err != nil {
		return err
	}
	seq, err := a.keepState(records{})
	if err != nil {
		return err
	}
	f.acts() // it may land also where nobody waits for it
	if err := a.awaitDurable(ctx, seq); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.ended {
		f.more().flushed = true
	}
	return nil
}

// over says that the method has returned.
func (f *frame) over() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ended
}
