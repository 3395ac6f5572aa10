package main

import (
	"testing"

	greeter_pb "github.com/xiaonanln/goverse/cmd/goverse/starter/proto"
	"github.com/xiaonanln/goverse/goversetest"
)

// A door remembers who came, also when all its nodes were started anew.
func TestGreeter(t *testing.T) {
	types := []goversetest.Type{goversetest.Of(greeter_pb.NewGreeterType((*Greeter)(nil)))}
	goversetest.Sim(t, goversetest.Cluster{Nodes: 2, Types: types}, func(w *goversetest.World) {
		for times := range int64(3) {
			w.Want("Greeter/front", "Greet", &greeter_pb.GreetRequest{Name: "Ada"},
				&greeter_pb.Greeting{Text: "Hello Ada, at front!", Times: times + 1})
			w.Restart()
		}
		w.Want("Greeter/front", "Guests", &greeter_pb.GuestsRequest{}, &greeter_pb.Visits{Times: map[string]int64{"Ada": 3}})
	})
}
