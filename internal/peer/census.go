package peer

import (
	"context"
	"time"

	"github.com/xiaonanln/goverse/object"
)

// Census is what a node knows of itself, for those who look at it. Errors are
// *fault.Error.
type Census interface {
	// Survey is what the node has counted. It counts for as long as it is asked, every
	// few seconds: the first answer has nothing in it yet.
	Survey(ctx context.Context) (*Survey, error)
	// LiveObjects is a page of the objects in the node's memory, in the order of their
	// types and ids. Objects come and go meanwhile: it is no snapshot.
	LiveObjects(ctx context.Context, q LiveQuery) ([]LiveObject, error)
	// Look is what the node knows of one object, and with state also that, but for what
	// is not to be shown. An object that is not in its memory is no error.
	Look(ctx context.Context, ref object.Ref, state bool) (*Sight, error)
	// Deactivate ends an object's activation once its state is stored, and returns when
	// it has ended; its next call begins another. It is refused while the state cannot be
	// stored. force: also where the state is kept nowhere, and is lost.
	Deactivate(ctx context.Context, ref object.Ref, force bool) (wasLive bool, err error)
	// Report takes in what a gate has counted. watched says that somebody surveys the
	// node, so that another report is wanted soon.
	Report(ctx context.Context, g GateSurvey) (watched bool, err error)
}

// Survey is what a node has counted. Two with the same Since can be compared: what they
// differ by happened in the time by which their Ages do.
type Survey struct {
	Since      uint64        // which counting this is; random
	Age        time.Duration // of the counting, by the node's clock
	Objects    int64         // in memory now
	Executions int64         // calls under way now
	Commits    uint64        // transactions with the store
	Types      []TypeSurvey
	Edges      []EdgeSurvey
	Top        []ObjectSurvey // those that are called most, the most first
	Gates      []GateSurvey   // that have reported to this node lately
	Now        time.Time      // by the node's clock as it answered; zero: it is of an earlier version
}

// TypeSurvey is about the objects of one type.
type TypeSurvey struct {
	Type        string
	Objects     int64 // in memory now
	Queued      int64 // calls that wait for a turn now
	Activations uint64
	Calls       uint64
	Errors      uint64   // of the calls
	Latency     []Bucket // of the calls, rising; none is empty
}

// Bucket is calls of about one length.
type Bucket struct {
	UpTo  time.Duration // the longest that it can have
	Calls uint64
}

// EdgeSurvey is how often objects of one type have called those of another.
type EdgeSurvey struct {
	From  string // a type, or one of the names below
	To    string
	Calls uint64
}

// Who calls without being an object. No type has such a name: types begin with a capital
// letter.
const (
	FromClient  = "client"
	FromProgram = "program" // a node's, outside its objects; also one-way messages
	FromOther   = "other"   // there are too many to tell apart
)

// ObjectSurvey is one of the objects that are called most.
type ObjectSurvey struct {
	Ref    object.Ref
	Calls  uint64 // at most
	Excess uint64 // by which Calls may be too many
}

// GateSurvey is what a gate has counted. Since and Age are as in Survey.
type GateSurvey struct {
	Address string
	Since   uint64
	Age     time.Duration
	Clients int64 // now
	Calls   uint64
	Pushes  uint64        // to clients
	Ago     time.Duration // in a Survey: how long ago it was reported
	Now     time.Time     // by the gate's clock as it reported; zero: it is of an earlier version
}

// ReportPatience is how long a report may be on its way to the node that takes it.
const ReportPatience = time.Second

// LiveQuery asks for a page of live objects.
type LiveQuery struct {
	Type   string     // "": of all
	Prefix string     // that their ids have
	After  object.Ref // behind this one; zero: from the beginning
	Limit  int        // 1 to MaxLive
}

// MaxLive is how many objects a page of live ones has at most.
const MaxLive = 1000

// LiveObject is an object in a node's memory.
type LiveObject struct {
	Ref      object.Ref
	Shard    int       // the number of shards: it is pinned to the node
	LastUsed time.Time // by the node's clock
	Queued   int       // calls that wait for a turn
}

// Sight is what a node knows of one object.
type Sight struct {
	Live       bool
	Phase      string // of a live one: "loading", "live" or "closing"
	Shard      int
	Pinned     bool   // to the node, by its id: Shard means nothing
	Epoch      uint64 // under which the node holds the shard; 0: it does not
	Version    uint64 // that is stored; 0: none, or not known
	Unsaved    bool   // what is in memory is not all stored
	Mode       string // as object.Mode has it
	Durability string // as object.Durability has it
	Created    time.Time
	LastUsed   time.Time
	Running    []LookedCall // inside now
	Queue      []LookedCall // the first of those that wait for a turn
	Queued     int          // all of them
	Recent     []LookedCall // while somebody looks; the newest first
	State      []byte       // JSON; of one that is not live, as it is stored
	Hidden     []string     // paths of fields that are not to be shown
	NoState    string       // why State is nil, where it was asked for
}

// LookedCall is a call as it is shown.
type LookedCall struct {
	Method  string
	Caller  string        // "client …", "Type/id.Method" or "program"
	At      time.Time     // when it began, or began to wait; zero: not known
	Took    time.Duration // of one that has ended
	Outcome string        // of one that has ended: "ok", or a fault's kind
}
