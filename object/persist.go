package object

import (
	"context"
	"errors"
	"time"
)

// ErrNotStored is what LoadObject returns for an object that has no stored state.
var ErrNotStored = errors.New("no stored state")

// PersistenceProvider keeps the state of objects: the part that is easy to write.
// data is a JSON document (the type's ToData message in protojson, with its
// "@type"); a provider keeps it as it is. All methods may be called concurrently.
//
// A provider of only this keeps state across planned restarts. It cannot keep a
// deposed node from overwriting its successor: that takes a FencedProvider.
type PersistenceProvider interface {
	// SaveObject stores data as the object's whole state. When it returns nil the
	// state survives whatever the provider promises to survive.
	SaveObject(ctx context.Context, objType, objID string, data []byte) error
	// LoadObject returns what was saved last, or ErrNotStored.
	LoadObject(ctx context.Context, objType, objID string) ([]byte, error)
	// DeleteObject removes the state. An object without any is no error.
	DeleteObject(ctx context.Context, objType, objID string) error
}

// FencedProvider is a provider that knows who may write. Each shard has a fence
// (epoch and owner); a commit under an older fence takes no effect, and each
// object's version refuses the holder's own late save. See docs/format/sql.md.
type FencedProvider interface {
	PersistenceProvider

	// StoreID is the random identity that the store was created with.
	StoreID(ctx context.Context) (string, error)

	// Stamp writes the fences of shards for owner; the Owner fields of fences are not
	// looked at. A shard whose fence is higher, or equal with another owner, is refused
	// and returned with the fence it has. Stamping the same fence again is accepted.
	Stamp(ctx context.Context, owner string, fences []Fence) (refused []Fence, err error)

	// Load returns an object's record; Record.Version is 0 for an object that never
	// existed, and Record.Data is nil for one that was deleted.
	Load(ctx context.Context, ref Ref) (Record, error)

	// Commit applies the saves that their fence and version admit, each atomically
	// and on its own, and makes them durable before it returns. The verdicts are in the
	// order of the saves. With an error no verdict is given and each save's outcome is
	// unknown, unless the error is ErrNotCommitted; it is then repeated unchanged, and
	// a copy of a save that has landed is Committed at its version. Deleting what does
	// not exist is Committed at Base and writes nothing. An object occurs at most once
	// in saves. owner is who stamped the fences.
	Commit(ctx context.Context, owner string, saves []Save) ([]Verdict, error)

	// Lanes is how many commits may usefully run at the same time, at least 1.
	Lanes() int
}

// ErrNotCommitted says that surely none of the saves of a Commit took effect.
var ErrNotCommitted = errors.New("nothing was committed")

// ErrOtherHistory says that a store goes on with another history than the one that was
// adopted, so nothing was read or written: see HistoryKeeper.
var ErrOtherHistory = errors.New("the store's history is another one")

// ErrCallRecorded says that a save was Rejected because one of its calls has a record.
var ErrCallRecorded = errors.New("the call has a record already")

// Fence is who may write the objects of a shard.
type Fence struct {
	Shard int
	Epoch uint64
	Owner string // "<address>#<registration>"
}

// Record is an object's saved state.
type Record struct {
	Data    []byte // JSON; nil: deleted
	Version uint64 // counts the saves of the object, deletions included; 0: never saved
	Created time.Time
}

// Save is one object's new state, to be applied if the fence of its shard is
// {Shard, Epoch, owner} and the stored version is Base.
type Save struct {
	Ref    Ref
	Data   []byte // JSON; nil deletes
	Base   uint64 // the version this state was made from; 0: no record exists
	Shard  int
	Epoch  uint64
	SaveID [16]byte // fresh for every new save, equal when the same save is repeated; zero is Rejected

	// Kept in the same commit, or not at all; only for an ExactlyOnceProvider.
	Calls   []CallRecord
	Effects []Effect
}

// Verdict says what became of one Save.
type Verdict struct {
	Kind    VerdictKind
	Version uint64 // Committed: the version it made
	Err     error  // Rejected: why
}

// VerdictKind is one of the ends of a save.
type VerdictKind uint8

const (
	// Committed: durable, at Version.
	Committed VerdictKind = iota + 1
	// FenceLost: someone else holds the shard; nothing of this attempt took effect.
	FenceLost
	// Conflict: the stored version is not Base; nothing of this attempt took effect.
	Conflict
	// Rejected: the store does not take this data (Err); other saves are unaffected.
	Rejected
	// Uncertain: it failed (Err) in a store that cannot tell whether it took effect.
	Uncertain
)
