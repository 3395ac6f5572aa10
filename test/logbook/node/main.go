// Command node is a node that hosts logs, for tests that need processes.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/xiaonanln/goverse/goverseapi"
	"github.com/xiaonanln/goverse/test/logbook"
)

func main() {
	goverseapi.RegisterObjectType((*logbook.DurableLog)(nil))
	goverseapi.RegisterObjectType((*logbook.VolatileLog)(nil), goverseapi.WithDurability(goverseapi.Volatile))
	if err := goverseapi.NewServer().Run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "node:", err)
		os.Exit(1)
	}
}
