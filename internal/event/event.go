// Package event holds what the engines have to say. An engine emits typed events
// and never logs, counts or notifies; logs, metrics, traces and tests listen.
package event

import (
	"fmt"
	"time"
)

// Listener receives events. A nil function is not called, and an emitter does not
// even build its event. Functions are called from many goroutines, in the middle
// of the work: they must be quick and must not call back into the emitter.
type Listener struct {
	// A node's objects.
	CallDone          func(CallDone)
	TurnAwaited       func(TurnAwaited)
	TurnDone          func(TurnDone)
	ObjectCreated     func(ObjectCreated)
	ObjectDeleted     func(ObjectDeleted)
	ObjectActivated   func(ObjectActivated)
	ObjectDeactivated func(ObjectDeactivated)
	MethodPanicked    func(MethodPanicked)
	MethodStuck       func(MethodStuck)
	MessageChanged    func(MessageChanged)
	CommitDone        func(CommitDone)
	StoreDone         func(StoreDone)
	ShardOpened       func(ShardOpened)
	ShardClosed       func(ShardClosed)
	HandoverDone      func(HandoverDone)

	// A gate's sessions.
	SessionOpened func(SessionOpened)
	SessionClosed func(SessionClosed)
	PushDropped   func(PushDropped)

	// The cluster.
	EtcdDone      func(EtcdDone)
	ViewChanged   func(ViewChanged)
	LeaderChanged func(LeaderChanged)
	Coordination  func(Coordination)

	// Everywhere.
	PushPassed         func(PushPassed)
	LimitReached       func(LimitReached)
	AccessDenied       func(AccessDenied)
	SensitiveOperation func(SensitiveOperation)

	// Notice is everything that a person should read and no program counts.
	Notice func(Notice)
}

// CallDone ends a call on an activation's node.
type CallDone struct {
	Type, ID, Method string
	Took             time.Duration
	Err              error
	Trace            *[16]byte // the id of the trace that has it; nil: it is in none that is kept
}

// ObjectCreated: CreateObject made an object.
type ObjectCreated struct{ Type, ID string }

// ObjectDeleted: an object and its stored state are gone.
type ObjectDeleted struct{ Type, ID string }

// ObjectActivated: an object came to life on this node.
type ObjectActivated struct {
	Type, ID string
	Stored   bool // from stored state
}

// ObjectDeactivated: an activation ended.
type ObjectDeactivated struct {
	Type, ID string
	Reason   string
}

// MethodPanicked: user code panicked; its activation is dropped. On a gate it was that of
// an interceptor.
type MethodPanicked struct {
	Type, ID, Method string
	Value            any
	Stack            []byte
}

// MethodStuck: a method has run for three times as long as its type allows, and still
// runs. Stacks is what all goroutines of this process were doing; it is taken once a
// minute at most, and empty in between.
type MethodStuck struct {
	Type, ID, Method string
	Runs             time.Duration // at least
	Stacks           []byte
}

// MessageChanged: an object changed a message that it shares with the other side of a
// call. Only a node that copies messages looks for it.
type MessageChanged struct {
	Type, ID, Method string // the method of the object, or its call, at whose end it was noticed
	Message          string // its full name
	Role             string // what the message was: "the request that Join got"
}

// String is the event in one sentence.
func (e MessageChanged) String() string {
	return fmt.Sprintf("%s/%s changed %s (a %s); noticed at %s", e.Type, e.ID, e.Role, e.Message, e.Method)
}

// CommitDone ends one group commit.
type CommitDone struct {
	Objects int
	Took    time.Duration
	Err     error
	// Window is how long the oldest change in it that was answered before it was saved,
	// of a periodic object, has waited: a crash would have lost so much. 0: none.
	Window time.Duration
}

// ShardOpened: this node serves the shard from now on.
type ShardOpened struct {
	Shard int
	Epoch uint64
}

// ShardClosed: this node serves the shard no longer.
type ShardClosed struct {
	Shard  int
	Epoch  uint64
	Reason string
}

// HandoverDone ends the emptying of a shard, and the laying of what it held at the next
// node.
type HandoverDone struct {
	Shard int
	Took  time.Duration
	Err   error // it has to be tried again
}

// SessionOpened: a client registered with the gate.
type SessionOpened struct{ ClientID string }

// SessionClosed: a client's session ended.
type SessionClosed struct {
	ClientID string
	Reason   string
}

// PushDropped: pushes to a client were given up.
type PushDropped struct {
	ClientID string
	Count    int
	Reason   string
}

// ViewChanged: the cluster's picture moved to a new revision.
type ViewChanged struct{ Revision int64 }

// LeaderChanged: another node leads, or none.
type LeaderChanged struct {
	Leader string
	Term   int64
}

// Coordination is one step of a shard's or a member's life, with its reason.
type Coordination struct {
	Step   string // "claim", "plan", "register", ...
	Detail string
	Err    error
}

// Severity ranks notices.
type Severity uint8

// The severities.
const (
	Info Severity = iota
	Warn
	Alarm
)

// Notice is a sentence for a person.
type Notice struct {
	Severity Severity
	From     string // the component: "gate", "etcd", ...
	Text     string
	Err      error
}

// String is the notice in one line.
func (n Notice) String() string {
	if n.Err != nil {
		return fmt.Sprintf("%s: %s: %v", n.From, n.Text, n.Err)
	}
	return n.From + ": " + n.Text
}
