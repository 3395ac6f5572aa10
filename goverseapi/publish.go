package goverseapi

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/object"
)

// Subscribable is what a type implements so that clients may subscribe to its objects:
// OnSubscribe returns the state as the client gets it first, and what the object's
// methods Publish follows. It runs as a read-only method, with the client's identity in
// ctx (CallerUserID and its like); its error refuses. In a Concurrent type the message
// is a copy that no method changes, and a change may already be in it.
type Subscribable = object.Subscribable

// Publish, in a method and with the method's context, sends a change of the object to
// every client that has subscribed to it, in the order of the calls of Publish and
// without a gap: who misses one gets the state anew. From a Durable object's method it
// leaves behind the method's commit, and not at all if that fails; from a Transactional
// type's when the method has succeeded; else at once. Nobody hears of it if nobody has
// subscribed. A change has at most 1 MiB, its JSON included. Read-only methods publish
// nothing.
func Publish(ctx context.Context, change proto.Message) error {
	in, err := inside(ctx, "Publish")
	if err != nil {
		return err
	}
	return in.Publish(ctx, change)
}
