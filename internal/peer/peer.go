// Package peer is the road between the processes of a cluster. Conn is its one
// seam: over gRPC between processes, in place of it a plain function call on the
// same process (Loopback), and an in-memory network for tests (Mem).
package peer

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/object"
)

// Request is a call on its way to the node that should hold its object. Caller and
// chain travel in the context (internal/callctx), and so does the deadline.
type Request struct {
	object.Call
	Shard int
	Epoch uint64 // by which the sender routed; 0 when it has none
	Hops  int    // how many processes have passed it on
	Relay string // set: the receiver passes it on to the node at this address
}

// Hearing is a gate's wish to hear a node's pushes, behind what it has heard.
type Hearing struct {
	Gate      string // its advertised address
	Resumable bool   // it goes on where an earlier stream broke off
	Queue     string // which the node named; "": it has heard nothing of the node
	Last      uint64 // the last frame of Queue that it has heard
}

// Opening is the beginning of a stream of pushes.
type Opening struct {
	Queue string // where frames have their numbers; "" where they have none
	Last  uint64 // the next frame has the next number
	Lost  bool   // pushes to clients of this gate were lost before
}

// PushFrame is a pushed message on its way to a gate.
type PushFrame struct {
	Seq       uint64   // in the queue of its Opening; 0 where there are no numbers
	ClientIDs []string // of this gate; empty with Broadcast
	Broadcast bool
	Message   *anypb.Any
	JSON      []byte // the same in protojson, for clients that speak JSON
	Slow      Slow   // what becomes of it at a client that does not keep up
	Key       string // not empty: it takes the place of one that still waits, with the same key
	Gap       bool   // instead of a message: some to these clients are lost

	// At is when it was made or came to this process; zero: nobody wants to know. It is not on
	// the wire, because no two machines' clocks agree.
	At time.Time

	Change *Change // instead of clients: Message is a change of this object
	Stream *Stream // instead of all that, and not on the wire
}

// Change says whose change a frame is. Versions are counted within an incarnation, which
// is a random number of the activation's, and goes along where its live state does.
type Change struct {
	Ref         object.Ref
	Incarnation uint64
	Version     uint64
	Ended       bool // there is no message: nothing more comes from this activation, and Version was its last
}

// Stream is what whoever follows several nodes' streams says of one, in its place among
// the stream's frames.
type Stream struct {
	Node string
	Up   bool // what is pushed from here on arrives; else something may be lost
}

// Slow is what becomes of a push when a client with a resumable session does not keep up.
// The numbers are on the wire.
type Slow uint8

// The fates.
const (
	DropOldest Slow = iota // the oldest that wait are dropped, and the client is told
	Disconnect             // the client's session ends
)

// Stage is live state of a shard on its way to the node that is to hold the shard
// next. It counts only if the shard's record then names this hand-over.
type Stage struct {
	Shard    int
	Handover string // random, one for each attempt
	Holder   string // "<address>#<registration>" of the sender
	Epoch    uint64 // under which the sender holds the shard
	Target   string // the receiver's registration; another one refuses
	Objects  []Staged
	Hops     int    // how many processes have passed it on
	Relay    string // set: the receiver passes it on to the node at this address
}

// Staged is one object's state, taken while nothing ran on it.
type Staged struct {
	Ref     object.Ref
	Seq     uint64 // of several for one object the highest counts
	Created time.Time
	State   []byte // a marshalled Any
	Gone    bool   // the object has no live state any more

	Incarnation uint64 // of what it publishes; 0: nobody has subscribed
	Published   uint64 // the version of its newest publication
}

// Probe follows a chain to what it waits for, and on to whom that waits for.
type Probe struct {
	Origin callctx.ChainID // the chain that waits and asks
	Chase  callctx.ChainID // the chain whose wait is followed
	At     object.Ref      // the object that it has called, which may have it waiting
	Path   []string        // the calls of the circle so far; never changed in place
}

// Size is about how many bytes the object takes on the road.
func (s *Staged) Size() int { return len(s.State) + len(s.Ref.Type) + len(s.Ref.ID) + 32 }

// Service is what a process offers its peers. Errors are *fault.Error.
type Service interface {
	// ServeCall runs a call on an object of this node.
	ServeCall(ctx context.Context, req *Request) (object.Payload, error)
	// ServePushes hands deliver, one at a time and in order, what this node's objects
	// push to the clients of a gate, until ctx ends or deliver fails; nil: the node has
	// nothing more to say. ready is called once, when pushes made from then on will be
	// delivered.
	ServePushes(ctx context.Context, h Hearing, ready func(Opening), deliver func(PushFrame) error) error
	// ServeStage keeps state aside until its shard is this node's, or is not. It may
	// come twice. nil means that all of it is kept.
	ServeStage(ctx context.Context, stage *Stage) error
	// ServeProbe returns the circle that the probe has closed, or nil.
	ServeProbe(ctx context.Context, probe *Probe) (circle []string, err error)
	// Records is what this node's store has.
	object.Records
	// Cataloger is what types this node has.
	object.Cataloger
	// Census is what this node knows of itself.
	Census
}

// Conn is a way to one peer. It connects by itself and may be used concurrently.
type Conn interface {
	Service
	// Close lets go of the connection; calls on their way end as Indeterminate.
	Close() error
}

// Dialer makes Conns by advertised address. Dial does not wait for a connection.
type Dialer interface {
	Dial(address string) (Conn, error)
}
