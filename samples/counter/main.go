// Command counter is the smallest useful Goverse program: counters that survive
// restarts, reachable over HTTP.
package main

import (
	"context"

	"github.com/xiaonanln/goverse/goverseapi"
	counter_pb "github.com/xiaonanln/goverse/samples/counter/proto"
)

// Counter is one counter: it serves the service Counter of proto/counter.proto. Its
// methods run one at a time, so it needs no mutex, and what is in its State is stored.
type Counter struct {
	goverseapi.BaseObject
	goverseapi.State[*counter_pb.Value]
}

// Add changes the counter; the answer leaves when the new value is stored.
func (c *Counter) Add(ctx context.Context, req *counter_pb.AddRequest) (*counter_pb.Value, error) {
	c.State().Value += req.GetAmount()
	return c.State(), nil
}

// Read tells the value.
func (c *Counter) Read(ctx context.Context, req *counter_pb.ReadRequest) (*counter_pb.Value, error) {
	return c.State(), nil
}

func main() {
	goverseapi.RegisterObjectType(counter_pb.NewCounterType((*Counter)(nil)))
	goverseapi.Main()
}
