package object

import (
	"context"

	"google.golang.org/protobuf/proto"
)

// Inside is what the Runtime in a method's context offers beside: what only a method
// may ask for.
type Inside interface {
	// Flush returns when all that the object has changed so far is durable.
	Flush(ctx context.Context) error
	// OnCommit lets hook run in the transaction that commits the method's state.
	OnCommit(hook Hook) error
	// Publish sends a change of the object to all who have subscribed to it.
	Publish(ctx context.Context, change proto.Message) error
}

// Hook is a program's own work in the transaction that commits an object's state.
type Hook func(ctx context.Context, tx Tx) error
