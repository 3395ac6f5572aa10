package fleet

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/xiaonanln/goverse/bench/load/child"
	"github.com/xiaonanln/goverse/bench/load/meter"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/embedded"
	"github.com/xiaonanln/goverse/gate/gateserver"
	"github.com/xiaonanln/goverse/goverseapi"
	"github.com/xiaonanln/goverse/util/logger"
)

// What a child is told of its cluster.
const (
	etcdEnv = "GOVERSE_BENCH_ETCD" // where its etcd is
	dirEnv  = "GOVERSE_BENCH_DIR"  // what etcd and the store that the nodes share are kept in
)

// Members is how many nodes the cluster has: one here, one in a process of its own.
const Members = 2

// Roles are the processes of a fleet, each until its context ends.
var Roles = map[string]func(ctx context.Context, ready func(address string)) error{
	"etcd": runEtcd, "node": runNode, "gate": runGate,
}

// Serve is the life of a child in one of Roles. It answers every line with the
// processor time that it has used.
func Serve(run func(ctx context.Context, ready func(address string)) error) error {
	return child.Serve(run, func(context.Context, string) string { return meter.Used().String() })
}

// newMember is a node of the cluster that etcd coordinates.
func newMember(etcd, dir string) (*goverseapi.Server, error) {
	types, err := newTypes()
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s, err := goverseapi.NewServerWithConfig(&goverseapi.ServerConfig{
		Listener: listener, EtcdAddress: etcd, DataDir: dir, Types: types, MinQuorum: Members, NodeStabilityDuration: time.Millisecond,
	})
	if err != nil {
		listener.Close()
		return nil, err
	}
	return s, nil
}

func runEtcd(ctx context.Context, ready func(string)) error {
	etcd, err := embedded.Start(ctx, embedded.Config{Dir: filepath.Join(os.Getenv(dirEnv), "etcd")})
	if err != nil {
		return err
	}
	ready(etcd.Endpoint())
	select {
	case <-ctx.Done():
	case <-etcd.Failed():
		return etcd.Err()
	}
	return etcd.Close()
}

func runNode(ctx context.Context, ready func(string)) error {
	logger.SetLevel(logger.LevelError)
	node, err := newMember(os.Getenv(etcdEnv), os.Getenv(dirEnv))
	if err != nil {
		return err
	}
	ready(node.Address())
	return node.Run(ctx)
}

func runGate(ctx context.Context, ready func(string)) error {
	logger.SetLevel(logger.LevelError)
	gate, err := gateserver.NewGateServer(&gateserver.GateServerConfig{
		ListenAddress: "127.0.0.1:0", AdvertiseAddress: "127.0.0.1:49000", HTTPListenAddress: "off", EtcdAddress: os.Getenv(etcdEnv),
	})
	if err != nil {
		return err
	}
	if err := gate.Start(ctx); err != nil {
		return err
	}
	ready(gate.GRPCAddr())
	<-ctx.Done()
	return gate.Stop()
}
