package event

import "time"

// TurnDone: a chain of calls has given its turn on an object up. Methods of Concurrent
// types take none.
type TurnDone struct {
	Type string
	Held time.Duration
}

// TurnAwaited: a call that had to wait for its object's turn has it, or waits no longer.
type TurnAwaited struct {
	Type string
	Took time.Duration
	Err  error
}

// PushPassed: a push has left a node for a gate, or a gate for a client.
type PushPassed struct {
	Leg  Leg
	Took time.Duration // since it was made, or came to the gate
}

// Leg is a part of a push's way.
type Leg uint8

// The legs.
const (
	ToGate   Leg = iota // on the object's node, its commit and the queue for the gate included
	ToClient            // on the gate, until the client's connection takes it

	NumLegs = iota
)

var legNames = [NumLegs]string{"node", "gate"}

// String is where a push goes the leg: node or gate.
func (l Leg) String() string { return legNames[l] }

// StoreDone ends a request to the store.
type StoreDone struct {
	Operation StoreOperation
	Took      time.Duration
	Err       error
}

// StoreOperation is what a node asks of its store.
type StoreOperation uint8

// The operations.
const (
	StoreLoad           StoreOperation = iota // an object's state
	StoreCommit                               // states, and what is kept with them
	StoreCommitWith                           // the same with hooks
	StoreStamp                                // who holds shards
	StoreConfirm                              // whether that is so still
	StoreFindCall                             // what became of a call
	StoreRecentCalls                          // an object's newest records of calls
	StorePendingEffects                       // what is to leave
	StoreEndEffects                           // what has left
	StoreCollect                              // what is over is forgotten
	StoreHistory                              // whether the store was put back
	StoreList                                 // for somebody who looks

	NumStoreOperations = iota
)

var storeNames = [NumStoreOperations]string{
	"load", "commit", "commit_with", "stamp", "confirm", "find_call", "recent_calls", "pending_effects", "end_effects",
	"collect", "history", "list",
}

// String is the operation's name, in lower case with underscores.
func (o StoreOperation) String() string { return storeNames[o] }

// EtcdDone ends a request to etcd.
type EtcdDone struct {
	Operation EtcdOperation
	Took      time.Duration
	Refused   bool // of a commit: its guards did not hold
	Err       error
}

// EtcdOperation is what a member asks of etcd.
type EtcdOperation uint8

// The operations. A watch is none: it does not end.
const (
	EtcdRange EtcdOperation = iota
	EtcdCommit
	EtcdGrant
	EtcdKeepAlive
	EtcdRevoke
	EtcdVersion

	NumEtcdOperations = iota
)

var etcdNames = [NumEtcdOperations]string{"range", "commit", "grant", "keep_alive", "revoke", "version"}

// String is the operation's name, in lower case with underscores.
func (o EtcdOperation) String() string { return etcdNames[o] }
