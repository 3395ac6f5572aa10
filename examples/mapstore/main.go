// Command mapstore shows a program that brings a store of its own: counters kept by
// the MapStore of store.go. Its test asks objecttest what such a store keeps.
//
//	go run ./examples/mapstore
//	curl -d '{"amount": 5}' localhost:48000/api/v1/objects/Counter/visits/Add
package main

import (
	"context"
	"io"

	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/goverseapi"
	counter_pb "github.com/xiaonanln/goverse/samples/counter/proto"
)

// Counter is one counter.
type Counter struct {
	goverseapi.BaseObject
	value int64
}

// Add changes the counter; the answer leaves when the store has the new value.
func (c *Counter) Add(ctx context.Context, req *counter_pb.AddRequest) (*counter_pb.Value, error) {
	c.value += req.GetAmount()
	return &counter_pb.Value{Value: c.value}, nil
}

// ToData is the state to store.
func (c *Counter) ToData() (proto.Message, error) { return &counter_pb.Value{Value: c.value}, nil }

// FromData takes stored state, nil for a new counter.
func (c *Counter) FromData(data proto.Message) error {
	if v, ok := data.(*counter_pb.Value); ok {
		c.value = v.GetValue()
	}
	return nil
}

// withStore makes a program keep its objects in store instead of SQLite.
func withStore(store goverseapi.PersistenceProvider) goverseapi.Option {
	return func(s *goverseapi.Standalone) {
		s.Server.OpenStore = func(context.Context, string, func(string, error)) (goverseapi.PersistenceProvider, io.Closer, error) {
			return store, io.NopCloser(nil), nil
		}
	}
}

func main() {
	goverseapi.RegisterObjectType((*Counter)(nil))
	goverseapi.Main(withStore(NewMapStore()))
}
