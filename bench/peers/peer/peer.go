// Package peer is the systems that are compared, each behind the same few calls. A peer
// uses its system as a program would that has the job: through its public API, set up as
// its documentation says. The README says how.
package peer

import (
	"context"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Objects is how many objects are called from far away. Callers begin at different ones.
const Objects = 256

// timeout is for the systems that want one for each call.
const timeout = 10 * time.Second

// Peer is one system.
type Peer struct {
	Name    string
	Version string // the module that is measured

	// Serve hosts Objects objects in a process of its own until ctx ends. nil: Dial
	// starts the process itself.
	Serve func(ctx context.Context, ready func(address string)) error
	// Dial makes this process one that calls what the other serves.
	Dial func(ctx context.Context, address string) (Far, error)
	// Open hosts objects in this process, with nothing far away unless the system cannot
	// do without. nil: it has no objects.
	Open func(ctx context.Context) (Near, error)
	// Most bounds how many objects are made: more would be another measurement. 0: none.
	Most int
}

// Made is how many of the objects that are asked for are made.
func (p *Peer) Made(asked int) int {
	if p.Most > 0 {
		return min(asked, p.Most)
	}
	return asked
}

// Far is the way to the objects of another process. Say may be called concurrently.
type Far interface {
	// Say calls an object, 0 to Objects-1.
	Say(ctx context.Context, object int, m *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error)
	Close() error
}

// Near hosts objects in this process.
type Near interface {
	// Prepare gets ready for objects 0 to n-1 without making them, so that what only the
	// benchmark needs is not measured.
	Prepare(n int)
	// Make makes an object that there is not yet and has it answer.
	Make(ctx context.Context, object int, m *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error)
	// Say calls an object that there is.
	Say(ctx context.Context, object int, m *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error)
	Close() error
}

// All is every peer, in the order of the table.
var All = []Peer{goversePeer, unaryPeer, streamPeer, protoPeer, aktPeer}

// Find is the peer of that name.
func Find(name string) (Peer, bool) {
	for _, p := range All {
		if p.Name == name {
			return p, true
		}
	}
	return Peer{}, false
}

// names are those of n objects.
func names(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = "object-" + strconv.Itoa(i)
	}
	return list
}
