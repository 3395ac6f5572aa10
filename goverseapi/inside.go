package goverseapi

import (
	"context"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// Flush, in a method of a Periodic type and with the method's context, returns when
// all that the object has changed so far is durable. An error says that it is not yet;
// the object goes on, and its changes are saved with the next interval. Durable types
// need no Flush, their replies wait; for these, Volatile and Transactional types it is
// ErrInvalid.
func Flush(ctx context.Context) error {
	in, err := inside(ctx, "Flush")
	if err != nil {
		return err
	}
	return in.Flush(ctx)
}

// inside is the method that ctx belongs to.
func inside(ctx context.Context, what string) (object.Inside, error) {
	rt, _ := object.RuntimeFrom(ctx)
	if in, ok := rt.(object.Inside); ok {
		return in, nil
	}
	return nil, fault.New(fault.Invalid, "it is for methods: call it inside one, with the method's context").On(what, "")
}

// OnCommit, in a method of a Durable type and with the method's context, lets hook run
// in the very transaction that commits what the method does to its object: both take
// effect, or neither. It runs after the method has returned, perhaps more than once
// before one attempt counts, and for at most about two seconds; until then the object's
// next call waits. It may use tx, and nothing else: no other calls, no pushes. If it
// fails or panics, the call fails with its error, nothing of the call is kept in the
// store, and the object is loaded anew, or put back where the type is Transactional.
// A method that returns an error and is not Transactional keeps its changes, and so its
// hooks run.
//
// The store's package gives tx its native form: sqlite.TxOf, postgres.TxOf. It is
// ErrInvalid where there is no such commit: in other types and read-only methods, in
// Concurrent types, on stores without transactions.
func OnCommit(ctx context.Context, hook func(ctx context.Context, tx object.Tx) error) error {
	in, err := inside(ctx, "OnCommit")
	if err != nil {
		return err
	}
	return in.OnCommit(hook)
}
