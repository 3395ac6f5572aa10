package main

import (
	"context"
	"encoding/json"
	"net"
	"testing"

	"go.uber.org/goleak"

	"github.com/xiaonanln/goverse/gate/gateserver"
	"github.com/xiaonanln/goverse/goverseapi"
	"github.com/xiaonanln/goverse/object/objecttest"
	counter_pb "github.com/xiaonanln/goverse/samples/counter/proto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The log says what the store keeps, and what it does not offer: run it with -v.
func TestContract(t *testing.T) {
	objecttest.Run(t, func(testing.TB) goverseapi.PersistenceProvider { return NewMapStore() })
}

// freePort is a port that nobody has at the moment: a node's must be known before.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// The whole program, twice in a row, on one store.
func TestProgram(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a node, a gate and etcd: not with -short")
	}
	goverseapi.RegisterObjectType((*Counter)(nil))
	store, dir := NewMapStore(), t.TempDir()
	for run := range int64(2) {
		var s goverseapi.Standalone
		withStore(store)(&s)
		s.Server.DataDir, s.Server.ListenAddress = dir, freePort(t)
		s.Gate.ListenAddress, s.Gate.HTTPListenAddress = "localhost:0", "localhost:0"
		ctx, stop := context.WithCancel(t.Context())
		err := s.Run(ctx, func(*gateserver.GateServer) {
			defer stop()
			reply, err := goverseapi.CallObject(ctx, "Counter", "visits", "Add", &counter_pb.AddRequest{Amount: 5})
			if v, ok := reply.(*counter_pb.Value); err != nil || !ok || v.GetValue() != 5*(run+1) {
				t.Errorf("run %d answers %v, error %v", run, reply, err)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	data, err := store.LoadObject(t.Context(), "Counter", "visits")
	if err != nil || !json.Valid(data) {
		t.Errorf("stored is %q, error %v", data, err)
	}
	t.Logf("%s", data)
}
