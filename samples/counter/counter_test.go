package main

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/xiaonanln/goverse/goverseapi"
	"github.com/xiaonanln/goverse/goversetest"
	counter_pb "github.com/xiaonanln/goverse/samples/counter/proto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var house = goversetest.Cluster{Types: []goversetest.Type{goversetest.Of((*Counter)(nil), goverseapi.ReadOnlyMethods("Read"))}}

func TestCounter(t *testing.T) {
	goversetest.Run(t, house, func(w *goversetest.World) {
		w.Want("Counter/x", "Read", &counter_pb.ReadRequest{}, &counter_pb.Value{})
		w.Want("Counter/x", "Add", &counter_pb.AddRequest{Amount: 5}, &counter_pb.Value{Value: 5})
		w.Want("Counter/x", "Add", &counter_pb.AddRequest{Amount: -2}, &counter_pb.Value{Value: 3})
		w.Want("Counter/y", "Read", &counter_pb.ReadRequest{}, &counter_pb.Value{})
		w.Restart()
		w.Want("Counter/x", "Read", &counter_pb.ReadRequest{}, &counter_pb.Value{Value: 3})
		w.Want("Counter/x", "Add", &counter_pb.AddRequest{Amount: 1}, &counter_pb.Value{Value: 4})
		if err := w.Delete("Counter/x"); err != nil {
			w.T.Fatal(err)
		}
		w.Want("Counter/x", "Read", &counter_pb.ReadRequest{}, &counter_pb.Value{})
	})
}

func TestKilledCounter(t *testing.T) {
	goversetest.Sim(t, house, func(w *goversetest.World) {
		w.Want("Counter/x", "Add", &counter_pb.AddRequest{Amount: 5}, &counter_pb.Value{Value: 5})
		w.Kill()
		w.Want("Counter/x", "Read", &counter_pb.ReadRequest{}, &counter_pb.Value{Value: 5})
	})
}
