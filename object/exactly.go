package object

import (
	"context"
	"time"
)

// ExactlyOnceProvider keeps, in one commit with an object's state, the results of
// calls that have an id and the effects that are to leave. Within Commit:
//
//   - Save.Calls and Save.Effects are kept if the save is Committed, and not if it is
//     not. A copy of a save that has landed keeps nothing again.
//   - A call id that the object has a record of already, expired or not, makes the save
//     Rejected with ErrCallRecorded; so does, as an Invalid, the id of an effect of any
//     object that was not ended. Fence and version are judged first.
//   - A deletion may carry both. The records of an object outlive it. To delete what
//     does not exist, with records, is Rejected: there is no version to keep them at.
//   - A deleted object is not forgotten while an effect of it was not ended: one of its
//     name would begin its versions, and the keys of its effects, again.
type ExactlyOnceProvider interface {
	FencedProvider

	// FindCall returns the record of a call, or ErrNotStored. One that has expired
	// may be found as long as it was not collected.
	FindCall(ctx context.Context, ref Ref, callID string) (CallRecord, error)

	// RecentCalls returns the ids of an object's newest records, at most limit, and
	// whether these are all that it has, expired ones included: who remembers them need
	// not ask for others.
	RecentCalls(ctx context.Context, ref Ref, limit int) (ids []string, all bool, err error)

	// PendingEffects returns effects of a shard that were not ended, after a key, in
	// the order of their keys; the zero key is before all. At most limit.
	PendingEffects(ctx context.Context, shard int, after EffectKey, limit int) ([]PendingEffect, error)

	// EndEffects forgets effects of fence's shard that were delivered or given up. It
	// returns false, and forgets nothing, unless fence is the shard's.
	EndEffects(ctx context.Context, fence Fence, keys []EffectKey) (bool, error)

	// CollectCalls forgets records of fence's shard that have expired, at most 1000,
	// and returns how many. It does nothing unless fence is the shard's.
	CollectCalls(ctx context.Context, fence Fence) (int, error)
}

// CallRecord is what became of a call that has an id.
type CallRecord struct {
	ID      string // 1 to 512 bytes of UTF-8 without NUL; unique for the object
	Status  CallStatus
	Result  []byte        // the runtime's; a provider keeps it as it is, nil as empty
	Keep    time.Duration // above 0: how long the record is kept, by the provider's clock; set in a Save
	Version uint64        // of the object's state that has the call's effects; set by FindCall
}

// CallStatus is how a call ended.
type CallStatus uint8

const (
	// CallDone: the method returned a reply.
	CallDone CallStatus = iota + 1
	// CallFailed: the method returned an error of its own.
	CallFailed
	// CallNever: somebody settled that the call is not to run any more.
	CallNever
)

// Effect is something that is to leave after its object's commit: a one-way call or
// a push.
type Effect struct {
	ID       string // unique among those not ended, 1 to 512 bytes: the call id of the delivery
	Kind     EffectKind
	Target   Ref       // EffectPush: the type is empty, the id is the client's
	Payload  []byte    // the runtime's; a provider keeps it as it is
	NotAfter time.Time // it is given up then; zero: never. Kept to the microsecond
}

// EffectKind says what an effect is.
type EffectKind uint8

const (
	// EffectSend is a one-way call.
	EffectSend EffectKind = iota + 1
	// EffectPush is a message to a client.
	EffectPush
)

// EffectKey is an effect's place: effects of a shard are in the order of Source.Type,
// Source.ID, Version, Ord, compared as bytes and numbers.
type EffectKey struct {
	Shard   int
	Source  Ref
	Version uint64 // that the commit made
	Ord     int    // index in Save.Effects
}

// PendingEffect is an effect that was not ended yet.
type PendingEffect struct {
	Key EffectKey
	Effect
}

// TxProvider lets a program's own SQL commit together with an object's state.
type TxProvider interface {
	FencedProvider

	// CommitWith is Commit of one save in a transaction of its own, in which hook runs,
	// before the save or after it. What hook did counts if the save is Committed by this
	// transaction, and is undone with every other verdict, and for a copy of a save that
	// has landed: its hook has done its work. hook may not run at all if the save does
	// not count, and may run again if the transaction is repeated. An error of hook, or a
	// panic, undoes everything and is returned as a *HookError; nothing of the save took
	// effect. To delete what does not exist, with a hook, is Rejected. The transaction is
	// bounded to about two seconds: a hook that has not returned by then has failed.
	CommitWith(ctx context.Context, owner string, save Save, hook func(context.Context, Tx) error) (Verdict, error)
}

// Tx is the transaction that a hook of OnCommit may use, until it returns, from one
// goroutine. Arguments and results are as the provider's SQL has them. The provider's
// package tells how to come by its native form.
type Tx interface {
	// Exec runs a statement and returns how many rows it changed.
	Exec(ctx context.Context, sql string, args ...any) (int64, error)
	// Query hands each row of a query to f, which must not keep it; an error of f ends it.
	Query(ctx context.Context, f func(row []any) error, sql string, args ...any) error
}

// HookError says that a hook of OnCommit failed: nothing was committed.
type HookError struct{ Err error }

func (e *HookError) Error() string { return "the commit's hook: " + e.Err.Error() }

// Unwrap returns the hook's own error.
func (e *HookError) Unwrap() error { return e.Err }

// Lister shows what is stored, without any activation.
type Lister interface {
	// List returns live objects of a type in the order of their ids, compared as
	// bytes, after an id ("" is before all), at most limit. It leaves their state out.
	List(ctx context.Context, objType, after string, limit int) ([]Listed, error)
}

// Listed is one stored object.
type Listed struct {
	Ref     Ref
	Version uint64
	Created time.Time
	Updated time.Time
}

// FenceKeeper tells who may write: what a node asks the store while etcd is silent.
type FenceKeeper interface {
	FencedProvider

	// Confirm holds the fences of owner against the store's, each as it is at one instant
	// after Confirm began, and returns those that are not the store's; the Owner fields
	// of fences are not looked at. What was read from an object before Confirm began is
	// then the newest acknowledged state of each shard that is not returned.
	Confirm(ctx context.Context, owner string, fences []Fence) (lost []Fence, err error)
}

// ClusterBinder remembers which cluster a store belongs to.
type ClusterBinder interface {
	// BindCluster notes that the store belongs to cluster, if it belongs to none, and
	// returns the cluster that it belongs to. "" only asks.
	BindCluster(ctx context.Context, cluster string) (string, error)
}
