// Package gatecmd is the program that runs a gate in a process of its own, under the two
// names that it has: gate, and goverse gate.
package gatecmd

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/xiaonanln/goverse/cmd/gate/gateconfig"
	"github.com/xiaonanln/goverse/gate/gateserver"
)

// Run is the program that was called by name, until ctx ends. Its exit code is 0 after
// that or --help, 2 for a command line that cannot be used, and 1 for a gate that failed.
func Run(ctx context.Context, name string, args []string, stdout, stderr io.Writer) int {
	flags, loader := define()
	config, err := loader.Load(args)
	if errors.Is(err, flag.ErrHelp) {
		help(name, flags, stdout)
		return 0
	}
	var server *gateserver.GateServer
	if err == nil {
		loader.SetLog()
		server, err = gateserver.NewGateServer(config)
	}
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", name, err)
		return 2
	}
	var following sync.WaitGroup
	life, end := context.WithCancel(ctx)
	following.Go(func() { loader.Follow(life, server.SetLimits) })
	defer following.Wait()
	defer end()
	if err := server.Run(ctx); err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", name, err)
		return 1
	}
	return 0
}

// Flags are what the command line may have.
func Flags() *flag.FlagSet {
	flags, _ := define()
	return flags
}

func define() (*flag.FlagSet, *gateconfig.Loader) {
	flags := flag.NewFlagSet("gate", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	return flags, gateconfig.NewLoader(flags)
}

func help(name string, flags *flag.FlagSet, w io.Writer) {
	fmt.Fprint(w, strings.ReplaceAll(`NAME lets clients reach the objects of a Goverse cluster.

  NAME --etcd localhost:2379
  NAME --etcd 10.0.0.1:2379,10.0.0.2:2379 --listen :49000 --advertise gate1.example:49000
  NAME --config cluster.yaml --gate-id gate1

Clients call over gRPC (--listen), or with JSON over HTTP (--http-listen):

  curl -d '{"userName":"guest"}' localhost:48000/api/v1/objects/ChatRoom/general/Join

A program that runs a gate beside its node in one process needs none of this.

SIGINT and SIGTERM end it with exit code 0: its clients are told, and calls under way get a moment.

Flags:
`, "NAME", name))
	flags.SetOutput(w)
	flags.PrintDefaults()
}
