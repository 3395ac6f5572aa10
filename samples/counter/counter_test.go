package main

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/xiaonanln/goverse/goversetest"
	counter_pb "github.com/xiaonanln/goverse/samples/counter/proto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var house = goversetest.Cluster{Types: []goversetest.Type{goversetest.Of(counter_pb.NewCounterType((*Counter)(nil)))}}

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

// A counter goes from node to node, and its callers do not see it: the nodes are
// restarted one by one, one is killed, and each addition counts once.
func TestCounterInACluster(t *testing.T) {
	three := house
	three.Nodes = 3
	goversetest.Run(t, three, func(w *goversetest.World) {
		counter := counter_pb.NewCounterRef(w.Connect(), "x")
		add := func(want int64) {
			w.T.Helper()
			reply, err := counter.Add(w.T.Context(), &counter_pb.AddRequest{Amount: 1})
			if err != nil || reply.GetValue() != want {
				w.T.Fatalf("the counter is %v, %v; want %d", reply, err, want)
			}
		}
		add(1)
		w.Restart(w.Holder("Counter/x"))
		add(2)
		w.Stop(w.Holder("Counter/x"))
		add(3)
		if w.Simulated() {
			w.Crash(w.Holder("Counter/x"))
			add(4)
		}
	})
}
