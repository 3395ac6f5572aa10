package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/gate/gateserver"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/server"
)

// What a child process is told by its environment.
const (
	roleEnv = "GOVERSE_SCALE_ROLE" // "node" or "gate"
	etcdEnv = "GOVERSE_SCALE_ETCD" // the endpoint
	sizeEnv = "GOVERSE_SCALE_SIZE" // how many nodes form the cluster
)

// Echo is a volatile object whose method does nothing.
type Echo struct {
	object.BaseObject
}

// Say answers with what it was told.
func (e *Echo) Say(_ context.Context, m *wrapperspb.Int64Value) (*wrapperspb.Int64Value, error) {
	return m, nil
}

// child is a node or a gate until its input ends.
func child(role string) error {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	serve := map[string]func(context.Context) error{"node": runNode, "gate": runGate}[role]
	if serve == nil {
		return fmt.Errorf("there is no such role")
	}
	served := make(chan error, 1)
	go func() { served <- serve(ctx) }()
	go func() {
		defer stop()
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			fmt.Println(cpuTime())
		}
	}()
	return <-served
}

func runNode(ctx context.Context) error {
	size, err := strconv.Atoi(os.Getenv(sizeEnv))
	if err != nil {
		return err
	}
	types := object.NewTypes()
	if err := types.Register((*Echo)(nil), object.WithIdleTimeout(-1)); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	node, err := server.New(server.ServerConfig{
		Listener: listener, EtcdAddress: os.Getenv(etcdEnv), Types: types,
		MinQuorum: size, NodeStabilityDuration: time.Millisecond,
	})
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	return node.Run(ctx)
}

func runGate(ctx context.Context) error {
	gate, err := gateserver.NewGateServer(&gateserver.GateServerConfig{
		ListenAddress: "127.0.0.1:0", AdvertiseAddress: "127.0.0.1:49000", HTTPListenAddress: "off", EtcdAddress: os.Getenv(etcdEnv),
	})
	if err != nil {
		return err
	}
	if err := gate.Start(ctx); err != nil {
		return err
	}
	fmt.Println(gate.GRPCAddr())
	<-ctx.Done()
	return gate.Stop()
}
