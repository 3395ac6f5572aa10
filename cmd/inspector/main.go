// Command inspector shows a living Goverse cluster in a browser. goverse inspector is the
// same.
//
//	inspector --etcd localhost:2379        # http://127.0.0.1:8080/
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/xiaonanln/goverse/cmd/inspector/inspectorcmd"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := inspectorcmd.Run(ctx, "inspector", os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
