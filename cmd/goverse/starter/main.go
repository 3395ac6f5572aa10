// Command starter greets who comes, and remembers them.
package main

import (
	"context"
	"fmt"

	greeter_pb "github.com/xiaonanln/goverse/cmd/goverse/starter/proto"
	"github.com/xiaonanln/goverse/goverseapi"
)

// Greeter is one door: it serves the service Greeter of proto/greeter.proto. Its methods run
// one at a time, so it needs no mutex, and what is in its State is stored.
type Greeter struct {
	goverseapi.BaseObject
	goverseapi.State[*greeter_pb.Visits]
}

// Greet counts; the answer leaves when the new count is stored.
func (g *Greeter) Greet(ctx context.Context, req *greeter_pb.GreetRequest) (*greeter_pb.Greeting, error) {
	visits := g.State()
	if visits.Times == nil {
		visits.Times = map[string]int64{}
	}
	visits.Times[req.GetName()]++
	times := visits.Times[req.GetName()]
	return &greeter_pb.Greeting{Text: fmt.Sprintf("Hello %s, at %s!", req.GetName(), g.Id()), Times: times}, nil
}

// Guests tells who came.
func (g *Greeter) Guests(ctx context.Context, req *greeter_pb.GuestsRequest) (*greeter_pb.Visits, error) {
	return g.State(), nil
}

func main() {
	goverseapi.RegisterObjectType(greeter_pb.NewGreeterType((*Greeter)(nil)))
	goverseapi.Main()
}
