package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/xiaonanln/goverse/bench/load/child"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/embedded"
	"github.com/xiaonanln/goverse/gate/gateserver"
	"github.com/xiaonanln/goverse/goverseapi"
	"github.com/xiaonanln/goverse/util/logger"
)

// orders are what a child is told of its part, in its environment.
type orders struct {
	Etcd      string // where its etcd is
	Dir       string // what etcd and the store that the nodes share are kept in
	Listen    string // a gate's: for gRPC
	HTTP      string // a gate's
	Advertise string
	Quorum    int           // how many nodes form the cluster
	Patience  time.Duration // of a gate with a client that reads nothing; 0: the default
	Resume    time.Duration // a gate's resume window; 0: the default
	Idle      time.Duration // of a gate: a connection without requests; 0: the default
	Beat      time.Duration // of a gate's heartbeats; 0: the default
	Limited   bool          // a gate limits clients on loopback too
	LogTo     string        // a file; empty: nothing is logged

	program string // what to start; empty: this program
}

const ordersEnv = "GOVERSE_CONTINUITY_ORDERS"

// env is the orders as a child is given them.
func (o orders) env() string {
	text, _ := json.Marshal(o) // strings and numbers: it cannot fail
	return ordersEnv + "=" + string(text)
}

// serve is the life of a child.
func serve(role string) error {
	var o orders
	if err := json.Unmarshal([]byte(os.Getenv(ordersEnv)), &o); err != nil {
		return fmt.Errorf("%s: %w", ordersEnv, err)
	}
	log, err := o.log()
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	run := map[string]func(ctx context.Context, o orders, ready func(string), log *logger.Logger, registry *prometheus.Registry) error{
		"etcd": runEtcd, "node": runNode, "gate": runGate,
	}[role]
	if run == nil {
		return fmt.Errorf("there is no role %q", role)
	}
	return child.Serve(
		func(ctx context.Context, ready func(string)) error { return run(ctx, o, ready, log, registry) },
		func(context.Context, string) string { return stateOf(registry).String() },
	)
}

// log is where a child logs to.
func (o orders) log() (*logger.Logger, error) {
	if o.LogTo == "" {
		return logger.New(slog.New(slog.DiscardHandler)), nil
	}
	f, err := os.OpenFile(o.LogTo, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	return logger.New(slog.New(slog.NewTextHandler(f, nil))), nil
}

func runEtcd(ctx context.Context, o orders, ready func(string), _ *logger.Logger, _ *prometheus.Registry) error {
	etcd, err := embedded.Start(ctx, embedded.Config{Dir: filepath.Join(o.Dir, "etcd")})
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

// stability is short, so that a run does not wait for what it is not about.
const stability = 300 * time.Millisecond

func runNode(ctx context.Context, o orders, ready func(string), log *logger.Logger, registry *prometheus.Registry) error {
	types, err := boards()
	if err != nil {
		return err
	}
	node, err := goverseapi.NewServerWithConfig(&goverseapi.ServerConfig{
		ListenAddress: o.Listen, AdvertiseAddress: o.Advertise, EtcdAddress: o.Etcd, DataDir: o.Dir, Types: types,
		MinQuorum: o.Quorum, NodeStabilityDuration: stability, Logger: log, MetricsRegistry: registry,
	})
	if err != nil {
		return err
	}
	ready(node.Address())
	return node.Run(ctx)
}

func runGate(ctx context.Context, o orders, ready func(string), log *logger.Logger, registry *prometheus.Registry) error {
	gate, err := gateserver.NewGateServer(&gateserver.GateServerConfig{
		ListenAddress: o.Listen, AdvertiseAddress: o.Advertise, HTTPListenAddress: o.HTTP, EtcdAddress: o.Etcd,
		WriteTimeout: o.Patience, ResumeWindow: o.Resume, HeartbeatInterval: o.Beat,
		Limits: gateserver.Limits{IdleTimeout: o.Idle, LimitLoopback: o.Limited},
		Logger: log, MetricsRegistry: registry,
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

// state is what a child says of itself.
type state struct {
	Sessions   int
	Goroutines int
}

const stateForm = "%d sessions and %d goroutines"

func (s state) String() string { return fmt.Sprintf(stateForm, s.Sessions, s.Goroutines) }

func parseState(text string) (s state, err error) {
	_, err = fmt.Sscanf(text, stateForm, &s.Sessions, &s.Goroutines)
	return s, err
}

func stateOf(registry *prometheus.Registry) state {
	s := state{Goroutines: runtime.NumGoroutine()}
	families, _ := registry.Gather() // what could not be gathered is not there
	for _, f := range families {
		if f.GetName() == "goverse_sessions" {
			s.Sessions = int(f.Metric[0].GetGauge().GetValue())
		}
	}
	return s
}

// resident is the memory of a process in bytes; 0 where the system does not say.
func resident(pid int) int64 {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return 0
	}
	var size, pages int64
	if _, err := fmt.Sscan(string(text), &size, &pages); err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}
