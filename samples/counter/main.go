// Command counter is the smallest useful Goverse program: counters that survive
// restarts, reachable over HTTP.
package main

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/goverseapi"
	counter_pb "github.com/xiaonanln/goverse/samples/counter/proto"
)

// Counter is one counter: it serves the service Counter of proto/counter.proto. Its
// methods run one at a time, so it needs no mutex.
type Counter struct {
	goverseapi.BaseObject
	value int64
}

// Add changes the counter; the answer leaves when the new value is stored.
func (c *Counter) Add(ctx context.Context, req *counter_pb.AddRequest) (*counter_pb.Value, error) {
	c.value += req.GetAmount()
	return &counter_pb.Value{Value: c.value}, nil
}

// Read tells the value.
func (c *Counter) Read(ctx context.Context, req *counter_pb.ReadRequest) (*counter_pb.Value, error) {
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

func main() {
	goverseapi.RegisterObjectType(counter_pb.NewCounterType((*Counter)(nil)))
	goverseapi.Main()
}
