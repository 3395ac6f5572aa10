// Command gate runs a Goverse gate in a process of its own: the door through which
// clients reach the objects of a cluster. goverse gate is the same.
//
//	gate --etcd localhost:2379
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/xiaonanln/goverse/cmd/gate/gatecmd"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := gatecmd.Run(ctx, "gate", os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
