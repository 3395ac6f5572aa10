// Package etcdmanager is the only room of the house that touches etcd. It states
// what the cluster needs of a coordinator (KV), speaks it to a real etcd (Client),
// and keeps this process's lease alive (Lease).
//
// The same contract is kept by memkv, in memory, and is checked by kvtest.
package etcdmanager

import (
	"context"
	"errors"
	"time"
)

// KV is a linearizable key-value store with leases, guarded transactions and
// watches: the part of etcd that Goverse uses. All methods may be called
// concurrently. A method that takes a context returns soon after it ends.
type KV interface {
	// Range returns every key that begins with prefix, in order, as they stand at
	// one linearizable revision.
	Range(ctx context.Context, prefix string) (Page, error)

	// Commit evaluates the guards and applies one branch, atomically. An error that
	// is ErrNotApplied says that nothing was written; any other error leaves the
	// outcome unknown: the transaction may still be applied later.
	Commit(ctx context.Context, txn Txn) (Result, error)

	// Watch delivers every change below prefix from revision from on, in order of
	// revision, all changes of a revision in one batch. The channel is closed after
	// a batch whose Err is set, and when ctx ends. A connection that was lost is told
	// with a batch that is only Reconnected: the watch goes on, but a store that was
	// restored from a backup meanwhile goes on as if nothing had been.
	Watch(ctx context.Context, prefix string, from int64) <-chan Batch

	// Grant creates a lease and tells the TTL that was granted, at least the one
	// asked for.
	Grant(ctx context.Context, ttl time.Duration) (LeaseID, time.Duration, error)
	// KeepAlive renews a lease once and returns its full TTL. ErrLeaseNotFound says
	// that the lease has ended.
	KeepAlive(ctx context.Context, id LeaseID) (time.Duration, error)
	// Revoke ends a lease and deletes its keys in one step. A lease that is gone
	// already is no error.
	Revoke(ctx context.Context, id LeaseID) error

	// Version is the server's version, as in "3.5.13".
	Version(ctx context.Context) (string, error)

	// Close lets go of every connection. Watches end.
	Close() error
}

// LeaseID names a lease; zero is none.
type LeaseID int64

// Item is one key as it stands.
type Item struct {
	Key            string
	Value          []byte
	CreateRevision int64
	ModRevision    int64
	Lease          LeaseID
}

// Page is a picture of a prefix at Revision.
type Page struct {
	Revision int64
	Items    []Item
}

// Txn is one guarded transaction: Then is applied if every guard holds, else Else.
type Txn struct {
	If   []Guard
	Then []Op
	Else []Op
}

// MaxTxnOps bounds the compares and, separately, the operations of one
// transaction: etcd refuses more.
const MaxTxnOps = 128

// Guard is one compare. Make it with ValueIs, Alive, Absent, CreatedAt or RangeEmpty.
type Guard struct {
	Kind     GuardKind
	Key      string
	End      string // RangeEmpty: the first key that is outside
	Value    []byte
	Revision int64
}

// GuardKind says what a Guard compares.
type GuardKind uint8

const (
	GuardValueIs    GuardKind = iota + 1 // the key exists and has exactly this value
	GuardAlive                           // the key exists
	GuardAbsent                          // the key does not exist
	GuardCreatedAt                       // the key exists and was created at this revision
	GuardRangeEmpty                      // no key in [Key, End) exists
)

// ValueIs holds while key exists with exactly these bytes.
func ValueIs(key string, value []byte) Guard {
	return Guard{Kind: GuardValueIs, Key: key, Value: value}
}

// Alive holds while key exists.
func Alive(key string) Guard { return Guard{Kind: GuardAlive, Key: key} }

// Absent holds while key does not exist.
func Absent(key string) Guard { return Guard{Kind: GuardAbsent, Key: key} }

// CreatedAt holds while key is the incarnation that was created at revision.
func CreatedAt(key string, revision int64) Guard {
	return Guard{Kind: GuardCreatedAt, Key: key, Revision: revision}
}

// RangeEmpty holds while no key in [from, to) exists.
func RangeEmpty(from, to string) Guard { return Guard{Kind: GuardRangeEmpty, Key: from, End: to} }

// Op is one operation of a transaction. Make it with Put, Delete or Get.
type Op struct {
	Kind  OpKind
	Key   string
	Value []byte
	Lease LeaseID
}

// OpKind says what an Op does.
type OpKind uint8

const (
	OpPut    OpKind = iota + 1
	OpDelete        // one key
	OpGet           // one key
)

// Put writes key; the key lives as long as lease does, or for ever with none.
func Put(key string, value []byte, lease LeaseID) Op {
	return Op{Kind: OpPut, Key: key, Value: value, Lease: lease}
}

// Delete removes key.
func Delete(key string) Op { return Op{Kind: OpDelete, Key: key} }

// Get reads key.
func Get(key string) Op { return Op{Kind: OpGet, Key: key} }

// Result is what became of a transaction.
type Result struct {
	Held     bool  // the guards held: Then was applied
	Revision int64 // the store's revision after it
	Gets     []Got // one for each Get of the branch that was taken, in order
}

// Got is the answer of one Get.
type Got struct {
	Item   Item
	Exists bool
}

// Batch is all that changed at one revision, or the error that ends a watch.
type Batch struct {
	Revision    int64
	Events      []Event
	Reconnected bool // no revision: the connection was lost since the batch before
	Err         error
}

// Event is one change of one key.
type Event struct {
	Item    Item // with Deleted: the key and the revision of the deletion only
	Deleted bool
}

var (
	// ErrNotApplied: the transaction surely was not and will not be applied.
	ErrNotApplied = errors.New("not applied")
	// ErrLeaseNotFound: the lease has ended. A transaction that puts a key on such a
	// lease fails with it as a whole and also is ErrNotApplied.
	ErrLeaseNotFound = errors.New("lease not found")
	// ErrCompacted: a watch asked for a revision that the store no longer has.
	ErrCompacted = errors.New("revision compacted")
	// ErrNoSpace: the store is full and takes no puts; all else works. A transaction
	// that fails with it was decided before the answer: a read tells whether it was
	// applied, and it never will be later.
	ErrNoSpace = errors.New("no space left")
	// ErrClosed: the KV was closed.
	ErrClosed = errors.New("closed")
)

// PrefixEnd is the first key after all that begin with prefix.
func PrefixEnd(prefix string) string {
	b := []byte(prefix)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] < 0xff {
			b[i]++
			return string(b[:i+1])
		}
	}
	return "\x00"
}
