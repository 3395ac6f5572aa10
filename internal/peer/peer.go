// Package peer is the road between the processes of a cluster. Conn is its one
// seam: over gRPC between processes, in place of it a plain function call on the
// same process (Loopback), and an in-memory network for tests (Mem).
package peer

import (
	"context"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/xiaonanln/goverse/object"
)

// Request is a call on its way to the node that should hold its object. Caller and
// chain travel in the context (internal/callctx), and so does the deadline.
type Request struct {
	object.Call
	Shard int
	Epoch uint64 // the epoch that the sender routed by; 0 when it has none
	Hops  int
}

// PushFrame is a pushed message on its way to a gate.
type PushFrame struct {
	ClientIDs []string // of this gate; empty with Broadcast
	Broadcast bool
	Message   *anypb.Any
	JSON      []byte // the same in protojson, for clients that speak JSON
}

// Service is what a process offers its peers. Errors are *fault.Error.
type Service interface {
	// ServeCall runs a call on an object of this node.
	ServeCall(ctx context.Context, req *Request) (object.Payload, error)
	// ServePushes hands deliver, one at a time and in order, what this node's objects
	// push to the clients of gate, until ctx ends or deliver fails. ready is called
	// once, when pushes made from then on will be delivered.
	ServePushes(ctx context.Context, gate string, ready func(), deliver func(PushFrame) error) error
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
