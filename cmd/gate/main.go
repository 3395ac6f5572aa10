// Command gate runs a Goverse gate in a process of its own: the door through which
// clients reach the objects of a cluster.
//
//	gate --etcd localhost:2379
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/xiaonanln/goverse/cmd/gate/gateconfig"
	"github.com/xiaonanln/goverse/gate/gateserver"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the program: its exit code is 0 after a signal or --help, 2 for a command
// line that cannot be used, and 1 for a gate that failed.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("gate", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	loader := gateconfig.NewLoader(flags)
	config, err := loader.Load(args)
	if errors.Is(err, flag.ErrHelp) {
		help(flags, stdout)
		return 0
	}
	var server *gateserver.GateServer
	if err == nil {
		loader.SetLog()
		server, err = gateserver.NewGateServer(config)
	}
	if err != nil {
		fmt.Fprintf(stderr, "gate: %v\n", err)
		return 2
	}
	var following sync.WaitGroup
	life, end := context.WithCancel(ctx)
	following.Go(func() { loader.Follow(life) })
	defer following.Wait()
	defer end()
	if err := server.Run(ctx); err != nil {
		fmt.Fprintf(stderr, "gate: %v\n", err)
		return 1
	}
	return 0
}

func help(flags *flag.FlagSet, w io.Writer) {
	fmt.Fprint(w, `gate lets clients reach the objects of a Goverse cluster.

  gate --etcd localhost:2379
  gate --etcd 10.0.0.1:2379,10.0.0.2:2379 --listen :49000 --advertise gate1.example:49000
  gate --config cluster.yaml --gate-id gate1

Clients call over gRPC (--listen), or with JSON over HTTP (--http-listen):

  curl -d '{"userName":"guest"}' localhost:48000/api/v1/objects/ChatRoom/general/Join

A program that runs a gate beside its node in one process needs none of this.

Flags:
`)
	flags.SetOutput(w)
	flags.PrintDefaults()
}
